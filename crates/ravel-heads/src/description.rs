//! A description's features, from a text encoder, as what Infinity's transformer reads: one vector that sums the text up, which
//! starts the first scale and sets all norms, and the features themselves for cross-attention.
//!
//! Han et al. 2024 (Infinity), section 3.1. Symbols: `b` rows, `n` positions of text, `c` width of its features, `d` width of the
//! transformer.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Bool, Device, Tensor, activation};
use ravel_core::{Condition, Error, Result};
use ravel_nn::{Activation, Norm, NormConfig, NormKind, init};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::positive;

/// Added to the score of a position that is no text.
const HIDDEN: f32 = -1e9;

/// What fixes the reading of descriptions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DescriptionConfig {
    /// Width of the encoder's hidden states.
    pub feature_width: usize,
    /// Positions of the longest description.
    pub len: usize,
    /// Heads of the attention that sums the text up.
    pub heads: usize,
    /// Of the norm.
    pub norm_eps: f64,
}

impl DescriptionConfig {
    /// Checks that it can be built for a transformer of this width.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    pub fn validate(&self, d_model: usize) -> Result<()> {
        positive("feature-width", self.feature_width)?;
        positive("len", self.len)?;
        positive("heads", self.heads)?;
        match d_model.is_multiple_of(self.heads) {
            true => Ok(()),
            false => Err(Error::Config {
                field: "heads".into(),
                found: self.heads.to_string(),
                expected: format!("a divisor of {d_model}"),
            }),
        }
    }

    /// A fresh embedding.
    pub fn init(&self, d_model: usize, device: &Device) -> DescriptionEmbedding {
        let width = self.feature_width;
        let linear = |from, to| init::linear(from, to, true, init::STD, device);
        let norm = NormConfig {
            kind: NormKind::Rms,
            eps: self.norm_eps,
        };
        DescriptionEmbedding {
            norm: norm.init(width, device),
            query: init::normal([self.heads, d_model / self.heads], init::STD, device),
            kv: linear(width, 2 * d_model),
            pooled: linear(d_model, d_model),
            up: linear(width, d_model),
            out: linear(d_model, d_model),
            nothing: init::normal([self.len, width], (width as f64).powf(-0.5), device),
        }
    }
}

/// Features to [`Condition`].
#[derive(Module, Debug)]
pub struct DescriptionEmbedding {
    /// Before all else.
    pub norm: Norm,
    /// `[heads, d / heads]`: what asks for the sum.
    pub query: Param<Tensor<2>>,
    /// `[c, 2 d]`: all keys, then all values.
    pub kv: Linear,
    /// `[d, d]`: behind that attention.
    pub pooled: Linear,
    /// `[c, d]`.
    pub up: Linear,
    /// `[d, d]`.
    pub out: Linear,
    /// `[len, c]`: the features of no description, for guidance.
    pub nothing: Param<Tensor<2>>,
}

impl DescriptionEmbedding {
    /// The condition that a description's features stand for.
    ///
    /// # Shapes
    /// - `features`: `[b, n, c]`
    /// - `hidden`: `[b, n]`, positions that are no text
    pub fn condition(&self, features: Tensor<3>, hidden: Tensor<2, Bool>) -> Condition {
        let features = self.norm.forward(features);
        let sum = self.summed(features.clone(), hidden.clone());
        let inner = Activation::GeluTanh.forward(self.up.forward(features));
        Condition {
            prefix: Some(sum.clone().unsqueeze_dim(1)),
            modulation: Some(sum),
            cross: Some(self.out.forward(inner)),
            cross_hidden: Some(hidden),
            ..Condition::default()
        }
    }

    /// The condition of no description: as many positions as the description beside it has.
    ///
    /// # Shapes
    /// - `hidden`: `[b, n]`, `n` at most `len`
    pub fn without(&self, hidden: Tensor<2, Bool>) -> Condition {
        let [batch, n] = hidden.dims();
        let nothing = self.nothing.val().narrow(0, 0, n);
        let width = nothing.dims()[1];
        let nothing = nothing.unsqueeze::<3>().expand([batch, n, width]);
        self.condition(nothing, hidden)
    }

    /// One vector for the whole text, `[b, d]`.
    fn summed(&self, features: Tensor<3>, hidden: Tensor<2, Bool>) -> Tensor<2> {
        let [batch, n, _] = features.dims();
        let [heads, width] = self.query.dims();
        let kv = self.kv.forward(features);
        let kv = kv.reshape([batch, n, 2 * heads, width]).swap_dims(1, 2);
        let keys = kv.clone().narrow(1, 0, heads);
        let values = kv.narrow(1, heads, heads);
        let query = self.query.val().reshape([1, heads, 1, width]);
        let query = query.expand([batch, heads, 1, width]);
        let scores = query.matmul(keys.swap_dims(2, 3)) * (width as f64).powf(-0.5);
        let hidden = hidden.reshape([batch, 1, 1, n]).expand(scores.shape());
        let shares = activation::softmax(scores.mask_fill(hidden, HIDDEN), 3);
        let sum = shares.matmul(values).reshape([batch, heads * width]);
        self.pooled.forward(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use ravel_testkit::{assert_close, device, formula};

    #[test]
    fn what_is_hidden_does_not_count() {
        let device = device();
        let config = DescriptionConfig {
            feature_width: 6,
            len: 4,
            heads: 2,
            norm_eps: 1e-6,
        };
        config.validate(8).unwrap();
        assert!(config.validate(9).is_err());
        let embedding = config.init(8, &device);
        let features = formula([1, 4, 6], 3, 1.0, &device);
        let hidden = |flags: &[bool]| -> Tensor<2, Bool> {
            Tensor::from_data(TensorData::new(flags.to_vec(), [1, flags.len()]), &device)
        };
        let sum = |condition: Condition| condition.modulation.unwrap();
        let short = embedding.condition(features.clone().narrow(1, 0, 2), hidden(&[false; 2]));
        let padded = hidden(&[false, false, true, true]);
        let long = embedding.condition(features.clone(), padded.clone());
        assert_close("sum", &sum(long.clone()), &sum(short), 1e-6);
        assert_close(
            "start",
            &long.prefix.unwrap().squeeze_dim::<2>(1),
            &long.modulation.unwrap(),
            0.0,
        );
        let all = embedding.condition(features, hidden(&[false; 4]));
        let nothing = embedding.without(padded);
        assert_eq!(nothing.cross.clone().unwrap().dims(), [1, 4, 8]);
        let stacked = all.stack(nothing);
        assert_eq!(stacked.modulation.unwrap().dims(), [2, 8]);
        assert_eq!(stacked.cross_hidden.unwrap().dims(), [2, 4]);
    }
}
