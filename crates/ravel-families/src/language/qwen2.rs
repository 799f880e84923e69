//! Qwen 2 and 2.5 (Yang et al. 2024): LLaMA with biases in front of attention, and on request a window in the later layers.

use super::llama::{Absent, Config};
use super::{LanguageConfig, unknown};
use crate::{FamilyError, read_config};

const FAMILY: &str = "qwen2";
/// What a layer with a window is called.
const SLIDING: &str = "sliding_attention";
/// What one without is called.
const FULL: &str = "full_attention";

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
        head_dim: None,
        max_position_embeddings: 32_768,
    };
    let mut common = config.common(FAMILY, absent)?;
    common.backbone.qkv_bias = Some(true);
    set_window(&config, &mut common)?;
    Ok(common)
}

/// The window, and the layers that have none: those below `max_window_layers`, unless `layer_types` says otherwise.
pub(super) fn set_window(config: &Config, into: &mut LanguageConfig) -> Result<(), FamilyError> {
    if !config.use_sliding_window {
        return Ok(());
    }
    let layers = into.backbone.layers;
    let below = config.max_window_layers.unwrap_or(28);
    into.backbone.window = Some(config.sliding_window.unwrap_or(4096));
    into.backbone.full_layers = match &config.layer_types {
        None => (0..layers.min(below)).collect(),
        Some(kinds) => {
            if kinds.len() != layers {
                let found = format!("{} entries", kinds.len());
                let expected = format!("one for each of {layers} layers");
                return Err(unknown(into.family, "layer_types", found, &expected));
            }
            if let Some(other) = kinds
                .iter()
                .find(|kind| ![SLIDING, FULL].contains(&&***kind))
            {
                let expected = format!("{FULL} or {SLIDING}");
                return Err(unknown(into.family, "layer_types", other, &expected));
            }
            (0..layers).filter(|&at| kinds[at] == FULL).collect()
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, window: Option<usize>, full: &[usize]) {
        let config = read(json).unwrap().backbone;
        assert_eq!(
            (config.window, &config.full_layers[..]),
            (window, full),
            "{json}"
        );
    }

    #[test]
    fn later_layers_have_the_window_where_one_is_asked_for() {
        check(
            r#"{"sliding_window": 9, "num_hidden_layers": 3}"#,
            None,
            &[],
        );
        check(
            r#"{"sliding_window": 9, "use_sliding_window": true, "max_window_layers": 2, "num_hidden_layers": 3}"#,
            Some(9),
            &[0, 1],
        );
        check(
            r#"{"sliding_window": 9, "use_sliding_window": true, "num_hidden_layers": 2,
                "layer_types": ["sliding_attention", "full_attention"]}"#,
            Some(9),
            &[1],
        );
        let wrong = read(
            r#"{"use_sliding_window": true, "num_hidden_layers": 2, "layer_types": ["x", "y"]}"#,
        );
        assert!(wrong.unwrap_err().to_string().contains("layer_types is x"));
    }
}
