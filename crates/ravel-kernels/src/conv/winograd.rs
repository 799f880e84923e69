//! Winograd's minimal filtering F(4×4, 3×3): 36 products for 16 cells instead of 144.
//!
//! Lavin and Gray 2016. A polynomial of degree 5 is known from its values at five points and infinity; the points are 0, ±√½, ±√2
//! and infinity, whose products stay nearer to exact arithmetic than those of 0, ±1, ±2 (Barabasz et al. 2020, section 5).

use super::buffer::Aligned;
use super::product::{PANEL, Product, ROWS};
use super::work::{Work, on};
use super::{Band, View};
use crate::isa::Lanes;
use crate::pool::{Parts, Pool};
use std::cell::RefCell;

/// Rows of the output that are computed together: two rows of tiles.
pub const BAND: usize = 8;
/// Cells a side of a tile of the output.
const TILE: usize = 4;
/// Cells a side of what a tile depends on.
const SEEN: usize = TILE + 2;
const POINTS: usize = SEEN * SEEN;
/// Tiles across that are computed together.
const ACROSS: usize = 16;
/// Numbers between the ends of neighbouring matrices, so that they do not fall on the same lines of a cache.
const GAP: usize = 16;

const A: f64 = std::f64::consts::FRAC_1_SQRT_2;
const B: f64 = std::f64::consts::SQRT_2;
const AA: f64 = 0.5;
const BB: f64 = 2.0;
/// Numbers of a vector.
const LANES: usize = 16;

/// Whether it serves these channels and this kernel.
pub fn fits(from: usize, kernel: usize) -> bool {
    kernel == 3 && from.is_multiple_of(LANES)
}

/// Rows of G: what a kernel's three numbers are at each point.
fn kernel_values() -> [[f64; 3]; SEEN] {
    let at = |x: f64, over: f64| [1.0 / over, x / over, x * x / over];
    let (of_a, of_b) = (2.0 * AA * (AA - BB), 2.0 * BB * (BB - AA));
    [
        at(0.0, AA * BB),
        at(A, of_a),
        at(-A, of_a),
        at(B, of_b),
        at(-B, of_b),
        [0.0, 0.0, 1.0],
    ]
}

/// `[to, from, 3, 3]` as `[panel, point, from, PANEL]`, zeros beyond `to`.
pub fn pack(pool: &Pool, weight: &[f32], to: usize, from: usize) -> Aligned<f32> {
    let values = kernel_values();
    let panel = POINTS * from * PANEL;
    let mut packed = Aligned::zeros(to.div_ceil(PANEL) * panel);
    let parts = Parts::new(&mut packed);
    pool.run(to.div_ceil(PANEL), &|at| {
        // SAFETY: panels do not overlap.
        let packed = unsafe { parts.part(at * panel..(at + 1) * panel) };
        let end = to.min((at + 1) * PANEL) * from * 9;
        for (index, weight) in weight[at * PANEL * from * 9..end]
            .chunks_exact(9)
            .enumerate()
        {
            let (column, channel) = (index / from, index % from);
            let rows: [[f64; 3]; SEEN] = std::array::from_fn(|i| {
                std::array::from_fn(|x| {
                    (0..3)
                        .map(|y| values[i][y] * f64::from(weight[3 * y + x]))
                        .sum()
                })
            });
            for point in 0..POINTS {
                let (row, by) = (rows[point / SEEN], values[point % SEEN]);
                let value = row[0] * by[0] + row[1] * by[1] + row[2] * by[2];
                packed[(point * from + channel) * PANEL + column] = value as f32;
            }
        }
    });
    packed
}

thread_local! {
    /// The padded input of a block, its values at the points, and the products of a panel.
    static SCRATCH: RefCell<[Aligned<f32>; 3]> = RefCell::default();
}

