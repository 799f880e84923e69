//! Multi-head and grouped-query attention, with or without memory of earlier positions.
//!
//! Vaswani et al. 2017, section 3.2; grouped queries: Ainslie et al. 2023; memory: keys and values of earlier
//! positions in room reserved up front. Products and softmax are written out: the fused call of the CPU
//! backend copies its inputs, which costs more than it saves once the memory is long.
//!
//! Symbols: `b` batch, `n` positions of the step, `m` positions in sight, `h` heads, `d` head width.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Bool, Device, Tensor, TensorData, activation};
use ravel_core::{Attend, LayerState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::init;
use crate::norm::{in_f32, rms_normalised, unit_length};
use crate::rotary::Rotation;

/// What is added to the score of a position out of sight: its weight is exactly zero, and a row with
/// nothing in sight still has finite weights. Half precision ends before the first number.
const HIDDEN: f32 = -1e9;
const HIDDEN_HALF: f32 = -3e4;

/// How queries and keys are brought to a common length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueryKeyNorm {
    /// As they come.
    #[default]
    None,
    /// RMSNorm per head before the rotation, with a learned gain each for queries and keys.
    Rms,
    /// Unit length, with a learned factor per head in place of the fixed one (VAR).
    Cosine,
}

/// What fixes an attention layer.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionConfig {
    /// Width in and out.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Numbers in one head.
    pub head_width: usize,
    /// Normalisation of queries and keys.
    pub qk_norm: QueryKeyNorm,
    /// For [`QueryKeyNorm::Rms`].
    pub norm_eps: f64,
    /// Whether the projections in add a bias.
    pub qkv_bias: bool,
    /// Whether the projection out adds a bias.
    pub out_bias: bool,
    /// Factor on the scores, `1 / sqrt(head_width)` if unset. Cosine attention has a learned one instead.
    pub scale: Option<f64>,
    /// Standard deviation of the fresh projection out; zero for none at the start.
    pub out_std: f64,
}

impl AttentionConfig {
    /// Self-attention.
    pub fn init(&self, device: &Device) -> Attention {
        let width = (self.n_heads + 2 * self.n_kv_heads) * self.head_width;
        Attention {
            qkv: init::linear(self.d_model, width, self.qkv_bias, init::STD, device),
            out: self.out(device),
            q_gain: self.gain(device),
            k_gain: self.gain(device),
            head_scale: self.head_scale(device),
            shape: self.shape(),
        }
    }

    /// Attention to `d_context` wide positions beside the sequence.
    pub fn init_cross(&self, d_context: usize, device: &Device) -> CrossAttention {
        let [d_q, d_kv] = [self.n_heads, 2 * self.n_kv_heads].map(|heads| heads * self.head_width);
        CrossAttention {
            q: init::linear(self.d_model, d_q, self.qkv_bias, init::STD, device),
            kv: init::linear(d_context, d_kv, self.qkv_bias, init::STD, device),
            out: self.out(device),
            shape: self.shape(),
        }
    }

    fn out(&self, device: &Device) -> Linear {
        let width = self.n_heads * self.head_width;
        init::linear(width, self.d_model, self.out_bias, self.out_std, device)
    }

    fn gain(&self, device: &Device) -> Option<Param<Tensor<1>>> {
        (self.qk_norm == QueryKeyNorm::Rms).then(|| init::ones([self.head_width], device))
    }

    fn head_scale(&self, device: &Device) -> Option<Param<Tensor<1>>> {
        // VAR begins at 4: the logarithm is learned.
        let start = burn::module::Initializer::Constant { value: 4f64.ln() };
        (self.qk_norm == QueryKeyNorm::Cosine).then(|| start.init([self.n_heads], device))
    }

