//! MAR (Li et al. 2024): latents of a picture filled in by two transformers and a diffusion head.
//!
//! Published: `checkpoint-last.pth` of MAR-B, -L and -H, on latents of 16 channels, one for 16×16 pixels.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_heads::{DiffusionHeadConfig, MaskedLatent, MaskedLatentConfig, NoiseSchedule};
use ravel_nn::{Activation, DenoiserConfig, NormKind};
use ravel_weights::{Checkpoint, KeyTable, load};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FamilyError, refused};

const FAMILY: &str = "mar";
const KEYS: &str = include_str!("../keys/mar.keys.toml");

/// What the reference's model and its sampling take, with their defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Pixels a side.
    pub img_size: usize,
    /// Pixels a side that one latent stands for.
    pub vae_stride: usize,
    /// Latents a side of a patch.
    pub patch_size: usize,
    /// Width of the transformer that reads what is known.
    pub encoder_embed_dim: usize,
    /// Its blocks.
    pub encoder_depth: usize,
    /// Its heads.
    pub encoder_num_heads: usize,
    /// Width of the transformer that reads the whole row.
    pub decoder_embed_dim: usize,
    /// Its blocks.
    pub decoder_depth: usize,
    /// Its heads.
    pub decoder_num_heads: usize,
    /// Width between the products of a feed-forward layer over that of its transformer.
    pub mlp_ratio: f64,
    /// Channels of a latent.
    pub vae_embed_dim: usize,
    /// Classes.
    pub class_num: usize,
    /// Copies of the class vector.
    pub buffer_size: usize,
    /// Layers of the diffusion head.
    pub diffloss_d: usize,
    /// Width of the diffusion head.
    pub diffloss_w: usize,
    /// Steps of the diffusion when sampling: a count, or sections.
    pub num_sampling_steps: Spacing,
    /// `cosine`, or `linear`.
    pub noise_schedule: String,
    /// ε of the transformers' norms.
    pub norm_eps: f64,
    /// Rounds of filling in.
    pub num_iter: usize,
    /// Guidance as the reference counts it: 1 for none.
    pub cfg: f64,
    /// `linear`, growing with what is known, or `constant`.
    pub cfg_schedule: String,
    /// Factor on the noise.
    pub temperature: f64,
}

/// A count of steps or, as the reference also takes it, a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Spacing {
    /// So many, evenly.
    Count(usize),
    /// `100`, `10,20`, `ddim50`.
    Text(String),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            img_size: 256,
            vae_stride: 16,
            patch_size: 1,
            encoder_embed_dim: 1024,
            encoder_depth: 16,
            encoder_num_heads: 16,
            decoder_embed_dim: 1024,
            decoder_depth: 16,
            decoder_num_heads: 16,
            mlp_ratio: 4.0,
            vae_embed_dim: 16,
            class_num: 1000,
            buffer_size: 64,
            diffloss_d: 3,
            diffloss_w: 1024,
            num_sampling_steps: Spacing::Text("100".into()),
            noise_schedule: "cosine".into(),
            norm_eps: 1e-6,
            num_iter: 64,
            cfg: 1.0,
            cfg_schedule: "linear".into(),
            temperature: 1.0,
        }
    }
}

impl Config {
    /// Patches a side.
    pub fn side(&self) -> usize {
        self.img_size / self.vae_stride.max(1) / self.patch_size.max(1)
    }

    /// The transformer that reads what is known.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names what cannot be built.
    pub fn encoder(&self) -> Result<TransformerConfig, FamilyError> {
        self.transformer(
            self.encoder_embed_dim,
            self.encoder_depth,
            self.encoder_num_heads,
        )
    }

    /// The transformer that reads the whole row.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names what cannot be built.
    pub fn decoder(&self) -> Result<TransformerConfig, FamilyError> {
        self.transformer(
            self.decoder_embed_dim,
            self.decoder_depth,
            self.decoder_num_heads,
        )
    }

    fn transformer(
        &self,
        d_model: usize,
        layers: usize,
        n_heads: usize,
    ) -> Result<TransformerConfig, FamilyError> {
        let config = TransformerConfig {
            layers,
            d_model,
            n_heads,
            d_ff: Some((d_model as f64 * self.mlp_ratio) as usize),
            norm: NormKind::Layer,
            norm_eps: self.norm_eps,
            activation: Activation::Gelu,
            bias: true,
            ..TransformerConfig::default()
        };
        config.validate().map_err(part)?;
        Ok(config)
    }

    /// The parts beside the transformers.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names what cannot be built.
    pub fn head(&self) -> Result<MaskedLatentConfig, FamilyError> {
        let schedule = match self.noise_schedule.as_str() {
            "cosine" => NoiseSchedule::Cosine,
            "linear" => NoiseSchedule::Linear,
            other => {
                let known = "cosine or linear";
                return Err(refused(FAMILY, "noise_schedule", other, known));
            }
        };
        let config = MaskedLatentConfig {
            positions: self.side() * self.side(),
            buffer: self.buffer_size,
            classes: self.class_num,
            encoder_width: self.encoder_embed_dim,
            diffusion: DiffusionHeadConfig {
                denoiser: DenoiserConfig {
                    target_width: self.vae_embed_dim * self.patch_size * self.patch_size,
                    condition_width: self.decoder_embed_dim,
                    width: self.diffloss_w,
                    layers: self.diffloss_d,
                },
                schedule,
                steps: 1000,
                sampled: match &self.num_sampling_steps {
                    Spacing::Count(count) => count.to_string(),
                    Spacing::Text(text) => text.clone(),
                },
            },
        };
        config.validate().map_err(part)?;
        Ok(config)
    }

    /// Whether guidance grows with what is known.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if it does neither that nor stay the same.
    pub fn guidance_ramps(&self) -> Result<bool, FamilyError> {
        match self.cfg_schedule.as_str() {
            "linear" => Ok(true),
            "constant" => Ok(false),
            other => {
                let known = "linear or constant";
                Err(refused(FAMILY, "cfg_schedule", other, known))
            }
        }
    }
}

fn part(source: ravel_core::Error) -> FamilyError {
    FamilyError::Part {
        family: FAMILY,
        source,
    }
}

/// The built parts.
#[derive(Debug)]
pub struct Mar {
    /// Reads what is known.
    pub encoder: Transformer,
    /// Reads the whole row.
    pub decoder: Transformer,
    /// The rest.
    pub head: MaskedLatent,
}

/// The parts with published weights.
///
/// # Errors
/// [`FamilyError`] if the configuration or the weights do not fit.
pub fn build(config: &Config, checkpoint: Checkpoint, device: &Device) -> Result<Mar, FamilyError> {
    let table = KeyTable::parse("mar.keys.toml", KEYS)?;
    let checkpoint = table.apply(checkpoint, &BTreeMap::new())?;
    Ok(Mar {
        encoder: load(config.encoder()?.init(device), &checkpoint, "encoder")?,
        decoder: load(config.decoder()?.init(device), &checkpoint, "decoder")?,
        head: load(config.head()?.init(device), &checkpoint, "head")?,
    })
}
