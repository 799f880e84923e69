//! Magnitudes of windowed stretches of sound, on the host.

use std::f64::consts::TAU;

/// Magnitudes of the short-time Fourier transform: periodic Hann windows of `points` samples, `hop` apart, whole ones only; sound that is
/// shorter than a window is filled up with zeros. Each row holds `points / 2 + 1` numbers.
///
/// # Panics
/// If `points` is no power of two.
pub(crate) fn magnitudes(samples: &[f32], points: usize, hop: usize) -> Vec<Vec<f64>> {
    assert!(
        points.is_power_of_two(),
        "{points} points are no power of two"
    );
    let window: Vec<f64> = (0..points)
        .map(|at| 0.5 - 0.5 * (TAU * at as f64 / points as f64).cos())
        .collect();
    let count = samples.len().saturating_sub(points) / hop + 1;
    let stretch = |at: usize| {
        let from = &samples[(at * hop).min(samples.len())..];
        let mut values = vec![(0.0, 0.0); points];
        for ((value, sample), window) in values.iter_mut().zip(from).zip(&window) {
            value.0 = f64::from(*sample) * window;
        }
        transform(&mut values);
        let half = values.into_iter().take(points / 2 + 1);
        half.map(|(re, im)| re.hypot(im)).collect()
    };
    (0..count).map(stretch).collect()
}

/// The discrete Fourier transform in place (Cooley and Tukey 1965, radix 2). Complex numbers are pairs.
fn transform(values: &mut [(f64, f64)]) {
    let n = values.len();
    let bits = n.trailing_zeros();
    for at in 0..n {
        let other = at
            .reverse_bits()
            .checked_shr(usize::BITS - bits)
            .unwrap_or(0);
        if at < other {
            values.swap(at, other);
        }
    }
    let mut size = 2;
    while size <= n {
        let half = size / 2;
        for at in 0..half {
            let (sin, cos) = (-TAU * at as f64 / size as f64).sin_cos();
            for start in (at..n).step_by(size) {
                let ((a, b), (c, d)) = (values[start], values[start + half]);
                let turned = (c * cos - d * sin, c * sin + d * cos);
                values[start] = (a + turned.0, b + turned.1);
                values[start + half] = (a - turned.0, b - turned.1);
            }
        }
        size *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_is_a_sum_of_waves() {
        let input: Vec<(f64, f64)> = (0..16)
            .map(|at| ((at as f64 * 1.7).sin(), (at as f64 * 0.3).cos()))
            .collect();
        let mut found = input.clone();
        transform(&mut found);
        for (bin, (re, im)) in found.iter().enumerate() {
            let terms = input.iter().enumerate().map(|(at, (a, b))| {
                let (sin, cos) = (-TAU * (at * bin) as f64 / 16.0).sin_cos();
                (a * cos - b * sin, a * sin + b * cos)
            });
            let sum = terms.fold((0.0, 0.0), |sum, term| (sum.0 + term.0, sum.1 + term.1));
            assert!((re - sum.0).abs() < 1e-12 && (im - sum.1).abs() < 1e-12);
        }
    }

    #[test]
    fn stretches_are_whole_or_the_only_one() {
        let count = |len: usize| magnitudes(&vec![1.0; len], 8, 4).len();
        assert_eq!([count(1), count(8), count(11), count(12)], [1, 1, 1, 2]);
        // The mean of a window of ones is a half.
        assert!((magnitudes(&[1.0; 8], 8, 4)[0][0] - 4.0).abs() < 1e-12);
    }
}
