//! Weights in the order in which a product reads them.
//!
//! A matrix `[k, n]` is cut into panels of columns, so that a thread streams one run of memory and keeps its sums in registers.
//! Real numbers: panels of 64 columns, row by row. Quantized: panels of 32 columns, in each blocks of 32 rows; a block is eight
//! groups of four rows (the four bytes of a column side by side, as integer dot products want them) and then 32 scales. With
//! four bits, a byte holds a level of one group in its low half and one of the next in its high half. Levels are stored with
//! 128, or 8, added.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use half::{bf16, f16};

use crate::blocks::{BLOCK, to_4_bits, to_8_bits};
use crate::lines::{LINE, Line, Lines};
use crate::pool::{Parts, Pool};

/// Of what type the weights of linear layers are while a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightsType {
    /// 32 bits.
    F32,
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Eight bits, and a scale per 32 rows of a column.
    Q8,
    /// Four bits, and a scale per 32 rows of a column.
    Q4,
}

impl WeightsType {
    /// All of them, widest first.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Q8, Self::Q4];

    /// Its name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// Bytes that a product reads for a matrix of this shape, without what fills up the last panel.
    pub fn bytes(self, k: usize, n: usize) -> usize {
        let scales = 2 * n * k.div_ceil(BLOCK);
        match self {
            Self::F32 => 4 * k * n,
            Self::F16 | Self::Bf16 => 2 * k * n,
            Self::Q8 => k * n + scales,
            Self::Q4 => k * n / 2 + scales,
        }
    }

    /// Bytes of the levels of 32 rows of a panel.
    fn levels_bytes(self) -> usize {
        match self {
            Self::Q8 => BLOCK * BLOCK,
            _ => BLOCK * BLOCK / 2,
        }
    }

    /// Bytes of 32 rows of a panel with their scales.
    fn block_bytes(self) -> usize {
        self.levels_bytes() + 2 * BLOCK
    }

    /// Bytes of a panel of `k` rows.
    fn panel_bytes(self, k: usize) -> usize {
        match self {
            Self::Q8 | Self::Q4 => k.div_ceil(BLOCK) * self.block_bytes(),
            Self::F16 | Self::Bf16 => 2 * self.panel() * k,
            Self::F32 => 4 * self.panel() * k,
        }
    }

    /// Columns of a panel.
    pub(crate) fn panel(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 64,
            Self::Q8 | Self::Q4 => 32,
        }
    }
}

impl fmt::Display for WeightsType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A matrix `[k, n]` in panels.
#[derive(Clone)]
pub struct Packed {
    kind: WeightsType,
    k: usize,
    n: usize,
    lines: Arc<Lines>,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} [{}, {}])", self.kind, self.k, self.n)
    }
}

impl Packed {
    /// The matrix with its rows one after the other, rounded to the type. What is beyond its range ([`Packed::holds`]) becomes infinite, or with
    /// scales any number.
    ///
    /// # Panics
    /// If the numbers are not `k * n`.
    pub fn new(pool: &Pool, values: &[f32], shape: [usize; 2], kind: WeightsType) -> Self {
        Self::of(pool, values, shape, Order::Rows, kind)
    }

    /// The transpose of a table, rounded to the type.
    ///
    /// # Shapes
    /// - `values`: `[rows, width]`, row after row; the matrix is `[width, rows]`
    ///
    /// # Panics
    /// If the numbers are not `rows * width`.
    pub fn of_table(
        pool: &Pool,
        values: &[f32],
        [rows, width]: [usize; 2],
        kind: WeightsType,
    ) -> Self {
        Self::of(pool, values, [width, rows], Order::Columns, kind)
    }

