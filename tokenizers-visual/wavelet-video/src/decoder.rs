//! Features to clips.

use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};

use crate::blocks::{ClipAttention, ClipBlock, ClipNorm, Middle, WideConv, through};
use crate::resample::{Upsample, frames_repeated};
use crate::{Patching, WaveletVideoConfig, unpatched};

/// The decoder.
#[derive(Module, Debug)]
pub struct WaveletDecoder {
    conv_in: WideConv,
    mid: Middle,
    /// Finest first, as published files count.
    up: Vec<UpLevel>,
    norm_out: ClipNorm,
    conv_out: WideConv,
    patch: usize,
    #[module(skip)]
    patching: Patching,
    factorized: bool,
}

#[derive(Module, Debug)]
struct UpLevel {
    block: Vec<ClipBlock>,
    attn: Vec<ClipAttention>,
    upsample: Option<Upsample>,
}

impl WaveletDecoder {
    pub(crate) fn new(config: &WaveletVideoConfig, device: &Device) -> Self {
        let wide = |from, to| WideConv::new(from, to, config.factorized, device);
        let levels = config.multiples.len();
        let (finest, deepest) = (config.width(0), config.width(levels - 1));
        let up = (0..levels).map(|level| {
            let from = config.width((level + 1).min(levels - 1));
            UpLevel::new(config, level, from, device)
        });
        Self {
            conv_in: wide(config.decoder_channels, deepest),
            mid: Middle::new(config, deepest, device),
            up: up.collect(),
            norm_out: ClipNorm::new(finest, config.groups, device),
            conv_out: wide(finest, config.patched(config.out_channels)),
            patch: config.patch,
            patching: config.patching,
            factorized: config.factorized,
        }
    }

    /// # Shapes
    /// - `clip`: `[b, decoder_channels, g, h, w]`
    /// - returns: `[b, out_channels, t, height, width]`, not clamped
    pub fn forward(&self, clip: Tensor<5>) -> Tensor<5> {
        let mut clip = self.mid.forward(self.conv_in.forward(clip));
        for level in self.up.iter().rev() {
            clip = through(&level.block, &level.attn, clip);
            if let Some(upsample) = &level.upsample {
                clip = upsample.forward(clip);
            }
        }
        if !self.factorized {
            clip = frames_repeated(clip);
        }
        let patches = self.conv_out.forward(silu(self.norm_out.forward(clip)));
        unpatched(patches, self.patch, self.patching, self.factorized)
    }
}

impl UpLevel {
    fn new(config: &WaveletVideoConfig, level: usize, from: usize, device: &Device) -> Self {
        let width = config.width(level);
        let attending = match config.decoder_attention.contains(&level) {
            true => config.blocks + 1,
            false => 0,
        };
        let block = |at| ClipBlock::new(config, if at == 0 { from } else { width }, width, device);
        let upsample = || match config.factorized {
            true => {
                let (space, time) = doubles(config, level);
                Upsample::factorized(width, space, time, device)
            }
            false => Upsample::whole(width, device),
        };
        Self {
            block: (0..=config.blocks).map(block).collect(),
            attn: (0..attending)
                .map(|_| ClipAttention::new(config, width, device))
                .collect(),
            upsample: (level > 0).then(upsample),
        }
    }
}

/// Whether a level of the decoder doubles space, and time. Not the mirror of the encoder: time waits for one level.
fn doubles(config: &WaveletVideoConfig, level: usize) -> (bool, bool) {
    let (space, time) = (config.space_halvings, config.time_halvings);
    let coarse = config.multiples.len() - level - 1;
    let in_time = match config.doubles_time_first {
        true => coarse < time,
        false => 0 < coarse && coarse < time + 1,
    };
    (in_time || (coarse < space && space > time), in_time)
}
