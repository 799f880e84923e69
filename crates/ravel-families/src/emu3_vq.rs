//! Emu3's video and image tokenizer (Wang et al. 2024, section 2.1) as the transformers library has it.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_quant::VectorConfig;
use ravel_weights::{Checkpoint, KeyTable, load};
use serde::Deserialize;
use vq_video::{VqVideo, VqVideoConfig};

use crate::{FamilyError, refused};

const FAMILY: &str = "emu3_vq";
const KEYS: &str = include_str!("../keys/emu3_vq.keys.toml");

/// What the reference's model takes, with its defaults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Codes.
    pub codebook_size: usize,
    /// Numbers in one code.
    pub embed_dim: usize,
    /// Channels between frames' and time's convolutions.
    pub latent_channels: usize,
    /// Twice the encoder's channels: the reference's next layer then fails, so it is refused.
    pub double_latent: bool,
    /// Channels of a frame that is read.
    pub in_channels: usize,
    /// Channels of a frame that is made.
    pub out_channels: usize,
    /// Frames of a group.
    pub temporal_downsample_factor: usize,
    /// Channels at the finest grid.
    pub base_channels: usize,
    /// Channels of each level as multiples of `base_channels`.
    pub channel_multiplier: Vec<usize>,
    /// Residual blocks of each level.
    pub num_res_blocks: usize,
    /// Levels (not sides) with attention.
    pub attn_resolutions: Vec<usize>,
    /// Channels of all attention: those of the levels that have it, and of the coarsest.
    pub hidden_size: usize,
    /// Heads of all attention.
    pub num_attention_heads: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            codebook_size: 32_768,
            embed_dim: 4,
            latent_channels: 4,
            double_latent: false,
            in_channels: 3,
            out_channels: 3,
            temporal_downsample_factor: 4,
            base_channels: 256,
            channel_multiplier: vec![1, 2, 2, 4],
            num_res_blocks: 2,
            attn_resolutions: vec![3],
            hidden_size: 1024,
            num_attention_heads: 1,
        }
    }
}

impl Config {
    /// The tokenizer.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names what the reference cannot run either.
    pub fn tokenizer(&self) -> Result<VqVideoConfig, FamilyError> {
        if self.double_latent {
            return Err(refused(FAMILY, "double_latent", "true", "false"));
        }
        let levels = self.channel_multiplier.len();
        let attending = (0..levels).filter(|level| self.attn_resolutions.contains(level));
        let config = VqVideoConfig {
            channels: self.base_channels,
            multiples: self.channel_multiplier.clone(),
            blocks: self.num_res_blocks,
            z_channels: self.latent_channels,
            attention: attending.collect(),
            n_heads: self.num_attention_heads,
            // The whole number below the logarithm, as the reference takes it.
            time_halvings: self.temporal_downsample_factor.max(1).ilog2() as usize,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            codebook: VectorConfig {
                codebook_size: self.codebook_size,
                width: self.embed_dim,
                l2_normalize: false,
            },
        };
        config.validate().map_err(|source| FamilyError::Part {
            family: FAMILY,
            source,
        })?;
        let mut attending = config.attention.clone();
        attending.push(levels - 1);
        let mut widths = attending
            .iter()
            .map(|level| self.base_channels * self.channel_multiplier[*level]);
        match widths.find(|width| *width != self.hidden_size) {
            Some(width) => {
                let found = self.hidden_size.to_string();
                let expected = format!("{width}, the channels that it attends over");
                Err(refused(FAMILY, "hidden_size", &found, &expected))
            }
            None => Ok(config),
        }
    }
}

/// The tokenizer with published weights.
///
/// # Errors
/// [`FamilyError`] if the configuration or the weights do not fit.
pub fn build(
    config: &Config,
    checkpoint: Checkpoint,
    device: &Device,
) -> Result<VqVideo, FamilyError> {
    let table = KeyTable::parse("emu3_vq.keys.toml", KEYS)?;
    let checkpoint = table.apply(checkpoint, &BTreeMap::new())?;
    Ok(load(config.tokenizer()?.init(device), &checkpoint, "")?)
}
