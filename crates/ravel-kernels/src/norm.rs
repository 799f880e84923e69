//! Group norm and curves over channels-last grids: sums of channels, and what a grid is on its way into a convolution.
//!
//! Wu and He 2018, section 3: a group of channels is brought to mean 0 and variance 1 over its channels and all cells, then each
//! channel is scaled and shifted. The sums are taken in one pass where the grid is written, eight cells in `f32` and what they come to in `f64`; norm and curve are
//! applied where the next layer reads it, so that neither costs a pass over memory.

use crate::Curve;
use crate::conv::work::{Work, on};
use crate::curve::exp;
use crate::isa::{Isa, Lanes};
use half::bf16;

/// Sums of the cells of a grid, channel by channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    cells: usize,
    /// Of the numbers, then of their squares: `[2 * channels]`.
    sums: Vec<f64>,
}

impl Sums {
    /// Of nothing yet.
    pub fn none(channels: usize) -> Self {
        Self {
            cells: 0,
            sums: vec![0.0; 2 * channels],
        }
    }

    /// Adds cells, `[n, channels]`.
    pub(crate) fn take_in(&mut self, isa: Isa, cells: &[f32]) {
        let channels = self.sums.len() / 2;
        self.cells += cells.len() / channels;
        let (sums, squares) = self.sums.split_at_mut(channels);
        // SAFETY: it has no pointers.
        unsafe {
            on(
                isa,
                AddSums {
                    cells,
                    sums,
                    squares,
                },
            )
        };
    }

    /// Adds what another part of the grid has.
    pub fn add(&mut self, other: &Self) {
        self.cells += other.cells;
        self.sums
            .iter_mut()
            .zip(&other.sums)
            .for_each(|(sum, more)| *sum += more);
    }
}

/// The weights of a group norm.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    /// Groups of channels.
    pub groups: usize,
    /// What each channel is multiplied by.
    pub gamma: Vec<f32>,
    /// What is then added.
    pub beta: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl GroupNorm {
    /// The norm as one product and one sum a channel, for a grid with these sums.
    ///
    /// # Panics
    /// If the channels are not those of the norm, or no multiple of its groups.
    pub fn entry(&self, sums: &Sums, curve: Option<Curve>) -> Entry {
        let channels = self.gamma.len();
        assert_eq!(sums.sums.len(), 2 * channels, "channel axis");
        assert!(
            channels.is_multiple_of(self.groups),
            "channel axis: no whole groups"
        );
        let width = channels / self.groups;
        let count = (sums.cells * width) as f64;
        let mut entry = Entry {
            scale: Vec::with_capacity(channels),
            shift: Vec::with_capacity(channels),
            curve,
        };
        for group in 0..self.groups {
            let own = group * width..(group + 1) * width;
            let mean = sums.sums[own.clone()].iter().sum::<f64>() / count;
            let squares = sums.sums[channels..][own.clone()].iter().sum::<f64>() / count;
            let scale = 1.0 / ((squares - mean * mean).max(0.0) + self.epsilon).sqrt();
            for channel in own {
                let gamma = f64::from(self.gamma[channel]) * scale;
                entry.scale.push(gamma as f32);
                entry
                    .shift
                    .push((f64::from(self.beta[channel]) - mean * gamma) as f32);
            }
        }
        entry
    }
}

/// What happens to each number of a grid as a layer reads it: a norm (or none, where both lists are empty), then a curve.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    scale: Vec<f32>,
    shift: Vec<f32>,
    curve: Option<Curve>,
}

impl Entry {
    /// A curve without a norm before it.
    pub fn curve(curve: Option<Curve>) -> Self {
        Self {
            curve,
            ..Self::default()
        }
    }

    /// Applies it to cells of `channels` numbers and writes each cell at the start of `width` numbers of `to`.
    ///
    /// # Panics
    /// If `to` is too short, or the norm is of other channels.
    pub(crate) fn read<T: Stored>(
        &self,
        isa: Isa,
        cells: &[f32],
        channels: usize,
        to: &mut [T],
        width: usize,
    ) {
        assert!(width >= channels && cells.len() / channels * width <= to.len());
        assert!(
            self.scale.is_empty() || self.scale.len() == channels,
            "channel axis"
        );
        // SAFETY: it has no pointers.
        unsafe {
            on(
                isa,
                Read {
                    entry: self,
                    cells,
                    channels,
                    to,
                    width,
                },
            )
        };
    }
}

