//! Products of large matrices in `bf16`, with sums in `f32`.
//!
//! Both sides are laid out first: rows one after the other, and columns in panels of 32 whose numbers stand in pairs along the
//! depth, as the instructions want them. Every number that comes out is one sum in an order that its place alone fixes.

use half::bf16;

use crate::conv::buffer::Aligned;
use crate::conv::work::{Work, on};
use crate::isa::{Isa, Lanes};
use crate::norm::Stored;
use crate::pool::{Parts, Pool};
use crate::tiles::{Block, DEPTH, PANEL, ROWS, TILE, Unit};

/// A matrix of `f32` as it lies: number `(i, j)` is at `i * across + j` or, turned, at `j * across + i`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub turned: bool,
}

impl<'a> Plain<'a> {
    /// Rows one after the other.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of another size");
        Self {
            values,
            rows,
            columns,
            turned: false,
        }
    }

    /// The transpose.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            turned: !self.turned,
            ..self
        }
    }
}

/// `[rows, depth]` in `bf16`, both rounded up to multiples of 32 with zeros.
pub(crate) struct Rows {
    values: Aligned<bf16>,
    rows: usize,
    depth: usize,
}

impl Rows {
    pub fn new(pool: &Pool, isa: Isa, from: Plain) -> Self {
        let depth = from.columns.next_multiple_of(DEPTH);
        let blocks = from.rows.div_ceil(ROWS);
        let mut values = Aligned::zeros(blocks * ROWS * depth);
        let parts = Parts::new(&mut values);
        pool.run(blocks, &|at| {
            // SAFETY: blocks do not overlap; the work has no pointers.
            unsafe {
                let to = parts.part(at * ROWS * depth..(at + 1) * ROWS * depth);
                on(
                    isa,
                    FillRows {
                        from,
                        at,
                        depth,
                        to,
                    },
                );
            }
        });
        Self {
            values,
            rows: from.rows,
            depth,
        }
    }
}

struct FillRows<'a> {
    from: Plain<'a>,
    at: usize,
    depth: usize,
    to: &'a mut [bf16],
}

impl Work for FillRows<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self {
            from,
            at,
            depth,
            to,
        } = self;
        let rows = at * ROWS..((at + 1) * ROWS).min(from.rows);
        if !from.turned {
            for (to, row) in to.chunks_exact_mut(depth).zip(rows) {
                let from = &from.values[row * from.columns..][..from.columns];
                to.iter_mut()
                    .zip(from)
                    .for_each(|(to, x)| *to = bf16::of(*x));
            }
            return;
        }
        // A line of the matrix as it lies has one number of each row.
        let count = rows.len();
        let line = |j: usize| &from.values[j * from.rows + rows.start..][..count];
        // Sixteen pairs of lines fill a line of the cache of every row.
        for first in (0..from.columns / 2).step_by(16) {
            let mut pairs = [[0u32; ROWS]; 16];
            let lines = 16.min(from.columns / 2 - first);
            for (at, pairs) in pairs[..lines].iter_mut().enumerate() {
                let j = 2 * (first + at);
                for ((to, low), high) in pairs.iter_mut().zip(line(j)).zip(line(j + 1)) {
                    *to = pair(*low, *high);
                }
            }
            for row in 0..count {
                let to = &mut to[row * depth + 2 * first..][..2 * lines];
                for (to, pairs) in to.chunks_exact_mut(2).zip(&pairs) {
                    to[0] = bf16::from_bits(pairs[row] as u16);
                    to[1] = bf16::from_bits((pairs[row] >> 16) as u16);
                }
            }
        }
        if from.columns % 2 == 1 {
            for (row, x) in line(from.columns - 1).iter().enumerate() {
                to[row * depth + from.columns - 1] = bf16::of(*x);
            }
        }
    }
}

/// Two numbers side by side, the first one low.
#[inline(always)]
pub(crate) fn pair(low: f32, high: f32) -> u32 {
    u32::from(bf16::of(low).to_bits()) | u32::from(bf16::of(high).to_bits()) << 16
}

