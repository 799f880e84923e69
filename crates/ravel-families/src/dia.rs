//! Dia (Nari Labs 2025): an encoder of bytes and a decoder over delayed frames of codes that attends to it. Attention is not scaled.
//!
//! Published: `nari-labs/Dia-1.6B-0626` as the `transformers` library writes it. Its codec is DAC at 44.1 kHz. Text is UTF-8, in which
//! `[S1]` and `[S2]` are the ids 1 and 2; padding is 0, and the empty prompt of guidance is padding alone, seen like text.

use std::collections::BTreeMap;

use burn::tensor::{Bool, Device, Int, Tensor};
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{Attend, Backbone, Condition, Layout, StepInput};
use ravel_heads::{
    Arrangement, NextTokens, NextTokensConfig, Opening, PrefixConfig, PrefixEmbedding,
};
use ravel_weights::{Checkpoint, KeyTable, load};
use serde::Deserialize;

use crate::hub::{Rope, activation};
use crate::{FamilyError, read_config};

const FAMILY: &str = "dia";
const KEYS: &str = include_str!("../keys/dia.keys.toml");

/// What `config.json` holds; the published model's values where a key is absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The encoder of text.
    pub encoder_config: Encoder,
    /// The decoder over frames.
    pub decoder_config: Decoder,
    /// By how many positions each codebook comes late.
    pub delay_pattern: Vec<usize>,
    /// The id that stands where a codebook has not begun.
    pub bos_token_id: usize,
    /// The id that ends speech.
    pub eos_token_id: usize,
    /// The id that stands where a codebook has ended.
    pub pad_token_id: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            encoder_config: Encoder::default(),
            decoder_config: Decoder::default(),
            delay_pattern: vec![0, 8, 9, 10, 11, 12, 13, 14, 15],
            bos_token_id: 1026,
            eos_token_id: 1024,
            pad_token_id: 1025,
        }
    }
}

/// The encoder of text.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Encoder {
    /// Longest text in bytes.
    pub max_position_embeddings: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; as many as query heads if unset or zero.
    pub num_key_value_heads: Option<usize>,
    /// Numbers in one head.
    pub head_dim: usize,
    /// Added to mean squares.
    pub norm_eps: f64,
    /// Text ids.
    pub vocab_size: usize,
    /// Curve of the feed-forward layers.
    pub hidden_act: String,
    #[serde(flatten)]
    rope: Rope,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            max_position_embeddings: 1024,
            num_hidden_layers: 12,
            hidden_size: 1024,
            intermediate_size: 4096,
            num_attention_heads: 16,
            num_key_value_heads: Some(16),
            head_dim: 128,
            norm_eps: 1e-5,
            vocab_size: 256,
            hidden_act: "silu".into(),
            rope: Rope::default(),
        }
    }
}

/// The decoder over frames.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Decoder {
    /// Most positions.
    pub max_position_embeddings: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; as many as query heads if unset or zero.
    pub num_key_value_heads: Option<usize>,
    /// Numbers in one head.
    pub head_dim: usize,
    /// Query heads of cross-attention.
    pub cross_num_attention_heads: usize,
    /// Key and value heads of cross-attention.
    pub cross_num_key_value_heads: usize,
    /// Numbers in one head of cross-attention.
    pub cross_head_dim: usize,
    /// Width of what cross-attention reads: the encoder's.
    pub cross_hidden_size: usize,
    /// Added to mean squares.
    pub norm_eps: f64,
    /// Ids of each codebook, special ones included.
    pub vocab_size: usize,
    /// Curve of the feed-forward layers.
    pub hidden_act: String,
    /// Codebooks.
    pub num_channels: usize,
    #[serde(flatten)]
    rope: Rope,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            max_position_embeddings: 3072,
            num_hidden_layers: 18,
            hidden_size: 2048,
            intermediate_size: 8192,
            num_attention_heads: 16,
            num_key_value_heads: Some(4),
            head_dim: 128,
            cross_num_attention_heads: 16,
            cross_num_key_value_heads: 16,
            cross_head_dim: 128,
            cross_hidden_size: 1024,
            norm_eps: 1e-5,
            vocab_size: 1028,
            hidden_act: "silu".into(),
            num_channels: 9,
            rope: Rope::default(),
        }
    }
}

