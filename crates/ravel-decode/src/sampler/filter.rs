//! Filters of one row of scores: each removes ids (its score becomes minus infinity) or shifts scores.
//!
//! The rules are those of the `transformers` library's logits processors, ties and edges included, so that settings carry over.

use super::on_device::Cut;

/// Changes one row of scores, given the ids that the row holds already.
pub trait Filter: Send {
    /// Changes `scores`, one per id.
    fn apply(&self, scores: &mut [f32], history: &[u32]);

    /// The same where the scores are, of a filter that does not look at the history; none if it needs the host.
    fn cut(&self) -> Option<Cut> {
        None
    }
}

const OUT: f32 = f32::NEG_INFINITY;

/// Probability of each id relative to the most probable one, in f64. Scores of minus infinity weigh nothing.
///
/// At least one score must be finite, and none NaN.
pub fn weights(scores: &[f32]) -> Vec<f64> {
    let largest = f64::from(scores.iter().copied().fold(OUT, f32::max));
    let weight = |&score: &f32| match score {
        OUT => 0.0,
        score => (f64::from(score) - largest).exp(),
    };
    scores.iter().map(weight).collect()
}

/// Softmax in f64. As for [`weights`].
pub fn probabilities(scores: &[f32]) -> Vec<f64> {
    let weights = weights(scores);
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

fn entropy(probabilities: &[f64]) -> f64 {
    let terms = probabilities
        .iter()
        .filter(|&&p| p > 0.0)
        .map(|p| -p * p.ln());
    terms.sum()
}

/// Ids of keys above minus infinity by ascending key; of equal keys the later id comes first.
///
/// Key and id are packed into one integer, which sorts several times faster than ids that are compared by key.
fn ascending(keys: impl Iterator<Item = f32>) -> Vec<usize> {
    let mut packed: Vec<u64> = keys
        .enumerate()
        .filter(|(_, key)| *key > OUT)
        .map(|(id, key)| (u64::from(ordered_bits(key)) << 32) | u64::from(!(id as u32)))
        .collect();
    packed.sort_unstable();
    let id = |packed: u64| !(packed as u32) as usize;
    packed.into_iter().map(id).collect()
}

/// An integer that is larger for larger numbers; both zeros are one.
fn ordered_bits(number: f32) -> u32 {
    let bits = (number + 0.0).to_bits();
    match bits >> 31 {
        0 => bits | 1 << 31,
        _ => !bits,
    }
}

/// Divides all scores: below 1 sharpens, above 1 flattens.
#[derive(Debug, Clone, Copy)]
pub struct Temperature(pub f64);

impl Filter for Temperature {
    fn apply(&self, scores: &mut [f32], _history: &[u32]) {
        for score in scores {
            *score /= self.0 as f32;
        }
    }

    fn cut(&self) -> Option<Cut> {
        Some(Cut::Temperature(self.0))
    }
}

/// Keeps the ids with the `k` largest scores, and all that tie with the last of them (Fan et al. 2018).
#[derive(Debug, Clone, Copy)]
pub struct TopK {
    /// How many.
    pub k: usize,
}

impl Filter for TopK {
    fn apply(&self, scores: &mut [f32], _history: &[u32]) {
        let last = self.k.clamp(1, scores.len()) - 1;
        let mut ranked = scores.to_vec();
        let (_, &mut least, _) = ranked.select_nth_unstable_by(last, |a, b| b.total_cmp(a));
        for score in scores.iter_mut().filter(|score| **score < least) {
            *score = OUT;
        }
    }

    fn cut(&self) -> Option<Cut> {
        Some(Cut::TopK(self.k))
    }
}

/// Keeps the smallest set of most probable ids whose probabilities reach `p` (Holtzman et al. 2020). Of equal
/// ids at the edge the earlier ones stay.
#[derive(Debug, Clone, Copy)]
pub struct TopP {
    /// The mass that is kept.
    pub p: f64,
    /// Ids that are kept at least.
    pub keep: usize,
}

impl Filter for TopP {
    fn apply(&self, scores: &mut [f32], _history: &[u32]) {
        let shares = probabilities(scores);
        let order = ascending(scores.iter().copied());
        let removable = order.len().saturating_sub(self.keep.max(1));
        let mut below = 0.0;
        for &id in &order[..removable] {
            below += shares[id];
            if below > 1.0 - self.p {
                break;
            }
            scores[id] = OUT;
        }
    }

    fn cut(&self) -> Option<Cut> {
        (self.keep <= 1).then_some(Cut::TopP(self.p))
    }
}

/// Keeps the most probable ids whose probabilities together stay within this mass; the most probable one stays in any case.
/// [`TopP`] also keeps the id that crosses the mass (Fish-Speech's rule, applied before the temperature there).
#[derive(Debug, Clone, Copy)]
pub struct TopPWithin(pub f64);

impl Filter for TopPWithin {
    fn apply(&self, scores: &mut [f32], _history: &[u32]) {
        let shares = probabilities(scores);
        let mut order = ascending(scores.iter().copied());
        let Some(best) = order.pop() else {
            return;
        };
        let mut mass = shares[best];
        for id in order.into_iter().rev() {
            mass += shares[id];
            if mass > self.0 {
                scores[id] = OUT;
            }
        }
    }
}

/// Keeps ids at least `p` times as probable as the most probable one.
#[derive(Debug, Clone, Copy)]
pub struct MinP(pub f64);

impl Filter for MinP {
    fn apply(&self, scores: &mut [f32], _history: &[u32]) {
        let weights = weights(scores);
        for (score, weight) in scores.iter_mut().zip(weights) {
            if weight < self.0 {
                *score = OUT;
            }
        }
    }

    fn cut(&self) -> Option<Cut> {
        Some(Cut::MinP(self.0))
    }
}

/// Keeps ids whose surprise is nearest to the expected one, until their probabilities reach the mass (Meister et al. 2023).
#[derive(Debug, Clone, Copy)]
pub struct Typical(pub f64);

impl Filter for Typical {
    fn apply(&self, scores: &mut [f32], _history: &[u32]) {
        let shares = probabilities(scores);
        let expected = entropy(&shares);
        let distance: Vec<f64> = shares.iter().map(|p| (-p.ln() - expected).abs()).collect();
        let order = ascending(distance.iter().map(|&distance| distance as f32));
        let mut mass = 0.0;
        let last = order.iter().position(|&id| {
            mass += shares[id];
            mass >= self.0
        });
        let farthest = distance[order[last.unwrap_or(order.len() - 1)]];
        for (score, distance) in scores.iter_mut().zip(distance) {
            if distance > farthest {
                *score = OUT;
            }
        }
    }
}

/// Removes ids below a fixed probability (Hewitt et al. 2022); the most probable one stays.
#[derive(Debug, Clone, Copy)]
pub struct EpsilonCutoff(pub f64);

impl Filter for EpsilonCutoff {
    fn apply(&self, scores: &mut [f32], _history: &[u32]) {
        let shares = probabilities(scores);
        cut_below(scores, &shares, self.0);
    }
}

/// Removes ids below a probability that falls with the entropy (Hewitt et al. 2022); the most probable one stays.
#[derive(Debug, Clone, Copy)]
pub struct EtaCutoff(pub f64);

impl Filter for EtaCutoff {
    fn apply(&self, scores: &mut [f32], _history: &[u32]) {
        let shares = probabilities(scores);
        let cutoff = self.0.min(self.0.sqrt() * (-entropy(&shares)).exp());
        cut_below(scores, &shares, cutoff);
    }
}

fn cut_below(scores: &mut [f32], shares: &[f64], cutoff: f64) {
    let largest = scores.iter().copied().fold(OUT, f32::max);
    for (score, &share) in scores.iter_mut().zip(shares) {
        if share < cutoff && *score < largest {
            *score = OUT;
        }
    }
}

/// Makes ids that occurred less likely: positive scores are divided, negative ones multiplied, once per id (Keskar et al. 2019).
#[derive(Debug, Clone, Copy)]
pub struct RepetitionPenalty(pub f64);

impl Filter for RepetitionPenalty {
    fn apply(&self, scores: &mut [f32], history: &[u32]) {
        let mut ids = history.to_vec();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let Some(score) = scores.get_mut(id as usize) else {
                continue; // A given id that is no id of this codebook.
            };
            if *score < 0.0 {
                *score *= self.0 as f32;
            } else {
                *score /= self.0 as f32;
            }
        }
    }
}

