//! Convolutions over channels-last grids.
//!
//! A decoder of pictures is nearly all 3×3 convolutions; here they run from [`Grid`] to [`Grid`] with what stands between them folded
//! in: a norm and its curve are applied where a convolution reads ([`Entry`]), so is the repetition of cells before it, and what
//! a block adds to is added to where it writes. [`Conv`] lays its weights out once and picks the way of computing: directly,
//! by Winograd's way with a quarter of the products, or in `bf16`. Each number of a result is one sum in a fixed order, so
//! neither threads nor the set of instructions change a bit of it (in `f32`); ways differ from each other by rounding.

mod attention;
pub(crate) mod buffer;
mod direct;
mod grid;
pub(crate) mod narrow;
mod product;
mod rate;
#[cfg(test)]
mod tests;
mod winograd;
pub(crate) mod work;

use crate::isa::{Isa, Lanes};
use crate::norm::{Entry, Stored, Sums};
use crate::pool::{Parts, Pool};
use crate::tiles::Unit;
pub use attention::CellAttention;
use buffer::{Aligned, Bits};
pub use grid::{Grid, Planes};
use product::PANEL;
pub use rate::{RATE_PRODUCTS, rate_f32};
use std::sync::Mutex;
use work::{Work, on};

/// What the products of a convolution are computed in; sums are `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// `f32`.
    #[default]
    F32,
    /// Weights and what a convolution reads are rounded to `bf16`, where the processor multiplies them faster.
    Bf16,
}

/// A square convolution with stride 1 that keeps the grid's size, its weights laid out for the products.
#[derive(Debug, Clone)]
pub struct Conv {
    from: usize,
    to: usize,
    kernel: usize,
    bias: Vec<f32>,
    packed: Packed,
    isa: Isa,
}

#[derive(Debug, Clone)]
enum Packed {
    Direct(Aligned<f32>),
    Winograd(Aligned<f32>),
    Half(Unit, Aligned<half::bf16>),
}

/// Which way of computing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// As many products as the formula has.
    Direct,
    /// Winograd's F(4×4, 3×3).
    Winograd,
    /// Directly, in `bf16`.
    Half(Unit),
}

/// Channels in from which on Winograd's way is faster.
const WINOGRAD_LEAST: usize = 64;
/// Channels in and out of which Winograd's transformed weights, four times the plain ones, are still worth their memory.
const WINOGRAD_WIDEST: usize = 320 * 320;

impl Conv {
    /// # Shapes
    /// - `weight`: `[to, from, kernel, kernel]`
    /// - `bias`: `[to]`, or empty
    ///
    /// # Panics
    /// If the kernel is even or the lists have other lengths.
    pub fn new(
        pool: &Pool,
        weight: &[f32],
        bias: &[f32],
        [to, from, kernel]: [usize; 3],
        precision: Precision,
    ) -> Self {
        let way = match (precision, Unit::best()) {
            (Precision::Bf16, Some(unit)) => Way::Half(unit),
            _ if winograd::fits(from, kernel)
                && from >= WINOGRAD_LEAST
                && from * to <= WINOGRAD_WIDEST =>
            {
                Way::Winograd
            }
            _ => Way::Direct,
        };
        Self::in_way(pool, weight, bias, [to, from, kernel], way, Isa::best())
    }

    pub(crate) fn in_way(
        pool: &Pool,
        weight: &[f32],
        bias: &[f32],
        [to, from, kernel]: [usize; 3],
        way: Way,
        isa: Isa,
    ) -> Self {
        assert!(!kernel.is_multiple_of(2), "kernel axis: {kernel} is even");
        assert_eq!(weight.len(), to * from * kernel * kernel, "weight");
        assert!(
            bias.is_empty() || bias.len() == to,
            "channel axis of the bias"
        );
        let packed = match way {
            Way::Direct => Packed::Direct(direct::pack(pool, weight, to, from, kernel)),
            Way::Winograd => Packed::Winograd(winograd::pack(pool, weight, to, from)),
            Way::Half(unit) => Packed::Half(unit, narrow::pack(pool, weight, to, from, kernel)),
        };
        let bias = match bias.is_empty() {
            true => vec![0.0; to],
            false => bias.to_vec(),
        };
        Self {
            from,
            to,
            kernel,
            bias,
            packed,
            isa,
        }
    }

    /// Channels out.
    pub fn channels(&self) -> usize {
        self.to
    }

