//! What a generation is made of: a backbone with its state, a head, a sampler and a decoding method.

use std::ops::{ControlFlow, Range};

use burn::tensor::{Bool, Int, Tensor};

use crate::{Codes, Layout, Pyramid, Result, State, Unit};

/// What steers a generation: before the codes, beside them, or within every layer.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// Embedded positions that come before the codes, `[batch, n, d_model]`.
    pub prefix: Option<Tensor<3>>,
    /// Which prefix positions are padding that no other position may see, `[batch, n]`, if any are.
    pub prefix_hidden: Option<Tensor<2, Bool>>,
    /// Embedded positions that cross-attention reads, `[batch, m, d_cross]`.
    pub cross: Option<Tensor<3>>,
    /// Which of those are padding that nobody may see, `[batch, m]`, if any are.
    pub cross_hidden: Option<Tensor<2, Bool>>,
    /// One vector per row that adaptive norms read, `[batch, d_modulation]`.
    pub modulation: Option<Tensor<2>>,
    /// What is added to the positions that predict the codes, one for each code position, `[batch, n, d_model]`: what is known
    /// beforehand about each of them. Heads of several codebooks read it.
    pub beside: Option<Tensor<3>>,
}

impl Condition {
    /// Number of prefix positions.
    pub fn prefix_len(&self) -> usize {
        self.prefix.as_ref().map_or(0, |prefix| prefix.dims()[1])
    }

    /// Some rows, in any order and as often as they are named.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select(self, rows: &[usize]) -> Self {
        fn chosen<const D: usize>(all: Option<Tensor<D>>, rows: &[usize]) -> Option<Tensor<D>> {
            all.map(|all| select_rows(all, rows))
        }
        let hidden = |all: Option<Tensor<2, Bool>>| {
            all.map(|all| select_rows(all.float(), rows).greater_elem(0.5))
        };
        Self {
            prefix: chosen(self.prefix, rows),
            prefix_hidden: hidden(self.prefix_hidden),
            cross: chosen(self.cross, rows),
            cross_hidden: hidden(self.cross_hidden),
            modulation: chosen(self.modulation, rows),
            beside: chosen(self.beside, rows),
        }
    }

    /// Stacks two conditions row-wise: first all rows of `self`, then all of `other` (guidance).
    ///
    /// # Panics
    /// If one has a part that the other lacks; padding may be marked in one alone.
    pub fn stack(self, other: Self) -> Self {
        fn join<const D: usize>(a: Option<Tensor<D>>, b: Option<Tensor<D>>) -> Option<Tensor<D>> {
            match (a, b) {
                (Some(a), Some(b)) => Some(Tensor::cat(vec![a, b], 0)),
                (None, None) => None,
                _ => panic!("batch axis: only one of two stacked conditions has this part"),
            }
        }
        let marked = self.cross_hidden.is_some() || other.cross_hidden.is_some();
        let hidden = |condition: &Self| {
            let shown = || {
                let cross = condition.cross.as_ref();
                let [batch, m, _] = cross.expect("padding belongs to positions").dims();
                let device = cross.expect("padding belongs to positions").device();
                Tensor::<2, Int>::zeros([batch, m], &device).bool()
            };
            condition.cross_hidden.clone().unwrap_or_else(shown)
        };
        Self {
            cross_hidden: marked.then(|| Tensor::cat(vec![hidden(&self), hidden(&other)], 0)),
            prefix: join(self.prefix, other.prefix),
            prefix_hidden: match (self.prefix_hidden, other.prefix_hidden) {
                (Some(a), Some(b)) => Some(Tensor::cat(vec![a, b], 0)),
                (None, None) => None,
                _ => panic!("batch axis: only one of two stacked conditions has padding"),
            },
            cross: join(self.cross, other.cross),
            modulation: join(self.modulation, other.modulation),
            beside: join(self.beside, other.beside),
        }
    }
}

/// Rows of a batch by number.
pub(crate) fn select_rows<const D: usize>(all: Tensor<D>, rows: &[usize]) -> Tensor<D> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let device = all.device();
    all.select(0, Tensor::from_data(&rows[..], &device))
}

/// Which positions of a step see each other. Every position also sees all that the state holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Attend {
    /// All positions of the step see each other: a unit, or a text prefix read both ways.
    Unit,
    /// Each position sees itself and earlier ones.
    Causal,
    /// Runs of positions, lengths given: each sees its own run and earlier ones. A teacher-forced pass
    /// over a whole layout is the runs of its units.
    Blocks(Vec<usize>),
    /// Frames of video that see the latest so many frames, farther ones less or not at all.
    Frames(FrameSight),
}

