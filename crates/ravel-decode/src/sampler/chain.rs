//! The innermost sampler: filters, then one choice per row.

use burn::tensor::{Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::{Error, Result, Sampler, Seed, Unit};

use super::filter::{Filter, probabilities};

/// How an id is taken from filtered scores.
#[derive(Debug, Clone)]
pub enum Choice {
    /// The largest score, the first of equal ones.
    Greedy,
    /// At random by probability; one stream per row, so that a row's ids do not depend on its neighbours.
    Draw(Vec<Seed>),
}

/// Filters in their order, then a choice.
pub struct Chain {
    filters: Vec<Box<dyn Filter>>,
    choice: Choice,
    history: Vec<Vec<u32>>,
}

impl Chain {
    /// A sampler without history.
    pub fn new(filters: Vec<Box<dyn Filter>>, choice: Choice) -> Self {
        Self {
            filters,
            choice,
            history: Vec::new(),
        }
    }

    fn choose(&self, scores: &mut [f32], row: usize, position: usize) -> u32 {
        for filter in &self.filters {
            filter.apply(scores, &self.history[row]);
        }
        match &self.choice {
            Choice::Greedy => greedy_choice(scores),
            Choice::Draw(seeds) => {
                let draw = seeds[row].indexed(position as u64).stream().next_u64() >> 11;
                inverse_cdf_choice(scores, draw as f64 / (1u64 << 53) as f64)
            }
        }
    }
}

impl Sampler for Chain {
    /// # Panics
    /// If there are more rows than seeds.
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> Result<Tensor<2, Int>> {
        let [batch, len, size] = logits.dims();
        let device = logits.device();
        let mut scores: Vec<f32> = logits
            .into_data()
            .convert::<f32>()
            .try_into_vec()
            .expect("numbers were converted to f32");
        self.history.resize(batch, Vec::new());
        let mut ids = Vec::with_capacity(batch * len);
        for (at, row) in scores.chunks_exact_mut(size).enumerate() {
            check_finite(row, at / len, unit)?;
            let position = unit.span.start + at % len;
            ids.push(self.choose(row, at / len, position) as i32);
        }
        for (history, chosen) in self.history.iter_mut().zip(ids.chunks_exact(len)) {
            history.extend(chosen.iter().map(|&id| id as u32));
        }
        let data = TensorData::new::<i32, _>(ids, [batch, len]);
        Ok(Tensor::from_data(data, &device))
    }
}

fn check_finite(scores: &[f32], row: usize, unit: &Unit) -> Result<()> {
    let nan = scores.iter().any(|score| score.is_nan());
    let none = !scores.iter().any(|score| score.is_finite());
    if nan || none {
        return Err(Error::NotFinite {
            place: "the head's scores".into(),
            what: format!(
                "{} in row {row} at unit {}; the weights are broken",
                if nan { "NaN" } else { "no finite number" },
                unit.index
            ),
        });
    }
    Ok(())
}

/// The id of the largest score, the first of equal ones.
pub fn greedy_choice(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (id, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = id;
        }
    }
    best as u32
}

/// The id at which the cumulative probability, in the order of ids, first exceeds `uniform` in `0..1`.
pub fn inverse_cdf_choice(scores: &[f32], uniform: f64) -> u32 {
    let shares = probabilities(scores);
    let total: f64 = shares.iter().sum();
    let mut cumulative = 0.0;
    let mut last = 0;
    for (id, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        cumulative += share;
        last = id;
        if cumulative / total > uniform {
            break;
        }
    }
    last as u32
}

/// The id of the largest score after Gumbel noise from uniforms in `0..1`, one per id: a draw by probability.
pub fn gumbel_choice(scores: &[f32], uniforms: &[f64]) -> u32 {
    let noisy: Vec<f32> = scores
        .iter()
        .zip(uniforms)
        .map(|(&score, uniform)| (f64::from(score) - (-uniform.ln()).ln()) as f32)
        .collect();
    greedy_choice(&noisy)
}
