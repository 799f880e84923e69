//! Beam search: the likeliest sequences, several of which are followed at once.
//!
//! The rules are those of the `transformers` library: each step looks at twice as many continuations as there are beams (more where
//! several ids end a sequence), a sequence that ends is scored by its log-probability over `length ^ length_penalty` with the end
//! counted, and the best `beams` of those are kept.

use std::ops::ControlFlow;

use ravel_core::{Codes, Decoding, Error, Generator, Layout, Result, Sampler, Start, Watch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::follow::{Follower, check_prompt, codes_of, filtered, latest};

/// What fixes a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BeamConfig {
    /// Sequences that are followed at once, 1 to 1024.
    pub beams: usize,
    /// Above zero favours long sequences, below zero short ones.
    pub length_penalty: f64,
    /// When to look no further.
    pub patience: Patience,
}

/// When a search looks no further, once as many sequences have ended as there are beams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Patience {
    /// When the best beam, scored at its present length, is no better than the worst of them (`early_stopping=False`).
    #[default]
    PresentLength,
    /// The same at the greatest length, where long sequences are favoured (`early_stopping="never"`).
    GreatestLength,
    /// At once (`early_stopping=True`).
    None,
}

impl Default for BeamConfig {
    fn default() -> Self {
        Self {
            beams: 4,
            length_penalty: 1.0,
            patience: Patience::default(),
        }
    }
}

impl BeamConfig {
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
        if !(1..=1024).contains(&self.beams) {
            return wrong("beams", self.beams.to_string(), "1 to 1024");
        }
        if !(-100.0..=100.0).contains(&self.length_penalty) {
            let found = self.length_penalty.to_string();
            return wrong("length-penalty", found, "-100 to 100");
        }
        Ok(())
    }
}

/// A sequence that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Its ids, given ones left out, the one that ended it included.
    pub ids: Vec<u32>,
    /// Its log-probability over its length to the power of the penalty.
    pub score: f64,
}

/// Beam search. The sampler's filters change log-probabilities before they are added up; nothing is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct BeamSearch {
    /// The settings.
    pub config: BeamConfig,
    /// Ids that end a sequence.
    pub ends: Vec<u32>,
}

/// A sequence that goes on.
#[derive(Clone)]
struct Beam {
    ids: Vec<u32>,
    /// Its log-probability.
    total: f64,
}

/// The search of one row.
struct Row {
    beams: Vec<Beam>,
    ended: Vec<Hypothesis>,
    done: bool,
}

/// One beam with one more id.
struct Candidate {
    beam: usize,
    id: u32,
    total: f64,
}

impl BeamSearch {
    /// The best sequences of every row, best first, as many as there are beams if so many ended. `watch` hears after each step of
    /// the ids that all of row 0's sequences share and may stop the search, which then gives what it has.
    ///
    /// # Errors
    /// [`Error::Config`] if the head does not show its scores or the sampler cannot filter one row; [`Error::NotFinite`];
    /// [`Error::Codes`] if the prompt does not fit.
    pub fn search(
        &self,
        generator: &Generator<'_>,
        start: Start,
        want: &Layout,
        sampler: &dyn Sampler,
        watch: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        self.config.validate()?;
        let Start { condition, prompt } = start;
        check_prompt(&prompt, want)?;
        let (batch, beams) = (prompt.batch(), self.config.beams);
        let given = prompt.to_host();
        let most = want.len() - prompt.filled();
        let mut rows: Vec<Row> = (0..batch).map(|_| Row::new()).collect();
        let (mut follower, _) = Follower::start(generator, condition, batch, want.len())?;
        // Rows of the state: one for each row, then `beams` for each.
        let mut owners: Vec<(usize, usize)> = (0..batch).map(|row| (row, 0)).collect();
        for length in 1..=most {
            let sequences: Vec<Vec<u32>> = owners
                .iter()
                .map(|&(row, beam)| [&given[row][..], &rows[row].beams[beam].ids].concat())
                .collect();
            let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
            let hidden = follower.hidden(&codes_of(&sequences, want, &prompt));
            let n = hidden.dims()[1];
            let mut scores = follower.scores(hidden.narrow(1, n - 1, 1))?;
            for (scores, (sequence, (row, _))) in
                scores.iter_mut().zip(sequences.iter().zip(&owners))
            {
                log_softmax(scores);
                filtered(sampler, scores, *row, &sequence[given[*row].len()..])?;
            }
            let mut parents = Vec::with_capacity(batch * beams);
            for (at, row) in rows.iter_mut().enumerate() {
                let first = owners.iter().position(|(owner, _)| *owner == at);
                let first = first.expect("every row has a place in the state");
                let scores = &scores[first..first + row.beams.len()];
                let chosen = self.step(row, scores, length, most);
                parents.extend((0..beams).map(|beam| {
                    let parent = chosen.get(beam).or(chosen.first()).copied();
                    first + parent.unwrap_or(0)
                }));
            }
            if rows.iter().all(|row| row.done) {
                break;
            }
            follower.select(&parents);
            let living = |row: usize| rows[row].beams.len();
            owners = (0..batch)
                .flat_map(|row| (0..beams).map(move |beam| (row, beam)))
                .map(|(row, beam)| (row, if beam < living(row) { beam } else { 0 }))
                .collect();
            if watch(&rows[0].shared()).is_break() {
                break;
            }
        }
        Ok(rows.into_iter().map(Row::into_best).collect())
    }

