//! Speculative sampling: a small model drafts several ids, the large one judges them all in one step.
//!
//! Leviathan et al. 2023, algorithm 1; Chen et al. 2023. What comes out is distributed as if the large model had drawn every id by
//! itself: a drafted id `x` is kept with probability `min(1, p(x) / q(x))`, and the first that is not is replaced by a draw from
//! `max(p - q, 0)`. Symbols: p is the large model's distribution, q the draft's.

use std::cell::Cell;
use std::ops::ControlFlow;

use rand_core::Rng;
use ravel_core::{
    Codes, Condition, Decoding, Draw, Error, Generator, Layout, Result, Sampler, Seed, Start, Watch,
};

use super::follow::{Follower, check_prompt, codes_of, filtered, latest};
use crate::sampler::{greedy_choice, probabilities};

/// What became of a draft.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Drafted ids that are kept: the first so many.
    pub accepted: usize,
    /// What the id after them is drawn from.
    pub distribution: Vec<f64>,
}

/// Judges drafted ids.
///
/// - `target`: p at each drafted position and at the one after, so one more than there are ids
/// - `draft`: q at each drafted position
/// - `uniforms`: a number in `0..1` for each id
///
/// # Panics
/// If there are fewer distributions or numbers than ids.
pub fn judge(target: &[Vec<f64>], draft: &[Vec<f64>], ids: &[u32], uniforms: &[f64]) -> Verdict {
    let kept = |at: &usize| {
        let id = ids[*at] as usize;
        uniforms[*at] <= target[*at][id] / draft[*at][id]
    };
    let accepted = (0..ids.len()).take_while(kept).count();
    let distribution = match draft.get(accepted) {
        Some(q) => rest(&target[accepted], q),
        _ => target[accepted].clone(),
    };
    Verdict {
        accepted,
        distribution,
    }
}

/// What p has over q, as a distribution; p itself if that is nothing but rounding.
fn rest(p: &[f64], q: &[f64]) -> Vec<f64> {
    let over: Vec<f64> = p.iter().zip(q).map(|(p, q)| (p - q).max(0.0)).collect();
    let total: f64 = over.iter().sum();
    match total > 0.0 {
        true => over.into_iter().map(|share| share / total).collect(),
        false => p.to_vec(),
    }
}

/// The id at which the cumulative distribution first exceeds `uniform` in `0..1`.
pub fn draw(distribution: &[f64], uniform: f64) -> u32 {
    let total: f64 = distribution.iter().sum();
    let (mut cumulative, mut last) = (0.0, 0);
    for (id, share) in distribution.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        cumulative += share;
        last = id;
        if cumulative / total > uniform {
            break;
        }
    }
    last as u32
}

/// How many drafted ids were judged, and how many of them kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Judged.
    pub drafted: usize,
    /// Kept.
    pub accepted: usize,
}

/// Drafts with a second generator. One row at a time, since rows would keep different numbers of ids.
pub struct Speculative<'a> {
    /// The small model.
    pub draft: Generator<'a>,
    /// Its condition.
    pub condition: Condition,
    /// Ids that are drafted before they are judged; 1 at least.
    pub ahead: usize,
    /// The source of all randomness.
    pub seed: Seed,
    /// What became of the drafts of the latest generation.
    pub tally: Cell<Tally>,
}

/// Ids that are drafted where nothing else is said.
pub const AHEAD: usize = 4;

/// Which random number of a position is meant.
const DRAFT: &str = "draft";
const ACCEPT: &str = "accept";
const REPLACE: &str = "replace";

