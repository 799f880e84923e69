//! Clips to latents: frame by frame down to the grid, then groups of frames.

use burn::module::Module;
use burn::nn::GroupNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use ravel_nn::conv::blocks::{Resample, ResnetBlock, conv, norm};
use ravel_nn::conv::causal::{CausalConv, clip_from_frames, frames_from_clip};

use crate::VqVideoConfig;
use crate::blocks::{CellBlock, TimeBlock, over_time};

/// The encoder.
#[derive(Module, Debug)]
pub struct VqVideoEncoder {
    conv_in: Conv2d,
    down: Vec<DownLevel>,
    block_1: ResnetBlock,
    attn_1: CellBlock,
    block_2: ResnetBlock,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    time_conv: Vec<CausalConv>,
    time_block: Vec<TimeBlock>,
    quant_conv: CausalConv,
}

#[derive(Module, Debug)]
struct DownLevel {
    block: Vec<ResnetBlock>,
    attn: Vec<CellBlock>,
    downsample: Option<Resample>,
}

impl VqVideoEncoder {
    pub(crate) fn new(config: &VqVideoConfig, device: &Device) -> Self {
        let (z, deepest) = (config.z_channels, config.deepest());
        let levels = config.multiples.len();
        let mut width = config.channels;
        let down = (0..levels).map(|level| {
            let from = std::mem::replace(&mut width, config.width(level));
            DownLevel::new(config, level, from, device)
        });
        Self {
            conv_in: conv(config.in_channels, config.channels, 3, device),
            down: down.collect(),
            block_1: ResnetBlock::new(deepest, deepest, device),
            attn_1: CellBlock::new(deepest, config.n_heads, device),
            block_2: ResnetBlock::new(deepest, deepest, device),
            norm_out: norm(deepest, device),
            conv_out: conv(deepest, z, 3, device),
            time_conv: (0..config.time_halvings)
                .map(|_| over_time(z, z, [4, 3, 3], 2, device))
                .collect(),
            time_block: (0..config.blocks)
                .map(|_| TimeBlock::new(z, device))
                .collect(),
            quant_conv: over_time(z, config.codebook.width, [3, 1, 1], 1, device),
        }
    }

    /// # Shapes
    /// - `clip`: `[b, in_channels, t, height, width]`
    /// - returns: `[b, code_width, g, h, w]`
    pub fn forward(&self, clip: Tensor<5>) -> Tensor<5> {
        let batch = clip.dims()[0];
        let frames = self.frames(frames_from_clip(clip));
        let mut clip = clip_from_frames(frames, batch);
        for conv in &self.time_conv {
            clip = silu(conv.forward(clip));
        }
        for block in &self.time_block {
            clip = block.forward(clip);
        }
        self.quant_conv.forward(clip)
    }

    fn frames(&self, pixels: Tensor<4>) -> Tensor<4> {
        let mut grid = self.conv_in.forward(pixels);
        for level in &self.down {
            grid = level.forward(grid);
        }
        let grid = self.block_1.forward(grid);
        let grid = self.attn_1.forward(grid, |normed| normed);
        let grid = self.block_2.forward(grid);
        self.conv_out.forward(silu(self.norm_out.forward(grid)))
    }
}

impl DownLevel {
    fn new(config: &VqVideoConfig, level: usize, from: usize, device: &Device) -> Self {
        let width = config.width(level);
        let last = level + 1 == config.multiples.len();
        let attending = match config.attention.contains(&level) {
            true => config.blocks,
            false => 0,
        };
        let block = |at| ResnetBlock::new(if at == 0 { from } else { width }, width, device);
        Self {
            block: (0..config.blocks).map(block).collect(),
            attn: (0..attending)
                .map(|_| CellBlock::new(width, config.n_heads, device))
                .collect(),
            downsample: (!last).then(|| Resample::halving(width, device)),
        }
    }

    fn forward(&self, mut grid: Tensor<4>) -> Tensor<4> {
        for (at, block) in self.block.iter().enumerate() {
            grid = block.forward(grid);
            if let Some(attention) = self.attn.get(at) {
                grid = attention.forward(grid, |normed| normed);
            }
        }
        match &self.downsample {
            Some(resample) => resample.down(grid),
            None => grid,
        }
    }
}