    fn shape(&self) -> Heads {
        let scale = self
            .scale
            .unwrap_or_else(|| (self.head_width as f64).powf(-0.5));
        Heads {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_width: self.head_width,
            eps: self.norm_eps,
            scale,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Heads {
    n_heads: usize,
    n_kv_heads: usize,
    head_width: usize,
    eps: f64,
    scale: f64,
}

/// Positions that fill up short rows.
#[derive(Debug, Clone, Copy)]
pub struct Padding<'a> {
    /// `[batch, any]`: positions that no other position sees; what is beyond its end is not hidden.
    pub hidden: &'a Tensor<2, Bool>,
    /// Whether they still see themselves (LlamaGen); they see all that is shown otherwise (T5).
    pub sees_itself: bool,
}

/// What the positions of one step see of memory and of each other, worked out once for all layers.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Positions that were there before the step.
    past: usize,
    /// The range of all positions, old and new, that any of the step's positions sees.
    seen: Range<usize>,
    /// Added to the scores, `[1 or batch, 1 or n_heads, n, seen.len()]`, if not all of `seen` is seen by all.
    mask: Option<Tensor<4>>,
}

impl Sight {
    /// The sight of a step of `n` positions after `past` ones.
    ///
    /// - `window`: a position sees the latest `window` positions only, itself included.
    pub fn new(
        attend: &Attend,
        n: usize,
        past: usize,
        window: Option<usize>,
        padding: Option<Padding<'_>>,
        dtype: burn::tensor::DType,
        device: &Device,
    ) -> Self {
        let far = far(dtype);
        let total = past + n;
        let (seen, values): (_, Vec<f32>) = match attend {
            Attend::Frames(sight) => {
                let bias = |at: usize| sight.bias(past + at / total, at % total);
                let values = (0..n * total).map(|at| bias(at).unwrap_or(far));
                (0..total, values.collect())
            }
            runs => {
                let seen = window.map_or(0, |window| (past + 1).saturating_sub(window))..total;
                let shown = visible(&runs.blocks(n), past, window, seen.clone());
                let values = shown.iter().map(|&s| if s { 0.0 } else { far });
                (seen, values.collect())
            }
        };
        let order = values.iter().any(|&value| value != 0.0).then(|| {
            let data = TensorData::new(values, [1, 1, n, seen.len()]);
            Tensor::<4>::from_data(data, (device, dtype))
        });
        let padding = padding.map(|padding| {
            let scores = hidden_scores(padding.hidden, seen.clone(), far, device, dtype);
            match padding.sees_itself {
                true => scores * others(n, past, seen.clone(), device, dtype),
                false => scores,
            }
        });
        let mask = match (order, padding) {
            (Some(order), Some(padding)) => Some(order + padding),
            (order, padding) => order.or(padding),
        };
        Self { past, seen, mask }
    }

    /// With numbers that are added to the scores.
    ///
    /// # Shapes
    /// - `bias`: `[1 or batch, n_heads, n, seen]`
    pub fn with_bias(mut self, bias: Tensor<4>) -> Self {
        self.mask = Some(match self.mask {
            Some(mask) => mask + bias,
            None => bias,
        });
        self
    }

    /// The range of all positions, old and new, that any of the step's positions sees.
    pub fn seen(&self) -> Range<usize> {
        self.seen.clone()
    }

    /// The sight of `m` positions beside the sequence: all see all of them but the hidden ones.
    ///
    /// - `hidden`: `[batch, m]`
    pub fn beside(
        m: usize,
        hidden: Option<&Tensor<2, Bool>>,
        dtype: burn::tensor::DType,
        device: &Device,
    ) -> Self {
        let mask = hidden.map(|hidden| hidden_scores(hidden, 0..m, far(dtype), device, dtype));
        Self {
            past: 0,
            seen: 0..m,
            mask,
        }
    }
}

/// What hides a position in this precision.
fn far(dtype: burn::tensor::DType) -> f32 {
    match dtype {
        burn::tensor::DType::F16 => HIDDEN_HALF,
        _ => HIDDEN,
    }
}

/// Row by row, whether position `past + i` sees position `seen.start + j`.
fn visible(blocks: &[usize], past: usize, window: Option<usize>, seen: Range<usize>) -> Vec<bool> {
    let mut shown = Vec::with_capacity(blocks.iter().sum::<usize>() * seen.len());
    let mut start = past;
    for &block in blocks {
        let end = start + block;
        for at in start..end {
            let oldest = window.map_or(0, |window| (at + 1).saturating_sub(window));
            shown.extend(seen.clone().map(|key| key < end && key >= oldest));
        }
        start = end;
    }
    shown
}

/// `[batch, 1, 1, seen.len()]`: `far` where a position is hidden, zero elsewhere.
fn hidden_scores(
    hidden: &Tensor<2, Bool>,
    seen: Range<usize>,
    far: f32,
    device: &Device,
    dtype: burn::tensor::DType,
) -> Tensor<4> {
    let [batch, known] = hidden.dims();
    let scores = Tensor::<2>::zeros([batch, seen.len()], (device, dtype));
    let upto = known.min(seen.end);
    if upto <= seen.start {
        return scores.reshape([batch, 1, 1, seen.len()]);
    }
    let part = hidden.clone().slice([0..batch, seen.start..upto]);
    let len = upto - seen.start;
    let marked = Tensor::<2>::zeros([batch, len], (device, dtype)).mask_fill(part, far);
    scores
        .slice_assign([0..batch, 0..len], marked)
        .reshape([batch, 1, 1, seen.len()])
}

/// `[1, 1, n, seen.len()]`: zero where a position meets itself, one elsewhere.
fn others(
    n: usize,
    past: usize,
    seen: Range<usize>,
    device: &Device,
    dtype: burn::tensor::DType,
) -> Tensor<4> {
    let m = seen.len();
    let values: Vec<f32> = (past..past + n)
        .flat_map(|query| {
            seen.clone()
                .map(move |key| f32::from(u8::from(key != query)))
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [1, 1, n, m]), (device, dtype))
}

/// Self-attention.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[d_model, (n_heads + 2 n_kv_heads) head_width]`: all queries, then all keys, then all values.
    pub qkv: Linear,
    /// `[n_heads head_width, d_model]`.
    pub out: Linear,
    /// `[head_width]`, for [`QueryKeyNorm::Rms`].
    pub q_gain: Option<Param<Tensor<1>>>,
    /// `[head_width]`, for [`QueryKeyNorm::Rms`].
    pub k_gain: Option<Param<Tensor<1>>>,
    /// `[n_heads]`, logarithms, for [`QueryKeyNorm::Cosine`].
    pub head_scale: Option<Param<Tensor<1>>>,
    #[module(skip)]
    shape: Heads,
}

