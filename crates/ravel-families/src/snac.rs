//! SNAC (Siuzdak et al. 2024).
//!
//! Published: `hubertsiuzdak/snac_24khz`, `snac_32khz` and `snac_44khz`.

use std::collections::BTreeMap;

use burn::tensor::Device;
use multirate_codec::{Snac, SnacConfig, SnacTokenizer};
use ravel_weights::{Checkpoint, KeyTable, load};
use serde::Deserialize;

use crate::dac::SNAKE_NET_KEYS;
use crate::{FamilyError, refused};

const FAMILY: &str = "snac";

/// What `config.json` holds; the reference's defaults where a key is absent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Samples in a second.
    pub sampling_rate: u32,
    /// Channels after the encoder's first convolution.
    pub encoder_dim: usize,
    /// The encoder's strides.
    pub encoder_rates: Vec<usize>,
    /// Channels of the latents: those after the encoder's last stride.
    pub latent_dim: Option<usize>,
    /// Channels after the decoder's first convolution.
    pub decoder_dim: usize,
    /// The decoder's strides.
    pub decoder_rates: Vec<usize>,
    /// Frames of an attention window; `null` for no attention.
    pub attn_window_size: Option<usize>,
    /// Ids in each codebook.
    pub codebook_size: usize,
    /// Numbers in one row.
    pub codebook_dim: usize,
    /// Frames that one id of each codebook stands for.
    pub vq_strides: Vec<usize>,
    /// Whether the decoder adds noise.
    pub noise: bool,
    /// Whether wide convolutions stay within a channel.
    pub depthwise: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sampling_rate: 44_100,
            encoder_dim: 64,
            encoder_rates: vec![3, 3, 7, 7],
            latent_dim: None,
            decoder_dim: 1536,
            decoder_rates: vec![7, 7, 3, 3],
            attn_window_size: Some(32),
            codebook_size: 4096,
            codebook_dim: 8,
            vq_strides: vec![8, 4, 2, 1],
            noise: true,
            depthwise: true,
        }
    }
}

impl Config {
    /// The codec.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible.
    pub fn tokenizer(&self) -> Result<SnacConfig, FamilyError> {
        let config = SnacConfig {
            sample_rate_hz: self.sampling_rate,
            encoder_width: self.encoder_dim,
            encoder_strides: self.encoder_rates.clone(),
            decoder_width: self.decoder_dim,
            decoder_strides: self.decoder_rates.clone(),
            attention_window: self.attn_window_size,
            codebook_size: self.codebook_size,
            code_width: self.codebook_dim,
            code_strides: self.vq_strides.clone(),
            noise: self.noise,
            depthwise: self.depthwise,
        };
        config.validate().map_err(|source| FamilyError::Part {
            family: FAMILY,
            source,
        })?;
        let deepest = self.encoder_dim << self.encoder_rates.len();
        match self.latent_dim {
            Some(latent) if latent != deepest => {
                let expected = format!("{deepest}, the channels after the last stride");
                Err(refused(
                    FAMILY,
                    "latent_dim",
                    &latent.to_string(),
                    &expected,
                ))
            }
            _ => Ok(config),
        }
    }

    /// Builds the codec from weights under their published names.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, [`FamilyError::Weights`] if the weights do not fit.
    pub fn build(
        &self,
        checkpoint: Checkpoint,
        device: &Device,
    ) -> Result<SnacTokenizer, FamilyError> {
        let config = self.tokenizer()?;
        Ok(SnacTokenizer::new(
            module(&config, checkpoint, device)?,
            &config,
        ))
    }
}

/// The weights of a codec under their published names.
///
/// # Errors
/// [`FamilyError::Weights`] if they do not fit.
pub fn module(
    config: &SnacConfig,
    checkpoint: Checkpoint,
    device: &Device,
) -> Result<Snac, FamilyError> {
    let table = KeyTable::parse("snake_net.keys.toml", SNAKE_NET_KEYS)?;
    let checkpoint = table.apply(checkpoint.fold_weight_norm()?, &BTreeMap::new())?;
    Ok(load(config.init(device), &checkpoint, "")?)
}
