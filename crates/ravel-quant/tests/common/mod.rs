//! What the golden cases share.

use burn::tensor::Tensor;
use ravel_testkit::Golden;

/// A linear layer of the reference: `x Wᵀ + b`.
pub fn linear(weights: &Golden, name: &str, x: Tensor<3>) -> Tensor<3> {
    let device = x.device();
    let weight: Tensor<2> = weights.tensor(&format!("{name}.weight"), &device);
    let bias: Tensor<1> = weights.tensor(&format!("{name}.bias"), &device);
    x.matmul(weight.transpose().unsqueeze()) + bias.unsqueeze()
}
