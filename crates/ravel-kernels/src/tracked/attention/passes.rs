//! The two passes over a share of the heads.

use half::bf16;

use super::piece::{Piece, Queries};
use crate::conv::buffer::Aligned;
use crate::conv::work::Work;
use crate::curve::exp;
use crate::halves::pair_up;
use crate::isa::Lanes;
use crate::norm::Stored;
use crate::pool::Parts;
use crate::tiles::{Block, PANEL, ROWS, Ready, TILE};

/// Rows' numbers into a panel in which they are columns: `[deep / 2, PANEL, 2]`.
#[inline(always)]
fn to_column(numbers: &[f32], lane: usize, panel: &mut [bf16]) {
    for (at, x) in numbers.iter().enumerate() {
        panel[(at / 2 * PANEL + lane) * 2 + at % 2] = bf16::of(*x);
    }
}

/// Rows' numbers into panels in which they are rows: `[deep / 32, PANEL / 2, PANEL, 2]`.
#[inline(always)]
fn to_depth(numbers: &[f32], lane: usize, panels: &mut [bf16]) {
    for (at, x) in numbers.iter().enumerate() {
        let start = at / PANEL * ROWS * PANEL;
        panels[start + (lane / 2 * PANEL + at % PANEL) * 2 + lane % 2] = bf16::of(*x);
    }
}

/// Puts the mask on the scores of one block of keys.
#[inline(always)]
fn masked(scores: &mut [f32], block: usize, queries: &Queries, padded: usize) {
    if queries.mask.is_empty() {
        return;
    }
    for (row, scores) in lanes_mut(scores).iter_mut().enumerate() {
        let mask = &queries.mask[(block * ROWS + row) * padded + queries.first..][..PANEL];
        for (score, more) in scores.iter_mut().zip(mask) {
            *score += more;
        }
    }
}

/// Rows of a panel.
#[inline(always)]
fn lanes_mut<T>(values: &mut [T]) -> &mut [[T; PANEL]] {
    values.as_chunks_mut().0
}

pub(super) struct Forward<'a>(
    pub(super) Piece<'a>,
    pub(super) &'a Parts<'a, f32>,
    pub(super) &'a Parts<'a, f32>,
);

impl Work for Forward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self(piece, out, logs) = self;
        let s = piece.setting;
        let (n, width, deep, padded) = (s.n, s.width, s.deep(), s.padded());
        let ready = s.unit.ready();
        let mut keys = Aligned::<bf16>::zeros(padded * deep);
        let mut values = Aligned::<bf16>::zeros(deep * padded);
        let mut head = vec![0.0; width];
        for position in 0..n {
            piece.key(position, &mut head);
            let to = &mut keys[position * deep..];
            to.iter_mut()
                .zip(&head)
                .for_each(|(to, x)| *to = bf16::of(*x));
            for (at, x) in piece.value(position).iter().enumerate() {
                values[at * padded + position] = bf16::of(*x);
            }
        }
        let mut columns = Aligned::<bf16>::zeros(deep * PANEL);
        let mut room = Aligned::<f32>::zeros(padded * PANEL);
        let mut weights = Aligned::<bf16>::zeros(padded * PANEL);
        let mut mixed = Aligned::<f32>::zeros(deep * PANEL);
        let mut places = Vec::with_capacity(padded / ROWS);
        for queries in piece.blocks() {
            let lanes = ROWS.min(n - queries.first);
            for lane in 0..lanes {
                piece.query(queries.first + lane, queries.head, &mut head);
                to_column(&head, lane, &mut columns);
            }
            let rows = queries.seen.len() * ROWS;
            let scores = &mut room[..rows * PANEL];
            // SAFETY: see there.
            unsafe { piece.by_keys(&ready, &keys, &columns, queries.seen, scores) };
            let mut most = [f32::NEG_INFINITY; PANEL];
            for (scores, block) in scores.chunks_exact_mut(ROWS * PANEL).zip(queries.seen) {
                masked(scores, *block, &queries, padded);
                for scores in lanes_mut(scores) {
                    for lane in 0..PANEL {
                        let score = scores[lane];
                        most[lane] = if score > most[lane] {
                            score
                        } else {
                            most[lane]
                        };
                    }
                }
            }
            let mut sums = [0f32; PANEL];
            let pairs = lanes_mut(scores).as_chunks_mut::<2>().0.iter_mut();
            for ([low, high], to) in pairs.zip(weights.as_chunks_mut().0) {
                for lane in 0..PANEL {
                    low[lane] = exp(low[lane] - most[lane]);
                    high[lane] = exp(high[lane] - most[lane]);
                    sums[lane] += low[lane] + high[lane];
                }
                pair_up(low, high, to);
            }
            places.clear();
            places.extend(queries.seen.iter().map(|block| block * ROWS));
            // SAFETY: see there.
            unsafe { piece.over_keys(&ready, &values, &weights, &places, &mut mixed) };
            for lane in 0..lanes {
                let position = queries.first + lane;
                let start = ((piece.row * n + position) * s.n_heads + queries.head) * width;
                // SAFETY: each head of a position is written by the piece that has it.
                let to = unsafe { out.part(start..start + width) };
                let share = 1.0 / sums[lane];
                for (at, to) in to.iter_mut().enumerate() {
                    *to = mixed[at * PANEL + lane] * share;
                }
            }
            let start = (piece.row * s.n_heads + queries.head) * padded + queries.first;
            // SAFETY: likewise.
            let logs = unsafe { logs.part(start..start + PANEL) };
            for ((log, most), sum) in logs.iter_mut().zip(most).zip(sums) {
                *log = most + sum.ln();
            }
        }
    }
}

