//! Loops over weights of eight and four bits, with activations in levels.

use super::AHEAD;
use crate::blocks::BLOCK;
use crate::isa::Lanes;

/// Rows of activations in levels: `[rows, blocks * 32]`, and their scales and sums, `[rows, blocks]`.
#[derive(Clone, Copy)]
pub(super) struct Levels {
    pub(super) levels: *const i8,
    pub(super) scales: *const f32,
    pub(super) sums: *const i32,
    pub(super) blocks: usize,
}

impl Levels {
    /// Four levels of a row from `at` on.
    ///
    /// # Safety
    /// The row is there, and `at` is four before its end at most.
    #[inline(always)]
    unsafe fn four(&self, row: usize, at: usize) -> i32 {
        // SAFETY: a row is its blocks, and four levels from `at` on are within it, as the caller promises.
        unsafe {
            let from = self.levels.add(row * self.blocks * BLOCK + at);
            from.cast::<i32>().read_unaligned()
        }
    }
}

/// `M` rows with a panel of 32 columns in eight bits.
///
/// # Safety
/// The set is there, the rows are `M` at least and `weights` as many blocks; `sums` has room for `M` rows of 32, `stride` apart.
#[inline(always)]
pub(super) unsafe fn eight<L: Lanes, const M: usize>(
    weights: *const u8,
    rows: Levels,
    sums: *mut f32,
    stride: usize,
) {
    const BYTES: usize = BLOCK * BLOCK + 2 * BLOCK;
    // SAFETY: as the caller promises: a block of weights is eight groups of 128 bytes, then its scales, and one of a row is eight
    // times four levels, a scale and a sum.
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
///
/// # Safety
/// As [`eight`].
#[inline(always)]
pub(super) unsafe fn four<L: Lanes, const M: usize>(
    weights: *const u8,
    rows: Levels,
    sums: *mut f32,
    stride: usize,
) {
    const BYTES: usize = BLOCK * BLOCK / 2 + 2 * BLOCK;
    // SAFETY: as the caller promises: a block of weights is four pairs of groups of 128 bytes, then its scales, and one of a row is
    // four times eight levels, a scale and a sum.
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
///
/// # Safety
/// The set is there, `scales` has 32 of them, and the rows are `M` at least with this block among theirs.
#[inline(always)]
unsafe fn scaled<L: Lanes, const M: usize>(
    scales: *const u8,
    rows: Levels,
    block: usize,
    dots: &[[L::I; 2]; M],
    acc: &mut [[L::F; 2]; M],
) {
    // SAFETY: as the caller promises; the 32 scales are twice sixteen.
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

/// # Safety
/// The set is there; `sums` has room for `M` rows of 32, `stride` apart.
#[inline(always)]
unsafe fn store_two<L: Lanes, const M: usize>(acc: &[[L::F; 2]; M], sums: *mut f32, stride: usize) {
    for (m, acc) in acc.iter().enumerate() {
        for (v, acc) in acc.iter().enumerate() {
            // SAFETY: as the caller promises: row `m` is below `M`, and sixteen from 0 or 16 on are within its 32.
            unsafe { L::store(sums.add(m * stride + 16 * v), *acc) }
        }
    }
}
