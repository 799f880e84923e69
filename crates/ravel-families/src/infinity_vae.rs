//! Infinity's image tokenizer (Han et al. 2024, section 3.2): a convolutional encoder and decoder without attention around the
//! multi-scale quantizer by bits.
//!
//! Published: `infinity_vae_d16.pth`, `_d24`, `_d32`, `_d32reg` and `_d64`, 16 pixels a side for a position.

use std::collections::BTreeMap;

use burn::tensor::Device;
use multiscale_image::{BitwiseImage, BitwiseImageConfig};
use ravel_nn::conv::{AutoencoderConfig, VqGanConfig};
use ravel_quant::MultiscaleBinaryConfig;
use ravel_weights::{Checkpoint, KeyTable, load};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FamilyError, refused};

const FAMILY: &str = "infinity_vae";
const KEYS: &str = include_str!("../keys/infinity_vae.keys.toml");

/// What the reference's model takes, with the published tokenizers' values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Bits of a position, and channels of a latent.
    pub codebook_dim: usize,
    /// Channels at the finest grid.
    pub base_ch: usize,
    /// Channels of the encoder's levels as multiples of `base_ch`.
    pub encoder_ch_mult: Vec<usize>,
    /// Channels of the decoder's levels.
    pub decoder_ch_mult: Vec<usize>,
    /// Residual blocks of each level.
    pub num_res_blocks: usize,
    /// Pixels a side of a position.
    pub patch_size: usize,
    /// `yes` for attention in the middle.
    pub cnn_attention: String,
    /// Time, height and width of the scales in positions, coarsest first.
    pub scale_schedule: Vec<[usize; 3]>,
    /// Whether four cells make a position.
    pub apply_spatial_patchify: bool,
}

impl Default for Config {
    fn default() -> Self {
        let sides = [1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64];
        Self {
            codebook_dim: 32,
            base_ch: 128,
            encoder_ch_mult: vec![1, 2, 4, 4, 4],
            decoder_ch_mult: vec![1, 2, 4, 4, 4],
            num_res_blocks: 2,
            patch_size: 16,
            cnn_attention: "no".into(),
            scale_schedule: sides.map(|side| [1, side, side]).into(),
            apply_spatial_patchify: false,
        }
    }
}

impl Config {
    /// The tokenizer for pictures of the last scale's size.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names what is not built here.
    pub fn tokenizer(&self) -> Result<BitwiseImageConfig, FamilyError> {
        if self.encoder_ch_mult != self.decoder_ch_mult {
            let found = format!("{:?}", self.decoder_ch_mult);
            let expected = format!("{:?}, as encoder_ch_mult", self.encoder_ch_mult);
            return Err(refused(FAMILY, "decoder_ch_mult", &found, &expected));
        }
        let levels = self.encoder_ch_mult.len();
        if levels == 0 || levels > 12 || self.patch_size != 1 << (levels - 1) {
            let found = self.patch_size.to_string();
            let expected = format!("2 to the power of {levels} levels less one");
            return Err(refused(FAMILY, "patch_size", &found, &expected));
        }
        let patch = if self.apply_spatial_patchify { 2 } else { 1 };
        let cells = |[time, rows, columns]: &[usize; 3]| [*time, rows * patch, columns * patch];
        let scales: Vec<[usize; 3]> = self.scale_schedule.iter().map(cells).collect();
        let last = scales.last().copied().unwrap_or_default();
        let config = BitwiseImageConfig {
            size: [last[1] * self.patch_size, last[2] * self.patch_size],
            autoencoder: AutoencoderConfig::VqGan(VqGanConfig {
                channels: self.base_ch,
                multiples: self.encoder_ch_mult.clone(),
                blocks: self.num_res_blocks,
                z_channels: self.codebook_dim,
                code_kernel: 0,
                attention: Some(Vec::new()),
                middle_attention: self.cnn_attention == "yes",
                ..VqGanConfig::default()
            }),
            quantizer: MultiscaleBinaryConfig {
                width: self.codebook_dim,
                bits: self.codebook_dim,
                scales,
                norm: false,
                decay: false,
            },
            patch,
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
) -> Result<BitwiseImage, FamilyError> {
    let module = config.tokenizer()?.init(device);
    let table = KeyTable::parse("infinity_vae.keys.toml", KEYS)?;
    let last = config.encoder_ch_mult.len() - 1;
    let variables = BTreeMap::from([("last".to_string(), last)]);
    let checkpoint = table.apply(checkpoint, &variables)?;
    Ok(load(module, &checkpoint, "")?)
}
