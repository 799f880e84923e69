//! Clips in patches: blocks of frames, rows and columns as channels, as they are or as Haar wavelets.
//!
//! Haar's wavelet of a pair is its mean and half its difference; of a block, one axis after another. Shapes: `b` batch, `c`
//! channels, `t` frames, `h`, `w` rows and columns, `p` the patch.

use burn::tensor::Tensor;
use ravel_nn::conv::causal::led_by_first;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a patch becomes channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Patching {
    /// Means and halved differences, halving by halving.
    Haar,
    /// Pixels as they are.
    Pixels,
}

/// A clip's patches. With `in_time` a patch is also `p` frames long; the first frame is repeated to fill its own.
///
/// # Shapes
/// - `clip`: `[b, c, t, h, w]`; `h`, `w` multiples of `p`; with `in_time` so is `t - 1`
/// - returns: `[b, c * p³, 1 + (t - 1) / p, h / p, w / p]`, or `[b, c * p², t, h / p, w / p]`
///
/// # Panics
/// If a size does not fit.
pub fn patched(clip: Tensor<5>, patch: usize, patching: Patching, in_time: bool) -> Tensor<5> {
    if patch == 1 {
        return clip;
    }
    let clip = if in_time {
        led_by_first(clip, patch - 1)
    } else {
        clip
    };
    let [_, _, time, height, width] = clip.dims();
    assert!(
        height.is_multiple_of(patch)
            && width.is_multiple_of(patch)
            && (!in_time || time.is_multiple_of(patch)),
        "time, height and width axes: {time}, {height}, {width} are no whole patches of {patch}"
    );
    match patching {
        Patching::Haar => (0..patch.ilog2()).fold(clip, |clip, _| halved(clip, axes(in_time))),
        Patching::Pixels => cells_as_channels(clip, patch, in_time),
    }
}

/// The inverse of [`patched`].
///
/// # Shapes
/// - as there, the other way round
pub fn unpatched(clip: Tensor<5>, patch: usize, patching: Patching, in_time: bool) -> Tensor<5> {
    if patch == 1 {
        return clip;
    }
    let clip = match patching {
        Patching::Haar => (0..patch.ilog2()).fold(clip, |clip, _| doubled(clip, axes(in_time))),
        Patching::Pixels => channels_as_cells(clip, patch, in_time),
    };
    if !in_time {
        return clip;
    }
    let time = clip.dims()[2];
    clip.narrow(2, patch - 1, time - (patch - 1))
}

/// The order in which axes are split: so do the published tokenizers for clips and for frames.
fn axes(in_time: bool) -> &'static [usize] {
    match in_time {
        true => &[2, 3, 4],
        false => &[4, 3],
    }
}

/// One step of the wavelet: half of every axis, all means first.
fn halved(clip: Tensor<5>, axes: &[usize]) -> Tensor<5> {
    let parts = axes.iter().fold(vec![clip], |parts, &axis| {
        let split = |part: Tensor<5>| {
            let [even, odd] = pairs(part, axis);
            [(even.clone() + odd.clone()) * 0.5, (even - odd) * 0.5]
        };
        parts.into_iter().flat_map(split).collect()
    });
    Tensor::cat(parts, 1)
}

/// The inverse of [`halved`].
fn doubled(clip: Tensor<5>, axes: &[usize]) -> Tensor<5> {
    let parts = clip.chunk(1 << axes.len(), 1);
    let mut parts = axes.iter().rev().fold(parts, |parts, &axis| {
        let join = |pair: &[Tensor<5>]| {
            let (mean, difference) = (pair[0].clone(), pair[1].clone());
            interleaved(mean.clone() + difference.clone(), mean - difference, axis)
        };
        parts.chunks(2).map(join).collect()
    });
    parts.swap_remove(0)
}

/// Even and odd places of an axis.
fn pairs(clip: Tensor<5>, axis: usize) -> [Tensor<5>; 2] {
    let mut shape = clip.dims().to_vec();
    shape[axis] /= 2;
    shape.insert(axis + 1, 2);
    let shape: [usize; 6] = shape.try_into().expect("one axis more");
    let paired = clip.reshape(shape);
    [0, 1].map(|place| {
        paired
            .clone()
            .narrow(axis + 1, place, 1)
            .squeeze_dim(axis + 1)
    })
}

/// The inverse of [`pairs`].
fn interleaved(even: Tensor<5>, odd: Tensor<5>, axis: usize) -> Tensor<5> {
    let mut shape = even.dims();
    shape[axis] *= 2;
    let paired: Tensor<6> = Tensor::stack(vec![even, odd], axis + 1);
    paired.reshape(shape)
}

fn cells_as_channels(clip: Tensor<5>, patch: usize, in_time: bool) -> Tensor<5> {
    let [batch, channels, time, height, width] = clip.dims();
    let frames = if in_time { patch } else { 1 };
    let (t, h, w) = (time / frames, height / patch, width / patch);
    clip.reshape([batch, channels, t, frames, h, patch, w, patch])
        .permute([0, 1, 3, 5, 7, 2, 4, 6])
        .reshape([batch, channels * frames * patch * patch, t, h, w])
}

fn channels_as_cells(clip: Tensor<5>, patch: usize, in_time: bool) -> Tensor<5> {
    let [batch, channels, t, h, w] = clip.dims();
    let frames = if in_time { patch } else { 1 };
    let channels = channels / (frames * patch * patch);
    clip.reshape([batch, channels, frames, patch, patch, t, h, w])
        .permute([0, 1, 5, 2, 6, 3, 7, 4])
        .reshape([batch, channels, t * frames, h * patch, w * patch])
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{assert_close, device, formula, values};

    use super::*;

    #[test]
    fn patches_come_back_as_the_clip() {
        for patching in [Patching::Haar, Patching::Pixels] {
            for (patch, in_time) in [(1, true), (2, true), (4, true), (4, false)] {
                let clip: Tensor<5> = formula([2, 3, 5, 8, 4], 1, 1.0, &device());
                let patches = patched(clip.clone(), patch, patching, in_time);
                let cells = if in_time { patch.pow(3) } else { patch * patch };
                assert_eq!(patches.dims()[1], 3 * cells);
                let back = unpatched(patches, patch, patching, in_time);
                assert_close("clip", &back, &clip, 1e-6);
            }
        }
    }

    #[test]
    fn wavelets_are_means_and_halved_differences_the_last_axis_fastest() {
        let clip = Tensor::from_data([[[[[1.0, 2.0], [3.0, 6.0]]]]], &device());
        let still = patched(clip.clone(), 2, Patching::Haar, true);
        assert_eq!(values(&still), [3.0, -1.0, -1.5, 0.5, 0.0, 0.0, 0.0, 0.0]);
        // Frames alone are split along columns first.
        let frame = patched(clip, 2, Patching::Haar, false);
        assert_eq!(values(&frame), [3.0, -1.5, -1.0, 0.5]);
    }
}
