//! Published language models: GPT-2, LLaMA, Qwen 2, Qwen 3 and Mistral, as the `transformers` library writes them.
//!
//! A `config.json` says which by its `model_type`. The table of embeddings becomes the next-token head's codebook, all else the
//! shared transformer.

pub mod gpt2;
pub mod llama;
pub mod mistral;
pub mod qwen2;
pub mod qwen3;

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::Layout;
use ravel_heads::{NextToken, NextTokenConfig, StartKind};
use ravel_weights::{Checkpoint, KeyTable, load};
use serde::Deserialize;

use crate::hub::{activation, unknown};
use crate::{FamilyError, read_config};

/// What a configuration comes to: parts that are built elsewhere, and how its weights are called.
#[derive(Debug, Clone, PartialEq)]
pub struct LanguageConfig {
    /// The family, as `model_type` names it.
    pub family: &'static str,
    /// The sequence model.
    pub backbone: TransformerConfig,
    /// The head, whose codebook is the table of embeddings.
    pub head: NextTokenConfig,
    /// Positions that the model was made for.
    pub context: usize,
    /// The id with which texts begin, if the configuration names one.
    pub begin: Option<u32>,
    /// Ids that end a text.
    pub ends: Vec<u32>,
    /// The table of the weights' names.
    keys: Keys,
}

/// A table of names with what this configuration adds to it.
#[derive(Debug, Clone, PartialEq)]
struct Keys {
    table: &'static str,
    /// A first name that some files leave out, with a tensor that tells.
    first_name: Option<(&'static str, &'static str)>,
}

/// A language model, ready to run.
#[derive(Debug)]
pub struct LanguageModel {
    /// The sequence model.
    pub backbone: Transformer,
    /// Predicts the next id.
    pub head: NextToken,
}

#[derive(Deserialize)]
struct ModelType {
    #[serde(default)]
    model_type: Option<String>,
}

/// Reads a `config.json` of any of these families.
///
/// # Errors
/// [`FamilyError::Config`] if it cannot be read or names another family; [`FamilyError::Part`] if it asks for what is not
/// implemented.
pub fn read(json: &str) -> Result<LanguageConfig, FamilyError> {
    const FAMILY: &str = "language model";
    let kind: ModelType = read_config(FAMILY, json)?;
    match kind.model_type.as_deref() {
        Some("gpt2") => gpt2::read(json),
        Some("llama") => llama::read(json),
        Some("mistral") => mistral::read(json),
        Some("qwen2") => qwen2::read(json),
        Some("qwen3") => qwen3::read(json),
        other => Err(FamilyError::Config {
            family: FAMILY,
            reason: format!(
                "`model_type` is {}, one of gpt2, llama, mistral, qwen2 and qwen3 is expected",
                other.map_or("absent".into(), |other| format!("{other:?}"))
            ),
        }),
    }
}

impl LanguageConfig {
    /// Checks that the parts can be built.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names the first field that does not fit.
    pub fn validate(&self) -> Result<(), FamilyError> {
        let wrong = |source| FamilyError::Part {
            family: self.family,
            source,
        };
        self.backbone.validate().map_err(wrong)?;
        self.head.validate().map_err(wrong)
    }

    /// Builds the model from weights under their published names.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, [`FamilyError::Weights`] if the weights do not fit.
    pub fn build(
        &self,
        checkpoint: Checkpoint,
        device: &Device,
    ) -> Result<LanguageModel, FamilyError> {
        self.validate()?;
        let table = self.keys(&checkpoint)?;
        let checkpoint = table.apply(checkpoint, &BTreeMap::new())?;
        let layout = Layout::Sequence { len: self.context };
        let width = self.backbone.d_model;
        let head = self.head.init(width, self.backbone.axes(), &layout, device);
        Ok(LanguageModel {
            backbone: load(self.backbone.init(device), &checkpoint, "backbone")?,
            head: load(head, &checkpoint, "head")?,
        })
    }

    /// The names that this file's weights have.
    fn keys(&self, checkpoint: &Checkpoint) -> Result<KeyTable, FamilyError> {
        const OUT: &str = "lm_head.weight";
        let mut table = self.keys.table.to_string();
        // A tied projection is the table of embeddings; some files hold it again.
        if self.head.tie {
            table = table.replacen("drop = [", &format!("drop = [{OUT:?}, "), 1);
        } else {
            table += &format!(
                "\n[[rule]]\nfrom = {OUT:?}\nto = \"head.out.weight\"\nops = [\"transpose\"]\n"
            );
        }
        if let Some((name, tensor)) = self.keys.first_name
            && checkpoint.shape(&format!("{name}.{tensor}")).is_none()
        {
            table = table.replace(&format!("\"{name}."), "\"");
        }
        Ok(KeyTable::parse(self.family, &table)?)
    }
}

/// The head of a language model: what is given stands in front, its last id predicts the first new one.
fn head(vocabulary: usize, tie: bool) -> NextTokenConfig {
    NextTokenConfig {
        codebook_size: vocabulary,
        start: StartKind::Prefix,
        positions: false,
        tie,
        causal_prefix: true,
        ..NextTokenConfig::default()
    }
}

/// One id or several.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(untagged)]
enum Ids {
    /// None.
    #[default]
    None,
    /// One.
    One(u32),
    /// Several.
    Several(Vec<u32>),
}

impl Ids {
    fn all(&self) -> Vec<u32> {
        match self {
            Self::None => Vec::new(),
            Self::One(id) => vec![*id],
            Self::Several(ids) => ids.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_of_another_kind_is_refused_in_a_line() {
        for (json, expected) in [
            (r#"{"model_type": "bert"}"#, "`model_type` is \"bert\""),
            ("{}", "`model_type` is absent"),
            ("[]", "cannot be read"),
            (r#"{"model_type": "llama", "hidden_size": "x"}"#, "llama"),
            (
                r#"{"model_type": "llama", "hidden_act": "tanh"}"#,
                "hidden_act is tanh",
            ),
            (
                r#"{"model_type": "qwen3", "rope_scaling": {"rope_type": "longrope", "factor": 4.0}}"#,
                "rope_scaling.rope_type is longrope",
            ),
            (
                r#"{"model_type": "gpt2", "n_embd": 10, "n_head": 3}"#,
                "n-heads is 3",
            ),
        ] {
            let error = read(json)
                .and_then(|config| config.validate())
                .expect_err(json)
                .to_string();
            assert!(error.contains(expected), "{json}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