/// The model, ready to run.
pub struct Dia {
    /// Text ids as positions of the encoder.
    pub text: PrefixEmbedding,
    /// The encoder: every position sees every other one.
    pub encoder: Transformer,
    /// The decoder.
    pub backbone: Transformer,
    /// Delayed frames.
    pub head: NextTokens,
}

impl Dia {
    /// The encoder's last hidden states.
    ///
    /// # Shapes
    /// - `ids`: `[batch, m]`
    /// - `padding`: `[batch, m]`, true where a text has ended
    /// - returns: `[batch, m, hidden_size of the encoder]`
    pub fn encoded(&self, ids: Tensor<2, Int>, padding: Option<&Tensor<2, Bool>>) -> Tensor<3> {
        let [batch, m] = ids.dims();
        let mut state = self.encoder.start(batch, m);
        state.hidden = padding.cloned();
        let input = StepInput {
            coords: Tensor::arange(0..m as i64, &ids.device()).unsqueeze_dim(1),
            embedded: self.text.embedded(ids),
            attend: Attend::Unit,
        };
        self.encoder.step(input, &Condition::default(), &mut state)
    }

    /// What steers the decoder: the encoded text beside it.
    ///
    /// # Shapes
    /// As [`Dia::encoded`].
    pub fn condition(&self, ids: Tensor<2, Int>, padding: Option<Tensor<2, Bool>>) -> Condition {
        Condition {
            cross: Some(self.encoded(ids, padding.as_ref())),
            cross_hidden: padding,
            ..Condition::default()
        }
    }
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`FamilyError::Config`] if it cannot be read.
    pub fn read(json: &str) -> Result<Self, FamilyError> {
        read_config(FAMILY, json)
    }

    /// The encoder.
    ///
    /// # Errors
    /// [`FamilyError::Part`] for a curve or a stretch of positions that is not known.
    pub fn encoder(&self) -> Result<TransformerConfig, FamilyError> {
        let encoder = &self.encoder_config;
        Ok(TransformerConfig {
            layers: encoder.num_hidden_layers,
            d_model: encoder.hidden_size,
            n_heads: encoder.num_attention_heads,
            n_kv_heads: encoder.num_key_value_heads.filter(|heads| *heads > 0),
            head_width: Some(encoder.head_dim),
            d_ff: Some(encoder.intermediate_size),
            norm_eps: encoder.norm_eps,
            activation: activation(FAMILY, "hidden_act", &encoder.hidden_act)?,
            gated: true,
            rotary: Some(
                encoder
                    .rope
                    .rotary(FAMILY, 10_000.0, encoder.max_position_embeddings)?,
            ),
            attention_scale: Some(1.0),
            ..TransformerConfig::default()
        })
    }

    /// The decoder.
    ///
    /// # Errors
    /// As [`Config::encoder`].
    pub fn backbone(&self) -> Result<TransformerConfig, FamilyError> {
        let decoder = &self.decoder_config;
        Ok(TransformerConfig {
            layers: decoder.num_hidden_layers,
            d_model: decoder.hidden_size,
            n_heads: decoder.num_attention_heads,
            n_kv_heads: decoder.num_key_value_heads.filter(|heads| *heads > 0),
            head_width: Some(decoder.head_dim),
            d_ff: Some(decoder.intermediate_size),
            norm_eps: decoder.norm_eps,
            activation: activation(FAMILY, "hidden_act", &decoder.hidden_act)?,
            gated: true,
            rotary: Some(
                decoder
                    .rope
                    .rotary(FAMILY, 10_000.0, decoder.max_position_embeddings)?,
            ),
            attention_scale: Some(1.0),
            cross_attention: Some(decoder.cross_hidden_size),
            cross_heads: Some(decoder.cross_num_attention_heads),
            cross_kv_heads: Some(decoder.cross_num_key_value_heads),
            cross_head_width: Some(decoder.cross_head_dim),
            ..TransformerConfig::default()
        })
    }

    /// Delayed frames.
    pub fn head(&self) -> NextTokensConfig {
        NextTokensConfig {
            depth: self.decoder_config.num_channels,
            codebook_size: self.decoder_config.vocab_size,
            end: Some(self.eos_token_id),
            arrangement: self.arrangement(),
            opening: Opening::Ids {
                id: self.bos_token_id,
            },
            joined_out: true,
            ..NextTokensConfig::default()
        }
    }

    /// How frames lie along the sequence.
    pub fn arrangement(&self) -> Arrangement {
        Arrangement::Delayed {
            steps: self.delay_pattern.clone(),
            before: self.bos_token_id,
            after: self.pad_token_id,
        }
    }

    /// Builds the model from weights under their published names.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, [`FamilyError::Weights`] if the weights do not fit.
    pub fn build(&self, checkpoint: Checkpoint, device: &Device) -> Result<Dia, FamilyError> {
        let wrong = |source| FamilyError::Part {
            family: FAMILY,
            source,
        };
        let (encoder, backbone, head) = (self.encoder()?, self.backbone()?, self.head());
        let text = PrefixConfig {
            vocabulary_size: self.encoder_config.vocab_size,
            len: self.encoder_config.max_position_embeddings,
            positions: false,
            ..PrefixConfig::default()
        };
        encoder.validate().map_err(wrong)?;
        backbone.validate().map_err(wrong)?;
        head.validate().map_err(wrong)?;
        text.validate().map_err(wrong)?;
        let table = KeyTable::parse(FAMILY, KEYS)?;
        let checkpoint = table.apply(checkpoint, &BTreeMap::new())?;
        let layout = Layout::Sequence {
            len: self.decoder_config.max_position_embeddings,
        };
        let text = text.init(encoder.d_model, device);
        let head = head.init(backbone.d_model, 1, &layout, device);
        Ok(Dia {
            text: load(text, &checkpoint, "text")?,
            encoder: load(encoder.init(device), &checkpoint, "encoder")?,
            backbone: load(backbone.init(device), &checkpoint, "backbone")?,
            head: load(head, &checkpoint, "head")?,
        })
    }
}

