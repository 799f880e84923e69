//! Convolutions, norms, residual blocks and attention over clips.

use burn::module::Module;
use burn::nn::{GroupNorm, GroupNormConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use ravel_nn::Attention;
use ravel_nn::conv::causal::{
    Before, CausalConv, CausalConvConfig, clip_from_frames, frames_from_clip,
};
use ravel_nn::conv::cells::{among_cells, among_frames, cell_attention};

use crate::WaveletVideoConfig;
use crate::config::pointwise;

const EPSILON: f64 = 1e-6;

/// A convolution of `kernel` with `[step in time, stride in space]`.
pub(crate) fn conv(
    channels: [usize; 2],
    kernel: [usize; 3],
    stride: [usize; 2],
    device: &Device,
) -> CausalConv {
    CausalConvConfig {
        channels,
        kernel,
        stride,
        before: Before::First,
    }
    .init(device)
}

/// A 3×3×3 convolution, whole or as space then time.
#[derive(Module, Debug)]
pub(crate) struct WideConv {
    space: CausalConv,
    time: Option<CausalConv>,
}

impl WideConv {
    pub(crate) fn new(from: usize, to: usize, factorized: bool, device: &Device) -> Self {
        let kernel = if factorized { [1, 3, 3] } else { [3, 3, 3] };
        Self {
            space: conv([from, to], kernel, [1, 1], device),
            time: factorized.then(|| conv([to, to], [3, 1, 1], [1, 1], device)),
        }
    }

    pub(crate) fn forward(&self, clip: Tensor<5>) -> Tensor<5> {
        let clip = self.space.forward(clip);
        match &self.time {
            Some(time) => time.forward(clip),
            None => clip,
        }
    }
}

/// Group norm: of every frame by itself with one group, of the whole clip with more.
#[derive(Module, Debug)]
pub(crate) struct ClipNorm {
    norm: GroupNorm,
}

impl ClipNorm {
    pub(crate) fn new(width: usize, groups: usize, device: &Device) -> Self {
        Self {
            norm: GroupNormConfig::new(groups, width)
                .with_epsilon(EPSILON)
                .init(device),
        }
    }

    pub(crate) fn forward(&self, clip: Tensor<5>) -> Tensor<5> {
        if self.norm.num_groups > 1 {
            return self.norm.forward(clip);
        }
        let batch = clip.dims()[0];
        clip_from_frames(self.norm.forward(frames_from_clip(clip)), batch)
    }
}

/// Two convolutions, each after a norm and SiLU, added to what came in.
#[derive(Module, Debug)]
pub(crate) struct ClipBlock {
    norm1: ClipNorm,
    conv1: WideConv,
    norm2: ClipNorm,
    conv2: WideConv,
    nin_shortcut: Option<CausalConv>,
}

impl ClipBlock {
    pub(crate) fn new(
        config: &WaveletVideoConfig,
        from: usize,
        to: usize,
        device: &Device,
    ) -> Self {
        let wide = |from| WideConv::new(from, to, config.factorized, device);
        Self {
            norm1: ClipNorm::new(from, config.groups, device),
            conv1: wide(from),
            norm2: ClipNorm::new(to, config.groups, device),
            conv2: wide(to),
            nin_shortcut: (from != to).then(|| pointwise(from, to, device)),
        }
    }

    pub(crate) fn forward(&self, clip: Tensor<5>) -> Tensor<5> {
        let inner = self.conv1.forward(silu(self.norm1.forward(clip.clone())));
        let inner = self.conv2.forward(silu(self.norm2.forward(inner)));
        match &self.nin_shortcut {
            Some(shortcut) => shortcut.forward(clip) + inner,
            None => clip + inner,
        }
    }
}

/// Attention within each frame, then of each cell to itself in earlier frames.
#[derive(Module, Debug)]
pub(crate) struct ClipAttention {
    space_norm: ClipNorm,
    space: Attention,
    time_norm: Option<ClipNorm>,
    time: Option<Attention>,
}

impl ClipAttention {
    pub(crate) fn new(config: &WaveletVideoConfig, width: usize, device: &Device) -> Self {
        let norm = || ClipNorm::new(width, config.groups, device);
        let attention = || cell_attention(width, 1).init(device);
        Self {
            space_norm: norm(),
            space: attention(),
            time_norm: config.factorized.then(norm),
            time: config.factorized.then(attention),
        }
    }

    pub(crate) fn forward(&self, clip: Tensor<5>) -> Tensor<5> {
        let batch = clip.dims()[0];
        let frames = frames_from_clip(self.space_norm.forward(clip.clone()));
        let clip = clip + clip_from_frames(among_cells(&self.space, frames), batch);
        match (&self.time_norm, &self.time) {
            (Some(norm), Some(time)) => {
                let normed = norm.forward(clip.clone());
                clip + among_frames(time, normed)
            }
            _ => clip,
        }
    }
}

/// The blocks between encoder's or decoder's levels and their other end.
#[derive(Module, Debug)]
pub(crate) struct Middle {
    block_1: ClipBlock,
    attn_1: ClipAttention,
    block_2: ClipBlock,
}

impl Middle {
    pub(crate) fn new(config: &WaveletVideoConfig, width: usize, device: &Device) -> Self {
        Self {
            block_1: ClipBlock::new(config, width, width, device),
            attn_1: ClipAttention::new(config, width, device),
            block_2: ClipBlock::new(config, width, width, device),
        }
    }

    pub(crate) fn forward(&self, clip: Tensor<5>) -> Tensor<5> {
        let clip = self.attn_1.forward(self.block_1.forward(clip));
        self.block_2.forward(clip)
    }
}

/// Residual blocks with attention after each, where the level has any.
pub(crate) fn through(block: &[ClipBlock], attn: &[ClipAttention], clip: Tensor<5>) -> Tensor<5> {
    block.iter().enumerate().fold(clip, |clip, (at, block)| {
        let clip = block.forward(clip);
        match attn.get(at) {
            Some(attention) => attention.forward(clip),
            None => clip,
        }
    })
}