/// A type that a layer's input is held in.
pub(crate) trait Stored: Copy + Send + Sync + 'static {
    /// The nearest of this type.
    fn of(x: f32) -> Self;
    /// Zero.
    const ZERO: Self;
}

impl Stored for f32 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    fn of(x: f32) -> Self {
        x
    }
}

impl Stored for bf16 {
    const ZERO: Self = Self::from_bits(0);
    /// To the nearest, ties to even.
    #[inline(always)]
    fn of(x: f32) -> Self {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        // A NaN stays one. `bf16::from_f32` gives the same, but not in vectors.
        let kept = (bits >> 16) | 0x40;
        Self::from_bits(if x.is_nan() { kept } else { rounded } as u16)
    }
}

struct AddSums<'a> {
    cells: &'a [f32],
    sums: &'a mut [f64],
    squares: &'a mut [f64],
}

impl Work for AddSums<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self {
            cells,
            sums,
            squares,
        } = self;
        let channels = sums.len();
        let eight = 8 * channels;
        let whole = cells.len() / eight * eight;
        for cells in cells[..whole].chunks_exact(eight) {
            // Each as long as the sums, which saves a check of every number.
            let [a, b, c, d, e, f, g, h] = eight_of(cells, channels);
            let squares = &mut squares[..channels];
            for i in 0..channels {
                let (a, b, c, d) = (a[i], b[i], c[i], d[i]);
                let (e, f, g, h) = (e[i], f[i], g[i], h[i]);
                sums[i] += f64::from(((a + b) + (c + d)) + ((e + f) + (g + h)));
                let (ab, cd) = (b.mul_add(b, a * a), d.mul_add(d, c * c));
                let (ef, gh) = (f.mul_add(f, e * e), h.mul_add(h, g * g));
                squares[i] += f64::from((ab + cd) + (ef + gh));
            }
        }
        for cell in cells[whole..].chunks_exact(channels) {
            for i in 0..channels {
                let x = f64::from(cell[i]);
                sums[i] += x;
                squares[i] += x * x;
            }
        }
    }
}

#[inline(always)]
fn eight_of(cells: &[f32], channels: usize) -> [&[f32]; 8] {
    let mut parts = [&cells[..0]; 8];
    for (at, part) in parts.iter_mut().enumerate() {
        *part = &cells[at * channels..][..channels];
    }
    parts
}

struct Read<'a, T> {
    entry: &'a Entry,
    cells: &'a [f32],
    channels: usize,
    to: &'a mut [T],
    width: usize,
}

impl<T: Stored> Work for Read<'_, T> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        match self.entry.curve {
            None => self.bent::<Straight>(),
            Some(Curve::Relu) => self.bent::<Relu>(),
            Some(Curve::Silu) => self.bent::<Silu>(),
            Some(Curve::ReluSquared) => self.bent::<ReluSquared>(),
            Some(Curve::GeluTanh) => self.bent::<GeluTanh>(),
        }
    }
}

impl<T: Stored> Read<'_, T> {
    #[inline(always)]
    fn bent<B: Bend>(self) {
        let Self {
            entry, channels, ..
        } = self;
        for (from, to) in self
            .cells
            .chunks_exact(channels)
            .zip(self.to.chunks_exact_mut(self.width))
        {
            let to = &mut to[..channels];
            if entry.scale.is_empty() {
                for i in 0..channels {
                    to[i] = T::of(B::of(from[i]));
                }
            } else {
                let (scale, shift) = (&entry.scale[..channels], &entry.shift[..channels]);
                for i in 0..channels {
                    to[i] = T::of(B::of(from[i].mul_add(scale[i], shift[i])));
                }
            }
        }
    }
}

/// A curve as a type: a closure would not be compiled for the instruction set of the function that it is in.
trait Bend {
    fn of(x: f32) -> f32;
}

struct Straight;
struct Relu;
struct Silu;
struct ReluSquared;
struct GeluTanh;

impl Bend for Straight {
    #[inline(always)]
    fn of(x: f32) -> f32 {
        x
    }
}

impl Bend for Relu {
    #[inline(always)]
    fn of(x: f32) -> f32 {
        if x < 0.0 { 0.0 } else { x }
    }
}

