//! Chameleon's image tokenizer (Chameleon Team 2024, section 2.1) as the transformers library has it: a VQ-GAN's encoder and
//! codebook. The library has no decoder, so neither has what is built here.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_nn::conv::{AutoencoderConfig, VqGanConfig};
use ravel_quant::VectorConfig;
use ravel_weights::{Checkpoint, KeyTable, load};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vq_image::{VqImageConfig, VqImageReader};

use crate::{FamilyError, refused};

const FAMILY: &str = "chameleon_vq";
const KEYS: &str = include_str!("../keys/chameleon_vq.keys.toml");

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
    /// Pixels a side that attention's resolutions are counted from.
    pub resolution: usize,
    /// Channels of a picture.
    pub in_channels: usize,
    /// Channels at the finest grid.
    pub base_channels: usize,
    /// Channels of each level as multiples of `base_channels`.
    pub channel_multiplier: Vec<usize>,
    /// Residual blocks of each level.
    pub num_res_blocks: usize,
    /// Sides of the grids with attention.
    pub attn_resolutions: Option<Vec<usize>>,
    /// `vanilla`, or anything else for no attention at all.
    pub attn_type: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embed_dim: 256,
            num_embeddings: 8192,
            double_latent: false,
            latent_channels: 256,
            resolution: 512,
            in_channels: 3,
            base_channels: 128,
            channel_multiplier: vec![1, 1, 2, 2, 4],
            num_res_blocks: 2,
            attn_resolutions: None,
            attn_type: Some("vanilla".into()),
        }
    }
}

impl Config {
    /// The tokenizer for pictures of the configuration's resolution.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names what the reference cannot run either.
    pub fn tokenizer(&self) -> Result<VqImageConfig, FamilyError> {
        if self.double_latent {
            return Err(refused(FAMILY, "double_latent", "true", "false"));
        }
        let attends = self.attn_type.as_deref() == Some("vanilla");
        let sides = self.attn_resolutions.as_deref().unwrap_or_default();
        let levels = 0..self.channel_multiplier.len();
        let attending =
            levels.filter(|level| attends && sides.contains(&(self.resolution >> level)));
        let config = VqImageConfig {
            size: self.resolution,
            autoencoder: AutoencoderConfig::VqGan(VqGanConfig {
                channels: self.base_channels,
                multiples: self.channel_multiplier.clone(),
                blocks: self.num_res_blocks,
                z_channels: self.latent_channels,
                code_kernel: 1,
                attention: Some(attending.collect()),
                middle_attention: attends,
                in_channels: self.in_channels,
                ..VqGanConfig::default()
            }),
            codebook: VectorConfig {
                codebook_size: self.num_embeddings,
                width: self.embed_dim,
                l2_normalize: false,
            },
            unit_vectors: false,
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
) -> Result<VqImageReader, FamilyError> {
    let table = KeyTable::parse("chameleon_vq.keys.toml", KEYS)?;
    let checkpoint = table.apply(checkpoint, &BTreeMap::new())?;
    let module = config.tokenizer()?.init_reader(device);
    Ok(load(module, &checkpoint, "")?)
}
