//! The blocks that the VQ-GAN family is made of: residual convolutions, attention between cells, changes of size.
//!
//! Group norm has 32 groups and ε = 1e-6, down-sampling pads right and below only: the published code is so.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};
use ravel_kernels::Curve;
use ravel_kernels::conv::CellAttention;

use super::ready::{Maker, Residual, Step};

/// Groups of every group norm.
pub const GROUPS: usize = 32;
const EPSILON: f64 = 1e-6;

/// A square convolution that keeps the grid's size.
///
/// # Panics
/// If `kernel` is even: the size would change.
pub fn conv(from: usize, to: usize, kernel: usize, device: &Device) -> Conv2d {
    assert!(!kernel.is_multiple_of(2), "kernel axis: {kernel} is even");
    let around = kernel / 2;
    Conv2dConfig::new([from, to], [kernel, kernel])
        .with_padding(PaddingConfig2d::Explicit(around, around, around, around))
        .init(device)
}

/// Group norm as the family has it.
///
/// # Panics
/// If `width` is not a multiple of [`GROUPS`].
pub fn norm(width: usize, device: &Device) -> GroupNorm {
    GroupNormConfig::new(GROUPS, width)
        .with_epsilon(EPSILON)
        .init(device)
}

/// Two convolutions, each after a norm and SiLU, added to what came in.
#[derive(Module, Debug)]
pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    nin_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    /// A fresh block from `from` to `to` channels.
    pub fn new(from: usize, to: usize, device: &Device) -> Self {
        Self {
            norm1: norm(from, device),
            conv1: conv(from, to, 3, device),
            norm2: norm(to, device),
            conv2: conv(to, to, 3, device),
            nin_shortcut: (from != to).then(|| conv(from, to, 1, device)),
        }
    }

    /// # Shapes
    /// - `grid`: `[b, from, h, w]`
    /// - returns: `[b, to, h, w]`
    pub fn forward(&self, grid: Tensor<4>) -> Tensor<4> {
        self.forward_with(grid, |_, normed| normed)
    }

    /// As [`ResnetBlock::forward`], with each of the two normalised grids passed through `change` (0, then 1) before
    /// its curve: how a norm is set by something beside the grid.
    pub fn forward_with(
        &self,
        grid: Tensor<4>,
        change: impl Fn(usize, Tensor<4>) -> Tensor<4>,
    ) -> Tensor<4> {
        let inner = silu(change(0, self.norm1.forward(grid.clone())));
        let inner = silu(change(1, self.norm2.forward(self.conv1.forward(inner))));
        let inner = self.conv2.forward(inner);
        match &self.nin_shortcut {
            Some(shortcut) => shortcut.forward(grid) + inner,
            None => grid + inner,
        }
    }

    /// The block for the kernels.
    pub(super) fn lay_out(&self, by: &Maker) -> Step {
        Step::Residual(Residual {
            norms: [&self.norm1, &self.norm2].map(|norm| Some(by.norm(norm))),
            curve: Curve::Silu,
            convs: [by.conv(&self.conv1), by.conv(&self.conv2)],
            shortcut: self.nin_shortcut.as_ref().map(|conv| by.conv(conv)),
        })
    }
}

/// Attention between all cells of a grid, one head.
#[derive(Module, Debug)]
pub struct AttentionBlock {
    norm: GroupNorm,
    q: Conv2d,
    k: Conv2d,
    v: Conv2d,
    proj_out: Conv2d,
}

impl AttentionBlock {
    /// A fresh block.
    pub fn new(width: usize, device: &Device) -> Self {
        Self {
            norm: norm(width, device),
            q: conv(width, width, 1, device),
            k: conv(width, width, 1, device),
            v: conv(width, width, 1, device),
            proj_out: conv(width, width, 1, device),
        }
    }

    /// # Shapes
    /// - `grid`: `[b, width, h, w]`
    /// - returns: like `grid`
    pub fn forward(&self, grid: Tensor<4>) -> Tensor<4> {
        let [batch, width, height, columns] = grid.dims();
        let normed = self.norm.forward(grid.clone());
        let cells = |conv: &Conv2d| {
            conv.forward(normed.clone())
                .reshape([batch, width, height * columns])
        };
        let scores = cells(&self.q).swap_dims(1, 2).matmul(cells(&self.k));
        let weights = softmax(scores / (width as f64).sqrt(), 2);
        let mixed = cells(&self.v).matmul(weights.swap_dims(1, 2));
        grid + self
            .proj_out
            .forward(mixed.reshape([batch, width, height, columns]))
    }

    /// The block for the kernels.
    pub(super) fn lay_out(&self, by: &Maker) -> Step {
        Step::Attention(CellAttention {
            norm: by.norm(&self.norm),
            qkv: [&self.q, &self.k, &self.v].map(|conv| by.conv(conv)),
            out: by.conv(&self.proj_out),
        })
    }
}

/// The convolution beside a change of size.
#[derive(Module, Debug)]
pub struct Resample {
    conv: Conv2d,
}

impl Resample {
    /// For [`Resample::down`].
    pub fn halving(width: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([width, width], [3, 3])
            .with_stride([2, 2])
            .init(device);
        Self { conv }
    }

    /// For [`Resample::up`].
    pub fn doubling(width: usize, device: &Device) -> Self {
        Self {
            conv: conv(width, width, 3, device),
        }
    }

    /// Half the size; zeros are added right and below only.
    ///
    /// # Shapes
    /// - `grid`: `[b, c, h, w]`
    /// - returns: `[b, c, h / 2, w / 2]`
    pub fn down(&self, grid: Tensor<4>) -> Tensor<4> {
        self.conv
            .forward(grid.pad((0, 1, 0, 1), PadMode::Constant(0.0)))
    }

    /// Twice the size, each cell repeated.
    ///
    /// # Shapes
    /// - `grid`: `[b, c, h, w]`
    /// - returns: `[b, c, 2 h, 2 w]`
    pub fn up(&self, grid: Tensor<4>) -> Tensor<4> {
        self.conv.forward(repeated(grid, 2))
    }

    /// [`Resample::up`] for the kernels.
    pub(super) fn lay_out_up(&self, by: &Maker) -> Step {
        Step::Double(by.conv(&self.conv))
    }
}

/// Each cell as `factor` by `factor` cells.
///
/// # Shapes
/// - `grid`: `[b, c, h, w]`
/// - returns: `[b, c, h * factor, w * factor]`
pub fn repeated(grid: Tensor<4>, factor: usize) -> Tensor<4> {
    let [batch, channels, height, width] = grid.dims();
    grid.reshape([batch, channels, height, 1, width, 1])
        .expand([batch, channels, height, factor, width, factor])
        .reshape([batch, channels, factor * height, factor * width])
}
