//! What the positions of a step see of memory and of each other.
//!
//! Symbols: `n` positions of the step.

use std::ops::Range;

use burn::tensor::{Bool, Device, Tensor, TensorData};
use ravel_core::Attend;

/// What is added to the score of a position out of sight: its weight is exactly zero, and a row with
/// nothing in sight still has finite weights. Half precision ends before the first number.
const HIDDEN: f32 = -1e9;
const HIDDEN_HALF: f32 = -3e4;

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
    pub(crate) past: usize,
    /// The range of all positions, old and new, that any of the step's positions sees.
    pub(crate) seen: Range<usize>,
    /// Added to the scores, `[1 or batch, 1 or n_heads, n, seen.len()]`, if not all of `seen` is seen by all.
    pub(crate) mask: Option<Tensor<4>>,
    /// Whether a part of that is learned.
    pub(crate) learned: bool,
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
        Self {
            past,
            seen,
            mask,
            learned: false,
        }
    }

    /// With numbers that are added to the scores.
    ///
    /// # Shapes
    /// - `bias`: `[1 or batch, n_heads, n, seen]`
    pub fn with_bias(mut self, bias: Tensor<4>) -> Self {
        self.learned = true;
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
            learned: false,
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
