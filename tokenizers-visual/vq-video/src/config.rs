//! What fixes the tokenizer.

use burn::tensor::Device;
use ravel_core::{ClipSpec, CodeSpec, Error, Result};
use ravel_nn::conv::blocks::GROUPS;
use ravel_quant::VectorConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{VqVideo, VqVideoDecoder, VqVideoEncoder};

/// Sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VqVideoConfig {
    /// Channels at the finest grid.
    pub channels: usize,
    /// Channels of each level as multiples of `channels`, finest first.
    pub multiples: Vec<usize>,
    /// Residual blocks of each level, the decoder has one more; and over time.
    pub blocks: usize,
    /// Channels between the frames' and the time's convolutions.
    pub z_channels: usize,
    /// Levels with attention after each block, the finest is 0.
    #[serde(default)]
    pub attention: Vec<usize>,
    /// Heads of all attention.
    #[serde(default = "one")]
    pub n_heads: usize,
    /// How often the count of frames is halved.
    pub time_halvings: usize,
    /// Channels of the clips that are read.
    #[serde(default = "three")]
    pub in_channels: usize,
    /// Channels of the clips that are made.
    #[serde(default = "three")]
    pub out_channels: usize,
    /// The codebook.
    pub codebook: VectorConfig,
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

impl VqVideoConfig {
    /// Frames of a group.
    pub fn time_factor(&self) -> usize {
        1 << self.time_halvings
    }

    /// Pixels a side that one id stands for.
    pub fn stride(&self) -> usize {
        1 << (self.multiples.len().max(1) - 1)
    }

    /// What the codes look like.
    pub fn spec(&self) -> CodeSpec {
        CodeSpec {
            codebook_size: self.codebook.codebook_size,
            code_width: self.codebook.width,
            depth: 1,
        }
    }

    /// What clips it takes and how it arranges their codes.
    pub fn clip_spec(&self) -> ClipSpec {
        ClipSpec {
            codes: self.spec(),
            signal_size: None,
            stride: self.stride(),
            group: self.time_factor(),
            first_alone: false,
        }
    }

    /// Channels of a level.
    pub(crate) fn width(&self, level: usize) -> usize {
        self.channels * self.multiples[level]
    }

    /// Channels of the coarsest level.
    pub(crate) fn deepest(&self) -> usize {
        self.width(self.multiples.len() - 1)
    }

    /// # Errors
    /// [`Error::Config`] names the field that no tokenizer can be built from.
    pub fn validate(&self) -> Result<()> {
        let wrong = |field: &str, found: String, expected: String| {
            Err(Error::Config {
                field: field.into(),
                found,
                expected,
            })
        };
        let levels = self.multiples.len();
        let widths = self.multiples.iter();
        let mut widths = widths.map(|multiple| multiple.saturating_mul(self.channels));
        let odd = widths.find(|width| *width == 0 || width % GROUPS != 0);
        if odd.is_some() || levels == 0 || levels > 16 {
            let found = odd.map_or(format!("{levels} levels"), |width| width.to_string());
            let expected = format!("multiples of {GROUPS} at 1 to 16 levels");
            return wrong("channels", found, expected);
        }
        for (field, found) in [
            ("blocks", self.blocks),
            ("z-channels", self.z_channels),
            ("n-heads", self.n_heads),
            ("in-channels", self.in_channels),
            ("out-channels", self.out_channels),
            ("codebook.codebook-size", self.codebook.codebook_size),
            ("codebook.width", self.codebook.width),
        ] {
            if found == 0 {
                return wrong(field, "0".into(), "a number of at least 1".into());
            }
        }
        // Latents and code vectors go through the same blocks over time.
        if self.z_channels != self.codebook.width {
            let expected = format!("{}, as codebook.width", self.codebook.width);
            return wrong("z-channels", self.z_channels.to_string(), expected);
        }
        if let Some(level) = self.attention.iter().find(|level| **level >= levels) {
            let expected = format!("levels below {levels}");
            return wrong("attention", level.to_string(), expected);
        }
        let attending = self.attention.iter().map(|level| self.width(*level));
        let mut attending = attending.chain([self.deepest()]);
        if let Some(width) = attending.find(|width| !width.is_multiple_of(self.n_heads)) {
            let expected = format!("a divisor of {width}");
            return wrong("n-heads", self.n_heads.to_string(), expected);
        }
        if self.time_halvings > 8 {
            let found = self.time_halvings.to_string();
            return wrong("time-halvings", found, "8 at most".into());
        }
        Ok(())
    }

    /// A tokenizer with random weights.
    ///
    /// # Panics
    /// If [`VqVideoConfig::validate`] would report an error.
    pub fn init(&self, device: &Device) -> VqVideo {
        self.validate().expect("a configuration that was checked");
        VqVideo {
            encoder: VqVideoEncoder::new(self, device),
            quantizer: self.codebook.init(device),
            decoder: VqVideoDecoder::new(self, device),
            config: self.clone(),
        }
    }
}
