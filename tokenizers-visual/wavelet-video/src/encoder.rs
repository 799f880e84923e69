//! Clips to features.

use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};

use crate::blocks::{ClipAttention, ClipBlock, ClipNorm, Middle, WideConv, through};
use crate::resample::{Downsample, frames_halved};
use crate::{Patching, WaveletVideoConfig, patched};

/// The encoder.
#[derive(Module, Debug)]
pub struct WaveletEncoder {
    conv_in: WideConv,
    down: Vec<DownLevel>,
    mid: Middle,
    norm_out: ClipNorm,
    conv_out: WideConv,
    patch: usize,
    #[module(skip)]
    patching: Patching,
    factorized: bool,
}

#[derive(Module, Debug)]
struct DownLevel {
    block: Vec<ClipBlock>,
    attn: Vec<ClipAttention>,
    downsample: Option<Downsample>,
}

impl WaveletEncoder {
    pub(crate) fn new(config: &WaveletVideoConfig, device: &Device) -> Self {
        let levels = config.multiples.len();
        let wide = |from, to| WideConv::new(from, to, config.factorized, device);
        let mut width = config.channels;
        let down = (0..levels).map(|level| {
            let from = std::mem::replace(&mut width, config.width(level));
            DownLevel::new(config, level, from, device)
        });
        let down = down.collect();
        Self {
            conv_in: wide(config.patched(config.in_channels), config.channels),
            down,
            mid: Middle::new(config, width, device),
            norm_out: ClipNorm::new(width, config.groups, device),
            conv_out: wide(width, config.encoder_channels),
            patch: config.patch,
            patching: config.patching,
            factorized: config.factorized,
        }
    }

    /// # Shapes
    /// - `clip`: `[b, in_channels, t, height, width]`
    /// - returns: `[b, encoder_channels, g, h, w]`
    pub fn forward(&self, clip: Tensor<5>) -> Tensor<5> {
        let patches = patched(clip, self.patch, self.patching, self.factorized);
        let mut clip = self.conv_in.forward(patches);
        for level in &self.down {
            clip = through(&level.block, &level.attn, clip);
            if let Some(downsample) = &level.downsample {
                clip = downsample.forward(clip);
            }
        }
        if !self.factorized {
            clip = frames_halved(clip);
        }
        let clip = self.norm_out.forward(self.mid.forward(clip));
        self.conv_out.forward(silu(clip))
    }
}

impl DownLevel {
    fn new(config: &WaveletVideoConfig, level: usize, from: usize, device: &Device) -> Self {
        let width = config.width(level);
        let last = level + 1 == config.multiples.len();
        let attending = match config.encoder_attention.contains(&level) {
            true => config.blocks,
            false => 0,
        };
        let block = |at| ClipBlock::new(config, if at == 0 { from } else { width }, width, device);
        let downsample = || match config.factorized {
            true => Downsample::factorized(
                width,
                level < config.space_halvings,
                level < config.time_halvings,
                device,
            ),
            false => Downsample::whole(width, device),
        };
        Self {
            block: (0..config.blocks).map(block).collect(),
            attn: (0..attending)
                .map(|_| ClipAttention::new(config, width, device))
                .collect(),
            downsample: (!last).then(downsample),
        }
    }
}
