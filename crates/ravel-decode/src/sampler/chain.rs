//! The innermost sampler: filters, then one choice per row and position.

use burn::tensor::{Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::{Codes, Draw, Error, Result, Sampler, Seed, Unit};

use super::filter::{Filter, probabilities, weights};
use crate::watermark::Marking;

/// How an id is taken from filtered scores.
#[derive(Debug, Clone)]
pub enum Choice {
    /// The largest score, the first of equal ones.
    Greedy,
    /// At random by probability. One seed per row, split by position: a row's ids depend on nothing else in
    /// the batch, and a generation that is taken up again goes on as it would have.
    Draw(Vec<Seed>),
    /// By probability over all keys, and by a watermark's numbers under one.
    Marked(Marked),
}

/// The watermarks of a generation.
#[derive(Debug, Clone)]
pub struct Marked(pub(super) Marking);

/// Filters in their order, then a choice. Made for one generation.
///
/// The scores are read to the host once per pick. Filters see the ids of earlier units only, since the positions of a unit
/// are chosen together. A second pick for the same unit is for the next codebook, which has a history of its own.
pub struct Chain {
    filters: Vec<Box<dyn Filter>>,
    choice: Choice,
    /// Ids so far of each codebook and row.
    history: Vec<Vec<Vec<u32>>>,
    /// The latest unit and how many codebooks of it were picked.
    latest: (usize, usize),
}

impl Chain {
    /// A sampler without history.
    pub fn new(filters: Vec<Box<dyn Filter>>, choice: Choice) -> Self {
        Self {
            filters,
            choice,
            history: Vec::new(),
            latest: (0, 0),
        }
    }

    /// Which codebook this pick is for.
    fn depth(&mut self, unit: &Unit) -> usize {
        let (index, picked) = self.latest;
        let depth = if index == unit.index { picked } else { 0 };
        self.latest = (unit.index, depth + 1);
        depth
    }

    fn remember(&mut self, depth: usize, row: usize, ids: &[u32]) {
        if self.filters.is_empty() {
            return;
        }
        if self.history.len() <= depth {
            self.history.resize(depth + 1, Vec::new());
        }
        let rows = &mut self.history[depth];
        if rows.len() <= row {
            rows.resize(row + 1, Vec::new());
        }
        rows[row].extend(ids);
    }

    fn choose(&self, scores: &mut [f32], place: &Place<'_>) -> Result<u32> {
        place.check(scores)?;
        let past = self.history.get(place.depth);
        let past = past.and_then(|rows| rows.get(place.row));
        for filter in &self.filters {
            filter.apply(scores, past.map_or(&[], Vec::as_slice));
        }
        place.check_left(scores)?;
        Ok(match &self.choice {
            Choice::Greedy => greedy_choice(scores),
            Choice::Draw(seeds) => inverse_cdf_choice(scores, place.uniform(&seeds[place.row])),
            Choice::Marked(Marked(marking)) => {
                let weights = probabilities(scores);
                marking.choice(&weights, place.row, place.depth, place.position)
            }
        })
    }

    /// The largest scores without reading them all to the host, where nothing else is asked for and every
    /// score is a number.
    fn largest_on_device(&self, logits: &Tensor<3>) -> Option<Tensor<2, Int>> {
        if !self.filters.is_empty() || !matches!(self.choice, Choice::Greedy) {
            return None;
        }
        // A sum is finite only if all its terms are.
        let sums = numbers(logits.clone().sum_dim(2));
        let finite = sums.iter().all(|sum| sum.is_finite());
        finite.then(|| logits.clone().argmax(2).squeeze_dim(2))
    }
}

impl Sampler for Chain {
    /// # Errors
    /// [`Error::NotFinite`] also if a row holds infinity, or the filters leave nothing.
    ///
    /// # Panics
    /// If there are more rows than seeds.
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> Result<Tensor<2, Int>> {
        if let Some(ids) = self.largest_on_device(&logits) {
            return Ok(ids);
        }
        let [batch, len, size] = logits.dims();
        let device = logits.device();
        let depth = self.depth(unit);
        let seeds = match &mut self.choice {
            Choice::Greedy => batch,
            Choice::Draw(seeds) => seeds.len(),
            Choice::Marked(Marked(marking)) => {
                marking.prepare(depth, size);
                marking.batch()
            }
        };
        assert!(batch <= seeds, "batch axis: {batch} rows, {seeds} seeds");
        let mut scores = numbers(logits);
        let mut ids = Vec::with_capacity(batch * len);
        for (at, scores) in scores.chunks_exact_mut(size).enumerate() {
            let (row, offset) = (at / len, at % len);
            let place = Place {
                row,
                unit,
                position: unit.span.start + offset,
                depth,
            };
            ids.push(self.choose(scores, &place)?);
        }
        for (row, ids) in ids.chunks_exact(len.max(1)).enumerate() {
            self.remember(depth, row, ids);
        }
        let ids = ids.into_iter().map(|id| id as i32).collect();
        let data = TensorData::new::<i32, _>(ids, [batch, len]);
        Ok(Tensor::from_data(data, &device))
    }

    fn filter(&self, scores: &mut [f32], row: usize, past: &[u32]) -> Option<Draw> {
        let draw = match self.choice {
            Choice::Greedy => Draw::Largest,
            Choice::Draw(_) => Draw::ByProbability,
            Choice::Marked(_) => return None,
        };
        let given = self.history.first().and_then(|rows| rows.get(row));
        let history = match given {
            Some(given) => [given, past].concat(),
            None => past.to_vec(),
        };
        for filter in &self.filters {
            filter.apply(scores, &history);
        }
        Some(draw)
    }

    fn settled(&mut self, ids: &Tensor<2, Int>, unit: &Unit) {
        let depth = self.depth(unit);
        if self.filters.is_empty() {
            return;
        }
        let [batch, len] = ids.dims();
        let ids: Vec<u32> = ids
            .to_data()
            .convert::<u32>()
            .try_into_vec()
            .expect("ids were converted to u32");
        for (row, ids) in ids.chunks_exact(len.max(1)).enumerate().take(batch) {
            self.remember(depth, row, ids);
        }
    }

    fn given(&mut self, prompt: &Codes) {
        if prompt.filled() == 0 {
            return;
        }
        for (row, ids) in prompt.to_host().iter().enumerate() {
            for (depth, ids) in ids.chunks_exact(prompt.filled()).enumerate() {
                self.remember(depth, row, ids);
            }
        }
    }
}

/// Where a row of scores stands.
struct Place<'a> {
    row: usize,
    unit: &'a Unit,
    position: usize,
    depth: usize,
}

