//! Position-wise feed-forward layers, plain (Vaswani et al. 2017, section 3.3) or gated (Shazeer 2020).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, activation};
use ravel_kernels::Curve;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Project, init};

/// The curve between the two products.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `x Φ(x)`, with the error function.
    Gelu,
    /// GELU through tanh (`gelu_new`).
    GeluTanh,
    /// `x sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²` (So et al. 2021): few operations, trains well.
    #[default]
    ReluSquared,
}

impl Activation {
    /// The kernels' curve, where they have it.
    pub(crate) fn curve(self) -> Option<Curve> {
        match self {
            Self::Gelu => None,
            Self::GeluTanh => Some(Curve::GeluTanh),
            Self::Silu => Some(Curve::Silu),
            Self::Relu => Some(Curve::Relu),
            Self::ReluSquared => Some(Curve::ReluSquared),
        }
    }

    /// The curve, number by number.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let curve = self.curve();
        if let Some(out) = curve.and_then(|curve| ravel_kernels::tracked::curve(&x, curve)) {
            return out;
        }
        match self {
            Self::Gelu => activation::gelu(x),
            Self::GeluTanh => activation::gelu_approximate(x),
            Self::Silu => activation::silu(x),
            Self::Relu => activation::relu(x),
            Self::ReluSquared => {
                let x = activation::relu(x);
                x.clone() * x
            }
        }
    }
}

/// What fixes a feed-forward layer.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedForwardConfig {
    /// Width in and out.
    pub d_model: usize,
    /// Width between.
    pub d_ff: usize,
    /// The curve.
    pub activation: Activation,
    /// Whether the curve's result multiplies a second product of the input.
    pub gated: bool,
    /// Whether the products add a bias.
    pub bias: bool,
    /// Standard deviation of the fresh second product's weights; zero for none at the start.
    pub out_std: f64,
}

impl FeedForwardConfig {
    /// A fresh layer.
    pub fn init(&self, device: &Device) -> FeedForward {
        let d_up = self.d_ff * if self.gated { 2 } else { 1 };
        FeedForward {
            up: init::linear(self.d_model, d_up, self.bias, init::STD, device),
            down: init::linear(self.d_ff, self.d_model, self.bias, self.out_std, device),
            activation: self.activation,
            gated: self.gated,
        }
    }
}

/// `down(act(up(x)))`, or gated `down(act(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `[d_model, d_ff]`, or gated `[d_model, 2 d_ff]`: first the gate's columns, then the other ones.
    pub up: Linear,
    /// `[d_ff, d_model]`.
    pub down: Linear,
    #[module(skip)]
    activation: Activation,
    gated: bool,
}

impl FeedForward {
    /// # Shapes
    /// - `x`: `[batch, n, d_model]`
    /// - returns: like `x`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.down.project(self.inner(x))
    }

    /// `onto + forward(x)`.
    ///
    /// # Shapes
    /// - `x`, `onto`: `[batch, n, d_model]`
    /// - returns: like `x`
    pub fn forward_onto(&self, x: Tensor<3>, onto: Tensor<3>) -> Tensor<3> {
        self.down.project_onto(self.inner(x), onto)
    }

    fn inner(&self, x: Tensor<3>) -> Tensor<3> {
        match self.gated {
            true => self.up.project_gated(x, self.activation),
            false => self.up.project_to(x, self.activation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{device, values};

    fn check(activation: Activation, expected: f32) {
        let device = device();
        let found = values(&activation.forward(Tensor::<1>::from_floats([-1.5, 0.0], &device)));
        assert!(
            (found[0] - expected).abs() < 1e-5,
            "{activation:?}: {found:?}"
        );
        assert_eq!(found[1], 0.0);
    }

    #[test]
    fn curves_at_minus_one_and_a_half() {
        check(Activation::Gelu, -0.100_210_8);
        check(Activation::GeluTanh, -0.100_428_9);
        check(Activation::Silu, -0.273_638_6);
        check(Activation::Relu, 0.0);
        check(Activation::ReluSquared, 0.0);
    }

    #[test]
    fn the_gate_is_the_first_half() {
        let device = device();
        let mut layer = FeedForwardConfig {
            d_model: 1,
            d_ff: 1,
            activation: Activation::Relu,
            gated: true,
            bias: false,
            out_std: 0.0,
        }
        .init(&device);
        layer.up.weight = layer
            .up
            .weight
            .map(|_| Tensor::from_floats([[2.0, -3.0]], &device));
        layer.down.weight = layer
            .down
            .weight
            .map(|_| Tensor::from_floats([[1.0]], &device));
        let found = layer.forward(Tensor::from_floats([[[1.0], [-1.0]]], &device));
        assert_eq!(values(&found), [-6.0, 0.0]);
    }
}