/// As [`RepetitionPenalty`] for the latest ids only. While fewer than `window` were chosen, id 0 counts as chosen: Fish-Speech
/// begins with a window of zeros.
#[derive(Debug, Clone, Copy)]
pub struct RecentPenalty {
    /// As [`RepetitionPenalty`]'s.
    pub penalty: f64,
    /// How many ids are remembered.
    pub window: usize,
}

impl Filter for RecentPenalty {
    fn apply(&self, scores: &mut [f32], history: &[u32]) {
        let recent = &history[history.len().saturating_sub(self.window)..];
        let empty = (recent.len() < self.window).then_some(0);
        let recent: Vec<u32> = recent.iter().copied().chain(empty).collect();
        RepetitionPenalty(self.penalty).apply(scores, &recent);
    }
}

/// Lets the id that ends a sequence be chosen exactly when its score is the largest, so that chance neither ends nor prolongs
/// (Dia).
#[derive(Debug, Clone, Copy)]
pub struct EndIfLargest {
    /// The id that ends.
    pub end: u32,
}

impl Filter for EndIfLargest {
    fn apply(&self, scores: &mut [f32], _history: &[u32]) {
        let ends = super::chain::greedy_choice(scores) == self.end;
        for (id, score) in scores.iter_mut().enumerate() {
            if (id as u32 == self.end) != ends {
                *score = OUT;
            }
        }
    }
}

/// Removes ids that would complete a run of this many ids that occurred already.
#[derive(Debug, Clone, Copy)]
pub struct NoRepeat {
    /// Length of a run, at least 1.
    pub run: usize,
}

impl Filter for NoRepeat {
    fn apply(&self, scores: &mut [f32], history: &[u32]) {
        let Some(start) = (history.len() + 1).checked_sub(self.run) else {
            return;
        };
        let tail = &history[start..];
        for run in history.windows(self.run) {
            if run[..self.run - 1] == *tail {
                scores[run[self.run - 1] as usize] = OUT;
            }
        }
    }
}

/// Removes the end id while fewer ids than this were chosen.
#[derive(Debug, Clone, Copy)]
pub struct MinLength {
    /// Ids that come first.
    pub length: usize,
    /// The id that ends a sequence.
    pub end: u32,
}

impl Filter for MinLength {
    fn apply(&self, scores: &mut [f32], history: &[u32]) {
        if history.len() < self.length {
            scores[self.end as usize] = OUT;
        }
    }
}

/// Adds a number to the score of the last id of a sequence whose beginning was just chosen. Minus infinity forbids it.
#[derive(Debug, Clone)]
pub struct SequenceBias(pub Vec<(Vec<u32>, f32)>);

impl Filter for SequenceBias {
    fn apply(&self, scores: &mut [f32], history: &[u32]) {
        for (sequence, bias) in &self.0 {
            if let Some((last, before)) = sequence.split_last()
                && history.ends_with(before)
            {
                scores[*last as usize] += bias;
            }
        }
    }
}
