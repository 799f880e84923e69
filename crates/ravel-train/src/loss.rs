//! Losses of tokenizers and generators.

use burn::tensor::activation::log_softmax;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

/// How far a reconstruction is from its picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ReconstructionConfig {
    /// Weight of the mean squared difference.
    pub squared: f64,
    /// Weight of the mean absolute difference.
    pub absolute: f64,
    /// Weight of the mean absolute difference of neighbouring-pixel differences, summed over scales: a cheap
    /// stand-in for a perceptual loss that keeps outlines sharp.
    pub gradient: f64,
    /// Scales at which differences are compared, each half the size of the one before.
    pub gradient_scales: usize,
}

impl Default for ReconstructionConfig {
    fn default() -> Self {
        Self {
            squared: 1.0,
            absolute: 0.2,
            gradient: 0.2,
            gradient_scales: 2,
        }
    }
}

/// The weighted reconstruction loss.
///
/// # Shapes
/// - `found`, `wanted`: `[b, c, h, w]`
/// - returns: `[1]`
pub fn reconstruction(
    config: &ReconstructionConfig,
    found: Tensor<4>,
    wanted: Tensor<4>,
) -> Tensor<1> {
    let mut difference = found - wanted;
    let mut loss = difference.clone().square().mean() * config.squared;
    if config.absolute > 0.0 {
        loss = loss + difference.clone().abs().mean() * config.absolute;
    }
    if config.gradient > 0.0 {
        for scale in 0..config.gradient_scales {
            if scale > 0 {
                difference =
                    avg_pool2d(difference, AvgPoolOptions::new([2, 2]).with_stride([2, 2]));
            }
            loss = loss + gradient_size(difference.clone()) * config.gradient;
        }
    }
    loss
}

/// Mean absolute difference between neighbours, down and right. Differences are linear, so the difference of two
/// pictures' gradients is the gradient of their difference.
fn gradient_size(picture: Tensor<4>) -> Tensor<1> {
    let [batch, channels, height, width] = picture.dims();
    let part = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
        picture
            .clone()
            .slice([0..batch, 0..channels, rows, columns])
    };
    let down = part(1..height, 0..width) - part(0..height - 1, 0..width);
    let right = part(0..height, 1..width) - part(0..height, 0..width - 1);
    down.abs().mean() + right.abs().mean()
}

/// Mean cross-entropy in nats per position.
///
/// # Shapes
/// - `logits`: `[b, n, codebook_size]`
/// - `targets`: `[b, n]`
/// - returns: `[1]`
pub fn cross_entropy(logits: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<1> {
    let [batch, len, size] = logits.dims();
    let scores = log_softmax(logits.reshape([batch * len, size]), 1);
    let picked = scores.gather(1, targets.reshape([batch * len, 1]));
    picked.mean().neg()
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{device, formula, formula_ids};

    use super::*;
    use crate::host;

    #[test]
    fn uniform_scores_cost_the_log_of_the_size() {
        let device = device();
        let logits = Tensor::zeros([2, 3, 7], &device);
        let targets = formula_ids([2, 3], 1, 7, &device);
        let loss = host(cross_entropy(logits, targets))[0];
        assert!((loss - 7f32.ln()).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn a_perfect_picture_costs_nothing_and_a_lost_edge_costs() {
        let device = device();
        let config = ReconstructionConfig::default();
        let picture: Tensor<4> = formula([1, 3, 8, 8], 2, 1.0, &device);
        let same = reconstruction(&config, picture.clone(), picture.clone());
        assert_eq!(host(same)[0], 0.0);
        let flat = Tensor::zeros([1, 3, 8, 8], &device);
        let plain = ReconstructionConfig {
            gradient: 0.0,
            ..config.clone()
        };
        let with = host(reconstruction(&config, flat.clone(), picture.clone()))[0];
        let without = host(reconstruction(&plain, flat, picture))[0];
        assert!(with > without + 0.05);
    }
}
