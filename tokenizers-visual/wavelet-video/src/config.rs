//! What fixes the tokenizer.

use burn::tensor::{Device, FloatDType, Int, Tensor};
use ravel_core::{ClipSpec, CodeSpec, Error, Result};
use ravel_nn::conv::causal::{Before, CausalConv, CausalConvConfig};
use ravel_quant::{Bound, FiniteQuantizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Patching, WaveletDecoder, WaveletEncoder, WaveletVideo};

/// Sizes and choices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WaveletVideoConfig {
    /// Channels that every level multiplies.
    pub channels: usize,
    /// Channels of each level as multiples of `channels`, finest first.
    pub multiples: Vec<usize>,
    /// Residual blocks of each level; the decoder has one more.
    pub blocks: usize,
    /// Channels of the encoder's output.
    pub encoder_channels: usize,
    /// Channels of the decoder's input.
    pub decoder_channels: usize,
    /// The encoder's levels with attention after each block, the finest is 0.
    #[serde(default)]
    pub encoder_attention: Vec<usize>,
    /// The decoder's.
    #[serde(default)]
    pub decoder_attention: Vec<usize>,
    /// Pixels a side, and frames where convolutions are factorized, of a patch: a power of two.
    pub patch: usize,
    /// How a patch becomes channels.
    pub patching: Patching,
    /// Whether convolutions see space and time one after the other, rather than both at once.
    pub factorized: bool,
    /// Groups of all norms. With one, every frame is normalised by itself; with more, the whole clip at once, so that
    /// nothing is causal any more. Factorized tokenizers have one.
    pub groups: usize,
    /// How often space is halved after patching, where convolutions are factorized.
    pub space_halvings: usize,
    /// How often time is halved after patching, where convolutions are factorized.
    pub time_halvings: usize,
    /// Whether the decoder doubles time at its coarsest levels first, as early checkpoints do, rather than one level later.
    #[serde(default)]
    pub doubles_time_first: bool,
    /// Channels of the clips that are read.
    pub in_channels: usize,
    /// Channels of the clips that are made.
    pub out_channels: usize,
    /// What names latents.
    pub codebook: Codebook,
    /// Whether code vectors are rounded to 16 bits (bfloat16), as the published tokenizers hand them on.
    #[serde(default)]
    pub half_vectors: bool,
}

/// Finite scalars: in groups side by side, or one after another on what is left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "kebab-case")]
pub enum Codebook {
    /// `depth` ids, each of its own share of a latent's numbers.
    Finite {
        /// Levels of each number of a share.
        levels: Vec<usize>,
        /// Shares.
        depth: usize,
    },
    /// `depth` ids, each of what the ones before left over. Code vectors and their sums are rounded to 16 bits (bfloat16), as the
    /// published quantizer has it whatever it is asked for.
    Residual {
        /// Levels of each number.
        levels: Vec<usize>,
        /// Quantizers.
        depth: usize,
    },
}

impl Codebook {
    fn parts(&self) -> (&[usize], usize) {
        match self {
            Self::Finite { levels, depth } | Self::Residual { levels, depth } => (levels, *depth),
        }
    }

    fn finite(&self) -> FiniteQuantizer {
        FiniteQuantizer {
            levels: self.parts().0.to_vec(),
            bound: Bound::Tanh,
        }
    }

    /// Ids at each position.
    pub fn depth(&self) -> usize {
        self.parts().1
    }

    /// Numbers of a latent.
    pub fn width(&self) -> usize {
        match self {
            Self::Finite { levels, depth } => levels.len() * depth,
            Self::Residual { levels, .. } => levels.len(),
        }
    }

    /// # Shapes
    /// - `latents`: `[b, n, width]`
    /// - returns: `[b, depth, n]` and `[b, n, width]`
    pub fn quantize(&self, latents: Tensor<3>) -> (Tensor<3, Int>, Tensor<3>) {
        let (finite, width) = (self.finite(), self.parts().0.len());
        let mut rest = latents.clone();
        let found: Vec<_> = (0..self.depth())
            .map(|at| {
                let part = match self {
                    Self::Finite { .. } => latents.clone().narrow(2, at * width, width),
                    Self::Residual { .. } => rest.clone(),
                };
                let mut found = finite.quantize(part);
                if matches!(self, Self::Residual { .. }) {
                    found.vectors = rounded(found.vectors);
                    rest = rest.clone() - found.vectors.clone();
                }
                found
            })
            .collect();
        let ids = found.iter().map(|found| found.ids.clone().unsqueeze_dim(1));
        let ids = Tensor::cat(ids.collect(), 1);
        (
            ids,
            self.joined(found.into_iter().map(|found| found.vectors)),
        )
    }

    /// # Shapes
    /// - `ids`: `[b, depth, n]`
    /// - returns: `[b, n, width]`
    pub fn vectors(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        let finite = self.finite();
        let row = |at| finite.vectors(ids.clone().narrow(1, at, 1).squeeze_dim(1));
        self.joined((0..self.depth()).map(row))
    }

    fn joined(&self, vectors: impl Iterator<Item = Tensor<3>>) -> Tensor<3> {
        match self {
            Self::Finite { .. } => Tensor::cat(vectors.collect(), 2),
            Self::Residual { .. } => vectors
                .map(rounded)
                .reduce(|sum, vectors| rounded(sum + vectors))
                .expect("there is one quantizer at least"),
        }
    }
}

