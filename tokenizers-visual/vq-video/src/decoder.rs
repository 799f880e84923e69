//! Code vectors to clips: groups to frames, then frame by frame up to pixels, the code vectors at hand in every norm.

use burn::module::Module;
use burn::nn::GroupNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use ravel_nn::conv::blocks::{Resample, ResnetBlock, conv, norm};
use ravel_nn::conv::causal::{CausalConv, clip_from_frames, doubled_in_time, frames_from_clip};

use crate::VqVideoConfig;
use crate::blocks::{CellBlock, Guide, TimeBlock, over_time};

/// The decoder.
#[derive(Module, Debug)]
pub struct VqVideoDecoder {
    post_quant_conv: CausalConv,
    time_block: Vec<TimeBlock>,
    time_conv: Vec<CausalConv>,
    conv_in: Conv2d,
    block_1: GuidedBlock,
    attn_1: GuidedCells,
    block_2: GuidedBlock,
    /// Finest first, as published files count.
    up: Vec<UpLevel>,
    norm_out: GroupNorm,
    guide_out: Guide,
    conv_out: Conv2d,
}

/// A residual block whose two norms are guided.
#[derive(Module, Debug)]
struct GuidedBlock {
    block: ResnetBlock,
    guide: Vec<Guide>,
}

/// Attention whose norm is guided.
#[derive(Module, Debug)]
struct GuidedCells {
    cells: CellBlock,
    guide: Guide,
}

#[derive(Module, Debug)]
struct UpLevel {
    block: Vec<GuidedBlock>,
    attn: Vec<GuidedCells>,
    upsample: Option<Resample>,
}

impl VqVideoDecoder {
    pub(crate) fn new(config: &VqVideoConfig, device: &Device) -> Self {
        let (z, code) = (config.z_channels, config.codebook.width);
        let (levels, deepest, finest) = (config.multiples.len(), config.deepest(), config.width(0));
        let up = (0..levels).map(|level| {
            let from = config.width((level + 1).min(levels - 1));
            UpLevel::new(config, level, from, device)
        });
        Self {
            post_quant_conv: over_time(code, z, [3, 1, 1], 1, device),
            time_block: (0..config.blocks)
                .map(|_| TimeBlock::new(z, device))
                .collect(),
            time_conv: (0..config.time_halvings)
                .map(|_| over_time(z, z, [3, 3, 3], 1, device))
                .collect(),
            conv_in: conv(z, deepest, 3, device),
            block_1: GuidedBlock::new(code, deepest, deepest, device),
            attn_1: GuidedCells::new(config, deepest, device),
            block_2: GuidedBlock::new(code, deepest, deepest, device),
            up: up.collect(),
            norm_out: norm(finest, device),
            guide_out: Guide::new(code, finest, device),
            conv_out: conv(finest, config.out_channels, 3, device),
        }
    }

    /// # Shapes
    /// - `vectors`: `[b, code_width, g, h, w]`
    /// - returns: `[b, out_channels, t, height, width]`, not clamped
    ///
    /// # Panics
    /// If the code's width is not that between frames' and time's convolutions: both go through the same blocks.
    pub fn forward(&self, vectors: Tensor<5>) -> Tensor<5> {
        let batch = vectors.dims()[0];
        let latents = self.post_quant_conv.forward(vectors.clone());
        let mut both = Tensor::cat(vec![latents, vectors], 0);
        for block in &self.time_block {
            both = block.forward(both);
        }
        for conv in &self.time_conv {
            both = silu(conv.forward(doubled_in_time(both)));
        }
        let latents = frames_from_clip(both.clone().narrow(0, 0, batch));
        let vectors = frames_from_clip(both.narrow(0, batch, batch));
        clip_from_frames(self.frames(latents, &vectors), batch)
    }

    fn frames(&self, latents: Tensor<4>, vectors: &Tensor<4>) -> Tensor<4> {
        let grid = self.conv_in.forward(latents);
        let grid = self.block_1.forward(grid, vectors);
        let grid = self.attn_1.forward(grid, vectors);
        let mut grid = self.block_2.forward(grid, vectors);
        for level in self.up.iter().rev() {
            grid = level.forward(grid, vectors);
        }
        let grid = self.guide_out.forward(self.norm_out.forward(grid), vectors);
        self.conv_out.forward(silu(grid))
    }
}

impl GuidedBlock {
    fn new(code: usize, from: usize, to: usize, device: &Device) -> Self {
        Self {
            block: ResnetBlock::new(from, to, device),
            guide: [from, to]
                .map(|width| Guide::new(code, width, device))
                .into(),
        }
    }

    fn forward(&self, grid: Tensor<4>, vectors: &Tensor<4>) -> Tensor<4> {
        self.block
            .forward_with(grid, |at, normed| self.guide[at].forward(normed, vectors))
    }
}

impl GuidedCells {
    fn new(config: &VqVideoConfig, width: usize, device: &Device) -> Self {
        Self {
            cells: CellBlock::new(width, config.n_heads, device),
            guide: Guide::new(config.codebook.width, width, device),
        }
    }

    fn forward(&self, grid: Tensor<4>, vectors: &Tensor<4>) -> Tensor<4> {
        self.cells
            .forward(grid, |normed| self.guide.forward(normed, vectors))
    }
}

impl UpLevel {
    fn new(config: &VqVideoConfig, level: usize, from: usize, device: &Device) -> Self {
        let (width, code) = (config.width(level), config.codebook.width);
        let attending = match config.attention.contains(&level) {
            true => config.blocks + 1,
            false => 0,
        };
        let block = |at| GuidedBlock::new(code, if at == 0 { from } else { width }, width, device);
        Self {
            block: (0..=config.blocks).map(block).collect(),
            attn: (0..attending)
                .map(|_| GuidedCells::new(config, width, device))
                .collect(),
            upsample: (level > 0).then(|| Resample::doubling(width, device)),
        }
    }

    fn forward(&self, mut grid: Tensor<4>, vectors: &Tensor<4>) -> Tensor<4> {
        for (at, block) in self.block.iter().enumerate() {
            grid = block.forward(grid, vectors);
            if let Some(attention) = self.attn.get(at) {
                grid = attention.forward(grid, vectors);
            }
        }
        match &self.upsample {
            Some(resample) => resample.up(grid),
            None => grid,
        }
    }
}
