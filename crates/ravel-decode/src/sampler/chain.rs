//! The innermost sampler: filters, then one choice per row and position.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::{Codes, Draw, Error, Result, Sampler, Seed, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::{Filter, probabilities, weights};
use super::on_device::{self, Cut};
use crate::watermark::Marking;

/// How an id is taken from filtered scores.
#[derive(Debug, Clone)]
pub enum Choice {
    /// The largest score, the first of equal ones.
    Greedy,
    /// At random by probability. One seed per row, split by position: a row's ids depend on nothing else in
    /// the batch, and a generation that is taken up again goes on as it would have.
    Draw(Vec<Seed>),
    /// At random by probability, with one number for all positions of a unit.
    Coupled(Coupled, Vec<Seed>),
    /// By probability over all keys, and by a watermark's numbers under one.
    Marked(Marked),
}

/// The watermarks of a generation.
#[derive(Debug, Clone)]
pub struct Marked(pub(super) Marking);

/// One random number for all positions of a unit, such as a frame of video. Each id is as probable as ever, but positions whose scores are
/// alike choose alike (a coupling of their distributions), so that what belongs together stays together. From unit to unit the
/// number goes on by the golden section, which spreads it evenly over `0..1`: what is to happen two times in five happens every second or third
/// time, not by chance thrice in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Coupled {
    /// Ids are ranked by their rest when divided by this first: of a finite scalar code the product of its first levels, so that
    /// positions that agree in these agree in the choice, whatever else their codes say. One for the plain order.
    pub groups: usize,
}

impl Coupled {
    /// The number of a unit, in `0..1`.
    fn uniform(self, row: &Seed, unit: usize) -> f64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 over the golden ratio.
        let begin = row.named("coupled").stream().next_u64();
        let turned = begin.wrapping_add(GOLDEN.wrapping_mul(unit as u64));
        (turned >> 11) as f64 / (1u64 << 53) as f64
    }

    /// As [`inverse_cdf_choice`], in the order of groups.
    fn choice(self, scores: &[f32], uniform: f64) -> u32 {
        let order = (0..self.groups.min(scores.len()))
            .flat_map(|group| (group..scores.len()).step_by(self.groups));
        let order: Vec<usize> = order.collect();
        let ranked: Vec<f32> = order.iter().map(|&id| scores[id]).collect();
        order[inverse_cdf_choice(&ranked, uniform) as usize] as u32
    }
}

/// Filters in their order, then a choice. Made for one generation.
///
/// The scores are read to the host once per pick; on other devices than the CPU the ids are read instead, where
/// all that is asked for can be done there ([`Filter::cut`]). Filters see the ids of earlier units only, since the positions of a unit
/// are chosen together. A second pick for the same unit is for the next codebook, which has a history of its own.
pub struct Chain {
    filters: Vec<Box<dyn Filter>>,
    /// The filters where the scores are; none if one of them needs the host.
    cuts: Option<Vec<Cut>>,
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
            cuts: on_device::cuts(&filters),
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

    /// Whether no filter looks at earlier ids.
    fn forgets(&self) -> bool {
        self.cuts.is_some()
    }