/// What frames see of earlier frames. All positions, those of the state included, stand in this order: a lead (a prompt), far frames of
/// few positions each, near frames of many.
///
/// A frame sees the lead, itself, the near frames of its window, and the far frames that are older than its window. A far frame sees the
/// lead and far frames up to itself (FAR, Gu et al. 2025, section 3.3: long short-term context).
#[derive(Debug, Clone, PartialEq)]
pub struct FrameSight {
    /// Positions that everything sees; they see each other.
    pub lead: usize,
    /// Number of far frames; the first one is frame 0.
    pub far_frames: usize,
    /// Positions of a far frame.
    pub far_len: usize,
    /// The number of the first near frame.
    pub near_start: usize,
    /// Positions of a near frame.
    pub near_len: usize,
    /// Near frames in view, itself included.
    pub window: usize,
    /// What each frame of distance takes off a score (the linear decay of Press et al. 2022, on the time axis alone).
    pub decay: f64,
}

/// What stands at a position.
#[derive(Clone, Copy)]
enum Stands {
    Lead,
    Far(usize),
    Near(usize),
}

impl FrameSight {
    fn at(&self, position: usize) -> Stands {
        let far_end = self.lead + self.far_frames * self.far_len;
        if position < self.lead {
            Stands::Lead
        } else if position < far_end {
            Stands::Far((position - self.lead) / self.far_len)
        } else {
            Stands::Near(self.near_start + (position - far_end) / self.near_len)
        }
    }

    /// What is added to the score of position `key` for position `query`; nothing if it is out of sight.
    pub fn bias(&self, query: usize, key: usize) -> Option<f32> {
        let decayed = |from: usize, to: usize| Some((-self.decay * (from - to) as f64) as f32);
        match (self.at(query), self.at(key)) {
            (_, Stands::Lead) => Some(0.0),
            (Stands::Lead, _) | (Stands::Far(_), Stands::Near(_)) => None,
            (Stands::Far(from), Stands::Far(to)) if to <= from => decayed(from, to),
            (Stands::Near(from), Stands::Far(to)) if to + self.window <= from => decayed(from, to),
            (Stands::Near(from), Stands::Near(to)) if to <= from && from < to + self.window => {
                decayed(from, to)
            }
            _ => None,
        }
    }
}

impl Attend {
    /// Run lengths that cover `len` positions.
    ///
    /// # Panics
    /// If given runs do not add up to `len`, or frames are asked for runs.
    pub fn blocks(&self, len: usize) -> Vec<usize> {
        match self {
            Self::Unit => vec![len],
            Self::Causal => vec![1; len],
            Self::Blocks(blocks) => {
                assert_eq!(
                    blocks.iter().sum::<usize>(),
                    len,
                    "position axis: runs do not cover the step"
                );
                blocks.clone()
            }
            Self::Frames(_) => panic!("position axis: what frames see is no matter of runs"),
        }
    }
}

/// What the backbone is fed in one step.
#[derive(Debug, Clone)]
pub struct StepInput {
    /// `[batch, n, d_model]`.
    pub embedded: Tensor<3>,
    /// Rotary coordinates, `[n, axes]`.
    pub coords: Tensor<2, Int>,
    /// Which of the `n` positions see each other.
    pub attend: Attend,
}

/// One of several generations that take a step together.
pub struct Step<'a> {
    /// Its new positions.
    pub input: StepInput,
    /// What steers it.
    pub condition: &'a Condition,
    /// What it remembers; grows by the new positions.
    pub state: &'a mut State,
}

/// The shared sequence model: embedded positions in, hidden states out.
pub trait Backbone: Send {
    /// `d_model`.
    fn width(&self) -> usize;

    /// A state with reserved room.
    fn start(&self, batch: usize, capacity: usize) -> State {
        State::new(batch, capacity)
    }

    /// Hidden states of the step's positions; the state grows by as many.
    ///
    /// # Shapes
    /// - `input.embedded`: `[batch, n, d_model]`
    /// - returns: `[batch, n, d_model]`
    ///
    /// # Panics
    /// If the state has less room than `n`.
    fn step(&self, input: StepInput, condition: &Condition, state: &mut State) -> Tensor<3>;

    /// Steps of several generations, each with a state of its own and as many new positions as it has: what [`Backbone::step`] gives for
    /// one after the other. Models may read their weights once for all of them; no position is filled up for it.
    ///
    /// # Shapes
    /// - returns: for each, `[batch, n, d_model]`
    ///
    /// # Panics
    /// As [`Backbone::step`].
    fn step_each(&self, steps: Vec<Step<'_>>) -> Vec<Tensor<3>> {
        let each = steps.into_iter();
        each.map(|step| self.step(step.input, step.condition, step.state))
            .collect()
    }

    /// Moves remembered positions by so many coordinates on each rotary axis, so that coordinates stay small however
    /// long a generation lasts. Backbones that place nothing by rotation have nothing to do.
    fn shift(&self, _state: &mut State, _positions: Range<usize>, _by: &[i32]) {}
}

/// What is predicted, in which order, and how a hidden state becomes ids. Heads are pure in the codes so
/// far and know no tokenizer by name; what they need of one is handed in as [`Pyramid`].
pub trait Head: Send {
    /// The units of a layout, in order.
    fn units(&self, want: &Layout) -> Vec<Unit>;

