//! T5's encoder (Raffel et al. 2020), which embeds the captions of LlamaGen and others: attention without a fixed factor, learned
//! scores by distance.

use burn::tensor::Device;
use ravel_backbone::{TextEncoder, TextEncoderConfig, TransformerConfig};
use ravel_nn::{Activation, RelativeConfig};
use ravel_weights::{Checkpoint, load};
use serde::Deserialize;

use crate::{FamilyError, of_family, renamed};

/// The family's name.
pub const NAME: &str = "t5_encoder";
/// The token that fills up short texts, as its vocabulary writes it.
pub const PADDING: &str = "<pad>";
/// The token that ends a text, as its vocabulary writes it.
pub const END: &str = "</s>";
/// The key table, by name and text.
pub const KEYS: (&str, &str) = (
    "t5_encoder.keys.toml",
    include_str!("../keys/t5_encoder.keys.toml"),
);

/// What the published configuration says of the encoder; the library's own defaults where a key is absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Ids.
    pub vocab_size: usize,
    /// Width.
    pub d_model: usize,
    /// Numbers in one head.
    pub d_kv: usize,
    /// Width between the products of a feed-forward layer.
    pub d_ff: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Heads.
    pub num_heads: usize,
    /// Buckets of distances.
    pub relative_attention_num_buckets: usize,
    /// From here on all distances are one bucket.
    pub relative_attention_max_distance: usize,
    /// Of the norms.
    pub layer_norm_epsilon: f64,
    /// Curve of the feed-forward layers, with `gated-` before it where they are.
    pub feed_forward_proj: String,
    /// The id that fills up short texts.
    pub pad_token_id: usize,
    /// The id that ends a text.
    pub eos_token_id: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 32_128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "relu".into(),
            pad_token_id: 0,
            eos_token_id: 1,
        }
    }
}

impl Config {
    /// The encoder.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] if the curve is not known here.
    pub fn encoder(&self) -> ravel_core::Result<TextEncoderConfig> {
        let (activation, gated) = self.curve()?;
        Ok(TextEncoderConfig {
            vocabulary_size: self.vocab_size,
            transformer: TransformerConfig {
                layers: self.num_layers,
                d_model: self.d_model,
                n_heads: self.num_heads,
                head_width: Some(self.d_kv),
                d_ff: Some(self.d_ff),
                norm_eps: self.layer_norm_epsilon,
                activation,
                gated,
                attention_scale: Some(1.0),
                relative: Some(RelativeConfig {
                    buckets: self.relative_attention_num_buckets,
                    farthest: self.relative_attention_max_distance,
                    both_ways: true,
                }),
                ..TransformerConfig::default()
            },
        })
    }

    fn curve(&self) -> ravel_core::Result<(Activation, bool)> {
        let name = self.feed_forward_proj.as_str();
        let (curve, gated) = match name.strip_prefix("gated-") {
            Some(curve) => (curve, true),
            None => (name, false),
        };
        let activation = match curve {
            "relu" => Activation::Relu,
            // The library takes the approximation where it is gated, for the published models of T5 1.1.
            "gelu" if gated => Activation::GeluTanh,
            "gelu" => Activation::Gelu,
            "gelu_new" => Activation::GeluTanh,
            "silu" | "swish" => Activation::Silu,
            _ => {
                return Err(ravel_core::Error::Config {
                    field: "feed_forward_proj".into(),
                    found: name.into(),
                    expected: "relu, gelu, gelu_new or silu, with or without `gated-`".into(),
                });
            }
        };
        Ok((activation, gated))
    }

    /// The encoder with a checkpoint's weights.
    ///
    /// # Errors
    /// [`FamilyError`] if a size is impossible or the checkpoint does not fit.
    pub fn load(
        &self,
        checkpoint: Checkpoint,
        device: &Device,
    ) -> Result<TextEncoder, FamilyError> {
        let wrong = of_family(NAME);
        let config = self.encoder().map_err(&wrong)?;
        config.validate().map_err(&wrong)?;
        let checkpoint = renamed(KEYS, checkpoint, &[])?;
        Ok(load(config.init(device), &checkpoint, "")?)
    }
}
