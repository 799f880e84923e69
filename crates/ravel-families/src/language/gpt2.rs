//! GPT-2 (Radford et al. 2019): learned positions, LayerNorm in front, one product to queries, keys and values.

use ravel_backbone::TransformerConfig;
use ravel_nn::NormKind;
use serde::Deserialize;

use super::{Ids, Keys, LanguageConfig, activation, head};
use crate::{FamilyError, read_config};

const FAMILY: &str = "gpt2";

/// The keys that the reference computes with, and its own values where one is absent.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct Config {
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: String,
    layer_norm_epsilon: f64,
    scale_attn_weights: bool,
    scale_attn_by_inverse_layer_idx: bool,
    tie_word_embeddings: bool,
    bos_token_id: Option<u32>,
    eos_token_id: Ids,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 50_257,
            n_positions: 1024,
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: None,
            activation_function: "gelu_new".into(),
            layer_norm_epsilon: 1e-5,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            tie_word_embeddings: true,
            bos_token_id: Some(50_256),
            eos_token_id: Ids::One(50_256),
        }
    }
}

/// Reads a `config.json`.
///
/// # Errors
/// As [`super::read`].
pub fn read(json: &str) -> Result<LanguageConfig, FamilyError> {
    let config: Config = read_config(FAMILY, json)?;
    Ok(LanguageConfig {
        family: FAMILY,
        backbone: TransformerConfig {
            layers: config.n_layer,
            d_model: config.n_embd,
            n_heads: config.n_head,
            d_ff: config.n_inner,
            norm: NormKind::Layer,
            norm_eps: config.layer_norm_epsilon,
            activation: activation(FAMILY, "activation_function", &config.activation_function)?,
            bias: true,
            learned_positions: Some(config.n_positions),
            attention_scale: (!config.scale_attn_weights).then_some(1.0),
            attention_scale_by_layer: config.scale_attn_by_inverse_layer_idx,
            ..TransformerConfig::default()
        },
        head: head(config.vocab_size, config.tie_word_embeddings),
        context: config.n_positions,
        begin: config.bos_token_id,
        ends: config.eos_token_id.all(),
        keys: Keys {
            table: include_str!("../../keys/gpt2.keys.toml"),
            first_name: Some(("transformer", "wte.weight")),
        },
    })
}
