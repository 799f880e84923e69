//! Weighted sums of shifted pictures, and how well each shift explains another one.
//!
//! A picture here has a border of `reach` cells on every side; shift `(y, x)` of `side = 2 reach + 1` in each direction sees the part that begins there.
//! Every number is one sum in the order of the shifts.

use burn::tensor::Tensor;

use crate::conv::work::{Work, on};
use crate::isa::{Isa, Lanes};
use crate::linear::{reals, slice};
use crate::pool::{Parts, Pool, global};
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
    let weights = [slice(&down), slice(&right)];
    let size = [batch, channels, height, width];
    let out = means(global(), Isa::best(), slice(&around), weights, side, size);
    Some(of_values(out, size))
}

/// [`moved`] of what tensors hold, the weights down and right.
fn means(
    pool: &Pool,
    isa: Isa,
    around: &[f32],
    [down, right]: [&[f32]; 2],
    side: usize,
    [batch, channels, height, width]: [usize; 4],
) -> Vec<f32> {
    let mut out = vec![0.0; batch * channels * height * width];
    let (plane, weights) = (around.len() / (batch * channels), side * height * width);
    let parts = Parts::new(&mut out);
    pool.run(batch * channels, &|at| {
        let row = at / channels;
        let weights = row * weights..(row + 1) * weights;
        // SAFETY: planes do not overlap; the work has no pointers.
        unsafe {
            on(
                isa,
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
    out
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
    let around = checked(around, side, [height, width])?;
    let picture = reals(picture)?;
    let out = differences(
        global(),
        Isa::best(),
        [slice(&around), slice(&picture)],
        [side, patch],
        [batch, channels, height, width],
    );
    let size = [batch, side * side, height / patch, width / patch];
    Some(of_values(out, size))
}

/// [`costs`] of what tensors hold.
fn differences(
    pool: &Pool,
    isa: Isa,
    [around, picture]: [&[f32]; 2],
    [side, patch]: [usize; 2],
    [batch, channels, height, width]: [usize; 4],
) -> Vec<f32> {
    let [rows, columns] = [height / patch, width / patch];
    let shifts = side * side;
    let mut out = vec![0.0; batch * shifts * rows * columns];
    let (wide, all) = (around.len() / batch, channels * height * width);
    let parts = Parts::new(&mut out);
    pool.run(batch * shifts, &|at| {
        let (row, shift) = (at / shifts, at % shifts);
        // SAFETY: planes do not overlap; the work has no pointers.
        unsafe {
            on(
                isa,
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
    out
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Rows, channels, height and width; shifts in each direction; cells of a patch in each.
    fn shapes(random: &mut Random) -> Vec<([usize; 4], usize, usize)> {
        let mut shapes = vec![([1, 1, 1, 1], 1, 1), ([2, 3, 16, 32], 9, 4)];
        shapes.extend((0..40).map(|_| {
            let patch = random.within(1..5);
            let size = [
                random.within(1..3),
                random.within(1..4),
                random.within(patch..20),
                random.within(patch..50),
            ];
            (size, 1 + 2 * random.within(0..4), patch)
        }));
        shapes
    }

    /// `found` is the same on all threads and instructions, and near `plain` of each place.
    fn check(found: impl Fn(&Pool, Isa) -> Vec<f32>, plain: &[f64], bound: f64) {
        let first = found(&Pool::new(1), Isa::scalar());
        assert_eq!(first.len(), plain.len());
        for (found, plain) in first.iter().zip(plain) {
            assert!((f64::from(*found) - plain).abs() < bound, "{found} {plain}");
        }
        for threads in 1..4 {
            for isa in Isa::all() {
                assert_eq!(found(&Pool::new(threads), isa), first, "{threads} {isa:?}");
            }
        }
    }

    #[test]
    fn means_and_costs_are_those_of_the_plain_path_on_all_instructions_and_threads() {
        let mut random = Random::new(15);
        for (size, side, patch) in shapes(&mut random) {
            let [batch, channels, height, width] = size;
            let [tall, wide] = [height + side - 1, width + side - 1];
            let around = random.normals(batch * channels * tall * wide);
            let picture = random.normals(batch * channels * height * width);
            let [down, right] = [(); 2].map(|()| random.normals(batch * side * height * width));
            let seen = |b: usize, c: usize, y: usize, x: usize| {
                f64::from(around[((b * channels + c) * tall + y) * wide + x])
            };
            let weight = |of: &[f32], b: usize, shift: usize, y: usize, x: usize| {
                f64::from(of[((b * side + shift) * height + y) * width + x])
            };

            let mut plain = Vec::new();
            for (b, c) in (0..batch).flat_map(|b| (0..channels).map(move |c| (b, c))) {
                for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                    let of = |i: usize, j: usize| {
                        weight(&down, b, i, y, x)
                            * weight(&right, b, j, y, x)
                            * seen(b, c, y + i, x + j)
                    };
                    let shifts = (0..side * side).map(|at| of(at / side, at % side));
                    plain.push(shifts.sum());
                }
            }
            let found = |pool: &Pool, isa| means(pool, isa, &around, [&down, &right], side, size);
            // Roundings of 49 products of three numbers about one.
            check(found, &plain, 1e-4);

            let mut plain = Vec::new();
            for (b, shift) in (0..batch).flat_map(|b| (0..side * side).map(move |s| (b, s))) {
                for (row, column) in (0..height / patch)
                    .flat_map(|row| (0..width / patch).map(move |column| (row, column)))
                {
                    let mut sum = 0.0;
                    for (c, y, x) in (0..channels).flat_map(|c| {
                        (0..patch).flat_map(move |y| (0..patch).map(move |x| (c, y, x)))
                    }) {
                        let (y, x) = (row * patch + y, column * patch + x);
                        let here = picture[((b * channels + c) * height + y) * width + x];
                        let there = seen(b, c, y + shift / side, x + shift % side);
                        sum += (there - f64::from(here)).abs();
                    }
                    plain.push(sum / (channels * patch * patch) as f64);
                }
            }
            let found =
                |pool: &Pool, isa| differences(pool, isa, [&around, &picture], [side, patch], size);
            check(found, &plain, 1e-5);
        }
    }
}
