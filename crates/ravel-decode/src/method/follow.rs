//! A generator that follows codes as they are added, taken back and moved between rows. Several methods are made of it.

use burn::tensor::{Int, Tensor, TensorData};
use ravel_core::{
    Backbone, Codes, Condition, Draw, Error, Generator, Layout, Pyramid, Result, Sampler, Scored,
    State, Unit,
};

/// A backbone with its state, and the head that scores what comes next.
pub(super) struct Follower<'a> {
    backbone: &'a dyn Backbone,
    head: &'a dyn Scored,
    pyramid: Option<&'a dyn Pyramid>,
    condition: Condition,
    state: State,
    /// Positions of the state that stand before those that predict codes.
    before: usize,
}

impl<'a> Follower<'a> {
    /// Reads the condition's prefix, with room to predict `len` codes of each of its rows. Also gives the hidden states of the
    /// prefix but its last position, `[batch, n, d_model]`, if there are any.
    ///
    /// # Errors
    /// [`Error::Config`] if the head does not show its scores.
    pub(super) fn start(
        generator: &Generator<'a>,
        condition: Condition,
        batch: usize,
        len: usize,
    ) -> Result<(Self, Option<Tensor<3>>)> {
        let Generator {
            backbone,
            head,
            pyramid,
        } = *generator;
        let head = head.scored().ok_or_else(|| Error::Config {
            field: "decoding.kind".into(),
            found: "a method that compares scores".into(),
            expected: "one-by-one for this head".into(),
        })?;
        let prefill = head.prefill(&condition);
        let before = prefill.as_ref().map_or(0, |step| step.embedded.dims()[1]);
        let mut state = backbone.start(batch, before + len);
        let hidden = prefill.map(|prefill| backbone.step(prefill, &condition, &mut state));
        let follower = Self {
            backbone,
            head,
            pyramid,
            condition,
            state,
            before,
        };
        Ok((follower, hidden))
    }

    /// Codes that were predicted so far.
    pub(super) fn predicted(&self) -> usize {
        self.state.len - self.before
    }

    /// Hidden states that predict every code which was not predicted yet, up to the one after all that are there.
    ///
    /// # Shapes
    /// - returns: `[batch, codes.filled() + 1 - predicted, d_model]`
    ///
    /// # Panics
    /// If there is no room, or all were predicted already.
    pub(super) fn hidden(&mut self, codes: &Codes) -> Tensor<3> {
        let span = self.predicted()..codes.filled() + 1;
        let unit = Unit {
            index: span.start,
            span,
        };
        let input = self.head.embed(codes, &unit, &self.condition, self.pyramid);
        self.backbone.step(input, &self.condition, &mut self.state)
    }

    /// Scores from hidden states, on the host: a row of numbers for each position of each row.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if one is NaN or infinite, or none is a number.
    pub(super) fn scores(&self, hidden: Tensor<3>) -> Result<Vec<Vec<f32>>> {
        let [_, n, _] = hidden.dims();
        let start = self.predicted() - n;
        let unit = Unit {
            index: start,
            span: start..start + n,
        };
        let logits = self.head.logits(hidden, &unit);
        let size = logits.dims()[2];
        let data = logits.into_data().convert::<f32>();
        let numbers: Vec<f32> = data.try_into_vec().expect("numbers were converted to f32");
        let rows: Vec<Vec<f32>> = numbers.chunks(size).map(<[f32]>::to_vec).collect();
        for (at, scores) in rows.iter().enumerate() {
            let wrong = |score: &f32| score.is_nan() || *score == f32::INFINITY;
            if scores.iter().any(wrong) || !scores.iter().any(|score| score.is_finite()) {
                return Err(Error::NotFinite {
                    place: "the head's scores".into(),
                    what: format!(
                        "NaN, infinity or no number in row {} at position {}",
                        at / n,
                        start + at % n
                    ),
                });
            }
        }
        Ok(rows)
    }

    /// Takes back all but the first `len` predictions.
    pub(super) fn cut(&mut self, len: usize) {
        self.state.truncate(self.before + len);
    }

    /// Goes on with some rows, in any order and as often as they are named.
    pub(super) fn select(&mut self, rows: &[usize]) {
        if rows.len() != self.state.batch {
            self.condition = std::mem::take(&mut self.condition).select(rows);
        }
        self.state.select(rows);
    }
}

/// What a sampler leaves of one row of scores, and how it draws.
///
/// # Errors
/// [`Error::Config`] if the sampler cannot say it; [`Error::NotFinite`] if nothing is left.
pub(super) fn filtered(
    sampler: &dyn Sampler,
    scores: &mut [f32],
    row: usize,
    past: &[u32],
) -> Result<Draw> {
    let draw = sampler
        .filter(scores, row, past)
        .ok_or_else(|| Error::Config {
            field: "sampler".into(),
            found: "one with guidance or a watermark".into(),
            expected: "filters and a temperature alone for this decoding method".into(),
        })?;
    match scores.iter().any(|score| score.is_finite()) {
        true => Ok(draw),
        false => Err(Error::NotFinite {
            place: "the sampler's filters".into(),
            what: format!(
                "no id to choose from in row {row} at position {}",
                past.len()
            ),
        }),
    }
}

/// Codes of equally long rows.
pub(super) fn codes_of(rows: &[&[u32]], layout: &Layout, like: &Codes) -> Codes {
    let filled = rows.first().map_or(0, |row| row.len());
    let ids = rows.iter().flat_map(|row| row.iter().map(|&id| id as i32));
    let data = TensorData::new::<i32, _>(ids.collect(), [rows.len(), 1, filled]);
    let ids: Tensor<3, Int> = Tensor::from_data(data, &like.ids.device());
    Codes {
        ids,
        layout: layout.clone(),
    }
}

/// Checks what these methods ask of a beginning: one codebook, no more codes than are wanted.
///
/// # Errors
/// [`Error::Codes`].
pub(super) fn check_prompt(prompt: &Codes, want: &Layout) -> Result<()> {
    let wrong = |found: String, expected: String| Err(Error::Codes { found, expected });
    if prompt.depth() != 1 {
        return wrong(format!("depth {}", prompt.depth()), "depth 1".into());
    }
    match prompt.filled() > want.len() {
        true => wrong(
            format!("{} given positions", prompt.filled()),
            format!("at most {}", want.len()),
        ),
        false => Ok(()),
    }
}

/// The latest unit of codes that are all tokens.
pub(super) fn latest(filled: usize) -> Unit {
    let at = filled.saturating_sub(1);
    Unit {
        index: at,
        span: at..at + 1,
    }
}
