//! The Descript audio codec (Kumar et al. 2023).
//!
//! Published: `descript/dac_16khz`, `dac_24khz` and `dac_44khz` as the transformers library writes them, and `weights_*.pth` as
//! Descript's package does, with weight norm and other names.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_weights::{Checkpoint, KeyTable, load};
use rvq_codec::{Dac, DacConfig, DacTokenizer};
use serde::Deserialize;

use crate::FamilyError;

const FAMILY: &str = "dac";
const HUB_KEYS: &str = include_str!("../keys/dac_hub.keys.toml");
pub(crate) const SNAKE_NET_KEYS: &str = include_str!("../keys/snake_net.keys.toml");
/// A name that only the transformers library writes.
const HUB_NAME: &str = "encoder.conv1.weight";

/// What `config.json` holds; the values at 16 kHz, the reference's defaults, where a key is absent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels after the encoder's first convolution.
    pub encoder_hidden_size: usize,
    /// The encoder's strides.
    pub downsampling_ratios: Vec<usize>,
    /// Channels after the decoder's first convolution.
    pub decoder_hidden_size: usize,
    /// The decoder's strides; the encoder's in reverse if unset.
    pub upsampling_ratios: Option<Vec<usize>>,
    /// Channels of the latents; those after the encoder's last stride if unset.
    pub hidden_size: Option<usize>,
    /// Codebooks.
    pub n_codebooks: usize,
    /// Ids in each.
    pub codebook_size: usize,
    /// Numbers in one row.
    pub codebook_dim: usize,
    /// Samples in a second.
    pub sampling_rate: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            encoder_hidden_size: 64,
            downsampling_ratios: vec![2, 4, 8, 8],
            decoder_hidden_size: 1536,
            upsampling_ratios: None,
            hidden_size: None,
            n_codebooks: 9,
            codebook_size: 1024,
            codebook_dim: 8,
            sampling_rate: 16_000,
        }
    }
}

impl Config {
    /// The codec.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible.
    pub fn tokenizer(&self) -> Result<DacConfig, FamilyError> {
        let reversed = || self.downsampling_ratios.iter().rev().copied().collect();
        let levels = self.downsampling_ratios.len().min(16);
        let config = DacConfig {
            sample_rate_hz: self.sampling_rate,
            encoder_width: self.encoder_hidden_size,
            encoder_strides: self.downsampling_ratios.clone(),
            latent_width: self
                .hidden_size
                .unwrap_or(self.encoder_hidden_size.saturating_mul(1 << levels)),
            decoder_width: self.decoder_hidden_size,
            decoder_strides: self.upsampling_ratios.clone().unwrap_or_else(reversed),
            depth: self.n_codebooks,
            codebook_size: self.codebook_size,
            code_width: self.codebook_dim,
            encode_depth: None,
        };
        config.validate().map_err(|source| FamilyError::Part {
            family: FAMILY,
            source,
        })?;
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
    ) -> Result<DacTokenizer, FamilyError> {
        let config = self.tokenizer()?;
        Ok(DacTokenizer::new(
            module(&config, checkpoint, device)?,
            &config,
        ))
    }
}

/// The weights of a codec under either of their published names.
///
/// # Errors
/// [`FamilyError::Weights`] if they do not fit.
pub fn module(
    config: &DacConfig,
    checkpoint: Checkpoint,
    device: &Device,
) -> Result<Dac, FamilyError> {
    let checkpoint = checkpoint.fold_weight_norm()?;
    let levels = [
        ("encoder_levels", config.encoder_strides.len()),
        ("decoder_levels", config.decoder_strides.len()),
    ];
    let (table, variables) = match checkpoint.shape(HUB_NAME).is_some() {
        true => (
            KeyTable::parse("dac_hub.keys.toml", HUB_KEYS)?,
            levels.map(|(name, count)| (name.to_string(), count)).into(),
        ),
        false => (
            KeyTable::parse("snake_net.keys.toml", SNAKE_NET_KEYS)?,
            BTreeMap::new(),
        ),
    };
    let checkpoint = table.apply(checkpoint, &variables)?;
    Ok(load(config.init(device), &checkpoint, "")?)
}
