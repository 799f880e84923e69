//! Weighted sums of shifted pictures, and how well each shift explains another one.
//!
//! A picture here has a border of `reach` cells on every side; shift `(y, x)` of `side = 2 reach + 1` in each direction sees the part that begins there.
//! Every number is one sum in the order of the shifts.

use burn::tensor::Tensor;

use crate::conv::work::{Work, on};
use crate::isa::{Isa, Lanes};
use crate::linear::{reals, slice};
use crate::pool::{Parts, global};
use crate::tensor::of_values;

/// At every cell the mean of what lies around it, with separable weights.
///
/// # Shapes
/// - `around`: `[b, c, h + 2 reach, w + 2 reach]`
/// - `down`, `right`: `[b, side, h, w]`
/// - returns: `[b, c, h, w]`
///
/// # Panics
/// If the sizes do not fit.
pub fn moved(around: &Tensor<4>, down: &Tensor<4>, right: &Tensor<4>) -> Option<Tensor<4>> {
    let [batch, channels, ..] = around.dims();
    let [_, side, height, width] = down.dims();
    assert_eq!(right.dims(), down.dims(), "weights of both directions");
    let (around, down, right) = (
        checked(around, side, [height, width])?,
        reals(down)?,
        reals(right)?,
    );
    let (around, down, right) = (slice(&around), slice(&down), slice(&right));
    let mut out = vec![0.0; batch * channels * height * width];
    let (plane, weights) = (around.len() / (batch * channels), side * height * width);
    let parts = Parts::new(&mut out);
    global().run(batch * channels, &|at| {
        let row = at / channels;
        let weights = row * weights..(row + 1) * weights;
        // SAFETY: planes do not overlap; the work has no pointers.
        unsafe {
            on(
                Isa::best(),
                Moved {
                    around: &around[at * plane..(at + 1) * plane],
                    down: &down[weights.clone()],
                    right: &right[weights],
                    side,
                    width,
                    out: parts.part(at * height * width..(at + 1) * height * width),
                },
            )
        };
    });
    Some(of_values(out, [batch, channels, height, width]))
}

struct Moved<'a> {
    around: &'a [f32],
    down: &'a [f32],
    right: &'a [f32],
    side: usize,
    width: usize,
    out: &'a mut [f32],
}

impl Work for Moved<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { width, side, .. } = self;
        let wide = width + side - 1;
        let plane = self.out.len();
        let mut sum = vec![0.0; width];
        for (i, out) in self.out.chunks_exact_mut(width).enumerate() {
            let here = |shift: usize| shift * plane + i * width..shift * plane + (i + 1) * width;
            for y in 0..side {
                let line = &self.around[(i + y) * wide..(i + y + 1) * wide];
                for x in 0..side {
                    let right = &self.right[here(x)];
                    let line = &line[x..x + width];
                    if x == 0 {
                        for ((sum, a), b) in sum.iter_mut().zip(line).zip(right) {
                            *sum = a * b;
                        }
                    } else {
                        for ((sum, a), b) in sum.iter_mut().zip(line).zip(right) {
                            *sum += a * b;
                        }
                    }
                }
                for ((out, sum), down) in out.iter_mut().zip(&sum).zip(&self.down[here(y)]) {
                    *out += sum * down;
                }
            }
        }
    }
}

/// The mean absolute difference of each shift to a picture, over the channels and over squares of `patch` cells.
///
/// # Shapes
/// - `around`: `[b, c, h + 2 reach, w + 2 reach]`, `picture`: `[b, c, h, w]`
/// - returns: `[b, side * side, h / patch, w / patch]`, down first
///
/// # Panics
/// If the sizes do not fit.
pub fn costs(
    around: &Tensor<4>,
    picture: &Tensor<4>,
    side: usize,
    patch: usize,
) -> Option<Tensor<4>> {
    let [batch, channels, height, width] = picture.dims();
    let [rows, columns] = [height / patch, width / patch];
    let around = checked(around, side, [height, width])?;
    let picture = reals(picture)?;
    let (around, picture) = (slice(&around), slice(&picture));
    let shifts = side * side;
    let mut out = vec![0.0; batch * shifts * rows * columns];
    let (wide, all) = (around.len() / batch, channels * height * width);
    let parts = Parts::new(&mut out);
    global().run(batch * shifts, &|at| {
        let (row, shift) = (at / shifts, at % shifts);
        // SAFETY: planes do not overlap; the work has no pointers.
        unsafe {
            on(
                Isa::best(),
                Costs {
                    around: &around[row * wide..(row + 1) * wide],
                    picture: &picture[row * all..(row + 1) * all],
                    size: [channels, height, width],
                    side,
                    shift: [shift / side, shift % side],
                    patch,
                    out: parts.part(at * rows * columns..(at + 1) * rows * columns),
                },
            )
        };
    });
    Some(of_values(out, [batch, shifts, rows, columns]))
}

struct Costs<'a> {
    around: &'a [f32],
    picture: &'a [f32],
    size: [usize; 3],
    side: usize,
    shift: [usize; 2],
    patch: usize,
    out: &'a mut [f32],
}

impl Work for Costs<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let [channels, height, width] = self.size;
        let [down, right] = self.shift;
        let wide = width + self.side - 1;
        let tall = height + self.side - 1;
        let share = 1.0 / (channels * self.patch * self.patch) as f32;
        let mut sum = vec![0.0; width];
        for (row, out) in self.out.chunks_exact_mut(width / self.patch).enumerate() {
            sum.fill(0.0);
            for i in row * self.patch..(row + 1) * self.patch {
                for channel in 0..channels {
                    let line = &self.around[(channel * tall + i + down) * wide + right..][..width];
                    let picture = &self.picture[(channel * height + i) * width..][..width];
                    for ((sum, a), b) in sum.iter_mut().zip(line).zip(picture) {
                        *sum += (a - b).abs();
                    }
                }
            }
            for (out, sums) in out.iter_mut().zip(sum.chunks_exact(self.patch)) {
                *out = sums.iter().sum::<f32>() * share;
            }
        }
    }
}

/// The picture with its border, whose size is checked.
fn checked(
    around: &Tensor<4>,
    side: usize,
    [height, width]: [usize; 2],
) -> Option<crate::tensor::CpuTensor> {
    let [_, _, tall, wide] = around.dims();
    assert_eq!(
        [tall, wide],
        [height + side - 1, width + side - 1],
        "the border does not fit {side} shifts"
    );
    reals(around)
}
