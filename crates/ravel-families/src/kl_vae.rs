//! The autoencoder of MAR (Li et al. 2024, section 5; after Rombach et al. 2022): latents to pictures.
//!
//! Published: `kl16.ckpt`, 16 channels, 16 pixels a side for a latent. Of it the decoder is read here: nothing that is made needs the
//! encoder. Its attention stands in the middle alone.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ravel_core::Images;
use ravel_nn::conv::{AutoencoderConfig, Decoder, VqGanConfig};
use ravel_weights::{Checkpoint, load};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FamilyError, of_family, refused, renamed};

/// The family's name.
pub const NAME: &str = "kl_vae";
const KEYS: (&str, &str) = ("kl_vae.keys.toml", include_str!("../keys/kl_vae.keys.toml"));

/// What the reference's autoencoder takes, with the published one's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Channels of a latent.
    pub embed_dim: usize,
    /// Channels at the finest grid.
    pub ch: usize,
    /// Channels of each level as multiples of `ch`.
    pub ch_mult: Vec<usize>,
    /// Residual blocks of each level; the decoder has one more.
    pub num_res_blocks: usize,
    /// What latents were multiplied by before a model learned them.
    pub scale_factor: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embed_dim: 16,
            ch: 128,
            ch_mult: vec![1, 1, 2, 2, 4],
            num_res_blocks: 2,
            scale_factor: 0.2325,
        }
    }
}

impl Config {
    /// Pixels a side that one latent stands for.
    pub fn stride(&self) -> usize {
        self.autoencoder().stride()
    }

    fn autoencoder(&self) -> AutoencoderConfig {
        AutoencoderConfig::VqGan(VqGanConfig {
            channels: self.ch,
            multiples: self.ch_mult.clone(),
            blocks: self.num_res_blocks,
            z_channels: self.embed_dim,
            attention: Some(Vec::new()),
            ..VqGanConfig::default()
        })
    }

    /// Checks that a decoder of pictures of `size` pixels a side can be built.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names what cannot be.
    pub fn validate(&self, size: usize) -> Result<(), FamilyError> {
        if !(self.scale_factor.is_finite() && self.scale_factor > 0.0) {
            let found = self.scale_factor.to_string();
            return Err(refused(NAME, "scale_factor", &found, "a positive number"));
        }
        self.autoencoder().validate(size).map_err(of_family(NAME))
    }

    /// A decoder with fresh weights, which are drawn when they are first read.
    pub fn init(&self, device: &Device) -> KlDecoder {
        let (_, decoder) = self.autoencoder().init(self.embed_dim, device);
        KlDecoder {
            decoder,
            scale: self.scale_factor,
        }
    }

    /// The decoder with published weights.
    ///
    /// # Errors
    /// [`FamilyError`] if a size is impossible or the weights do not fit.
    pub fn load(&self, checkpoint: Checkpoint, device: &Device) -> Result<KlDecoder, FamilyError> {
        self.validate(self.stride())?;
        let last = self.ch_mult.len().saturating_sub(1);
        let checkpoint = renamed(KEYS, checkpoint, &[("last", last)])?;
        Ok(load(self.init(device), &checkpoint, "")?)
    }
}

/// Latents to pictures.
#[derive(Module, Debug)]
pub struct KlDecoder {
    /// Without the encoder.
    pub decoder: Decoder,
    #[module(skip)]
    scale: f64,
}

impl KlDecoder {
    /// The pictures that latents stand for.
    ///
    /// # Shapes
    /// - `latents`: `[b, embed_dim, h, w]`, as a model learned them
    pub fn pictures(&self, latents: Tensor<4>) -> Images {
        let pixels = self.decoder.forward(latents / self.scale);
        Images {
            pixels: pixels.clamp(-1.0, 1.0),
        }
    }
}
