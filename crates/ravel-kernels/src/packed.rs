//! Weights in the order in which a product reads them.
//!
//! A matrix `[k, n]` is cut into panels of columns, so that a thread streams one run of memory and keeps its sums in registers.
//! Real numbers: panels of 64 columns, row by row. Quantized: panels of 32 columns, in each blocks of 32 rows; a block is eight
//! groups of four rows (the four bytes of a column side by side, as integer dot products want them) and then 32 scales. With
//! four bits, a byte holds a level of one group in its low half and one of the next in its high half. Levels are stored with
//! 128, or 8, added.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use half::{bf16, f16};

use crate::blocks::{BLOCK, to_4_bits, to_8_bits};
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

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

const LINE: usize = 64;

/// A matrix `[k, n]` in panels.
#[derive(Clone)]
pub struct Packed {
    kind: WeightsType,
    k: usize,
    n: usize,
    lines: Vec<Line>,
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
    pub fn new(pool: &Pool, values: &[f32], [k, n]: [usize; 2], kind: WeightsType) -> Self {
        assert_eq!(values.len(), k * n, "not as many numbers as the shape has");
        let mut packed = Self {
            kind,
            k,
            n,
            lines: Vec::new(),
        };
        let (panels, lines) = (packed.panels(), packed.panel_bytes() / LINE);
        packed.lines = vec![Line([0; LINE]); panels * lines];
        let parts = Parts::new(&mut packed.lines);
        pool.run(panels, &|panel| {
            // SAFETY: each piece has the lines of its own panel.
            let lines = unsafe { parts.part(panel * lines..(panel + 1) * lines) };
            let width = kind.panel();
            let columns = panel * width..((panel + 1) * width).min(n);
            match kind {
                WeightsType::F32 => pack_reals(lines, values, n, columns, f32::to_le_bytes),
                WeightsType::F16 => pack_reals(lines, values, n, columns, |x| {
                    f16::from_f32(x).to_le_bytes()
                }),
                WeightsType::Bf16 => pack_reals(lines, values, n, columns, |x| {
                    bf16::from_f32(x).to_le_bytes()
                }),
                _ => pack_blocks(lines, values, [k, n], columns, kind),
            }
        });
        packed
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
    pub fn lossless(pool: &Pool, values: &[f32], shape: [usize; 2]) -> Option<WeightsType> {
        if let Some(kind) = [WeightsType::Q4, WeightsType::Q8].into_iter().find(|kind| {
            // A few rows tell at once what is no such file.
            let few = shape[0].min(BLOCK);
            let same = |rows: usize| {
                let values = &values[..rows * shape[1]];
                let packed = Self::new(pool, values, [rows, shape[1]], *kind);
                let unpacked = packed.unpacked(pool);
                unpacked.iter().zip(values).all(|(a, b)| a == b)
            };
            same(few) && same(shape[0])
        }) {
            return Some(kind);
        }
        if values.iter().all(|x| x.to_bits() & 0xffff == 0) {
            return Some(WeightsType::Bf16);
        }
        let half = |x: &f32| f16::from_f32(*x).to_f32().to_bits() == x.to_bits();
        values.iter().all(half).then_some(WeightsType::F16)
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

    /// Rows that one of `k`'s blocks at most spans, of one panel, into `[rows, n]`.
    fn unpack(&self, panel: usize, rows: Range<usize>, values: &mut [f32]) {
        let (width, n) = (self.kind.panel(), self.n);
        let columns = panel * width..((panel + 1) * width).min(n);
        let bytes = self.panel(panel);
        let two = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let four = |at: usize| u32::from(two(at)) | u32::from(two(at + 2)) << 16;
        let block = rows.start / BLOCK * self.block_bytes();
        for (row, values) in rows.zip(values.chunks_exact_mut(n)) {
            for (column, value) in values[columns.clone()].iter_mut().enumerate() {
                let scale =
                    || bf16::from_bits(two(block + self.levels_bytes() + 2 * column)).to_f32();
                let level = |levels: &[u8]| match self.kind {
                    WeightsType::Q8 => f32::from(levels[place_8(row % BLOCK, column)]) - 128.0,
                    _ => {
                        let (at, high) = place_4(row % BLOCK, column);
                        f32::from(levels[at] >> (4 * u8::from(high)) & 15) - 8.0
                    }
                };
                *value = match self.kind {
                    WeightsType::F32 => f32::from_bits(four(4 * (row * width + column))),
                    WeightsType::F16 => f16::from_bits(two(2 * (row * width + column))).to_f32(),
                    WeightsType::Bf16 => bf16::from_bits(two(2 * (row * width + column))).to_f32(),
                    _ => level(&bytes[block..]) * scale(),
                };
            }
        }
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

    /// Bytes of a panel.
    pub(crate) fn panel_bytes(&self) -> usize {
        match self.kind {
            WeightsType::Q8 | WeightsType::Q4 => self.k.div_ceil(BLOCK) * self.block_bytes(),
            WeightsType::F16 | WeightsType::Bf16 => 2 * self.kind.panel() * self.k,
            WeightsType::F32 => 4 * self.kind.panel() * self.k,
        }
    }

    fn levels_bytes(&self) -> usize {
        match self.kind {
            WeightsType::Q8 => BLOCK * BLOCK,
            _ => BLOCK * BLOCK / 2,
        }
    }

    /// Bytes of 32 rows of a panel with their scales.
    pub(crate) fn block_bytes(&self) -> usize {
        self.levels_bytes() + 2 * BLOCK
    }

    /// The bytes of a panel; they begin at a cache line.
    pub(crate) fn panel(&self, panel: usize) -> &[u8] {
        let lines = self.panel_bytes() / LINE;
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

/// Each number as `B` bytes.
fn pack_reals<const B: usize>(
    lines: &mut [Line],
    values: &[f32],
    n: usize,
    columns: Range<usize>,
    bytes: impl Fn(f32) -> [u8; B],
) {
    let rows = bytes_mut(lines).chunks_exact_mut(B * WeightsType::F32.panel());
    for (to, row) in rows.zip(values.chunks_exact(n)) {
        for (to, x) in to.chunks_exact_mut(B).zip(&row[columns.clone()]) {
            to.copy_from_slice(&bytes(*x));
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

fn pack_blocks(
    lines: &mut [Line],
    values: &[f32],
    [k, n]: [usize; 2],
    columns: Range<usize>,
    kind: WeightsType,
) {
    let is_8 = kind == WeightsType::Q8;
    let levels_bytes = BLOCK * BLOCK / if is_8 { 1 } else { 2 };
    for (block, to) in bytes_mut(lines)
        .chunks_exact_mut(levels_bytes + 2 * BLOCK)
        .enumerate()
    {
        let (levels_to, scales_to) = to.split_at_mut(levels_bytes);
        // Rows and columns that fill up are levels of zero.
        levels_to.fill(if is_8 { 0x80 } else { 0x88 });
        let rows = block * BLOCK..((block + 1) * BLOCK).min(k);
        for (at, column) in columns.clone().enumerate() {
            let mut numbers = [0.0; BLOCK];
            for (number, row) in numbers.iter_mut().zip(rows.clone()) {
                *number = values[row * n + column];
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
