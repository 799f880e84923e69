//! The snake activation (Ziyin et al. 2020): a line with a learned ripple, which suits periodic signals.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::init;

/// Keeps the ripple finite where `alpha` is zero.
const EPSILON: f64 = 1e-9;

/// `x + sin²(α x) / (α + 1e-9)`, α per channel.
#[derive(Module, Debug)]
pub struct Snake {
    /// `[1, c, 1]`.
    pub alpha: Param<Tensor<3>>,
}

impl Snake {
    /// With α = 1.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            alpha: init::ones([1, channels, 1], device),
        }
    }

    /// # Shapes
    /// - `x`: `[b, c, t]`
    /// - returns: like `x`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let alpha = self.alpha.val();
        let ripple = (x.clone() * alpha.clone()).sin().square();
        x + ripple * (alpha + EPSILON).recip()
    }
}
