//! LlamaGen's transformer (Sun et al. 2024, section 2.2): LLaMA's blocks over a grid of codes, after a class or a caption.
//!
//! Published: `c2i_{B,L,XL,XXL,3B}_{256,384}.pt` and `t2i_XL_stage{1_256,2_512}.pt`. The condition's positions have no rotation: their
//! queries and keys are zero.

use burn::tensor::{Device, Tensor};
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{Condition, Layout};
use ravel_heads::{
    CaptionConfig, CaptionEmbedding, NextToken, NextTokenConfig, PrefixConfig, PrefixEmbedding,
    StartKind,
};
use ravel_nn::{Activation, Pairs, RotaryConfig};
use ravel_weights::Checkpoint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::whole::Whole;
use crate::{FamilyError, of_family, renamed};

/// The family's name.
pub const NAME: &str = "llamagen_gpt";
/// The key table, by name and text.
pub const KEYS: (&str, &str) = (
    "llamagen_gpt.keys.toml",
    include_str!("../keys/llamagen_gpt.keys.toml"),
);

/// What comes before the codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelType {
    /// A class.
    #[default]
    C2i,
    /// A caption's features.
    T2i,
}

/// What the reference's model takes; its own defaults where a key is absent, the sizes of GPT-B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Width.
    pub dim: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; `n_head` if absent.
    pub n_kv_head: Option<usize>,
    /// Feed-forward widths are multiples of this.
    pub multiple_of: usize,
    /// Multiplies the feed-forward width.
    pub ffn_dim_multiplier: Option<f64>,
    /// Of the rotary waves.
    pub rope_base: f64,
    /// Of the norms.
    pub norm_eps: f64,
    /// Classes, without the one for no class.
    pub num_classes: usize,
    /// Whether there is a class for no class: how often training drops the class.
    pub class_dropout_prob: f64,
    /// Width of a caption's features.
    pub caption_dim: usize,
    /// What comes before the codes.
    pub model_type: ModelType,
    /// Codes.
    pub vocab_size: usize,
    /// Positions of the condition.
    pub cls_token_num: usize,
    /// Positions of the codes: a square.
    pub block_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dim: 768,
            n_layer: 12,
            n_head: 12,
            n_kv_head: None,
            multiple_of: 256,
            ffn_dim_multiplier: None,
            rope_base: 10_000.0,
            norm_eps: 1e-5,
            num_classes: 1000,
            class_dropout_prob: 0.1,
            caption_dim: 2048,
            model_type: ModelType::C2i,
            vocab_size: 16_384,
            cls_token_num: 1,
            block_size: 256,
        }
    }
}

/// The built parts.
#[derive(Debug)]
pub struct Parts {
    /// What comes before the codes.
    pub prefix: Prefix,
    /// The blocks.
    pub backbone: Transformer,
    /// Codes in and scores out.
    pub head: NextToken,
}

/// Embeds what comes before the codes.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One per model.
pub enum Prefix {
    /// A class.
    Class(PrefixEmbedding),
    /// A caption's features.
    Caption(CaptionEmbedding),
}

impl Config {
    /// Width between the products of a feed-forward layer.
    pub fn d_ff(&self) -> usize {
        let whole = 2 * 4 * self.dim / 3;
        let scaled = match self.ffn_dim_multiplier {
            Some(by) => (by * whole as f64) as usize,
            None => whole,
        };
        scaled.next_multiple_of(self.multiple_of.max(1))
    }

    /// The blocks.
    pub fn backbone(&self) -> TransformerConfig {
        TransformerConfig {
            layers: self.n_layer,
            d_model: self.dim,
            n_heads: self.n_head,
            n_kv_heads: self.n_kv_head,
            d_ff: Some(self.d_ff()),
            norm_eps: self.norm_eps,
            activation: Activation::Silu,
            gated: true,
            rotary: Some(RotaryConfig {
                axes: 2,
                base: self.rope_base,
                pairs: Pairs::Interleaved,
                mute_negative: true,
                ..RotaryConfig::default()
            }),
            padding_sees_itself: true,
            ..TransformerConfig::default()
        }
    }

    /// Codes in and scores out.
    pub fn head(&self) -> NextTokenConfig {
        NextTokenConfig {
            codebook_size: self.vocab_size,
            start: StartKind::Prefix,
            positions: false,
            causal_prefix: true,
            ..NextTokenConfig::default()
        }
    }

    /// A class before the codes.
    pub fn classes(&self) -> PrefixConfig {
        PrefixConfig {
            vocabulary_size: self.num_classes + usize::from(self.class_dropout_prob > 0.0),
            len: 1,
            positions: false,
            ..PrefixConfig::default()
        }
    }

    /// A caption before the codes.
    pub fn captions(&self) -> CaptionConfig {
        CaptionConfig {
            feature_width: self.caption_dim,
            len: self.cls_token_num,
        }
    }

    /// How the codes are arranged.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] if they do not make a square.
    pub fn layout(&self) -> ravel_core::Result<Layout> {
        let side = self.block_size.isqrt();
        if side == 0 || side * side != self.block_size {
            return Err(ravel_core::Error::Config {
                field: "block_size".into(),
                found: self.block_size.to_string(),
                expected: "a square number".into(),
            });
        }
        Ok(Layout::Grid {
            height: side,
            width: side,
        })
    }

    /// Checks that the parts can be built.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> ravel_core::Result<()> {
        self.backbone().validate()?;
        self.head().validate()?;
        self.layout()?;
        match self.model_type {
            ModelType::C2i => self.classes().validate(),
            ModelType::T2i => self.captions().validate(),
        }
    }

    /// The parts with fresh weights, which are drawn when they are first read.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible.
    pub fn init(&self, device: &Device) -> Result<Parts, FamilyError> {
        self.validate().map_err(of_family(NAME))?;
        let (backbone, layout) = (self.backbone(), self.layout().map_err(of_family(NAME))?);
        let head = self.head().init(self.dim, backbone.axes(), &layout, device);
        Ok(Parts {
            prefix: match self.model_type {
                ModelType::C2i => Prefix::Class(self.classes().init(self.dim, device)),
                ModelType::T2i => Prefix::Caption(self.captions().init(self.dim, device)),
            },
            backbone: backbone.init(device),
            head,
        })
    }

    /// The parts with a checkpoint's weights.
    ///
    /// # Errors
    /// [`FamilyError`] if a size is impossible or the checkpoint does not fit.
    pub fn load(&self, checkpoint: Checkpoint, device: &Device) -> Result<Parts, FamilyError> {
        let Parts {
            prefix,
            backbone,
            head,
        } = self.init(device)?;
        let checkpoint = renamed(KEYS, checkpoint, &[])?;
        let (prefix, backbone, head) = match prefix {
            Prefix::Class(prefix) => {
                let whole = Whole::load(prefix, backbone, head, &checkpoint)?;
                (Prefix::Class(whole.prefix), whole.backbone, whole.head)
            }
            Prefix::Caption(prefix) => {
                let whole = Whole::load(prefix, backbone, head, &checkpoint)?;
                (Prefix::Caption(whole.prefix), whole.backbone, whole.head)
            }
        };
        Ok(Parts {
            prefix,
            backbone,
            head,
        })
    }
}

impl Prefix {
    /// The condition of classes.
    ///
    /// # Panics
    /// If captions come before the codes.
    pub fn of_classes(&self, classes: Tensor<1, burn::tensor::Int>) -> Condition {
        match self {
            Self::Class(prefix) => prefix.condition(classes.unsqueeze_dim(1)),
            Self::Caption(_) => panic!("a model from captions has no classes"),
        }
    }
}
