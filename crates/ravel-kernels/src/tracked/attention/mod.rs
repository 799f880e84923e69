//! Attention of whole sequences whose scores never leave the cache.
//!
//! After FlashAttention (Dao et al. 2022): of the weights only the logarithm of each query's sum is kept, and the way back computes them again.
//! Scores stand with the keys as rows and 32 queries as lanes, so that a softmax goes down the lanes, and each product finds its two
//! sides where the one before left them. Blocks of 32 × 32 that a mask hides are never computed.
//!
//! Symbols: `S` scores, `P` weights, `O` heads, `D` the sum over keys of `P dP` (the paper's appendix B.2).

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::{Rule, made, operation, tracked, unit};
use crate::Turn;
use crate::attend::{HeadNorm, Inputs, Turn as Turned};
use crate::conv::work::on;
use crate::isa::Isa;
use crate::linear::slice;
use crate::pool::{Parts, global};
use crate::tiles::{PANEL, ROWS, Unit};

mod passes;
mod piece;
mod view;

use passes::{Back, Forward};
use piece::Piece;
use view::View;

/// Queries, keys and values of whole sequences.
#[derive(Debug, Clone)]
pub struct Heads<'a> {
    /// `[batch, n, (n_heads + 2 n_kv_heads) width]`: queries, keys, values.
    pub qkv: &'a Tensor<3>,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Gains of queries and keys over their root mean square, `[width]` each, and what is added to the mean square.
    pub gains: Option<(&'a Tensor<1>, &'a Tensor<1>, f64)>,
    /// Rotary positions.
    pub turn: Option<Turn<'a>>,
    /// Factor on the scores.
    pub scale: f64,
    /// Added to the scores, `[1 or batch, 1 or n_heads, 1 or n, n]`; no gradient flows to it.
    pub mask: Option<&'a Tensor<4>>,
}

/// The joined heads, `[batch, n, n_heads width]`.
///
/// # Panics
/// If a shape does not fit.
pub fn attention(heads: &Heads) -> Option<Tensor<3>> {
    let unit = unit()?;
    let [batch, n, all] = heads.qkv.dims();
    let width = all / (heads.n_heads + 2 * heads.n_kv_heads);
    assert_eq!(
        all,
        width * (heads.n_heads + 2 * heads.n_kv_heads),
        "width axis"
    );
    let (qkv, flows) = tracked(heads.qkv)?;
    if !flows || (heads.turn.is_some() && width % 2 == 1) {
        return None;
    }
    let constant = |tensor: &Tensor<4>| -> Option<FlexTensor> {
        Some(super::contiguous(tracked(tensor)?.0.into_primitive()))
    };
    let turn = match &heads.turn {
        Some(turn) => Some((constant(turn.cos)?, constant(turn.sin)?, turn.interleaved)),
        None => None,
    };
    let mask = match heads.mask {
        Some(mask) => Some((constant(mask)?, mask.dims())),
        None => None,
    };
    let setting = Setting {
        batch,
        n,
        n_heads: heads.n_heads,
        n_kv_heads: heads.n_kv_heads,
        width,
        scale: heads.scale as f32,
        eps: heads.gains.map_or(0.0, |(_, _, eps)| eps) as f32,
        turn,
        view: View::new(n, mask.as_ref().map(|(mask, dims)| (slice(mask), *dims))),
        unit,
    };
    let shape = [batch, n, heads.n_heads * width];
    match heads.gains {
        None => Some(operation([qkv], |[qkv]| {
            let (out, sums) = setting.forward(slice(&qkv), None);
            let rule = Rule::new(move |grad, _| {
                let (to, _) = setting.back(slice(&qkv), None, grad, &sums);
                [Some(made(to, [batch, n, all]))]
            });
            (made(out, shape), rule)
        })),
        Some((q, k, _)) => Some(operation(
            [qkv, tracked(q)?.0, tracked(k)?.0],
            |[qkv, q, k]| {
                let (out, sums) = setting.forward(slice(&qkv), Some([slice(&q), slice(&k)]));
                let rule = Rule::new(move |grad, _| {
                    let gains = Some([slice(&q), slice(&k)]);
                    let (to, to_gains) = setting.back(slice(&qkv), gains, grad, &sums);
                    let (to_q, to_k) = to_gains.split_at(width);
                    [
                        Some(made(to, [batch, n, all])),
                        Some(made(to_q.to_vec(), [width])),
                        Some(made(to_k.to_vec(), [width])),
                    ]
                });
                (made(out, shape), rule)
            },
        )),
    }
}

#[derive(Clone)]
struct Setting {
    batch: usize,
    n: usize,
    n_heads: usize,
    n_kv_heads: usize,
    width: usize,
    scale: f32,
    eps: f32,
    turn: Option<(FlexTensor, FlexTensor, bool)>,
    view: View,
    unit: Unit,
}

impl Setting {
    /// Positions rounded up to blocks.
    fn padded(&self) -> usize {
        self.n.next_multiple_of(ROWS)
    }

    /// Numbers of a head rounded up to a tile's depth.
    fn deep(&self) -> usize {
        self.width.next_multiple_of(PANEL)
    }

    fn inputs<'a>(&'a self, qkv: &'a [f32], gains: Option<[&'a [f32]; 2]>) -> Inputs<'a> {
        Inputs {
            qkv,
            norm: match gains {
                Some([q, k]) => HeadNorm::Rms {
                    q,
                    k,
                    eps: self.eps,
                },
                None => HeadNorm::None,
            },
            turn: self.turn.as_ref().map(|(cos, sin, interleaved)| Turned {
                cos: slice(cos),
                sin: slice(sin),
                interleaved: *interleaved,
            }),
            scales: &[],
            mask: None,
        }
    }

    /// The heads, and for each query the logarithm of the sum of its weights, `[batch, n_heads, padded]`.
    fn forward(&self, qkv: &[f32], gains: Option<[&[f32]; 2]>) -> (Vec<f32>, Vec<f32>) {
        let mut out = vec![0.0; self.batch * self.n * self.n_heads * self.width];
        let mut sums = vec![0.0; self.batch * self.n_heads * self.padded()];
        let (parts, logs) = (Parts::new(&mut out), Parts::new(&mut sums));
        global().run(self.batch * self.n_kv_heads, &|piece| {
            // SAFETY: each piece has the queries of one key head of one row; the work's pointers are checked slices.
            unsafe {
                let work = Piece::new(self, qkv, gains, piece);
                on(Isa::best(), Forward(work, &parts, &logs));
            }
        });
        (out, sums)
    }

    /// The gradient of `qkv`, and that of the gains of queries and keys, `[2 width]`.
    fn back(
        &self,
        qkv: &[f32],
        gains: Option<[&[f32]; 2]>,
        grad: &[f32],
        sums: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let pieces = self.batch * self.n_kv_heads;
        let mut out = vec![0.0; qkv.len()];
        let mut to_gains = vec![0.0; pieces * 2 * self.width];
        let (parts, shares) = (Parts::new(&mut out), Parts::new(&mut to_gains));
        global().run(pieces, &|piece| {
            // SAFETY: each piece has one key head of one row and the queries that read it.
            unsafe {
                let work = Piece::new(self, qkv, gains, piece);
                let share = piece * 2 * self.width..(piece + 1) * 2 * self.width;
                let back = Back {
                    piece: work,
                    grad,
                    sums,
                    out: &parts,
                    to_gains: shares.part(share),
                };
                on(Isa::best(), back);
            }
        });
        let to_gains = super::linear::column_sums(&to_gains, 2 * self.width);
        (out, to_gains)
    }
}
