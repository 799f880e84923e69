//! Rotary positions on one, two or three axes.
//!
//! Su et al. 2021, section 3.4. Each pair of a head's numbers is turned by an angle, its position times a
//! frequency, so that products of queries and keys depend on differences of positions only. With several
//! axes the pairs are shared out: the first pairs turn with the first axis, and so on.
//! An axis with `p` pairs has the frequencies `base^(-i/p)`, `i` in `0..p`.

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use ravel_kernels::Turn;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which two numbers of a head turn together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pairs {
    /// Number `i` with number `i + head_width / 2` (LLaMA as the hub has it, GPT-NeoX). Fewer copies.
    #[default]
    HalfSplit,
    /// Number `2 i` with number `2 i + 1` (LLaMA as Meta has it, LlamaGen).
    Interleaved,
}

/// How LLaMA 3.1 stretches low frequencies to longer texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Llama3Scaling {
    /// By how much the lowest frequencies are divided.
    pub factor: f64,
    /// Waves longer than `original_positions / low_frequency_factor` are divided in full.
    pub low_frequency_factor: f64,
    /// Waves shorter than `original_positions / high_frequency_factor` are kept.
    pub high_frequency_factor: f64,
    /// Positions of the model before it was stretched.
    pub original_positions: f64,
}

/// How YaRN stretches low frequencies to longer texts (Peng et al. 2023, sections 3.2 to 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct YarnScaling {
    /// By how much the lowest frequencies are divided: the paper's s.
    pub factor: f64,
    /// Waves with more turns than this within the original positions are kept: the paper's β, and `beta_fast` of the hub's files.
    pub fast_turns: f64,
    /// Waves with fewer turns than this are divided in full: the paper's α, and `beta_slow` of the hub's files.
    pub slow_turns: f64,
    /// Whether the first and last pair in between are whole numbers, as in the published code.
    pub whole_pairs: bool,
    /// Positions of the model before it was stretched.
    pub original_positions: f64,
    /// What rotated queries and keys are multiplied with: the paper's √(1/t).
    pub attention_factor: f64,
}

/// How the base of the frequencies grows with the text once that is longer than the model was made for ("dynamic NTK" of the hub's
/// files; Peng et al. 2023, section 3.3).
///
/// A step is turned by its own last position. Keys that are remembered keep the turn of the step that made them, as in the reference,
/// so beyond the original positions a text read at once and one read piece by piece differ a little.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DynamicScaling {
    /// How fast the base grows.
    pub factor: f64,
    /// Positions of the model before it was stretched; up to here nothing changes.
    pub original_positions: f64,
}

/// A stretch of the frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Scaling {
    /// LLaMA 3.1's.
    Llama3(Llama3Scaling),
    /// YaRN.
    Yarn(YarnScaling),
    /// By the length of the text. Heads need two pairs on every axis.
    Dynamic(DynamicScaling),
}

/// What fixes the rotation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RotaryConfig {
    /// Numbers that make a position: 1 (running), 2 (row, column) or 3 (scale or frame, row, column).
    pub axes: usize,
    /// The slowest wave turns `base` times slower than the fastest, about.
    pub base: f64,
    /// Which two numbers turn together.
    pub pairs: Pairs,
    /// Pairs given to each axis. Equal shares if unset; what does not divide goes to the last axes.
    pub split: Option<Vec<usize>>,
    /// Positions with a negative coordinate get queries and keys of zero (LlamaGen's condition).
    pub mute_negative: bool,
    /// How frequencies are stretched to longer texts.
    pub scaling: Option<Scaling>,
    /// Whether sines and cosines are rounded to bfloat16, as the tables of some published models are (Fish-Speech).
    pub bf16_table: bool,
}

impl RotaryConfig {
    /// Whether the turn of a position depends on how many stand behind it, so that a prompt has to be read whole.
    pub fn depends_on_length(&self) -> bool {
        matches!(self.scaling, Some(Scaling::Dynamic(_)))
    }
}

impl Default for RotaryConfig {
    fn default() -> Self {
        Self {
            axes: 1,
            base: 10_000.0,
            pairs: Pairs::HalfSplit,
            split: None,
            mute_negative: false,
            scaling: None,
            bf16_table: false,
        }
    }
}

impl RotaryConfig {
    /// Pairs of each axis for heads of this width, or `None` if they cannot be shared out.
    pub fn shares(&self, head_width: usize) -> Option<Vec<usize>> {
        let pairs = head_width / 2;
        if !head_width.is_multiple_of(2) || !(1..=3).contains(&self.axes) || pairs < self.axes {
            return None;
        }
        match &self.split {
            Some(split) => (split.len() == self.axes
                && split.iter().all(|&share| (1..=pairs).contains(&share))
                && split.iter().sum::<usize>() == pairs)
                .then(|| split.clone()),
            None => {
                let (share, rest) = (pairs / self.axes, pairs % self.axes);
                let extra = |axis| usize::from(axis >= self.axes - rest);
                Some((0..self.axes).map(|axis| share + extra(axis)).collect())
            }
        }
    }

