//! The encoder and decoder of the published VQ-GAN family (Esser et al. 2021; LlamaGen, VAR, Chameleon and Janus build on it).
//!
//! Field names follow the published checkpoints (`conv_in`, `down.0.block.1.norm1`, `mid.attn_1`, …).
//! Attention stands at the smallest grid unless the configuration says otherwise (Chameleon's does, by resolution; Infinity
//! has none).

use burn::module::Module;
use burn::nn::GroupNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use ravel_core::{Error, Result};
use ravel_kernels::Curve;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::blocks::{AttentionBlock, GROUPS, Resample, ResnetBlock, conv, norm};
use super::ready::{Maker, Step};

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
    /// Side of the kernel of that convolution and its counterpart: 1 in LlamaGen, 3 in VAR. Zero for none, as in
    /// Infinity: then `z_channels` is the code's width.
    #[serde(default = "one")]
    pub code_kernel: usize,
    /// Levels with attention after each block, the finest is 0; the coarsest level alone if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<Vec<usize>>,
    /// Whether attention stands between the two middle blocks.
    #[serde(default = "yes")]
    pub middle_attention: bool,
    /// Channels of the pictures that are read.
    #[serde(default = "three")]
    pub in_channels: usize,
    /// Channels of the pictures that are made.
    #[serde(default = "three")]
    pub out_channels: usize,
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn three() -> usize {
    3
}

/// LlamaGen's tokenizer with 16 pixels a side to a code, whose sizes Chameleon and Janus share.
impl Default for VqGanConfig {
    fn default() -> Self {
        Self {
            channels: 128,
            multiples: vec![1, 1, 2, 2, 4],
            blocks: 2,
            z_channels: 256,
            code_kernel: 1,
            attention: None,
            middle_attention: true,
            in_channels: 3,
            out_channels: 3,
        }
    }
}

impl VqGanConfig {
    /// Pixels a side that one latent stands for.
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
        if !(1..=256).contains(&self.blocks) {
            return wrong("blocks", self.blocks, "1 to 256");
        }
        if let Some(width) = (self.multiples.iter())
            .map(|multiple| multiple.saturating_mul(self.channels))
            .find(|width| *width > 16_384)
        {
            return wrong("channels", width, "16384 at most at every level");
        }
        if self.z_channels == 0 {
            return wrong("z-channels", self.z_channels, "a number of at least 1");
        }
        // An even kernel would change the grid's size.
        if self.code_kernel.is_multiple_of(2) && self.code_kernel > 0 {
            return wrong("code-kernel", self.code_kernel, "an odd number, or 0");
        }
        let levels = self.multiples.len();
        let beyond = self.attention.iter().flatten().find(|at| **at >= levels);
        if let Some(level) = beyond {
            return wrong("attention", *level, &format!("levels below {levels}"));
        }
        for (field, found) in [
            ("in-channels", self.in_channels),
            ("out-channels", self.out_channels),
        ] {
            if found == 0 {
                return wrong(field, found, "a number of at least 1");
            }
        }
        Ok(())
    }

    fn attends(&self, level: usize) -> bool {
        match &self.attention {
            None => level + 1 == self.multiples.len(),
            Some(levels) => levels.contains(&level),
        }
    }

    /// `count` attention blocks of `width` channels, or none where the level has none.
    fn attention_at(
        &self,
        level: usize,
        count: usize,
        width: usize,
        device: &Device,
    ) -> Vec<AttentionBlock> {
        let count = if self.attends(level) { count } else { 0 };
        (0..count)
            .map(|_| AttentionBlock::new(width, device))
            .collect()
    }

    fn code_conv(&self, from: usize, to: usize, device: &Device) -> Option<Conv2d> {
        (self.code_kernel > 0).then(|| conv(from, to, self.code_kernel, device))
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
            let attn = self.attention_at(at, self.blocks, out, device);
            let downsample = (!last).then(|| Resample::halving(out, device));
            DownLevel {
                block,
                attn,
                downsample,
            }
        });
        let down = down.collect();
        VqGanEncoder {
            conv_in: conv(self.in_channels, self.channels, 3, device),
            down,
            mid: Middle::new(width, self.middle_attention, device),
            norm_out: norm(width, device),
            conv_out: conv(width, self.z_channels, 3, device),
            quant_conv: self.code_conv(self.z_channels, code_width, device),
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
            let attn = self.attention_at(at, self.blocks + 1, out, device);
            let upsample = (at > 0).then(|| Resample::doubling(out, device));
            UpLevel {
                block,
                attn,
                upsample,
            }
        });
        let up = up.collect();
        VqGanDecoder {
            post_quant_conv: self.code_conv(code_width, self.z_channels, device),
            conv_in: conv(self.z_channels, deepest, 3, device),
            mid: Middle::new(deepest, self.middle_attention, device),
            up,
            norm_out: norm(width, device),
            conv_out: conv(width, self.out_channels, 3, device),
        }
    }
}

