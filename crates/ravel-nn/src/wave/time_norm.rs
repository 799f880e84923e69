//! Normalisation over all channels and time of a row together: a group norm of one group (Wu and He 2018).
//!
//! Burn's own refuses tensors of one or two numbers, which a short sound comes down to.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::init;

const EPSILON: f64 = 1e-5;

/// Mean taken off and divided by the standard deviation, times a learned gain per channel, plus a learned bias.
#[derive(Module, Debug)]
pub struct TimeNorm {
    /// `[c]`.
    pub gain: Param<Tensor<1>>,
    /// `[c]`.
    pub bias: Param<Tensor<1>>,
}

impl TimeNorm {
    /// A norm that has learned nothing yet.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            gain: init::ones([channels], device),
            bias: init::zeros([channels], device),
        }
    }

    /// # Shapes
    /// - `x`: `[b, c, t]`
    /// - returns: like `x`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, channels, time] = x.dims();
        let flat = x.reshape([batch, channels * time]);
        let centred = flat.clone() - flat.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        let normed = (centred / (variance + EPSILON).sqrt()).reshape([batch, channels, time]);
        let along = |row: &Param<Tensor<1>>| row.val().reshape([1, channels, 1]);
        normed * along(&self.gain) + along(&self.bias)
    }
}
