//! The tokenizers that a definition can name, and what their codes look like.

use causal_video::{CausalVideoConfig, PerFrame};
use multirate_codec::SnacConfig;
use multiscale_image::MultiscaleImageConfig;
use ravel_core::{ImageSpec, VideoSpec};
use ravel_families::{
    FamilyError, chameleon_vq, cosmos_dv, emu3_vq, infinity_vae, janus_vq, kl_vae, llamagen_vq, var,
};
use rvq_codec::{DacConfig, EncodecConfig, FireflyConfig, MimiConfig, SpectralConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vq_image::VqImageConfig;

use crate::sizes::Sizes;

/// What turns codes into signals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "kebab-case")]
pub enum TokenizerPart {
    /// One grid of codes.
    VqImage {
        /// File with the weights.
        weights: String,
        /// Sizes.
        config: VqImageConfig,
    },
    /// A coarse-to-fine pyramid of codes.
    MultiscaleImage {
        /// File with the weights.
        weights: String,
        /// Sizes.
        config: MultiscaleImageConfig,
    },
    /// LlamaGen's image tokenizer as it was published.
    LlamagenVq {
        /// File with the weights.
        weights: String,
        /// Pixels of a picture's side.
        size: usize,
        /// Sizes, in the words of its code; those that were published where nothing is said.
        #[serde(default)]
        config: Sizes<llamagen_vq::Config>,
    },
    /// VAR's image tokenizer as it was published.
    VarVqvae {
        /// File with the weights.
        weights: String,
        /// Sizes, in the words of its code; those that were published where nothing is said.
        #[serde(default)]
        config: Sizes<var::TokenizerConfig>,
    },
    /// Janus' image tokenizer as it was published.
    JanusVq {
        /// File with the weights, of the tokenizer alone or of the whole model.
        weights: String,
        /// Sizes, in the words of its code; those that were published where nothing is said.
        #[serde(default)]
        config: Sizes<janus_vq::Config>,
    },
    /// Chameleon's image tokenizer as it was published: it reads pictures and makes none.
    ChameleonVq {
        /// File with the weights, of the tokenizer alone or of the whole model.
        weights: String,
        /// Sizes, in the words of its code; those that were published where nothing is said.
        #[serde(default)]
        config: Sizes<chameleon_vq::Config>,
    },
    /// Infinity's image tokenizer as it was published: a pyramid of bits.
    InfinityVae {
        /// File with the weights.
        weights: String,
        /// Sizes, in the words of its code; those that were published where nothing is said.
        #[serde(default)]
        config: Sizes<infinity_vae::Config>,
    },
    /// MAR's autoencoder as it was published: latents to pictures, without codes.
    KlVae {
        /// File with the weights.
        weights: String,
        /// Sizes, in the words of its code; those that were published where nothing is said.
        #[serde(default)]
        config: Sizes<kl_vae::Config>,
    },
    /// A first frame, then how groups of frames change.
    CausalVideo {
        /// File with the weights.
        weights: String,
        /// Sizes.
        config: CausalVideoConfig,
    },
    /// Emu3's video tokenizer as it was published.
    Emu3Vq {
        /// File with the weights, of the tokenizer alone or of the whole model.
        weights: String,
        /// Sizes, in the words of its code; those that were published where nothing is said.
        #[serde(default)]
        config: Sizes<emu3_vq::Config>,
    },
    /// Cosmos' discrete video tokenizer as it was published.
    CosmosDv {
        /// File with the weights.
        weights: String,
        /// Sizes, in the words of its code.
        config: Sizes<cosmos_dv::Config>,
    },
    /// EnCodec as it was published.
    Encodec {
        /// File with the weights.
        weights: String,
        /// Sizes.
        #[serde(default)]
        config: EncodecConfig,
    },
    /// The Descript audio codec as it was published.
    Dac {
        /// File with the weights.
        weights: String,
        /// Sizes.
        #[serde(default)]
        config: DacConfig,
    },
    /// SNAC as it was published.
    Snac {
        /// File with the weights.
        weights: String,
        /// Sizes.
        #[serde(default)]
        config: SnacConfig,
    },
    /// Mimi as it was published.
    Mimi {
        /// File with the weights.
        weights: String,
        /// Sizes.
        #[serde(default)]
        config: MimiConfig,
    },
    /// Fish-Speech's firefly codec as it was published.
    Firefly {
        /// File with the weights.
        weights: String,
        /// Sizes.
        #[serde(default)]
        config: FireflyConfig,
    },
    /// The compact codec that is trained here: residual codes, back through spectra.
    SpectralCodec {
        /// File with the weights.
        weights: String,
        /// Sizes.
        #[serde(default)]
        config: SpectralConfig,
    },
}

impl TokenizerPart {
    /// The kind as definitions write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::VqImage { .. } => "vq-image",
            Self::MultiscaleImage { .. } => "multiscale-image",
            Self::LlamagenVq { .. } => "llamagen-vq",
            Self::VarVqvae { .. } => "var-vqvae",
            Self::JanusVq { .. } => "janus-vq",
            Self::ChameleonVq { .. } => "chameleon-vq",
            Self::InfinityVae { .. } => "infinity-vae",
            Self::KlVae { .. } => "kl-vae",
            Self::CausalVideo { .. } => "causal-video",
            Self::Emu3Vq { .. } => "emu3-vq",
            Self::CosmosDv { .. } => "cosmos-dv",
            Self::Encodec { .. } => "encodec",
            Self::Dac { .. } => "dac",
            Self::Snac { .. } => "snac",
            Self::Mimi { .. } => "mimi",
            Self::Firefly { .. } => "firefly",
            Self::SpectralCodec { .. } => "spectral-codec",
        }
    }

    /// File with the weights.
    pub fn weights(&self) -> &str {
        match self {
            Self::VqImage { weights, .. }
            | Self::MultiscaleImage { weights, .. }
            | Self::LlamagenVq { weights, .. }
            | Self::VarVqvae { weights, .. }
            | Self::JanusVq { weights, .. }
            | Self::ChameleonVq { weights, .. }
            | Self::InfinityVae { weights, .. }
            | Self::KlVae { weights, .. }
            | Self::CausalVideo { weights, .. }
            | Self::Emu3Vq { weights, .. }
            | Self::CosmosDv { weights, .. }
            | Self::Encodec { weights, .. }
            | Self::Dac { weights, .. }
            | Self::Snac { weights, .. }
            | Self::Mimi { weights, .. }
            | Self::Firefly { weights, .. }
            | Self::SpectralCodec { weights, .. } => weights,
        }
    }

    /// What the codes of pictures look like.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] names the field that no image tokenizer can be built from.
    pub fn spec(&self) -> ravel_core::Result<ImageSpec> {
        match self {
            Self::VqImage { config, .. } => config.validate().map(|()| config.spec()),
            Self::MultiscaleImage { config, .. } => config.validate().map(|()| config.spec()),
            Self::LlamagenVq { config, size, .. } => {
                let config = config.0.tokenizer(*size);
                config.validate().map(|()| config.spec())
            }
            Self::VarVqvae { config, .. } => {
                let config = config.0.tokenizer();
                config.validate().map(|()| config.spec())
            }
            Self::JanusVq { config, .. } => of_part(config.0.tokenizer()).map(|c| c.spec()),
            Self::ChameleonVq { config, .. } => of_part(config.0.tokenizer()).map(|c| c.spec()),
            Self::InfinityVae { config, .. } => of_part(config.0.tokenizer()).map(|c| c.spec()),
            other => Err(ravel_core::Error::Config {
                field: "tokenizer.kind".into(),
                found: other.kind().into(),
                expected: "a tokenizer of pictures".into(),
            }),
        }
    }

    /// What the codes of video look like; image tokenizers code it frame by frame.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] names the field that no video tokenizer can be built from.
    pub fn video_spec(&self) -> ravel_core::Result<VideoSpec> {
        match self {
            Self::CausalVideo { config, .. } => config.validate().map(|()| config.spec()),
            Self::Emu3Vq { .. } | Self::CosmosDv { .. } => Err(ravel_core::Error::Config {
                field: "tokenizer.kind".into(),
                found: self.kind().into(),
                expected: "one whose codes can be continued from any frame".into(),
            }),
            image => PerFrame::spec_of(&image.spec()?),
        }
    }
}

/// What a reader of a configuration says, without the family's name.
pub(crate) fn of_part<T>(read: Result<T, FamilyError>) -> ravel_core::Result<T> {
    read.map_err(|error| match error {
        FamilyError::Part { source, .. } => source,
        other => ravel_core::Error::Config {
            field: "tokenizer.config".into(),
            found: other.to_string(),
            expected: "sizes that fit".into(),
        },
    })
}
