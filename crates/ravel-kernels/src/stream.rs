//! The loops of the products: a piece of some rows and some columns, for each set of instructions.
//!
//! The unsafe functions are compiled into their callers, down to one per set. Their safety: the set is there, `rows` and `columns` are
//! within the input and the matrix and within the cut, `columns` begin with a panel, and nothing else uses `sums`. All of
//! it is checked in [`Sums::fill`], the only way in.

use std::cell::RefCell;
use std::ops::Range;

use crate::blocks::{Activations, BLOCK};
use crate::isa::{Isa, Lanes};
use crate::packed::WeightsType;
use crate::product::Matrix;

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
        assert!(columns.start.is_multiple_of(matrix.kind().panel()));
        assert!(columns.end <= matrix.shape()[1]);
        let work = Work {
            input,
            rows,
            matrix,
            columns,
            sums: self.numbers.as_mut_ptr(),
            stride: cut.columns,
        };
        // SAFETY: `Isa::best` and `Isa::all` name what the machine has; the ranges were checked above.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => on_avx512(work),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => on_avx2(work),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => work.run::<crate::isa::Neon>(),
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
        unsafe {
            let gathers = match self.matrix {
                Matrix::Plain(..) => true,
                Matrix::Table(..) => false,
                Matrix::Packed(packed) => {
                    matches!(packed.kind(), WeightsType::F16 | WeightsType::Bf16)
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
                unsafe {
                    self.gather::<L>(rows.clone(), columns.clone(), &mut panel);
                    let sums = self.sums.add(start - self.columns.start);
                    let x = self.input.x.as_ptr().add(self.rows.start * k + depth);
                    let weights = panel.as_ptr().cast();
                    each_few!(self.rows.len(), 6 [1 2 3 4 5], |row, M| {
                        panel_of_64::<L, M, Single>(
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

/// Bytes ahead of what is computed with that memory is asked for.
const AHEAD: usize = 1024;

/// `M` rows of `x` with `count` columns of a matrix whose rows are `n` apart, eight of its rows at a time.
#[inline(always)]
unsafe fn plain<L: Lanes, const M: usize>(
    weights: *const f32,
    [k, n]: [usize; 2],
    x: *const f32,
    sums: *mut f32,
    stride: usize,
    count: usize,
) {
    unsafe {
        for m in 0..M {
            for column in 0..count {
                *sums.add(m * stride + column) = 0.0;
            }
        }
        let (whole, mut row) = (count / 16 * 16, 0);
        while row < k {
            let step = (k - row).min(8);
            let from = weights.add(row * n);
            let x = x.add(row);
            match step {
                8 => plain_step::<L, M, 8>(from, n, x, k, sums, stride, whole),
                _ => {
                    for at in 0..step {
                        plain_step::<L, M, 1>(
                            from.add(at * n),
                            n,
                            x.add(at),
                            k,
                            sums,
                            stride,
                            whole,
                        );
                    }
                }
            }
            for column in whole..count {
                for m in 0..M {
                    let sum = sums.add(m * stride + column);
                    for at in 0..step {
                        *sum = (*x.add(m * k + at)).mul_add(*from.add(at * n + column), *sum);
                    }
                }
            }
            row += step;
        }
    }
}

/// `R` rows of the matrix.
#[inline(always)]
unsafe fn plain_step<L: Lanes, const M: usize, const R: usize>(
    weights: *const f32,
    n: usize,
    x: *const f32,
    k: usize,
    sums: *mut f32,
    stride: usize,
    count: usize,
) {
    unsafe {
        let mut column = 0;
        while column < count {
            let mut w = [L::splat(0.0); R];
            for (at, w) in w.iter_mut().enumerate() {
                *w = L::load(weights.add(at * n + column));
            }
            for m in 0..M {
                let sum = sums.add(m * stride + column);
                let mut acc = L::load(sum);
                for (at, w) in w.iter().enumerate() {
                    acc = L::fma(*w, L::splat(*x.add(m * k + at)), acc);
                }
                L::store(sum, acc);
            }
            column += 16;
        }
    }
}

/// `M` rows of `x` with `count` rows of a table: sixteen sums over every sixteenth number, which are then added up.
#[inline(always)]
unsafe fn table<L: Lanes, const M: usize>(
    weights: *const f32,
    k: usize,
    x: *const f32,
    sums: *mut f32,
    stride: usize,
    count: usize,
) {
    unsafe {
        let whole = k / 16 * 16;
        for column in 0..count {
            let from = weights.add(column * k);
            let mut acc = [L::splat(0.0); M];
            let mut at = 0;
            while at < whole {
                L::prefetch(from.add(at).cast::<u8>().wrapping_add(AHEAD));
                let w = L::load(from.add(at));
                for (m, acc) in acc.iter_mut().enumerate() {
                    *acc = L::fma(w, L::load(x.add(m * k + at)), *acc);
                }
                at += 16;
            }
            for (m, acc) in acc.iter().enumerate() {
                let mut sum = L::sum(*acc);
                for at in whole..k {
                    sum = (*x.add(m * k + at)).mul_add(*from.add(at), sum);
                }
                *sums.add(m * stride + column) = sum;
            }
        }
    }
}

/// A type of real weights, and how sixteen of them become lanes.
trait Real {
    const BYTES: usize;
    /// Whether they come from memory rather than from the first cache.
    const STREAMED: bool = true;
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F;
}

struct Half;
struct Brain;
struct Single;

impl Real for Half {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F {
        unsafe { L::load_f16(from.cast()) }
    }
}

impl Real for Brain {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F {
        unsafe { L::load_bf16(from.cast()) }
    }
}

impl Real for Single {
    const BYTES: usize = 4;
    const STREAMED: bool = false;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F {
        unsafe { L::load(from.cast()) }
    }
}

/// `M` rows of `x`, `apart` from each other, with `k` rows of a panel of 64 columns; with `more`, on top of the sums that are there.
#[inline(always)]
unsafe fn panel_of_64<L: Lanes, const M: usize, T: Real>(
    weights: *const u8,
    k: usize,
    x: *const f32,
    apart: usize,
    sums: *mut f32,
    stride: usize,
    more: bool,
) {
    unsafe {
        // As many columns at a time as there are registers for their sums.
        if 4 * M <= L::ROOM {
            return panel_columns::<L, M, 4, T>(weights, k, x, apart, sums, stride, more);
        }
        for at in 0..4 {
            let weights = weights.add(16 * T::BYTES * at);
            panel_columns::<L, M, 1, T>(weights, k, x, apart, sums.add(16 * at), stride, more);
        }
    }
}

#[inline(always)]
unsafe fn panel_columns<L: Lanes, const M: usize, const V: usize, T: Real>(
    weights: *const u8,
    k: usize,
    x: *const f32,
    apart: usize,
    sums: *mut f32,
    stride: usize,
    more: bool,
) {
    unsafe {
        let mut acc = [[L::splat(0.0); V]; M];
        if more {
            for (m, acc) in acc.iter_mut().enumerate() {
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = L::load(sums.add(m * stride + 16 * v));
                }
            }
        }
        for row in 0..k {
            let from = weights.add(64 * T::BYTES * row);
            if T::STREAMED {
                L::prefetch(from.wrapping_add(AHEAD));
                L::prefetch(from.wrapping_add(AHEAD + 64));
            }
            let mut w = [L::splat(0.0); V];
            for (v, w) in w.iter_mut().enumerate() {
                *w = T::load::<L>(from.add(16 * T::BYTES * v));
            }
            for (m, acc) in acc.iter_mut().enumerate() {
                let x = L::splat(*x.add(m * apart + row));
                for v in 0..V {
                    acc[v] = L::fma(w[v], x, acc[v]);
                }
            }
        }
        for (m, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                L::store(sums.add(m * stride + 16 * v), *acc);
            }
        }
    }
}

/// Rows of activations in levels.
#[derive(Clone, Copy)]
struct Levels {
    levels: *const i8,
    scales: *const f32,
    sums: *const i32,
    blocks: usize,
}

impl Levels {
    /// Four levels of a row from `at` on.
    #[inline(always)]
    unsafe fn four(&self, row: usize, at: usize) -> i32 {
        let from = unsafe { self.levels.add(row * self.blocks * BLOCK + at) };
        unsafe { from.cast::<i32>().read_unaligned() }
    }
}

/// `M` rows with a panel of 32 columns in eight bits.
#[inline(always)]
unsafe fn eight<L: Lanes, const M: usize>(
    weights: *const u8,
    rows: Levels,
    sums: *mut f32,
    stride: usize,
) {
    const BYTES: usize = BLOCK * BLOCK + 2 * BLOCK;
    unsafe {
        let mut acc = [[L::splat(0.0); 2]; M];
        for block in 0..rows.blocks {
            let from = weights.add(block * BYTES);
            let mut dots = [[L::splat_i(0); 2]; M];
            for (m, dots) in dots.iter_mut().enumerate() {
                *dots = [L::start_offset(*rows.sums.add(m * rows.blocks + block)); 2];
            }
            for group in 0..8 {
                let from = from.add(128 * group);
                L::prefetch(from.wrapping_add(AHEAD));
                L::prefetch(from.wrapping_add(AHEAD + 64));
                let w = [L::load_bytes(from), L::load_bytes(from.add(64))];
                for (m, dots) in dots.iter_mut().enumerate() {
                    let x = rows.four(m, block * BLOCK + 4 * group);
                    dots[0] = L::dot_offset(dots[0], w[0], x);
                    dots[1] = L::dot_offset(dots[1], w[1], x);
                }
            }
            scaled::<L, M>(from.add(BLOCK * BLOCK), rows, block, &dots, &mut acc);
        }
        store_two::<L, M>(&acc, sums, stride);
    }
}

/// `M` rows with a panel of 32 columns in four bits.
#[inline(always)]
unsafe fn four<L: Lanes, const M: usize>(
    weights: *const u8,
    rows: Levels,
    sums: *mut f32,
    stride: usize,
) {
    const BYTES: usize = BLOCK * BLOCK / 2 + 2 * BLOCK;
    unsafe {
        let mut acc = [[L::splat(0.0); 2]; M];
        for block in 0..rows.blocks {
            let from = weights.add(block * BYTES);
            let mut dots = [[L::splat_i(0); 2]; M];
            for (m, dots) in dots.iter_mut().enumerate() {
                *dots = [L::splat_i(-8 * *rows.sums.add(m * rows.blocks + block)); 2];
            }
            for pair in 0..4 {
                let from = from.add(128 * pair);
                L::prefetch(from.wrapping_add(AHEAD));
                L::prefetch(from.wrapping_add(AHEAD + 64));
                let both = [L::load_bytes(from), L::load_bytes(from.add(64))];
                let low = [L::low(both[0]), L::low(both[1])];
                let high = [L::high(both[0]), L::high(both[1])];
                for (m, dots) in dots.iter_mut().enumerate() {
                    let x = rows.four(m, block * BLOCK + 8 * pair);
                    dots[0] = L::dot(dots[0], low[0], x);
                    dots[1] = L::dot(dots[1], low[1], x);
                    let x = rows.four(m, block * BLOCK + 8 * pair + 4);
                    dots[0] = L::dot(dots[0], high[0], x);
                    dots[1] = L::dot(dots[1], high[1], x);
                }
            }
            scaled::<L, M>(from.add(BLOCK * BLOCK / 2), rows, block, &dots, &mut acc);
        }
        store_two::<L, M>(&acc, sums, stride);
    }
}

/// Adds the integer sums of a block, times both scales.
#[inline(always)]
unsafe fn scaled<L: Lanes, const M: usize>(
    scales: *const u8,
    rows: Levels,
    block: usize,
    dots: &[[L::I; 2]; M],
    acc: &mut [[L::F; 2]; M],
) {
    unsafe {
        let scales = scales.cast::<u16>();
        let w = [L::load_bf16(scales), L::load_bf16(scales.add(16))];
        for m in 0..M {
            let x = L::splat(*rows.scales.add(m * rows.blocks + block));
            for v in 0..2 {
                acc[m][v] = L::fma(L::to_f(dots[m][v]), L::mul(w[v], x), acc[m][v]);
            }
        }
    }
}

#[inline(always)]
unsafe fn store_two<L: Lanes, const M: usize>(acc: &[[L::F; 2]; M], sums: *mut f32, stride: usize) {
    for (m, acc) in acc.iter().enumerate() {
        for (v, acc) in acc.iter().enumerate() {
            unsafe { L::store(sums.add(m * stride + 16 * v), *acc) }
        }
    }
}
