//! Norms of rows: over the root mean square, or about the mean and over the standard deviation.
//!
//! RMSNorm: Zhang and Sennrich 2019. LayerNorm: Ba et al. 2016. Adaptive gains and biases: Peebles and Xie 2023, section 3.2.
//!
//! A row is read from memory once: its sums, first of the numbers and then of their squares about the mean, and all that follows find it in the
//! cache. Sums are taken in sixteen lanes that are then folded, whatever the set of instructions, and no product is fused with a
//! sum: every set gives the same bits.

use crate::attend::{squares, summed};
use crate::conv::work::{Work, on};
use crate::isa::{Isa, Lanes};
use crate::pool::{Parts, Pool};

/// A norm of rows, in this order.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowNorm<'a> {
    /// Whether the mean is taken off first.
    pub centred: bool,
    /// Added to the mean square.
    pub eps: f32,
    /// Multiplied by, `[width]`.
    pub gain: Option<&'a [f32]>,
    /// Then added, `[width]`.
    pub bias: Option<&'a [f32]>,
    /// Then multiplied by one more than the first and the second added, `[groups, width]` each: groups are as many rows, one
    /// after the other.
    pub modulation: Option<[&'a [f32]; 2]>,
}

/// Fewer numbers than this in a piece are not worth another thread.
const SHORT: usize = 1 << 13;

/// Normalised rows.
///
/// # Shapes
/// - `x`, `out`: `[rows, width]`
///
/// # Panics
/// If a length does not fit, or groups are not as many rows each.
pub fn row_norm(pool: &Pool, isa: Isa, x: &[f32], width: usize, norm: &RowNorm, out: &mut [f32]) {
    if x.is_empty() && out.is_empty() {
        return;
    }
    let rows = x.len() / width;
    assert!(x.len() == rows * width && x.len() == out.len(), "row axis");
    let fits = |learned: Option<&[f32]>| learned.is_none_or(|learned| learned.len() == width);
    assert!(fits(norm.gain) && fits(norm.bias), "width axis: {width}");
    let groups = norm.modulation.map_or(1, |[gain, bias]| {
        assert_eq!(gain.len(), bias.len(), "group axis");
        gain.len() / width
    });
    assert!(groups > 0 && rows.is_multiple_of(groups), "group axis");
    let out = Parts::new(out);
    let size = rows.div_ceil(4 * pool.threads()).max(SHORT.div_ceil(width));
    pool.run_ranges(rows, size, &|rows_here| {
        let place = rows_here.start * width..rows_here.end * width;
        let work = Rows {
            x: &x[place.clone()],
            first: rows_here.start,
            group: rows / groups,
            width,
            norm,
            // SAFETY: each piece has rows of its own.
            out: unsafe { out.part(place) },
        };
        // SAFETY: the work has no pointers.
        unsafe { on(isa, work) };
    });
}

struct Rows<'a> {
    x: &'a [f32],
    /// The number of the first row.
    first: usize,
    /// Rows of a group.
    group: usize,
    width: usize,
    norm: &'a RowNorm<'a>,
    out: &'a mut [f32],
}

