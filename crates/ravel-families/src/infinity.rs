//! Infinity (Han et al. 2024): a transformer that predicts a pyramid of bits scale by scale from the features of a description.
//!
//! Published: `infinity_2b_reg.pth`, flat, and a folder of shards for the 8B. Bitwise self-correction, the mistakes that it is trained
//! with, is no part of generation.

use burn::tensor::Device;
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{Error, Layout};
use ravel_heads::{DescriptionConfig, DescriptionEmbedding, NextScale, NextScaleConfig, StartKind};
use ravel_nn::{Activation, NormKind, Pairs, QueryKeyNorm, RotaryConfig};
use ravel_weights::Checkpoint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::whole::Whole;
use crate::{FamilyError, infinity_vae, of_family, renamed};

/// The family's name.
pub const NAME: &str = "infinity";
/// The key table of all but the blocks.
const KEYS: &str = include_str!("../keys/infinity.keys.toml");
/// The key table of one chunk of blocks, with words to fill in.
const BLOCK_KEYS: &str = include_str!("../keys/infinity_block.keys.toml");

/// Scales that the transformer has embeddings for.
const LEVELS: usize = 15;

/// What the reference's transformer takes; the values of the 2B where a key is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Blocks.
    pub depth: usize,
    /// Width.
    pub embed_dim: usize,
    /// Heads.
    pub num_heads: usize,
    /// Feed-forward width as a multiple of the width.
    pub mlp_ratio: f64,
    /// Parts that the blocks are numbered in.
    pub block_chunks: usize,
    /// Width of the text encoder's features.
    pub text_channels: usize,
    /// Positions of the longest text.
    pub text_maxlen: usize,
    /// Of the norms.
    pub norm_eps: f64,
    /// Height and width of the finest scale of the greatest pictures that the transformer was trained on in this shape; the tokenizer's
    /// own if absent.
    pub rope_grid: Option<[usize; 2]>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            depth: 32,
            embed_dim: 2048,
            num_heads: 16,
            mlp_ratio: 4.0,
            block_chunks: 8,
            text_channels: 2048,
            text_maxlen: 512,
            norm_eps: 1e-6,
            rope_grid: None,
        }
    }
}

/// The built parts.
#[derive(Debug)]
pub struct Parts {
    /// What steers: a description.
    pub prefix: DescriptionEmbedding,
    /// The blocks.
    pub backbone: Transformer,
    /// Scales in and scores of bits out.
    pub head: NextScale,
}

impl Config {
    /// The blocks.
    pub fn backbone(&self) -> TransformerConfig {
        let between = (self.embed_dim as f64 * self.mlp_ratio / 256.0).round_ties_even() as usize;
        TransformerConfig {
            layers: self.depth,
            d_model: self.embed_dim,
            n_heads: self.num_heads,
            d_ff: Some(256 * between),
            norm: NormKind::Layer,
            norm_eps: self.norm_eps,
            activation: Activation::GeluTanh,
            bias: true,
            qk_norm: QueryKeyNorm::Cosine,
            rotary: Some(RotaryConfig {
                axes: 2,
                pairs: Pairs::Interleaved,
                ..RotaryConfig::default()
            }),
            modulation: Some(self.embed_dim),
            shared_modulation: true,
            cross_attention: Some(self.embed_dim),
            ..TransformerConfig::default()
        }
    }

    /// Scales in and scores of bits out, for a tokenizer's pictures.
    pub fn head(&self, tokenizer: &infinity_vae::Config) -> NextScaleConfig {
        let bits = tokenizer.bits();
        let last = tokenizer.scale_schedule.last();
        let [_, rows, columns] = last.copied().unwrap_or_default();
        NextScaleConfig {
            codebook_size: 2,
            depth: bits,
            code_width: bits,
            start: StartKind::PrefixPlusLearned,
            most_levels: Some(LEVELS),
            spread: Some(self.rope_grid.unwrap_or([rows, columns])),
            positions: false,
            ..NextScaleConfig::default()
        }
    }

