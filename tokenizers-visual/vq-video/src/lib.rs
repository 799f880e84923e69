//! Video tokenizer: a VQ-GAN reads each frame, causal convolutions join frames in groups, and one codebook names what they leave.
//!
//! Wang et al. 2024 (Emu3), section 2.1: `time_factor` frames become one grid of ids; a single picture is that many copies of
//! itself. The decoder's norms are set by the code vectors (Zheng et al. 2022, MoVQ, section 3.2).
//! Shapes: `b` batch, `t` frames, `g` groups of frames, `h`, `w` the grid.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use ravel_quant::VectorQuantizer;

pub use config::VqVideoConfig;
pub use decoder::VqVideoDecoder;
pub use encoder::VqVideoEncoder;
pub use tokenizer::VqVideoTokenizer;

mod blocks;
mod config;
mod decoder;
mod encoder;
mod tokenizer;

/// The weights.
#[derive(Module, Debug)]
pub struct VqVideo {
    /// Clips to latents.
    pub encoder: VqVideoEncoder,
    /// The codebook.
    pub quantizer: VectorQuantizer,
    /// Code vectors to clips.
    pub decoder: VqVideoDecoder,
    #[module(skip)]
    config: VqVideoConfig,
}

impl VqVideo {
    /// What it was built from.
    pub fn config(&self) -> &VqVideoConfig {
        &self.config
    }

    /// Ids of clips.
    ///
    /// # Shapes
    /// - `frames`: `[b, t, in_channels, height, width]`, `t` a multiple of the time factor
    /// - returns: `[b, g, h, w]`
    pub fn ids(&self, frames: Tensor<5>) -> Tensor<4, Int> {
        let latents = self.encoder.forward(frames.swap_dims(1, 2));
        let [batch, width, groups, rows, columns] = latents.dims();
        let flat =
            latents
                .permute([0, 2, 3, 4, 1])
                .reshape([batch, groups * rows * columns, width]);
        self.quantizer
            .ids(flat)
            .reshape([batch, groups, rows, columns])
    }

    /// Ids of pictures, each one group by itself.
    ///
    /// # Shapes
    /// - `pixels`: `[b, in_channels, height, width]`
    /// - returns: `[b, h, w]`
    pub fn picture_ids(&self, pixels: Tensor<4>) -> Tensor<3, Int> {
        let still = pixels.unsqueeze_dim::<5>(1);
        self.ids(still.repeat_dim(1, self.config.time_factor()))
            .squeeze_dim(1)
    }

    /// The clips that ids stand for.
    ///
    /// # Shapes
    /// - `ids`: `[b, g, h, w]`
    /// - returns: `[b, g * time factor, out_channels, height, width]`, not clamped
    pub fn decode(&self, ids: Tensor<4, Int>) -> Tensor<5> {
        let [batch, groups, rows, columns] = ids.dims();
        let vectors = self
            .quantizer
            .vectors(ids.reshape([batch, groups * rows * columns]));
        let width = vectors.dims()[2];
        let vectors = vectors
            .reshape([batch, groups, rows, columns, width])
            .permute([0, 4, 1, 2, 3]);
        self.decoder.forward(vectors).swap_dims(1, 2)
    }
}