    /// The rotation for heads of this width.
    ///
    /// # Panics
    /// If the pairs cannot be shared out; [`RotaryConfig::shares`] says so beforehand.
    pub fn init(&self, head_width: usize) -> Rotary {
        Rotary {
            frequencies: self.frequencies(head_width, None),
            axes: self.axes,
            pairs: self.pairs,
            mute_negative: self.mute_negative,
            bf16_table: self.bf16_table,
            amplitude: match self.scaling {
                Some(Scaling::Yarn(by)) => by.attention_factor,
                Some(Scaling::Llama3(_) | Scaling::Dynamic(_)) | None => 1.0,
            },
            longer: match self.scaling {
                Some(Scaling::Dynamic(by)) => Some(Longer {
                    config: self.clone(),
                    head_width,
                    by,
                }),
                _ => None,
            },
        }
    }

    /// `[axes, pairs]`, for a text of so many positions where that matters.
    fn frequencies(&self, head_width: usize, positions: Option<f64>) -> Vec<f32> {
        let shares = self.shares(head_width).unwrap_or_else(|| {
            panic!("head axis: {head_width} numbers cannot be shared out by {self:?}")
        });
        let pairs = head_width / 2;
        let mut frequencies = vec![0.0; self.axes * pairs];
        let mut pair = 0;
        for (axis, share) in shares.into_iter().enumerate() {
            for at in 0..share {
                let frequency = self.frequency(self.base, at, share);
                let stretched = match (self.scaling, positions) {
                    (None, _) | (Some(Scaling::Dynamic(_)), None) => frequency,
                    (Some(Scaling::Llama3(by)), _) => by.apply(frequency),
                    (Some(Scaling::Yarn(by)), _) => by.apply(frequency, at, share, self.base),
                    (Some(Scaling::Dynamic(by)), Some(positions)) => {
                        self.frequency(by.base(self.base, share, positions), at, share)
                    }
                };
                frequencies[axis * pairs + pair] = stretched as f32;
                pair += 1;
            }
        }
        frequencies
    }

    /// Of pair `at` out of `share`. Where the table is rounded, every step is rounded to 32 bits first, as in the reference:
    /// otherwise a number near the middle of two bfloat16 values could fall to the other side.
    fn frequency(&self, base: f64, at: usize, share: usize) -> f64 {
        if !self.bf16_table {
            return base.powf(-(at as f64) / share as f64);
        }
        let exponent = f64::from(at as f32 / share as f32);
        f64::from(1.0 / base.powf(exponent) as f32)
    }
}

impl Llama3Scaling {
    fn apply(&self, frequency: f64) -> f64 {
        let wave = std::f64::consts::TAU / frequency;
        let (low, high) = (self.low_frequency_factor, self.high_frequency_factor);
        if wave < self.original_positions / high {
            frequency
        } else if wave > self.original_positions / low {
            frequency / self.factor
        } else {
            let kept = (self.original_positions / wave - low) / (high - low);
            (1.0 - kept) * frequency / self.factor + kept * frequency
        }
    }
}

impl DynamicScaling {
    /// The base for a text of so many positions: such that its slowest wave turns as far as within the original ones.
    fn base(&self, base: f64, share: usize, positions: f64) -> f64 {
        let width = 2.0 * share as f64;
        let stretch = self.factor * positions / self.original_positions - (self.factor - 1.0);
        base * stretch.powf(width / (width - 2.0))
    }
}

impl YarnScaling {
    /// The attention factor that the paper recommends for a stretch (equation 22), `weight` times as steep.
    pub fn usual_attention_factor(factor: f64, weight: f64) -> f64 {
        match factor > 1.0 {
            true => 0.1 * weight * factor.ln() + 1.0,
            false => 1.0,
        }
    }

    fn apply(&self, frequency: f64, at: usize, share: usize, base: f64) -> f64 {
        let width = 2.0 * share as f64;
        // The pair, counted from the fastest, whose wave turns so often within the original positions.
        let pair = |turns: f64| {
            let length = self.original_positions / (turns * std::f64::consts::TAU);
            width * length.ln() / (2.0 * base.ln())
        };
        let (mut first, mut last) = (pair(self.fast_turns), pair(self.slow_turns));
        if self.whole_pairs {
            (first, last) = (first.floor(), last.ceil());
        }
        let (first, mut last) = (first.max(0.0), last.min(width - 1.0));
        if first == last {
            last += 0.001;
        }
        let divided = ((at as f64 - first) / (last - first)).clamp(0.0, 1.0);
        frequency / self.factor * divided + frequency * (1.0 - divided)
    }
}

