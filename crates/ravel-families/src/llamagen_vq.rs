//! LlamaGen's image tokenizer (Sun et al. 2024, section 2.1): a VQ-GAN with a codebook of unit rows.
//!
//! Published: `vq_ds16_c2i.pt`, `vq_ds16_t2i.pt` (16 pixels a side per code) and `vq_ds8_c2i.pt` (8 pixels).

use burn::tensor::Device;
use ravel_nn::conv::{AutoencoderConfig, VqGanConfig};
use ravel_quant::VectorConfig;
use ravel_weights::{Checkpoint, load};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vq_image::{VqImage, VqImageConfig};

use crate::{FamilyError, of_family, renamed};

/// The family's name.
pub const NAME: &str = "llamagen_vq";
/// The key table, by name and text.
pub const KEYS: (&str, &str) = (
    "llamagen_vq.keys.toml",
    include_str!("../keys/llamagen_vq.keys.toml"),
);

/// What the reference's model takes; the values of VQ-16 where a key is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Channels at the finest grid.
    pub ch: usize,
    /// Channels of each level as multiples of `ch`.
    pub ch_mult: Vec<usize>,
    /// Residual blocks of each level.
    pub num_res_blocks: usize,
    /// Channels between encoder and quantizer.
    pub z_channels: usize,
    /// Channels of pictures in.
    pub in_channels: usize,
    /// Channels of pictures out.
    pub out_channels: usize,
    /// Codes.
    pub codebook_size: usize,
    /// Numbers in one code.
    pub codebook_embed_dim: usize,
    /// Whether codes are compared at unit length.
    pub codebook_l2_norm: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ch: 128,
            ch_mult: vec![1, 1, 2, 2, 4],
            num_res_blocks: 2,
            z_channels: 256,
            in_channels: 3,
            out_channels: 3,
            codebook_size: 16_384,
            codebook_embed_dim: 8,
            codebook_l2_norm: true,
        }
    }
}

impl Config {
    /// The tokenizer for pictures of `size` pixels a side.
    pub fn tokenizer(&self, size: usize) -> VqImageConfig {
        VqImageConfig {
            size,
            autoencoder: AutoencoderConfig::VqGan(VqGanConfig {
                channels: self.ch,
                multiples: self.ch_mult.clone(),
                blocks: self.num_res_blocks,
                z_channels: self.z_channels,
                in_channels: self.in_channels,
                out_channels: self.out_channels,
                code_kernel: 1,
                ..VqGanConfig::default()
            }),
            codebook: VectorConfig {
                codebook_size: self.codebook_size,
                width: self.codebook_embed_dim,
                l2_normalize: self.codebook_l2_norm,
            },
            unit_vectors: false,
        }
    }

    /// The tokenizer's weights.
    ///
    /// # Errors
    /// [`FamilyError`] if a size is impossible or the checkpoint does not fit.
    pub fn load(&self, checkpoint: Checkpoint, device: &Device) -> Result<VqImage, FamilyError> {
        let config = self.tokenizer(1 << self.ch_mult.len());
        config.validate().map_err(of_family(NAME))?;
        let checkpoint = renamed(KEYS, checkpoint, &[])?;
        Ok(load(config.init(device), &checkpoint, "")?)
    }
}
