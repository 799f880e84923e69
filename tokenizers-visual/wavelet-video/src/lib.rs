//! Causal video tokenizer: wavelets shrink a clip, causal convolutions and attention shrink it further, and finite scalars name
//! what is left.
//!
//! Agarwal et al. 2025 (Cosmos), section 4: the first frame is a group by itself, later ones follow in groups of
//! `time_factor`; no frame looks ahead. Shapes: `b` batch, `t` frames, `g` groups, `h`, `w` the grid.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use ravel_nn::conv::causal::CausalConv;

pub use config::{Codebook, WaveletVideoConfig};
pub use decoder::WaveletDecoder;
pub use encoder::WaveletEncoder;
pub use patch::{Patching, patched, unpatched};
pub use tokenizer::WaveletVideoTokenizer;

mod blocks;
mod config;
mod decoder;
mod encoder;
mod patch;
mod resample;
mod tokenizer;

/// The weights.
#[derive(Module, Debug)]
pub struct WaveletVideo {
    /// Clips to features.
    pub encoder: WaveletEncoder,
    /// Features to the code's width.
    pub quant_conv: CausalConv,
    /// And back.
    pub post_quant_conv: CausalConv,
    /// Features to clips.
    pub decoder: WaveletDecoder,
    #[module(skip)]
    config: WaveletVideoConfig,
}

/// What quantizing gives.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// `[b, depth, g, h, w]`.
    pub ids: Tensor<5, Int>,
    /// `[b, code_width, g, h, w]`.
    pub vectors: Tensor<5>,
}

impl WaveletVideo {
    /// What it was built from.
    pub fn config(&self) -> &WaveletVideoConfig {
        &self.config
    }

    /// Latents before quantization.
    ///
    /// # Shapes
    /// - `clip`: `[b, in_channels, t, height, width]`, `t` one more than a multiple of the time factor
    /// - returns: `[b, code_width, g, h, w]`
    pub fn latents(&self, clip: Tensor<5>) -> Tensor<5> {
        self.quant_conv.forward(self.encoder.forward(clip))
    }

    /// Ids and code vectors.
    ///
    /// # Shapes
    /// - `latents`: `[b, code_width, g, h, w]`
    pub fn quantize(&self, latents: Tensor<5>) -> Quantized {
        let [batch, width, groups, rows, columns] = latents.dims();
        let flat =
            latents
                .permute([0, 2, 3, 4, 1])
                .reshape([batch, groups * rows * columns, width]);
        let (ids, vectors) = self.config.codebook.quantize(flat);
        let depth = ids.dims()[1];
        Quantized {
            ids: ids.reshape([batch, depth, groups, rows, columns]),
            vectors: self.stored(clip_of(vectors, [groups, rows, columns])),
        }
    }

    /// Code vectors of ids.
    ///
    /// # Shapes
    /// - `ids`: `[b, depth, g, h, w]`
    /// - returns: `[b, code_width, g, h, w]`
    pub fn vectors(&self, ids: Tensor<5, Int>) -> Tensor<5> {
        let [batch, depth, groups, rows, columns] = ids.dims();
        let flat = ids.reshape([batch, depth, groups * rows * columns]);
        let vectors = self.config.codebook.vectors(flat);
        self.stored(clip_of(vectors, [groups, rows, columns]))
    }

    /// The clips that code vectors stand for.
    ///
    /// # Shapes
    /// - `vectors`: `[b, code_width, g, h, w]`
    /// - returns: `[b, out_channels, t, height, width]`, not clamped
    pub fn decode(&self, vectors: Tensor<5>) -> Tensor<5> {
        self.decoder.forward(self.post_quant_conv.forward(vectors))
    }

    /// Rounded to 16 bits where the published model hands its code vectors on so.
    fn stored(&self, vectors: Tensor<5>) -> Tensor<5> {
        match self.config.half_vectors {
            true => config::rounded(vectors),
            false => vectors,
        }
    }
}

/// `[b, g * h * w, d]` to `[b, d, g, h, w]`.
fn clip_of(flat: Tensor<3>, [groups, rows, columns]: [usize; 3]) -> Tensor<5> {
    let [batch, _, width] = flat.dims();
    flat.reshape([batch, groups, rows, columns, width])
        .permute([0, 4, 1, 2, 3])
}
