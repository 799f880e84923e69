//! Multi-scale residual quantization by signs: latents coded from a coarse grid to the finest, each scale coding what the
//! earlier ones left, each number as one bit.
//!
//! Han et al. 2024 (Infinity), section 3.2 and algorithm 1; the code vectors are those of Zhao et al. 2024 (BSQ), section 3.
//! Unlike VAR's, scales grow linearly in every axis, time included, and no convolution follows.
//! Symbols: `canvas` is the sum so far, `scales` are (t_k, h_k, w_k). Shapes: `b` batch, `c` latent width, `d` bits.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resize::{area_down_3d, trilinear_up};
use crate::{BinaryQuantizer, ChannelNorm};

/// How much less a scale counts than the one before it, and the least that it counts, where scales decay.
const DECAY: f64 = 0.1;

/// What fixes the scales and their bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MultiscaleBinaryConfig {
    /// Numbers in one latent. Where there are more or fewer than bits, projections stand between.
    pub width: usize,
    /// Bits of a code.
    pub bits: usize,
    /// Time, height and width of the scales, coarsest first.
    pub scales: Vec<[usize; 3]>,
    /// Whether latents are normalised over their numbers, once and before all scales.
    #[serde(default)]
    pub norm: bool,
    /// Whether each scale counts by 0.1 less than the one before, down to 0.1.
    #[serde(default)]
    pub decay: bool,
}

impl MultiscaleBinaryConfig {
    /// A quantizer with random projections.
    ///
    /// # Panics
    /// If there is no scale.
    pub fn init(&self, device: &Device) -> MultiscaleBinaryQuantizer {
        assert!(!self.scales.is_empty(), "scale axis: there is no scale");
        let projected = self.width != self.bits;
        let linear = |from, to| projected.then(|| LinearConfig::new(from, to).init(device));
        MultiscaleBinaryQuantizer {
            project_in: linear(self.width, self.bits),
            project_out: linear(self.bits, self.width),
            norm: self.norm.then(|| ChannelNorm::new(self.bits, device)),
            config: self.clone(),
        }
    }
}

/// The projections between latents and bits.
#[derive(Module, Debug)]
pub struct MultiscaleBinaryQuantizer {
    /// `[c, d]`.
    pub project_in: Option<Linear>,
    /// `[d, c]`.
    pub project_out: Option<Linear>,
    /// Before all scales.
    pub norm: Option<ChannelNorm>,
    #[module(skip)]
    config: MultiscaleBinaryConfig,
}

/// What quantizing gives.
#[derive(Debug, Clone)]
pub struct MultiscaleBits {
    /// Bits of each scale, `[b, t_k, h_k, w_k, d]`, 1 where a number is above zero.
    pub bits: Vec<Tensor<5, Int>>,
    /// What each scale was asked to code, `[b, d, t_k, h_k, w_k]`.
    pub asked: Vec<Tensor<5>>,
    /// The canvas after each scale, `[b, d, t, h, w]`.
    pub canvases: Vec<Tensor<5>>,
}

impl MultiscaleBinaryQuantizer {
    /// Quantizes from coarse to fine.
    ///
    /// # Shapes
    /// - `latents`: `[b, c, t, h, w]`
    pub fn quantize(&self, latents: Tensor<5>) -> MultiscaleBits {
        let [_, _, time, height, width] = latents.dims();
        let mut rest = projected(&self.project_in, latents);
        if let Some(norm) = &self.norm {
            rest = norm.forward(rest);
        }
        let mut found = MultiscaleBits {
            bits: Vec::new(),
            asked: Vec::new(),
            canvases: Vec::new(),
        };
        for (scale, &size) in self.config.scales.iter().enumerate() {
            let asked = area_down_3d(rest.clone(), size);
            let bits = self.bits(asked.clone());
            let grown = self.grown(bits.clone(), scale, [time, height, width]);
            rest = rest - grown.clone();
            let canvas = match found.canvases.last() {
                None => grown,
                Some(canvas) => canvas.clone() + grown,
            };
            found.bits.push(bits);
            found.asked.push(asked);
            found.canvases.push(canvas);
        }
        found
    }

    /// The canvas after each of the first scales.
    ///
    /// # Shapes
    /// - `bits`: `[b, t_k, h_k, w_k, d]` of each
    /// - `size`: time, height and width of the canvas
    /// - returns: `[b, d, t, h, w]` after each
    pub fn canvases(&self, bits: &[Tensor<5, Int>], size: [usize; 3]) -> Vec<Tensor<5>> {
        let grown = bits.iter().enumerate();
        let grown = grown.map(|(scale, bits)| self.grown(bits.clone(), scale, size));
        grown
            .scan(None, |canvas: &mut Option<Tensor<5>>, grown| {
                *canvas = Some(match canvas.take() {
                    None => grown,
                    Some(canvas) => canvas + grown,
                });
                canvas.clone()
            })
            .collect()
    }

