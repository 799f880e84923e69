//! What would have been chosen: the noise behind an observed choice, inferred, and chosen with again.
//!
//! Oberst and Sontag 2019 (Gumbel-max structural causal models), with the truncated noise of Maddison et al. 2014. A choice is the
//! largest of score plus Gumbel noise; given the choice, the maximum and all noise below it have known distributions. The same
//! noise under other scores gives the counterfactual, which differs from the observation no more than the scores ask for.

use burn::tensor::{Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::{Codes, Error, Result, Sampler, Seed, Unit};

/// Gumbel noise for every id that makes `observed` the largest.
///
/// - `scores`: unnormalised; minus infinity for ids that could not be chosen
/// - `uniforms`: in `0..1`, one for each id; that of the observed id drives the maximum
///
/// # Panics
/// If there are fewer uniforms than scores, or the observed id is none of them.
pub fn hindsight_noise(scores: &[f64], observed: usize, uniforms: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
    let top = largest + sum.ln() + gumbel(uniforms[observed]);
    let noise = |(id, score): (usize, &f64)| match id == observed {
        true => top - score,
        // A Gumbel that stays below `top - score`.
        false => -((score - top).exp() - uniforms[id].ln()).ln(),
    };
    scores.iter().enumerate().map(noise).collect()
}

/// The id that these scores and this noise choose, the first of equal ones.
pub fn noisy_choice(scores: &[f64], noise: &[f64]) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (id, (score, noise)) in scores.iter().zip(noise).enumerate() {
        if score + noise > best.1 {
            best = (id, score + noise);
        }
    }
    best.0
}

fn gumbel(uniform: f64) -> f64 {
    -(-uniform.ln()).ln()
}

/// A sampler that replays observed codes beside what would have been chosen. It takes twice the rows: those that the codes were observed
/// under first, then the same rows with something changed.
pub struct Hindsight {
    /// Ids by row, codebook and position.
    observed: Vec<Vec<u32>>,
    filled: usize,
    seeds: Vec<Seed>,
    /// The latest unit and how many codebooks of it were picked.
    latest: (usize, usize),
}

impl Hindsight {
    /// Hindsight of whole codes; `seeds` settle what the codes leave open, one for each row.
    ///
    /// # Panics
    /// If there are fewer seeds than rows.
    pub fn new(observed: &Codes, seeds: Vec<Seed>) -> Self {
        assert!(
            seeds.len() >= observed.batch(),
            "batch axis: {} rows, {} seeds",
            observed.batch(),
            seeds.len()
        );
        Self {
            filled: observed.filled(),
            observed: observed.to_host(),
            seeds,
            latest: (0, 0),
        }
    }

    fn codebook(&mut self, unit: &Unit) -> usize {
        let (index, picked) = self.latest;
        let codebook = if index == unit.index { picked } else { 0 };
        self.latest = (unit.index, codebook + 1);
        codebook
    }

    /// The observed id and the counterfactual one.
    fn pair(&self, row: usize, place: (usize, usize), scores: [&[f32]; 2]) -> Result<[u32; 2]> {
        let (codebook, position) = place;
        let wrong = |found: String, expected: String| Err(Error::Codes { found, expected });
        let known = (position < self.filled)
            .then(|| self.observed[row].get(codebook * self.filled + position))
            .flatten();
        let Some(&id) = known else {
            let found = format!("{} observed positions", self.filled);
            return wrong(found, format!("more than {position}"));
        };
        let [then, now] = scores.map(|scores| {
            let wide = scores.iter().map(|&score| f64::from(score));
            wide.collect::<Vec<f64>>()
        });
        if then.iter().chain(&now).any(|score| score.is_nan()) {
            return Err(Error::NotFinite {
                place: "the head's scores".into(),
                what: format!("NaN in row {row} at position {position}"),
            });
        }
        match then.get(id as usize) {
            Some(score) if score.is_finite() => {}
            _ => {
                let found = format!("id {id} at position {position}");
                return wrong(found, "an id that its own scores allow".into());
            }
        }
        let seed = self.seeds[row]
            .indexed(position as u64)
            .indexed(codebook as u64);
        let mut stream = seed.stream();
        // Never zero, whose logarithm would be no number.
        let mut uniform = || ((stream.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let uniforms: Vec<f64> = then.iter().map(|_| uniform()).collect();
        let noise = hindsight_noise(&then, id as usize, &uniforms);
        Ok([id, noisy_choice(&now, &noise) as u32])
    }
}

impl Sampler for Hindsight {
    /// # Errors
    /// [`Error::Codes`] if the observed codes end too early, or hold an id that their own scores rule out.
    ///
    /// # Panics
    /// If there are not twice as many rows as were observed.
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> Result<Tensor<2, Int>> {
        let [rows, n, size] = logits.dims();
        assert_eq!(
            rows,
            2 * self.observed.len(),
            "batch axis: observed rows, then as many changed ones"
        );
        let device = logits.device();
        let codebook = self.codebook(unit);
        let scores: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let row_of = |row: usize, at: usize| &scores[(row * n + at) * size..][..size];
        let mut ids = vec![0i32; rows * n];
        for row in 0..rows / 2 {
            for at in 0..n {
                let pair = [row_of(row, at), row_of(row + rows / 2, at)];
                let place = (codebook, unit.span.start + at);
                let [then, now] = self.pair(row, place, pair)?;
                ids[row * n + at] = then as i32;
                ids[(row + rows / 2) * n + at] = now as i32;
            }
        }
        Ok(Tensor::from_data(
            TensorData::new::<i32, _>(ids, [rows, n]),
            &device,
        ))
    }

    fn settled(&mut self, _ids: &Tensor<2, Int>, unit: &Unit) {
        self.codebook(unit);
    }
}
