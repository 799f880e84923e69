//! Attention of tensors on the CPU.

use burn::tensor::{DType, Tensor};

use crate::attend::{self, Inputs, Mask, Shape};
use crate::isa::Isa;
use crate::linear::{optional, reals, slice};
use crate::pool::global;
use crate::tensor::{CpuTensor, of_values, take, wrap};

/// How heads of queries and keys are brought to a length.
#[derive(Debug, Clone)]
pub enum HeadNorm {
    /// As they come.
    None,
    /// Over their root mean square, times a gain each, `[width]`.
    Rms {
        /// Gain of queries.
        q: Tensor<1>,
        /// Gain of keys.
        k: Tensor<1>,
        /// Added to the mean square.
        eps: f64,
    },
    /// To length one; shorter than `eps` counts as `eps`.
    Unit {
        /// The least length.
        eps: f64,
    },
}

/// The turn of each new position.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// `[1, n, 1, width]`.
    pub cos: &'a Tensor<4>,
    /// `[1, n, 1, width]`, negative for the first of a pair.
    pub sin: &'a Tensor<4>,
    /// Whether partners are neighbours, rather than half a head apart.
    pub interleaved: bool,
}

/// What a step brings to a layer.
#[derive(Debug, Clone)]
pub struct Step<'a> {
    /// `[batch, n, (n_heads + 2 n_kv_heads) width]`: queries, keys, values.
    pub qkv: Tensor<3>,
    /// Query heads.
    pub n_heads: usize,
    /// Length of heads.
    pub norm: HeadNorm,
    /// Rotary positions.
    pub turn: Option<Turn<'a>>,
    /// Factor on the scores, one or one per query head.
    pub scales: Vec<f32>,
    /// Added to the scores, `[1 or batch, 1 or n_heads, 1 or n, seen]`.
    pub mask: Option<&'a Tensor<4>>,
    /// Positions before the new ones.
    pub past: usize,
    /// The first position in sight; from it on to the last new one they are.
    pub first: usize,
}

/// The heads, joined, and the memory with the new keys and values in it, in place if nobody else holds it.
///
/// # Shapes
/// - `keys`, `values`: `[batch, n_kv_heads, capacity, width]`
/// - returns: `[batch, n, n_heads width]`, then keys and values
///
/// # Errors
/// The memory as it was, if something is not on the CPU, not f32, or gradients flow through it.
///
/// # Panics
/// If a shape does not fit.
pub fn attention(
    step: &Step,
    [keys, values]: [Tensor<4>; 2],
) -> Result<(Tensor<3>, [Tensor<4>; 2]), [Tensor<4>; 2]> {
    let Some(parts) = Parts::of(step) else {
        return Err([keys, values]);
    };
    let [batch, n_kv_heads, capacity, width] = keys.dims();
    let shape = Shape {
        batch,
        n: step.qkv.dims()[1],
        n_heads: step.n_heads,
        n_kv_heads,
        width,
        capacity,
        past: step.past,
        first: step.first,
    };
    let mut keys = match memory(keys) {
        Ok(keys) => keys,
        Err(keys) => return Err([keys, values]),
    };
    let mut values = match memory(values) {
        Ok(values) => values,
        Err(values) => return Err([wrap(keys), values]),
    };
    let mut out = vec![0.0; batch * shape.n * shape.n_heads * width];
    parts.with(step, |inputs| {
        let (keys, values) = (keys.storage_mut(), values.storage_mut());
        attend::attend(
            global(),
            Isa::best(),
            &shape,
            inputs,
            keys,
            values,
            &mut out,
        );
    });
    let out = of_values(out, [batch, shape.n, shape.n_heads * width]);
    Ok((out, [wrap(keys), wrap(values)]))
}

/// A memory that is written in place: all of its storage, in order.
fn memory(tensor: Tensor<4>) -> Result<CpuTensor, Tensor<4>> {
    let len = tensor.dims().iter().product::<usize>();
    let handle = take(tensor)?;
    let whole = |handle: &CpuTensor| {
        handle.layout().start_offset() == 0 && handle.bytes().len() == len * size_of::<f32>()
    };
    match handle.dtype() == DType::F32 && handle.is_contiguous() && whole(&handle) {
        true => Ok(handle),
        false => Err(wrap(handle)),
    }
}

/// What a step's slices are borrowed from.
struct Parts {
    qkv: CpuTensor,
    gains: Option<[CpuTensor; 2]>,
    turn: Option<[CpuTensor; 2]>,
    mask: Option<CpuTensor>,
}

impl Parts {
    fn of(step: &Step) -> Option<Self> {
        Some(Self {
            qkv: reals(&step.qkv)?,
            gains: match &step.norm {
                HeadNorm::Rms { q, k, .. } => Some([reals(q)?, reals(k)?]),
                _ => None,
            },
            turn: match &step.turn {
                Some(turn) => Some([reals(turn.cos)?, reals(turn.sin)?]),
                None => None,
            },
            mask: optional(step.mask)?,
        })
    }

    fn with(&self, step: &Step, run: impl FnOnce(&Inputs)) {
        let norm = match (&step.norm, &self.gains) {
            (HeadNorm::Rms { eps, .. }, Some([q, k])) => attend::HeadNorm::Rms {
                q: slice(q),
                k: slice(k),
                eps: *eps as f32,
            },
            (HeadNorm::Unit { eps }, _) => attend::HeadNorm::Unit { eps: *eps as f32 },
            _ => attend::HeadNorm::None,
        };
        let turn = step.turn.as_ref().zip(self.turn.as_ref());
        let mask = step.mask.zip(self.mask.as_ref());
        run(&Inputs {
            qkv: slice(&self.qkv),
            norm,
            turn: turn.map(|(turn, [cos, sin])| attend::Turn {
                cos: slice(cos),
                sin: slice(sin),
                interleaved: turn.interleaved,
            }),
            scales: &step.scales,
            mask: mask.map(|(mask, values)| Mask {
                values: slice(values),
                batch: mask.dims()[0],
                heads: mask.dims()[1],
                positions: mask.dims()[2],
            }),
        });
    }
}
