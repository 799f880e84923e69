//! How weights begin: small normal numbers, as in GPT-2 (Radford et al. 2019), or zeros.

use burn::module::{Initializer, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

/// The standard deviation of fresh weights.
pub const STD: f64 = 0.02;

/// A linear layer with weights drawn from N(0, `std`²) and a bias of zeros.
///
/// A `std` of zero gives a layer that answers zero until it is trained.
pub fn linear(d_input: usize, d_output: usize, bias: bool, std: f64, device: &Device) -> Linear {
    Linear {
        weight: normal([d_input, d_output], std, device),
        bias: bias.then(|| zeros([d_output], device)),
    }
}

/// A trainable tensor drawn from N(0, `std`²).
pub fn normal<const D: usize>(shape: [usize; D], std: f64, device: &Device) -> Param<Tensor<D>> {
    if std == 0.0 {
        return zeros(shape, device);
    }
    Initializer::Normal { mean: 0.0, std }.init(shape, device)
}

/// A trainable tensor of zeros.
pub fn zeros<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Initializer::Zeros.init(shape, device)
}

/// A trainable tensor of ones.
pub fn ones<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Initializer::Ones.init(shape, device)
}
