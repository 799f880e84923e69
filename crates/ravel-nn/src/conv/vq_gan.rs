//! The encoder and decoder of the published VQ-GAN family (Esser et al. 2021; LlamaGen, VAR, Chameleon and Janus build on it).
//!
//! Field names follow the published checkpoints (`conv_in`, `down.0.block.1.norm1`, `mid.attn_1`, …).
//! Surprises there: group norm has 32 groups and ε = 1e-6, down-sampling pads right and below only, attention stands at
//! the smallest grid.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};
use ravel_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const GROUPS: usize = 32;
const EPSILON: f64 = 1e-6;

/// Widths and depths, as the published configurations name them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VqGanConfig {
    /// Channels at the finest grid (`ch`).
    pub channels: usize,
    /// Channels of each level as multiples of `channels`, finest first (`ch_mult`).
    pub multiples: Vec<usize>,
    /// Residual blocks of each level; the decoder has one more.
    pub blocks: usize,
    /// Channels of the encoder's output, before a 1×1 convolution brings them to the code's width.
    pub z_channels: usize,
    /// Side of the kernel of that convolution and its counterpart: 1 in LlamaGen, 3 in VAR.
    #[serde(default = "one")]
    pub code_kernel: usize,
}

fn one() -> usize {
    1
}

impl VqGanConfig {
    pub(super) fn stride(&self) -> usize {
        1 << (self.multiples.len().max(1) - 1)
    }

    pub(super) fn validate(&self) -> Result<()> {
        let odd = self
            .multiples
            .iter()
            .map(|multiple| multiple.saturating_mul(self.channels))
            .find(|width| *width == 0 || width % GROUPS != 0);
        if odd.is_some() || self.multiples.is_empty() {
            return Err(Error::Config {
                field: "channels".into(),
                found: odd.map_or("no level".into(), |width| width.to_string()),
                expected: format!("multiples of {GROUPS} at every level"),
            });
        }
        let wrong = |field: &str, found: usize, expected: &str| {
            Err(Error::Config {
                field: field.into(),
                found: found.to_string(),
                expected: expected.into(),
            })
        };
        if self.blocks == 0 {
            return wrong("blocks", self.blocks, "a number of at least 1");
        }
        if self.z_channels == 0 {
            return wrong("z-channels", self.z_channels, "a number of at least 1");
        }
        // An even kernel would change the grid's size.
        if self.code_kernel.is_multiple_of(2) {
            return wrong("code-kernel", self.code_kernel, "an odd number");
        }
        Ok(())
    }

    pub(super) fn init_encoder(&self, code_width: usize, device: &Device) -> VqGanEncoder {
        let levels = self.multiples.len();
        let mut width = self.channels;
        let down = (0..levels).map(|at| {
            let out = self.channels * self.multiples[at];
            let last = at + 1 == levels;
            let block = (0..self.blocks).map(|_| {
                let block = ResnetBlock::new(width, out, device);
                width = out;
                block
            });
            let block: Vec<_> = block.collect();
            let attn = match last {
                true => (0..self.blocks)
                    .map(|_| AttentionBlock::new(out, device))
                    .collect(),
                false => Vec::new(),
            };
            let downsample = (!last).then(|| Resample::new(out, 2, device));
            DownLevel {
                block,
                attn,
                downsample,
            }
        });
        let down = down.collect();
        VqGanEncoder {
            conv_in: conv(3, self.channels, 3, device),
            down,
            mid: Middle::new(width, device),
            norm_out: norm(width, device),
            conv_out: conv(width, self.z_channels, 3, device),
            quant_conv: conv(self.z_channels, code_width, self.code_kernel, device),
        }
    }

    pub(super) fn init_decoder(&self, code_width: usize, device: &Device) -> VqGanDecoder {
        let levels = self.multiples.len();
        let mut width = self.channels * self.multiples[levels - 1];
        let deepest = width;
        // Built in the order of use, coarsest first.
        let up = (0..levels).rev().map(|at| {
            let out = self.channels * self.multiples[at];
            let block = (0..=self.blocks).map(|_| {
                let block = ResnetBlock::new(width, out, device);
                width = out;
                block
            });
            let block: Vec<_> = block.collect();
            let attn = match at + 1 == levels {
                true => (0..=self.blocks)
                    .map(|_| AttentionBlock::new(out, device))
                    .collect(),
                false => Vec::new(),
            };
            let upsample = (at > 0).then(|| Resample::new(out, 1, device));
            UpLevel {
                block,
                attn,
                upsample,
            }
        });
        let up = up.collect();
        VqGanDecoder {
            post_quant_conv: conv(code_width, self.z_channels, self.code_kernel, device),
            conv_in: conv(self.z_channels, deepest, 3, device),
            mid: Middle::new(deepest, device),
            up,
            norm_out: norm(width, device),
            conv_out: conv(width, 3, 3, device),
        }
    }
}

fn conv(from: usize, to: usize, kernel: usize, device: &Device) -> Conv2d {
    let around = kernel / 2;
    Conv2dConfig::new([from, to], [kernel, kernel])
        .with_padding(PaddingConfig2d::Explicit(around, around, around, around))
        .init(device)
}

