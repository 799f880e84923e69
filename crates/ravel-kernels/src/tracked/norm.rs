//! RMSNorm.

use burn::tensor::Tensor;

use super::{Rule, made, operation, tracked, unit};
use crate::attend::squares;
use crate::conv::work::{Work, on};
use crate::isa::{Isa, Lanes};
use crate::linear::slice;
use crate::pool::{Parts, global};

/// Rows of a piece of work.
const RUN: usize = 64;

/// `x` over its root mean square along the last axis, times a gain.
///
/// # Shapes
/// - `x`: `[.., width]`, `gain`: `[width]`
/// - returns: like `x`
///
/// # Panics
/// If the gain is of another width.
pub fn rms_norm<const D: usize>(x: &Tensor<D>, gain: &Tensor<1>, eps: f64) -> Option<Tensor<D>> {
    unit()?;
    let shape = x.dims();
    let width = shape[D - 1];
    assert_eq!(gain.dims(), [width], "width axis of the gain");
    let ((x, flows), (gain, learns)) = (tracked(x)?, tracked(gain)?);
    if !flows && !learns {
        return None;
    }
    let eps = eps as f32;
    Some(operation([x, gain], |[x, gain]| {
        let mut out = vec![0.0; x.layout().num_elements()];
        let parts = Parts::new(&mut out);
        runs(slice(&x).len(), width, &|range| {
            // SAFETY: runs do not overlap; the work has no pointers.
            unsafe {
                on(
                    Isa::best(),
                    Forward {
                        x: &slice(&x)[range.clone()],
                        gain: slice(&gain),
                        eps,
                        out: parts.part(range),
                    },
                )
            };
        });
        let rule = Rule::new(move |grad, _| {
            let (x, gain) = (slice(&x), slice(&gain));
            let mut to_x = vec![0.0; x.len()];
            let pieces = (x.len() / width).div_ceil(RUN);
            let mut to_gain = vec![0.0; pieces * width];
            let (parts, sums) = (Parts::new(&mut to_x), Parts::new(&mut to_gain));
            runs(x.len(), width, &|range| {
                let piece = range.start / (RUN * width);
                // SAFETY: runs do not overlap; the work has no pointers.
                unsafe {
                    on(
                        Isa::best(),
                        Back {
                            x: &x[range.clone()],
                            grad: &grad[range.clone()],
                            gain,
                            eps,
                            to_x: parts.part(range),
                            to_gain: sums.part(piece * width..(piece + 1) * width),
                        },
                    )
                };
            });
            let to_gain = super::linear::column_sums(&to_gain, width);
            [Some(made(to_x, shape)), Some(made(to_gain, [width]))]
        });
        (made(out, shape), rule)
    }))
}

/// Runs of whole rows.
pub(super) fn runs(len: usize, width: usize, work: &(dyn Fn(std::ops::Range<usize>) + Sync)) {
    global().run_ranges(len, RUN * width, work);
}

/// One over the root mean square.
#[inline(always)]
pub(super) fn length(x: &[f32], eps: f32) -> f32 {
    1.0 / (squares(x) / x.len() as f32 + eps).sqrt()
}

/// The gradient of a row whose normalised numbers times `gain` got `grad`; what the gain gets is added.
#[inline(always)]
pub(super) fn back(
    x: &[f32],
    grad: &[f32],
    gain: &[f32],
    eps: f32,
    to_x: &mut [f32],
    to_gain: &mut [f32],
) {
    let by = length(x, eps);
    let mut lanes = [0f32; 16];
    let mut along = 0.0;
    let whole = x.len() / 16 * 16;
    for at in (0..whole).step_by(16) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += x[at + lane] * grad[at + lane] * gain[at + lane];
        }
    }
    for at in whole..x.len() {
        along += x[at] * grad[at] * gain[at];
    }
    along += lanes.iter().sum::<f32>();
    let share = along * by * by * by / x.len() as f32;
    for ((((x, grad), gain), to_x), to_gain) in x.iter().zip(grad).zip(gain).zip(to_x).zip(to_gain)
    {
        *to_x = by * grad * gain - x * share;
        *to_gain += grad * x * by;
    }
}

struct Forward<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Work for Forward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let width = self.gain.len();
        for (x, out) in self
            .x
            .chunks_exact(width)
            .zip(self.out.chunks_exact_mut(width))
        {
            let by = length(x, self.eps);
            for ((out, x), gain) in out.iter_mut().zip(x).zip(self.gain) {
                *out = x * by * gain;
            }
        }
    }
}

struct Back<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    gain: &'a [f32],
    eps: f32,
    to_x: &'a mut [f32],
    to_gain: &'a mut [f32],
}

impl Work for Back<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let width = self.gain.len();
        let grads = self.grad.chunks_exact(width);
        let to = self.to_x.chunks_exact_mut(width);
        for ((x, grad), to_x) in self.x.chunks_exact(width).zip(grads).zip(to) {
            back(x, grad, self.gain, self.eps, to_x, self.to_gain);
        }
    }
}