impl Speculative<'_> {
    /// A number in `0..1` that belongs to a position and a purpose alone.
    fn uniform(&self, purpose: &str, position: usize) -> f64 {
        let seed = self.seed.named(purpose).indexed(position as u64);
        (seed.stream().next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Ids after `known`, with what each was drawn from.
    fn drafted(
        &self,
        follower: &mut Follower<'_>,
        known: &[u32],
        count: usize,
        settings: (&dyn Sampler, &Layout, &Codes),
    ) -> Result<(Vec<u32>, Vec<Vec<f64>>)> {
        let (sampler, want, like) = settings;
        let mut all = known.to_vec();
        let mut distributions = Vec::with_capacity(count);
        for _ in 0..count {
            let hidden = follower.hidden(&codes_of(&[&all], want, like));
            let scores = follower.scores(hidden)?.pop().expect("a position");
            let q = distribution(sampler, scores, &all)?;
            all.push(draw(&q, self.uniform(DRAFT, all.len())));
            distributions.push(q);
        }
        Ok((all.split_off(known.len()), distributions))
    }
}

/// The distribution that a sampler draws from.
fn distribution(sampler: &dyn Sampler, mut scores: Vec<f32>, past: &[u32]) -> Result<Vec<f64>> {
    Ok(match filtered(sampler, &mut scores, 0, past)? {
        Draw::ByProbability => probabilities(&scores),
        Draw::Largest => {
            let mut all = vec![0.0; scores.len()];
            all[greedy_choice(&scores) as usize] = 1.0;
            all
        }
    })
}

impl Decoding for Speculative<'_> {
    /// # Errors
    /// [`Error::Codes`] if there is more than one row; [`Error::Config`] if a head does not show its scores, the two models have
    /// different numbers of ids, or the sampler cannot say what it draws from.
    fn decode(
        &self,
        generator: &Generator<'_>,
        start: Start,
        want: &Layout,
        sampler: &mut dyn Sampler,
        watch: &mut Watch<'_>,
    ) -> Result<Codes> {
        let Start { condition, prompt } = start;
        check_prompt(&prompt, want)?;
        if prompt.batch() != 1 {
            return Err(Error::Codes {
                found: format!("{} rows", prompt.batch()),
                expected: "one row for a draft".into(),
            });
        }
        self.tally.set(Tally::default());
        let (mut target, _) = Follower::start(generator, condition, 1, want.len())?;
        let (mut small, _) = Follower::start(&self.draft, self.condition.clone(), 1, want.len())?;
        let mut known = prompt.to_host().remove(0);
        while known.len() < want.len() {
            let count = self.ahead.max(1).min(want.len() - known.len() - 1);
            let settings = (&*sampler, want, &prompt);
            let (ids, q) = self.drafted(&mut small, &known, count, settings)?;
            let all = [&known[..], &ids].concat();
            let hidden = target.hidden(&codes_of(&[&all], want, &prompt));
            let n = hidden.dims()[1];
            let scores = target.scores(hidden.narrow(1, n - 1 - count, count + 1))?;
            let p = scores.into_iter().enumerate();
            let p: Result<Vec<_>> = p
                .map(|(at, scores)| distribution(sampler, scores, &all[..known.len() + at]))
                .collect();
            let p = p?;
            check_sizes(&p, &q)?;
            let uniforms: Vec<f64> = (known.len()..all.len())
                .map(|at| self.uniform(ACCEPT, at))
                .collect();
            let verdict = judge(&p, &q, &ids, &uniforms);
            let Tally { drafted, accepted } = self.tally.get();
            self.tally.set(Tally {
                drafted: drafted + count,
                accepted: accepted + verdict.accepted,
            });
            known.extend(&ids[..verdict.accepted]);
            known.push(draw(
                &verdict.distribution,
                self.uniform(REPLACE, known.len()),
            ));
            // What was predicted from rejected ids is taken back.
            target.cut(known.len());
            small.cut(known.len());
            let codes = codes_of(&[&known], want, &prompt);
            if let ControlFlow::Break(()) = watch(&latest(known.len()), &codes) {
                break;
            }
        }
        Ok(codes_of(&[&known], want, &prompt))
    }
}

fn check_sizes(p: &[Vec<f64>], q: &[Vec<f64>]) -> Result<()> {
    let (p, q) = (p[0].len(), q.first().map_or(p[0].len(), Vec::len));
    match p == q {
        true => Ok(()),
        false => Err(Error::Config {
            field: "the draft's number of ids".into(),
            found: q.to_string(),
            expected: format!("{p}, the model's own"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_kept_up_to_the_ratio_of_its_probabilities() {
        let (p, q) = (vec![vec![0.2, 0.8], vec![0.5, 0.5]], vec![vec![0.8, 0.2]]);
        assert_eq!(judge(&p, &q, &[0], &[0.25]).accepted, 1);
        let rejected = judge(&p, &q, &[0], &[0.26]);
        assert_eq!(rejected.accepted, 0);
        assert_eq!(rejected.distribution, [0.0, 1.0]);
        let kept = judge(&p, &q, &[1], &[0.999]);
        assert_eq!((kept.accepted, kept.distribution), (1, vec![0.5, 0.5]));
    }

    /// Over all drafted ids: what is kept and what replaces the rejected, weighed by how often each comes about, is p again.
    #[test]
    fn a_rejected_draft_leaves_the_distribution_unchanged() {
        let (p, q) = ([0.5, 0.1, 0.15, 0.25, 0.0], [0.1, 0.4, 0.15, 0.05, 0.3]);
        let mut found = [0.0; 5];
        for id in 0..5u32 {
            let (target, draft) = (vec![p.to_vec(), p.to_vec()], vec![q.to_vec()]);
            let keeps = |u: f64| judge(&target, &draft, &[id], &[u]).accepted == 1;
            // The share of uniforms that keep the id, by halving.
            let (mut low, mut high) = (0.0, 1.0);
            for _ in 0..60 {
                let middle = (low + high) / 2.0;
                match keeps(middle) {
                    true => low = middle,
                    false => high = middle,
                }
            }
            found[id as usize] += q[id as usize] * low;
            let rest = judge(&target, &draft, &[id], &[1.0]).distribution;
            for (found, rest) in found.iter_mut().zip(rest) {
                *found += q[id as usize] * (1.0 - low) * rest;
            }
        }
        for (found, p) in found.iter().zip(p) {
            assert!((found - p).abs() < 1e-12, "{found} {p}");
        }
    }
}
