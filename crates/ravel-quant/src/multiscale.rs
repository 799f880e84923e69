//! Multi-scale quantization: an image's latents coded from a coarse grid to the finest, each scale coding what the earlier
//! ones left, or the whole anew.
//!
//! Tian et al. 2024 (VAR), algorithms 1 and 2; without residuals Jiao et al. 2025 (FlexVAR), section 3.2. Symbols: `latents` is f, `canvas` is f̂, `sides` are (h_k, w_k), `phi` is φ.
//! Shapes: `b` batch, `d` code width, `h`, `w` the finest side.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Int, Tensor};
use ravel_core::Pyramid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ema::Group;
use crate::vector::{on_device_of, plain};
use crate::{VectorConfig, VectorQuantizer, area_down, bicubic_up, straight_through};

/// What fixes the scales and their codebook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MultiscaleConfig {
    /// The one codebook that all scales share.
    pub codebook: VectorConfig,
    /// Sides of the square scales, coarsest first.
    pub sides: Vec<usize>,
    /// Convolutions φ after up-sampling, shared by nearest tick; zero for none.
    #[serde(default = "four")]
    pub phi: usize,
    /// How much of φ's output replaces its input (`quant_resi` in VAR).
    #[serde(default = "half")]
    pub phi_share: f64,
    /// Whether the nearest row is the one of greatest cosine, though rows are used at their own length (`using_znorm` in VAR).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cosine: bool,
    /// Whether a scale codes what the earlier ones left (VAR). Otherwise it codes the latents themselves and takes the place of
    /// the scales before it (FlexVAR): a code then says what is at a place, whatever stands on the canvas, so that parts that
    /// were never seen together are easier to put together, for less detail at the same number of codes.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub residual: bool,
}

fn yes() -> bool {
    true
}

fn four() -> usize {
    4
}

fn half() -> f64 {
    0.5
}

impl MultiscaleConfig {
    /// A quantizer with a random codebook.
    ///
    /// # Panics
    /// If there is no scale.
    pub fn init(&self, device: &Device) -> MultiscaleQuantizer {
        assert!(!self.sides.is_empty(), "scale axis: there is no scale");
        let width = self.codebook.width;
        let phi = (0..self.phi).map(|_| {
            Conv2dConfig::new([width, width], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_initializer(Initializer::KaimingUniform {
                    gain: 1.0 / 3f64.sqrt(),
                    fan_out_only: false,
                })
                .init(device)
        });
        MultiscaleQuantizer {
            vector: self.codebook.init(device),
            phi: phi.collect(),
            phi_share: self.phi_share,
            cosine: self.cosine,
            residual: self.residual,
            sides: self.sides.iter().map(|&side| (side, side)).collect(),
        }
    }
}

/// The scales and their codebook.
#[derive(Module, Debug)]
pub struct MultiscaleQuantizer {
    /// The shared codebook.
    pub vector: VectorQuantizer,
    /// Convolutions after up-sampling.
    pub phi: Vec<Conv2d>,
    #[module(skip)]
    phi_share: f64,
    #[module(skip)]
    cosine: bool,
    #[module(skip)]
    residual: bool,
    #[module(skip)]
    sides: Vec<(usize, usize)>,
}

/// What quantizing gives while training.
#[derive(Debug, Clone)]
pub struct MultiscaleQuantized {
    /// Ids of each scale, `[b, h_k * w_k]`.
    pub ids: Vec<Tensor<2, Int>>,
    /// `[b, d, h, w]`: the full canvas, with the gradient passed straight through to the latents.
    pub canvas: Tensor<4>,
    /// Mean over scales of the squared distance between canvas and latents, gradient to the latents; without residuals, between
    /// a scale's code vectors and the latents brought down to its size. `[1]`.
    pub commitment: Tensor<1>,
    /// Mean over scales of the squared distance between canvas and latents, gradient to the canvas, by which φ learns. `[1]`.
    pub canvas_loss: Tensor<1>,
    /// What each scale looked up, for the codebook's moving means.
    pub groups: Vec<Group>,
}

impl MultiscaleQuantizer {
    /// Quantizes from coarse to fine.
    ///
    /// # Shapes
    /// - `latents`: `[b, d, h, w]` at the finest side
    ///
    /// # Panics
    /// If `h`, `w` are not the finest side.
    pub fn quantize(&self, latents: Tensor<4>) -> MultiscaleQuantized {
        let [_, _, height, width] = latents.dims();
        let finest = *self.sides.last().expect("there is a scale");
        assert_eq!(
            (height, width),
            finest,
            "height and width axes: latents are not at the finest side"
        );
        let target = latents.clone().detach();
        let mut canvas: Option<Tensor<4>> = None;
        let mut ids = Vec::new();
        let mut groups = Vec::new();
        let mut commitment: Option<Tensor<1>> = None;
        let mut canvas_loss: Option<Tensor<1>> = None;
        for (scale, &side) in self.sides.iter().enumerate() {
            let asked = self.asked(plain(target.clone()), canvas.clone().map(plain).as_ref());
            let looked_up = sequence_from_grid(area_down(asked, side));
            let chosen = self.nearest(looked_up.clone());
            groups.push((looked_up.flatten(0, 1), chosen.clone().flatten(0, 1)));
            let codes = on_device_of(chosen.clone(), &latents);
            let added = self.with_scale(canvas, scale, codes.clone());
            let squared = |a: Tensor<4>, b: Tensor<4>| (a - b).square().mean();
            let towards_latents = match self.residual {
                true => squared(latents.clone(), added.clone().detach()),
                false => {
                    let vectors = grid_from_sequence(self.vector.vectors(codes), side);
                    squared(area_down(latents.clone(), side), vectors.detach())
                }
            };
            let towards_canvas = squared(added.clone(), target.clone());
            commitment = Some(sum(commitment, towards_latents));
            canvas_loss = Some(sum(canvas_loss, towards_canvas));
            canvas = Some(added);
            ids.push(chosen);
        }
        let scales = self.sides.len() as f64;
        let canvas = canvas.expect("there is a scale");
        MultiscaleQuantized {
            ids,
            canvas: straight_through(latents, canvas),
            commitment: commitment.expect("there is a scale") / scales,
            canvas_loss: canvas_loss.expect("there is a scale") / scales,
            groups,
        }
    }