    fn remember(&mut self, depth: usize, row: usize, ids: &[u32]) {
        if self.forgets() {
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
            Choice::Coupled(coupled, seeds) => {
                coupled.choice(scores, coupled.uniform(&seeds[place.row], place.unit.index))
            }
            Choice::Marked(Marked(marking)) => {
                let weights = probabilities(scores);
                marking.choice(&weights, place.row, place.depth, place.position)
            }
        })
    }

    /// The largest scores on the CPU without a copy of them, where nothing else is asked for and every score is a number.
    fn largest(&self, logits: &Tensor<3>) -> Option<Tensor<2, Int>> {
        if !self.filters.is_empty() || !matches!(self.choice, Choice::Greedy) {
            return None;
        }
        // A sum is finite only if all its terms are.
        let sums = numbers(logits.clone().sum_dim(2));
        let finite = sums.iter().all(|sum| sum.is_finite());
        finite.then(|| logits.clone().argmax(2).squeeze_dim(2))
    }

    /// Ids chosen where the scores are. None where the host has to: for its filters and choices, and to say what is wrong with
    /// scores that nothing can be chosen from.
    fn on_device(&self, logits: &Tensor<3>, unit: &Unit, depth: usize) -> Option<Tensor<2, Int>> {
        let cuts = self.cuts.as_ref()?;
        let [batch, len, size] = logits.dims();
        let uniforms = match &self.choice {
            Choice::Greedy => None,
            Choice::Draw(seeds) => {
                let number = |at| {
                    let place = Place::of(at, len, unit, depth);
                    (place.uniform(&seeds[place.row]) as f32).min(on_device::BELOW_ONE)
                };
                let numbers = (0..batch * len).map(number).collect();
                Some(uploaded(numbers, [batch, len], &logits.device()))
            }
            Choice::Coupled(..) | Choice::Marked(_) => return None,
        };
        let ids = on_device::chosen(logits.clone(), cuts, uniforms);
        let told = ids.to_data();
        let sound = told.iter::<i64>().all(|id| (0..size as i64).contains(&id));
        sound.then_some(ids)
    }
}

