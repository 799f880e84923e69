//! Fish-Speech's firefly codec and the quantizer in it (Liao et al. 2024).
//!
//! Published: `firefly-gan-vq-fsq-8x1024-21hz-generator.pth` of `fishaudio/fish-speech-1.5`; its settings are this reader's
//! defaults.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_weights::{Checkpoint, KeyTable, load};
use rvq_codec::{
    Firefly, FireflyBackboneConfig, FireflyConfig, FireflyHeadConfig, FireflyTokenizer, GroupedFsq,
    GroupedFsqConfig, LogMelConfig,
};
use serde::Deserialize;

use crate::FamilyError;

const FAMILY: &str = "fish_firefly";
const QUANTIZER_KEYS: &str = include_str!("../keys/fish_gfsq.keys.toml");
const KEYS: &str = concat!(
    include_str!("../keys/fish_gfsq.keys.toml"),
    include_str!("../keys/fish_firefly.keys.toml")
);

/// The parts' settings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The front end.
    pub spec: SpecConfig,
    /// The encoder.
    pub backbone: BackboneConfig,
    /// The head.
    pub head: HeadConfig,
    /// The quantizer.
    pub quantizer: QuantizerConfig,
}

/// The front end's settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct SpecConfig {
    /// Samples in a second.
    pub sample_rate: u32,
    /// Points of the Fourier transform.
    pub n_fft: usize,
    /// Samples of a frame.
    pub win_length: usize,
    /// Samples from one frame to the next.
    pub hop_length: usize,
    /// Mel bands.
    pub n_mels: usize,
    /// Lowest frequency.
    pub f_min: f64,
    /// Highest frequency.
    pub f_max: Option<f64>,
}

/// The encoder's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BackboneConfig {
    /// Mel bands.
    pub input_channels: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Channels of each stage.
    pub dims: Vec<usize>,
    /// Frames that a block's convolution sees.
    pub kernel_size: usize,
}

/// The head's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HeadConfig {
    /// Strides.
    pub upsample_rates: Vec<usize>,
    /// Samples that each stride's convolution writes.
    pub upsample_kernel_sizes: Vec<usize>,
    /// Samples that residual blocks see.
    pub resblock_kernel_sizes: Vec<usize>,
    /// Their dilations.
    pub resblock_dilation_sizes: Vec<Vec<usize>>,
    /// Channels of the features.
    pub num_mels: usize,
    /// Channels before the first stride.
    pub upsample_initial_channel: usize,
    /// Frames that the first convolution sees.
    pub pre_conv_kernel_size: usize,
    /// Samples that the last convolution sees.
    pub post_conv_kernel_size: usize,
}

/// The quantizer's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct QuantizerConfig {
    /// Channels of the features.
    pub input_dim: usize,
    /// Quantizers of each group.
    pub n_codebooks: usize,
    /// Groups.
    pub n_groups: usize,
    /// Levels of each number.
    pub levels: Vec<usize>,
    /// By how much each stage divides the frame rate.
    pub downsample_factor: Vec<usize>,
    /// Channels after each stage.
    pub downsample_dims: Option<Vec<usize>>,
}

impl Default for SpecConfig {
    fn default() -> Self {
        let LogMelConfig {
            sample_rate_hz,
            points,
            window,
            hop,
            mels,
            ..
        } = LogMelConfig::default();
        Self {
            sample_rate: sample_rate_hz,
            n_fft: points,
            win_length: window,
            hop_length: hop,
            n_mels: mels,
            f_min: 0.0,
            f_max: None,
        }
    }
}

impl Default for BackboneConfig {
    fn default() -> Self {
        let FireflyBackboneConfig {
            channels,
            depths,
            widths,
            kernel,
        } = FireflyBackboneConfig::default();
        Self {
            input_channels: channels,
            depths,
            dims: widths,
            kernel_size: kernel,
        }
    }
}

impl Default for HeadConfig {
    fn default() -> Self {
        let head = FireflyHeadConfig::default();
        Self {
            upsample_rates: head.strides,
            upsample_kernel_sizes: head.kernels,
            resblock_kernel_sizes: head.residual_kernels,
            resblock_dilation_sizes: head.residual_dilations,
            num_mels: head.channels,
            upsample_initial_channel: head.width,
            pre_conv_kernel_size: head.first_kernel,
            post_conv_kernel_size: head.last_kernel,
        }
    }
}