    /// Takes a row one id further; gives the beam that each of its new beams came from.
    fn step(&self, row: &mut Row, scores: &[Vec<f32>], length: usize, most: usize) -> Vec<usize> {
        let beams = self.config.beams;
        if row.done {
            // Its places in the state are stepped along with other rows'.
            row.beams.iter_mut().for_each(|beam| beam.ids.push(0));
            return Vec::new();
        }
        let looked_at = beams * 2.max(1 + self.ends.len());
        let candidates = row.candidates(scores, looked_at);
        let ends = |candidate: &Candidate| length == most || self.ends.contains(&candidate.id);
        let ended = candidates.iter().take(beams).filter(|one| ends(one));
        let ended: Vec<Hypothesis> = ended
            .map(|one| Hypothesis {
                ids: row.continued(one),
                score: one.total / self.divisor(length),
            })
            .collect();
        let going: Vec<&Candidate> = candidates.iter().filter(|one| !ends(one)).collect();
        let going = &going[..going.len().min(beams)];
        let next = going.iter().map(|one| Beam {
            ids: row.continued(one),
            total: one.total,
        });
        let next: Vec<Beam> = next.collect();
        row.ended.extend(ended);
        row.ended.sort_by(|a, b| b.score.total_cmp(&a.score));
        row.ended.truncate(beams);
        match next.first() {
            Some(best) => {
                row.done = self.is_over(row, best.total, length, most);
                row.beams = next;
            }
            None => {
                row.done = true;
                row.beams.iter_mut().for_each(|beam| beam.ids.push(0));
            }
        }
        going.iter().map(|one| one.beam).collect()
    }

    /// Whether nothing better is to be expected, once `length` ids are chosen.
    fn is_over(&self, row: &Row, best: f64, length: usize, most: usize) -> bool {
        if row.ended.len() < self.config.beams {
            return false;
        }
        let length = match self.config.patience {
            Patience::None => return true,
            Patience::GreatestLength if self.config.length_penalty > 0.0 => most,
            _ => length,
        };
        let worst = row.ended.last().map_or(f64::NEG_INFINITY, |one| one.score);
        best / self.divisor(length) <= worst
    }

    fn divisor(&self, length: usize) -> f64 {
        (length as f64).powf(self.config.length_penalty)
    }
}

impl Row {
    fn new() -> Self {
        Self {
            beams: vec![Beam {
                ids: Vec::new(),
                total: 0.0,
            }],
            ended: Vec::new(),
            done: false,
        }
    }

