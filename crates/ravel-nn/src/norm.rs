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
        match ravel_kernels::normed(&x, &self.by_kernel(None)) {
            Some(out) => out,
            None => self.plain(x),
        }
    }

    /// The normalised tensor with another gain and bias: `norm(x) * (1 + gain) + bias`.
    ///
    /// # Shapes
    /// - `x`: `[.., width]`
    /// - `gain`, `bias`: `[.., width]`, like `x` or with ones in the place of some axes
    /// - returns: like `x`
    pub fn modulated<const D: usize>(
        &self,
        x: Tensor<D>,
        gain: &Tensor<D>,
        bias: &Tensor<D>,
    ) -> Tensor<D> {
        match ravel_kernels::normed(&x, &self.by_kernel(Some([gain, bias]))) {
            Some(out) => out,
            None => self.forward(x) * (gain.clone() + 1.0) + bias.clone(),
        }
    }

    fn by_kernel<'a, const D: usize>(
        &self,
        modulation: Option<[&'a Tensor<D>; 2]>,
    ) -> ravel_kernels::Norm<'a, D> {
        ravel_kernels::Norm {
            centred: self.kind != NormKind::Rms,
            eps: self.eps,
            gain: self.gain.as_ref().map(Param::val),
            bias: self.bias.as_ref().map(Param::val),
            modulation,
        }
    }

    /// Where no single step is in play: what trains, and other devices.
    fn plain<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let gain = self.gain.as_ref().map(Param::val);
        if self.kind != NormKind::Rms {
            let width = x.dims()[D - 1];
            let gain = gain.unwrap_or_else(|| Tensor::ones([width], (&x.device(), x.dtype())));
            return layer_norm(x, gain, self.bias.as_ref().map(Param::val), self.eps);
        }
        let trained = |gain| ravel_kernels::tracked::rms_norm(&x, gain, self.eps);
        if let Some(out) = gain.as_ref().and_then(trained) {
            return out;
        }
        let x = rms_normalised(x, self.eps);
        match gain {
            Some(gain) => x * gain.unsqueeze(),
            None => x,
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
    use ravel_testkit::{assert_close, device, formula, values};

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

    /// A norm whose gain and bias say something.
    fn learned(kind: NormKind, width: usize) -> Norm {
        let device = device();
        let mut norm = NormConfig { kind, eps: 1e-5 }.init(width, &device);
        let set =
            |param: Param<Tensor<1>>, salt| param.map(|_| formula([width], salt, 1.0, &device));
        norm.gain = norm.gain.map(|gain| set(gain, 1));
        norm.bias = norm.bias.map(|bias| set(bias, 2));
        norm
    }

    #[test]
    fn norms_by_kernel_are_the_plain_ones() {
        let device = device();
        for kind in [NormKind::Rms, NormKind::Layer, NormKind::LayerPlain] {
            for (at, [batch, n, width]) in [
                [1, 1, 768],
                [3, 7, 100],
                [2, 60, 130],
                [5, 1, 16],
                [1, 9, 1],
            ]
            .into_iter()
            .enumerate()
            {
                let norm = learned(kind, width);
                let x = formula::<3>([batch, n, width], 3 + at as u32, 3.0, &device) + 0.5;
                let found = norm.forward(x.clone());
                let plain = norm.plain(x.clone());
                assert_close("norm", &found, &plain, 1e-6);
                for shape in [
                    [batch, 1, width],
                    [batch, n, width],
                    [1, n, width],
                    [1, 1, width],
                ] {
                    let gain = formula::<3>(shape, 40, 1.0, &device);
                    let bias = formula::<3>(shape, 41, 1.0, &device);
                    let modulated = norm.modulated(x.clone(), &gain, &bias);
                    // No bit differs from one step after the other.
                    let expected = found.clone() * (gain + 1.0) + bias;
                    assert_eq!(values(&modulated), values(&expected), "{kind:?} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn unit_length_is_one_and_survives_zeros() {
        let device = device();
        let x = Tensor::<2>::from_floats([[3.0, 4.0], [0.0, 0.0]], &device);
        let expected = Tensor::from_floats([[0.6, 0.8], [0.0, 0.0]], &device);
        assert_close("unit length", &unit_length(x, 1e-12), &expected, 1e-6);
    }
}
