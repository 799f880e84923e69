//! Grouped residual finite scalar quantization behind a change of frame rate.
//!
//! Channels are shared out to groups, each with its own projections to and from a few numbers that are rounded (Mentzer et al.
//! 2023), where asked for several times, each time what was left over. Rows of ids are ordered by group, then by quantizer.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use ravel_core::Result;
use ravel_nn::wave::{ConvNext, ConvNextConfig, Fit, PadKind, WaveConv, WaveConvConfig, pad_time};
use ravel_quant::{Bound, FiniteQuantizer, ResidualFiniteQuantizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backbone::CAUSAL;
use crate::check::{counts, ratios, turned, wrong};

/// Frames that a block's convolution sees.
const BLOCK_KERNEL: usize = 7;

/// What fixes the quantizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct GroupedFsqConfig {
    /// Channels of the features.
    pub width: usize,
    /// Groups of channels.
    pub groups: usize,
    /// Quantizers of each group, one after another.
    pub depth: usize,
    /// Levels of each number, first one fastest.
    pub levels: Vec<usize>,
    /// By how much each stage divides the frame rate.
    pub factors: Vec<usize>,
    /// Channels after each stage; `width` if unset.
    pub widths: Option<Vec<usize>>,
}

impl Default for GroupedFsqConfig {
    fn default() -> Self {
        Self {
            width: 512,
            groups: 8,
            depth: 1,
            levels: vec![8, 5, 5, 5],
            factors: vec![2, 2],
            widths: None,
        }
    }
}

impl GroupedFsqConfig {
    /// # Errors
    /// [`ravel_core::Error::Config`] names the field that no quantizer can be built from.
    pub fn validate(&self) -> Result<()> {
        counts(&[
            ("quantizer.width", self.width),
            ("quantizer.groups", self.groups),
            ("quantizer.depth", self.depth),
        ])?;
        ratios("quantizer.factors", &self.factors)?;
        let size = self
            .levels
            .iter()
            .try_fold(1usize, |size, &levels| size.checked_mul(levels));
        let fits = size.is_some_and(|size| (2..=1 << 31).contains(&size));
        if !fits || self.levels.iter().any(|&levels| levels < 2) {
            let found = format!("{:?}", self.levels);
            return wrong(
                "quantizer.levels",
                found,
                "numbers of at least 2, 2³¹ ids at most",
            );
        }
        if let Some(widths) = &self.widths {
            if widths.len() != self.factors.len() {
                let expected = format!("a list of {}, as `quantizer.factors`", self.factors.len());
                return wrong(
                    "quantizer.widths",
                    format!("a list of {}", widths.len()),
                    &expected,
                );
            }
            for &width in widths {
                counts(&[("quantizer.widths", width)])?;
            }
        }
        let deepest = self.widths().last().copied().unwrap_or(self.width);
        if !deepest.is_multiple_of(self.groups) {
            let expected = format!("a divisor of {deepest} channels");
            return wrong("quantizer.groups", self.groups, &expected);
        }
        Ok(())
    }

    /// Frames of features of one frame of codes.
    pub fn factor(&self) -> usize {
        self.factors.iter().product()
    }

    /// Channels before the first and after each stage.
    fn widths(&self) -> Vec<usize> {
        let after = self.widths.clone();
        let after = after.unwrap_or_else(|| vec![self.width; self.factors.len()]);
        std::iter::once(self.width).chain(after).collect()
    }

    /// A fresh quantizer.
    pub fn init(&self, device: &Device) -> GroupedFsq {
        let widths = self.widths();
        let stage = |from: usize, to: usize, factor: usize, fit: Fit| {
            let conv = WaveConvConfig {
                stride: factor,
                ..WaveConvConfig::new(from, to, factor, fit)
            };
            let block = ConvNextConfig {
                channels: to,
                kernel: BLOCK_KERNEL,
                fit: CAUSAL,
            };
            RateStage {
                conv: conv.init(device),
                block: block.init(device),
            }
        };
        let factors = || self.factors.iter().copied().enumerate();
        let up = Fit::Transposed { left: 0, right: 0 };
        let per_group = widths[widths.len() - 1] / self.groups;
        let numbers = self.levels.len();
        let linear = |from, to| {
            let linear = LinearConfig::new(from, to);
            (per_group != numbers).then(|| linear.init(device))
        };
        GroupedFsq {
            down: factors()
                .map(|(at, factor)| stage(widths[at], widths[at + 1], factor, CAUSAL))
                .collect(),
            groups: (0..self.groups)
                .map(|_| FsqGroup {
                    project_in: linear(per_group, numbers),
                    project_out: linear(numbers, per_group),
                })
                .collect(),
            up: factors()
                .rev()
                .map(|(at, factor)| stage(widths[at + 1], widths[at], factor, up))
                .collect(),
            quantizer: ResidualFiniteQuantizer {
                depth: self.depth,
                quantizer: FiniteQuantizer {
                    levels: self.levels.clone(),
                    bound: Bound::Tanh,
                },
            },
        }
    }
}