impl Default for QuantizerConfig {
    fn default() -> Self {
        let quantizer = GroupedFsqConfig::default();
        Self {
            input_dim: quantizer.width,
            n_codebooks: quantizer.depth,
            n_groups: quantizer.groups,
            levels: quantizer.levels,
            downsample_factor: quantizer.factors,
            downsample_dims: None,
        }
    }
}

impl QuantizerConfig {
    /// The quantizer.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible.
    pub fn quantizer(&self) -> Result<GroupedFsqConfig, FamilyError> {
        let config = self.unchecked();
        config.validate().map_err(impossible)?;
        Ok(config)
    }

    fn unchecked(&self) -> GroupedFsqConfig {
        GroupedFsqConfig {
            width: self.input_dim,
            groups: self.n_groups,
            depth: self.n_codebooks,
            levels: self.levels.clone(),
            factors: self.downsample_factor.clone(),
            widths: self.downsample_dims.clone(),
        }
    }

    /// Builds the quantizer alone from weights under their published names.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, [`FamilyError::Weights`] if the weights do not fit.
    pub fn build(
        &self,
        checkpoint: Checkpoint,
        device: &Device,
    ) -> Result<GroupedFsq, FamilyError> {
        let config = self.quantizer()?;
        let table = KeyTable::parse("fish_gfsq.keys.toml", QUANTIZER_KEYS)?;
        let checkpoint = table.apply(checkpoint.fold_weight_norm()?, &BTreeMap::new())?;
        Ok(load(config.init(device), &checkpoint, "")?)
    }
}

fn impossible(source: ravel_core::Error) -> FamilyError {
    FamilyError::Part {
        family: FAMILY,
        source,
    }
}

impl Config {
    /// The codec.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, or two parts do not fit together.
    pub fn tokenizer(&self) -> Result<FireflyConfig, FamilyError> {
        let head = &self.head;
        let config = FireflyConfig {
            mel: LogMelConfig {
                sample_rate_hz: self.spec.sample_rate,
                points: self.spec.n_fft,
                window: self.spec.win_length,
                hop: self.spec.hop_length,
                mels: self.spec.n_mels,
                lowest_hz: self.spec.f_min,
                highest_hz: self.spec.f_max,
            },
            backbone: FireflyBackboneConfig {
                channels: self.backbone.input_channels,
                depths: self.backbone.depths.clone(),
                widths: self.backbone.dims.clone(),
                kernel: self.backbone.kernel_size,
            },
            quantizer: self.quantizer.unchecked(),
            head: FireflyHeadConfig {
                channels: head.num_mels,
                strides: head.upsample_rates.clone(),
                kernels: head.upsample_kernel_sizes.clone(),
                residual_kernels: head.resblock_kernel_sizes.clone(),
                residual_dilations: head.resblock_dilation_sizes.clone(),
                width: head.upsample_initial_channel,
                first_kernel: head.pre_conv_kernel_size,
                last_kernel: head.post_conv_kernel_size,
            },
        };
        config.validate().map_err(impossible)?;
        Ok(config)
    }

    /// Builds the codec from weights under their published names.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, [`FamilyError::Weights`] if the weights do not fit.
    pub fn build(
        &self,
        checkpoint: Checkpoint,
        device: &Device,
    ) -> Result<FireflyTokenizer, FamilyError> {
        let config = self.tokenizer()?;
        Ok(FireflyTokenizer::new(
            module(&config, checkpoint, device)?,
            &config,
            device,
        ))
    }
}

/// The weights of a codec under their published names.
///
/// # Errors
/// [`FamilyError::Weights`] if they do not fit.
pub fn module(
    config: &FireflyConfig,
    checkpoint: Checkpoint,
    device: &Device,
) -> Result<Firefly, FamilyError> {
    let table = KeyTable::parse("fish_firefly.keys.toml", KEYS)?;
    let checkpoint = table.apply(checkpoint.fold_weight_norm()?, &BTreeMap::new())?;
    Ok(load(config.init(device), &checkpoint, "")?)
}
