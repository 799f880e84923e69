//! MusicGen (Copet et al. 2023): a decoder over delayed frames of EnCodec codes that attends to an encoded text.
//!
//! Published: `facebook/musicgen-small`, `-medium`, `-large`, `-melody` and their stereo kin, as the `transformers` library writes them: the
//! text model (T5), the codec (EnCodec) and the decoder in one file. The codec is a family of its own. The melody models attend to nothing
//! beside the sequence: a tune and the text stand in front of the codes. Only the tune that stands for none is known here.

use std::collections::BTreeMap;

use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor};
use ravel_backbone::{TextEncoder, Transformer, TransformerConfig};
use ravel_core::{Condition, Layout};
use ravel_heads::{Arrangement, CodeTables, NextTokens, NextTokensConfig, Opening};
use ravel_nn::{NormKind, init};
use ravel_weights::{Checkpoint, KeyTable, load};
use serde::Deserialize;

use crate::hub::{activation, unknown};
use crate::{FamilyError, read_config, t5};

const FAMILY: &str = "musicgen";
const KEYS: &str = include_str!("../keys/musicgen.keys.toml");
/// What the decoders of melody models call themselves.
const MELODY: &str = "musicgen_melody_decoder";

/// What `config.json` holds of the decoder; `musicgen-small`'s values where a key is absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Ids of each codebook that can be predicted.
    pub vocab_size: usize,
    /// Positions that the model was made for.
    pub max_position_embeddings: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width of the feed-forward layers.
    pub ffn_dim: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Curve of the feed-forward layers.
    pub activation_function: String,
    /// Codebooks, those of both channels where the sound is stereo.
    pub num_codebooks: usize,
    /// Channels of the sound: 2 have their codebooks in turn, left and right, of equal delay.
    pub audio_channels: usize,
    /// The id that stands where a codebook has not begun or has ended.
    pub pad_token_id: usize,
    /// The id that opens.
    pub bos_token_id: usize,
    /// `musicgen_decoder`, or `musicgen_melody_decoder`, which has no cross-attention.
    pub model_type: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 2048,
            max_position_embeddings: 2048,
            hidden_size: 1024,
            ffn_dim: 4096,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            activation_function: "gelu".into(),
            num_codebooks: 4,
            audio_channels: 1,
            pad_token_id: 2048,
            bos_token_id: 2048,
            model_type: "musicgen_decoder".into(),
        }
    }
}

/// What `config.json` of a whole model holds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Whole {
    /// The decoder.
    pub decoder: Config,
    /// The text model.
    pub text_encoder: t5::Config,
    /// Pitch classes of a tune, in melody models.
    #[serde(default)]
    pub num_chroma: usize,
    /// Positions that a tune takes, in melody models.
    #[serde(default)]
    pub chroma_length: usize,
}

/// A whole model but for its codec.
pub struct WholeMusicGen {
    /// Reads descriptions.
    pub text: TextEncoder,
    /// Features to the decoder's width, where it is another.
    pub projection: Option<Linear>,
    /// The positions that stand for no tune, `[1, chroma_length, hidden_size]`, in melody models.
    pub no_tune: Option<Tensor<3>>,
    /// The decoder.
    pub decoder: MusicGen,
}

impl WholeMusicGen {
    /// What a description becomes; with guidance a row of no description below it.
    ///
    /// # Shapes
    /// - `ids`: `[1, m]`, the token that ends a text included
    pub fn condition(&self, ids: Tensor<2, Int>, guided: bool) -> Condition {
        let features = self.text.forward(ids, None);
        let said = match &self.projection {
            Some(projection) => projection.forward(features),
            None => features,
        };
        let text = match guided {
            // The reference blots out the features of no description after it has projected them.
            true => Tensor::cat(vec![said.clone(), said.zeros_like()], 0),
            false => said,
        };
        match &self.no_tune {
            None => Condition {
                cross: Some(text),
                ..Condition::default()
            },
            Some(tune) => {
                let tune = tune.clone().repeat_dim(0, text.dims()[0]);
                Condition {
                    prefix: Some(Tensor::cat(vec![tune, text], 1)),
                    ..Condition::default()
                }
            }
        }
    }
}