    /// The reading of descriptions.
    pub fn descriptions(&self) -> DescriptionConfig {
        let head_width = if self.embed_dim > 4096 { 64 } else { 128 };
        DescriptionConfig {
            feature_width: self.text_channels,
            len: self.text_maxlen,
            heads: (self.text_channels / head_width).max(1),
            norm_eps: self.norm_eps,
        }
    }

    /// Checks that the parts can be built for a tokenizer.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    pub fn validate(&self, tokenizer: &infinity_vae::Config) -> ravel_core::Result<()> {
        self.backbone().validate()?;
        self.descriptions().validate(self.embed_dim)?;
        let chunks = self.block_chunks.max(1);
        if !self.depth.is_multiple_of(chunks) {
            return Err(Error::Config {
                field: "block_chunks".into(),
                found: chunks.to_string(),
                expected: format!("a divisor of depth, {}", self.depth),
            });
        }
        self.head(tokenizer).validate_for(&tokenizer.layout())
    }

    /// The parts with fresh weights, which are drawn when they are first read.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible.
    pub fn init(
        &self,
        tokenizer: &infinity_vae::Config,
        device: &Device,
    ) -> Result<Parts, FamilyError> {
        self.validate(tokenizer).map_err(of_family(NAME))?;
        let (backbone, width) = (self.backbone(), self.embed_dim);
        let (axes, layout) = (backbone.axes(), tokenizer.layout());
        Ok(Parts {
            prefix: self.descriptions().init(width, device),
            head: self.head(tokenizer).init(width, axes, &layout, device),
            backbone: backbone.init(device),
        })
    }

    /// The parts with a checkpoint's weights.
    ///
    /// # Errors
    /// [`FamilyError`] if a size is impossible or the checkpoint does not fit.
    pub fn load(
        &self,
        tokenizer: &infinity_vae::Config,
        checkpoint: Checkpoint,
        device: &Device,
    ) -> Result<Parts, FamilyError> {
        let Parts {
            prefix,
            backbone,
            head,
        } = self.init(tokenizer, device)?;
        let checkpoint = renamed((NAME, &self.keys()), checkpoint, &[])?;
        let whole = Whole::load(prefix, backbone, head, &checkpoint)?;
        Ok(Parts {
            prefix: whole.prefix,
            backbone: whole.backbone,
            head: whole.head,
        })
    }

    /// The key table: each chunk has rules of its own, because blocks are numbered anew in it.
    fn keys(&self) -> String {
        let chunks = self.block_chunks.max(1);
        let each = self.depth / chunks;
        let rules = (0..chunks).map(|chunk| {
            let below = match chunks {
                1 => "blocks".to_string(),
                _ => format!("block_chunks.{chunk}.module"),
            };
            let first = (chunk * each).to_string();
            BLOCK_KEYS.replace("BELOW", &below).replace("FIRST", &first)
        });
        std::iter::once(KEYS.to_string()).chain(rules).collect()
    }
}

impl infinity_vae::Config {
    /// Bits of a position.
    pub fn bits(&self) -> usize {
        match self.apply_spatial_patchify {
            true => 4 * self.codebook_dim,
            false => self.codebook_dim,
        }
    }

    /// How positions are arranged.
    pub fn layout(&self) -> Layout {
        let sides = self.scale_schedule.iter();
        Layout::Scales {
            sides: sides.map(|[_, rows, columns]| (*rows, *columns)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_weights::KeyTable;

    #[test]
    fn every_chunk_has_its_rules() {
        for (chunks, depth) in [(1, 3), (8, 32)] {
            let config = Config {
                block_chunks: chunks,
                depth,
                ..Config::default()
            };
            let keys = config.keys();
            KeyTable::parse(NAME, &keys).unwrap();
            let last = depth - depth / chunks;
            assert!(keys.contains(&format!("backbone.blocks.{{i+{last}}}.cross.q.bias")));
        }
        assert!(Config::default().keys().contains("block_chunks.7.module."));
    }
}
