//! A sampler that notes what another one picked, and how likely the model thought it.

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, Draw, Result, Sampler, Unit};

/// One pick with natural log-probabilities from the scores as they came, before any filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Pick {
    /// The row.
    pub row: usize,
    /// The flat position.
    pub position: usize,
    /// What was picked.
    pub id: u32,
    /// Its log-probability.
    pub logprob: f32,
    /// The most likely ids with theirs, most likely first.
    pub top: Vec<(u32, f32)>,
}

/// Notes the picks of another sampler.
pub struct Recorded {
    /// What picks.
    pub inner: Box<dyn Sampler>,
    /// How many of the most likely ids are noted beside each pick; nothing is noted if unset.
    pub top: Option<usize>,
    /// All picks so far.
    pub picks: Vec<Pick>,
}

impl Sampler for Recorded {
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> Result<Tensor<2, Int>> {
        let Some(top) = self.top else {
            return self.inner.pick(logits, unit);
        };
        let [_, len, size] = logits.dims();
        let ids = self.inner.pick(logits.clone(), unit)?;
        let data = logits.into_data().convert::<f32>();
        let scores: Vec<f32> = data.try_into_vec().expect("numbers were converted to f32");
        let data = ids.to_data().convert::<u32>();
        let picked: Vec<u32> = data.try_into_vec().expect("ids were converted to u32");
        for (at, (scores, id)) in scores.chunks_exact(size).zip(picked).enumerate() {
            let normal = log_sum(scores);
            let logprob = |id: u32| (f64::from(scores[id as usize]) - normal) as f32;
            let likely = most_likely(scores, top).into_iter();
            self.picks.push(Pick {
                row: at / len,
                position: unit.span.start + at % len,
                id,
                logprob: logprob(id),
                top: likely.map(|id| (id, logprob(id))).collect(),
            });
        }
        Ok(ids)
    }

    /// What other methods choose is not noted.
    fn filter(&self, scores: &mut [f32], row: usize, past: &[u32]) -> Option<Draw> {
        self.inner.filter(scores, row, past)
    }

    fn given(&mut self, prompt: &Codes) {
        self.inner.given(prompt);
    }
}

/// The logarithm of the sum of exponentials.
fn log_sum(scores: &[f32]) -> f64 {
    let largest = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = scores
        .iter()
        .map(|&score| (f64::from(score) - largest).exp())
        .sum();
    largest + sum.ln()
}

/// Ids of the largest scores, largest first; of equal ones the earlier.
fn most_likely(scores: &[f32], count: usize) -> Vec<u32> {
    let count = count.min(scores.len());
    let mut ids: Vec<u32> = (0..scores.len() as u32).collect();
    let order = |a: &u32, b: &u32| {
        scores[*b as usize]
            .total_cmp(&scores[*a as usize])
            .then(a.cmp(b))
    };
    if count > 0 && count < ids.len() {
        ids.select_nth_unstable_by(count - 1, order);
    }
    ids.truncate(count);
    ids.sort_unstable_by(order);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SamplerConfig;
    use ravel_core::{Layout, Seed};
    use ravel_testkit::device;

    #[test]
    fn picks_are_noted_with_the_models_own_probabilities() {
        let greedy = SamplerConfig {
            temperature: 0.0,
            ..SamplerConfig::default()
        };
        let mut sampler = Recorded {
            inner: greedy.build(Seed::new(1), &[0], 1),
            top: Some(2),
            picks: Vec::new(),
        };
        let unit = Layout::Sequence { len: 1 }.tokens().remove(0);
        let scores = [1f32, 2.0, 3.0].map(f32::ln);
        let logits = Tensor::<3>::from_floats([[scores]], &device());
        sampler.pick(logits, &unit).unwrap();
        let pick = &sampler.picks[0];
        assert_eq!((pick.id, pick.top.len()), (2, 2));
        assert!((pick.logprob - 0.5f32.ln()).abs() < 1e-6, "{pick:?}");
        assert_eq!(pick.top[1].0, 1);
        assert!((pick.top[1].1 - (1.0f32 / 3.0).ln()).abs() < 1e-6);
    }
}
