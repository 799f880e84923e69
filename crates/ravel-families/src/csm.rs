//! CSM (Sesame 2025): a LLaMA over text and frames of codes, whose hidden state predicts the first code, and a smaller one over depth
//! that predicts the others, each with a projection of its own.
//!
//! Published: `sesame/csm-1b` as the `transformers` library writes it (`config.json`, `model.safetensors`). Its codec is Mimi.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::Layout;
use ravel_heads::{
    Deep, DepthConfig, DepthProjection, NextTokensConfig, Opening, Predicts, PrefixConfig,
    PrefixEmbedding,
};
use ravel_weights::{Checkpoint, KeyTable, load};
use serde::Deserialize;

use crate::hub::{Rope, activation};
use crate::{FamilyError, read_config};

const FAMILY: &str = "csm";
const KEYS: &str = include_str!("../keys/csm.keys.toml");
/// The two tables of codes, as the file calls them and as we do.
const TABLES: [(&str, &str); 2] = [
    (
        "backbone_model.embed_tokens.embed_audio_tokens.weight",
        "head.codebooks.0",
    ),
    ("depth_decoder.model.embed_tokens.weight", "depth.codebook"),
];

/// What `config.json` holds; `csm-1b`'s values where a key is absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Codebooks.
    pub num_codebooks: usize,
    /// Ids of each codebook.
    pub vocab_size: usize,
    /// Text ids.
    pub text_vocab_size: usize,
    /// Positions that the model was made for.
    pub max_position_embeddings: usize,
    /// The code that all codebooks but the last show when speech ends.
    pub codebook_eos_token_id: usize,
    /// The transformer over depth.
    pub depth_decoder_config: DepthDecoder,
    #[serde(flatten)]
    llama: Llama,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            num_codebooks: 32,
            vocab_size: 2051,
            text_vocab_size: 128_256,
            max_position_embeddings: 2048,
            codebook_eos_token_id: 0,
            depth_decoder_config: DepthDecoder::default(),
            llama: Llama::default(),
        }
    }
}

/// The transformer over depth.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct DepthDecoder {
    /// Width of the codes' embeddings, which are the backbone's.
    pub backbone_hidden_size: usize,
    #[serde(flatten)]
    llama: Llama,
}

impl Default for DepthDecoder {
    fn default() -> Self {
        Self {
            backbone_hidden_size: 2048,
            llama: Llama::default(),
        }
    }
}

/// The keys that both transformers have.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Llama {
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    rms_norm_eps: Option<f64>,
    attention_bias: bool,
    mlp_bias: bool,
    #[serde(flatten)]
    rope: Rope,
}

/// Sizes that a file leaves out.
struct Absent {
    hidden_size: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    positions: usize,
}

/// The model, ready to run.
pub struct Csm {
    /// Text ids as positions of the backbone.
    pub text: PrefixEmbedding,
    /// The transformer over text and frames.
    pub backbone: Transformer,
    /// Codes, with the transformer over depth in it.
    pub head: Deep<Transformer>,
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`FamilyError::Config`] if it cannot be read.
    pub fn read(json: &str) -> Result<Self, FamilyError> {
        read_config(FAMILY, json)
    }

    /// The transformer over text and frames.
    ///
    /// # Errors
    /// [`FamilyError::Part`] for a curve or a stretch of positions that is not known.
    pub fn backbone(&self) -> Result<TransformerConfig, FamilyError> {
        self.llama.transformer(Absent {
            hidden_size: 2048,
            layers: 16,
            heads: 32,
            kv_heads: 8,
            positions: self.max_position_embeddings,
        })
    }

    /// The transformer over depth.
    ///
    /// # Errors
    /// As [`Config::backbone`].
    pub fn over_depth(&self) -> Result<TransformerConfig, FamilyError> {
        self.depth_decoder_config.llama.transformer(Absent {
            hidden_size: 1024,
            layers: 4,
            heads: 8,
            kv_heads: 2,
            positions: self.num_codebooks + 1,
        })
    }

    /// Frames of codes.
    pub fn head(&self) -> NextTokensConfig {
        NextTokensConfig {
            depth: self.num_codebooks,
            codebook_size: self.vocab_size,
            opening: Opening::Prefix {},
            predicts: Predicts::First,
            ..NextTokensConfig::default()
        }
    }

    /// What the transformer over depth reads and scores.
    pub fn depth(&self) -> DepthConfig {
        DepthConfig {
            depth: self.num_codebooks,
            codebook_size: self.vocab_size,
            code_width: Some(self.depth_decoder_config.backbone_hidden_size),
            projection: DepthProjection::Both,
            ..DepthConfig::default()
        }
    }

    /// Builds the model from weights under their published names.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, [`FamilyError::Weights`] if the weights do not fit.
    pub fn build(&self, checkpoint: Checkpoint, device: &Device) -> Result<Csm, FamilyError> {
        let wrong = |source| FamilyError::Part {
            family: FAMILY,
            source,
        };
        let (backbone, over_depth) = (self.backbone()?, self.over_depth()?);
        let text = PrefixConfig {
            vocabulary_size: self.text_vocab_size,
            len: self.max_position_embeddings,
            positions: false,
            ..PrefixConfig::default()
        };
        backbone.validate().map_err(wrong)?;
        over_depth.validate().map_err(wrong)?;
        text.validate().map_err(wrong)?;
        self.head().validate().map_err(wrong)?;
        self.depth().validate().map_err(wrong)?;
        let width = backbone.d_model;
        if self.depth_decoder_config.backbone_hidden_size != width {
            let found = self.depth_decoder_config.backbone_hidden_size.to_string();
            return Err(wrong(ravel_core::Error::Config {
                field: "depth_decoder_config.backbone_hidden_size".into(),
                found,
                expected: format!("hidden_size, {width}"),
            }));
        }
        let checkpoint = keys(&checkpoint)?.apply(checkpoint, &BTreeMap::new())?;
        let layout = Layout::Sequence {
            len: self.max_position_embeddings,
        };
        let head = self.head().init(width, 1, &layout, device);
        let depth = self.depth().init(width, over_depth.d_model, device);
        Ok(Csm {
            text: load(text.init(width, device), &checkpoint, "text")?,
            backbone: load(backbone.init(device), &checkpoint, "backbone")?,
            head: Deep {
                frame: load(head, &checkpoint, "head")?,
                depth: load(depth, &checkpoint, "depth")?,
                transformer: load(over_depth.init(device), &checkpoint, "transformer")?,
            },
        })
    }
}

