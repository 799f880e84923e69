//! Convolution in `bf16`: numbers and weights of 8 bits' precision, sums in `f32`.

use super::buffer::Aligned;
use super::product::PANEL;
use super::{Band, View};
use crate::norm::Stored;
use crate::pool::{Parts, Pool};
use crate::tiles::{Block, DEPTH, ROWS, TILE, Unit};
use half::bf16;
use std::cell::RefCell;

/// `[to, from, kernel, kernel]` as `[panel, place, from / 2, PANEL, 2]`, zeros beyond both.
pub fn pack(pool: &Pool, weight: &[f32], to: usize, from: usize, kernel: usize) -> Aligned<bf16> {
    let (places, depth) = (kernel * kernel, from.next_multiple_of(DEPTH));
    let panel = places * depth * PANEL;
    let mut packed = Aligned::zeros(to.div_ceil(PANEL) * panel);
    let parts = Parts::new(&mut packed);
    pool.run(to.div_ceil(PANEL), &|at| {
        // SAFETY: panels do not overlap.
        let packed = unsafe { parts.part(at * panel..(at + 1) * panel) };
        for column in 0..PANEL.min(to - at * PANEL) {
            let weight = &weight[(at * PANEL + column) * from * places..][..from * places];
            for (channel, weight) in weight.chunks_exact(places).enumerate() {
                for (place, weight) in weight.iter().enumerate() {
                    packed[((place * depth + channel) / 2 * PANEL + column) * 2 + channel % 2] =
                        bf16::of(*weight);
                }
            }
        }
    });
    packed
}

thread_local! {
    /// The padded input of a band, and results.
    static SCRATCH: RefCell<(Aligned<bf16>, Aligned<f32>)> = RefCell::default();
}

/// One band of the output.
pub fn band(unit: Unit, view: &View, weights: &[bf16], kernel: usize, out: &mut Band) {
    SCRATCH.with_borrow_mut(|(input, results)| {
        let around = kernel / 2;
        let depth = view.input.channels.next_multiple_of(DEPTH);
        let across = out.width.next_multiple_of(TILE);
        let columns = across + 2 * around;
        let rows = out.rows + 2 * around;
        let input = input.reserve(rows * columns * depth);
        view.read(
            [out.first as isize - around as isize, -(around as isize)],
            [rows, columns],
            depth,
            input,
        );
        let places: Vec<usize> = (0..kernel * kernel)
            .map(|at| (at / kernel * columns + at % kernel) * depth)
            .collect();
        let input = Input {
            cells: input,
            columns,
            depth,
            places: &places,
            across,
        };
        all(unit, &input, weights, results.reserve(ROWS * PANEL), out);
    });
}

/// A padded band, `[rows, columns, depth]`.
struct Input<'a> {
    cells: &'a [bf16],
    columns: usize,
    depth: usize,
    /// Where each place of the kernel begins, from a cell's own beginning.
    places: &'a [usize],
    /// Cells of a row that are computed, a multiple of [`TILE`].
    across: usize,
}

impl Input<'_> {
    /// A run of cells from `x` on in a row, with all that the kernel sees of them.
    fn at(&self, row: usize, x: usize, cells: usize) -> &[bf16] {
        let last = self.places.last().expect("a kernel has a place");
        &self.cells[(row * self.columns + x) * self.depth..][..last + cells * self.depth]
    }
}

/// All panels of a band, two runs of cells at a time.
fn all(unit: Unit, input: &Input, weights: &[bf16], results: &mut [f32], out: &mut Band) {
    let runs: Vec<(usize, usize)> = (0..out.rows)
        .flat_map(|row| (0..input.across).step_by(TILE).map(move |x| (row, x)))
        .collect();
    let panel_len = input.places.len() * input.depth * PANEL;
    let ready = unit.ready();
    for (panel, weights) in weights.chunks_exact(panel_len).enumerate() {
        for pair in runs.chunks(2) {
            let [first, second] = [pair[0], pair[pair.len() - 1]];
            let block = Block {
                first: input.at(first.0, first.1, TILE).as_ptr(),
                second: input.at(second.0, second.1, TILE).as_ptr(),
                stride: input.depth,
                places: input.places,
                depth: input.depth,
                panel: weights.as_ptr(),
                to: results.as_mut_ptr(),
            };
            // SAFETY: both runs hold 16 cells at each place, the panel is whole, and the results have room for 32 rows of it.
            unsafe { ready.multiply::<false>(&block) };
            for (at, (row, x)) in pair.iter().enumerate() {
                let columns = TILE.min(out.width - x);
                out.put(*row, *x, columns, panel, &results[at * TILE * PANEL..]);
            }
        }
    }
}
