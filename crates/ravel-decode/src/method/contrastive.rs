//! Contrastive search: of the likeliest ids the one that is likely and whose hidden state is unlike those before it.
//!
//! Su et al. 2022, section 4.2: `(1 - alpha) p(id) - alpha max cos(h_id, h_j)` over all positions `j` before. Symbols: `k` candidates,
//! `b` rows, `n` positions, `d` width.

use std::ops::ControlFlow;

use burn::tensor::{Tensor, TensorData};
use ravel_core::{Codes, Decoding, Error, Generator, Layout, Result, Sampler, Start, Watch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::follow::{Follower, check_prompt, codes_of, filtered, latest};
use crate::sampler::probabilities;

/// What fixes a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ContrastiveSearch {
    /// Likeliest ids that are compared, 1 to 1024.
    pub candidates: usize,
    /// Weight of unlikeness, 0 to 1; zero takes the likeliest id.
    pub alpha: f64,
}

impl Default for ContrastiveSearch {
    /// As the paper has it for language models.
    fn default() -> Self {
        Self {
            candidates: 5,
            alpha: 0.6,
        }
    }
}

impl ContrastiveSearch {
    /// Checks that a search can be made.
    ///
    /// # Errors
    /// [`Error::Config`] names the setting that makes no sense.
    pub fn validate(&self) -> Result<()> {
        let wrong = |field: &str, found: String, expected: &str| {
            Err(Error::Config {
                field: field.into(),
                found,
                expected: expected.into(),
            })
        };
        if !(1..=1024).contains(&self.candidates) {
            return wrong("candidates", self.candidates.to_string(), "1 to 1024");
        }
        if !(0.0..=1.0).contains(&self.alpha) {
            return wrong("alpha", self.alpha.to_string(), "0 to 1");
        }
        Ok(())
    }
}

/// The largest cosine between each candidate's hidden state and those of earlier positions.
///
/// # Shapes
/// - `context`: `[b, n, d]`
/// - `candidates`: `[b, k, d]`
/// - returns: `[b, k]`
pub fn likeness(context: Tensor<3>, candidates: Tensor<3>) -> Tensor<2> {
    let cosines = unit(candidates).matmul(unit(context).swap_dims(1, 2));
    cosines.max_dim(2).squeeze_dim(2)
}

/// Vectors of length one.
fn unit(vectors: Tensor<3>) -> Tensor<3> {
    let length = vectors.clone().powi_scalar(2).sum_dim(2).sqrt();
    vectors / length
}

/// Which candidate is chosen, the first of equal ones.
///
/// - `probabilities`: of each candidate
/// - `likeness`: as [`likeness()`] gives it
pub fn contrastive_choice(probabilities: &[f32], likeness: &[f32], alpha: f64) -> usize {
    best_and_lead(probabilities, likeness, alpha).0
}

/// The candidate that is chosen, and how far it is ahead of the next; infinitely far if it is the only one.
fn best_and_lead(probabilities: &[f32], likeness: &[f32], alpha: f64) -> (usize, f64) {
    let score = |(p, like): (&f32, &f32)| (1.0 - alpha) * f64::from(*p) - alpha * f64::from(*like);
    let scores: Vec<f64> = probabilities.iter().zip(likeness).map(score).collect();
    let mut best = 0;
    for (at, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = at;
        }
    }
    let others = scores.iter().enumerate().filter(|(at, _)| *at != best);
    let next = others.map(|(_, score)| *score);
    (best, scores[best] - next.fold(f64::NEG_INFINITY, f64::max))
}

/// The `k` likeliest ids of filtered scores with their probabilities, likeliest first; fewer if fewer are left.
fn likeliest(scores: &[f32], k: usize) -> Vec<(u32, f32)> {
    let probabilities = probabilities(scores);
    let possible = probabilities.into_iter().enumerate();
    let mut all: Vec<(u32, f64)> = possible
        .filter(|(id, _)| scores[*id].is_finite())
        .map(|(id, p)| (id as u32, p))
        .collect();
    let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k < all.len() {
        all.select_nth_unstable_by(k, order);
        all.truncate(k);
    }
    all.sort_unstable_by(order);
    all.into_iter().map(|(id, p)| (id, p as f32)).collect()
}

/// A search under way: `k` rows of the state for each of `b`, all of which are the chosen sequence before candidates are tried.
struct Search<'a> {
    follower: Follower<'a>,
    /// Hidden states of all positions so far, `[b, n, d]`.
    context: Tensor<3>,
    /// Scores of what comes next, by row.
    scores: Vec<Vec<f32>>,
    known: Vec<Vec<u32>>,
}