    /// Ids of all scales in a row.
    ///
    /// # Shapes
    /// - `latents`: `[b, d, h, w]`
    /// - returns: `[b, positions of all scales]`
    pub fn ids(&self, latents: Tensor<4>) -> Tensor<2, Int> {
        Tensor::cat(self.quantize(latents).ids, 1)
    }

    /// The canvas after each scale of given codes.
    ///
    /// # Shapes
    /// - `ids`: `[b, positions of the first scales]`
    /// - returns: one `[b, d, h, w]` per whole scale in `ids`
    pub fn canvases(&self, ids: Tensor<2, Int>) -> Vec<Tensor<4>> {
        let [batch, filled] = ids.dims();
        let mut start = 0;
        let mut canvases: Vec<Tensor<4>> = Vec::new();
        for (scale, (height, width)) in self.sides.iter().enumerate() {
            let end = start + height * width;
            if end > filled {
                break;
            }
            let scale_ids = ids.clone().slice([0..batch, start..end]);
            canvases.push(self.with_scale(canvases.last().cloned(), scale, scale_ids));
            start = end;
        }
        canvases
    }

    /// The canvas after one more scale, whose ids are `[b, h_k w_k]`.
    fn with_scale(
        &self,
        canvas: Option<Tensor<4>>,
        scale: usize,
        ids: Tensor<2, Int>,
    ) -> Tensor<4> {
        let finest = *self.sides.last().expect("there is a scale");
        let vectors = self.vector.vectors(ids);
        let grown = bicubic_up(grid_from_sequence(vectors, self.sides[scale]), finest);
        let shaped = match self.phi_of(scale) {
            None => grown,
            Some(phi) => {
                grown.clone() * (1.0 - self.phi_share) + phi.forward(grown) * self.phi_share
            }
        };
        match canvas {
            Some(canvas) if self.residual => canvas + shaped,
            _ => shaped,
        }
    }

