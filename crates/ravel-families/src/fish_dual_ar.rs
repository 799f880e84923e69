//! Fish-Speech's two transformers (Liao et al. 2024, section 3.1): a slow one over text and frames, a fast one over the codes of a
//! frame.
//!
//! Published: `fishaudio/fish-speech-1.4` and `-1.5`, `config.json` with `model_type` "dual_ar", and `model.pth`. A position is a
//! token and the codes beside it: [`ravel_core::Codes`] of `1 + num_codebooks` rows. What the fast transformer sees is the
//! slow one's hidden state in front of its last norm, and both rotary tables are rounded to bfloat16.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::Layout;
use ravel_heads::{
    CodeTables, Deep, DepthConfig, DepthProjection, FirstCode, NextTokensConfig, Opening, Predicts,
    TokenRowConfig,
};
use ravel_nn::{Activation, NormKind, Pairs, RotaryConfig};
use ravel_weights::{Checkpoint, KeyTable, load};
use serde::Deserialize;

use crate::hub::unknown;
use crate::{FamilyError, read_config};

const FAMILY: &str = "fish_dual_ar";
const KEYS: &str = include_str!("../keys/fish_dual_ar.keys.toml");
/// Tokens that say "semantic", one for each code of the first codebook, at most: `<|semantic:0|>` to `<|semantic:1023|>`.
const SEMANTIC_TOKENS: usize = 1024;
/// Feed-forward widths that are not given are rounded up to a multiple of this.
const WIDTH_STEP: usize = 256;

/// What `config.json` holds; the reference's own values where a key is absent. Keys that begin with `fast_` fall back on those without.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// "dual_ar".
    pub model_type: String,
    /// Tokens.
    pub vocab_size: usize,
    /// Layers of the slow transformer.
    pub n_layer: usize,
    /// Its query heads.
    pub n_head: usize,
    /// Its width.
    pub dim: usize,
    /// Width of its feed-forward layers; two thirds of four times `dim`, rounded up, if unset.
    pub intermediate_size: Option<usize>,
    /// Its key and value heads; `n_head` if -1.
    pub n_local_heads: i64,
    /// Base of the rotary positions.
    pub rope_base: f64,
    /// Added to mean squares.
    pub norm_eps: f64,
    /// Positions that the model was made for.
    pub max_seq_len: usize,
    /// Whether the table of tokens is also the projection to their scores.
    pub tie_word_embeddings: bool,
    /// Whether queries, keys and values have biases.
    pub attention_qkv_bias: bool,
    /// Ids of each codebook.
    pub codebook_size: usize,
    /// Codebooks.
    pub num_codebooks: usize,
    /// Whether the model scores speech rather than speaking.
    pub is_reward_model: bool,
    /// Whether, in generation, every codebook has a part of the table of its own. (Training always gives it one.)
    pub share_codebook_embeddings: bool,
    /// Layers of the fast transformer.
    pub n_fast_layer: usize,
    /// Its width.
    pub fast_dim: Option<usize>,
    /// Its query heads.
    pub fast_n_head: Option<usize>,
    /// Its key and value heads.
    pub fast_n_local_heads: Option<i64>,
    /// Width of its feed-forward layers.
    pub fast_intermediate_size: Option<usize>,
    /// Whether its queries, keys and values have biases.
    pub fast_attention_qkv_bias: Option<bool>,
    /// The token that stands for code 0. Published files leave it to the tokenizer.
    pub semantic_begin_id: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model_type: "dual_ar".into(),
            vocab_size: 32_000,
            n_layer: 32,
            n_head: 32,
            dim: 4096,
            intermediate_size: None,
            n_local_heads: -1,
            rope_base: 10_000.0,
            norm_eps: 1e-5,
            max_seq_len: 2048,
            tie_word_embeddings: true,
            attention_qkv_bias: false,
            codebook_size: 160,
            num_codebooks: 4,
            is_reward_model: false,
            share_codebook_embeddings: true,
            n_fast_layer: 4,
            fast_dim: None,
            fast_n_head: None,
            fast_n_local_heads: None,
            fast_intermediate_size: None,
            fast_attention_qkv_bias: None,
            semantic_begin_id: None,
        }
    }
}

