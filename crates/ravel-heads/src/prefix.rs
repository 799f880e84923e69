//! Text or a class as embedded positions in front of the codes.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, module::embedding};
use ravel_core::{Condition, Result};
use ravel_nn::init;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::positive;

/// What fixes the embedding of a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PrefixConfig {
    /// Ids, special ones included.
    pub vocabulary_size: usize,
    /// Positions; shorter texts are padded to it.
    pub len: usize,
    /// Whether each position has a learned embedding of its own.
    pub positions: bool,
    /// Whether the mean of the embedded ids also modulates the backbone.
    pub modulation: bool,
    /// Whether the prefix itself is left out, for conditioning by modulation alone.
    pub modulation_only: bool,
    /// The id that fills up short texts; it is left out of the mean.
    pub padding: Option<usize>,
}

impl Default for PrefixConfig {
    fn default() -> Self {
        Self {
            vocabulary_size: 2048,
            len: 16,
            positions: true,
            modulation: false,
            modulation_only: false,
            padding: None,
        }
    }
}

impl PrefixConfig {
    /// Checks that the embedding can be built.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        positive("vocabulary-size", self.vocabulary_size)?;
        positive("len", self.len)
    }

    /// A fresh embedding.
    pub fn init(&self, d_model: usize, device: &Device) -> PrefixEmbedding {
        let table = |rows| init::normal([rows, d_model], init::STD, device);
        PrefixEmbedding {
            tokens: table(self.vocabulary_size),
            positions: self.positions.then(|| table(self.len)),
            config: self.clone(),
        }
    }
}

/// Ids to [`Condition`].
#[derive(Module, Debug)]
pub struct PrefixEmbedding {
    /// `[vocabulary_size, d_model]`.
    pub tokens: Param<Tensor<2>>,
    /// `[len, d_model]`.
    pub positions: Option<Param<Tensor<2>>>,
    #[module(skip)]
    config: PrefixConfig,
}

impl PrefixEmbedding {
    /// What it was built from.
    pub fn config(&self) -> &PrefixConfig {
        &self.config
    }

    /// The condition that these ids stand for.
    ///
    /// # Shapes
    /// - `ids`: `[batch, n]`, `n` at most `len`
    pub fn condition(&self, ids: Tensor<2, Int>) -> Condition {
        let pooled = self.config.modulation || self.config.modulation_only;
        Condition {
            prefix: (!self.config.modulation_only).then(|| self.embedded(ids.clone())),
            modulation: pooled.then(|| self.pooled(ids)),
            ..Condition::default()
        }
    }

    /// Embedded ids with their positions.
    ///
    /// # Shapes
    /// - `ids`: `[batch, n]`, `n` at most `len`
    /// - returns: `[batch, n, d_model]`
    ///
    /// # Panics
    /// If there are more ids than positions.
    pub fn embedded(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [_, n] = ids.dims();
        assert!(
            n <= self.config.len,
            "position axis: {n} ids, the prefix has {}",
            self.config.len
        );
        let tokens = embedding(self.tokens.val(), ids);
        match &self.positions {
            Some(positions) => tokens + positions.val().narrow(0, 0, n).unsqueeze(),
            None => tokens,
        }
    }

    /// The mean of the embedded ids, padding left out.
    ///
    /// # Shapes
    /// - `ids`: `[batch, n]`
    /// - returns: `[batch, d_model]`
    pub fn pooled(&self, ids: Tensor<2, Int>) -> Tensor<2> {
        let tokens = embedding(self.tokens.val(), ids.clone());
        let Some(padding) = self.config.padding else {
            return tokens.mean_dim(1).squeeze_dim(1);
        };
        let kept = ids
            .not_equal_elem(padding as i64)
            .float()
            .cast(tokens.dtype());
        let count = kept.clone().sum_dim(1).clamp_min(1.0);
        (tokens * kept.unsqueeze_dim(2))
            .sum_dim(1)
            .squeeze_dim::<2>(1)
            / count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{assert_close, device, formula};

    #[test]
    fn the_mean_leaves_padding_out() {
        let device = device();
        let config = PrefixConfig {
            vocabulary_size: 4,
            len: 3,
            modulation: true,
            padding: Some(0),
            ..PrefixConfig::default()
        };
        let mut prefix = config.init(2, &device);
        let tokens = formula([4, 2], 1, 1.0, &device);
        prefix.tokens = prefix.tokens.map(|_| tokens.clone());
        let ids = Tensor::from_data([[1, 3, 0], [2, 0, 0]], &device);
        let condition = prefix.condition(ids);
        let row = |at| tokens.clone().narrow(0, at, 1);
        let expected = Tensor::cat(vec![(row(1) + row(3)) / 2.0, row(2)], 0);
        let found = condition.modulation.expect("modulation was asked for");
        assert_close("mean", &found, &expected, 1e-6);
        assert_eq!(condition.prefix.expect("a prefix").dims(), [2, 3, 2]);
    }
}
