//! Layer normalisation over the channels of a grid (Ba et al. 2016).

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

const EPSILON: f64 = 1e-6;

/// Mean taken off and divided by the standard deviation along the second axis, times a learned gain, plus a learned bias.
#[derive(Module, Debug)]
pub struct ChannelNorm {
    /// `[channels]`.
    pub gain: Param<Tensor<1>>,
    /// `[channels]`.
    pub bias: Param<Tensor<1>>,
}

impl ChannelNorm {
    /// A norm that has learned nothing yet.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            gain: Initializer::Ones.init([channels], device),
            bias: Initializer::Zeros.init([channels], device),
        }
    }

    /// # Shapes
    /// - `grid`: `[b, channels, t, h, w]`
    /// - returns: like `grid`
    pub fn forward(&self, grid: Tensor<5>) -> Tensor<5> {
        let channels = grid.dims()[1];
        let along = |row: &Param<Tensor<1>>| row.val().reshape([1, channels, 1, 1, 1]);
        let centred = grid.clone() - grid.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        centred / (variance + EPSILON).sqrt() * along(&self.gain) + along(&self.bias)
    }
}