/// One band of the output.
pub fn band(view: &View, weights: &[f32], out: &mut Band) {
    SCRATCH.with_borrow_mut(|[input, values, products]| {
        let from = view.input.channels;
        let tiles_down = out.rows.div_ceil(TILE);
        let tiles_across = out.width.div_ceil(TILE);
        for first in (0..tiles_across).step_by(ACROSS) {
            let many = ACROSS.min(tiles_across - first);
            // Rows of a product come in eights; the tiles that fill up are computed from zeros and not used.
            let across = many.next_multiple_of(ROWS / tiles_down);
            let tiles = across * tiles_down;
            let (rows, columns) = (tiles_down * TILE + 2, across * TILE + 2);
            let input = input.reserve(rows * columns * from);
            view.read(
                [out.first as isize - 1, (first * TILE) as isize - 1],
                [rows, columns],
                from,
                input,
            );
            let (value_stride, product_stride) = (tiles * from + GAP, tiles * PANEL + GAP);
            let values = values.reserve(POINTS * value_stride);
            let products = products.reserve(POINTS * product_stride);
            for tile in 0..tiles {
                let (y, x) = (tile / across * TILE, tile % across * TILE);
                let input = &input[(y * columns + x) * from..];
                debug_assert!(input.len() >= 5 * columns * from + SEEN * from);
                let enter = Enter {
                    input: input.as_ptr(),
                    row: columns * from,
                    from,
                    to: values[tile * from..].as_mut_ptr(),
                    stride: value_stride,
                };
                // SAFETY: six rows of six cells stand there, and each point has room for all tiles.
                unsafe { on(view.isa, enter) };
            }
            for (panel, weights) in weights.chunks_exact(POINTS * from * PANEL).enumerate() {
                for point in 0..POINTS {
                    let (values, weights) = (
                        &values[point * value_stride..],
                        &weights[point * from * PANEL..],
                    );
                    let products = &mut products[point * product_stride..][..tiles * PANEL];
                    let product = Product {
                        a: values.as_ptr(),
                        stride: from,
                        rows: tiles,
                        depth: from,
                        b: weights.as_ptr(),
                        c: products.as_mut_ptr(),
                        columns: PANEL,
                        add: false,
                    };
                    // SAFETY: the slices hold `tiles` rows of `from`, `from` rows of a panel, and `tiles` rows of a panel.
                    unsafe { product.run(view.isa) };
                }
                for tile in 0..tiles {
                    let (y, x) = (tile / across * TILE, tile % across);
                    if x >= many {
                        continue;
                    }
                    let x = (first + x) * TILE;
                    let mut cells = [0.0; TILE * TILE * PANEL];
                    let leave = Leave {
                        products: products[tile * PANEL..].as_ptr(),
                        stride: product_stride,
                        cells: &mut cells,
                    };
                    // SAFETY: each point has the tile's panel there.
                    unsafe { on(view.isa, leave) };
                    let columns = TILE.min(out.width - x);
                    for row in 0..TILE.min(out.rows - y) {
                        out.put(y + row, x, columns, panel, &cells[row * TILE * PANEL..]);
                    }
                }
            }
        }
    });
}

/// The values at the points of one tile's cells.
struct Enter {
    /// Six rows of six cells.
    input: *const f32,
    /// From a row to the next.
    row: usize,
    /// Numbers of a cell, a multiple of 16.
    from: usize,
    /// 36 places for `from` numbers.
    to: *mut f32,
    /// From a place to the next.
    stride: usize,
}

impl Work for Enter {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // A column is written across rows.
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: all places are those that the caller promises.
        unsafe {
            for channel in (0..self.from).step_by(LANES) {
                let mut half = [[L::splat(0.0); SEEN]; SEEN];
                for x in 0..SEEN {
                    let mut column = [L::splat(0.0); SEEN];
                    for (y, cell) in column.iter_mut().enumerate() {
                        *cell = L::load(self.input.add(y * self.row + x * self.from + channel));
                    }
                    let column = values_of::<L>(column);
                    for y in 0..SEEN {
                        half[y][x] = column[y];
                    }
                }
                for (y, half) in half.into_iter().enumerate() {
                    for (x, value) in values_of::<L>(half).into_iter().enumerate() {
                        L::store(self.to.add((y * SEEN + x) * self.stride + channel), value);
                    }
                }
            }
        }
    }
}

