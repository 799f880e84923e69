//! A share of the heads: how numbers come in and go out.

use half::bf16;

use super::Setting;
use crate::attend::{HeadNorm, Inputs, placed};
use crate::tiles::{Block, PANEL, ROWS, Ready, TILE};
use crate::tracked::norm;

/// One key and value head of a row, and the query heads that read it.
pub(super) struct Piece<'a> {
    pub(super) setting: &'a Setting,
    pub(super) inputs: Inputs<'a>,
    pub(super) gains: [&'a [f32]; 2],
    pub(super) row: usize,
    pub(super) head: usize,
}

/// 32 queries.
pub(super) struct Queries<'a> {
    pub(super) head: usize,
    pub(super) first: usize,
    /// Blocks of keys in sight.
    pub(super) seen: &'a [usize],
    /// `[keys, queries]` of this head, or nothing.
    pub(super) mask: &'a [f32],
}

impl<'a> Piece<'a> {
    pub(super) fn new(
        setting: &'a Setting,
        qkv: &'a [f32],
        gains: Option<[&'a [f32]; 2]>,
        piece: usize,
    ) -> Self {
        Self {
            setting,
            inputs: setting.inputs(qkv, gains),
            gains: gains.unwrap_or_default(),
            row: piece / setting.n_kv_heads,
            head: piece % setting.n_kv_heads,
        }
    }

    /// Where a head of `qkv` stands.
    #[inline(always)]
    pub(super) fn place(&self, position: usize, head: usize) -> std::ops::Range<usize> {
        let s = self.setting;
        let all = s.n_heads + 2 * s.n_kv_heads;
        let start = ((self.row * s.n + position) * all + head) * s.width;
        start..start + s.width
    }

    /// A key as it meets the queries.
    #[inline(always)]
    pub(super) fn key(&self, position: usize, to: &mut [f32]) {
        let place = self.place(position, self.setting.n_heads + self.head);
        placed(
            &self.inputs,
            position,
            &self.inputs.qkv[place],
            self.gains[1],
            to,
        );
    }

    /// A query, scaled.
    #[inline(always)]
    pub(super) fn query(&self, position: usize, head: usize, to: &mut [f32]) {
        let place = self.place(position, head);
        placed(
            &self.inputs,
            position,
            &self.inputs.qkv[place],
            self.gains[0],
            to,
        );
        to.iter_mut().for_each(|x| *x *= self.setting.scale);
    }

    #[inline(always)]
    pub(super) fn value(&self, position: usize) -> &[f32] {
        let s = self.setting;
        &self.inputs.qkv[self.place(position, s.n_heads + s.n_kv_heads + self.head)]
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = Queries<'a>> + use<'a> {
        let s = self.setting;
        let group = s.n_heads / s.n_kv_heads;
        let (row, padded) = (self.row, s.padded());
        (self.head * group..(self.head + 1) * group).flat_map(move |head| {
            (0..padded / ROWS).map(move |block| {
                let plane = s.view.plane(row, head);
                let size = padded * padded;
                Queries {
                    head,
                    first: block * ROWS,
                    seen: &s.view.seen[plane * (padded / ROWS) + block],
                    mask: match s.view.values.is_empty() {
                        true => &[],
                        false => &s.view.values[plane * size..(plane + 1) * size],
                    },
                }
            })
        })
    }

    /// The gradient of `placed` at a head, given that of its result, which is used up.
    #[inline(always)]
    pub(super) fn unplaced(
        &self,
        position: usize,
        head: usize,
        grad: &mut [f32],
        to: &mut [f32],
        to_gain: &mut [f32],
        gain: &[f32],
    ) {
        let width = grad.len();
        if let Some(turn) = &self.inputs.turn {
            let here = position * width..(position + 1) * width;
            let (cos, sin) = (&turn.cos[here.clone()], &turn.sin[here]);
            // What a number gave its partner comes back from there.
            let mut both = |a: usize, b: usize| {
                let (x, y) = (grad[a], grad[b]);
                grad[a] = x * cos[a] + y * sin[b];
                grad[b] = y * cos[b] + x * sin[a];
            };
            match turn.interleaved {
                true => (0..width).step_by(2).for_each(|at| both(at, at + 1)),
                false => (0..width / 2).for_each(|at| both(at, at + width / 2)),
            }
        }
        match self.inputs.norm {
            HeadNorm::Rms { eps, .. } => {
                let x = &self.inputs.qkv[self.place(position, head)];
                norm::back(x, grad, gain, eps, to, to_gain);
            }
            _ => to.copy_from_slice(grad),
        }
    }

    /// `rows · panel` for each block of keys in sight: scores, `[seen, ROWS, PANEL]`.
    #[inline(always)]
    pub(super) unsafe fn by_keys(
        &self,
        ready: &Ready,
        rows: &[bf16],
        panel: &[bf16],
        seen: &[usize],
        to: &mut [f32],
    ) {
        let deep = self.setting.deep();
        assert!(panel.len() >= deep * PANEL);
        for (to, block) in to.chunks_exact_mut(ROWS * PANEL).zip(seen) {
            let rows = &rows[block * ROWS * deep..][..ROWS * deep];
            let block = Block {
                first: rows.as_ptr(),
                second: rows[TILE * deep..].as_ptr(),
                stride: deep,
                places: &[0],
                depth: deep,
                panel: panel.as_ptr(),
                to: to.as_mut_ptr(),
            };
            // SAFETY: 32 rows and a panel are there, and so is the room.
            unsafe { ready.multiply::<false>(&block) };
        }
    }

    /// `rows · panel` over the keys in sight, `[deep, PANEL]`.
    ///
    /// - `rows`: `[deep, padded]`
    /// - `panel`: `[seen · ROWS / 2, PANEL, 2]`
    #[inline(always)]
    pub(super) unsafe fn over_keys(
        &self,
        ready: &Ready,
        rows: &[bf16],
        panel: &[bf16],
        places: &[usize],
        to: &mut [f32],
    ) {
        let padded = self.setting.padded();
        assert!(panel.len() >= places.len() * ROWS * PANEL && !places.is_empty());
        for (at, to) in to.chunks_exact_mut(ROWS * PANEL).enumerate() {
            let rows = &rows[at * ROWS * padded..][..ROWS * padded];
            let block = Block {
                first: rows.as_ptr(),
                second: rows[TILE * padded..].as_ptr(),
                stride: padded,
                places,
                depth: ROWS,
                panel: panel.as_ptr(),
                to: to.as_mut_ptr(),
            };
            // SAFETY: places are blocks of the padded rows; the panel has as many.
            unsafe { ready.multiply::<false>(&block) };
        }
    }
}