impl WaveletVideoConfig {
    /// Frames of every group after the first frame.
    pub fn time_factor(&self) -> usize {
        match self.factorized {
            true => self.patch << self.time_halvings.min(self.multiples.len() - 1),
            // Every level halves time, the last one by its mean.
            false => 1 << self.multiples.len(),
        }
    }

    /// Pixels a side that one id stands for.
    pub fn stride(&self) -> usize {
        let halvings = self.multiples.len() - 1;
        match self.factorized {
            true => self.patch << self.space_halvings.min(halvings),
            false => self.patch << halvings,
        }
    }

    /// What the codes look like.
    pub fn spec(&self) -> CodeSpec {
        CodeSpec {
            codebook_size: self.codebook.finite().codebook_size(),
            code_width: self.codebook.width(),
            depth: self.codebook.depth(),
        }
    }

    /// What clips it takes and how it arranges their codes.
    pub fn clip_spec(&self) -> ClipSpec {
        ClipSpec {
            codes: self.spec(),
            signal_size: None,
            stride: self.stride(),
            group: self.time_factor(),
            first_alone: true,
        }
    }

    /// Channels that a patch of `channels` becomes.
    pub(crate) fn patched(&self, channels: usize) -> usize {
        let axes = if self.factorized { 3 } else { 2 };
        channels * self.patch.pow(axes)
    }

    /// Channels of a level.
    pub(crate) fn width(&self, level: usize) -> usize {
        self.channels * self.multiples[level]
    }

    /// # Errors
    /// [`Error::Config`] names the field that no tokenizer can be built from.
    pub fn validate(&self) -> Result<()> {
        let wrong = |field: &str, found: String, expected: &str| {
            Err(Error::Config {
                field: field.into(),
                found,
                expected: expected.into(),
            })
        };
        let levels = self.multiples.len();
        if !(1..=12).contains(&levels) {
            return wrong("multiples", format!("a list of {levels}"), "1 to 12 levels");
        }
        for (field, found) in [
            ("channels", self.channels),
            (
                "multiples",
                self.multiples.iter().copied().min().unwrap_or(0),
            ),
            ("blocks", self.blocks),
            ("encoder-channels", self.encoder_channels),
            ("decoder-channels", self.decoder_channels),
            ("groups", self.groups),
            ("in-channels", self.in_channels),
            ("out-channels", self.out_channels),
            ("codebook.depth", self.codebook.depth()),
        ] {
            if found == 0 || found > 1 << 16 {
                return wrong(field, found.to_string(), "a number of 1 to 65536");
            }
        }
        if !self.patch.is_power_of_two() || self.patch > 64 {
            return wrong(
                "patch",
                self.patch.to_string(),
                "a power of two, 64 at most",
            );
        }
        let widths = (0..levels).map(|level| self.width(level));
        let mut odd = widths.filter(|width| !width.is_multiple_of(self.groups));
        if let Some(width) = odd.next() {
            let expected = format!("a divisor of {width}, the channels of a level");
            return wrong("groups", self.groups.to_string(), &expected);
        }
        if self.space_halvings > levels || self.time_halvings > levels {
            let found = format!("{}, {}", self.space_halvings, self.time_halvings);
            return wrong(
                "space-halvings, time-halvings",
                found,
                &format!("{levels} at most"),
            );
        }
        let attending = self.encoder_attention.iter().chain(&self.decoder_attention);
        if let Some(level) = attending.copied().find(|level| *level >= levels) {
            return wrong(
                "attention",
                level.to_string(),
                &format!("levels below {levels}"),
            );
        }
        let (ids, _) = self.codebook.parts();
        let size = ids
            .iter()
            .try_fold(1_usize, |size, level| size.checked_mul(*level));
        if ids.iter().any(|level| *level < 2)
            || !size.is_some_and(|size| size > 1 && size <= 1 << 31)
        {
            return wrong(
                "codebook.levels",
                format!("{ids:?}"),
                "2 at least each, ids within 31 bits",
            );
        }
        Ok(())
    }

    /// A tokenizer with random weights.
    ///
    /// # Panics
    /// If [`WaveletVideoConfig::validate`] would report an error.
    pub fn init(&self, device: &Device) -> WaveletVideo {
        self.validate().expect("a configuration that was checked");
        let code = self.codebook.width();
        WaveletVideo {
            encoder: WaveletEncoder::new(self, device),
            quant_conv: pointwise(self.encoder_channels, code, device),
            post_quant_conv: pointwise(code, self.decoder_channels, device),
            decoder: WaveletDecoder::new(self, device),
            config: self.clone(),
        }
    }
}

/// Through 16 bits and back.
pub(crate) fn rounded<const D: usize>(vectors: Tensor<D>) -> Tensor<D> {
    vectors.cast(FloatDType::BF16).cast(FloatDType::F32)
}

/// A convolution of one frame and one cell.
pub(crate) fn pointwise(from: usize, to: usize, device: &Device) -> CausalConv {
    CausalConvConfig {
        channels: [from, to],
        kernel: [1, 1, 1],
        stride: [1, 1],
        before: Before::First,
    }
    .init(device)
}
