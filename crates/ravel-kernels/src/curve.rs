//! The curves between the products of feed-forward layers, and the exponential that they and the softmax need.

/// A curve, number by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// `x sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    ReluSquared,
    /// GELU through tanh.
    GeluTanh,
}

impl Curve {
    /// Puts the numbers on the curve.
    #[inline(always)]
    pub(crate) fn apply(self, numbers: &mut [f32]) {
        match self {
            Self::Silu => numbers.iter_mut().for_each(|x| *x *= sigmoid(*x)),
            Self::Relu => numbers.iter_mut().for_each(|x| *x = x.max(0.0)),
            Self::ReluSquared => numbers
                .iter_mut()
                .for_each(|x| *x = x.max(0.0) * x.max(0.0)),
            // (1 + tanh(y)) / 2 is sigmoid(2 y).
            Self::GeluTanh => numbers.iter_mut().for_each(|x| {
                const TWICE: f32 = 2.0 * 0.797_884_6;
                *x *= sigmoid(TWICE * (*x + 0.044_715 * *x * *x * *x));
            }),
        }
    }
}

impl Curve {
    /// Turns the numbers to the slopes of the curve there.
    #[inline(always)]
    pub(crate) fn slope(self, numbers: &mut [f32]) {
        match self {
            Self::Silu => numbers.iter_mut().for_each(|x| {
                let share = sigmoid(*x);
                *x = share * (1.0 + *x * (1.0 - share));
            }),
            Self::Relu => numbers
                .iter_mut()
                .for_each(|x| *x = if *x > 0.0 { 1.0 } else { 0.0 }),
            Self::ReluSquared => numbers.iter_mut().for_each(|x| *x = 2.0 * x.max(0.0)),
            Self::GeluTanh => numbers.iter_mut().for_each(|x| {
                const TWICE: f32 = 2.0 * 0.797_884_6;
                let share = sigmoid(TWICE * (*x + 0.044_715 * *x * *x * *x));
                let inner = TWICE * (1.0 + 3.0 * 0.044_715 * *x * *x);
                *x = share + *x * share * (1.0 - share) * inner;
            }),
        }
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `e^x` within two units in the last place; zero below -87.3, and as at 88.3 above it.
///
/// `2^n e^r` with `n` whole and `r` within half of `ln 2` (Cody and Waite 1980), `e^r` by a polynomial of degree six. It has no
/// branches, so that loops over it become vectors, and rounds alike on all machines.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts: products of the first with whole numbers below 2^9 are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding it leaves the nearest whole number in the low bits.
    const WHOLE: f32 = 12_582_912.0;
    let kept = if x < -87.3 { 0.0 } else { 1.0 };
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * LOG2_E + WHOLE;
    let n = shifted - WHOLE;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = (p * r) * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    p * power * kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_near_the_library_s() {
        for step in -8730..=8830 {
            let x = step as f32 * 0.01;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (found / expected - 1.0).abs() < 3e-7,
                "{x}: {found} {expected}"
            );
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e9), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(1e9).is_finite());
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn curves_at_minus_one_and_a_half() {
        for (curve, expected) in [
            (Curve::Silu, -0.273_638_6),
            (Curve::Relu, 0.0),
            (Curve::ReluSquared, 0.0),
            (Curve::GeluTanh, -0.100_428_9),
        ] {
            let mut x = [-1.5, 0.0, 2.0];
            curve.apply(&mut x);
            assert!((x[0] - expected as f32).abs() < 1e-6, "{curve:?} {x:?}");
            assert_eq!(x[1], 0.0);
        }
    }
}
