//! Losses of tokenizers and generators.

use burn::tensor::activation::{log_softmax, softmax};
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

/// Answers that are spread over neighbouring codes, a row for each code.
///
/// A code keeps `1 − share` of the weight; the rest goes to the others by `exp(−d²/τ)`, where `d` is the distance of the code
/// vectors and τ the mean squared distance of a code to its nearest neighbour (label smoothing, Szegedy et al. 2016, section 7,
/// with a metric in the place of the uniform distribution).
///
/// # Shapes
/// - `codebook`: `[codebook_size, code_width]`
/// - returns: `[codebook_size, codebook_size]`, rows that sum to 1
pub fn soft_answers(codebook: Tensor<2>, share: f64) -> Tensor<2> {
    let size = codebook.dims()[0];
    let device = codebook.device();
    let norms = codebook.clone().square().sum_dim(1);
    let products = codebook.clone().matmul(codebook.transpose());
    let squared = (norms.clone() + norms.transpose() - products * 2.0).clamp_min(0.0);
    let own = Tensor::<2>::eye(size, &device);
    let apart = squared + own.clone() * f64::from(f32::MAX).sqrt();
    let nearest = apart.clone().min_dim(1).mean().clamp_min(1e-12);
    let others = softmax((apart / nearest.reshape([1, 1])).neg(), 1);
    own * (1.0 - share) + others * share
}

/// Mean cross-entropy in nats per position against spread answers; what the answers' own entropy costs is not taken off.
///
/// # Shapes
/// - `logits`: `[b, n, codebook_size]`
/// - `targets`: `[b, n]`
/// - `answers`: `[codebook_size, codebook_size]`, what [`soft_answers`] gives
/// - returns: `[1]`
pub fn soft_cross_entropy(
    logits: Tensor<3>,
    targets: Tensor<2, Int>,
    answers: Tensor<2>,
) -> Tensor<1> {
    let [batch, len, size] = logits.dims();
    let scores = log_softmax(logits.reshape([batch * len, size]), 1);
    let wanted = answers.select(0, targets.reshape([batch * len]));
    (scores * wanted).sum_dim(1).mean().neg()
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{device, formula, formula_ids, values};

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
    fn answers_spread_to_the_nearest_codes_and_without_a_share_are_plain() {
        let device = device();
        let codebook = Tensor::<2>::from_data([[0.0], [1.0], [3.0], [8.0]], &device);
        let spread = values(&soft_answers(codebook.clone(), 0.4));
        for row in spread.chunks(4) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
        }
        assert!((spread[0] - 0.6).abs() < 1e-5);
        assert!(spread[1] > spread[2] && spread[2] > spread[3], "{spread:?}");
        let logits: Tensor<3> = formula([2, 3, 4], 5, 1.0, &device);
        let targets = formula_ids([2, 3], 1, 4, &device);
        let plain = host(cross_entropy(logits.clone(), targets.clone()))[0];
        let none = host(soft_cross_entropy(
            logits,
            targets,
            soft_answers(codebook, 0.0),
        ))[0];
        assert!((plain - none).abs() < 1e-6, "{plain}, {none}");
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
