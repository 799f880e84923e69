//! Video tokenizer that only looks back: the first frame as a picture, every later group as what changes.
//!
//! The first frame is coded alone, by the convolutional autoencoder that image tokenizers use. A later group of frames is coded
//! given the canvas, the latest frame that is known: the encoder sees both, the decoder moves the canvas's pixels and, unless
//! codes only move pixels (`moves-only`), paints what is new. So a few codes are enough for a frame, and they say what happens rather than what is there. This is the
//! conditional coding of iVideoGPT (Wu et al. 2024, section 3.1: later frames are coded given earlier ones and keep only the dynamics)
//! with an explicit motion model (see the module `motion`); both codebooks are finite scalar (Mentzer et al. 2023).
//!
//! The canvas is all that is remembered. So decoding in pieces equals decoding at once, a video of any length needs the
//! same room, and a canvas that shows a given frame ([`ravel_core::VideoTokenizer::anchored`]) continues real pixels.

mod change;
mod chunks;
mod config;
mod entering;
mod memory;
mod motion;
mod moving;
mod per_frame;
mod scene;
mod tokenizer;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ravel_nn::conv::{Decoder, Encoder};
use ravel_quant::FiniteQuantizer;

use change::{motions, only_moved};

pub use change::{ChangeDecoder, ChangeEncoder, Changed};
pub use config::{CausalVideoConfig, ChangeConfig, FirstConfig};
pub use per_frame::PerFrame;
pub use tokenizer::CausalVideoTokenizer;

/// The weights.
#[derive(Module, Debug)]
pub struct CausalVideo {
    /// The first frame to latents.
    pub first_encoder: Encoder,
    /// And back.
    pub first_decoder: Decoder,
    /// Later groups to what their latents hold beside motion; none where codes only move pixels.
    pub later_encoder: Option<ChangeEncoder>,
    /// And back.
    pub later_decoder: Option<ChangeDecoder>,
    #[module(skip)]
    config: CausalVideoConfig,
}

impl CausalVideoConfig {
    /// A tokenizer with random weights.
    pub fn init(&self, device: &Device) -> CausalVideo {
        let (first_encoder, first_decoder) =
            self.first.autoencoder.init(self.first.levels.len(), device);
        let learned = !self.later.moves_only;
        CausalVideo {
            first_encoder,
            first_decoder,
            later_encoder: learned.then(|| ChangeEncoder::new(&self.later, device)),
            later_decoder: learned.then(|| ChangeDecoder::new(&self.later, device)),
            config: self.clone(),
        }
    }
}

impl CausalVideo {
    /// What it was built from.
    pub fn config(&self) -> &CausalVideoConfig {
        &self.config
    }

    /// A first frame there and back, for training.
    ///
    /// # Shapes
    /// - `frame`: `[b, 3, size, size]`
    /// - returns: like `frame`, not clamped
    pub fn first(&self, frame: Tensor<4>) -> Tensor<4> {
        let latents = self.first_encoder.forward(frame);
        let (vectors, _) = rounded(&self.config.first.quantizer(), latents);
        self.first_decoder.forward(vectors)
    }

    /// Latents of a later group.
    ///
    /// # Shapes
    /// - `latest`: `[b, 3, size, size]`
    /// - `frames`: `[b, group, 3, size, size]`
    /// - returns: `[b, levels, size / stride, size / stride]`
    fn later_latents(&self, latest: Tensor<4>, frames: Tensor<5>) -> Tensor<4> {
        let later = &self.config.later;
        let last = frames.clone().narrow(1, later.group - 1, 1).squeeze_dim(1);
        let moves = motions(later, latest.clone(), last);
        let learned = match &self.later_encoder {
            Some(encoder) => encoder.forward(latest, frames),
            None => {
                let [batch, _, height, width] = moves.dims();
                let others = [batch, later.levels.len() - 2, height, width];
                (others[1] > 0).then(|| Tensor::zeros(others, &moves.device()))
            }
        };
        match learned {
            Some(learned) => Tensor::cat(vec![moves, learned], 1),
            None => moves,
        }
    }

    /// Frames of a later group.
    ///
    /// # Shapes
    /// - `latest`: `[b, 3, size, size]`
    /// - `vectors`: `[b, levels, size / stride, size / stride]`
    pub fn changed(&self, latest: Tensor<4>, vectors: Tensor<4>) -> Changed {
        match &self.later_decoder {
            Some(decoder) => decoder.forward(latest, vectors),
            None => only_moved(&self.config.later, latest, vectors),
        }
    }

    /// Code vectors and ids of a later group, for training; [`CausalVideo::changed`] is the way back.
    ///
    /// # Shapes
    /// - `latest`: `[b, 3, size, size]`
    /// - `frames`: `[b, group, 3, size, size]`
    /// - returns: `[b, levels, size / stride, size / stride]`, and `[b, positions]`
    pub fn later_codes(&self, latest: Tensor<4>, frames: Tensor<5>) -> (Tensor<4>, Tensor<2, Int>) {
        let latents = self.later_latents(latest, frames);
        rounded(&self.config.later.quantizer(), latents)
    }
}

/// Latents on their levels, the gradient passed through, with their ids.
///
/// # Shapes
/// - `latents`: `[b, d, h, w]`
/// - returns: like `latents`, and `[b, h * w]`
fn rounded(quantizer: &FiniteQuantizer, latents: Tensor<4>) -> (Tensor<4>, Tensor<2, Int>) {
    let [_, _, height, width] = latents.dims();
    let found = quantizer.quantize(sequence_from_grid(latents));
    (grid_from_sequence(found.vectors, height, width), found.ids)
}

/// `[b, d, h, w]` to `[b, h * w, d]`.
fn sequence_from_grid(grid: Tensor<4>) -> Tensor<3> {
    let [batch, depth, height, width] = grid.dims();
    grid.reshape([batch, depth, height * width]).swap_dims(1, 2)
}

/// `[b, h * w, d]` to `[b, d, h, w]`.
fn grid_from_sequence(sequence: Tensor<3>, height: usize, width: usize) -> Tensor<4> {
    let [batch, _, depth] = sequence.dims();
    sequence
        .swap_dims(1, 2)
        .reshape([batch, depth, height, width])
}