/// Frequencies, ready to be multiplied with positions.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `[axes, pairs]`; each pair turns with one axis, the others hold zero.
    frequencies: Vec<f32>,
    axes: usize,
    pairs: Pairs,
    mute_negative: bool,
    bf16_table: bool,
    /// What sines and cosines are multiplied with.
    amplitude: f64,
    /// What they are turned by beyond the original positions, if by anything else.
    longer: Option<Longer>,
}

/// Frequencies that depend on how long the text is.
#[derive(Debug, Clone)]
struct Longer {
    config: RotaryConfig,
    head_width: usize,
    by: DynamicScaling,
}

impl Longer {
    /// Those of a step with these coordinates, if it goes beyond the original positions.
    fn frequencies(&self, coords: &Tensor<2, Int>) -> Option<Vec<f32>> {
        let last = coords.clone().max().into_scalar::<i64>();
        let positions = last as f64 + 1.0;
        (positions > self.by.original_positions)
            .then(|| self.config.frequencies(self.head_width, Some(positions)))
    }
}

impl Rotary {
    /// The turn of each position, computed once for all layers.
    ///
    /// # Shapes
    /// - `coords`: `[n, axes]`
    ///
    /// # Panics
    /// If the coordinates have another number of axes.
    pub fn rotation(&self, coords: &Tensor<2, Int>, dtype: FloatDType) -> Rotation {
        let [n, axes] = coords.dims();
        assert_eq!(
            axes, self.axes,
            "coordinate axis: the rotation turns with {} axes",
            self.axes
        );
        let device = coords.device();
        let at = coords.clone().float().cast(FloatDType::F32);
        // A sum of products rather than a matrix product: devices may round the latter to fewer bits.
        let longer = self.longer.as_ref();
        let frequencies = longer.and_then(|longer| longer.frequencies(coords));
        let frequencies = frequencies.unwrap_or_else(|| self.frequencies.clone());
        let table = self.table(frequencies, &device);
        let angles: Tensor<2> = (at.clone().unsqueeze_dim::<3>(2) * table)
            .sum_dim(1)
            .squeeze_dim(1);
        let (mut cos, mut sin) = (angles.clone().cos(), angles.sin());
        if self.amplitude != 1.0 {
            (cos, sin) = (cos * self.amplitude, sin * self.amplitude);
        }
        if self.bf16_table {
            let rounded = |x: Tensor<2>| x.cast(FloatDType::BF16).cast(FloatDType::F32);
            (cos, sin) = (rounded(cos), rounded(sin));
        }
        if self.mute_negative {
            let kept = at.narrow(1, 0, 1).greater_equal_elem(0.0).float();
            cos = cos * kept.clone();
            sin = sin * kept;
        }
        let half = self.frequencies.len() / self.axes;
        let spread = |first: Tensor<2>, second: Tensor<2>| -> Tensor<4> {
            let both = match self.pairs {
                Pairs::HalfSplit => Tensor::cat(vec![first, second], 1),
                Pairs::Interleaved => Tensor::stack::<3>(vec![first, second], 2).flatten(1, 2),
            };
            both.reshape([1, n, 1, 2 * half]).cast(dtype)
        };
        Rotation {
            cos: spread(cos.clone(), cos),
            sin: spread(sin.clone().neg(), sin),
            pairs: self.pairs,
        }
    }

    fn table(&self, frequencies: Vec<f32>, device: &Device) -> Tensor<3> {
        let shape = [1, self.axes, frequencies.len() / self.axes];
        Tensor::from_data(TensorData::new(frequencies, shape), device)
    }
}

/// The turn of each position of a step.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// `[1, n, 1, head_width]`.
    cos: Tensor<4>,
    /// `[1, n, 1, head_width]`; negative for the first number of a pair.
    sin: Tensor<4>,
    pairs: Pairs,
}

impl Rotation {
    /// The same for the kernels.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn {
            cos: &self.cos,
            sin: &self.sin,
            interleaved: self.pairs == Pairs::Interleaved,
        }
    }

    /// Heads with each pair turned.
    ///
    /// # Shapes
    /// - `heads`: `[batch, n, n_heads, head_width]`
    /// - returns: like `heads`
    pub fn apply(&self, heads: Tensor<4>) -> Tensor<4> {
        let partners = match self.pairs {
            Pairs::HalfSplit => swap_last(heads.clone(), 3),
            Pairs::Interleaved => {
                let [batch, n, n_heads, head_width] = heads.dims();
                let pairs = heads
                    .clone()
                    .reshape([batch, n, n_heads, head_width / 2, 2]);
                swap_last(pairs, 4).reshape([batch, n, n_heads, head_width])
            }
        };
        heads * self.cos.clone() + partners * self.sin.clone()
    }
}