    fn of(
        pool: &Pool,
        values: &[f32],
        [k, n]: [usize; 2],
        order: Order,
        kind: WeightsType,
    ) -> Self {
        assert_eq!(values.len(), k * n, "not as many numbers as the shape has");
        let (panels, lines) = (n.div_ceil(kind.panel()), kind.panel_bytes(k) / LINE);
        let pack = |panel: usize, lines: &mut [Line]| {
            let width = kind.panel();
            let columns = panel * width..((panel + 1) * width).min(n);
            let from = Source {
                values,
                shape: [k, n],
                order,
                columns,
            };
            match kind {
                WeightsType::F32 => pack_reals(lines, &from, f32::to_le_bytes),
                WeightsType::F16 => pack_reals(lines, &from, |x| f16::from_f32(x).to_le_bytes()),
                WeightsType::Bf16 => pack_reals(lines, &from, |x| bf16::from_f32(x).to_le_bytes()),
                _ => pack_blocks(lines, &from, kind),
            }
        };
        let lines = Lines::made(panels * lines, |all| {
            let parts = Parts::new(all);
            pool.run(panels, &|panel| {
                // SAFETY: each piece has the lines of its own panel.
                pack(panel, unsafe {
                    parts.part(panel * lines..(panel + 1) * lines)
                });
            });
        });
        let lines = Arc::new(lines);
        Self { kind, k, n, lines }
    }

    /// Whether all numbers are within the type's range, so that it rounds them and nothing worse: below 65,520 for half precision. No
    /// narrow type holds NaN or what is infinite, as only some of them have it.
    pub fn holds(pool: &Pool, values: &[f32], kind: WeightsType) -> bool {
        // The least size that does not fit.
        let limit = match kind {
            WeightsType::F32 => return true,
            // Halfway from the largest number to what would be the next, where rounding goes up.
            WeightsType::F16 => 65_520.0,
            WeightsType::Bf16 | WeightsType::Q8 => f32::from_bits(0x7f7f_8000),
            // Beyond it the squares of errors, of which the scale is chosen by the least sum, may be infinite.
            WeightsType::Q4 => 1e19f32,
        };
        let fits = AtomicBool::new(true);
        pool.run_ranges(values.len(), 1 << 16, &|range| {
            // Bits of sizes are in the order of the sizes, and NaN is above them.
            let sizes = values[range].iter().map(|x| x.abs().to_bits());
            if sizes.fold(0, u32::max) >= limit.to_bits() {
                fits.store(false, Relaxed);
            }
        });
        fits.into_inner()
    }

    /// The narrowest type that holds all of the numbers as they are, if one narrower than f32 does; eight and four bits where the numbers come from a
    /// file of them.
    pub fn lossless(pool: &Pool, values: &[f32], [k, n]: [usize; 2]) -> Option<WeightsType> {
        narrowest(values, k, |values, rows, kind| {
            Self::new(pool, values, [rows, n], kind).unpacked(pool) == values
        })
    }

    /// As [`Packed::lossless`], of a table `[rows, width]`.
    pub fn lossless_table(
        pool: &Pool,
        values: &[f32],
        [rows, width]: [usize; 2],
    ) -> Option<WeightsType> {
        narrowest(values, rows, |values, rows, kind| {
            let packed = Self::of_table(pool, values, [rows, width], kind);
            packed.columns(pool, &(0..rows).collect::<Vec<_>>()) == values
        })
    }

    /// The numbers that the products see, row after row.
    pub fn unpacked(&self, pool: &Pool) -> Vec<f32> {
        let mut values = vec![0.0; self.k * self.n];
        let n = self.n;
        let parts = Parts::new(&mut values);
        pool.run(self.k.div_ceil(BLOCK), &|block| {
            let rows = block * BLOCK..((block + 1) * BLOCK).min(self.k);
            // SAFETY: each piece has rows of its own.
            let values = unsafe { parts.part(rows.start * n..rows.end * n) };
            for panel in 0..self.panels() {
                self.unpack(panel, rows.clone(), values);
            }
        });
        values
    }

    /// Some columns, one after the other: rows of the table that [`Packed::of_table`] took.
    ///
    /// # Shapes
    /// - returns: `[columns.len(), k]`
    ///
    /// # Panics
    /// If there is no such column.
    pub fn columns(&self, pool: &Pool, columns: &[usize]) -> Vec<f32> {
        let missing = columns.iter().find(|column| **column >= self.n);
        assert_eq!(missing, None, "column axis: there are {}", self.n);
        let (k, width) = (self.k, self.kind.panel());
        let mut values = vec![0.0; columns.len() * k];
        let parts = Parts::new(&mut values);
        pool.run_ranges(columns.len(), 16, &|some| {
            // SAFETY: each piece has columns of its own.
            let values = unsafe { parts.part(some.start * k..some.end * k) };
            for (column, values) in columns[some].iter().zip(values.chunks_exact_mut(k)) {
                let bytes = self.panel(column / width);
                for (row, value) in values.iter_mut().enumerate() {
                    *value = self.number(bytes, row, column % width);
                }
            }
        });
        values
    }

