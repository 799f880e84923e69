//! Mistral (Jiang et al. 2023): LLaMA with a window in every layer.

use serde::Deserialize;

use super::LanguageConfig;
use super::llama::{Absent, Config};
use crate::{FamilyError, read_config};

const FAMILY: &str = "mistral";

/// A window that is absent is not the same as one that is null.
#[derive(Deserialize)]
struct Window {
    #[serde(default = "published")]
    sliding_window: Option<usize>,
}

/// Of the first release; later files say null.
fn published() -> Option<usize> {
    Some(4096)
}

/// Reads a `config.json`.
///
/// # Errors
/// As [`super::read`].
pub fn read(json: &str) -> Result<LanguageConfig, FamilyError> {
    let config: Config = read_config(FAMILY, json)?;
    let absent = Absent {
        vocab_size: 32_000,
        intermediate_size: 14_336,
        num_key_value_heads: Some(8),
        head_dim: None,
        max_position_embeddings: 131_072,
    };
    let mut common = config.common(FAMILY, absent)?;
    let window: Window = read_config(FAMILY, json)?;
    common.backbone.window = window.sliding_window;
    Ok(common)
}