    /// The convolution of what `entry` makes of `input`, each cell of which counts as `repeat` by `repeat` cells. It is written
    /// to `out`, or added to it where `add` says so. Gives the sums of what `out` then holds.
    ///
    /// # Panics
    /// If the grids have other sizes than the convolution makes of them.
    pub fn run(
        &self,
        pool: &Pool,
        input: &Grid,
        entry: &Entry,
        repeat: usize,
        out: &mut Grid,
        add: bool,
    ) -> Sums {
        assert_eq!(
            (input.channels, out.channels),
            (self.from, self.to),
            "channel axes"
        );
        assert_eq!(
            (input.height * repeat, input.width * repeat),
            (out.height, out.width),
            "height and width axes"
        );
        let view = View {
            input,
            entry,
            repeat,
            isa: self.isa,
        };
        let rows = match &self.packed {
            Packed::Direct(_) | Packed::Half(..) => direct::rows_of_band(out.height, out.width),
            Packed::Winograd(_) => winograd::BAND,
        };
        let bands = out.height.div_ceil(rows);
        let row = out.width * out.channels;
        let (height, width, channels) = (out.height, out.width, out.channels);
        let parts = Parts::new(out.cells_mut());
        let sums: Vec<Mutex<Sums>> = (0..bands)
            .map(|_| Mutex::new(Sums::none(channels)))
            .collect();
        pool.run(bands, &|band| {
            let ys = band * rows..((band + 1) * rows).min(height);
            // SAFETY: bands do not overlap.
            let out = unsafe { parts.part(ys.start * row..ys.end * row) };
            let mut band_out = Band {
                cells: out,
                first: ys.start,
                rows: ys.len(),
                width,
                channels,
                bias: &self.bias,
                add,
                isa: self.isa,
            };
            match &self.packed {
                Packed::Direct(weights) => direct::band(&view, weights, self.kernel, &mut band_out),
                Packed::Winograd(weights) => winograd::band(&view, weights, &mut band_out),
                Packed::Half(unit, weights) => {
                    narrow::band(*unit, &view, weights, self.kernel, &mut band_out)
                }
            }
            sums[band]
                .lock()
                .expect("no piece panics while it holds it")
                .take_in(self.isa, out);
        });
        let mut whole = Sums::none(channels);
        for sums in &sums {
            whole.add(&sums.lock().expect("all pieces are done"));
        }
        whole
    }
}

/// A grid as a convolution sees it.
pub(crate) struct View<'a> {
    input: &'a Grid,
    entry: &'a Entry,
    repeat: usize,
    isa: Isa,
}

impl View<'_> {
    /// Writes the cells of some rows and columns, which may lie outside (zeros there), `[rows, columns, width]`, `width` at
    /// least the channels and zeros beyond them.
    fn read<T: Stored + Bits>(
        &self,
        first: [isize; 2],
        [rows, columns]: [usize; 2],
        width: usize,
        to: &mut [T],
    ) {
        let Grid {
            height,
            width: across,
            channels,
            ..
        } = *self.input;
        let [height, across] = [height * self.repeat, across * self.repeat];
        for (row, to) in to.chunks_exact_mut(columns * width).take(rows).enumerate() {
            let y = first[0] + row as isize;
            if y < 0 || y >= height as isize {
                to.fill(T::ZERO);
                continue;
            }
            let left = (-first[1]).clamp(0, columns as isize) as usize;
            let right =
                (across as isize - first[1]).clamp(left as isize, columns as isize) as usize;
            to[..left * width].fill(T::ZERO);
            to[right * width..].fill(T::ZERO);
            let inside = &mut to[left * width..right * width];
            if width > channels {
                inside
                    .chunks_exact_mut(width)
                    .for_each(|cell| cell[channels..].fill(T::ZERO));
            }
            let row = &self.input.cells()[y as usize / self.repeat * self.input.width * channels..]
                [..self.input.width * channels];
            let x = (first[1] + left as isize) as usize;
            if self.repeat == 1 {
                self.entry.read(
                    self.isa,
                    &row[x * channels..][..(right - left) * channels],
                    channels,
                    inside,
                    width,
                );
                continue;
            }
            for (at, cell) in inside.chunks_exact_mut(width).enumerate() {
                let from = (x + at) / self.repeat;
                self.entry.read(
                    self.isa,
                    &row[from * channels..][..channels],
                    channels,
                    cell,
                    width,
                );
            }
        }
    }
}

/// Rows of the output that one piece of work writes.
pub(crate) struct Band<'a> {
    cells: &'a mut [f32],
    first: usize,
    rows: usize,
    width: usize,
    channels: usize,
    bias: &'a [f32],
    add: bool,
    isa: Isa,
}

impl Band<'_> {
    /// Puts `columns` results of a panel, `PANEL` numbers apart, to a run of cells in a row.
    fn put(&mut self, row: usize, x: usize, columns: usize, panel: usize, found: &[f32]) {
        let first = panel * PANEL;
        let to =
            &mut self.cells[(row * self.width + x) * self.channels..][..columns * self.channels];
        let bias = &self.bias[first..self.channels.min(first + PANEL)];
        let put = Put {
            to,
            channels: self.channels,
            first,
            bias,
            found,
            add: self.add,
        };
        // SAFETY: it has no pointers.
        unsafe { on(self.isa, put) };
    }
}

/// Results of a panel on their way to cells.
struct Put<'a> {
    /// `[n, channels]`.
    to: &'a mut [f32],
    channels: usize,
    /// The panel's first channel.
    first: usize,
    /// Of the panel's channels.
    bias: &'a [f32],
    /// `[n, PANEL]`.
    found: &'a [f32],
    add: bool,
}

impl Work for Put<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Put { bias, add, .. } = self;
        for (cell, found) in self
            .to
            .chunks_exact_mut(self.channels)
            .zip(self.found.chunks_exact(PANEL))
        {
            let cell = &mut cell[self.first..][..bias.len()];
            // The length of a whole panel is known when this is compiled.
            if let (Ok(cell), Ok(bias)) = (
                <&mut [f32; PANEL]>::try_from(&mut *cell),
                <&[f32; PANEL]>::try_from(bias),
            ) {
                for i in 0..PANEL {
                    let value = found[i] + bias[i];
                    cell[i] = if add { cell[i] + value } else { value };
                }
            } else {
                for i in 0..bias.len() {
                    let value = found[i] + bias[i];
                    cell[i] = if add { cell[i] + value } else { value };
                }
            }
        }
    }
}