impl Attention {
    /// Attention among the step's positions and, with a memory, all earlier ones. The memory is handed
    /// back with the step's keys and values in it; it is taken by value so that they are written in place.
    ///
    /// # Shapes
    /// - `x`: `[batch, n, d_model]`
    /// - returns: like `x`
    ///
    /// # Panics
    /// If the memory has no room for the step.
    pub fn forward(
        &self,
        x: Tensor<3>,
        rotation: Option<&Rotation>,
        sight: &Sight,
        memory: Option<LayerState>,
    ) -> (Tensor<3>, Option<LayerState>) {
        let (q, k, v) = self.projected(x, rotation);
        let Some(memory) = memory else {
            return (self.mixed(q, k, v, sight), None);
        };
        let memory = remembered(memory, k, v, sight.past);
        let [k, v] = [&memory.keys, &memory.values].map(|all| {
            let [batch, heads, _, width] = all.dims();
            all.clone()
                .slice([0..batch, 0..heads, sight.seen.clone(), 0..width])
        });
        (self.mixed(q, k, v, sight), Some(memory))
    }

    /// An empty memory for this layer.
    pub fn memory(&self, batch: usize, capacity: usize) -> LayerState {
        let shape = [
            batch,
            self.shape.n_kv_heads,
            capacity,
            self.shape.head_width,
        ];
        let weight = self.qkv.weight.val();
        let room = || Tensor::zeros(shape, (&weight.device(), weight.dtype()));
        LayerState {
            keys: room(),
            values: room(),
        }
    }

    /// Queries `[b, h, n, d]`, keys and values `[b, h_kv, n, d]`, normalised and turned.
    fn projected(
        &self,
        x: Tensor<3>,
        rotation: Option<&Rotation>,
    ) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
        let [batch, n, _] = x.dims();
        let Heads {
            n_heads,
            n_kv_heads,
            head_width,
            ..
        } = self.shape;
        let heads = n_heads + n_kv_heads;
        let qkv = self
            .qkv
            .forward(x)
            .reshape([batch, n, heads + n_kv_heads, head_width]);
        let v = qkv.clone().narrow(2, heads, n_kv_heads);
        let qk = self.normalised(qkv.narrow(2, 0, heads));
        let qk = match rotation {
            Some(rotation) => rotation.apply(qk),
            None => qk,
        };
        let q = qk.clone().narrow(2, 0, n_heads);
        let k = qk.narrow(2, n_heads, n_kv_heads);
        (q.swap_dims(1, 2), k.swap_dims(1, 2), v.swap_dims(1, 2))
    }

    /// Queries and keys in one tensor, `[b, n, h + h_kv, d]`.
    fn normalised(&self, qk: Tensor<4>) -> Tensor<4> {
        let Heads {
            n_heads,
            n_kv_heads,
            head_width,
            eps,
            ..
        } = self.shape;
        if let (Some(q_gain), Some(k_gain)) = (&self.q_gain, &self.k_gain) {
            let gain = Tensor::cat(
                vec![
                    q_gain.val().unsqueeze::<2>().expand([n_heads, head_width]),
                    k_gain
                        .val()
                        .unsqueeze::<2>()
                        .expand([n_kv_heads, head_width]),
                ],
                0,
            );
            return rms_normalised(qk, eps) * gain.unsqueeze();
        }
        if self.head_scale.is_some() {
            return unit_length(qk, 1e-12);
        }
        qk
    }

    fn mixed(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, sight: &Sight) -> Tensor<3> {
        let q = match &self.head_scale {
            Some(head_scale) => {
                let scale = head_scale.val().clamp_max(100f64.ln()).exp();
                q * scale.reshape([1, self.shape.n_heads, 1, 1])
            }
            None => q * self.shape.scale,
        };
        self.out.forward(weighted(q, k, v, sight))
    }
}

