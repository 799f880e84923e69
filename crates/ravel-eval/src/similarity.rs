//! How alike two pictures are.

use ravel_core::Images;

use crate::host;

/// Side of SSIM's window, in pixels.
const WINDOW: usize = 11;
/// Standard deviation of SSIM's window, in pixels.
const SIGMA: f64 = 1.5;

/// Peak signal-to-noise ratio of each picture in decibels, over all channels, with a peak of the full range.
///
/// Equal pictures give infinity.
///
/// # Panics
/// If the shapes differ.
pub fn psnr(found: &Images, wanted: &Images) -> Vec<f64> {
    assert_eq!(
        found.pixels.dims(),
        wanted.pixels.dims(),
        "pictures of one shape are compared"
    );
    let error = found.pixels.clone() - wanted.pixels.clone();
    let squares = host(error.square().flatten::<2>(1, 3).mean_dim(1));
    // Values span 2, so the peak's square is 4.
    squares
        .iter()
        .map(|&square| 10.0 * (4.0 / f64::from(square)).log10())
        .collect()
}

/// Structural similarity of each picture, on luma (Rec. 601) in `0..=1`, mean over all windows that lie inside.
///
/// Wang et al. 2004: Gaussian window of 11 pixels, σ = 1.5, K1 = 0.01, K2 = 0.03.
///
/// # Panics
/// If the shapes differ or a side is below 11 pixels.
pub fn ssim(found: &Images, wanted: &Images) -> Vec<f64> {
    let [batch, _, height, width] = found.pixels.dims();
    assert_eq!(
        [batch, 3, height, width],
        wanted.pixels.dims(),
        "pictures of one shape are compared"
    );
    assert!(
        height >= WINDOW && width >= WINDOW,
        "height and width axes: at least {WINDOW} pixels"
    );
    let lumas = |images: &Images| -> Vec<Vec<f64>> {
        let values = host(images.pixels.clone());
        values
            .chunks_exact(3 * height * width)
            .map(|rgb| luma(rgb, height * width))
            .collect()
    };
    lumas(found)
        .iter()
        .zip(&lumas(wanted))
        .map(|(a, b)| ssim_of(a, b, width))
        .collect()
}

fn luma(rgb: &[f32], plane: usize) -> Vec<f64> {
    let unit = |channel: usize, at: usize| (f64::from(rgb[channel * plane + at]) + 1.0) / 2.0;
    (0..plane)
        .map(|at| 0.299 * unit(0, at) + 0.587 * unit(1, at) + 0.114 * unit(2, at))
        .collect()
}

fn ssim_of(a: &[f64], b: &[f64], width: usize) -> f64 {
    let (c1, c2) = (0.01f64.powi(2), 0.03f64.powi(2));
    let product =
        |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x * y).collect() };
    let mean_a = blurred(a, width);
    let mean_b = blurred(b, width);
    let square_a = blurred(&product(a, a), width);
    let square_b = blurred(&product(b, b), width);
    let both = blurred(&product(a, b), width);
    let total: f64 = (0..mean_a.len())
        .map(|at| {
            let (ma, mb) = (mean_a[at], mean_b[at]);
            let (va, vb) = (square_a[at] - ma * ma, square_b[at] - mb * mb);
            let cov = both[at] - ma * mb;
            ((2.0 * ma * mb + c1) * (2.0 * cov + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
        })
        .sum();
    total / mean_a.len() as f64
}

/// The picture under the Gaussian window, where the window lies inside.
fn blurred(plane: &[f64], width: usize) -> Vec<f64> {
    let weights: Vec<f64> = (0..WINDOW)
        .map(|at| {
            let from_centre = at as f64 - (WINDOW / 2) as f64;
            (-from_centre * from_centre / (2.0 * SIGMA * SIGMA)).exp()
        })
        .collect();
    let total: f64 = weights.iter().sum();
    let along = |values: &dyn Fn(usize) -> f64| -> f64 {
        weights
            .iter()
            .enumerate()
            .map(|(at, weight)| weight / total * values(at))
            .sum()
    };
    let height = plane.len() / width;
    let inner = width - WINDOW + 1;
    let rows: Vec<f64> = (0..height * inner)
        .map(|at| {
            let (y, x) = (at / inner, at % inner);
            along(&|tap| plane[y * width + x + tap])
        })
        .collect();
    (0..(height - WINDOW + 1) * inner)
        .map(|at| {
            let (y, x) = (at / inner, at % inner);
            along(&|tap| rows[(y + tap) * inner + x])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;
    use ravel_testkit::{device, formula};

    use super::*;

    fn images(salt: u32) -> Images {
        Images {
            pixels: formula([2, 3, 16, 16], salt, 1.0, &device()),
        }
    }

    #[test]
    fn a_constant_error_has_a_known_ratio() {
        let flat = |value: f32| Images {
            pixels: Tensor::full([1, 3, 12, 12], value, &device()),
        };
        // An error of 0.2 in a range of 2 is a tenth of the peak: 20 dB.
        let found = psnr(&flat(0.2), &flat(0.0))[0];
        assert!((found - 20.0).abs() < 1e-4, "{found}");
    }

    #[test]
    fn a_picture_is_like_itself_and_unlike_noise() {
        for value in ssim(&images(1), &images(1)) {
            assert!((value - 1.0).abs() < 1e-9);
        }
        for value in ssim(&images(1), &images(2)) {
            assert!(value < 0.2, "{value}");
        }
    }

    #[test]
    fn a_lost_mean_has_a_known_similarity() {
        let flat = |value: f32| Images {
            pixels: Tensor::full([1, 3, 12, 12], value, &device()),
        };
        // Flat pictures of luma 0.5 and 0.6: only the luminance term is left.
        let found = ssim(&flat(0.2), &flat(0.0))[0];
        let expected = (2.0 * 0.6 * 0.5 + 1e-4) / (0.36 + 0.25 + 1e-4);
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}
