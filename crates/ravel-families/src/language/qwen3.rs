//! Qwen 3 (Yang et al. 2025): LLaMA with an RMSNorm of every query and key before the rotation.

use ravel_nn::QueryKeyNorm;

use super::LanguageConfig;
use super::llama::{Absent, Config};
use super::qwen2::set_window;
use crate::{FamilyError, read_config};

const FAMILY: &str = "qwen3";

/// Reads a `config.json`.
///
/// # Errors
/// As [`super::read`].
pub fn read(json: &str) -> Result<LanguageConfig, FamilyError> {
    let config: Config = read_config(FAMILY, json)?;
    let absent = Absent {
        vocab_size: 151_936,
        intermediate_size: 22_016,
        num_key_value_heads: Some(32),
        head_dim: Some(128),
        max_position_embeddings: 32_768,
    };
    let mut common = config.common(FAMILY, absent)?;
    common.backbone.qk_norm = QueryKeyNorm::Rms;
    common.backbone.bias = config.attention_bias;
    common.backbone.feed_forward_bias = Some(false);
    set_window(&config, &mut common)?;
    Ok(common)
}
