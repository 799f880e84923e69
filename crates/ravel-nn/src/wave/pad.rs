//! What stands before the first and after the last sample.

use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What padding is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PadKind {
    /// Zeros.
    #[default]
    Zero,
    /// The signal mirrored at its first and last sample, which are not repeated. A signal too short for that gets zeros on
    /// its right first, and as many samples are taken off the right again (EnCodec's rule).
    Reflect,
    /// The first and last sample repeated.
    Replicate,
}

/// Pads the time axis.
///
/// # Shapes
/// - `x`: `[b, c, t]`
/// - returns: `[b, c, left + t + right]`
///
/// # Panics
/// If there is no sample to reflect or repeat.
pub fn pad_time(x: Tensor<3>, left: usize, right: usize, kind: PadKind) -> Tensor<3> {
    if left + right == 0 {
        return x;
    }
    let ends = [(0, 0), (0, 0), (left, right)];
    match kind {
        PadKind::Zero => x.pad(ends, PadMode::Constant(0.0)),
        PadKind::Replicate => x.pad(ends, PadMode::Edge),
        PadKind::Reflect => reflected(x, left, right),
    }
}

fn reflected(x: Tensor<3>, left: usize, right: usize) -> Tensor<3> {
    let [batch, channels, time] = x.dims();
    assert!(time > 0, "time axis: there is no sample to reflect");
    let missing = (left.max(right) + 1).saturating_sub(time);
    let long = match missing {
        0 => x,
        missing => x.pad([(0, 0), (0, 0), (0, missing)], PadMode::Constant(0.0)),
    };
    let padded = long.pad([(0, 0), (0, 0), (left, right)], PadMode::Reflect);
    padded.slice([0..batch, 0..channels, 0..left + time + right])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{device, values};

    fn check(kind: PadKind, len: usize, left: usize, right: usize, expected: &[f32]) {
        let samples: Vec<f32> = (1..=len).map(|at| at as f32).collect();
        let x = Tensor::<1>::from_floats(&samples[..], &device()).reshape([1, 1, len]);
        assert_eq!(values(&pad_time(x, left, right, kind)), expected);
    }

    #[test]
    fn every_kind_pads_as_torch_does() {
        check(PadKind::Zero, 2, 1, 2, &[0., 1., 2., 0., 0.]);
        check(PadKind::Replicate, 2, 1, 2, &[1., 1., 2., 2., 2.]);
        check(PadKind::Reflect, 4, 2, 1, &[3., 2., 1., 2., 3., 4., 3.]);
        check(PadKind::Reflect, 4, 0, 0, &[1., 2., 3., 4.]);
    }

    #[test]
    fn a_short_signal_is_lengthened_by_zeros_before_it_is_reflected() {
        // [1, 2] becomes [1, 2, 0, 0], reflected 0 0 2 1 2 0 0; two samples are taken off the right.
        check(PadKind::Reflect, 2, 3, 0, &[0., 0., 2., 1., 2.]);
        check(PadKind::Reflect, 1, 1, 1, &[0., 1., 0.]);
    }
}
