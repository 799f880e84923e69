//! A recording in front of delayed codes.

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, Sampler, Unit};
use ravel_heads::Arrangement;

/// A sampler whose choice falls on given frames where they reach beyond the positions that were given: later codebooks come late.
pub(super) struct Forced {
    inner: Box<dyn Sampler>,
    /// Of each codebook, its ids by position.
    ids: Vec<Vec<i64>>,
    /// Of each codebook, its first position.
    steps: Vec<usize>,
    /// The latest unit and how many codebooks of it were picked.
    latest: (usize, usize),
}

impl Forced {
    pub(super) fn new(
        inner: Box<dyn Sampler>,
        given: &Tensor<3, Int>,
        shape: &Arrangement,
    ) -> Self {
        let [_, depth, n] = given.dims();
        let ids: Vec<i64> = given.clone().into_data().iter::<i64>().collect();
        let steps = match shape {
            Arrangement::Delayed { steps, .. } => steps.clone(),
            _ => vec![0; depth],
        };
        Self {
            inner,
            ids: ids.chunks(n.max(1)).map(<[i64]>::to_vec).collect(),
            steps,
            latest: (0, 0),
        }
    }

    fn codebook(&mut self, unit: &Unit) -> usize {
        let (index, picked) = self.latest;
        let codebook = if index == unit.index { picked } else { 0 };
        self.latest = (unit.index, codebook + 1);
        codebook
    }
}

impl Sampler for Forced {
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> ravel_core::Result<Tensor<2, Int>> {
        let picked = self.inner.pick(logits, unit)?;
        let codebook = self.codebook(unit);
        let frame = unit.span.start.checked_sub(self.steps[codebook]);
        match frame.and_then(|frame| self.ids[codebook].get(frame)) {
            Some(&id) => Ok(picked.zeros_like() + id),
            None => Ok(picked),
        }
    }

    fn given(&mut self, prompt: &Codes) {
        self.inner.given(prompt);
    }

    fn settled(&mut self, ids: &Tensor<2, Int>, unit: &Unit) {
        self.codebook(unit);
        self.inner.settled(ids, unit);
    }
}
