//! Loops over weights that are real numbers: as they are, as a table of rows, or in panels.

use super::AHEAD;
use crate::isa::Lanes;

/// `M` rows of `x` with `count` columns of a matrix whose rows are `n` apart, eight of its rows at a time.
///
/// # Safety
/// The set is there. `weights` has `k` rows of `count` numbers, `n` apart, `x` has `M` rows of `k`, and `sums` room for `M` rows of `count`,
/// `stride` apart.
#[inline(always)]
pub(super) unsafe fn plain<L: Lanes, const M: usize>(
    weights: *const f32,
    [k, n]: [usize; 2],
    x: *const f32,
    sums: *mut f32,
    stride: usize,
    count: usize,
) {
    // SAFETY: as the caller promises: rows are below `k` or `M`, columns below `count`; a step goes over whole vectors of both.
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
///
/// # Safety
/// As [`plain`], with `R` rows in `weights`; `count` is a multiple of 16.
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
    // SAFETY: as the caller promises: rows are below `R` or `M`, and sixteen columns from `column` on are within `count`.
    unsafe {
        let mut column = 0;
        while column < count {
            let mut w = [L::splat(0.0); R];
            for (at, w) in w.iter_mut().enumerate() {
                let from = weights.add(at * n + column);
                // These columns of the next rows: what lies behind these is not what comes next.
                L::prefetch(from.wrapping_add(R * n).cast());
                *w = L::load(from);
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
///
/// # Safety
/// The set is there. `weights` has `count` rows of `k` numbers, `x` has `M` of them, and `sums` room for `M` rows of `count`, `stride` apart.
#[inline(always)]
pub(super) unsafe fn table<L: Lanes, const M: usize>(
    weights: *const f32,
    k: usize,
    x: *const f32,
    sums: *mut f32,
    stride: usize,
    count: usize,
) {
    // SAFETY: as the caller promises: rows are below `count` or `M`, and places, or sixteen from one on, within `k`.
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
pub(super) trait Real {
    const BYTES: usize;
    /// Whether they come from memory rather than from the first cache.
    const STREAMED: bool = true;
    /// # Safety
    /// The set is there, and so are sixteen numbers.
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F;
}

/// Half precision.
pub(super) struct Half;
/// bfloat16.
pub(super) struct Brain;
/// f32.
pub(super) struct Whole;
/// f32 that was brought together, or that the rows before brought.
pub(super) struct Gathered;

impl Real for Half {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F {
        // SAFETY: as the caller promises.
        unsafe { L::load_f16(from.cast()) }
    }
}

impl Real for Brain {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F {
        // SAFETY: as the caller promises.
        unsafe { L::load_bf16(from.cast()) }
    }
}

impl Real for Whole {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F {
        // SAFETY: as the caller promises.
        unsafe { L::load(from.cast()) }
    }
}

impl Real for Gathered {
    const BYTES: usize = 4;
    const STREAMED: bool = false;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F {
        // SAFETY: as the caller promises.
        unsafe { L::load(from.cast()) }
    }
}

/// `M` rows of `x`, `apart` from each other, with `k` rows of a panel of 64 columns; with `more`, on top of the sums that are there.
///
/// # Safety
/// The set is there. `weights` has `k` rows of 64 numbers, `x` has `M` rows of `k`, and `sums` has room for `M` rows of 64, `stride` apart.
#[inline(always)]
pub(super) unsafe fn panel_of_64<L: Lanes, const M: usize, T: Real>(
    weights: *const u8,
    k: usize,
    x: *const f32,
    apart: usize,
    sums: *mut f32,
    stride: usize,
    more: bool,
) {
    // SAFETY: as the caller promises: four times sixteen columns are the 64.
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

/// Sixteen times `V` of the columns, from where `weights` and `sums` begin.
///
/// # Safety
/// As [`panel_of_64`], with as many columns from there on.
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
    // SAFETY: as the caller promises: rows are below `k` or `M`, and vectors of sixteen columns below `V`.
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
                // A row has as many lines as a number has bytes.
                for line in 0..T::BYTES {
                    L::prefetch(from.wrapping_add(AHEAD + 64 * line));
                }
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