    /// Rows that one of `k`'s blocks at most spans, of one panel, into `[rows, n]`.
    fn unpack(&self, panel: usize, rows: Range<usize>, values: &mut [f32]) {
        let (width, n) = (self.kind.panel(), self.n);
        let columns = panel * width..((panel + 1) * width).min(n);
        let bytes = self.panel(panel);
        for (row, values) in rows.zip(values.chunks_exact_mut(n)) {
            for (column, value) in values[columns.clone()].iter_mut().enumerate() {
                *value = self.number(bytes, row, column);
            }
        }
    }

    /// What a panel's bytes hold at a row and one of its columns.
    #[inline(always)]
    fn number(&self, bytes: &[u8], row: usize, column: usize) -> f32 {
        let two = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let four = |at: usize| u32::from(two(at)) | u32::from(two(at + 2)) << 16;
        let at = row * self.kind.panel() + column;
        match self.kind {
            WeightsType::F32 => f32::from_bits(four(4 * at)),
            WeightsType::F16 => f16::from_bits(two(2 * at)).to_f32(),
            WeightsType::Bf16 => bf16::from_bits(two(2 * at)).to_f32(),
            WeightsType::Q8 | WeightsType::Q4 => {
                let block = row / BLOCK * self.kind.block_bytes();
                let scale = bf16::from_bits(two(block + self.kind.levels_bytes() + 2 * column));
                let level = f32::from(self.level(&bytes[block..], row % BLOCK, column));
                let zero = if self.kind == WeightsType::Q8 {
                    128.0
                } else {
                    8.0
                };
                (level - zero) * scale.to_f32()
            }
        }
    }

    /// The level at a row and a column of a block, as it is stored.
    #[inline(always)]
    fn level(&self, block: &[u8], row: usize, column: usize) -> u8 {
        match self.kind {
            WeightsType::Q8 => block[place_8(row, column)],
            _ => {
                let (byte, high) = place_4(row, column);
                block[byte] >> (4 * u8::from(high)) & 15
            }
        }
    }

    /// Quantized weights column after column, as a GPU reads them: the levels of a column from the first row to the last, as many to a word as fit, the
    /// first in the lowest bits, and its scales, two to a word. Whole blocks: what fills up is levels of zero.
    #[cfg(feature = "gpu")]
    pub(crate) fn words(&self, pool: &Pool) -> (Vec<u32>, Vec<u32>) {
        let bits = match self.kind {
            WeightsType::Q8 => 8,
            _ => 4,
        };
        let (blocks, width, per_word) = (self.k.div_ceil(BLOCK), self.kind.panel(), 32 / bits);
        let (block_words, scale_words) = (BLOCK / per_word, blocks.div_ceil(2));
        let mut levels = vec![0; self.n * blocks * block_words];
        let mut scales = vec![0; self.n * scale_words];
        let (levels_to, scales_to) = (Parts::new(&mut levels), Parts::new(&mut scales));
        pool.run(self.n, &|column| {
            let (panel, at) = (self.panel(column / width), column % width);
            let words = blocks * block_words;
            // SAFETY: each piece has the words of its own column.
            let levels = unsafe { levels_to.part(column * words..(column + 1) * words) };
            // SAFETY: as above.
            let scales =
                unsafe { scales_to.part(column * scale_words..(column + 1) * scale_words) };
            let each = panel.chunks_exact(self.kind.block_bytes()).enumerate();
            for ((number, block), words) in each.zip(levels.chunks_exact_mut(block_words)) {
                let (block, own) = block.split_at(self.kind.levels_bytes());
                let scale = u16::from_le_bytes([own[2 * at], own[2 * at + 1]]);
                scales[number / 2] |= u32::from(scale) << (16 * (number % 2));
                for (word, first) in words.iter_mut().zip((0..BLOCK).step_by(per_word)) {
                    for place in 0..per_word {
                        let level = self.level(block, first + place, at);
                        *word |= u32::from(level) << (bits * place);
                    }
                }
            }
        });
        (levels, scales)
    }

