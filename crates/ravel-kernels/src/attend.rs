//! Attention of a few positions over the keys and values of all earlier ones, which stay where they are.
//!
//! From the product of the layer's input with its query, key and value weights to the joined heads: heads are normalised and
//! turned, the new keys and values written to their place, scores taken, weighed and mixed, a head by a thread. The order of every
//! sum is fixed by the head alone.

use std::cell::RefCell;

use crate::curve::exp;
use crate::isa::{Isa, Lanes, Set};
use crate::pool::{Parts, Pool};

/// What is there, in numbers.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Rows.
    pub batch: usize,
    /// New positions of each.
    pub n: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Numbers in one head.
    pub width: usize,
    /// Positions that keys and values have room for.
    pub capacity: usize,
    /// Positions before the new ones.
    pub past: usize,
    /// The first position in sight; from it on to the last new one they are.
    pub first: usize,
}

impl Shape {
    /// Positions in sight.
    pub fn seen(&self) -> usize {
        self.past + self.n - self.first
    }

    fn check(&self, inputs: &Inputs, keys: &[f32], values: &[f32], out: &[f32]) {
        let Self {
            batch, n, width, ..
        } = *self;
        let heads = self.n_heads + 2 * self.n_kv_heads;
        assert_eq!(inputs.qkv.len(), batch * n * heads * width, "width axis");
        assert!(self.n_kv_heads > 0 && self.n_heads.is_multiple_of(self.n_kv_heads));
        assert!(
            self.first <= self.past && self.past + n <= self.capacity,
            "position axis"
        );
        let room = batch * self.n_kv_heads * self.capacity * width;
        assert!(
            keys.len() == room && values.len() == room,
            "room of the memory"
        );
        assert_eq!(
            out.len(),
            batch * n * self.n_heads * width,
            "out does not fit"
        );
        assert!(inputs.scales.len() == 1 || inputs.scales.len() == self.n_heads);
        if let Some(turn) = &inputs.turn {
            assert!(turn.cos.len() == n * width && turn.sin.len() == n * width);
            assert!(width.is_multiple_of(2));
        }
        if let HeadNorm::Rms { q, k, .. } = inputs.norm {
            assert!(q.len() == width && k.len() == width);
        }
        if let Some(mask) = &inputs.mask {
            let [b, h, p] = [mask.batch, mask.heads, mask.positions];
            assert!((b == 1 || b == batch) && (h == 1 || h == self.n_heads));
            assert!(p == 1 || p == n, "position axis of the mask");
            assert_eq!(mask.values.len(), b * h * p * self.seen(), "mask");
        }
    }
}

/// How heads of queries and keys are brought to a length.
#[derive(Debug, Clone, Copy)]
pub enum HeadNorm<'a> {
    /// As they come.
    None,
    /// Over their root mean square, times a gain each for queries and keys, `[width]`.
    Rms {
        /// Gain of queries.
        q: &'a [f32],
        /// Gain of keys.
        k: &'a [f32],
        /// Added to the mean square.
        eps: f32,
    },
    /// To length one; shorter than `eps` counts as `eps`.
    Unit {
        /// The least length.
        eps: f32,
    },
}

/// The turn of each new position: a number times its cosine, plus its partner times its sine.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// `[n, width]`.
    pub cos: &'a [f32],
    /// `[n, width]`, negative for the first of a pair.
    pub sin: &'a [f32],
    /// Whether partners are neighbours, rather than half a head apart.
    pub interleaved: bool,
}

/// What is added to scores.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    /// `[batch, heads, positions, seen]`.
    pub values: &'a [f32],
    /// The batch or one.
    pub batch: usize,
    /// The query heads or one.
    pub heads: usize,
    /// The new positions or one.
    pub positions: usize,
}

/// What a step brings.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// `[batch, n, n_heads + 2 n_kv_heads, width]`: queries, keys, values.
    pub qkv: &'a [f32],
    /// Length of heads.
    pub norm: HeadNorm<'a>,
    /// Rotary positions.
    pub turn: Option<Turn<'a>>,
    /// Factor on the scores, one or one per query head.
    pub scales: &'a [f32],
    /// Who does not see whom.
    pub mask: Option<Mask<'a>>,
}