#[derive(Module, Debug)]
struct Middle {
    block_1: ResnetBlock,
    attn_1: Option<AttentionBlock>,
    block_2: ResnetBlock,
}

impl Middle {
    fn new(width: usize, attention: bool, device: &Device) -> Self {
        Self {
            block_1: ResnetBlock::new(width, width, device),
            attn_1: attention.then(|| AttentionBlock::new(width, device)),
            block_2: ResnetBlock::new(width, width, device),
        }
    }

    fn forward(&self, grid: Tensor<4>) -> Tensor<4> {
        let mut grid = self.block_1.forward(grid);
        if let Some(attention) = &self.attn_1 {
            grid = attention.forward(grid);
        }
        self.block_2.forward(grid)
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
    quant_conv: Option<Conv2d>,
}

impl VqGanEncoder {
    /// # Shapes
    /// - `pixels`: `[b, in_channels, height, width]`
    /// - returns: `[b, code_width, height / stride, width / stride]`
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let features = self.features(pixels);
        match &self.quant_conv {
            Some(quant_conv) => quant_conv.forward(features),
            None => features,
        }
    }

    /// What comes before the convolution to the code's width.
    ///
    /// # Shapes
    /// - returns: `[b, z_channels, height / stride, width / stride]`
    pub fn features(&self, pixels: Tensor<4>) -> Tensor<4> {
        let mut grid = self.conv_in.forward(pixels);
        for level in &self.down {
            grid = through(&level.block, &level.attn, grid);
            if let Some(resample) = &level.downsample {
                grid = resample.down(grid);
            }
        }
        let grid = silu(self.norm_out.forward(self.mid.forward(grid)));
        self.conv_out.forward(grid)
    }
}

/// Latents to pictures.
#[derive(Module, Debug)]
pub struct VqGanDecoder {
    post_quant_conv: Option<Conv2d>,
    conv_in: Conv2d,
    mid: Middle,
    /// Coarsest first; published files count from the finest.
    up: Vec<UpLevel>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl VqGanDecoder {
    /// # Shapes
    /// - `latents`: `[b, code_width, h, w]`
    /// - returns: `[b, out_channels, h * stride, w * stride]`, not clamped
    pub fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        let latents = match &self.post_quant_conv {
            Some(post_quant_conv) => post_quant_conv.forward(latents),
            None => latents,
        };
        let mut grid = self.mid.forward(self.conv_in.forward(latents));
        for level in &self.up {
            grid = through(&level.block, &level.attn, grid);
            if let Some(resample) = &level.upsample {
                grid = resample.up(grid);
            }
        }
        self.conv_out.forward(silu(self.norm_out.forward(grid)))
    }

    /// The layers for the kernels, and the side of the cells that the last one's channels are.
    pub(super) fn lay_out(&self, to: &mut Maker) -> usize {
        if let Some(post_quant_conv) = &self.post_quant_conv {
            to.push(Step::Conv(to.conv(post_quant_conv)));
        }
        to.push(Step::Conv(to.conv(&self.conv_in)));
        to.push(self.mid.block_1.lay_out(to));
        if let Some(attention) = &self.mid.attn_1 {
            to.push(attention.lay_out(to));
        }
        to.push(self.mid.block_2.lay_out(to));
        for level in &self.up {
            for (at, block) in level.block.iter().enumerate() {
                to.push(block.lay_out(to));
                if let Some(attention) = level.attn.get(at) {
                    to.push(attention.lay_out(to));
                }
            }
            if let Some(resample) = &level.upsample {
                to.push(resample.lay_out_up(to));
            }
        }
        let norm = to.norm(&self.norm_out);
        to.push(Step::Bent(Some(norm), Curve::Silu, to.conv(&self.conv_out)));
        1
    }
}
