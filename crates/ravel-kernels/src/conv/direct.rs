//! Convolution as a product of matrices whose left side is never written down: cell by cell, each place of the kernel finds its
//! numbers in the padded input.

use super::buffer::Aligned;
use super::product::{PANEL, Product, ROWS};
use super::{Band, View};
use crate::pool::{Parts, Pool};
use std::cell::RefCell;

/// Channels that are summed before the next cells are taken, so that the panel's part stays in the nearest cache.
const DEPTH: usize = 256;

/// Rows of the output that are computed together: enough cells to use a panel often, few enough to share out.
pub fn rows_of_band(height: usize, width: usize) -> usize {
    (2048 / width).clamp(1, 8).min(height.div_ceil(4)).max(1)
}

/// `[to, from, kernel, kernel]` as `[panel, place, from, PANEL]`, zeros beyond `to`.
pub fn pack(pool: &Pool, weight: &[f32], to: usize, from: usize, kernel: usize) -> Aligned<f32> {
    let places = kernel * kernel;
    let mut packed = Aligned::zeros(to.div_ceil(PANEL) * places * from * PANEL);
    let panel = places * from * PANEL;
    let parts = Parts::new(&mut packed);
    pool.run(to.div_ceil(PANEL), &|at| {
        // SAFETY: panels do not overlap.
        let packed = unsafe { parts.part(at * panel..(at + 1) * panel) };
        for column in 0..PANEL.min(to - at * PANEL) {
            let weight = &weight[(at * PANEL + column) * from * places..][..from * places];
            for (channel, weight) in weight.chunks_exact(places).enumerate() {
                for (place, weight) in weight.iter().enumerate() {
                    packed[(place * from + channel) * PANEL + column] = *weight;
                }
            }
        }
    });
    packed
}

thread_local! {
    /// The padded input of a band, and the results of a panel.
    static SCRATCH: RefCell<(Aligned<f32>, Aligned<f32>)> = RefCell::default();
}

/// One band of the output.
pub fn band(view: &View, weights: &[f32], kernel: usize, out: &mut Band) {
    SCRATCH.with_borrow_mut(|(input, results)| {
        let (around, from, isa) = (kernel / 2, view.input.channels, view.isa);
        let across = out.width.next_multiple_of(ROWS);
        let columns = across + 2 * around;
        let rows = out.rows + 2 * around;
        let input = input.reserve(rows * columns * from);
        let results = results.reserve(out.rows * across * PANEL);
        view.read(
            [out.first as isize - around as isize, -(around as isize)],
            [rows, columns],
            from,
            input,
        );
        let panel_len = kernel * kernel * from * PANEL;
        for (panel, weights) in weights.chunks_exact(panel_len).enumerate() {
            let used = if out.channels - panel * PANEL <= 16 {
                16
            } else {
                PANEL
            };
            for place in 0..kernel * kernel {
                for depth in (0..from).step_by(DEPTH) {
                    let many = DEPTH.min(from - depth);
                    let weights = &weights[(place * from + depth) * PANEL..][..many * PANEL];
                    for row in 0..out.rows {
                        let start =
                            ((row + place / kernel) * columns + place % kernel) * from + depth;
                        let (cells, found) =
                            (&input[start..], &mut results[row * across * PANEL..]);
                        debug_assert!(
                            cells.len() >= (across - 1) * from + many
                                && found.len() >= across * PANEL
                        );
                        let product = Product {
                            a: cells.as_ptr(),
                            stride: from,
                            rows: across,
                            depth: many,
                            b: weights.as_ptr(),
                            c: found.as_mut_ptr(),
                            columns: used,
                            add: place + depth > 0,
                        };
                        // SAFETY: `across` cells stand in the input from `start` on, since a row has `around` more on each side.
                        unsafe { product.run(isa) };
                    }
                }
            }
            for row in 0..out.rows {
                out.put(row, 0, out.width, panel, &results[row * across * PANEL..]);
            }
        }
    });
}