/// The ids of a text: its bytes, with the marks of the two speakers as one id each.
pub fn text_ids(text: &str) -> Vec<u32> {
    const MARKS: [(&str, u32); 2] = [("[S1]", 1), ("[S2]", 2)];
    let mut ids = Vec::with_capacity(text.len());
    let mut rest = text;
    'text: while let Some(byte) = rest.as_bytes().first() {
        for (mark, id) in MARKS {
            if let Some(after) = rest.strip_prefix(mark) {
                ids.push(id);
                rest = after;
                continue 'text;
            }
        }
        let letter = rest.chars().next().map_or(1, char::len_utf8);
        ids.push(u32::from(*byte));
        ids.extend(
            rest.as_bytes()[1..letter]
                .iter()
                .map(|&byte| u32::from(byte)),
        );
        rest = &rest[letter..];
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_published_model() {
        let config = Config::read("{}").expect("all keys may be absent");
        let backbone = config.backbone().expect("known");
        assert_eq!((backbone.n_heads, backbone.n_kv_heads()), (16, 4));
        assert_eq!(
            (backbone.layers, backbone.cross_attention),
            (18, Some(1024))
        );
        assert_eq!(config.encoder().expect("known").d_model, 1024);
        config.head().validate().expect("the delays fit");
    }

    #[test]
    fn text_is_bytes_and_marks() {
        assert_eq!(text_ids("[S1]aé[S2]"), [1, 97, 0xC3, 0xA9, 2]);
        assert_eq!(text_ids("[S3"), [91, 83, 51]);
        assert_eq!(text_ids(""), [0u32; 0]);
    }
}