/// Attention to positions beside the sequence, whose keys and values are worked out once.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// `[d_model, n_heads head_width]`.
    pub q: Linear,
    /// `[d_context, 2 n_kv_heads head_width]`: all keys, then all values.
    pub kv: Linear,
    /// `[n_heads head_width, d_model]`.
    pub out: Linear,
    #[module(skip)]
    shape: Heads,
}

impl CrossAttention {
    /// Keys and values of what lies beside the sequence.
    ///
    /// # Shapes
    /// - `context`: `[batch, m, d_context]`
    pub fn memory(&self, context: Tensor<3>) -> LayerState {
        let [batch, m, _] = context.dims();
        let heads = self.shape.n_kv_heads;
        let kv = self
            .kv
            .forward(context)
            .reshape([batch, m, 2 * heads, self.shape.head_width]);
        LayerState {
            keys: kv.clone().narrow(2, 0, heads).swap_dims(1, 2),
            values: kv.narrow(2, heads, heads).swap_dims(1, 2),
        }
    }

    /// Attention to `memory`, of which `sight` ([`Sight::beside`]) may hide a part.
    ///
    /// # Shapes
    /// - `x`: `[batch, n, d_model]`
    /// - returns: like `x`
    pub fn forward(&self, x: Tensor<3>, memory: &LayerState, sight: &Sight) -> Tensor<3> {
        let [batch, n, _] = x.dims();
        let q = self
            .q
            .forward(x)
            .reshape([batch, n, self.shape.n_heads, self.shape.head_width])
            .swap_dims(1, 2);
        let (k, v) = (memory.keys.clone(), memory.values.clone());
        self.out
            .forward(weighted(q * self.shape.scale, k, v, sight))
    }
}

/// The memory with `k` and `v` written at `past`.
fn remembered(memory: LayerState, k: Tensor<4>, v: Tensor<4>, past: usize) -> LayerState {
    let [batch, heads, n, width] = k.dims();
    let capacity = memory.keys.dims()[2];
    assert!(
        past + n <= capacity,
        "position axis: {n} positions after {past} need more room than the {capacity} reserved"
    );
    let place = [0..batch, 0..heads, past..past + n, 0..width];
    LayerState {
        keys: memory.keys.slice_assign(place.clone(), k),
        values: memory.values.slice_assign(place, v),
    }
}

/// `softmax(q k^T + mask) v`, heads joined.
///
/// # Shapes
/// - `q`: `[b, h, n, d]`, already scaled; `k`, `v`: `[b, h_kv, m, d]`
/// - returns: `[b, n, h d]`
fn weighted(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, sight: &Sight) -> Tensor<3> {
    let [batch, n_heads, n, width] = q.dims();
    let [_, n_kv_heads, m, _] = k.dims();
    let grouped = [batch, n_kv_heads, n_heads / n_kv_heads * n];
    let [b, h, rows] = grouped;
    // A group of query heads that share keys is a longer run of rows. A reshape of the same shape is kept
    // out: on a strided tensor it could copy.
    let q = if n_heads == n_kv_heads {
        q
    } else {
        q.reshape([b, h, rows, width])
    };
    let mut scores = q.matmul(k.swap_dims(2, 3));
    if let Some(mask) = &sight.mask {
        scores = (scores.reshape([batch, n_heads, n, m]) + mask.clone()).reshape([b, h, rows, m]);
    }
    let weights = in_f32(scores, |scores| activation::softmax(scores, 3));
    weights
        .matmul(v)
        .reshape([batch, n_heads, n, width])
        .swap_dims(1, 2)
        .reshape([batch, n, n_heads * width])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(blocks: &[usize], past: usize, window: Option<usize>) -> Vec<String> {
        let n: usize = blocks.iter().sum();
        let seen = window.map_or(0, |window| (past + 1).saturating_sub(window))..past + n;
        visible(blocks, past, window, seen.clone())
            .chunks(seen.len())
            .map(|row| row.iter().map(|&s| if s { 'x' } else { '.' }).collect())
            .collect()
    }

    #[test]
    fn sight_is_causal_between_runs_and_whole_within() {
        assert_eq!(picture(&[1, 1, 1], 0, None), ["x..", "xx.", "xxx"]);
        assert_eq!(picture(&[2, 1], 0, None), ["xx.", "xx.", "xxx"]);
        assert_eq!(picture(&[1, 2], 1, None), ["xx..", "xxxx", "xxxx"]);
    }

    #[test]
    fn a_window_hides_what_is_old() {
        assert_eq!(picture(&[1, 1, 1], 0, Some(2)), ["x..", "xx.", ".xx"]);
        assert_eq!(picture(&[1, 1], 3, Some(2)), ["xx.", ".xx"]);
        assert_eq!(picture(&[1], 3, Some(2)), ["xx"]);
    }
}