impl Work for Rows<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (width, norm) = (self.width, self.norm);
        let rows = self.x.chunks_exact(width);
        for (at, (x, out)) in rows.zip(self.out.chunks_exact_mut(width)).enumerate() {
            if norm.centred {
                let mean = summed(x, |x| x) / width as f32;
                out.iter_mut().zip(x).for_each(|(out, x)| *out = x - mean);
            } else {
                out.copy_from_slice(x);
            }
            let by = 1.0 / (squares(out) / width as f32 + norm.eps).sqrt();
            match norm.gain {
                Some(gain) => {
                    for (out, gain) in out.iter_mut().zip(gain) {
                        *out = *out * by * gain;
                    }
                }
                None => out.iter_mut().for_each(|out| *out *= by),
            }
            if let Some(bias) = norm.bias {
                out.iter_mut()
                    .zip(bias)
                    .for_each(|(out, bias)| *out += bias);
            }
            if let Some([gain, bias]) = norm.modulation {
                let group = (self.first + at) / self.group * width;
                let (gain, bias) = (&gain[group..][..width], &bias[group..][..width]);
                for ((out, gain), bias) in out.iter_mut().zip(gain).zip(bias) {
                    *out = *out * (gain + 1.0) + bias;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn rows_checked_by_hand() {
        let x = [1.0, 1.0, 5.0, 5.0];
        let normed = |norm: RowNorm| {
            let mut out = [0.0; 4];
            row_norm(&Pool::new(1), Isa::best(), &x, 4, &norm, &mut out);
            out
        };
        let root = 13f32.sqrt();
        let gain = Some(&[1.0, 2.0, 1.0, 1.0][..]);
        let rms = normed(RowNorm {
            gain,
            ..RowNorm::default()
        });
        let expected = [1.0 / root, 2.0 / root, 5.0 / root, 5.0 / root];
        assert!(rms.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
        let layer = RowNorm {
            centred: true,
            gain,
            bias: Some(&[0.0, 0.0, 0.0, 7.0]),
            ..RowNorm::default()
        };
        assert_eq!(normed(layer), [-1.0, -2.0, 1.0, 8.0]);
        let modulation = Some([&[0.0, 0.0, 1.0, 0.0][..], &[0.0, 3.0, 0.0, 0.0][..]]);
        let modulated = normed(RowNorm {
            modulation,
            ..layer
        });
        assert_eq!(modulated, [-1.0, 1.0, 2.0, 8.0]);
    }

    /// All of a norm's numbers, of which some may be left out.
    struct Case {
        shape: [usize; 3],
        numbers: [Vec<f32>; 5],
        keeps: usize,
    }

    impl Case {
        fn any(random: &mut Random) -> Self {
            let [groups, rows] = [random.within(1..4), random.within(1..40)];
            let width = random.within(1..300);
            let counts = [groups * rows, 1, 1, groups, groups];
            let mut numbers = counts.map(|count| random.normals(count * width));
            // Rows far from zero, as those of trained models are.
            numbers[0].iter_mut().for_each(|x| *x = *x * 2.0 + 10.0);
            Self {
                shape: [groups, rows, width],
                numbers,
                keeps: random.within(0..16),
            }
        }

        fn norm(&self) -> RowNorm<'_> {
            let [_, gain, bias, more_gain, more_bias] = &self.numbers;
            let kept = |bit: usize| self.keeps >> bit & 1 == 1;
            RowNorm {
                centred: kept(0),
                eps: 1e-5,
                gain: kept(1).then_some(gain),
                bias: kept(2).then_some(bias),
                modulation: kept(3).then_some([more_gain, more_bias]),
            }
        }

        fn run(&self, isa: Isa, threads: usize) -> Vec<f32> {
            let x = &self.numbers[0];
            let mut out = vec![f32::NAN; x.len()];
            let pool = Pool::new(threads);
            row_norm(&pool, isa, x, self.shape[2], &self.norm(), &mut out);
            out
        }

        /// In 64 bits.
        fn expected(&self) -> Vec<f64> {
            let ([_, rows, width], norm) = (self.shape, self.norm());
            let mut out = Vec::new();
            for (row, x) in self.numbers[0].chunks_exact(width).enumerate() {
                let x: Vec<_> = x.iter().map(|x| f64::from(*x)).collect();
                let mean = x.iter().sum::<f64>() / width as f64;
                let mean = if norm.centred { mean } else { 0.0 };
                let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                let by = 1.0 / (square + f64::from(norm.eps)).sqrt();
                for (at, x) in x.iter().enumerate() {
                    let or = |learned: Option<&[f32]>, at: usize, other: f64| {
                        learned.map_or(other, |learned| f64::from(learned[at]))
                    };
                    let mut y = (x - mean) * by * or(norm.gain, at, 1.0) + or(norm.bias, at, 0.0);
                    let at = row / rows * width + at;
                    if let Some([gain, bias]) = norm.modulation {
                        y = y * (f64::from(gain[at]) + 1.0) + f64::from(bias[at]);
                    }
                    out.push(y);
                }
            }
            out
        }
    }

    #[test]
    fn rows_are_near_those_in_64_bits_and_the_same_for_all_sets_and_threads() {
        let mut random = Random::new(21);
        for _ in 0..60 {
            let case = Case::any(&mut random);
            let first = case.run(Isa::scalar(), 1);
            for (found, expected) in first.iter().zip(case.expected()) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 1e-5 * expected.abs().max(1.0), "{found} {expected}");
            }
            for (isa, threads) in Isa::all().into_iter().zip([1, 2, 3, 4]) {
                assert!(case.run(isa, threads) == first, "{isa:?} {:?}", case.shape);
            }
        }
    }

    #[test]
    fn a_row_alone_is_the_row_among_others() {
        let mut random = Random::new(22);
        for _ in 0..20 {
            let case = Case::any(&mut random);
            let all = case.run(Isa::best(), 2);
            let ([_, rows, width], norm) = (case.shape, case.norm());
            for (row, expected) in all.chunks_exact(width).enumerate() {
                let group = row / rows * width..(row / rows + 1) * width;
                let alone = RowNorm {
                    modulation: norm
                        .modulation
                        .map(|both| both.map(|all| &all[group.clone()])),
                    ..norm
                };
                let x = &case.numbers[0][row * width..(row + 1) * width];
                let mut out = vec![f32::NAN; width];
                row_norm(&Pool::new(1), Isa::best(), x, width, &alone, &mut out);
                assert_eq!(out, expected);
            }
        }
    }
}
