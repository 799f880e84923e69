//! The loops of the products: a piece of some rows and some columns, for each set of instructions.
//!
//! The unsafe functions are compiled into their callers, down to one per set. Their safety: the set is there, `rows` and `columns` are
//! within the input and the matrix and within the cut, `columns` begin with a panel, and nothing else uses `sums`. All of
//! it is checked in [`Sums::fill`], the only way in.

mod integers;
mod reals;

use std::cell::RefCell;
use std::ops::Range;

use crate::blocks::{Activations, BLOCK};
use crate::isa::{Isa, Lanes, Set};
use crate::packed::WeightsType;
use crate::product::Matrix;

use integers::{Levels, eight, four};
use reals::{Brain, Gathered, Half, Real, Whole, panel_of_64, plain, table};

/// Bytes ahead of what is computed with that memory is asked for.
const AHEAD: usize = 1024;

/// What a piece of a product has at most. A pass over the matrix serves as many rows as there is room for: memory is what few rows wait for,
/// and many would wait for it as well if each few of them read all of the matrix anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// Rows that share one pass over a piece of the matrix.
    pub(crate) rows: usize,
    /// Columns, and how far rows of sums are apart.
    pub(crate) columns: usize,
}

impl Cut {
    /// For a product of so many rows.
    pub(crate) fn of(rows: usize) -> Self {
        let columns = if rows > 64 { 128 } else { 512 };
        Self {
            rows: ROOM / columns,
            columns,
        }
    }
}

/// Sums of a piece at most.
const ROOM: usize = 64 * 512;

/// Rows as the matrix wants them.
pub(crate) struct Input<'a> {
    x: &'a [f32],
    k: usize,
    pub(crate) rows: usize,
    levels: Option<Activations>,
}

impl<'a> Input<'a> {
    pub(crate) fn new(x: &'a [f32], matrix: Matrix) -> Self {
        let [k, n] = matrix.shape();
        assert!(k > 0 && n > 0, "an empty matrix");
        assert!(x.len().is_multiple_of(k), "width axis: rows are not of {k}");
        if let Matrix::Plain(values, _) | Matrix::Table(values, _) = matrix {
            assert_eq!(values.len(), k * n, "not as many numbers as the shape has");
        }
        let quantized = matches!(matrix.kind(), WeightsType::Q8 | WeightsType::Q4);
        Self {
            x,
            k,
            rows: x.len() / k,
            levels: quantized.then(|| Activations::of(x, k)),
        }
    }

    pub(crate) fn chunks(&self, cut: Cut) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows = self.rows;
        (0..rows)
            .step_by(cut.rows)
            .map(move |start| start..(start + cut.rows).min(rows))
    }
}

/// Sums of a piece, a row after the other. A thread uses the same room again and again.
pub(crate) struct Sums {
    numbers: Box<[f32]>,
    cut: Cut,
}

thread_local! {
    static KEPT: RefCell<Vec<Box<[f32]>>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Sums {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.numbers);
        KEPT.with_borrow_mut(|kept| kept.push(numbers));
    }
}

