//! Convolutions over clips that look back in time and never ahead.
//!
//! Yu et al. 2023 (MAGVIT-v2), section 3.2. A kernel of `k` frames with a stride of `s` is fed `k - s` frames that stand before
//! the first one, so that the first output depends on the first `s` frames only.
//! Shapes: `b` batch, `c` channels, `t` frames, `h`, `w` rows and columns.

use burn::module::Module;
use burn::nn::PaddingConfig3d;
use burn::nn::conv::{Conv3d, Conv3dConfig};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};

/// What stands before the first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing: zeros.
    Zeros,
    /// The first frame, again and again.
    First,
}

/// What fixes a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CausalConvConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Frames, rows and columns that one output sees; rows and columns odd.
    pub kernel: [usize; 3],
    /// Steps in time and in space. Space keeps its size at 1; at 2 it is halved, with zeros right and below only.
    pub stride: [usize; 2],
    /// What stands before the first frame.
    pub before: Before,
}

impl CausalConvConfig {
    /// A fresh convolution.
    ///
    /// # Panics
    /// If a kernel is even in space or shorter in time than its stride.
    pub fn init(&self, device: &Device) -> CausalConv {
        let [time, rows, columns] = self.kernel;
        let [step, stride] = self.stride;
        assert!(time >= step, "time axis: the stride skips frames");
        assert!(
            !rows.is_multiple_of(2) && !columns.is_multiple_of(2),
            "height and width axes: an even kernel has no middle"
        );
        let around = match stride {
            1 => PaddingConfig3d::Explicit(0, rows / 2, columns / 2),
            _ => PaddingConfig3d::Valid,
        };
        CausalConv {
            conv: Conv3dConfig::new(self.channels, self.kernel)
                .with_stride([step, stride, stride])
                .with_padding(around)
                .init(device),
            before: time - step,
            repeat_first: self.before == Before::First,
            halves: stride > 1,
        }
    }
}

/// A convolution over frames, rows and columns.
#[derive(Module, Debug)]
pub struct CausalConv {
    /// `[out, in, frames, rows, columns]`.
    pub conv: Conv3d,
    before: usize,
    repeat_first: bool,
    halves: bool,
}

impl CausalConv {
    /// # Shapes
    /// - `clip`: `[b, in, t, h, w]`
    /// - returns: `[b, out, t / step, h / stride, w / stride]`
    pub fn forward(&self, clip: Tensor<5>) -> Tensor<5> {
        let mut clip = match self.repeat_first {
            true => led_by_first(clip, self.before),
            false => led_by_zeros(clip, self.before),
        };
        if self.halves {
            clip = clip.pad((0, 1, 0, 1), PadMode::Constant(0.0));
        }
        self.conv.forward(clip)
    }
}

/// The clip after `count` copies of its first frame.
///
/// # Shapes
/// - `clip`: `[b, c, t, h, w]`
/// - returns: `[b, c, count + t, h, w]`
pub fn led_by_first(clip: Tensor<5>, count: usize) -> Tensor<5> {
    if count == 0 {
        return clip;
    }
    let first = clip.clone().narrow(2, 0, 1).repeat_dim(2, count);
    Tensor::cat(vec![first, clip], 2)
}

fn led_by_zeros(clip: Tensor<5>, count: usize) -> Tensor<5> {
    if count == 0 {
        return clip;
    }
    let [batch, channels, _, height, width] = clip.dims();
    let shape = [batch, channels, count, height, width];
    let zeros = Tensor::zeros(shape, (&clip.device(), clip.dtype()));
    Tensor::cat(vec![zeros, clip], 2)
}

/// Each frame twice.
///
/// # Shapes
/// - `clip`: `[b, c, t, h, w]`
/// - returns: `[b, c, 2 t, h, w]`
pub fn doubled_in_time(clip: Tensor<5>) -> Tensor<5> {
    let [batch, channels, time, height, width] = clip.dims();
    clip.reshape([batch, channels, time, 1, height, width])
        .expand([batch, channels, time, 2, height, width])
        .reshape([batch, channels, 2 * time, height, width])
}

/// Frames as rows of a batch.
///
/// # Shapes
/// - `clip`: `[b, c, t, h, w]`
/// - returns: `[b * t, c, h, w]`
pub fn frames_from_clip(clip: Tensor<5>) -> Tensor<4> {
    let [batch, channels, time, height, width] = clip.dims();
    clip.swap_dims(1, 2)
        .reshape([batch * time, channels, height, width])
}

/// The inverse of [`frames_from_clip`].
///
/// # Shapes
/// - `frames`: `[b * t, c, h, w]`
/// - returns: `[b, c, t, h, w]`
pub fn clip_from_frames(frames: Tensor<4>, batch: usize) -> Tensor<5> {
    let [rows, channels, height, width] = frames.dims();
    frames
        .reshape([batch, rows / batch, channels, height, width])
        .swap_dims(1, 2)
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{assert_close, device, formula, values};

    use super::*;

    fn conv(kernel: [usize; 3], stride: [usize; 2], before: Before) -> CausalConv {
        CausalConvConfig {
            channels: [3, 2],
            kernel,
            stride,
            before,
        }
        .init(&device())
    }

    #[test]
    fn earlier_frames_do_not_depend_on_later_ones() {
        for before in [Before::Zeros, Before::First] {
            for (kernel, step, whole) in [([3, 3, 3], 1, 6), ([4, 3, 3], 2, 3), ([3, 1, 1], 2, 3)] {
                let conv = conv(kernel, [step, 1], before);
                let clip: Tensor<5> = formula([2, 3, 6, 4, 5], 1, 1.0, &device());
                let all = conv.forward(clip.clone());
                assert_eq!(all.dims(), [2, 2, whole, 4, 5]);
                let part = conv.forward(clip.narrow(2, 0, 4));
                let known = part.dims()[2];
                assert_close("start", &part, &all.narrow(2, 0, known), 1e-6);
            }
        }
    }

    #[test]
    fn a_still_picture_stays_still_when_its_first_frame_leads() {
        let still = formula::<5>([1, 3, 1, 4, 4], 2, 1.0, &device()).repeat_dim(2, 3);
        let found = conv([3, 3, 3], [1, 1], Before::First).forward(still.clone());
        let first = found.clone().narrow(2, 0, 1).repeat_dim(2, 3);
        assert_close("still", &found, &first, 1e-6);
        let zeros = values(&conv([3, 3, 3], [1, 1], Before::Zeros).forward(still));
        assert_ne!(zeros[..16], zeros[16..32]);
    }

    #[test]
    fn halving_space_pads_right_and_below() {
        let clip = formula([1, 3, 2, 6, 8], 3, 1.0, &device());
        let found = conv([1, 3, 3], [1, 2], Before::Zeros).forward(clip);
        assert_eq!(found.dims(), [1, 2, 2, 3, 4]);
    }

    #[test]
    fn clips_come_back_from_their_frames() {
        let clip: Tensor<5> = formula([2, 3, 4, 2, 2], 4, 1.0, &device());
        let back = clip_from_frames(frames_from_clip(clip.clone()), 2);
        assert_close("clip", &back, &clip, 0.0);
        let doubled = doubled_in_time(clip.clone());
        assert_close(
            "odd",
            &doubled.clone().narrow(2, 7, 1),
            &clip.narrow(2, 3, 1),
            0.0,
        );
    }
}