impl Whole {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// As [`Config::read`]; also if the text model or the decoder is not in it, or a tune has no size.
    pub fn read(json: &str) -> Result<Self, FamilyError> {
        let whole: Self = read_config(FAMILY, json)?;
        whole.decoder.check()?;
        for (field, found) in [
            ("num_chroma", whole.num_chroma),
            ("chroma_length", whole.chroma_length),
        ] {
            let sound = (1..=1 << 16).contains(&found);
            if whole.decoder.is_melody() && !sound {
                return Err(unknown(FAMILY, field, found, "1 to 65536"));
            }
        }
        Ok(whole)
    }

    /// Builds the model from a file of all of it. The codec in it is left alone.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, [`FamilyError::Weights`] if the weights do not fit.
    pub fn build(
        &self,
        checkpoint: Checkpoint,
        device: &Device,
    ) -> Result<WholeMusicGen, FamilyError> {
        let decoder = self.decoder.build(checkpoint.clone(), device)?;
        let text = checkpoint.clone().under("text_encoder.");
        let (from, to) = (self.text_encoder.d_model, self.decoder.hidden_size);
        let projection =
            (from != to).then(|| linear(&checkpoint, "enc_to_dec_proj", from, to, device));
        let no_tune = self.decoder.is_melody().then(|| {
            let tune = linear(
                &checkpoint,
                "audio_enc_to_dec_proj",
                self.num_chroma,
                to,
                device,
            )?;
            // No tune is the first pitch class throughout.
            let first = Tensor::arange(0..self.num_chroma as i64, device).equal_elem(0);
            let first: Tensor<3> = first.float().reshape([1, 1, self.num_chroma]);
            Ok::<_, FamilyError>(tune.forward(first).repeat_dim(1, self.chroma_length))
        });
        Ok(WholeMusicGen {
            text: self.text_encoder.load(text, device)?,
            projection: projection.transpose()?,
            no_tune: no_tune.transpose()?,
            decoder,
        })
    }
}

/// A projection of the whole model, by name.
fn linear(
    checkpoint: &Checkpoint,
    name: &str,
    from: usize,
    to: usize,
    device: &Device,
) -> Result<Linear, FamilyError> {
    let table = format!(
        "[[rule]]\nfrom = \"{name}.weight\"\nto = \"weight\"\nops = [\"transpose\"]\n\
         [[rule]]\nfrom = \"{name}.bias\"\nto = \"bias\"\n"
    );
    let table = KeyTable::parse(FAMILY, &table)?;
    let both = checkpoint.clone().only(&format!("{name}."));
    let both = table.apply(both, &BTreeMap::new())?;
    let fresh = init::linear(from, to, true, init::STD, device);
    Ok(load(fresh, &both, "")?)
}

/// The decoder, ready to run. Its condition is the encoded text, projected to its width, as [`ravel_core::Condition::cross`].
pub struct MusicGen {
    /// The decoder.
    pub backbone: Transformer,
    /// Delayed frames.
    pub head: NextTokens,
}

