//! Multi-head and grouped-query attention, with or without memory of earlier positions.
//!
//! Vaswani et al. 2017, section 3.2; grouped queries: Ainslie et al. 2023; memory: keys and values of earlier
//! positions in room reserved up front. Products and softmax are written out: the fused call of the CPU
//! backend copies its inputs, which costs more than it saves once the memory is long.
//!
//! Symbols: `b` batch, `n` positions of the step, `m` positions in sight, `h` heads, `d` head width.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, activation};
use ravel_core::LayerState;
use ravel_kernels::{HeadNorm, Step, tracked};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::norm::{in_f32, rms_normalised, unit_length};
use crate::rotary::Rotation;
use crate::sight::Sight;
use crate::{Project, init};

/// Heads shorter than this count as long as this where they are brought to length one.
const SHORTEST: f64 = 1e-12;
/// The largest learned factor on scores (VAR).
const MOST: f64 = 100.0;

/// Positions of a step up to which attention reads the memory head by head; of more, batched products are faster.
const FEW: usize = 16;

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
        let (heads, memory) = self.heads(x, rotation, sight, memory);
        (self.out.project(heads), memory)
    }

    /// As [`Attention::forward`], with `onto` added.
    ///
    /// # Shapes
    /// - `onto`: like `x`
    ///
    /// # Panics
    /// If the memory has no room for the step.
    pub fn forward_onto(
        &self,
        x: Tensor<3>,
        onto: Tensor<3>,
        rotation: Option<&Rotation>,
        sight: &Sight,
        memory: Option<LayerState>,
    ) -> (Tensor<3>, Option<LayerState>) {
        let (heads, memory) = self.heads(x, rotation, sight, memory);
        (self.out.project_onto(heads, onto), memory)
    }

    /// What the projection out reads, `[batch, n, n_heads head_width]`.
    fn heads(
        &self,
        x: Tensor<3>,
        rotation: Option<&Rotation>,
        sight: &Sight,
        memory: Option<LayerState>,
    ) -> (Tensor<3>, Option<LayerState>) {
        self.heads_of(self.qkv.project(x), rotation, sight, memory)
    }

    /// What the projection out reads, of several sequences that stand one after the other in `x`, each with its own memory: one
    /// product for all of them, then attention of each by itself.
    ///
    /// # Shapes
    /// - `x`: `[1, positions of all, d_model]`; a part's rows one after the other
    /// - returns: `[1, positions of all, n_heads head_width]`, and the memories
    ///
    /// # Panics
    /// If the parts are not as long as `x`, or a memory has no room.
    pub fn heads_of_each(
        &self,
        x: Tensor<3>,
        parts: &[Part<'_>],
        memories: Vec<LayerState>,
    ) -> (Tensor<3>, Vec<LayerState>) {
        let qkv = self.qkv.project(x);
        let width = qkv.dims()[2];
        let (mut heads, mut kept) = (Vec::with_capacity(parts.len()), Vec::new());
        let mut start = 0;
        for (part, memory) in parts.iter().zip(memories) {
            let [rows, n] = part.shape;
            let own = qkv.clone().narrow(1, start, rows * n);
            let own = own.reshape([rows, n, width]);
            let (found, memory) = self.heads_of(own, part.rotation, part.sight, Some(memory));
            let out = found.dims()[2];
            heads.push(found.reshape([1, rows * n, out]));
            kept.extend(memory);
            start += rows * n;
        }
        assert_eq!(start, qkv.dims()[1], "position axis: parts and positions");
        (Tensor::cat(heads, 1), kept)
    }

    fn heads_of(
        &self,
        qkv: Tensor<3>,
        rotation: Option<&Rotation>,
        sight: &Sight,
        mut memory: Option<LayerState>,
    ) -> (Tensor<3>, Option<LayerState>) {
        if let Some(state) = memory.take_if(|_| qkv.dims()[1] <= FEW) {
            match self.in_place(qkv.clone(), rotation, sight, state) {
                Ok((heads, state)) => return (heads, Some(state)),
                Err(state) => memory = Some(state),
            }
        }
        if memory.is_none()
            && let Some(heads) = self.at_once(&qkv, rotation, sight)
        {
            return (heads, None);
        }
        let (q, k, v) = self.split(qkv, rotation);
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

    /// A step of few positions by the kernels, or the memory as it was where they cannot serve.
    #[allow(clippy::result_large_err)] // Two tensors; a box would cost every step.
    fn in_place(
        &self,
        qkv: Tensor<3>,
        rotation: Option<&Rotation>,
        sight: &Sight,
        memory: LayerState,
    ) -> Result<(Tensor<3>, LayerState), LayerState> {
        if ravel_kernels::tensor::on_cpu(&qkv).is_none() {
            return Err(memory);
        }
        let norm = match (&self.q_gain, &self.k_gain, &self.head_scale) {
            (Some(q), Some(k), _) => HeadNorm::Rms {
                q: q.val(),
                k: k.val(),
                eps: self.shape.eps,
            },
            (_, _, Some(_)) => HeadNorm::Unit { eps: SHORTEST },
            _ => HeadNorm::None,
        };
        let scales = match &self.head_scale {
            Some(logs) => {
                let scales = logs.val().clamp_max(MOST.ln()).exp().into_data();
                scales.iter::<f32>().collect()
            }
            None => vec![self.shape.scale as f32],
        };
        let step = Step {
            qkv,
            n_heads: self.shape.n_heads,
            norm,
            turn: rotation.map(Rotation::turn),
            scales,
            mask: sight.mask.as_ref(),
            past: sight.past,
            first: sight.seen.start,
        };
        let state = |[keys, values]: [Tensor<4>; 2]| LayerState { keys, values };
        let (heads, memory) =
            ravel_kernels::attention(&step, [memory.keys, memory.values]).map_err(state)?;
        Ok((heads, state(memory)))
    }

    /// A whole sequence in training by the kernels, where they can serve.
    fn at_once(
        &self,
        qkv: &Tensor<3>,
        rotation: Option<&Rotation>,
        sight: &Sight,
    ) -> Option<Tensor<3>> {
        if self.head_scale.is_some() || sight.learned || sight.seen != (0..qkv.dims()[1]) {
            return None;
        }
        let gains = self.q_gain.as_ref().zip(self.k_gain.as_ref());
        let gains = gains.map(|(q, k)| (q.val(), k.val()));
        tracked::attention(&tracked::Heads {
            qkv,
            n_heads: self.shape.n_heads,
            n_kv_heads: self.shape.n_kv_heads,
            gains: gains.as_ref().map(|(q, k)| (q, k, self.shape.eps)),
            turn: rotation.map(Rotation::turn),
            scale: self.shape.scale,
            mask: sight.mask.as_ref(),
        })
    }

    /// An empty memory for this layer.
    pub fn memory(&self, batch: usize, capacity: usize) -> LayerState {
        let shape = [
            batch,
            self.shape.n_kv_heads,
            capacity,
            self.shape.head_width,
        ];
        let weight = self.qkv.weight.base();
        let room = || Tensor::zeros(shape, (&weight.device(), weight.dtype()));
        LayerState {
            keys: room(),
            values: room(),
        }
    }

    /// Queries `[b, h, n, d]`, keys and values `[b, h_kv, n, d]`, normalised and turned.
    fn split(
        &self,
        qkv: Tensor<3>,
        rotation: Option<&Rotation>,
    ) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
        let [batch, n, _] = qkv.dims();
        let Heads {
            n_heads,
            n_kv_heads,
            head_width,
            ..
        } = self.shape;
        let heads = n_heads + n_kv_heads;
        let qkv = qkv.reshape([batch, n, heads + n_kv_heads, head_width]);
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
            return unit_length(qk, SHORTEST);
        }
        qk
    }

    fn mixed(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, sight: &Sight) -> Tensor<3> {
        let q = match &self.head_scale {
            Some(head_scale) => {
                let scale = head_scale.val().clamp_max(MOST.ln()).exp();
                q * scale.reshape([1, self.shape.n_heads, 1, 1])
            }
            None => q * self.shape.scale,
        };
        weighted(q, k, v, sight)
    }
}

/// One of several sequences that pass a layer together.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Rows and new positions of each.
    pub shape: [usize; 2],
    /// Its rotary positions.
    pub rotation: Option<&'a Rotation>,
    /// What its positions see.
    pub sight: &'a Sight,
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
            .project(context)
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
            .project(x)
            .reshape([batch, n, self.shape.n_heads, self.shape.head_width])
            .swap_dims(1, 2);
        let (k, v) = (memory.keys.clone(), memory.values.clone());
        self.out
            .project(weighted(q * self.shape.scale, k, v, sight))
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
