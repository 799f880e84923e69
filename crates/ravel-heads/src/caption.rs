//! A caption's features, from a text encoder, as embedded positions in front of the codes.
//!
//! Sun et al. 2024 (LlamaGen), section 2.2.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Bool, Device, Tensor};
use ravel_core::{Condition, Result};
use ravel_nn::{Activation, Project, init};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::positive;

/// What fixes the embedding of captions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CaptionConfig {
    /// Width of the encoder's hidden states.
    pub feature_width: usize,
    /// Positions of every caption.
    pub len: usize,
}

impl CaptionConfig {
    /// Checks that the embedding can be built.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        positive("feature-width", self.feature_width)?;
        positive("len", self.len)
    }

    /// A fresh embedding.
    pub fn init(&self, d_model: usize, device: &Device) -> CaptionEmbedding {
        let linear = |from| init::linear(from, d_model, false, init::STD, device);
        let std = (self.feature_width as f64).powf(-0.5);
        CaptionEmbedding {
            up: linear(self.feature_width),
            out: linear(d_model),
            nothing: init::normal([self.len, self.feature_width], std, device),
        }
    }
}

/// Features to [`Condition`].
#[derive(Module, Debug)]
pub struct CaptionEmbedding {
    /// `[feature_width, d_model]`.
    pub up: Linear,
    /// `[d_model, d_model]`.
    pub out: Linear,
    /// `[len, feature_width]`: the features of no caption, for guidance.
    pub nothing: Param<Tensor<2>>,
}

impl CaptionEmbedding {
    /// The condition that a caption's features stand for.
    ///
    /// # Shapes
    /// - `features`: `[batch, len, feature_width]`
    /// - `hidden`: `[batch, len]`, positions that are no caption
    pub fn condition(&self, features: Tensor<3>, hidden: Option<Tensor<2, Bool>>) -> Condition {
        Condition {
            prefix: Some(self.embedded(features)),
            prefix_hidden: hidden,
            ..Condition::default()
        }
    }

    /// The condition of no caption; the reference hides the same positions as in the caption beside it.
    ///
    /// # Shapes
    /// - `hidden`: as in [`CaptionEmbedding::condition`]
    pub fn without(&self, batch: usize, hidden: Option<Tensor<2, Bool>>) -> Condition {
        let nothing: Tensor<3> = self.nothing.val().unsqueeze();
        let [_, len, width] = nothing.dims();
        self.condition(nothing.expand([batch, len, width]), hidden)
    }

    /// # Shapes
    /// - `features`: `[batch, n, feature_width]`
    /// - returns: `[batch, n, d_model]`
    pub fn embedded(&self, features: Tensor<3>) -> Tensor<3> {
        let inner = self.up.project_to(features, Activation::GeluTanh);
        self.out.project(inner)
    }
}
