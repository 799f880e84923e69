//! What encoder and decoder are made of beside the VQ-GAN family's own blocks.

use burn::module::{Initializer, Module, Param};
use burn::nn::GroupNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use ravel_nn::Attention;
use ravel_nn::conv::blocks::{conv, norm, repeated};
use ravel_nn::conv::causal::{Before, CausalConv, CausalConvConfig};
use ravel_nn::conv::cells::{among_cells, cell_attention};

/// PyTorch's ε of batch norm.
const EPSILON: f64 = 1e-5;

/// A convolution over time and space that keeps both sizes unless `step` is 2.
pub(crate) fn over_time(
    from: usize,
    to: usize,
    kernel: [usize; 3],
    step: usize,
    device: &Device,
) -> CausalConv {
    CausalConvConfig {
        channels: [from, to],
        kernel,
        stride: [step, 1],
        before: Before::Zeros,
    }
    .init(device)
}

/// Attention among the cells of a frame, added to what came in.
#[derive(Module, Debug)]
pub(crate) struct CellBlock {
    norm: GroupNorm,
    attention: Attention,
}

impl CellBlock {
    pub(crate) fn new(width: usize, n_heads: usize, device: &Device) -> Self {
        Self {
            norm: norm(width, device),
            attention: cell_attention(width, n_heads).init(device),
        }
    }

    /// `change` gets the normalised grid.
    pub(crate) fn forward(
        &self,
        grid: Tensor<4>,
        change: impl Fn(Tensor<4>) -> Tensor<4>,
    ) -> Tensor<4> {
        let normed = change(self.norm.forward(grid.clone()));
        grid + among_cells(&self.attention, normed)
    }
}

/// A gain and a bias for every cell of a normalised grid, from the code vectors beside it.
#[derive(Module, Debug)]
pub(crate) struct Guide {
    gain: Conv2d,
    bias: Conv2d,
}

impl Guide {
    pub(crate) fn new(code_width: usize, width: usize, device: &Device) -> Self {
        Self {
            gain: conv(code_width, width, 1, device),
            bias: conv(code_width, width, 1, device),
        }
    }

    /// # Shapes
    /// - `normed`: `[b, width, h * k, w * k]`
    /// - `vectors`: `[b, code_width, h, w]`
    pub(crate) fn forward(&self, normed: Tensor<4>, vectors: &Tensor<4>) -> Tensor<4> {
        let factor = normed.dims()[2] / vectors.dims()[2];
        let grown = |conv: &Conv2d| match factor {
            1 => conv.forward(vectors.clone()),
            _ => repeated(conv.forward(vectors.clone()), factor),
        };
        normed * grown(&self.gain) + grown(&self.bias)
    }
}

/// Batch norm as it is after training: by means and variances of the training clips.
#[derive(Module, Debug)]
pub(crate) struct FixedNorm {
    gain: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    mean: Param<Tensor<1>>,
    variance: Param<Tensor<1>>,
}

impl FixedNorm {
    fn new(width: usize, device: &Device) -> Self {
        let row = |value| Initializer::Constant { value }.init([width], device);
        Self {
            gain: row(1.0),
            bias: row(0.0),
            mean: row(0.0),
            variance: row(1.0),
        }
    }

    fn forward(&self, clip: Tensor<5>) -> Tensor<5> {
        let width = clip.dims()[1];
        let along = |row: Tensor<1>| row.reshape([1, width, 1, 1, 1]);
        let gain = self.gain.val() / (self.variance.val() + EPSILON).sqrt();
        let bias = self.bias.val() - self.mean.val() * gain.clone();
        clip * along(gain) + along(bias)
    }
}

/// Two causal convolutions, each after a norm and SiLU, added to what came in.
#[derive(Module, Debug)]
pub(crate) struct TimeBlock {
    norm1: FixedNorm,
    conv1: CausalConv,
    norm2: FixedNorm,
    conv2: CausalConv,
}

impl TimeBlock {
    pub(crate) fn new(width: usize, device: &Device) -> Self {
        let conv = || over_time(width, width, [3, 3, 3], 1, device);
        Self {
            norm1: FixedNorm::new(width, device),
            conv1: conv(),
            norm2: FixedNorm::new(width, device),
            conv2: conv(),
        }
    }

    pub(crate) fn forward(&self, clip: Tensor<5>) -> Tensor<5> {
        let inner = self.conv1.forward(silu(self.norm1.forward(clip.clone())));
        clip + self.conv2.forward(silu(self.norm2.forward(inner)))
    }
}