impl Bend for ReluSquared {
    #[inline(always)]
    fn of(mut x: f32) -> f32 {
        Curve::ReluSquared.apply(std::slice::from_mut(&mut x));
        x
    }
}

impl Bend for GeluTanh {
    #[inline(always)]
    fn of(mut x: f32) -> f32 {
        Curve::GeluTanh.apply(std::slice::from_mut(&mut x));
        x
    }
}

impl Bend for Silu {
    #[inline(always)]
    fn of(x: f32) -> f32 {
        x / (1.0 + exp(-x))
    }
}

/// e to the power of each number less `less`.
///
/// # Panics
/// If `to` is shorter.
pub(crate) fn exponentials(isa: Isa, from: &[f32], less: f32, to: &mut [f32]) {
    // SAFETY: it has no pointers.
    unsafe {
        on(
            isa,
            Exponentials {
                from,
                less,
                to: &mut to[..from.len()],
            },
        )
    };
}

struct Exponentials<'a> {
    from: &'a [f32],
    less: f32,
    to: &'a mut [f32],
}

impl Work for Exponentials<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for (from, to) in self.from.iter().zip(self.to) {
            *to = exp(*from - self.less);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silu_is_near_exact_arithmetic_everywhere() {
        let mut worst = 0.0f64;
        let xs: Vec<f32> = (-40_000..40_000)
            .map(|i| i as f32 * 0.003)
            .chain([0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30])
            .collect();
        for isa in Isa::all() {
            let mut found = vec![0.0f32; xs.len()];
            Entry::curve(Some(Curve::Silu)).read(isa, &xs, 1, &mut found, 1);
            for (x, found) in xs.iter().zip(&found) {
                let exact = f64::from(*x) / (1.0 + (-f64::from(*x)).exp());
                // Beyond the clamp both are zero to the size of x: exp(-87) is 1e-38.
                worst =
                    worst.max((f64::from(*found) - exact).abs() / f64::from(x.abs()).max(1e-35));
            }
        }
        assert!(worst < 4e-7, "{worst}");
    }

    #[test]
    fn nan_stays_nan() {
        for isa in Isa::all() {
            for curve in [None, Some(Curve::Relu), Some(Curve::Silu)] {
                let (mut wide, mut half) = ([0.0f32; 2], [bf16::ZERO; 2]);
                Entry::curve(curve).read(isa, &[f32::NAN, 1.0], 1, &mut wide, 1);
                Entry::curve(curve).read(isa, &[f32::NAN, 1.0], 1, &mut half, 1);
                assert!(wide[0].is_nan() && !wide[1].is_nan());
                assert!(half[0].is_nan() && !half[1].is_nan());
            }
        }
    }

    #[test]
    fn sums_make_the_norm() {
        let channels = 6;
        let cells: Vec<f32> = (0..channels * 7)
            .map(|i| ((i * 37) % 11) as f32 * 0.3 + 50.0)
            .collect();
        let norm = GroupNorm {
            groups: 2,
            gamma: vec![1.5; channels],
            beta: vec![-0.25; channels],
            epsilon: 1e-6,
        };
        for isa in Isa::all() {
            let mut sums = Sums::none(channels);
            sums.take_in(isa, &cells[..18]);
            let mut rest = Sums::none(channels);
            rest.take_in(isa, &cells[18..]);
            sums.add(&rest);
            let mut found = vec![0.0; cells.len()];
            norm.entry(&sums, None)
                .read(isa, &cells, channels, &mut found, channels);
            for group in 0..2 {
                let own = |at: &usize| (at % channels) / 3 == group;
                let of: Vec<f64> = (0..cells.len())
                    .filter(own)
                    .map(|at| f64::from(cells[at]))
                    .collect();
                let mean = of.iter().sum::<f64>() / of.len() as f64;
                let variance = of.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / of.len() as f64;
                for at in (0..cells.len()).filter(own) {
                    let exact =
                        (f64::from(cells[at]) - mean) / (variance + 1e-6).sqrt() * 1.5 - 0.25;
                    assert!(
                        (f64::from(found[at]) - exact).abs() < 2e-5,
                        "{} {exact}",
                        found[at]
                    );
                }
            }
        }
    }
}