impl Sums {
    pub(crate) fn new(cut: Cut) -> Self {
        let kept = KEPT.with_borrow_mut(Vec::pop);
        Self {
            numbers: kept.unwrap_or_else(|| vec![0.0; ROOM].into_boxed_slice()),
            cut,
        }
    }

    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        let columns = self.cut.columns;
        &mut self.numbers[row * columns..(row + 1) * columns]
    }

    /// The product of some rows with some columns, from the start of a panel; both within the cut.
    pub(crate) fn fill(
        &mut self,
        isa: Isa,
        input: &Input,
        rows: Range<usize>,
        matrix: Matrix,
        columns: Range<usize>,
    ) {
        let cut = self.cut;
        assert!(rows.len() <= cut.rows && columns.len() <= cut.columns && rows.end <= input.rows);
        assert!(columns.start.is_multiple_of(matrix.panel()));
        assert!(columns.end <= matrix.shape()[1]);
        let work = Work {
            input,
            rows,
            matrix,
            columns,
            sums: self.numbers.as_mut_ptr(),
            stride: cut.columns,
        };
        // SAFETY: the machine has the set of an `Isa`; the ranges were checked above.
        unsafe {
            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                Set::Avx512 => on_avx512(work),
                #[cfg(target_arch = "x86_64")]
                Set::Avx2 => on_avx2(work),
                #[cfg(target_arch = "aarch64")]
                Set::Neon => work.run::<crate::isa::Neon>(),
                _ => work.run::<crate::isa::Scalar>(),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
unsafe fn on_avx512(work: Work) {
    // SAFETY: as the caller promises.
    unsafe { work.run::<crate::isa::Avx512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn on_avx2(work: Work) {
    // SAFETY: as the caller promises.
    unsafe { work.run::<crate::isa::Avx2>() }
}

/// Runs the body for each four or six rows of so many and then for those that are left, with their number as a constant.
macro_rules! each_few {
    ($rows:expr, $most:tt [$($fewer:literal)*], |$row:ident, $M:ident| $body:expr) => {{
        let mut $row = 0;
        while $row < $rows {
            match $rows - $row {
                $($fewer => {
                    const $M: usize = $fewer;
                    $body
                })*
                _ => {
                    const $M: usize = $most;
                    $body
                }
            }
            $row += $most;
        }
    }};
}

/// Rows of a matrix that are brought together at once: with 64 columns they stay in the first cache.
const DEPTH: usize = 128;

thread_local! {
    static PANEL: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A piece of a product.
struct Work<'a> {
    input: &'a Input<'a>,
    rows: Range<usize>,
    matrix: Matrix<'a>,
    columns: Range<usize>,
    /// `[rows, columns]` of the cut.
    sums: *mut f32,
    /// How far its rows are apart.
    stride: usize,
}

impl Work<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: as the caller promises; the rows from `row` on are `M` at least.
        unsafe {
            let gathers = match self.matrix {
                Matrix::Plain(..) => true,
                Matrix::Table(..) => false,
                Matrix::Packed(packed) => {
                    !matches!(packed.kind(), WeightsType::Q8 | WeightsType::Q4)
                }
            };
            if gathers && self.rows.len() > 4 {
                return self.gathered::<L>();
            }
            each_few!(self.rows.len(), 4 [1 2 3], |row, M| self.some_rows::<L, M>(row));
        }
    }

    /// Many rows: parts of the matrix are brought together in panels first.
    #[inline(always)]
    unsafe fn gathered<L: Lanes>(&self) {
        let k = self.input.k;
        // Taken and put back rather than borrowed: in a closure the set's instructions would be calls.
        let mut panel = PANEL.take();
        panel.resize(64 * DEPTH, 0.0);
        for start in self.columns.clone().step_by(64) {
            let columns = start..(start + 64).min(self.columns.end);
            for depth in (0..k).step_by(DEPTH) {
                let rows = depth..(depth + DEPTH).min(k);
                // SAFETY: the set is there. `weights` has these rows of 64 columns, in the panel of the matrix or in `panel`, whose
                // room is for `DEPTH`; `x` has them of all rows of the piece, and `sums` room for 64 columns from `start` on, as
                // the cut is of whole panels.
                unsafe {
                    let weights = match self.matrix {
                        Matrix::Packed(packed) if packed.kind() == WeightsType::F32 => {
                            packed.panel(start / 64).as_ptr().add(4 * 64 * depth)
                        }
                        _ => {
                            self.gather::<L>(rows.clone(), columns.clone(), &mut panel);
                            panel.as_ptr().cast()
                        }
                    };
                    let sums = self.sums.add(start - self.columns.start);
                    let x = self.input.x.as_ptr().add(self.rows.start * k + depth);
                    each_few!(self.rows.len(), 6 [1 2 3 4 5], |row, M| {
                        panel_of_64::<L, M, Gathered>(
                            weights,
                            rows.len(),
                            x.add(row * k),
                            k,
                            sums.add(row * self.stride),
                            self.stride,
                            depth > 0,
                        )
                    });
                }
            }
        }
        PANEL.set(panel);
    }

    /// Rows and columns (64 at most) of the matrix in 32 bits, which lose nothing, `[rows, 64]`.
    #[inline(always)]
    unsafe fn gather<L: Lanes>(&self, rows: Range<usize>, columns: Range<usize>, to: &mut [f32]) {
        let packed = match self.matrix {
            Matrix::Plain(values, [_, n]) | Matrix::Table(values, [_, n]) => {
                for (to, row) in to.chunks_exact_mut(64).zip(rows) {
                    let from = &values[row * n + columns.start..row * n + columns.end];
                    to[..from.len()].copy_from_slice(from);
                }
                return;
            }
            Matrix::Packed(packed) => packed,
        };
        let bytes = &packed.panel(columns.start / 64)[2 * 64 * rows.start..2 * 64 * rows.end];
        for (from, to) in bytes.chunks_exact(32).zip(to.chunks_exact_mut(16)) {
            // SAFETY: the set is there, and so are sixteen numbers of two bytes and the room for them.
            unsafe {
                let numbers = match packed.kind() {
                    WeightsType::F16 => Half::load::<L>(from.as_ptr()),
                    _ => Brain::load::<L>(from.as_ptr()),
                };
                L::store(to.as_mut_ptr(), numbers);
            }
        }
    }

    /// `M` rows from the piece's row `row` on.
    #[inline(always)]
    unsafe fn some_rows<L: Lanes, const M: usize>(&self, row: usize) {
        // SAFETY: the set is there, the piece has `M` rows from `row` on, in `x` or in levels. The columns are within the matrix and the cut:
        // where a panel goes beyond the matrix it is filled up, and the cut has room for it, as it is of whole panels.
        unsafe {
            let first = self.rows.start + row;
            let sums = self.sums.add(row * self.stride);
            let stride = self.stride;
            let x = self.input.x.as_ptr().add(first * self.input.k);
            let packed = match self.matrix {
                Matrix::Plain(values, [k, n]) => {
                    let count = self.columns.len();
                    let from = values.as_ptr().add(self.columns.start);
                    return plain::<L, M>(from, [k, n], x, sums, stride, count);
                }
                Matrix::Table(values, [k, _]) => {
                    let from = values.as_ptr().add(self.columns.start * k);
                    return table::<L, M>(from, k, x, sums, stride, self.columns.len());
                }
                Matrix::Packed(packed) => packed,
            };
            let (width, k) = (packed.kind().panel(), self.input.k);
            for panel in self.columns.start / width..self.columns.end.div_ceil(width) {
                let weights = packed.panel(panel).as_ptr();
                let sums = sums.add(panel * width - self.columns.start);
                match packed.kind() {
                    WeightsType::F32 => {
                        panel_of_64::<L, M, Whole>(weights, k, x, k, sums, stride, false)
                    }
                    WeightsType::F16 => {
                        panel_of_64::<L, M, Half>(weights, k, x, k, sums, stride, false)
                    }
                    WeightsType::Bf16 => {
                        panel_of_64::<L, M, Brain>(weights, k, x, k, sums, stride, false)
                    }
                    kind => {
                        let all = self.input.levels.as_ref().expect("made for these types");
                        let at = first * all.blocks;
                        let rows = Levels {
                            levels: all.levels.as_ptr().add(at * BLOCK),
                            scales: all.scales.as_ptr().add(at),
                            sums: all.sums.as_ptr().add(at),
                            blocks: all.blocks,
                        };
                        match kind {
                            WeightsType::Q8 => eight::<L, M>(weights, rows, sums, stride),
                            _ => four::<L, M>(weights, rows, sums, stride),
                        }
                    }
                }
            }
        }
    }
}