/// Both transformers, ready to run.
pub struct DualAr {
    /// The slow transformer.
    pub backbone: Transformer,
    /// Tokens and codes, with the fast transformer in it.
    pub head: Deep<Transformer>,
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`FamilyError::Config`] if it cannot be read, [`FamilyError::Part`] if it asks for another kind of model.
    pub fn read(json: &str) -> Result<Self, FamilyError> {
        let config: Self = read_config(FAMILY, json)?;
        if config.model_type != "dual_ar" {
            let found = &config.model_type;
            return Err(unknown(FAMILY, "model_type", found, "dual_ar"));
        }
        if config.is_reward_model {
            return Err(unknown(FAMILY, "is_reward_model", true, "false"));
        }
        for (field, found) in [
            ("n_head", config.n_head),
            ("fast_n_head", config.fast_n_head.unwrap_or(1)),
        ] {
            if found == 0 {
                return Err(unknown(FAMILY, field, found, "1 or more"));
            }
        }
        Ok(config)
    }

    /// The slow transformer. Its last norm belongs to the head.
    pub fn backbone(&self) -> TransformerConfig {
        TransformerConfig {
            layers: self.n_layer,
            d_model: self.dim,
            n_heads: self.n_head,
            n_kv_heads: Some(self.kv_heads()),
            d_ff: Some(self.d_ff()),
            qkv_bias: Some(self.attention_qkv_bias),
            final_norm: false,
            ..self.common()
        }
    }

    /// The fast transformer.
    pub fn fast(&self) -> TransformerConfig {
        let heads = self.fast_n_head.unwrap_or(self.n_head);
        let kv_heads = match self.fast_n_local_heads {
            Some(kv_heads) => usize::try_from(kv_heads).unwrap_or(heads),
            None => self.kv_heads(),
        };
        let bias = self.fast_attention_qkv_bias;
        TransformerConfig {
            layers: self.n_fast_layer,
            d_model: self.fast_dim(),
            n_heads: heads,
            n_kv_heads: Some(kv_heads),
            d_ff: Some(self.fast_intermediate_size.unwrap_or(self.d_ff())),
            qkv_bias: Some(bias.unwrap_or(self.attention_qkv_bias)),
            ..self.common()
        }
    }

    /// Tokens and codes; `semantic_begin` is the token that stands for code 0.
    pub fn head(&self, semantic_begin: usize) -> NextTokensConfig {
        NextTokensConfig {
            depth: self.num_codebooks,
            codebook_size: self.codebook_size,
            tokens: Some(TokenRowConfig {
                vocabulary_size: self.vocab_size,
                semantic_begin,
                semantic_len: SEMANTIC_TOKENS,
                tie: self.tie_word_embeddings,
            }),
            tables: match self.share_codebook_embeddings {
                true => CodeTables::Joined,
                false => CodeTables::Overlaid,
            },
            opening: Opening::Prefix {},
            predicts: Predicts::First,
            norm: Some(NormKind::Rms),
            norm_eps: self.norm_eps,
            ..NextTokensConfig::default()
        }
    }

    /// What the fast transformer reads and scores.
    pub fn depth(&self, semantic_begin: usize) -> DepthConfig {
        DepthConfig {
            depth: self.num_codebooks,
            codebook_size: self.codebook_size,
            projection: match self.fast_dim() == self.dim {
                true => DepthProjection::None,
                false => DepthProjection::Hidden,
            },
            shared_table: true,
            shared_out: true,
            first: FirstCode::Token {
                begin: semantic_begin,
            },
            ..DepthConfig::default()
        }
    }

    /// Builds the model from weights under their published names, flat or below `model.`. `semantic_begin` is the token that stands
    /// for code 0, as the tokenizer has it.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, [`FamilyError::Weights`] if the weights do not fit.
    pub fn build(
        &self,
        checkpoint: Checkpoint,
        semantic_begin: usize,
        device: &Device,
    ) -> Result<DualAr, FamilyError> {
        let wrong = |source| FamilyError::Part {
            family: FAMILY,
            source,
        };
        let (backbone, fast) = (self.backbone(), self.fast());
        let (head, depth) = (self.head(semantic_begin), self.depth(semantic_begin));
        backbone.validate().map_err(wrong)?;
        fast.validate().map_err(wrong)?;
        head.validate().map_err(wrong)?;
        depth.validate().map_err(wrong)?;
        let table = self.keys(&checkpoint)?;
        let checkpoint = table.apply(checkpoint, &BTreeMap::new())?;
        let layout = Layout::Sequence {
            len: self.max_seq_len,
        };
        let head = head.init(self.dim, 1, &layout, device);
        let depth = depth.init(self.dim, self.fast_dim(), device);
        Ok(DualAr {
            backbone: load(backbone.init(device), &checkpoint, "backbone")?,
            head: Deep {
                frame: load(head, &checkpoint, "head")?,
                depth: load(depth, &checkpoint, "depth")?,
                transformer: load(fast.init(device), &checkpoint, "transformer")?,
            },
        })
    }

    /// The names that this file's weights have.
    fn keys(&self, checkpoint: &Checkpoint) -> Result<KeyTable, FamilyError> {
        const OUT: &str = "output.weight";
        let mut table = KEYS.to_string();
        // Tied scores need no projection; some files hold the table again.
        if self.tie_word_embeddings {
            table = table.replacen("drop = [", &format!("drop = [{OUT:?}, "), 1);
        } else {
            table += &format!(
                "\n[[rule]]\nfrom = {OUT:?}\nto = \"head.out.0.weight\"\nops = [\"transpose\"]\n"
            );
        }
        if checkpoint.shape("model.embeddings.weight").is_some() {
            table = below(&table, "model");
        }
        Ok(KeyTable::parse(FAMILY, &table)?)
    }

    fn common(&self) -> TransformerConfig {
        TransformerConfig {
            norm_eps: self.norm_eps,
            activation: Activation::Silu,
            gated: true,
            rotary: Some(RotaryConfig {
                base: self.rope_base,
                pairs: Pairs::Interleaved,
                bf16_table: true,
                ..RotaryConfig::default()
            }),
            ..TransformerConfig::default()
        }
    }

    fn kv_heads(&self) -> usize {
        usize::try_from(self.n_local_heads).unwrap_or(self.n_head)
    }

    fn fast_dim(&self) -> usize {
        self.fast_dim.unwrap_or(self.dim)
    }

    fn d_ff(&self) -> usize {
        let given = self.intermediate_size;
        given.unwrap_or((2 * 4 * self.dim / 3).next_multiple_of(WIDTH_STEP))
    }
}