/// Attention; writes the new keys and values to the memory.
///
/// # Shapes
/// - `keys`, `values`: `[batch, n_kv_heads, capacity, width]`
/// - `out`: `[batch, n, n_heads, width]`
///
/// # Panics
/// If a length does not fit.
pub fn attend(
    pool: &Pool,
    isa: Isa,
    shape: &Shape,
    inputs: &Inputs,
    keys: &mut [f32],
    values: &mut [f32],
    out: &mut [f32],
) {
    shape.check(inputs, keys, values, out);
    let (keys, values, out) = (Parts::new(keys), Parts::new(values), Parts::new(out));
    let room = shape.capacity * shape.width;
    let work = |piece: usize| {
        let memory = piece * room..(piece + 1) * room;
        // SAFETY: each piece has the memory of one key and value head of one row.
        let (keys, values) = unsafe { (keys.part(memory.clone()), values.part(memory)) };
        let (row, head) = (piece / shape.n_kv_heads, piece % shape.n_kv_heads);
        let work = Work {
            shape,
            inputs,
            row,
            head,
            keys,
            values,
            out: &out,
        };
        // SAFETY: the machine has the set of an `Isa`.
        unsafe {
            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                Set::Avx512 => on_avx512(work),
                #[cfg(target_arch = "x86_64")]
                Set::Avx2 => on_avx2(work),
                #[cfg(target_arch = "aarch64")]
                Set::Neon => work.run::<crate::isa::Neon>(),
                _ => work.run::<crate::isa::Scalar>(),
            }
        }
    };
    let pieces = shape.batch * shape.n_kv_heads;
    // A short memory is done before another thread is there.
    match pieces * (shape.seen() + 8) * shape.width < 1 << 14 {
        true => (0..pieces).for_each(work),
        false => pool.run(pieces, &work),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
unsafe fn on_avx512(work: Work) {
    // SAFETY: as the caller promises.
    unsafe { work.run::<crate::isa::Avx512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn on_avx2(work: Work) {
    // SAFETY: as the caller promises.
    unsafe { work.run::<crate::isa::Avx2>() }
}

thread_local! {
    /// A query and its scores; a thread uses the same room again and again.
    static ROOM: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// One row's key and value head, and the query heads that read it.
struct Work<'a> {
    shape: &'a Shape,
    inputs: &'a Inputs<'a>,
    row: usize,
    head: usize,
    keys: &'a mut [f32],
    values: &'a mut [f32],
    out: &'a Parts<'a, f32>,
}

impl Work<'_> {
    /// # Safety
    /// The machine has the set's instructions.
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Shape {
            n,
            n_heads,
            n_kv_heads,
            width,
            past,
            ..
        } = *self.shape;
        let inputs = self.inputs;
        let all = n_heads + 2 * n_kv_heads;
        let head = |position: usize, head: usize| {
            let start = ((self.row * n + position) * all + head) * width;
            &inputs.qkv[start..start + width]
        };
        for position in 0..n {
            let place = (past + position) * width..(past + position + 1) * width;
            let gain = match inputs.norm {
                HeadNorm::Rms { k, .. } => k,
                _ => &[],
            };
            let key = head(position, n_heads + self.head);
            placed(inputs, position, key, gain, &mut self.keys[place.clone()]);
            let value = head(position, n_heads + n_kv_heads + self.head);
            self.values[place].copy_from_slice(value);
        }
        let group = n_heads / n_kv_heads;
        // Taken and put back rather than borrowed: in a closure the set's instructions would be calls.
        let (mut query, mut scores) = ROOM.take();
        query.resize(width, 0.0);
        scores.resize(self.shape.seen(), 0.0);
        for q_head in self.head * group..(self.head + 1) * group {
            for position in 0..n {
                let gain = match inputs.norm {
                    HeadNorm::Rms { q, .. } => q,
                    _ => &[],
                };
                placed(inputs, position, head(position, q_head), gain, &mut query);
                let scale = inputs.scales[q_head % inputs.scales.len()];
                query.iter_mut().for_each(|x| *x *= scale);
                let start = ((self.row * n + position) * n_heads + q_head) * width;
                // SAFETY: each query head of a row and position is written by the piece that has its keys; the set is there.
                unsafe {
                    let out = self.out.part(start..start + width);
                    self.query::<L>(&query, position, q_head, &mut scores, out);
                }
            }
        }
        ROOM.set((query, scores));
    }

    /// # Safety
    /// As [`Work::run`].
    #[inline(always)]
    unsafe fn query<L: Lanes>(
        &self,
        query: &[f32],
        position: usize,
        q_head: usize,
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        let Shape { width, first, .. } = *self.shape;
        let seen = scores.len();
        let keys = &self.keys[first * width..(first + seen) * width];
        let values = &self.values[first * width..(first + seen) * width];
        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(width)) {
            // SAFETY: as the caller promises.
            *score = unsafe { dot::<L>(query, key) };
        }
        if let Some(mask) = &self.inputs.mask {
            let (row, head) = (self.row % mask.batch, q_head % mask.heads);
            let at = position % mask.positions;
            let start = ((row * mask.heads + head) * mask.positions + at) * seen;
            for (score, add) in scores.iter_mut().zip(&mask.values[start..start + seen]) {
                *score += add;
            }
        }
        let sum = softened(scores);
        // SAFETY: as the caller promises.
        unsafe { mixed::<L>(scores, values, out) };
        let share = 1.0 / sum;
        out.iter_mut().for_each(|x| *x *= share);
    }
}

