//! What keeps an utterance from going wrong while it is chosen. Each can be left out, to measure what it brings.

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, Draw, Result, Sampler, Unit};
use serde::{Deserialize, Serialize};

/// What is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Checks {
    /// The model may end an utterance; it goes on up to the greatest length otherwise.
    pub end: bool,
    /// It may not end before there are 0.9 frames for each symbol.
    pub shortest: bool,
    /// The greatest length follows from the number of symbols, rather than being that of the longest utterance.
    pub longest: bool,
    /// Loops are taken back and chosen anew, and broken off where that does not help.
    pub loops: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            end: true,
            shortest: true,
            longest: true,
            loops: true,
        }
    }
}

impl Checks {
    /// Whether nothing is left out.
    pub fn are_all(&self) -> bool {
        *self == Self::default()
    }
}

/// What may still be wrong with an utterance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Too few frames for its symbols: words are missing.
    Short,
    /// It was broken off in front of a loop.
    Loop,
    /// The model did not end it.
    Endless,
}

/// A sampler that cannot choose the end before a position.
pub(crate) struct LateEnd {
    pub inner: Box<dyn Sampler>,
    /// The id of the end.
    pub end: usize,
    /// The first position at which it may be chosen.
    pub from: usize,
}

impl Sampler for LateEnd {
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> Result<Tensor<2, Int>> {
        let [batch, n, ids] = logits.dims();
        let logits = match unit.span.start < self.from && self.end < ids {
            true => {
                let place = [0..batch, 0..n, self.end..self.end + 1];
                logits.slice_fill(place, f32::NEG_INFINITY)
            }
            false => logits,
        };
        self.inner.pick(logits, unit)
    }

    fn filter(&self, scores: &mut [f32], row: usize, past: &[u32]) -> Option<Draw> {
        self.inner.filter(scores, row, past)
    }

    fn given(&mut self, prompt: &Codes) {
        self.inner.given(prompt);
    }

    fn settled(&mut self, ids: &Tensor<2, Int>, unit: &Unit) {
        self.inner.settled(ids, unit);
    }
}