    /// The type.
    pub fn kind(&self) -> WeightsType {
        self.kind
    }

    /// `[k, n]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.k, self.n]
    }

    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(self.kind.panel())
    }

    /// The bytes of a panel; they begin at a cache line.
    pub(crate) fn panel(&self, panel: usize) -> &[u8] {
        let lines = self.kind.panel_bytes(self.k) / LINE;
        let lines = &self.lines[panel * lines..(panel + 1) * lines];
        lines.as_flattened_bytes()
    }
}

/// Lines as the bytes that they are.
trait Bytes {
    fn as_flattened_bytes(&self) -> &[u8];
}

impl Bytes for [Line] {
    fn as_flattened_bytes(&self) -> &[u8] {
        // SAFETY: a line is 64 bytes without padding, and bytes are aligned anywhere.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), size_of_val(self)) }
    }
}

fn bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: a line is 64 bytes without padding of which every value is good, and bytes are aligned anywhere.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
}

/// The narrowest type that is the `same` as the numbers, of which there are `count` equal parts.
fn narrowest(
    values: &[f32],
    count: usize,
    same: impl Fn(&[f32], usize, WeightsType) -> bool,
) -> Option<WeightsType> {
    // A few parts tell at once what is no file of few bits.
    let few = count.min(BLOCK);
    let beginning = &values[..values.len() / count.max(1) * few];
    let is = |kind: &WeightsType| same(beginning, few, *kind) && same(values, count, *kind);
    if let Some(kind) = [WeightsType::Q4, WeightsType::Q8].into_iter().find(is) {
        return Some(kind);
    }
    if values.iter().all(|x| x.to_bits() & 0xffff == 0) {
        return Some(WeightsType::Bf16);
    }
    let half = |x: &f32| f16::from_f32(*x).to_f32().to_bits() == x.to_bits();
    values.iter().all(half).then_some(WeightsType::F16)
}

/// How the numbers of a matrix follow one another.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Rows,
    Columns,
}

/// Some columns of a matrix `[k, n]`, a panel's.
struct Source<'a> {
    values: &'a [f32],
    shape: [usize; 2],
    order: Order,
    columns: Range<usize>,
}

impl Source<'_> {
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> f32 {
        let [k, n] = self.shape;
        match self.order {
            Order::Rows => self.values[row * n + column],
            Order::Columns => self.values[column * k + row],
        }
    }
}

/// Each number as `B` bytes.
fn pack_reals<const B: usize>(lines: &mut [Line], from: &Source, bytes: impl Fn(f32) -> [u8; B]) {
    /// Rows whose part of a column is a cache line.
    const RUN: usize = 16;
    let width = B * WeightsType::F32.panel();
    let [k, n] = from.shape;
    let to = bytes_mut(lines);
    if from.order == Order::Rows {
        let rows = to.chunks_exact_mut(width);
        for (to, row) in rows.zip(from.values.chunks_exact(n)) {
            for (to, x) in to.chunks_exact_mut(B).zip(&row[from.columns.clone()]) {
                to.copy_from_slice(&bytes(*x));
            }
        }
        return;
    }
    for (run, to) in to.chunks_mut(RUN * width).enumerate() {
        for (at, column) in from.columns.clone().enumerate() {
            let rows = run * RUN..((run + 1) * RUN).min(k);
            let column = &from.values[column * k..][rows];
            for (to, x) in to.chunks_exact_mut(width).zip(column) {
                to[B * at..B * (at + 1)].copy_from_slice(&bytes(*x));
            }
        }
    }
}

/// Where the level of a block's row and column is, with eight bits.
fn place_8(row: usize, column: usize) -> usize {
    row / 4 * 4 * BLOCK + 4 * column + row % 4
}

