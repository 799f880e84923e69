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
mod rows;
#[cfg(test)]
mod tests;
mod winograd;
pub(crate) mod work;

use crate::isa::{Isa, Lanes};
use crate::norm::{Entry, Stored, Sums};
use crate::pool::{Parts, Pool};
use crate::tiles::Unit;
pub use attention::CellAttention;
use buffer::Bits;
pub(crate) use buffer::{Aligned, HUGE_PAGE, ask_for_huge_pages};
pub use grid::{Grid, Planes};
use product::PANEL;
pub use rate::{RATE_PRODUCTS, rate_f32};
pub use rows::{Rows, RowsMut, Strip};
use std::sync::Mutex;
use work::{Work, on};

/// What the products of a convolution are computed in; sums are `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// `f32`.
    #[default]
    F32,
    /// Weights and what a convolution reads are rounded to `bf16` where the processor multiplies them faster than in `f32`, Winograd's way included.
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
        let winograd =
            winograd::fits(from, kernel) && from >= WINOGRAD_LEAST && from * to <= WINOGRAD_WIDEST;
        let way = match (precision, Unit::best()) {
            (Precision::Bf16, Some(Unit::Tiles)) => Way::Half(Unit::Tiles),
            // Pairs multiply twice as fast as `f32`, Winograd's way takes a quarter of the products.
            _ if winograd => Way::Winograd,
            (Precision::Bf16, Some(unit)) => Way::Half(unit),
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

    /// Cells on each side of one that its result is computed from.
    pub fn reach(&self) -> usize {
        self.kernel / 2
    }

    /// Rows of a result of this size that are computed together, and whose sums are taken together.
    pub fn band(&self, height: usize, width: usize) -> usize {
        match &self.packed {
            Packed::Direct(_) | Packed::Half(..) => direct::rows_of_band(height, width),
            Packed::Winograd(_) => winograd::BAND,
        }
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
        let mut sums = Sums::none(out.channels);
        let height = out.height;
        let mut out = out.rows_mut(0..height);
        self.run_rows(pool, input.rows(), entry, repeat, &mut out, add, &mut sums);
        sums
    }

    /// As [`Conv::run`], some rows alone; their sums are added to `sums`. Where pieces of `out` begin at multiples of
    /// [`Conv::band`] and come from above to below, all pieces together are the same bits as the whole, sums included.
    ///
    /// # Panics
    /// If the grids have other sizes than the convolution makes of them, or a row of `input` is not there that is needed.
    #[allow(clippy::too_many_arguments)] // As `run`, and where the sums go.
    pub fn run_rows(
        &self,
        pool: &Pool,
        input: Rows,
        entry: &Entry,
        repeat: usize,
        out: &mut RowsMut,
        add: bool,
        sums: &mut Sums,
    ) {
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
        let own = out.range();
        let seen = own.start.saturating_sub(self.reach())..(own.end + self.reach()).min(out.height);
        let (there, needed) = (
            input.range(),
            seen.start / repeat..seen.end.div_ceil(repeat),
        );
        assert!(
            own.is_empty() || there.start <= needed.start && needed.end <= there.end,
            "height axis: rows {needed:?} are needed, {there:?} are there"
        );
        let view = View {
            input,
            entry,
            repeat,
            isa: self.isa,
        };
        let rows = self.band(out.height, out.width);
        let bands = own.len().div_ceil(rows);
        let row = out.width * out.channels;
        let (width, channels) = (out.width, out.channels);
        let parts = Parts::new(out.cells_mut());
        let of_bands: Vec<Mutex<Sums>> = (0..bands)
            .map(|_| Mutex::new(Sums::none(channels)))
            .collect();
        pool.run(bands, &|band| {
            let ys = band * rows..((band + 1) * rows).min(own.len());
            // SAFETY: bands do not overlap.
            let out = unsafe { parts.part(ys.start * row..ys.end * row) };
            let mut band_out = Band {
                cells: out,
                first: own.start + ys.start,
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
            of_bands[band]
                .lock()
                .expect("no piece panics while it holds it")
                .take_in(self.isa, out);
        });
        for of_band in &of_bands {
            sums.add(&of_band.lock().expect("all pieces are done"));
        }
    }
}

/// A grid as a convolution sees it.
pub(crate) struct View<'a> {
    input: Rows<'a>,
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
        let Rows {
            height,
            width: across,
            channels,
            ..
        } = self.input;
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
            let row = y as usize / self.repeat;
            let row = self.input.cells(row..row + 1);
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