/// The cells of one tile of a panel.
struct Leave<'a> {
    /// A panel at 36 places.
    products: *const f32,
    /// From a place to the next.
    stride: usize,
    cells: &'a mut [f32; TILE * TILE * PANEL],
}

impl Work for Leave<'_> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // As above.
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: all places are those that the caller promises.
        unsafe {
            for channel in (0..PANEL).step_by(LANES) {
                let mut half = [[L::splat(0.0); SEEN]; TILE];
                for x in 0..SEEN {
                    let mut column = [L::splat(0.0); SEEN];
                    for (y, value) in column.iter_mut().enumerate() {
                        *value = L::load(self.products.add((y * SEEN + x) * self.stride + channel));
                    }
                    let column = cells_of::<L>(column);
                    for y in 0..TILE {
                        half[y][x] = column[y];
                    }
                }
                for (y, half) in half.into_iter().enumerate() {
                    for (x, cell) in cells_of::<L>(half).into_iter().enumerate() {
                        L::store(
                            self.cells
                                .as_mut_ptr()
                                .add((y * TILE + x) * PANEL + channel),
                            cell,
                        );
                    }
                }
            }
        }
    }
}

/// `x + y`, as a fused product, which costs the same.
#[inline(always)]
unsafe fn sum<L: Lanes>(x: L::F, y: L::F) -> L::F {
    // SAFETY: the caller runs where L's instructions exist.
    unsafe { L::fma(x, L::splat(1.0), y) }
}

/// `x - y`.
#[inline(always)]
unsafe fn difference<L: Lanes>(x: L::F, y: L::F) -> L::F {
    // SAFETY: likewise.
    unsafe { L::fma(y, L::splat(-1.0), x) }
}

/// Bᵀ d: what six cells are at each point.
#[inline(always)]
unsafe fn values_of<L: Lanes>(d: [L::F; SEEN]) -> [L::F; SEEN] {
    // SAFETY: likewise.
    unsafe {
        let (less_aa, less_bb) = (L::splat(-AA as f32), L::splat(-BB as f32));
        let less_both = L::splat((-AA - BB) as f32);
        let even_a = L::fma(d[2], less_bb, d[4]);
        let odd_a = L::mul(L::fma(d[1], less_bb, d[3]), L::splat(A as f32));
        let even_b = L::fma(d[2], less_aa, d[4]);
        let odd_b = L::mul(L::fma(d[1], less_aa, d[3]), L::splat(B as f32));
        // a²b² is 1.
        [
            L::fma(d[2], less_both, sum::<L>(d[0], d[4])),
            sum::<L>(even_a, odd_a),
            difference::<L>(even_a, odd_a),
            sum::<L>(even_b, odd_b),
            difference::<L>(even_b, odd_b),
            L::fma(d[3], less_both, sum::<L>(d[1], d[5])),
        ]
    }
}

/// Aᵀ m: the four cells from the products at each point.
#[inline(always)]
unsafe fn cells_of<L: Lanes>(m: [L::F; SEEN]) -> [L::F; TILE] {
    // SAFETY: likewise.
    unsafe {
        let (sum_a, less_a) = (sum::<L>(m[1], m[2]), difference::<L>(m[1], m[2]));
        let (sum_b, less_b) = (sum::<L>(m[3], m[4]), difference::<L>(m[3], m[4]));
        [
            sum::<L>(sum::<L>(m[0], sum_a), sum_b),
            L::fma(
                less_a,
                L::splat(A as f32),
                L::mul(less_b, L::splat(B as f32)),
            ),
            L::fma(
                sum_a,
                L::splat(AA as f32),
                L::mul(sum_b, L::splat(BB as f32)),
            ),
            L::fma(
                less_a,
                L::splat((A * AA) as f32),
                L::fma(less_b, L::splat((B * BB) as f32), m[5]),
            ),
        ]
    }
}