    /// What the backbone reads before the first unit, if the condition has a prefix.
    fn prefill(&self, condition: &Condition) -> Option<StepInput>;

    /// What the backbone is fed to predict `unit`.
    ///
    /// # Shapes
    /// - `StepInput::embedded`: `[batch, unit.len(), d_model]`
    fn embed(
        &self,
        so_far: &Codes,
        unit: &Unit,
        condition: &Condition,
        pyramid: Option<&dyn Pyramid>,
    ) -> StepInput;

    /// Ids of the unit from its hidden states.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, unit.len(), d_model]`
    /// - returns: `[batch, depth, unit.len()]`
    ///
    /// # Errors
    /// [`crate::Error::NotFinite`] if the scores are not numbers.
    fn choose(
        &self,
        hidden: Tensor<3>,
        unit: &Unit,
        sampler: &mut dyn Sampler,
    ) -> Result<Tensor<3, Int>>;

    /// Ids of the units of several generations, each from its hidden states and by its own sampler: what [`Head::choose`] gives one after
    /// the other. Heads may read their weights once for all of them.
    ///
    /// # Shapes
    /// - `hidden`: for each, `[batch, unit.len(), d_model]`
    /// - returns: for each, `[batch, depth, unit.len()]`
    ///
    /// # Errors
    /// As [`Head::choose`].
    fn choose_each(
        &self,
        hidden: Vec<Tensor<3>>,
        units: &[&Unit],
        samplers: Vec<&mut dyn Sampler>,
    ) -> Result<Vec<Tensor<3, Int>>> {
        let each = hidden.into_iter().zip(units).zip(samplers);
        each.map(|((hidden, unit), sampler)| self.choose(hidden, unit, sampler))
            .collect()
    }

    /// This head as one that can show its scores, where it can.
    fn scored(&self) -> Option<&dyn Scored> {
        None
    }
}

/// A head whose scores can be asked for, for methods that need probabilities.
pub trait Scored: Head {
    /// Unnormalised scores over ids.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, n, d_model]`
    /// - returns: `[batch, n, codebook_size]`
    fn logits(&self, hidden: Tensor<3>, unit: &Unit) -> Tensor<3>;
}

/// How a sampler draws from filtered scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// The largest score.
    Largest,
    /// At random, by probability.
    ByProbability,
}

/// Turns scores into ids. Samplers wrap samplers.
pub trait Sampler {
    /// One id per position of each row.
    ///
    /// # Shapes
    /// - `logits`: `[batch, n, codebook_size]`
    /// - returns: `[batch, n]`
    ///
    /// # Errors
    /// [`crate::Error::NotFinite`] if a row holds NaN or no finite score.
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> Result<Tensor<2, Int>>;

    /// What the sampler's filters leave of the scores of one position, in place, and how it would draw from them: for methods
    /// that choose by themselves. `past` are the row's ids since those that were given. None if its choice does not follow from
    /// one row of scores.
    fn filter(&self, _scores: &mut [f32], _row: usize, _past: &[u32]) -> Option<Draw> {
        None
    }

    /// Takes note of codes that are given rather than picked, before the first pick. Only samplers that
    /// remember what was chosen care.
    fn given(&mut self, _prompt: &Codes) {}

    /// Takes note of ids of a unit's next codebook that follow from what was picked, or from the arrangement,
    /// and stand in for a pick. Only samplers that remember or count picks care.
    ///
    /// # Shapes
    /// - `ids`: `[batch, n]`
    fn settled(&mut self, _ids: &Tensor<2, Int>, _unit: &Unit) {}
}

/// A backbone with the head that reads it and, for next-scale heads, the tokenizer's pyramid.
pub struct Generator<'a> {
    /// The sequence model.
    pub backbone: &'a dyn Backbone,
    /// What is predicted.
    pub head: &'a dyn Head,
    /// The tokenizer's coarse-to-fine view, where the head needs one.
    pub pyramid: Option<&'a dyn Pyramid>,
}

/// Where a generation begins.
#[derive(Debug, Clone)]
pub struct Start {
    /// What steers it.
    pub condition: Condition,
    /// Codes that are given; `[batch, depth, 0]` if none.
    pub prompt: Codes,
}

/// Called with the latest unit and all codes that are certain so far; may stop the generation. Methods that choose unit by unit call it
/// after each; others may have settled several since the last call, or none yet.
pub type Watch<'a> = dyn FnMut(&Unit, &Codes) -> ControlFlow<()> + 'a;

/// A decoding method: the loop over units.
pub trait Decoding {
    /// Codes for all units of `want`, or fewer if `watch` stops it (then `layout` is unchanged and
    /// [`Codes::filled`] is smaller).
    ///
    /// # Errors
    /// What the head or the sampler reports.
    fn decode(
        &self,
        generator: &Generator<'_>,
        start: Start,
        want: &Layout,
        sampler: &mut dyn Sampler,
        watch: &mut Watch<'_>,
    ) -> Result<Codes>;
}