impl Place<'_> {
    /// A number in `0..1` that belongs to this place alone.
    fn uniform(&self, row: &Seed) -> f64 {
        let seed = row.indexed(self.position as u64).indexed(self.depth as u64);
        (seed.stream().next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn check(&self, scores: &[f32]) -> Result<()> {
        let what = if scores.iter().any(|score| score.is_nan()) {
            "NaN"
        } else if scores.contains(&f32::INFINITY) {
            "infinity"
        } else if !any_finite(scores) {
            "no finite number"
        } else {
            return Ok(());
        };
        Err(self.error("the head's scores", what))
    }

    fn check_left(&self, scores: &[f32]) -> Result<()> {
        match any_finite(scores) {
            true => Ok(()),
            false => Err(self.error("the sampler's filters", "no id to choose from")),
        }
    }

    fn error(&self, place: &str, what: &str) -> Error {
        let Place {
            row,
            unit,
            position,
            ..
        } = self;
        Error::NotFinite {
            place: place.into(),
            what: format!(
                "{what} in row {row} at unit {}, position {position}",
                unit.index
            ),
        }
    }
}

fn any_finite(scores: &[f32]) -> bool {
    scores.iter().any(|score| score.is_finite())
}

/// Waits for the device.
fn numbers(tensor: Tensor<3>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec().expect("numbers were converted to f32")
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
    let weights = weights(scores);
    let total: f64 = weights.iter().sum();
    let mut cumulative = 0.0;
    let mut last = 0;
    for (id, weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        cumulative += weight;
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