impl Llama {
    fn transformer(&self, absent: Absent) -> Result<TransformerConfig, FamilyError> {
        let curve = self.hidden_act.as_deref().unwrap_or("silu");
        Ok(TransformerConfig {
            layers: self.num_hidden_layers.unwrap_or(absent.layers),
            d_model: self.hidden_size.unwrap_or(absent.hidden_size),
            n_heads: self.num_attention_heads.unwrap_or(absent.heads),
            n_kv_heads: Some(self.num_key_value_heads.unwrap_or(absent.kv_heads)),
            head_width: self.head_dim,
            d_ff: Some(self.intermediate_size.unwrap_or(8192)),
            norm_eps: self.rms_norm_eps.unwrap_or(1e-5),
            activation: activation(FAMILY, "hidden_act", curve)?,
            gated: true,
            rotary: Some(self.rope.rotary(FAMILY, 500_000.0, absent.positions)?),
            bias: self.attention_bias,
            feed_forward_bias: Some(self.mlp_bias),
            ..TransformerConfig::default()
        })
    }
}

/// The names that this file's weights have. Files of tied tables may hold either one alone.
fn keys(checkpoint: &Checkpoint) -> Result<KeyTable, FamilyError> {
    let is_held = |(name, _): &&(&str, &str)| checkpoint.shape(name).is_some();
    let held: Vec<_> = TABLES.iter().filter(is_held).collect();
    let rules = match &held[..] {
        [(name, _)] => {
            let [(_, first), (_, second)] = TABLES;
            format!("[[rule]]\nfrom = {name:?}\nto = [{first:?}, {second:?}]\n")
        }
        _ => TABLES
            .map(|(name, ours)| format!("[[rule]]\nfrom = {name:?}\nto = {ours:?}\n"))
            .concat(),
    };
    Ok(KeyTable::parse(FAMILY, &format!("{KEYS}\n{rules}"))?)
}

#[cfg(test)]
mod tests {
    use ravel_nn::Scaling;

    use super::*;

    #[test]
    fn an_empty_file_is_the_published_model() {
        let config = Config::read("{}").expect("all keys may be absent");
        let (backbone, depth) = (config.backbone(), config.over_depth());
        let (backbone, depth) = (backbone.expect("known"), depth.expect("known"));
        assert_eq!((backbone.layers, backbone.d_model), (16, 2048));
        assert_eq!((backbone.n_heads, backbone.n_kv_heads()), (32, 8));
        assert_eq!((depth.layers, depth.d_model), (4, 1024));
        assert_eq!((depth.n_heads, depth.n_kv_heads()), (8, 2));
        assert_eq!(config.depth().code_width, Some(2048));
    }

    #[test]
    fn stretches_and_biases_are_read() {
        let json = r#"{"rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 0.001,
            "high_freq_factor": 0.01, "original_max_position_embeddings": 16}, "attention_bias": true,
            "depth_decoder_config": {"mlp_bias": true, "head_dim": 8}}"#;
        let config = Config::read(json).expect("a sound configuration");
        let (backbone, depth) = (config.backbone(), config.over_depth());
        let (backbone, depth) = (backbone.expect("known"), depth.expect("known"));
        let scaling = backbone.rotary.and_then(|rotary| rotary.scaling);
        assert!(matches!(scaling, Some(Scaling::Llama3(by)) if by.factor == 32.0));
        assert_eq!(
            (backbone.bias, backbone.feed_forward_bias),
            (true, Some(false))
        );
        assert_eq!((depth.bias, depth.feed_forward_bias), (false, Some(true)));
        assert_eq!(depth.head_width, Some(8));
        let odd = r#"{"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}"#;
        let line = Config::read(odd).expect("readable").backbone();
        let line = line.expect_err("unknown").to_string();
        assert!(
            line.contains("rope_scaling.rope_type is longrope"),
            "{line}"
        );
    }
}
