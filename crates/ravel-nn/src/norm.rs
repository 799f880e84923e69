//! Normalisation over the last axis, computed in 32 bits.
//!
//! RMSNorm: Zhang and Sennrich 2019. LayerNorm: Ba et al. 2016.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, FloatDType, Tensor, module::layer_norm};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::init;

/// Which normalisation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// Divided by the root mean square, times a learned gain.
    #[default]
    Rms,
    /// Mean taken off, divided by the standard deviation, times a learned gain, plus a learned bias.
    Layer,
    /// As [`NormKind::Layer`], with nothing learned: adaptive norms bring their own gain and bias.
    LayerPlain,
}

/// What fixes a norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConfig {
    /// Which normalisation.
    pub kind: NormKind,
    /// Added to the mean square before the root.
    pub eps: f64,
}

impl NormConfig {
    /// A norm over `width` numbers, with gain one and bias zero.
    pub fn init(&self, width: usize, device: &Device) -> Norm {
        let learned = self.kind != NormKind::LayerPlain;
        Norm {
            gain: learned.then(|| init::ones([width], device)),
            bias: (self.kind == NormKind::Layer).then(|| init::zeros([width], device)),
            kind: self.kind,
            eps: self.eps,
        }
    }
}

/// Normalisation over the last axis.
#[derive(Module, Debug)]
pub struct Norm {
    /// Learned factor, `[width]`.
    pub gain: Option<Param<Tensor<1>>>,
    /// Learned summand, `[width]`.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    kind: NormKind,
    eps: f64,
}

impl Norm {
    /// The normalised tensor.
    ///
    /// # Shapes
    /// - `x`: `[.., width]`
    /// - returns: like `x`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self.kind {
            NormKind::Rms => {
                let gain = self.gain.as_ref().map(Param::val);
                if let Some(out) = ravel_kernels::rms_norm(&x, gain.as_ref(), self.eps) {
                    return out;
                }
                let trained = |gain| ravel_kernels::tracked::rms_norm(&x, gain, self.eps);
                if let Some(out) = gain.as_ref().and_then(trained) {
                    return out;
                }
                let x = rms_normalised(x, self.eps);
                match &self.gain {
                    Some(gain) => x * gain.val().unsqueeze(),
                    None => x,
                }
            }
            NormKind::Layer | NormKind::LayerPlain => {
                let width = x.dims()[D - 1];
                let gain = match &self.gain {
                    Some(gain) => gain.val(),
                    None => Tensor::ones([width], (&x.device(), x.dtype())),
                };
                layer_norm(x, gain, self.bias.as_ref().map(Param::val), self.eps)
            }
        }
    }
}

/// `x` over its root mean square along the last axis, in 32 bits, without a gain.
///
/// # Shapes
/// - `x`: `[.., width]`
/// - returns: like `x`
pub fn rms_normalised<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    in_f32(x, |x| {
        let mean_square = (x.clone() * x.clone()).mean_dim(D - 1);
        x * (mean_square + eps).sqrt().recip()
    })
}

/// `x` over its Euclidean length along the last axis, in 32 bits. Lengths below `eps` count as `eps`.
///
/// # Shapes
/// - `x`: `[.., width]`
/// - returns: like `x`
pub fn unit_length<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    in_f32(x, |x| {
        let square = (x.clone() * x.clone()).sum_dim(D - 1);
        x * square.sqrt().clamp_min(eps).recip()
    })
}

/// Runs `work` in 32 bits, whatever the precision of `x`, and returns to that precision.
pub(crate) fn in_f32<const D: usize>(
    x: Tensor<D>,
    work: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let dtype = x.dtype();
    if dtype == DType::F32 {
        return work(x);
    }
    work(x.cast(FloatDType::F32)).cast(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{assert_close, device};

    fn check(kind: NormKind, expected: [f32; 4]) {
        let device = device();
        let norm = NormConfig { kind, eps: 0.0 }.init(4, &device);
        let x = Tensor::<2>::from_floats([[1.0, 1.0, 5.0, 5.0]], &device);
        let expected = Tensor::from_floats([expected], &device);
        assert_close("norm", &norm.forward(x), &expected, 1e-6);
    }

    #[test]
    fn norms_on_numbers_checked_by_hand() {
        let root = 13f32.sqrt();
        check(
            NormKind::Rms,
            [1.0 / root, 1.0 / root, 5.0 / root, 5.0 / root],
        );
        check(NormKind::Layer, [-1.0, -1.0, 1.0, 1.0]);
        check(NormKind::LayerPlain, [-1.0, -1.0, 1.0, 1.0]);
    }

    #[test]
    fn unit_length_is_one_and_survives_zeros() {
        let device = device();
        let x = Tensor::<2>::from_floats([[3.0, 4.0], [0.0, 0.0]], &device);
        let expected = Tensor::from_floats([[0.6, 0.8], [0.0, 0.0]], &device);
        assert_close("unit length", &unit_length(x, 1e-12), &expected, 1e-6);
    }
}