impl Sampler for Chain {
    /// # Errors
    /// [`Error::NotFinite`] also if a row holds infinity, or the filters leave nothing.
    ///
    /// # Panics
    /// If there are more rows than seeds.
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> Result<Tensor<2, Int>> {
        let device = logits.device();
        let on_cpu = ravel_kernels::tensor::is_cpu(&device);
        if on_cpu && let Some(ids) = self.largest(&logits) {
            return Ok(ids);
        }
        let [batch, len, size] = logits.dims();
        let depth = self.depth(unit);
        let seeds = match &mut self.choice {
            Choice::Greedy => batch,
            Choice::Draw(seeds) | Choice::Coupled(_, seeds) => seeds.len(),
            Choice::Marked(Marked(marking)) => {
                marking.prepare(depth, size);
                marking.batch()
            }
        };
        assert!(batch <= seeds, "batch axis: {batch} rows, {seeds} seeds");
        if !on_cpu && let Some(ids) = self.on_device(&logits, unit, depth) {
            return Ok(ids);
        }
        let mut scores = numbers(logits);
        let mut ids = Vec::with_capacity(batch * len);
        for (at, scores) in scores.chunks_exact_mut(size).enumerate() {
            ids.push(self.choose(scores, &Place::of(at, len, unit, depth))?);
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
            Choice::Coupled(..) | Choice::Marked(_) => return None,
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
        if self.forgets() {
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

impl<'a> Place<'a> {
    /// The place of a row of scores that is the `at`-th of all in units of `len` positions.
    fn of(at: usize, len: usize, unit: &'a Unit, depth: usize) -> Self {
        Self {
            row: at / len,
            unit,
            position: unit.span.start + at % len,
            depth,
        }
    }

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

/// One number goes along with the operation that fills a tensor with it: a GPU is handed all that is queued before an upload.
fn uploaded(numbers: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    match numbers[..] {
        [number] => Tensor::full(shape, number, device),
        _ => Tensor::from_data(TensorData::new(numbers, shape), device),
    }
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

#[cfg(test)]
mod tests {
    use ravel_testkit::device;

    use super::*;

    /// What a chain picks of rows of shares at one unit.
    fn picked(chain: &mut Chain, index: usize, rows: &[[f32; 6]]) -> Vec<u32> {
        let n = rows.len();
        let scores: Vec<f32> = rows.iter().flatten().map(|share| share.ln()).collect();
        let scores = TensorData::new(scores, [1, n, 6]);
        let unit = Unit {
            index,
            span: index * n..(index + 1) * n,
        };
        let ids = chain.pick(Tensor::from_data(scores, &device()), &unit);
        let ids = ids.expect("finite scores").into_data().convert::<u32>();
        ids.try_into_vec().expect("converted")
    }

    fn coupled(groups: usize) -> Chain {
        let choice = Choice::Coupled(Coupled { groups }, vec![Seed::new(5)]);
        Chain::new(Vec::new(), choice)
    }

    #[test]
    fn coupled_choices_are_as_probable_as_single_ones_and_evenly_spread() {
        let shares = [0.4, 0.0, 0.25, 0.2, 0.05, 0.1];
        let mut chain = coupled(1);
        let mut counts = [0.0f32; 6];
        for unit in 0..200 {
            counts[picked(&mut chain, unit, &[shares])[0] as usize] += 1.0;
        }
        for (count, share) in counts.iter().zip(shares) {
            // Chance would be off by seven.
            assert!((count - 200.0 * share).abs() <= 3.0, "{counts:?}");
        }
    }

    #[test]
    fn positions_whose_groups_are_alike_choose_the_same_group() {
        // Ids 0, 2, 4 and 1, 3, 5 are the groups; both rows give the first 0.6.
        let rows = [
            [0.1, 0.2, 0.4, 0.1, 0.1, 0.1],
            [0.5, 0.05, 0.05, 0.3, 0.05, 0.05],
        ];
        let (mut grouped, mut plain) = (coupled(2), coupled(1));
        let group_of = |ids: Vec<u32>| [ids[0] % 2, ids[1] % 2];
        let mut differ = 0;
        for unit in 0..60 {
            let [one, other] = group_of(picked(&mut grouped, unit, &rows));
            assert_eq!(one, other, "unit {unit}");
            let again = picked(&mut grouped, unit, &rows);
            assert_eq!(group_of(again), [one, other], "a second pass");
            let [one, other] = group_of(picked(&mut plain, unit, &rows));
            differ += usize::from(one != other);
        }
        assert!(differ > 0);
    }

    #[test]
    fn other_devices_choose_what_the_host_chooses() {
        let filters = || -> Vec<Box<dyn Filter>> {
            let temperature = Box::new(super::super::Temperature(0.8));
            vec![temperature, Box::new(super::super::TopK { k: 4 })]
        };
        let scores = ravel_testkit::formula::<3>([2, 3, 6], 1, 3.0, &device());
        let unit = Unit {
            index: 4,
            span: 12..15,
        };
        for seed in 0..20 {
            let seeds = vec![Seed::new(seed), Seed::new(seed).indexed(1)];
            let mut chain = Chain::new(filters(), Choice::Draw(seeds));
            let there = chain.on_device(&scores, &unit, 0).expect("numbers");
            let here = chain.pick(scores.clone(), &unit).expect("numbers");
            assert_eq!(ravel_testkit::ids(&there), ravel_testkit::ids(&here));
        }
        let one = scores.clone().narrow(0, 0, 1).narrow(1, 2, 1);
        let seeds = vec![Seed::new(5)];
        let mut chain = Chain::new(filters(), Choice::Draw(seeds));
        let unit = Unit {
            index: 4,
            span: 14..15,
        };
        let there = chain.on_device(&one, &unit, 0).expect("numbers");
        let here = chain.pick(one, &unit).expect("numbers");
        assert_eq!(ravel_testkit::ids(&there), ravel_testkit::ids(&here));
        let broken = scores.mul_scalar(f32::NAN);
        let mut chain = Chain::new(filters(), Choice::Greedy);
        assert!(chain.on_device(&broken, &unit, 0).is_none());
        assert!(chain.pick(broken, &unit).is_err());
        let penalty = Box::new(super::super::RepetitionPenalty(1.1));
        let chain = Chain::new(vec![penalty], Choice::Greedy);
        let scores = Tensor::zeros([1, 1, 6], &device());
        assert!(chain.on_device(&scores, &unit, 0).is_none(), "looks back");
    }

    #[test]
    fn coupled_choices_are_never_left_to_a_draft() {
        let drafts = |chain: &Chain| chain.filter(&mut [0.0; 6], 0, &[]).is_some();
        assert!(!drafts(&coupled(2)));
        assert!(drafts(&Chain::new(Vec::new(), Choice::Greedy)));
    }
}