fn norm(width: usize, device: &Device) -> GroupNorm {
    GroupNormConfig::new(GROUPS, width)
        .with_epsilon(EPSILON)
        .init(device)
}

#[derive(Module, Debug)]
struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    nin_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    fn new(from: usize, to: usize, device: &Device) -> Self {
        Self {
            norm1: norm(from, device),
            conv1: conv(from, to, 3, device),
            norm2: norm(to, device),
            conv2: conv(to, to, 3, device),
            nin_shortcut: (from != to).then(|| conv(from, to, 1, device)),
        }
    }

    fn forward(&self, grid: Tensor<4>) -> Tensor<4> {
        let inner = self.conv1.forward(silu(self.norm1.forward(grid.clone())));
        let inner = self.conv2.forward(silu(self.norm2.forward(inner)));
        match &self.nin_shortcut {
            Some(shortcut) => shortcut.forward(grid) + inner,
            None => grid + inner,
        }
    }
}

/// Attention between all cells of a grid, one head.
#[derive(Module, Debug)]
struct AttentionBlock {
    norm: GroupNorm,
    q: Conv2d,
    k: Conv2d,
    v: Conv2d,
    proj_out: Conv2d,
}

impl AttentionBlock {
    fn new(width: usize, device: &Device) -> Self {
        Self {
            norm: norm(width, device),
            q: conv(width, width, 1, device),
            k: conv(width, width, 1, device),
            v: conv(width, width, 1, device),
            proj_out: conv(width, width, 1, device),
        }
    }

    fn forward(&self, grid: Tensor<4>) -> Tensor<4> {
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
}

#[derive(Module, Debug)]
struct Middle {
    block_1: ResnetBlock,
    attn_1: AttentionBlock,
    block_2: ResnetBlock,
}

impl Middle {
    fn new(width: usize, device: &Device) -> Self {
        Self {
            block_1: ResnetBlock::new(width, width, device),
            attn_1: AttentionBlock::new(width, device),
            block_2: ResnetBlock::new(width, width, device),
        }
    }

    fn forward(&self, grid: Tensor<4>) -> Tensor<4> {
        let grid = self.attn_1.forward(self.block_1.forward(grid));
        self.block_2.forward(grid)
    }
}

/// The convolution beside a change of size.
#[derive(Module, Debug)]
struct Resample {
    conv: Conv2d,
}

impl Resample {
    fn new(width: usize, stride: usize, device: &Device) -> Self {
        let around = if stride == 1 { 1 } else { 0 };
        let conv = Conv2dConfig::new([width, width], [3, 3])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(around, around, around, around))
            .init(device);
        Self { conv }
    }

    /// Half the size; zeros are added right and below only.
    fn down(&self, grid: Tensor<4>) -> Tensor<4> {
        self.conv
            .forward(grid.pad((0, 1, 0, 1), PadMode::Constant(0.0)))
    }

    /// Twice the size, each cell repeated.
    fn up(&self, grid: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = grid.dims();
        let repeated = grid
            .reshape([batch, channels, height, 1, width, 1])
            .expand([batch, channels, height, 2, width, 2])
            .reshape([batch, channels, 2 * height, 2 * width]);
        self.conv.forward(repeated)
    }
}

#[derive(Module, Debug)]
struct DownLevel {
    block: Vec<ResnetBlock>,
    attn: Vec<AttentionBlock>,
    downsample: Option<Resample>,
}

#[derive(Module, Debug)]
struct UpLevel {
    block: Vec<ResnetBlock>,
    attn: Vec<AttentionBlock>,
    upsample: Option<Resample>,
}

fn through(block: &[ResnetBlock], attn: &[AttentionBlock], grid: Tensor<4>) -> Tensor<4> {
    block.iter().enumerate().fold(grid, |grid, (at, block)| {
        let grid = block.forward(grid);
        match attn.get(at) {
            Some(attention) => attention.forward(grid),
            None => grid,
        }
    })
}

/// Pictures to latents.
#[derive(Module, Debug)]
pub struct VqGanEncoder {
    conv_in: Conv2d,
    down: Vec<DownLevel>,
    mid: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant_conv: Conv2d,
}

impl VqGanEncoder {
    pub(super) fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let mut grid = self.conv_in.forward(pixels);
        for level in &self.down {
            grid = through(&level.block, &level.attn, grid);
            if let Some(resample) = &level.downsample {
                grid = resample.down(grid);
            }
        }
        let grid = silu(self.norm_out.forward(self.mid.forward(grid)));
        self.quant_conv.forward(self.conv_out.forward(grid))
    }
}

/// Latents to pictures.
#[derive(Module, Debug)]
pub struct VqGanDecoder {
    post_quant_conv: Conv2d,
    conv_in: Conv2d,
    mid: Middle,
    /// Coarsest first; published files count from the finest.
    up: Vec<UpLevel>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl VqGanDecoder {
    pub(super) fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        let grid = self.conv_in.forward(self.post_quant_conv.forward(latents));
        let mut grid = self.mid.forward(grid);
        for level in &self.up {
            grid = through(&level.block, &level.attn, grid);
            if let Some(resample) = &level.upsample {
                grid = resample.up(grid);
            }
        }
        self.conv_out.forward(silu(self.norm_out.forward(grid)))
    }
}
