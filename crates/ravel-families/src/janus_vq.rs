//! Janus' image tokenizer (Wu et al. 2024, section 3.1) as the transformers library has it: LlamaGen's, but codes are compared as
//! they are, and read by the decoder at unit length.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_nn::conv::{AutoencoderConfig, VqGanConfig};
use ravel_quant::VectorConfig;
use ravel_weights::{Checkpoint, KeyTable, load};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vq_image::{VqImage, VqImageConfig};

use crate::{FamilyError, refused};

const FAMILY: &str = "janus_vq";
const KEYS: &str = include_str!("../keys/janus_vq.keys.toml");

/// What the reference's model takes, with its defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Numbers in one code.
    pub embed_dim: usize,
    /// Codes.
    pub num_embeddings: usize,
    /// Twice the encoder's channels: the reference's next layer then fails, so it is refused.
    pub double_latent: bool,
    /// Channels between encoder and quantizer.
    pub latent_channels: usize,
    /// Codes a side.
    pub num_patches: usize,
    /// Channels of a picture that is read.
    pub in_channels: usize,
    /// Channels of a picture that is made.
    pub out_channels: usize,
    /// Channels at the finest grid.
    pub base_channels: usize,
    /// Channels of each level as multiples of `base_channels`.
    pub channel_multiplier: Vec<usize>,
    /// Residual blocks of each level.
    pub num_res_blocks: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embed_dim: 8,
            num_embeddings: 16_384,
            double_latent: false,
            latent_channels: 256,
            num_patches: 32,
            in_channels: 3,
            out_channels: 3,
            base_channels: 128,
            channel_multiplier: vec![1, 1, 2, 2, 4],
            num_res_blocks: 2,
        }
    }
}

impl Config {
    /// The tokenizer for pictures of `num_patches` codes a side.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names what the reference cannot run either.
    pub fn tokenizer(&self) -> Result<VqImageConfig, FamilyError> {
        if self.double_latent {
            return Err(refused(FAMILY, "double_latent", "true", "false"));
        }
        let autoencoder = AutoencoderConfig::VqGan(VqGanConfig {
            channels: self.base_channels,
            multiples: self.channel_multiplier.clone(),
            blocks: self.num_res_blocks,
            z_channels: self.latent_channels,
            code_kernel: 1,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            ..VqGanConfig::default()
        });
        let config = VqImageConfig {
            size: self.num_patches * autoencoder.stride(),
            autoencoder,
            codebook: VectorConfig {
                codebook_size: self.num_embeddings,
                width: self.embed_dim,
                l2_normalize: false,
            },
            unit_vectors: true,
        };
        config.validate().map_err(|source| FamilyError::Part {
            family: FAMILY,
            source,
        })?;
        Ok(config)
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
) -> Result<VqImage, FamilyError> {
    let table = KeyTable::parse("janus_vq.keys.toml", KEYS)?;
    let checkpoint = table.apply(checkpoint, &BTreeMap::new())?;
    Ok(load(config.tokenizer()?.init(device), &checkpoint, "")?)
}