    /// What a scale is to code, at the finest side, where `canvas` is what the scales before it made.
    fn asked(&self, latents: Tensor<4>, canvas: Option<&Tensor<4>>) -> Tensor<4> {
        match canvas {
            Some(canvas) if self.residual => latents - canvas.clone(),
            _ => latents,
        }
    }

    fn nearest(&self, latents: Tensor<3>) -> Tensor<2, Int> {
        match self.cosine {
            true => self.vector.ids_by_cosine(latents),
            false => self.vector.ids(latents),
        }
    }

    /// Which of the φ convolutions a scale uses: the nearest of evenly spread ticks.
    fn phi_of(&self, scale: usize) -> Option<&Conv2d> {
        let at = nearest_tick(self.phi.len(), scale, self.sides.len())?;
        self.phi.get(at)
    }
}

/// Which of `count` evenly spread ticks is nearest to a scale's place among `scales`, the first of equally near ones; none of none.
///
/// Operation by operation as in the published code, since rounding decides ties: VAR's ten scales have two.
fn nearest_tick(count: usize, scale: usize, scales: usize) -> Option<usize> {
    let place = scale as f64 / (scales.max(2) - 1) as f64;
    // Four ticks stand at 1/12 … 11/12 in the published code, other numbers at the middles of equal parts.
    let first = if count == 4 { 1.0 / 3.0 } else { 0.5 } / count as f64;
    let last = 1.0 - first;
    let gap = (last - first) / (count.max(2) - 1) as f64;
    let tick = |at: usize| match at + 1 == count && count > 1 {
        true => last,
        false => at as f64 * gap + first,
    };
    let distance = |at: usize| (tick(at) - place).abs();
    (0..count).min_by(|&a, &b| distance(a).total_cmp(&distance(b)))
}

impl Pyramid for MultiscaleQuantizer {
    fn sides(&self) -> &[(usize, usize)] {
        &self.sides
    }

    fn code_width(&self) -> usize {
        self.vector.codebook.val().dims()[1]
    }

    fn add_scale(&self, canvas: Option<Tensor<4>>, scale: usize, ids: Tensor<3, Int>) -> Tensor<4> {
        self.with_scale(canvas, scale, ids.squeeze_dim(1))
    }

    fn features_for(&self, canvas: &Tensor<4>, scale: usize) -> Tensor<3> {
        sequence_from_grid(area_down(canvas.clone(), self.sides[scale]))
    }

    fn ids_for(
        &self,
        latents: Tensor<4>,
        canvas: Option<&Tensor<4>>,
        scale: usize,
    ) -> Tensor<3, Int> {
        let asked = self.asked(latents, canvas);
        let looked_up = sequence_from_grid(area_down(asked, self.sides[scale]));
        self.nearest(looked_up).unsqueeze_dim(1)
    }
}

fn sum(total: Option<Tensor<1>>, part: Tensor<1>) -> Tensor<1> {
    match total {
        None => part,
        Some(total) => total + part,
    }
}

/// `[b, d, h, w]` to `[b, h * w, d]`.
fn sequence_from_grid(grid: Tensor<4>) -> Tensor<3> {
    let [batch, width, height, columns] = grid.dims();
    grid.reshape([batch, width, height * columns])
        .swap_dims(1, 2)
}

/// `[b, h * w, d]` to `[b, d, h, w]`.
fn grid_from_sequence(sequence: Tensor<3>, (height, columns): (usize, usize)) -> Tensor<4> {
    let [batch, _, width] = sequence.dims();
    sequence
        .swap_dims(1, 2)
        .reshape([batch, width, height, columns])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked with NumPy's `linspace` and `argmin`, as the published code has them.
    #[test]
    fn ties_between_ticks_fall_as_rounding_has_it() {
        let of = |scales| -> Vec<_> {
            let chosen = (0..scales).map(|scale| nearest_tick(4, scale, scales));
            chosen.map(|at| at.expect("four ticks")).collect()
        };
        assert_eq!(of(10), [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]);
        assert_eq!(of(5), [0, 1, 2, 2, 3]);
        assert_eq!(of(4), [0, 1, 2, 3]);
        assert_eq!(nearest_tick(0, 0, 3), None);
        assert_eq!(nearest_tick(1, 2, 3), Some(0));
    }
}
