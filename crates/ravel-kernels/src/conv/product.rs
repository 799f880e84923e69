//! The product that everything else is made of: rows times one panel of columns.

use super::work::{Work, on};
use crate::isa::{Isa, Lanes};

/// Columns of a panel.
pub const PANEL: usize = 32;
/// Rows that are computed together; a product has a multiple of them.
pub const ROWS: usize = 8;
/// Numbers of a vector.
const LANES: usize = 16;

/// `c = a b`, or `c += a b`. Each sum runs over `depth` in order, and each product is fused with it.
pub struct Product {
    /// `[rows, depth]`, rows `stride` numbers apart.
    pub a: *const f32,
    /// From a row of `a` to the next.
    pub stride: usize,
    /// A multiple of [`ROWS`].
    pub rows: usize,
    /// Numbers of a row of `a` that count.
    pub depth: usize,
    /// `[depth, PANEL]`.
    pub b: *const f32,
    /// `[rows, PANEL]`.
    pub c: *mut f32,
    /// How many columns of the panel are wanted: 16 or 32.
    pub columns: usize,
    /// Whether `c` is added to.
    pub add: bool,
}

impl Product {
    /// Computes it.
    ///
    /// # Safety
    /// The pointers are good for the shapes above, and `c` overlaps nothing.
    pub unsafe fn run(self, isa: Isa) {
        debug_assert!(
            self.rows.is_multiple_of(ROWS) && (self.columns == LANES || self.columns == PANEL)
        );
        // SAFETY: the caller's promise.
        unsafe { on(isa, self) }
    }

    #[inline(always)]
    unsafe fn tiles<L: Lanes, const R: usize, const C: usize>(&self) {
        const { assert!(ROWS.is_multiple_of(R) && PANEL.is_multiple_of(C * LANES)) };
        for column in (0..self.columns).step_by(C * LANES) {
            for row in (0..self.rows).step_by(R) {
                // SAFETY: row and column are within the bounds that the caller promises.
                unsafe { self.tile::<L, R, C>(row, column) };
            }
        }
    }

    /// `R` rows of `C` vectors, held in registers over the whole depth.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const C: usize>(&self, row: usize, column: usize) {
        // SAFETY: all pointers stay within what the caller promises.
        unsafe {
            let (a, b) = (self.a.add(row * self.stride), self.b.add(column));
            let c = self.c.add(row * PANEL + column);
            let mut sums = [[L::splat(0.0); C]; R];
            if self.add {
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = L::load(c.add(r * PANEL + v * LANES));
                    }
                }
            }
            // What is multiplied next mostly stands behind this panel: each block of rows asks for its share of it. Nothing is
            // read, so it may be the end of all.
            let share = size_of::<f32>() * PANEL * R / self.rows;
            let next = self.b.wrapping_add(self.depth * PANEL).cast::<u8>();
            let next = next.wrapping_add(row / R * self.depth * share);
            for k in 0..self.depth {
                L::prefetch(next.wrapping_add(k * share));
                let mut columns = [L::splat(0.0); C];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = L::load(b.add(k * PANEL + v * LANES));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = L::splat(*a.add(r * self.stride + k));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = L::fma(x, column, *sum);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    L::store(c.add(r * PANEL + v * LANES), *sum);
                }
            }
        }
    }
}

impl Work for Product {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match (L::ROOM >= 16, self.columns) {
                (true, PANEL) => self.tiles::<L, 8, 2>(),
                (true, _) => self.tiles::<L, 8, 1>(),
                // With half as many registers, or narrower ones.
                (false, _) => self.tiles::<L, 4, 1>(),
            }
        }
    }
}
