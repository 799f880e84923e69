//! Attention between all cells of a grid, one head, on its way through the grid's layers.

use super::buffer::Aligned;
use super::product::{PANEL, Product, ROWS};
use super::{Conv, Grid, Planes};
use crate::isa::Isa;
use crate::norm::{Entry, GroupNorm, Sums, exponentials};
use crate::pool::{Parts, Pool};
use std::cell::RefCell;

/// Cells whose scores are held at a time, so that memory does not grow with the square of the grid.
const BLOCK: usize = 32;

/// A norm, attention between cells (queries, keys and values by 1×1 convolutions), a 1×1 convolution, added to what came in.
///
/// As in Esser et al. 2021's code (`AttnBlock`): scores are divided by the square root of the channels.
#[derive(Debug, Clone)]
pub struct CellAttention {
    /// Of what came in.
    pub norm: GroupNorm,
    /// Of queries, keys and values.
    pub qkv: [Conv; 3],
    /// Of what was mixed.
    pub out: Conv,
}

thread_local! {
    /// Queries of a block, its scores panel by panel, its weights row by row, results of a panel.
    static SCRATCH: RefCell<[Aligned<f32>; 4]> = RefCell::default();
}

impl CellAttention {
    /// Products of numbers for a grid of so many cells.
    pub fn products(&self, cells: usize) -> u64 {
        let convs = self.qkv.iter().chain([&self.out]);
        let convs = convs.map(|conv| conv.products(cells)).sum::<u64>();
        convs + 2 * (cells * cells) as u64 * self.out.channels() as u64
    }

    /// Adds what the cells see to the grid, whose sums are given; gives those of the result.
    pub fn run(&self, pool: &Pool, planes: &mut Planes, grid: &mut Grid, sums: &Sums) -> Sums {
        let entry = self.norm.entry(sums, None);
        let [q, k, v] = [0, 1, 2].map(|part| {
            let conv = &self.qkv[part];
            let mut found = planes.take(grid.height, grid.width, conv.channels());
            conv.run(pool, grid, &entry, 1, &mut found, false);
            found
        });
        let isa = self.out.isa;
        let mixed = mixed(pool, planes, isa, &q, &k, &v);
        [q, k, v].into_iter().for_each(|part| planes.give(part));
        let sums = self.out.run(pool, &mixed, &Entry::default(), 1, grid, true);
        planes.give(mixed);
        sums
    }
}

/// Values mixed by the softmax of products of queries and keys.
fn mixed(pool: &Pool, planes: &mut Planes, isa: Isa, q: &Grid, k: &Grid, v: &Grid) -> Grid {
    let (n, width) = (q.height * q.width, q.channels);
    let keys = panels(n, width, |column, depth| k.cells()[column * width + depth]);
    let values = panels(v.channels, n, |column, depth| {
        v.cells()[depth * v.channels + column]
    });
    let mut out = planes.take(q.height, q.width, v.channels);
    let parts = Parts::new(out.cells_mut());
    let scale = 1.0 / (width as f32).sqrt();
    pool.run_ranges(n, BLOCK, &|block| {
        // SAFETY: blocks of cells do not overlap.
        let out = unsafe { parts.part(block.start * v.channels..block.end * v.channels) };
        SCRATCH.with_borrow_mut(|[queries, scores, weights, results]| {
            let rows = block.len().next_multiple_of(ROWS);
            let queries = queries.reserve(rows * width);
            let (filled, rest) = queries.split_at_mut(block.len() * width);
            let from = &q.cells()[block.start * width..block.end * width];
            filled
                .iter_mut()
                .zip(from)
                .for_each(|(to, from)| *to = from * scale);
            rest.fill(0.0);
            let panel = rows * PANEL;
            let scores = scores.reserve(n.div_ceil(PANEL) * panel);
            for (keys, scores) in keys
                .chunks_exact(width * PANEL)
                .zip(scores.chunks_exact_mut(panel))
            {
                whole(isa, queries, rows, width, keys, scores);
            }
            let weights = weights.reserve(rows * n);
            let mut totals = [1.0; BLOCK];
            for row in 0..block.len() {
                let of_row = |panel_at: usize| {
                    let used = PANEL.min(n - panel_at * PANEL);
                    &scores[panel_at * panel + row * PANEL..][..used]
                };
                let all = (0..n.div_ceil(PANEL)).map(of_row);
                let most = all
                    .clone()
                    .flatten()
                    .fold(f32::NEG_INFINITY, |most, score| most.max(*score));
                let weights = &mut weights[row * n..(row + 1) * n];
                for (scores, weights) in all.zip(weights.chunks_mut(PANEL)) {
                    exponentials(isa, scores, most, weights);
                }
                totals[row] = 1.0 / weights.iter().sum::<f32>();
            }
            weights[block.len() * n..].fill(0.0);
            let results = results.reserve(panel);
            for (at, values) in values.chunks_exact(n * PANEL).enumerate() {
                whole(isa, weights, rows, n, values, results);
                let first = at * PANEL;
                let used = PANEL.min(v.channels - first);
                for ((cell, found), total) in out
                    .chunks_exact_mut(v.channels)
                    .zip(results.chunks_exact(PANEL))
                    .zip(totals)
                {
                    cell[first..first + used]
                        .iter_mut()
                        .zip(found)
                        .for_each(|(to, found)| *to = found * total);
                }
            }
        });
    });
    out
}

/// A product of rows that stand side by side.
fn whole(isa: Isa, a: &[f32], rows: usize, depth: usize, b: &[f32], c: &mut [f32]) {
    assert!(a.len() >= rows * depth && b.len() >= depth * PANEL && c.len() >= rows * PANEL);
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    let product = Product {
        a,
        stride: depth,
        rows,
        depth,
        b,
        c,
        columns: PANEL,
        add: false,
    };
    // SAFETY: the lengths were checked above, and a mutable slice overlaps nothing.
    unsafe { product.run(isa) };
}

/// `[columns / PANEL, depth, PANEL]`, zeros beyond the last column.
fn panels(columns: usize, depth: usize, at: impl Fn(usize, usize) -> f32) -> Aligned<f32> {
    let mut packed = Aligned::zeros(columns.div_ceil(PANEL) * depth * PANEL);
    for (panel, packed) in packed.chunks_exact_mut((depth * PANEL).max(1)).enumerate() {
        for (row, packed) in packed.chunks_exact_mut(PANEL).enumerate() {
            for (column, value) in packed.iter_mut().enumerate().take(columns - panel * PANEL) {
                *value = at(panel * PANEL + column, row);
            }
        }
    }
    packed
}