/// Where it is with four bits, and whether in the high half: groups of four rows lie in pairs.
fn place_4(row: usize, column: usize) -> (usize, bool) {
    (
        row / 8 * 4 * BLOCK + 4 * column + row % 4,
        !(row / 4).is_multiple_of(2),
    )
}

fn pack_blocks(lines: &mut [Line], from: &Source, kind: WeightsType) {
    let k = from.shape[0];
    let is_8 = kind == WeightsType::Q8;
    let levels_bytes = kind.levels_bytes();
    for (block, to) in bytes_mut(lines)
        .chunks_exact_mut(kind.block_bytes())
        .enumerate()
    {
        let (levels_to, scales_to) = to.split_at_mut(levels_bytes);
        // Rows and columns that fill up are levels of zero.
        levels_to.fill(if is_8 { 0x80 } else { 0x88 });
        let rows = block * BLOCK..((block + 1) * BLOCK).min(k);
        for (at, column) in from.columns.clone().enumerate() {
            let mut numbers = [0.0; BLOCK];
            for (number, row) in numbers.iter_mut().zip(rows.clone()) {
                *number = from.at(row, column);
            }
            let (levels, scale) = if is_8 {
                to_8_bits(&numbers)
            } else {
                to_4_bits(&numbers)
            };
            scales_to[2 * at..2 * at + 2].copy_from_slice(&scale.to_bits().to_le_bytes());
            for (row, level) in levels.into_iter().enumerate() {
                if is_8 {
                    levels_to[place_8(row, at)] = (level as u8) ^ 0x80;
                } else {
                    let (to, high) = place_4(row, at);
                    let (shift, keep) = if high { (4, 0x0f) } else { (0, 0xf0) };
                    levels_to[to] = levels_to[to] & keep | ((level + 8) as u8) << shift;
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
    fn numbers_of_a_narrower_type_are_found() {
        let (mut random, pool, shape) = (Random::new(10), Pool::new(2), [70, 40]);
        let values = random.normals(70 * 40);
        assert_eq!(Packed::lossless(&pool, &values, shape), None);
        for kind in WeightsType::ALL.into_iter().skip(1) {
            let narrow = Packed::new(&pool, &values, shape, kind).unpacked(&pool);
            assert_eq!(Packed::lossless(&pool, &narrow, shape), Some(kind));
        }
    }

    /// `[rows, width]` and the same table lying down.
    fn table(random: &mut Random, [rows, width]: [usize; 2]) -> [Vec<f32>; 2] {
        let values = random.normals(rows * width);
        let at = |at: usize| values[at % rows * width + at / rows];
        let turned = (0..rows * width).map(at).collect();
        [values, turned]
    }

    #[test]
    fn a_table_is_packed_as_its_transpose_and_gives_its_rows() {
        let (mut random, pool) = (Random::new(6), Pool::new(2));
        for [rows, width] in [[1, 1], [64, 32], [65, 33], [100, 96], [200, 7], [31, 130]] {
            let [values, turned] = table(&mut random, [rows, width]);
            for kind in WeightsType::ALL {
                let packed = Packed::of_table(&pool, &values, [rows, width], kind);
                let transpose = Packed::new(&pool, &turned, [width, rows], kind);
                let same = (0..packed.panels()).all(|at| packed.panel(at) == transpose.panel(at));
                assert!(
                    same && packed.shape() == [width, rows],
                    "{kind} [{rows}, {width}]"
                );
                let rounded = packed.unpacked(&pool);
                let ids: Vec<_> = (0..40).map(|_| random.within(0..rows)).collect();
                let found = packed.columns(&pool, &ids);
                for (row, id) in found.chunks_exact(width).zip(ids) {
                    let expected: Vec<_> = (0..width).map(|at| rounded[at * rows + id]).collect();
                    assert_eq!(row, expected, "{kind} [{rows}, {width}] {id}");
                }
            }
        }
    }

    #[test]
    fn the_type_of_a_table_is_found() {
        let (mut random, pool, shape) = (Random::new(7), Pool::new(2), [40, 70]);
        let [values, _] = table(&mut random, shape);
        assert_eq!(Packed::lossless_table(&pool, &values, shape), None);
        let all: Vec<_> = (0..shape[0]).collect();
        for kind in WeightsType::ALL.into_iter().skip(1) {
            let narrow = Packed::of_table(&pool, &values, shape, kind).columns(&pool, &all);
            assert_eq!(Packed::lossless_table(&pool, &narrow, shape), Some(kind));
            // Blocks lie along the width: across it they are of no such type.
            let across = Packed::lossless(&pool, &narrow, shape);
            let blocks = matches!(kind, WeightsType::Q8 | WeightsType::Q4);
            assert!(!blocks || across != Some(kind), "{kind}");
        }
    }

    #[test]
    fn what_a_type_holds_stays_near_and_what_it_does_not_is_told() {
        let (mut random, pool, shape) = (Random::new(14), Pool::new(2), [70, 1000]);
        let values = random.normals(70 * 1000);
        let limits = [f32::INFINITY, 65_520.0, 3.396e38, 3.396e38, 1e19];
        for (kind, limit) in WeightsType::ALL.into_iter().zip(limits) {
            assert!(Packed::holds(&pool, &values, kind), "{kind}");
            assert!(Packed::holds(&pool, &[], kind), "{kind}");
            for (at, sign) in [(0, 1.0), (40_000, -1.0), (69_999, 1.0)] {
                let mut values = values.clone();
                values[at] = sign * f32::min(limit, f32::MAX).next_down();
                assert!(Packed::holds(&pool, &values, kind), "{kind} {}", values[at]);
                let found = Packed::new(&pool, &values, shape, kind).unpacked(&pool)[at];
                let share = found / values[at];
                assert!((share - 1.0).abs() < 0.1, "{kind}: {found} {}", values[at]);
                for bad in [1.001 * limit, f32::INFINITY, f32::NAN] {
                    values[at] = sign * bad;
                    let holds = Packed::holds(&pool, &values, kind);
                    assert_eq!(holds, kind == WeightsType::F32, "{kind} {bad}");
                }
            }
        }
        let just = [65_519.99, 65_520.0].map(f16::from_f32);
        assert_eq!(just, [f16::MAX, f16::INFINITY]);
    }

    /// The numbers as the type rounds them, one by one.
    fn rounded(values: &[f32], [k, n]: [usize; 2], kind: WeightsType) -> Vec<f32> {
        let mut rounded = values.to_vec();
        match kind {
            WeightsType::F32 => {}
            WeightsType::F16 => rounded
                .iter_mut()
                .for_each(|x| *x = f16::from_f32(*x).to_f32()),
            WeightsType::Bf16 => rounded
                .iter_mut()
                .for_each(|x| *x = bf16::from_f32(*x).to_f32()),
            _ => {
                for (start, column) in (0..k)
                    .step_by(BLOCK)
                    .flat_map(|s| (0..n).map(move |c| (s, c)))
                {
                    let at = |row: usize| row * n + column;
                    let rows = start..(start + BLOCK).min(k);
                    let mut numbers = [0.0; BLOCK];
                    rows.clone()
                        .for_each(|row| numbers[row - start] = values[at(row)]);
                    let (levels, scale) = match kind {
                        WeightsType::Q8 => to_8_bits(&numbers),
                        _ => to_4_bits(&numbers),
                    };
                    rows.for_each(|row| {
                        rounded[at(row)] = f32::from(levels[row - start]) * scale.to_f32();
                    });
                }
            }
        }
        rounded
    }

    #[test]
    fn packing_rounds_and_nothing_else() {
        let (mut random, pool) = (Random::new(4), Pool::new(2));
        for shape in [[1, 1], [32, 64], [33, 65], [96, 100], [7, 200], [130, 31]] {
            let values = random.normals(shape[0] * shape[1]);
            for kind in WeightsType::ALL {
                let packed = Packed::new(&pool, &values, shape, kind);
                assert_eq!(
                    packed.unpacked(&pool),
                    rounded(&values, shape, kind),
                    "{kind} {shape:?}"
                );
                let again = Packed::new(&pool, &packed.unpacked(&pool), shape, kind);
                assert_eq!(
                    again.unpacked(&pool),
                    packed.unpacked(&pool),
                    "{kind} {shape:?}"
                );
            }
        }
    }
}
