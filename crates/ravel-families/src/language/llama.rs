//! LLaMA (Touvron et al. 2023; LLaMA 3: Grattafiori et al. 2024): rotary positions, RMSNorm in front, gated feed-forward, grouped
//! queries. `Config` is what its kin build on.

use ravel_backbone::TransformerConfig;
use ravel_nn::Scaling;
use serde::Deserialize;

use super::{Ids, Keys, LanguageConfig, activation, head};
use crate::hub::Rope;
use crate::{FamilyError, read_config};

const FAMILY: &str = "llama";

/// The keys that all of these families share. Where one is absent, [`Absent`] has the family's value.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) vocab_size: Option<usize>,
    pub(super) hidden_size: Option<usize>,
    pub(super) intermediate_size: Option<usize>,
    pub(super) num_hidden_layers: Option<usize>,
    pub(super) num_attention_heads: Option<usize>,
    pub(super) num_key_value_heads: Option<usize>,
    pub(super) head_dim: Option<usize>,
    pub(super) hidden_act: Option<String>,
    pub(super) max_position_embeddings: Option<usize>,
    pub(super) rms_norm_eps: Option<f64>,
    pub(super) tie_word_embeddings: bool,
    pub(super) attention_bias: bool,
    pub(super) mlp_bias: bool,
    pub(super) sliding_window: Option<usize>,
    pub(super) use_sliding_window: bool,
    pub(super) max_window_layers: Option<usize>,
    pub(super) layer_types: Option<Vec<String>>,
    #[serde(flatten)]
    rope: Rope,
    bos_token_id: Option<u32>,
    eos_token_id: Ids,
}

/// What a family takes for keys that a file leaves out.
pub(super) struct Absent {
    pub(super) vocab_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_key_value_heads: Option<usize>,
    pub(super) head_dim: Option<usize>,
    pub(super) max_position_embeddings: usize,
}

impl Config {
    /// What all of these families come to; each changes what it does otherwise.
    pub(super) fn common(
        &self,
        family: &'static str,
        absent: Absent,
    ) -> Result<LanguageConfig, FamilyError> {
        let act = self.hidden_act.as_deref().unwrap_or("silu");
        let heads = self.num_attention_heads.unwrap_or(32);
        let context = self
            .max_position_embeddings
            .unwrap_or(absent.max_position_embeddings);
        let rotary = self.rope.rotary(family, 10_000.0, context)?;
        Ok(LanguageConfig {
            family,
            backbone: TransformerConfig {
                layers: self.num_hidden_layers.unwrap_or(32),
                d_model: self.hidden_size.unwrap_or(4096),
                n_heads: heads,
                n_kv_heads: self.num_key_value_heads.or(absent.num_key_value_heads),
                head_width: self.head_dim.or(absent.head_dim),
                d_ff: Some(self.intermediate_size.unwrap_or(absent.intermediate_size)),
                norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
                activation: activation(family, "hidden_act", act)?,
                gated: true,
                rotary: Some(rotary.clone()),
                ..TransformerConfig::default()
            },
            head: head(
                self.vocab_size.unwrap_or(absent.vocab_size),
                self.tie_word_embeddings,
            ),
            context: match rotary.scaling {
                // The base grows with the text, so there is no last position; this is what the factor is meant for.
                Some(Scaling::Dynamic(by)) => (context as f64 * by.factor.max(1.0)) as usize,
                _ => context,
            },
            begin: self.bos_token_id,
            ends: self.eos_token_id.all(),
            keys: Keys {
                table: include_str!("../../keys/llama.keys.toml"),
                first_name: Some(("model", "embed_tokens.weight")),
            },
        })
    }
}

/// Reads a `config.json`.
///
/// # Errors
/// As [`super::read`].
pub fn read(json: &str) -> Result<LanguageConfig, FamilyError> {
    let config: Config = read_config(FAMILY, json)?;
    let absent = Absent {
        vocab_size: 32_000,
        intermediate_size: 11_008,
        num_key_value_heads: None,
        head_dim: None,
        max_position_embeddings: 2048,
    };
    let mut common = config.common(FAMILY, absent)?;
    common.backbone.bias = config.attention_bias;
    common.backbone.feed_forward_bias = Some(config.mlp_bias);
    Ok(common)
}