pub(super) struct Back<'a> {
    pub(super) piece: Piece<'a>,
    pub(super) grad: &'a [f32],
    pub(super) sums: &'a [f32],
    pub(super) out: &'a Parts<'a, f32>,
    pub(super) to_gains: &'a mut [f32],
}

impl Work for Back<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self {
            piece,
            grad,
            sums,
            out,
            to_gains,
        } = self;
        let s = piece.setting;
        let (n, width, deep, padded) = (s.n, s.width, s.deep(), s.padded());
        let (to_q_gain, to_k_gain) = to_gains.split_at_mut(width);
        let ready = s.unit.ready();
        let halves = Aligned::<bf16>::zeros;
        let (mut keys, mut values) = (halves(padded * deep), halves(padded * deep));
        let mut turned = halves(deep * padded);
        let mut head = vec![0.0; width];
        for position in 0..n {
            piece.key(position, &mut head);
            for (at, x) in head.iter().enumerate() {
                let x = bf16::of(*x);
                keys[position * deep + at] = x;
                turned[at * padded + position] = x;
            }
            let to = &mut values[position * deep..];
            let value = piece.value(position);
            to.iter_mut()
                .zip(value)
                .for_each(|(to, x)| *to = bf16::of(*x));
        }
        // Queries and the gradients of their heads, as columns and along the depth.
        let (mut q_columns, mut q_depth) = (halves(deep * PANEL), halves(deep * PANEL));
        let (mut o_columns, mut o_depth) = (halves(deep * PANEL), halves(deep * PANEL));
        let reals = Aligned::<f32>::zeros;
        let (mut p_room, mut d_room) = (reals(padded * PANEL), reals(padded * PANEL));
        let (mut p_rows, mut d_rows) = (halves(padded * PANEL), halves(padded * PANEL));
        let mut d_panel = halves(padded * PANEL);
        let mut to_query = reals(deep * PANEL);
        // `[blocks of keys, deep / 32, ROWS, PANEL]`
        let (mut to_keys, mut to_values) = (reals(padded * deep), reals(padded * deep));
        let mut places = Vec::with_capacity(padded / ROWS);
        for queries in piece.blocks() {
            let lanes = ROWS.min(n - queries.first);
            for panel in [&mut q_columns, &mut q_depth, &mut o_columns, &mut o_depth] {
                if lanes < ROWS {
                    panel.fill(bf16::ZERO);
                }
            }
            for lane in 0..lanes {
                let position = queries.first + lane;
                piece.query(position, queries.head, &mut head);
                to_column(&head, lane, &mut q_columns);
                to_depth(&head, lane, &mut q_depth);
                let start = ((piece.row * n + position) * s.n_heads + queries.head) * width;
                let grad = &grad[start..start + width];
                to_column(grad, lane, &mut o_columns);
                to_depth(grad, lane, &mut o_depth);
            }
            let rows = queries.seen.len() * ROWS;
            let weights = &mut p_room[..rows * PANEL];
            let slopes = &mut d_room[..rows * PANEL];
            // SAFETY: see there.
            unsafe {
                piece.by_keys(&ready, &keys, &q_columns, queries.seen, weights);
                piece.by_keys(&ready, &values, &o_columns, queries.seen, slopes);
            }
            let start = (piece.row * s.n_heads + queries.head) * padded + queries.first;
            let mut logs = [0f32; PANEL];
            logs.copy_from_slice(&sums[start..start + PANEL]);
            let mut along = [0f32; PANEL];
            for (at, block) in queries.seen.iter().enumerate() {
                let weights = &mut weights[at * ROWS * PANEL..][..ROWS * PANEL];
                masked(weights, *block, &queries, padded);
                let slopes = &mut slopes[at * ROWS * PANEL..][..ROWS * PANEL];
                for (weights, slopes) in lanes_mut(weights).iter_mut().zip(lanes_mut(slopes)) {
                    for lane in 0..PANEL {
                        weights[lane] = exp(weights[lane] - logs[lane]);
                        along[lane] += weights[lane] * slopes[lane];
                    }
                }
            }
            let rounded = lanes_mut(&mut p_rows)
                .iter_mut()
                .zip(lanes_mut(&mut d_rows));
            let both = lanes_mut(weights).iter().zip(lanes_mut(slopes));
            for ((weights, slopes), (p_row, d_row)) in both.zip(rounded) {
                for lane in 0..PANEL {
                    slopes[lane] = weights[lane] * (slopes[lane] - along[lane]);
                    p_row[lane] = bf16::of(weights[lane]);
                    d_row[lane] = bf16::of(slopes[lane]);
                }
            }
            let pairs = lanes_mut(slopes).as_chunks_mut::<2>().0.iter();
            for ([low, high], to) in pairs.zip(d_panel.as_chunks_mut().0) {
                pair_up(low, high, to);
            }
            for (at, block) in queries.seen.iter().enumerate() {
                let rows = at * ROWS * PANEL..(at + 1) * ROWS * PANEL;
                for part in 0..deep / PANEL {
                    let panel = part * ROWS * PANEL..(part + 1) * ROWS * PANEL;
                    let to = (block * deep / PANEL + part) * ROWS * PANEL;
                    // SAFETY: see there.
                    unsafe {
                        add(
                            &ready,
                            &p_rows[rows.clone()],
                            &o_depth[panel.clone()],
                            &mut to_values[to..],
                        );
                        add(
                            &ready,
                            &d_rows[rows.clone()],
                            &q_depth[panel],
                            &mut to_keys[to..],
                        );
                    }
                }
            }
            places.clear();
            places.extend(queries.seen.iter().map(|block| block * ROWS));
            // SAFETY: see there.
            unsafe { piece.over_keys(&ready, &turned, &d_panel, &places, &mut to_query) };
            for lane in 0..lanes {
                let position = queries.first + lane;
                for (at, to) in head.iter_mut().enumerate() {
                    *to = to_query[at * PANEL + lane] * s.scale;
                }
                // SAFETY: each head of a position is written by the piece that has it.
                let to = unsafe { out.part(piece.place(position, queries.head)) };
                piece.unplaced(
                    position,
                    queries.head,
                    &mut head,
                    to,
                    to_q_gain,
                    piece.gains[0],
                );
            }
        }
        for position in 0..n {
            let (block, row) = (position / ROWS, position % ROWS);
            let number = |from: &[f32], at: usize| {
                from[((block * deep / PANEL + at / PANEL) * ROWS + row) * PANEL + at % PANEL]
            };
            for (at, to) in head.iter_mut().enumerate() {
                *to = number(&to_keys, at);
            }
            let key = s.n_heads + piece.head;
            // SAFETY: as above.
            let to = unsafe { out.part(piece.place(position, key)) };
            piece.unplaced(position, key, &mut head, to, to_k_gain, piece.gains[1]);
            // SAFETY: as above.
            let to = unsafe { out.part(piece.place(position, key + s.n_kv_heads)) };
            for (at, to) in to.iter_mut().enumerate() {
                *to = number(&to_values, at);
            }
        }
    }
}

/// `to += rows · panel`, 32 by 32 by 32.
///
/// # Safety
/// The unit is ready on this thread.
#[inline(always)]
unsafe fn add(ready: &Ready, rows: &[bf16], panel: &[bf16], to: &mut [f32]) {
    assert!(rows.len() == ROWS * PANEL && panel.len() == ROWS * PANEL);
    let block = Block {
        first: rows.as_ptr(),
        second: rows[TILE * PANEL..].as_ptr(),
        stride: PANEL,
        places: &[0],
        depth: PANEL,
        panel: panel.as_ptr(),
        to: to[..ROWS * PANEL].as_mut_ptr(),
    };
    // SAFETY: all three are whole blocks.
    unsafe { ready.multiply::<true>(&block) };
}
