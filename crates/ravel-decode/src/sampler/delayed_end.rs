//! The end of several delayed codebooks: the first one ends a row, the others follow as late as they began.
//!
//! Dia's rule (Nari Labs 2025): when the first codebook chose the end id at position `s`, codebook `k` gets it at
//! `s + steps[k]`, and what follows is padding. Until then the later codebooks still belong to earlier frames.

use burn::tensor::{Int, Tensor, TensorData};
use ravel_core::{Codes, Result, Sampler, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How several codebooks end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ending {
    /// The id that ends. The first codebook chooses it exactly when its score is the largest.
    pub end: usize,
    /// The id that follows.
    pub after: usize,
    /// By how many positions each codebook comes late.
    pub steps: Vec<usize>,
}

/// A sampler that ends rows as [`Ending`] says, around the one that chooses. Made for one generation; counts the picks of a unit as
/// its codebooks.
pub struct DelayedEnd<S> {
    ending: Ending,
    inner: S,
    /// Where each row's first codebook ended.
    ended: Vec<Option<usize>>,
    /// The latest unit and how many codebooks of it were picked.
    latest: (usize, usize),
}

impl<S: Sampler> DelayedEnd<S> {
    /// No row has ended yet.
    pub fn new(ending: Ending, inner: S) -> Self {
        Self {
            ending,
            inner,
            ended: Vec::new(),
            latest: (0, 0),
        }
    }

    /// Which codebook this pick is for.
    fn codebook(&mut self, unit: &Unit) -> usize {
        let (index, picked) = self.latest;
        let codebook = if index == unit.index { picked } else { 0 };
        self.latest = (unit.index, codebook + 1);
        codebook
    }

    /// What stands at a position of a row in place of the id that was picked.
    fn in_place_of(&mut self, id: i64, row: usize, codebook: usize, position: usize) -> i64 {
        if codebook == 0 && id == self.ending.end as i64 {
            self.ended[row].get_or_insert(position);
        }
        let step = self.ending.steps.get(codebook).copied().unwrap_or(0);
        match self.ended[row] {
            Some(end) if position == end + step => self.ending.end as i64,
            Some(end) if position > end + step => self.ending.after as i64,
            _ => id,
        }
    }
}

impl<S: Sampler> Sampler for DelayedEnd<S> {
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> Result<Tensor<2, Int>> {
        let picked = self.inner.pick(logits, unit)?;
        let codebook = self.codebook(unit);
        let [rows, n] = picked.dims();
        self.ended.resize(rows.max(self.ended.len()), None);
        let (device, dtype) = (picked.device(), picked.dtype());
        let ids: Vec<i64> = picked.into_data().iter::<i64>().collect();
        let ids: Vec<i64> = ids
            .into_iter()
            .enumerate()
            .map(|(at, id)| self.in_place_of(id, at / n, codebook, unit.span.start + at % n))
            .collect();
        let data = TensorData::new::<i64, _>(ids, [rows, n]);
        Ok(Tensor::from_data(data, (&device, dtype)))
    }

    fn settled(&mut self, ids: &Tensor<2, Int>, unit: &Unit) {
        self.codebook(unit);
        self.inner.settled(ids, unit);
    }

    /// A given beginning may hold ends: the rows go on from there as they would have.
    fn given(&mut self, prompt: &Codes) {
        self.inner.given(prompt);
        self.ended = (0..prompt.batch())
            .map(|row| end_of(prompt, row, self.ending.end))
            .collect();
    }
}

/// Whether every codebook of every row has ended, so that a generation can stop. Waits for the device.
pub fn all_ended(codes: &Codes, ending: &Ending) -> bool {
    let longest = ending.steps.iter().copied().max().unwrap_or(0);
    (0..codes.batch())
        .all(|row| end_of(codes, row, ending.end).is_some_and(|end| end + longest < codes.filled()))
}

/// Where the first codebook of a row ended.
fn end_of(codes: &Codes, row: usize, end: usize) -> Option<usize> {
    if codes.filled() == 0 {
        return None;
    }
    let first = codes.ids.clone().narrow(0, row, 1).narrow(1, 0, 1);
    let mut ids = first
        .into_data()
        .iter::<i64>()
        .collect::<Vec<_>>()
        .into_iter();
    ids.position(|id| id == end as i64)
}