/// Two rows of 32 as a row of a panel.
#[inline(always)]
pub(crate) fn pair_up(low: &[f32; PANEL], high: &[f32; PANEL], to: &mut [bf16; 2 * PANEL]) {
    let to: *mut u32 = to.as_mut_ptr().cast();
    for lane in 0..PANEL {
        // SAFETY: 32 pairs are as many bytes as 64 halves; on little-endian machines the low one stands first.
        unsafe {
            to.add(lane)
                .write_unaligned(pair(low[lane], high[lane]).to_le())
        };
    }
}

/// `[columns / 32, depth / 2, 32, 2]` in `bf16`, both rounded up to multiples of 32 with zeros.
pub(crate) struct Panels {
    values: Aligned<bf16>,
    columns: usize,
    depth: usize,
}

impl Panels {
    /// The matrix is `[depth, columns]`.
    pub fn new(pool: &Pool, isa: Isa, from: Plain) -> Self {
        let depth = from.rows.next_multiple_of(DEPTH);
        let panels = from.columns.div_ceil(PANEL);
        let mut values = Aligned::zeros(panels * PANEL * depth);
        let parts = Parts::new(&mut values);
        // Long panels are shared out by runs of depth.
        let runs = depth.div_ceil(RUN);
        pool.run(panels * runs, &|piece| {
            let (panel, first) = (piece / runs, piece % runs * RUN);
            let last = (first + RUN).min(depth);
            let start = panel * PANEL * depth;
            // SAFETY: runs of panels do not overlap; the work has no pointers.
            unsafe {
                let to = parts.part(start + first * PANEL..start + last * PANEL);
                on(
                    isa,
                    FillPanel {
                        from,
                        panel,
                        first,
                        to,
                    },
                );
            }
        });
        Self {
            values,
            columns: from.columns,
            depth,
        }
    }
}

/// Depth that is laid out, and multiplied, at a time: a panel of it stays in the first cache.
const RUN: usize = 512;

struct FillPanel<'a> {
    from: Plain<'a>,
    panel: usize,
    first: usize,
    to: &'a mut [bf16],
}

impl Work for FillPanel<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self {
            from,
            panel,
            first,
            to,
        } = self;
        let columns = panel * PANEL..((panel + 1) * PANEL).min(from.columns);
        let count = columns.len();
        let depth = first..(first + to.len() / PANEL).min(from.rows);
        if from.turned {
            for (at, column) in columns.enumerate() {
                let line = &from.values[column * from.rows..][depth.clone()];
                for (k, x) in line.iter().enumerate() {
                    to[(k / 2 * PANEL + at) * 2 + k % 2] = bf16::of(*x);
                }
            }
            return;
        }
        let line = |k: usize| {
            let mut line = [0.0; PANEL];
            if k < depth.end {
                let from = &from.values[k * from.columns + columns.start..][..count];
                line[..count].copy_from_slice(from);
            }
            line
        };
        let to = to.as_chunks_mut::<{ 2 * PANEL }>().0.iter_mut();
        for (to, k) in to.zip(depth.clone().step_by(2)) {
            pair_up(&line(k), &line(k + 1), to);
        }
    }
}

/// Blocks of rows whose sums one piece of work holds.
const GROUP: usize = 8;

