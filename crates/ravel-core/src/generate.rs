//! What a generation is made of: a backbone with its state, a head, a sampler and a decoding method.

use std::ops::{ControlFlow, Range};

use burn::tensor::{Bool, Int, Tensor};

use crate::{Codes, Layout, Pyramid, Result, Unit};

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
fn select_rows<const D: usize>(all: Tensor<D>, rows: &[usize]) -> Tensor<D> {
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

/// What one layer remembers of earlier positions.
#[derive(Debug, Clone)]
pub struct LayerState {
    /// Rotated keys, `[batch, n_kv_heads, capacity, head_width]`.
    pub keys: Tensor<4>,
    /// Values, same shape.
    pub values: Tensor<4>,
}

/// What a backbone remembers between steps: keys and values per layer, in room reserved up front.
///
/// `layers` is empty until the first step fills it in.
#[derive(Debug, Clone)]
pub struct State {
    /// One entry per layer.
    pub layers: Vec<LayerState>,
    /// Keys and values of each layer's cross-attention, projected once: `[batch, heads, m, head_width]`.
    pub cross: Vec<LayerState>,
    /// Positions in use, the same in every layer.
    pub len: usize,
    /// Positions reserved.
    pub capacity: usize,
    /// Rows.
    pub batch: usize,
    /// Only the latest `window` positions are kept in sight, if set.
    pub window: Option<usize>,
    /// Positions that no query may see (padding of a prompt), `[batch, len]`, if any were ever hidden.
    pub hidden: Option<Tensor<2, Bool>>,
}

impl State {
    /// An empty state with room for `capacity` positions in each of `batch` rows.
    pub fn new(batch: usize, capacity: usize) -> Self {
        Self {
            layers: Vec::new(),
            cross: Vec::new(),
            len: 0,
            capacity,
            batch,
            window: None,
            hidden: None,
        }
    }

    /// Forgets all but the first `len` positions. The room stays reserved; what follows overwrites it.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Keeps some rows, in any order and as often as they are named: how beams are reordered and a row becomes several.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select(&mut self, rows: &[usize]) {
        if rows.len() == self.batch && rows.iter().enumerate().all(|(at, row)| at == *row) {
            return;
        }
        for layer in self.layers.iter_mut().chain(&mut self.cross) {
            layer.keys = select_rows(layer.keys.clone(), rows);
            layer.values = select_rows(layer.values.clone(), rows);
        }
        self.hidden = self
            .hidden
            .take()
            .map(|hidden| select_rows(hidden.float(), rows).greater_elem(0.5));
        self.batch = rows.len();
    }

    /// Forgets the positions of a range; later ones move up. The room stays reserved.
    ///
    /// # Panics
    /// If the range is not in use, or positions were hidden.
    pub fn remove(&mut self, range: Range<usize>) {
        let rest = self.split_off(range.start);
        let count = range.len();
        self.append(&rest.part(count));
    }

    /// Takes the positions from `at` on out of the state.
    ///
    /// # Panics
    /// As [`State::remove`].
    pub fn split_off(&mut self, at: usize) -> Tail {
        assert!(at <= self.len, "position axis: {at} is beyond {}", self.len);
        assert!(
            self.hidden.is_none(),
            "positions of a padded prompt cannot be moved"
        );
        let layers = self.layers.iter().map(|layer| LayerState {
            keys: between(&layer.keys, at..self.len),
            values: between(&layer.values, at..self.len),
        });
        let tail = Tail {
            layers: layers.collect(),
            len: self.len - at,
        };
        self.len = at;
        tail
    }

    /// Puts positions behind those in use.
    ///
    /// # Panics
    /// If there is no room for them.
    pub fn append(&mut self, tail: &Tail) {
        assert!(
            tail.len <= self.room(),
            "position axis: {} positions, room for {}",
            tail.len,
            self.room()
        );
        if tail.len == 0 {
            return;
        }
        let start = self.len;
        let layers = std::mem::take(&mut self.layers);
        for (layer, tail) in layers.into_iter().zip(&tail.layers) {
            let [batch, heads, n, width] = tail.keys.dims();
            let place = [0..batch, 0..heads, start..start + n, 0..width];
            self.layers.push(LayerState {
                keys: layer.keys.slice_assign(place.clone(), tail.keys.clone()),
                values: layer.values.slice_assign(place, tail.values.clone()),
            });
        }
        self.len += tail.len;
    }

    /// Makes sure that `n` positions may be appended: forgets what lies outside the window by then, and reserves more room where
    /// that is not enough. So a state with a window serves an endless sequence.
    ///
    /// Positions that were forgotten are no longer counted in [`State::len`]: only rotary coordinates, which come with the input,
    /// still tell how far a sequence has come.
    pub fn make_room(&mut self, n: usize) {
        if self.room() >= n {
            return;
        }
        let keep = match self.window {
            Some(window) => self.len.min(window.saturating_sub(1)),
            None => self.len,
        };
        let grown = match self.window {
            Some(_) => self.capacity,
            None => 2 * self.capacity,
        };
        let (from, to) = (self.len - keep, self.len);
        self.capacity = grown.max(keep + n);
        let capacity = self.capacity;
        let moved = |all: &Tensor<4>| {
            let [batch, heads, _, width] = all.dims();
            let room = Tensor::zeros(
                [batch, heads, capacity, width],
                (&all.device(), all.dtype()),
            );
            let kept = all.clone().slice([0..batch, 0..heads, from..to, 0..width]);
            room.slice_assign([0..batch, 0..heads, 0..keep, 0..width], kept)
        };
        for layer in self.layers.iter_mut().filter(|_| keep > 0) {
            layer.keys = moved(&layer.keys);
            layer.values = moved(&layer.values);
        }
        if keep == 0 {
            self.layers.clear();
        }
        self.hidden = self.hidden.take().map(|hidden| {
            let [batch, known] = hidden.dims();
            hidden.slice([0..batch, from.min(known)..known])
        });
        self.len = keep;
    }

    /// Positions that may still be appended.
    pub fn room(&self) -> usize {
        self.capacity - self.len
    }
}

/// Positions that were taken out of a [`State`].
#[derive(Debug, Clone)]
pub struct Tail {
    layers: Vec<LayerState>,
    len: usize,
}

impl Tail {
    /// Without the first `count` positions.
    fn part(self, count: usize) -> Self {
        let len = self.len;
        let layers = self.layers.iter().map(|layer| LayerState {
            keys: between(&layer.keys, count..len),
            values: between(&layer.values, count..len),
        });
        Self {
            layers: layers.collect(),
            len: len - count,
        }
    }
}

/// Some positions of keys or values.
fn between(all: &Tensor<4>, positions: Range<usize>) -> Tensor<4> {
    let [batch, heads, _, width] = all.dims();
    all.clone().slice([0..batch, 0..heads, positions, 0..width])
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
