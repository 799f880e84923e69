//! ConvNeXt blocks over time (Liu et al. 2022, section 2): a convolution within each channel, then a small network at each
//! position, added to the input.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};

use super::conv::{Fit, WaveConv, WaveConvConfig};
use super::piece::{Aligned, Piece};
use super::stream::WaveConvState;
use crate::{Norm, NormConfig, NormKind, init};

/// ε of the norm.
const EPSILON: f64 = 1e-6;
/// Width of the network between as a multiple of the channels.
const EXPANSION: usize = 4;

/// What fixes a block.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvNextConfig {
    /// Channels.
    pub channels: usize,
    /// Samples that the convolution sees.
    pub kernel: usize,
    /// Its ends.
    pub fit: Fit,
}

/// What a block remembers between pieces.
#[derive(Debug, Clone, Default)]
pub struct ConvNextState {
    conv: WaveConvState,
    branches: Aligned,
}

/// A block.
#[derive(Module, Debug)]
pub struct ConvNext {
    /// Within each channel.
    pub depthwise: WaveConv,
    /// Over the channels.
    pub norm: Norm,
    /// `[c, 4 c]`.
    pub up: Linear,
    /// `[4 c, c]`.
    pub down: Linear,
    /// Strength of each channel, `[c]`.
    pub gamma: Param<Tensor<1>>,
}

impl ConvNextConfig {
    /// A fresh block.
    pub fn init(&self, device: &Device) -> ConvNext {
        let channels = self.channels;
        let depthwise = WaveConvConfig {
            groups: channels,
            ..WaveConvConfig::new(channels, channels, self.kernel, self.fit)
        };
        let norm = NormConfig {
            kind: NormKind::Layer,
            eps: EPSILON,
        };
        ConvNext {
            depthwise: depthwise.init(device),
            norm: norm.init(channels, device),
            up: LinearConfig::new(channels, EXPANSION * channels).init(device),
            down: LinearConfig::new(EXPANSION * channels, channels).init(device),
            gamma: init::ones([channels], device),
        }
    }
}

impl ConvNext {
    /// # Shapes
    /// - `x`: `[b, c, t]`
    /// - returns: like `x`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        x.clone() + self.network(self.depthwise.forward(x))
    }

    /// The state before the first piece.
    pub fn start(&self) -> ConvNextState {
        ConvNextState {
            conv: self.depthwise.start(),
            branches: Aligned::default(),
        }
    }

    /// As [`WaveConv::step`].
    pub fn step(&self, piece: Piece, last: bool, state: &mut ConvNextState) -> Piece {
        let inner = self.depthwise.step(piece.clone(), last, &mut state.conv);
        let inner = inner.map(|inner| self.network(inner));
        state.branches.sum(piece, inner)
    }

    fn network(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.norm.forward(x.swap_dims(1, 2));
        let x = self.down.forward(gelu(self.up.forward(x)));
        (x * self.gamma.val().unsqueeze()).swap_dims(1, 2)
    }
}