/// The second half of the last axis, then the first.
fn swap_last<const D: usize>(x: Tensor<D>, last: usize) -> Tensor<D> {
    let half = x.dims()[last] / 2;
    let first = x.clone().narrow(last, 0, half);
    Tensor::cat(vec![x.narrow(last, half, half), first], last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{assert_close, device, formula, values};

    fn turned(config: &RotaryConfig, head: &[f32], coords: &[i32]) -> Vec<f32> {
        let device = device();
        let rotation = config.init(head.len()).rotation(
            &Tensor::from_data(TensorData::new(coords.to_vec(), [1, coords.len()]), &device),
            FloatDType::F32,
        );
        let head = TensorData::new(head.to_vec(), [1, 1, 1, head.len()]);
        values(&rotation.apply(Tensor::from_data(head, &device)))
    }

    fn check(pairs: Pairs, expected: [f32; 4]) {
        let config = RotaryConfig {
            pairs,
            base: 4.0,
            ..RotaryConfig::default()
        };
        // Frequencies 1 and 1/2: at position 1 the pairs turn by 1 and by 1/2.
        let found = turned(&config, &[1.0, 0.0, 0.0, 0.0], &[1]);
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-6,
                "{pairs:?}: {found} {expected}"
            );
        }
    }

    #[test]
    fn pairs_are_where_their_layout_says() {
        check(Pairs::HalfSplit, [1f32.cos(), 0.0, 1f32.sin(), 0.0]);
        check(Pairs::Interleaved, [1f32.cos(), 1f32.sin(), 0.0, 0.0]);
    }

    #[test]
    fn each_axis_turns_its_own_pairs() {
        let config = RotaryConfig {
            axes: 2,
            pairs: Pairs::Interleaved,
            ..RotaryConfig::default()
        };
        let head = [1.0, 0.0, 1.0, 0.0];
        let found = turned(&config, &head, &[0, 3]);
        let expected = [1.0, 0.0, 3f32.cos(), 3f32.sin()];
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
    }

    #[test]
    fn shares_cover_all_pairs_and_favour_the_last_axes() {
        let with = |axes, split: Option<Vec<usize>>| RotaryConfig {
            axes,
            split,
            ..RotaryConfig::default()
        };
        assert_eq!(with(3, None).shares(64), Some(vec![10, 11, 11]));
        assert_eq!(with(2, Some(vec![3, 5])).shares(16), Some(vec![3, 5]));
        assert_eq!(with(2, Some(vec![3, 4])).shares(16), None);
        assert_eq!(with(1, None).shares(15), None);
        assert_eq!(with(4, None).shares(64), None);
    }

    #[test]
    fn products_depend_on_differences_of_positions() {
        let device = device();
        let rotary = RotaryConfig::default().init(8);
        let [q, k] = [1, 2].map(|salt| formula::<4>([1, 1, 1, 8], salt, 1.0, &device));
        let product = |at_q: i32, at_k: i32| {
            let turn = |x: &Tensor<4>, at: i32| {
                let coords = Tensor::from_data([[at]], &device);
                rotary.rotation(&coords, FloatDType::F32).apply(x.clone())
            };
            (turn(&q, at_q) * turn(&k, at_k)).sum()
        };
        assert_close("shifted", &product(3, 1), &product(13, 11), 1e-5);
    }

    #[test]
    fn a_dynamic_stretch_begins_behind_the_original_positions() {
        let config = RotaryConfig {
            base: 16.0,
            scaling: Some(Scaling::Dynamic(DynamicScaling {
                factor: 3.0,
                original_positions: 8.0,
            })),
            ..RotaryConfig::default()
        };
        let plain = RotaryConfig {
            scaling: None,
            ..config.clone()
        };
        let head = [0.0, 1.0, 0.0, 0.0];
        assert_eq!(turned(&config, &head, &[7]), turned(&plain, &head, &[7]));
        // Twelve positions: the base grows by (3 * 12 / 8 - 2)^(4 / 2) to 100, the slower pair turns by a tenth.
        let found = turned(&config, &head, &[11]);
        for (found, expected) in found.iter().zip([0.0, 1.1f32.cos(), 0.0, 1.1f32.sin()]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn negative_positions_are_muted_where_asked() {
        let config = RotaryConfig {
            mute_negative: true,
            ..RotaryConfig::default()
        };
        assert_eq!(turned(&config, &[1.0, 2.0], &[-1]), [0.0, 0.0]);
        assert_eq!(turned(&config, &[1.0, 2.0], &[0]), [1.0, 2.0]);
    }
}