/// `rows · panels`, plus `bias`.
///
/// # Shapes
/// - `bias`: `[columns]`
/// - `out`: `[rows, columns]`
///
/// # Panics
/// If a size does not fit.
pub(crate) fn product(
    pool: &Pool,
    unit: Unit,
    rows: &Rows,
    panels: &Panels,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let (columns, depth) = (panels.columns, panels.depth);
    assert_eq!(rows.depth, depth, "depth axis");
    assert_eq!(out.len(), rows.rows * columns, "out does not fit");
    assert!(bias.is_none_or(|bias| bias.len() == columns));
    let groups = rows.rows.div_ceil(GROUP * ROWS);
    let all = columns.div_ceil(PANEL);
    // Few rows are shared out by panels too.
    let at_once = (all * groups).div_ceil(4 * pool.threads()).clamp(1, all);
    let shares = all.div_ceil(at_once);
    let out = Parts::new(out);
    pool.run(groups * shares, &|piece| {
        let (group, share) = (piece / shares, piece % shares);
        let first = group * GROUP * ROWS;
        let last = (first + GROUP * ROWS).min(rows.rows);
        let ready = unit.ready();
        let mut sums = Sums([0.0; GROUP * ROWS * PANEL]);
        for panel in share * at_once..((share + 1) * at_once).min(all) {
            for start in (0..depth).step_by(RUN) {
                let run = RUN.min(depth - start);
                let from = &panels.values[(panel * depth + start) * PANEL..][..run * PANEL];
                for (at, row) in (first..last).step_by(ROWS).enumerate() {
                    let from_row = &rows.values[row * depth + start..];
                    assert!(from_row.len() >= (ROWS - 1) * depth + run);
                    let block = Block {
                        first: from_row.as_ptr(),
                        second: from_row[TILE * depth..].as_ptr(),
                        stride: depth,
                        places: &[0],
                        depth: run,
                        panel: from.as_ptr(),
                        to: sums.0[at * ROWS * PANEL..][..ROWS * PANEL].as_mut_ptr(),
                    };
                    // SAFETY: 32 rows of the run and a panel of it are there, and so is room for the sums.
                    unsafe {
                        match start {
                            0 => ready.multiply::<false>(&block),
                            _ => ready.multiply::<true>(&block),
                        }
                    };
                }
            }
            let place = panel * PANEL..((panel + 1) * PANEL).min(columns);
            for (sums, row) in sums.0.chunks_exact(PANEL).zip(first..last) {
                // SAFETY: each piece has rows and columns of its own.
                let out =
                    unsafe { out.part(row * columns + place.start..row * columns + place.end) };
                match bias {
                    Some(bias) => {
                        let bias = &bias[place.clone()];
                        for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                            *out = sum + bias;
                        }
                    }
                    None => out.copy_from_slice(&sums[..out.len()]),
                }
            }
        }
    });
}

#[repr(align(64))]
struct Sums([f32; GROUP * ROWS * PANEL]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use crate::random::Random;

    fn plain(a: Plain, b: Plain) -> Vec<f32> {
        let get = |m: &Plain, i: usize, j: usize| {
            f64::from(bf16::of(match m.turned {
                false => m.values[i * m.columns + j],
                true => m.values[j * m.rows + i],
            }))
        };
        let mut out = Vec::new();
        for i in 0..a.rows {
            for j in 0..b.columns {
                let sum: f64 = (0..a.columns).map(|k| get(&a, i, k) * get(&b, k, j)).sum();
                out.push(sum as f32);
            }
        }
        out
    }

    #[test]
    fn products_of_any_shape_are_those_of_rounded_numbers() {
        for unit in Unit::all() {
            for (m, k, n) in [
                (1, 1, 1),
                (32, 32, 32),
                (33, 65, 31),
                (300, 40, 70),
                (5, 1100, 3),
            ] {
                let numbers = |seed, count| Random::new(seed).normals(count);
                let (a, b) = (numbers(1, m * k), numbers(2, k * n));
                let bias = numbers(3, n);
                for isa in Isa::all() {
                    let wide = |a: Plain, b: Plain, threads: usize| {
                        let pool = Pool::new(threads);
                        let mut out = vec![0.0; m * n];
                        let (a, b) = (Rows::new(&pool, isa, a), Panels::new(&pool, isa, b));
                        product(&pool, unit, &a, &b, Some(&bias), &mut out);
                        out
                    };
                    let (a, b) = (Plain::new(&a, m, k), Plain::new(&b, k, n));
                    let one = wide(a, b, 1);
                    assert_eq!(one, wide(a, b, 3), "threads");
                    for (at, (found, expected)) in one.iter().zip(plain(a, b)).enumerate() {
                        let expected = expected + bias[at % n];
                        let bound = 1e-5 * (k as f32).sqrt();
                        assert!(
                            (found - expected).abs() < bound,
                            "{m} {k} {n}: {found} {expected}"
                        );
                    }
                    // The same numbers, laid out the other way round.
                    let turn = |x: Plain| -> Vec<f32> {
                        let turned = |i: usize| x.values[i % x.rows * x.columns + i / x.rows];
                        (0..x.values.len()).map(turned).collect()
                    };
                    let (at, bt) = (turn(a), turn(b));
                    let (at, bt) = (
                        Plain::new(&at, k, m).transposed(),
                        Plain::new(&bt, n, k).transposed(),
                    );
                    assert_eq!(one, wide(at, bt, 2), "turned");
                }
            }
        }
    }
}