    /// The likeliest continuations, likeliest first; of equal ones that of the earlier beam, then of the smaller id.
    fn candidates(&self, scores: &[Vec<f32>], count: usize) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = Vec::new();
        for (at, (beam, scores)) in self.beams.iter().zip(scores).enumerate() {
            let possible = scores.iter().enumerate();
            let possible = possible.filter(|(_, score)| score.is_finite());
            all.extend(possible.map(|(id, &score)| Candidate {
                beam: at,
                id: id as u32,
                total: beam.total + f64::from(score),
            }));
        }
        let order = |a: &Candidate, b: &Candidate| {
            let place = |one: &Candidate| (one.beam, one.id);
            b.total.total_cmp(&a.total).then(place(a).cmp(&place(b)))
        };
        if count < all.len() {
            all.select_nth_unstable_by(count, order);
            all.truncate(count);
        }
        all.sort_unstable_by(order);
        all
    }

    fn continued(&self, candidate: &Candidate) -> Vec<u32> {
        let mut ids = self.beams[candidate.beam].ids.clone();
        ids.push(candidate.id);
        ids
    }

    /// The ids with which all sequences begin.
    fn shared(&self) -> Vec<u32> {
        let going = self.beams.iter().filter(|_| !self.done);
        let going = going.map(|beam| &beam.ids);
        let mut all = going.chain(self.ended.iter().map(|one| &one.ids));
        let Some(first) = all.next() else {
            return Vec::new();
        };
        let shared = all.fold(first.len(), |shared, ids| {
            let same = first.iter().zip(ids).take_while(|(a, b)| a == b);
            shared.min(same.count())
        });
        first[..shared].to_vec()
    }

    /// What ended, or the beams where nothing did because the search was stopped.
    fn into_best(self) -> Vec<Hypothesis> {
        if !self.ended.is_empty() {
            return self.ended;
        }
        let beams = self.beams.into_iter();
        let best = beams.map(|beam| Hypothesis {
            score: beam.total,
            ids: beam.ids,
        });
        best.collect()
    }
}

/// Natural log-probabilities in place of scores.
fn log_softmax(scores: &mut [f32]) {
    let largest = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = scores
        .iter()
        .map(|&score| (f64::from(score) - largest).exp())
        .sum();
    let normal = largest + sum.ln();
    for score in scores {
        *score = (f64::from(*score) - normal) as f32;
    }
}

impl Decoding for BeamSearch {
    /// The best sequence of each row; those that end earlier are filled up with the id that ended them. `watch` hears of a single row's
    /// ids as soon as all its beams agree on them.
    ///
    /// # Errors
    /// As [`BeamSearch::search`].
    fn decode(
        &self,
        generator: &Generator<'_>,
        start: Start,
        want: &Layout,
        sampler: &mut dyn Sampler,
        watch: &mut Watch<'_>,
    ) -> Result<Codes> {
        let prompt = start.prompt.clone();
        let given = prompt.to_host();
        let single = prompt.batch() == 1;
        let codes = |rows: &[Vec<u32>]| {
            let rows = given.iter().zip(rows);
            let rows: Vec<Vec<u32>> = rows.map(|(a, b)| [&a[..], &b[..]].concat()).collect();
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            codes_of(&rows, want, &prompt)
        };
        let mut tell = |ids: &[u32]| {
            if !single {
                return ControlFlow::Continue(());
            }
            let codes = codes(&[ids.to_vec()]);
            watch(&latest(codes.filled()), &codes)
        };
        let mut stopped = None;
        let found = self.search(generator, start, want, &*sampler, &mut |shared| {
            let flow = tell(shared);
            if flow.is_break() {
                stopped = Some(shared.to_vec());
            }
            flow
        })?;
        if let Some(shared) = stopped {
            return Ok(codes(&[shared]));
        }
        let best = found.into_iter().map(|row| row.into_iter().next());
        let mut best: Vec<Vec<u32>> = best
            .map(|row| row.map_or(Vec::new(), |one| one.ids))
            .collect();
        let longest = best.iter().map(Vec::len).max().unwrap_or(0);
        for row in &mut best {
            let last = row.last().copied();
            row.resize(longest, last.unwrap_or(0));
        }
        if single {
            // Whoever watches hears of the ids one by one, and may end the text among them.
            let _ = tell(&best[0]);
        }
        Ok(codes(&best))
    }
}