/// The quantizer.
#[derive(Module, Debug)]
pub struct GroupedFsq {
    /// To fewer frames.
    pub down: Vec<RateStage>,
    /// Projections of each group.
    pub groups: Vec<FsqGroup>,
    /// Back to all frames.
    pub up: Vec<RateStage>,
    #[module(skip)]
    quantizer: ResidualFiniteQuantizer,
}

/// A change of frame rate and a block.
#[derive(Module, Debug)]
pub struct RateStage {
    /// Kernel and stride are one factor.
    pub conv: WaveConv,
    /// After it.
    pub block: ConvNext,
}

/// One group's projections; none where a group is as wide as a code vector.
#[derive(Module, Debug)]
pub struct FsqGroup {
    /// To a code vector.
    pub project_in: Option<Linear>,
    /// From it.
    pub project_out: Option<Linear>,
}

/// What quantizing features gives.
#[derive(Debug, Clone)]
pub struct GroupedQuantized {
    /// `[b, groups * depth, frames]`.
    pub ids: Tensor<3, Int>,
    /// What they stand for at the codes' frame rate, `[b, width, frames]`.
    pub vectors: Tensor<3>,
}

impl GroupedFsq {
    /// The ids of features.
    ///
    /// # Shapes
    /// - `features`: `[b, width, t]`
    /// - returns: `[b, groups * depth, frames]`
    pub fn ids(&self, features: Tensor<3>) -> Tensor<3, Int> {
        self.quantize(self.downsampled(features)).ids
    }

    /// Features at the codes' frame rate.
    ///
    /// # Shapes
    /// - `features`: `[b, width, t]`
    /// - returns: `[b, last width, frames]`
    pub fn downsampled(&self, features: Tensor<3>) -> Tensor<3> {
        through(&self.down, features)
    }

    /// Ids and what they stand for.
    ///
    /// # Shapes
    /// - `features`: `[b, last width, frames]`
    pub fn quantize(&self, features: Tensor<3>) -> GroupedQuantized {
        let parts = turned(features).chunk(self.groups.len(), 2);
        let (mut ids, mut vectors) = (Vec::new(), Vec::new());
        for (group, part) in self.groups.iter().zip(parts) {
            let narrow = through_linear(&group.project_in, part);
            // The residual starts from what the first rounding would see.
            let bounded = self.quantizer.quantizer.bounded(narrow);
            let (found, sum) = self.quantizer.quantize(bounded);
            ids.push(found);
            vectors.push(through_linear(&group.project_out, sum));
        }
        GroupedQuantized {
            ids: Tensor::cat(ids, 1),
            vectors: turned(Tensor::cat(vectors, 2)),
        }
    }

    /// Features that ids stand for.
    ///
    /// # Shapes
    /// - `ids`: `[b, groups * depth, frames]`
    /// - returns: `[b, width, frames * factor]`
    pub fn vectors(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        let depth = self.quantizer.depth;
        let groups = self.groups.iter().enumerate().map(|(at, group)| {
            let own = ids.clone().narrow(1, at * depth, depth);
            through_linear(&group.project_out, self.quantizer.vectors(own))
        });
        self.upsampled(turned(Tensor::cat(groups.collect(), 2)))
    }

    /// Features at their own frame rate again.
    ///
    /// # Shapes
    /// - `vectors`: `[b, last width, frames]`
    /// - returns: `[b, width, frames * factor]`
    pub fn upsampled(&self, vectors: Tensor<3>) -> Tensor<3> {
        through(&self.up, vectors)
    }

    /// Features there and back at their length: padded with zeros or cut on both sides.
    ///
    /// # Shapes
    /// - `features`: `[b, width, t]`
    /// - returns: like `features`
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let [batch, width, time] = features.dims();
        let back = self.upsampled(self.quantize(self.downsampled(features)).vectors);
        let found = back.dims()[2];
        if found <= time {
            let left = (time - found) / 2;
            return pad_time(back, left, time - found - left, PadKind::Zero);
        }
        let left = (found - time).div_ceil(2);
        back.slice([0..batch, 0..width, left..left + time])
    }
}

fn through(stages: &[RateStage], x: Tensor<3>) -> Tensor<3> {
    stages
        .iter()
        .fold(x, |x, stage| stage.block.forward(stage.conv.forward(x)))
}

fn through_linear(linear: &Option<Linear>, x: Tensor<3>) -> Tensor<3> {
    match linear {
        Some(linear) => linear.forward(x),
        None => x,
    }
}