/// A table whose published names all begin with one name more.
fn below(table: &str, first: &str) -> String {
    let lines = table.lines().map(|line| {
        let published = line.starts_with("from = ") || line.starts_with("drop = ");
        match published {
            true => line
                .replace("= \"", &format!("= \"{first}."))
                .replace("[\"", &format!("[\"{first}."))
                .replace(", \"", &format!(", \"{first}.")),
            false => line.to_string(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_back_as_in_the_reference() {
        let json = r#"{"model_type": "dual_ar", "dim": 96, "n_head": 6, "n_local_heads": 2, "n_layer": 2,
            "attention_qkv_bias": true, "head_dim": 99}"#;
        let config = Config::read(json).expect("a sound configuration");
        let (slow, fast) = (config.backbone(), config.fast());
        assert_eq!((slow.d_ff, fast.d_ff), (Some(256), Some(256)));
        assert_eq!((slow.n_kv_heads(), fast.n_kv_heads()), (2, 2));
        assert_eq!((slow.head_width(), fast.head_width()), (16, 16));
        assert_eq!((slow.qkv_bias, fast.qkv_bias), (Some(true), Some(true)));
        assert_eq!(config.depth(9).projection, DepthProjection::None);
        let json = r#"{"dim": 96, "n_head": 6, "fast_dim": 48, "fast_n_head": 4, "fast_n_local_heads": 1,
            "fast_attention_qkv_bias": false, "fast_intermediate_size": 80}"#;
        let config = Config::read(json).expect("a sound configuration");
        let (slow, fast) = (config.backbone(), config.fast());
        assert_eq!((slow.n_kv_heads(), fast.n_kv_heads()), (6, 1));
        assert_eq!((fast.d_model, fast.d_ff), (48, Some(80)));
        assert_eq!(config.depth(9).projection, DepthProjection::Hidden);
    }

    #[test]
    fn other_kinds_of_models_are_refused_in_a_line() {
        for (json, expected) in [
            (r#"{"model_type": "naive"}"#, "model_type is naive"),
            (r#"{"is_reward_model": true}"#, "is_reward_model is true"),
            (r#"{"n_head": 0}"#, "n_head is 0"),
            (r#"{"dim": "x"}"#, "cannot be read"),
        ] {
            let line = Config::read(json).expect_err(expected).to_string();
            assert!(line.contains(expected), "{line}");
        }
    }

    #[test]
    fn names_below_another_are_found() {
        let table = "drop = [\"a\", \"b.{i}\"]\n[[rule]]\nfrom = [\"c\", \"d\"]\nto = \"e\"\nops = [\"transpose\"]";
        let expected = "drop = [\"m.a\", \"m.b.{i}\"]\n[[rule]]\nfrom = [\"m.c\", \"m.d\"]\nto = \"e\"\nops = [\"transpose\"]";
        assert_eq!(below(table, "m"), expected);
        assert!(below(KEYS, "m").contains("from = \"m.fast_norm.weight\""));
    }
}
