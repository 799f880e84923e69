//! The Fréchet distance of two sets of features, as if both were normally distributed (Heusel et al. 2017, section 2; Dowson and
//! Landau 1982). The features here are a tokenizer's latents, so it is no FVD and is not to be compared with one.

use burn::tensor::Tensor;

use crate::host;

/// Sweeps of the eigenvalue iteration; small matrices need fewer than ten.
const SWEEPS: usize = 30;

/// Mean and covariance of features.
#[derive(Debug, Clone)]
pub struct FeatureStatistics {
    width: usize,
    count: f64,
    sum: Vec<f64>,
    products: Vec<f64>,
}

impl FeatureStatistics {
    /// No features yet.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            count: 0.0,
            sum: vec![0.0; width],
            products: vec![0.0; width * width],
        }
    }

    /// Adds the latents of some frames, one feature vector for each place.
    ///
    /// # Shapes
    /// - `latents`: `[frames, width, rows, columns]`
    pub fn add(&mut self, latents: Tensor<4>) {
        let [frames, width, rows, columns] = latents.dims();
        assert_eq!(width, self.width, "width axis: features of another width");
        let places = latents
            .permute([0, 2, 3, 1])
            .reshape([frames * rows * columns, width]);
        for feature in host(places).chunks_exact(width) {
            self.count += 1.0;
            for (i, &a) in feature.iter().enumerate() {
                self.sum[i] += f64::from(a);
                for (j, &b) in feature.iter().enumerate() {
                    self.products[i * width + j] += f64::from(a) * f64::from(b);
                }
            }
        }
    }

    fn mean(&self) -> Vec<f64> {
        self.sum.iter().map(|sum| sum / self.count).collect()
    }

    fn covariance(&self) -> Vec<f64> {
        let mean = self.mean();
        (0..self.width * self.width)
            .map(|at| {
                self.products[at] / self.count - mean[at / self.width] * mean[at % self.width]
            })
            .collect()
    }
}

/// `|m1 - m2|² + tr(C1 + C2 - 2 (C1^½ C2 C1^½)^½)`.
///
/// # Panics
/// If the widths differ.
pub fn frechet_distance(one: &FeatureStatistics, other: &FeatureStatistics) -> f64 {
    assert_eq!(
        one.width, other.width,
        "width axis: features of one width are compared"
    );
    let n = one.width;
    let (first, second) = (one.covariance(), other.covariance());
    let root = square_root(&first, n);
    let inner = product(&product(&root, &second, n), &root, n);
    let (values, _) = eigen(&inner, n);
    let shared: f64 = values.iter().map(|value| value.max(0.0).sqrt()).sum();
    let trace = |matrix: &[f64]| (0..n).map(|at| matrix[at * n + at]).sum::<f64>();
    let apart: f64 = one
        .mean()
        .iter()
        .zip(other.mean())
        .map(|(a, b)| (a - b).powi(2))
        .sum();
    (apart + trace(&first) + trace(&second) - 2.0 * shared).max(0.0)
}

fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    (0..n * n)
        .map(|at| (0..n).map(|k| a[at / n * n + k] * b[k * n + at % n]).sum())
        .collect()
}

/// The symmetric root of a symmetric matrix without negative eigenvalues.
fn square_root(matrix: &[f64], n: usize) -> Vec<f64> {
    let (values, vectors) = eigen(matrix, n);
    (0..n * n)
        .map(|at| {
            let term = |k: usize| {
                vectors[at / n * n + k] * values[k].max(0.0).sqrt() * vectors[at % n * n + k]
            };
            (0..n).map(term).sum()
        })
        .collect()
}

/// Eigenvalues of a symmetric matrix, and its eigenvectors as columns (Jacobi's rotations).
fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = matrix.to_vec();
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|at| vectors[at * n + at] = 1.0);
    for _ in 0..SWEEPS {
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
    }
    ((0..n).map(|at| a[at * n + at]).collect(), vectors)
}

/// Turns rows and columns `p` and `q` so that the entry where they cross vanishes.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    if a[p * n + q].abs() < 1e-300 {
        return;
    }
    let angle = 0.5 * (2.0 * a[p * n + q]).atan2(a[q * n + q] - a[p * n + p]);
    let (sin, cos) = angle.sin_cos();
    let turn = |x: &mut f64, y: &mut f64| {
        (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y);
    };
    for k in 0..n {
        let (mut x, mut y) = (a[k * n + p], a[k * n + q]);
        turn(&mut x, &mut y);
        (a[k * n + p], a[k * n + q]) = (x, y);
        let (mut x, mut y) = (vectors[k * n + p], vectors[k * n + q]);
        turn(&mut x, &mut y);
        (vectors[k * n + p], vectors[k * n + q]) = (x, y);
    }
    for k in 0..n {
        let (mut x, mut y) = (a[p * n + k], a[q * n + k]);
        turn(&mut x, &mut y);
        (a[p * n + k], a[q * n + k]) = (x, y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{device, formula};

    fn statistics(scale: f32, shift: f32) -> FeatureStatistics {
        let mut found = FeatureStatistics::new(3);
        let latents: Tensor<4> = formula([4, 3, 8, 8], 5, scale, &device());
        found.add(latents + shift);
        found
    }

    #[test]
    fn equal_sets_are_at_no_distance() {
        let found = frechet_distance(&statistics(1.0, 0.0), &statistics(1.0, 0.0));
        assert!(found < 1e-9, "{found}");
    }

    #[test]
    fn a_shift_and_a_stretch_cost_what_the_formula_says() {
        let shifted = frechet_distance(&statistics(1.0, 0.0), &statistics(1.0, 0.5));
        assert!((shifted - 0.75).abs() < 1e-5, "{shifted}");
        // Twice the spread: tr(C + 4 C - 4 C) = tr(C), and the means double.
        let base = statistics(1.0, 0.0);
        let trace: f64 = (0..3).map(|at| base.covariance()[at * 4]).sum();
        let means: f64 = base.mean().iter().map(|mean| mean * mean).sum();
        let found = frechet_distance(&base, &statistics(2.0, 0.0));
        assert!((found - trace - means).abs() < 1e-5, "{found} {trace}");
    }
}