    /// The canvas after one more scale.
    ///
    /// # Shapes
    /// - `canvas`: `[b, d, t, h, w]`, or `None` before the first scale
    /// - `bits`: `[b, t_k, h_k, w_k, d]`
    /// - returns: `[b, d, t, h, w]`
    pub fn add_scale(
        &self,
        canvas: Option<Tensor<5>>,
        scale: usize,
        bits: Tensor<5, Int>,
    ) -> Tensor<5> {
        let size = *self.config.scales.last().expect("there is a scale");
        let grown = self.grown(bits, scale, size);
        match canvas {
            Some(canvas) => canvas + grown,
            None => grown,
        }
    }

    /// The bits of `scale` that code some latents best, given what the scales before it made of them.
    ///
    /// # Shapes
    /// - `latents`: `[b, c, t, h, w]`
    /// - `canvas`: `[b, d, t, h, w]`, or `None` before the first scale
    /// - returns: `[b, t_k, h_k, w_k, d]`
    pub fn bits_for(
        &self,
        latents: Tensor<5>,
        canvas: Option<Tensor<5>>,
        scale: usize,
    ) -> Tensor<5, Int> {
        let mut rest = projected(&self.project_in, latents);
        if let Some(norm) = &self.norm {
            rest = norm.forward(rest);
        }
        if let Some(canvas) = canvas {
            rest = rest - canvas;
        }
        self.bits(area_down_3d(rest, self.config.scales[scale]))
    }

    /// What Infinity's transformer is shown before it predicts `scale`: the canvas interpolated at that scale's size, whatever lies
    /// between (`autoregressive_infer_cfg` of its published code; the mean of what lies between is the tokenizer's own way).
    ///
    /// # Shapes
    /// - `canvas`: `[b, d, t, h, w]`
    /// - returns: `[b, d, t_k, h_k, w_k]`
    pub fn interpolated_for(&self, canvas: Tensor<5>, scale: usize) -> Tensor<5> {
        trilinear_up(canvas, self.config.scales[scale])
    }

    /// What a head is shown before it predicts `scale`: the canvas brought down to that scale's size.
    ///
    /// # Shapes
    /// - `canvas`: `[b, d, t, h, w]`
    /// - returns: `[b, d, t_k, h_k, w_k]`
    pub fn features_for(&self, canvas: Tensor<5>, scale: usize) -> Tensor<5> {
        area_down_3d(canvas, self.config.scales[scale])
    }

    /// The latents that a full canvas stands for.
    ///
    /// # Shapes
    /// - `canvas`: `[b, d, t, h, w]`
    /// - returns: `[b, c, t, h, w]`
    pub fn latents(&self, canvas: Tensor<5>) -> Tensor<5> {
        projected(&self.project_out, canvas)
    }

    /// Code vectors of bits.
    ///
    /// # Shapes
    /// - `bits`: `[b, t_k, h_k, w_k, d]`
    /// - returns: `[b, d, t_k, h_k, w_k]`, each number ±1/√d
    pub fn codes(&self, bits: Tensor<5, Int>) -> Tensor<5> {
        let [batch, time, height, width, depth] = bits.dims();
        let flat = bits.reshape([batch, time * height * width, depth]);
        let vectors = self.binary().vectors_of_bits(flat);
        vectors
            .reshape([batch, time, height, width, depth])
            .permute([0, 4, 1, 2, 3])
    }

    fn bits(&self, asked: Tensor<5>) -> Tensor<5, Int> {
        let [batch, depth, time, height, width] = asked.dims();
        let flat = asked
            .permute([0, 2, 3, 4, 1])
            .reshape([batch, time * height * width, depth]);
        let bits = self.binary().bits(flat);
        bits.reshape([batch, time, height, width, depth])
    }

    /// What a scale adds to the canvas.
    fn grown(&self, bits: Tensor<5, Int>, scale: usize, size: [usize; 3]) -> Tensor<5> {
        trilinear_up(self.codes(bits) * self.share(scale), size)
    }

    fn share(&self, scale: usize) -> f64 {
        match self.config.decay {
            true => (1.0 - DECAY * scale as f64).max(DECAY),
            false => 1.0,
        }
    }

    fn binary(&self) -> BinaryQuantizer {
        BinaryQuantizer {
            bits: self.config.bits,
            spherical: true,
        }
    }
}

/// A product along the second axis.
fn projected(linear: &Option<Linear>, grid: Tensor<5>) -> Tensor<5> {
    match linear {
        None => grid,
        Some(linear) => linear
            .forward(grid.permute([0, 2, 3, 4, 1]))
            .permute([0, 4, 1, 2, 3]),
    }
}
