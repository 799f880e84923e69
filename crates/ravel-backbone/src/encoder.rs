//! A text encoder: ids become hidden states that see the whole text, for what is conditioned on them (Raffel et al. 2020, T5).

use burn::module::{Module, Param};
use burn::tensor::module::embedding;
use burn::tensor::{Bool, Device, Int, Tensor};
use ravel_core::{Attend, Condition, Error, Result, StepInput};
use ravel_nn::init;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Transformer, TransformerConfig};

/// What fixes a text encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TextEncoderConfig {
    /// Ids, special ones included.
    pub vocabulary_size: usize,
    /// The blocks.
    pub transformer: TransformerConfig,
}

impl TextEncoderConfig {
    /// Checks that an encoder can be built.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        if !(1..=1 << 24).contains(&self.vocabulary_size) {
            return Err(Error::Config {
                field: "vocabulary-size".into(),
                found: self.vocabulary_size.to_string(),
                expected: format!("1 to {}", 1 << 24),
            });
        }
        self.transformer.validate()
    }

    /// A fresh encoder.
    ///
    /// # Panics
    /// If [`TextEncoderConfig::validate`] would report an error.
    pub fn init(&self, device: &Device) -> TextEncoder {
        let shape = [self.vocabulary_size, self.transformer.d_model];
        TextEncoder {
            tokens: init::normal(shape, init::STD, device),
            transformer: self.transformer.init(device),
        }
    }
}

/// Ids to hidden states.
#[derive(Module, Debug)]
pub struct TextEncoder {
    /// `[vocabulary_size, d_model]`.
    pub tokens: Param<Tensor<2>>,
    /// The blocks.
    pub transformer: Transformer,
}

impl TextEncoder {
    /// What the last block makes of a text, normed.
    ///
    /// # Shapes
    /// - `ids`: `[batch, n]`
    /// - `padding`: `[batch, n]`, positions that are no text
    /// - returns: `[batch, n, d_model]`
    pub fn forward(&self, ids: Tensor<2, Int>, padding: Option<Tensor<2, Bool>>) -> Tensor<3> {
        let (input, condition) = self.read(ids, padding);
        self.transformer.forward(input, &condition)
    }

    /// As [`TextEncoder::forward`], with all that comes before ([`Transformer::hidden_states`]).
    pub fn hidden_states(
        &self,
        ids: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
    ) -> Vec<Tensor<3>> {
        let (input, condition) = self.read(ids, padding);
        self.transformer.hidden_states(input, &condition)
    }

    fn read(
        &self,
        ids: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
    ) -> (StepInput, Condition) {
        let n = ids.dims()[1];
        let input = StepInput {
            coords: Tensor::arange(0..n as i64, &ids.device()).unsqueeze_dim(1),
            embedded: embedding(self.tokens.val(), ids),
            attend: Attend::Unit,
        };
        let condition = Condition {
            prefix_hidden: padding,
            ..Condition::default()
        };
        (input, condition)
    }
}
