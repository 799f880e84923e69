//! Changes of size between levels. Time is halved so that the first frame stays alone, and doubled so again.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ravel_nn::conv::blocks::repeated;
use ravel_nn::conv::causal::{
    CausalConv, clip_from_frames, doubled_in_time, frames_from_clip, led_by_first,
};

use crate::blocks::conv;
use crate::config::pointwise;

/// Halves space, time or both: factorized ones add a mean to each convolution and end in a product, the others are one
/// convolution. Factorized ones that halve nothing do nothing.
#[derive(Module, Debug)]
pub(crate) struct Downsample {
    conv: Option<CausalConv>,
    conv1: Option<CausalConv>,
    conv2: Option<CausalConv>,
    conv3: Option<CausalConv>,
    space: bool,
    time: bool,
}

impl Downsample {
    pub(crate) fn whole(width: usize, device: &Device) -> Self {
        Self {
            conv: Some(conv([width, width], [3, 3, 3], [2, 2], device)),
            conv1: None,
            conv2: None,
            conv3: None,
            space: true,
            time: true,
        }
    }

    /// The published layout has all three convolutions, whether they are used or not.
    pub(crate) fn factorized(width: usize, space: bool, time: bool, device: &Device) -> Self {
        let channels = [width, width];
        Self {
            conv: None,
            conv1: Some(conv(channels, [1, 3, 3], [1, 2], device)),
            conv2: Some(conv(channels, [3, 1, 1], [2, 1], device)),
            conv3: Some(pointwise(width, width, device)),
            space,
            time,
        }
    }

    pub(crate) fn forward(&self, mut clip: Tensor<5>) -> Tensor<5> {
        if let Some(conv) = &self.conv {
            return conv.forward(led_by_first(clip, 1));
        }
        if !self.space && !self.time {
            return clip;
        }
        if let Some(conv) = self.conv1.as_ref().filter(|_| self.space) {
            clip = conv.forward(clip.clone()) + mean_of_cells(clip);
        }
        if let Some(conv) = self.conv2.as_ref().filter(|_| self.time) {
            let led = led_by_first(clip, 1);
            clip = conv.forward(led.clone()) + mean_of_frames(led, 2);
        }
        match &self.conv3 {
            Some(conv) => conv.forward(clip),
            None => clip,
        }
    }
}

/// Doubles space, time or both, as [`Downsample`] halves them.
#[derive(Module, Debug)]
pub(crate) struct Upsample {
    conv: Option<CausalConv>,
    conv1: Option<CausalConv>,
    conv2: Option<CausalConv>,
    conv3: Option<CausalConv>,
    space: bool,
    time: bool,
}

impl Upsample {
    pub(crate) fn whole(width: usize, device: &Device) -> Self {
        Self {
            conv: Some(conv([width, width], [3, 3, 3], [1, 1], device)),
            conv1: None,
            conv2: None,
            conv3: None,
            space: true,
            time: true,
        }
    }

    /// The published layout has all three convolutions, whether they are used or not.
    pub(crate) fn factorized(width: usize, space: bool, time: bool, device: &Device) -> Self {
        let channels = [width, width];
        Self {
            conv: None,
            conv1: Some(conv(channels, [3, 1, 1], [1, 1], device)),
            conv2: Some(conv(channels, [1, 3, 3], [1, 1], device)),
            conv3: Some(pointwise(width, width, device)),
            space,
            time,
        }
    }

    pub(crate) fn forward(&self, mut clip: Tensor<5>) -> Tensor<5> {
        if let Some(conv) = &self.conv {
            // The convolution also sees the first frame's second copy, which then goes.
            let alone = clip.dims()[2] == 1;
            let grown = cells_repeated(clip);
            return match alone {
                true => conv.forward(grown),
                false => without_first(conv.forward(doubled_in_time(grown))),
            };
        }
        if !self.space && !self.time {
            return clip;
        }
        if let Some(conv) = self.conv1.as_ref().filter(|_| self.time) {
            let grown = frames_repeated(clip);
            clip = conv.forward(grown.clone()) + grown;
        }
        if let Some(conv) = self.conv2.as_ref().filter(|_| self.space) {
            let grown = cells_repeated(clip);
            clip = conv.forward(grown.clone()) + grown;
        }
        match &self.conv3 {
            Some(conv) => conv.forward(clip),
            None => clip,
        }
    }
}

/// Every frame twice but the first, `[b, c, 1 + k, h, w]` to `[b, c, 1 + 2 k, h, w]`.
pub(crate) fn frames_repeated(clip: Tensor<5>) -> Tensor<5> {
    match clip.dims()[2] {
        1 => clip,
        _ => without_first(doubled_in_time(clip)),
    }
}

/// Means of pairs of frames, the first frame alone, `[b, c, 1 + 2 k, h, w]` to `[b, c, 1 + k, h, w]`.
pub(crate) fn frames_halved(clip: Tensor<5>) -> Tensor<5> {
    match clip.dims()[2] {
        1 => clip,
        _ => mean_of_frames(led_by_first(clip, 1), 2),
    }
}

fn without_first(clip: Tensor<5>) -> Tensor<5> {
    let time = clip.dims()[2];
    clip.narrow(2, 1, time - 1)
}

fn cells_repeated(clip: Tensor<5>) -> Tensor<5> {
    let batch = clip.dims()[0];
    clip_from_frames(repeated(frames_from_clip(clip), 2), batch)
}

/// Frames left over at the end are dropped.
fn mean_of_frames(clip: Tensor<5>, count: usize) -> Tensor<5> {
    let [batch, channels, time, height, width] = clip.dims();
    let whole = time / count;
    clip.narrow(2, 0, whole * count)
        .reshape([batch, channels, whole, count, height, width])
        .mean_dim(3)
        .squeeze_dim(3)
}

fn mean_of_cells(clip: Tensor<5>) -> Tensor<5> {
    let [batch, channels, time, height, width] = clip.dims();
    clip.reshape([batch, channels * time, height / 2, 2, width / 2, 2])
        .mean_dim(5)
        .mean_dim(3)
        .reshape([batch, channels, time, height / 2, width / 2])
}
