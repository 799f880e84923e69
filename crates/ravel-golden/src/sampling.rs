//! Samplers that stand where a reference's own draw was replaced, and what they saw.

use burn::tensor::{Int, Tensor};
use ravel_core::{Result, Sampler, Unit};
use ravel_decode::sampler::{Filter, inverse_cdf_choice, probabilities};
use ravel_testkit::values;

/// Draws by inverse cumulative probability from uniforms that a case gives, one per unit and row.
pub struct GivenDraws<'a> {
    /// In their order.
    pub filters: Vec<Box<dyn Filter>>,
    /// `[units, batch]`.
    pub uniforms: &'a [f64],
    /// Probabilities of each unit, `[batch, vocabulary]` in a row.
    pub shares: Vec<Vec<f32>>,
    /// `[units, batch]`: how far each uniform is from the nearest edge of the cumulative distribution.
    pub margins: Vec<f32>,
}

impl<'a> GivenDraws<'a> {
    /// A sampler that saw nothing yet.
    pub fn new(filters: Vec<Box<dyn Filter>>, uniforms: &'a [f64]) -> Self {
        Self {
            filters,
            uniforms,
            shares: Vec::new(),
            margins: Vec::new(),
        }
    }

    fn draw(&mut self, scores: &mut [f32], uniform: f64) -> i32 {
        for filter in &self.filters {
            filter.apply(scores, &[]);
        }
        let mut edge = 0.0;
        let distances = probabilities(scores).into_iter().map(|share| {
            edge += share;
            (edge - uniform).abs()
        });
        self.margins.push(distances.fold(f64::MAX, f64::min) as f32);
        inverse_cdf_choice(scores, uniform) as i32
    }
}

impl Sampler for GivenDraws<'_> {
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> Result<Tensor<2, Int>> {
        let [batch, len, size] = logits.dims();
        assert_eq!(len, 1, "position axis: units of one position are drawn");
        let mut shares = Vec::new();
        let mut ids = Vec::new();
        for (row, scores) in values(&logits).chunks_exact_mut(size).enumerate() {
            ids.push(self.draw(scores, self.uniforms[unit.index * batch + row]));
            shares.extend(probabilities(scores).into_iter().map(|share| share as f32));
        }
        self.shares.push(shares);
        Ok(Tensor::<1, Int>::from_data(&ids[..], &logits.device()).unsqueeze_dim(1))
    }
}

/// Keeps the scores of every pick for a sampler within.
pub struct Seen<S> {
    /// `[batch, n, vocabulary]` of each pick.
    pub scores: Vec<Tensor<3>>,
    /// What chooses.
    pub inner: S,
}

impl<S> Seen<S> {
    /// Around a sampler.
    pub fn new(inner: S) -> Self {
        Self {
            scores: Vec::new(),
            inner,
        }
    }
}

impl<S: Sampler> Sampler for Seen<S> {
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> Result<Tensor<2, Int>> {
        self.scores.push(logits.clone());
        self.inner.pick(logits, unit)
    }
}

/// The largest score less the second largest, of each row of `[.., size]` numbers.
pub fn lead_of_largest(scores: &[f32], size: usize) -> Vec<f32> {
    let lead = |row: &[f32]| {
        let best_two = row
            .iter()
            .fold((f32::MIN, f32::MIN), |(first, second), &x| {
                (first.max(x), second.max(x.min(first)))
            });
        best_two.0 - best_two.1
    };
    scores.chunks_exact(size).map(lead).collect()
}

/// How much farther the second nearest row is than the nearest by squared distance, of each latent.
///
/// # Shapes
/// - `latents`: `[n, d]`, `rows`: `[codes, d]`
pub fn lead_of_nearest(latents: &Tensor<2>, rows: &Tensor<2>) -> Vec<f32> {
    let width = rows.dims()[1];
    let rows = values(rows);
    let far = |latent: &[f32], row: &[f32]| -> f32 {
        -latent
            .iter()
            .zip(row)
            .map(|(z, e)| (z - e).powi(2))
            .sum::<f32>()
    };
    let scores: Vec<f32> = values(latents)
        .chunks_exact(width)
        .flat_map(|latent| {
            rows.chunks_exact(width)
                .map(|row| far(latent, row))
                .collect::<Vec<_>>()
        })
        .collect();
    lead_of_largest(&scores, rows.len() / width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::device;

    #[test]
    fn leads_are_between_the_best_two() {
        assert_eq!(
            lead_of_largest(&[1.0, 5.0, 3.0, 2.0, 2.0, 0.0], 3),
            [2.0, 0.0]
        );
        let latents = Tensor::from_floats([[0.0]], &device());
        let rows = Tensor::from_floats([[3.0], [1.0], [-2.0]], &device());
        assert_eq!(lead_of_nearest(&latents, &rows), [3.0]);
    }
}