/// A head of queries or keys as it meets the others.
#[inline(always)]
pub(crate) fn placed(inputs: &Inputs, position: usize, head: &[f32], gain: &[f32], to: &mut [f32]) {
    let width = head.len();
    to.copy_from_slice(head);
    match inputs.norm {
        HeadNorm::None => {}
        HeadNorm::Rms { eps, .. } => {
            let by = 1.0 / (squares(head) / width as f32 + eps).sqrt();
            for (to, gain) in to.iter_mut().zip(gain) {
                *to = *to * by * gain;
            }
        }
        HeadNorm::Unit { eps } => {
            let by = 1.0 / squares(head).sqrt().max(eps);
            to.iter_mut().for_each(|to| *to *= by);
        }
    }
    let Some(turn) = &inputs.turn else {
        return;
    };
    let here = position * width..(position + 1) * width;
    let (cos, sin) = (&turn.cos[here.clone()], &turn.sin[here]);
    let turned = |x: f32, partner: f32, at: usize| x * cos[at] + partner * sin[at];
    if turn.interleaved {
        for at in (0..width).step_by(2) {
            let (a, b) = (to[at], to[at + 1]);
            (to[at], to[at + 1]) = (turned(a, b, at), turned(b, a, at + 1));
        }
    } else {
        let half = width / 2;
        for at in 0..half {
            let (a, b) = (to[at], to[at + half]);
            (to[at], to[at + half]) = (turned(a, b, at), turned(b, a, at + half));
        }
    }
}

/// The sum of squares in sixteen lanes.
#[inline(always)]
pub(crate) fn squares(numbers: &[f32]) -> f32 {
    summed(numbers, |x| x * x)
}

/// The sum of what becomes of numbers, in sixteen lanes.
#[inline(always)]
pub(crate) fn summed(numbers: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let mut chunks = numbers.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += of(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += of(*x);
    }
    folded(lanes)
}

#[inline(always)]
fn folded(mut lanes: [f32; 16]) -> f32 {
    for apart in [8, 4, 2, 1] {
        for lane in 0..apart {
            lanes[lane] += lanes[lane + apart];
        }
    }
    lanes[0]
}

/// Turns scores to weights that are not divided by their sum yet, which is returned.
#[inline(always)]
fn softened(scores: &mut [f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; 16];
    let mut chunks = scores.chunks_exact(16);
    for chunk in &mut chunks {
        for (most, score) in most.iter_mut().zip(chunk) {
            *most = if *score > *most { *score } else { *most };
        }
    }
    let rest = chunks.remainder().iter();
    let most = most
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let mut lanes = [0f32; 16];
    let mut chunks = scores.chunks_exact_mut(16);
    for chunk in &mut chunks {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *score = exp(*score - most);
            *lane += *score;
        }
    }
    for (lane, score) in lanes.iter_mut().zip(chunks.into_remainder()) {
        *score = exp(*score - most);
        *lane += *score;
    }
    folded(lanes)
}

/// # Safety
/// The set is there; both have the same length.
#[inline(always)]
unsafe fn dot<L: Lanes>(a: &[f32], b: &[f32]) -> f32 {
    let (whole, len) = (a.len() / 16 * 16, a.len());
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: all places are below the length of both.
    unsafe {
        let mut acc = L::splat(0.0);
        let mut at = 0;
        while at < whole {
            acc = L::fma(L::load(a.add(at)), L::load(b.add(at)), acc);
            at += 16;
        }
        let mut sum = L::sum(acc);
        while at < len {
            sum = (*a.add(at)).mul_add(*b.add(at), sum);
            at += 1;
        }
        sum
    }
}

/// `out` becomes the sum of the values' rows times their weights.
///
/// # Safety
/// The set is there; `values` has as many rows as there are weights, each as long as `out`.
#[inline(always)]
unsafe fn mixed<L: Lanes>(weights: &[f32], values: &[f32], out: &mut [f32]) {
    let (width, values, to) = (out.len(), values.as_ptr(), out.as_mut_ptr());
    // SAFETY: as the caller promises.
    unsafe {
        let mut at = 0;
        while at + 64 <= width {
            mixed_columns::<L, 4>(weights, values.add(at), width, to.add(at));
            at += 64;
        }
        while at + 16 <= width {
            mixed_columns::<L, 1>(weights, values.add(at), width, to.add(at));
            at += 16;
        }
        while at < width {
            let mut sum = 0f32;
            for (row, weight) in weights.iter().enumerate() {
                sum = weight.mul_add(*values.add(row * width + at), sum);
            }
            *to.add(at) = sum;
            at += 1;
        }
    }
}

/// # Safety
/// As [`mixed`], of `V` times sixteen columns.
#[inline(always)]
unsafe fn mixed_columns<L: Lanes, const V: usize>(
    weights: &[f32],
    values: *const f32,
    width: usize,
    to: *mut f32,
) {
    // SAFETY: as the caller promises: a row for each weight, and from `values` and `to` on `V` times sixteen numbers of it.
    unsafe {
        let mut acc = [L::splat(0.0); V];
        for (row, weight) in weights.iter().enumerate() {
            let weight = L::splat(*weight);
            let from = values.add(row * width);
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = L::fma(weight, L::load(from.add(16 * v)), *acc);
            }
        }
        for (v, acc) in acc.iter().enumerate() {
            L::store(to.add(16 * v), *acc);
        }
    }
}

#[cfg(test)]
mod tests;