impl ContrastiveSearch {
    fn begin<'a>(
        &self,
        generator: &Generator<'a>,
        start: &Start,
        want: &Layout,
    ) -> Result<Search<'a>> {
        let batch = start.prompt.batch();
        // The last candidates are also looked at, though nothing is predicted from them.
        let room = want.len() + 1;
        let (mut follower, before) =
            Follower::start(generator, start.condition.clone(), batch, room)?;
        let hidden = follower.hidden(&start.prompt);
        let n = hidden.dims()[1];
        let scores = follower.scores(hidden.clone().narrow(1, n - 1, 1))?;
        let context = match before {
            Some(before) => Tensor::cat(vec![before, hidden], 1),
            None => hidden,
        };
        let each = |row| std::iter::repeat_n(row, self.candidates);
        let rows: Vec<usize> = (0..batch).flat_map(each).collect();
        follower.select(&rows);
        Ok(Search {
            follower,
            context,
            scores,
            known: start.prompt.to_host(),
        })
    }

    /// Chooses one more id for every row.
    fn step(
        &self,
        search: &mut Search<'_>,
        sampler: &dyn Sampler,
        given: usize,
        settings: (&Layout, &Codes),
        leads: &mut dyn FnMut(f64),
    ) -> Result<()> {
        let (want, like) = settings;
        let k = self.candidates;
        let mut tried = Vec::with_capacity(search.known.len());
        for (row, scores) in search.scores.iter_mut().enumerate() {
            filtered(sampler, scores, row, &search.known[row][given..])?;
            tried.push(likeliest(scores, k));
        }
        let sequences: Vec<Vec<u32>> = (search.known.iter().zip(&tried))
            .flat_map(|(known, tried)| {
                // Where fewer are left than are asked for, the first stands in and is not looked at.
                (0..k).map(|at| {
                    let (id, _) = tried.get(at).unwrap_or(&tried[0]);
                    [&known[..], &[*id]].concat()
                })
            })
            .collect();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let hidden = search.follower.hidden(&codes_of(&sequences, want, like));
        let scores = search.follower.scores(hidden.clone())?;
        let [rows, _, d] = hidden.dims();
        let hidden = hidden.reshape([rows / k, k, d]);
        let near = likeness(search.context.clone(), hidden.clone());
        let near: Vec<f32> = near.into_data().iter::<f32>().collect();
        let mut chosen = Vec::with_capacity(tried.len());
        for (row, tried) in tried.iter().enumerate() {
            let p: Vec<f32> = tried.iter().map(|(_, p)| *p).collect();
            let near = &near[row * k..][..tried.len()];
            let (at, lead) = best_and_lead(&p, near, self.alpha);
            leads(lead);
            search.known[row].push(tried[at].0);
            search.scores[row].clone_from(&scores[row * k + at]);
            chosen.push(row * k + at);
        }
        let places: Vec<i32> = chosen.iter().map(|&at| at as i32).collect();
        let places = TensorData::new::<i32, _>(places, [chosen.len()]);
        let flat: Tensor<2> = hidden.reshape([rows, d]);
        let taken = flat.select(0, Tensor::from_data(places, &search.context.device()));
        search.context = Tensor::cat(vec![search.context.clone(), taken.unsqueeze_dim(1)], 1);
        let each = |at| std::iter::repeat_n(at, k);
        let rows: Vec<usize> = chosen.into_iter().flat_map(each).collect();
        search.follower.select(&rows);
        Ok(())
    }

    /// As [`Decoding::decode`]; `leads` hears at every step, row by row, how far the chosen candidate was ahead of the next.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting makes no sense, the head does not show its scores, or the sampler cannot filter one row;
    /// [`Error::NotFinite`]; [`Error::Codes`] if the prompt does not fit.
    ///
    /// # Panics
    /// If the head has learned positions, since one more than the layout's is looked at.
    pub fn decode_watched(
        &self,
        generator: &Generator<'_>,
        start: Start,
        want: &Layout,
        sampler: &mut dyn Sampler,
        watch: &mut Watch<'_>,
        leads: &mut dyn FnMut(f64),
    ) -> Result<Codes> {
        self.validate()?;
        let like = start.prompt.clone();
        check_prompt(&like, want)?;
        let given = like.filled();
        let mut search = self.begin(generator, &start, want)?;
        let codes = |search: &Search<'_>| {
            let rows: Vec<&[u32]> = search.known.iter().map(Vec::as_slice).collect();
            codes_of(&rows, want, &like)
        };
        for at in given..want.len() {
            self.step(&mut search, &*sampler, given, (want, &like), leads)?;
            if let ControlFlow::Break(()) = watch(&latest(at + 1), &codes(&search)) {
                break;
            }
        }
        Ok(codes(&search))
    }
}

impl Decoding for ContrastiveSearch {
    /// # Errors
    /// As [`ContrastiveSearch::decode_watched`].
    ///
    /// # Panics
    /// As [`ContrastiveSearch::decode_watched`].
    fn decode(
        &self,
        generator: &Generator<'_>,
        start: Start,
        want: &Layout,
        sampler: &mut dyn Sampler,
        watch: &mut Watch<'_>,
    ) -> Result<Codes> {
        self.decode_watched(generator, start, want, sampler, watch, &mut |_| ())
    }
}