impl Config {
    /// Reads a `config.json` of the decoder, or of the whole model, whose `decoder` is taken.
    ///
    /// # Errors
    /// [`FamilyError::Config`] if it cannot be read, [`FamilyError::Part`] if it has neither one channel nor two.
    pub fn read(json: &str) -> Result<Self, FamilyError> {
        #[derive(Deserialize)]
        struct Whole {
            decoder: Option<Config>,
        }
        let whole: Whole = read_config(FAMILY, json)?;
        let config = match whole.decoder {
            Some(decoder) => decoder,
            None => read_config(FAMILY, json)?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), FamilyError> {
        if !matches!(self.audio_channels, 1 | 2) {
            let found = self.audio_channels;
            return Err(unknown(FAMILY, "audio_channels", found, "1 or 2"));
        }
        Ok(())
    }

    /// Whether tune and text stand in front of the codes, rather than beside them.
    pub fn is_melody(&self) -> bool {
        self.model_type == MELODY
    }

    /// The decoder.
    ///
    /// # Errors
    /// [`FamilyError::Part`] for a curve that is not known.
    pub fn backbone(&self) -> Result<TransformerConfig, FamilyError> {
        let curve = &self.activation_function;
        Ok(TransformerConfig {
            layers: self.num_hidden_layers,
            d_model: self.hidden_size,
            n_heads: self.num_attention_heads,
            d_ff: Some(self.ffn_dim),
            norm: NormKind::Layer,
            norm_eps: 1e-5,
            activation: activation(FAMILY, "activation_function", curve)?,
            sinusoidal_positions: true,
            cross_attention: (!self.is_melody()).then_some(self.hidden_size),
            ..TransformerConfig::default()
        })
    }

    /// Delayed frames. One id more can be read than predicted.
    pub fn head(&self) -> NextTokensConfig {
        NextTokensConfig {
            depth: self.num_codebooks,
            codebook_size: self.vocab_size.saturating_add(1),
            scored_ids: Some(self.vocab_size),
            tables: CodeTables::Separate,
            arrangement: self.arrangement(),
            opening: Opening::Ids {
                id: self.bos_token_id,
            },
            ..NextTokensConfig::default()
        }
    }

    /// How frames lie along the sequence: each codebook one position later than the one before, left and right together.
    pub fn arrangement(&self) -> Arrangement {
        let steps = (0..self.num_codebooks).map(|codebook| codebook / self.audio_channels);
        Arrangement::Delayed {
            steps: steps.collect(),
            before: self.pad_token_id,
            after: self.pad_token_id,
        }
    }

    /// Builds the decoder from weights under their published names, alone or below `decoder.` in a file of the whole model.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, [`FamilyError::Weights`] if the weights do not fit.
    pub fn build(&self, checkpoint: Checkpoint, device: &Device) -> Result<MusicGen, FamilyError> {
        let wrong = |source| FamilyError::Part {
            family: FAMILY,
            source,
        };
        let (backbone, head) = (self.backbone()?, self.head());
        backbone.validate().map_err(wrong)?;
        head.validate().map_err(wrong)?;
        let whole = checkpoint.shape("decoder.lm_heads.0.weight").is_some();
        let table = match whole {
            false => KeyTable::parse(FAMILY, KEYS)?,
            true => KeyTable::parse(FAMILY, &in_whole_model(KEYS))?,
        };
        let checkpoint = table.apply(checkpoint, &BTreeMap::new())?;
        let layout = Layout::Sequence {
            len: self.max_position_embeddings,
        };
        let head = head.init(self.hidden_size, 1, &layout, device);
        Ok(MusicGen {
            backbone: load(backbone.init(device), &checkpoint, "backbone")?,
            head: load(head, &checkpoint, "head")?,
        })
    }
}

/// The table for a file that holds the text model and the codec too.
fn in_whole_model(table: &str) -> String {
    const BESIDE: &str = "drop = [\"text_encoder.{rest*}\", \"audio_encoder.{rest*}\", \"enc_to_dec_proj.{rest*}\", \
                          \"audio_enc_to_dec_proj.{rest*}\", ";
    table
        .replace("\"model.decoder.", "\"decoder.model.decoder.")
        .replace("\"lm_heads.", "\"decoder.lm_heads.")
        .replacen("drop = [", BESIDE, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(config: &Config) -> Vec<usize> {
        match config.arrangement() {
            Arrangement::Delayed { steps, .. } => steps,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_decoder_of_a_whole_model_is_taken() {
        let json = r#"{"decoder": {"hidden_size": 64, "num_codebooks": 8, "audio_channels": 2},
            "text_encoder": {"d_model": 9}, "hidden_size": 5}"#;
        let config = Config::read(json).expect("a sound configuration");
        assert_eq!((config.hidden_size, config.vocab_size), (64, 2048));
        assert_eq!(steps(&config), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(steps(&Config::default()), [0, 1, 2, 3]);
    }

    #[test]
    fn what_is_not_known_is_refused_in_a_line() {
        let line = |json| match Config::read(json) {
            Err(error) => error.to_string(),
            Ok(config) => config.backbone().expect_err("unknown").to_string(),
        };
        assert!(line(r#"{"audio_channels": 3}"#).contains("audio_channels is 3"));
        let curve = r#"{"activation_function": "sine"}"#;
        assert!(line(curve).contains("activation_function is sine"));
    }

    #[test]
    fn names_of_a_whole_model_are_found() {
        let table = in_whole_model(KEYS);
        assert!(table.contains("from = \"decoder.lm_heads.{k}.weight\""));
        assert!(table.contains("from = \"decoder.model.decoder.layers.{i}.fc1.weight\""));
        assert!(table.contains("to = \"backbone.final_norm.gain\""));
    }
}
