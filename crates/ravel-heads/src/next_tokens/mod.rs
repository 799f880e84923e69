//! One position after the other, with several codebooks at each.
//!
//! As [`crate::NextToken`], for tokenizers that give a frame of `depth` codes: a position is the sum of its codes' embeddings
//! and predicts all codes of the next one, each through a projection of its own (MusicGen, Copet et al. 2023, section 2.1), or
//! only the first of them and leaves the others to a depth transformer ([`crate::Deep`]). How frames lie along the
//! sequence is an [`Arrangement`].
//!
//! In front of the codes a row of tokens may stand (Fish-Speech, Liao et al. 2024, section 3.1): text where nothing is
//! spoken, and otherwise a token that says "semantic" with the codes beside it.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor, module::embedding};
use ravel_core::{
    Attend, Codes, Condition, Head, Layout, Pyramid, Result, Sampler, StepInput, Unit,
};
use ravel_nn::{Narrowable, Norm, NormConfig, Project, embed_by_table, init, project_by_table};

use crate::Arrangement;
use crate::place::Places;

mod config;

pub use config::{CodeTables, NextTokensConfig, Opening, Predicts, TokenRowConfig};

impl NextTokensConfig {
    /// A fresh head for a backbone of `d_model` with `axes` rotary coordinates; `layout` is that of the positions
    /// ([`Arrangement::layout`]).
    ///
    /// # Panics
    /// If [`NextTokensConfig::validate`] would report an error, or the layout has fewer than `axes` axes.
    pub fn init(
        &self,
        d_model: usize,
        axes: usize,
        layout: &Layout,
        device: &Device,
    ) -> NextTokens {
        self.validate().expect("a configuration that was checked");
        let table = |rows| init::normal([rows, d_model], init::STD, device);
        let codebooks = match self.tables {
            CodeTables::Separate => (0..self.depth).map(|_| table(self.codebook_size)).collect(),
            _ => vec![table(self.depth * self.codebook_size)],
        };
        let out = |ids| init::linear(d_model, ids, self.bias, init::STD, device);
        let norm = |kind| {
            let eps = self.norm_eps;
            NormConfig { kind, eps }.init(d_model, device)
        };
        NextTokens {
            tokens: self.tokens.as_ref().map(|row| table(row.vocabulary_size)),
            codebooks,
            start: matches!(self.opening, Opening::Learned {})
                .then(|| init::normal([d_model], init::STD, device)),
            norm: self.norm.map(norm),
            out: self.projections().into_iter().map(out).collect(),
            config: self.clone(),
            layout: layout.clone(),
            places: Places::new(layout, axes).at_pace(self.pace),
        }
    }
}

/// Predicts one position after the other, several codes each.
#[derive(Module, Debug)]
pub struct NextTokens {
    /// `[vocabulary_size, d_model]`, where there is a row of tokens.
    pub tokens: Option<Param<Tensor<2>>>,
    /// `[depth codebook_size, d_model]`, or `[codebook_size, d_model]` for each codebook.
    pub codebooks: Vec<Param<Tensor<2>>>,
    /// `[d_model]`, where the opening is learned.
    pub start: Option<Param<Tensor<1>>>,
    /// In front of the projections to scores.
    pub norm: Option<Norm>,
    /// `[d_model, ids]` for each codebook, all in one, or for the first alone; none where tokens are tied.
    pub out: Vec<Linear>,
    #[module(skip)]
    config: NextTokensConfig,
    #[module(skip)]
    layout: Layout,
    #[module(skip)]
    places: Places,
}

impl NextTokens {
    /// What it was built from.
    pub fn config(&self) -> &NextTokensConfig {
        &self.config
    }

    /// How the positions are arranged.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// This head for another number of positions: which codes are fixed at the end of a delayed arrangement depends on it.
    ///
    /// # Panics
    /// If the layout has fewer axes than the backbone's rotary coordinates.
    pub fn with_layout(mut self, layout: &Layout) -> Self {
        self.places = Places::new(layout, self.places.axes()).at_pace(self.config.pace);
        self.layout = layout.clone();
        self
    }

    /// This head, reading its one table in another way.
    ///
    /// # Panics
    /// If either way has separate tables.
    pub fn with_tables(mut self, tables: CodeTables) -> Self {
        let one = |tables| tables != CodeTables::Separate;
        assert!(
            one(tables) && one(self.config.tables),
            "separate tables cannot be read as one"
        );
        self.config.tables = tables;
        self
    }

    /// Positions as the backbone is fed them; also what a prompt's condition has as its prefix.
    ///
    /// # Shapes
    /// - `ids`: `[batch, rows, n]`, of positions that begin at `first`
    /// - returns: `[batch, n, d_model]`
    ///
    /// # Panics
    /// If the number of rows is another one.
    pub fn embedded(&self, ids: Tensor<3, Int>, first: usize) -> Tensor<3> {
        let [_, rows, n] = ids.dims();
        assert_eq!(rows, self.config.rows(), "depth axis: not the head's rows");
        let row = |at: usize| ids.clone().narrow(1, at, 1).squeeze_dim::<2>(1);
        if self.config.arrangement == (Arrangement::Flattened {}) {
            return self.flat(row(0), first);
        }
        let Some(tokens) = &self.tokens else {
            return self.summed(&ids);
        };
        let codes = self.summed(&ids.clone().narrow(1, 1, rows - 1));
        let said = self.is_semantic(row(0)).reshape([-1, n as i32, 1]);
        embed_by_table(row(0), tokens) + codes * said
    }

    /// The teacher-forced pass over whole layouts: what all the steps together are fed.
    ///
    /// Hidden position `lead - 1 + i` predicts position `i`; [`NextTokens::logits_of`] picks them out.
    ///
    /// # Shapes
    /// - `ids`: `[batch, rows, layout.len()]`
    /// - `StepInput::embedded`: `[batch, lead - 1 + layout.len(), d_model]`
    ///
    /// # Panics
    /// If the number of positions differs from the layout's, or a prefix is needed and absent.
    pub fn inputs(&self, ids: Tensor<3, Int>, condition: &Condition) -> StepInput {
        let n = ids.dims()[2];
        assert_eq!(n, self.layout.len(), "position axis: not a whole layout");
        let device = ids.device();
        let lead = self.lead(condition);
        let mut parts: Vec<_> = self.prefix_before(condition).into_iter().collect();
        parts.push(self.fed(&ids, 0..n, condition));
        let mut runs = self.prefix_runs(lead - 1);
        runs.extend(std::iter::repeat_n(1, n));
        StepInput {
            embedded: Tensor::cat(parts, 1),
            coords: self.places.coords(lead, 0..lead, 0..n - 1, &device),
            attend: Attend::Blocks(runs),
        }
    }

    /// Scores from the hidden states of [`NextTokens::inputs`].
    ///
    /// # Shapes
    /// - `hidden`: `[batch, lead - 1 + layout.len(), d_model]`
    /// - returns: as [`NextTokens::logits`], for `n = layout.len()`
    pub fn logits_of(&self, hidden: Tensor<3>) -> Tensor<4> {
        let total = hidden.dims()[1];
        let n = self.layout.len();
        self.logits(hidden.narrow(1, total - n, n))
    }

    /// Scores of every codebook, or of the token or first code alone. In a flattened arrangement those of the
    /// position's codebook are meant; [`Head::choose`] takes them.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, n, d_model]`
    /// - returns: `[batch, codebooks, n, ids]`
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<4> {
        let [batch, n, _] = hidden.dims();
        let hidden = match &self.norm {
            Some(norm) => norm.forward(hidden),
            None => hidden,
        };
        if self.out.is_empty() {
            let tokens = self.tokens.as_ref().expect("tied scores have tokens");
            return project_by_table(hidden, tokens).unsqueeze_dim(1);
        }
        if self.config.joined_out && self.config.predicts == Predicts::All {
            let (depth, ids) = (self.config.depth, self.config.scored_ids());
            let all = self.out[0].project(hidden);
            return all.reshape([batch, n, depth, ids]).swap_dims(1, 2);
        }
        let each = self.out.iter().map(|out| out.project(hidden.clone()));
        Tensor::stack(each.collect(), 1)
    }

    /// The sum of the codes' embeddings.
    fn summed(&self, ids: &Tensor<3, Int>) -> Tensor<3> {
        let codes = (0..self.config.depth).map(|codebook| {
            let row = ids.clone().narrow(1, codebook, 1).squeeze_dim(1);
            self.of_codebook(codebook, row)
        });
        codes
            .reduce(|sum, code| sum + code)
            .expect("at least one codebook")
    }

    fn of_codebook(&self, codebook: usize, ids: Tensor<2, Int>) -> Tensor<3> {
        match self.config.tables {
            CodeTables::Separate => embedding(self.codebooks[codebook].val(), ids),
            CodeTables::Overlaid => embedding(self.codebooks[0].val(), ids),
            CodeTables::Joined => {
                let offset = (codebook * self.config.codebook_size) as i64;
                embedding(self.codebooks[0].val(), ids + offset)
            }
        }
    }

    /// Flattened codes that begin at position `first`.
    fn flat(&self, ids: Tensor<2, Int>, first: usize) -> Tensor<3> {
        let codes = (0..ids.dims()[1]).map(|at| {
            let codebook = (first + at) % self.config.depth;
            self.of_codebook(codebook, ids.clone().narrow(1, at, 1))
        });
        Tensor::cat(codes.collect(), 1)
    }

    /// One where codes stand beside a token, zero elsewhere.
    fn is_semantic(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let row = self.config.tokens.as_ref().expect("a row of tokens");
        let begin = row.semantic_begin as i64;
        let end = begin + row.semantic_len as i64;
        let from = tokens.clone().greater_equal_elem(begin).float();
        let dtype = self.codebooks[0].val().dtype();
        (from * tokens.lower_elem(end).float()).cast(dtype)
    }

    /// Positions up to and with the one that predicts position 0.
    fn lead(&self, condition: &Condition) -> usize {
        let prefix = condition.prefix_len();
        if self.config.opening != (Opening::Prefix {}) {
            return prefix + 1;
        }
        assert!(
            prefix > 0,
            "the prefix's last position starts, there is no prefix"
        );
        prefix
    }

    /// The prefix without the position that predicts position 0.
    fn prefix_before(&self, condition: &Condition) -> Option<Tensor<3>> {
        let before = self.lead(condition) - 1;
        let prefix = condition.prefix.as_ref()?;
        (before > 0).then(|| prefix.clone().narrow(1, 0, before))
    }

    fn prefix_runs(&self, before: usize) -> Vec<usize> {
        match before {
            0 => Vec::new(),
            _ if self.config.causal_prefix => vec![1; before],
            _ => vec![before],
        }
    }

    /// What predicts position 0, `[batch, 1, d_model]`.
    fn opened(&self, batch: usize, condition: &Condition) -> Tensor<3> {
        match self.config.opening {
            Opening::Prefix {} => {
                let last = self.lead(condition) - 1;
                let prefix = condition.prefix.clone().expect("lead() saw a prefix");
                prefix.narrow(1, last, 1)
            }
            Opening::Learned {} => {
                let start = self.start.as_ref().expect("a learned opening").val();
                let width = start.dims()[0];
                start.reshape([1, 1, width]).expand([batch, 1, width])
            }
            Opening::Ids { id } => {
                let device = self.codebooks[0].val().device();
                let rows = self.config.rows();
                self.embedded(Tensor::full([batch, rows, 1], id as i64, &device), 0)
            }
        }
    }

    /// What predicts the positions in `span`.
    fn fed(&self, ids: &Tensor<3, Int>, span: Range<usize>, condition: &Condition) -> Tensor<3> {
        let [batch, rows, _] = ids.dims();
        let mut parts = Vec::with_capacity(2);
        if span.start == 0 {
            parts.push(self.opened(batch, condition));
        }
        let held = span.start.saturating_sub(1)..span.end - 1;
        if !held.is_empty() {
            let known = ids.clone().slice([0..batch, 0..rows, held.clone()]);
            parts.push(self.embedded(known, held.start));
        }
        let fed = Tensor::cat(parts, 1);
        match &condition.beside {
            Some(beside) => fed + beside.clone().narrow(1, span.start, span.len()),
            None => fed,
        }
    }

    /// Scores of one codebook with those of ids that it may not choose taken out.
    fn choosable(&self, scores: Tensor<3>, codebook: usize) -> Tensor<3> {
        let [batch, n, ids] = scores.dims();
        let Some(end) = self.config.end else {
            return scores;
        };
        let allowed = (end + usize::from(codebook == 0)).min(ids);
        if allowed == ids {
            return scores;
        }
        let place = [0..batch, 0..n, allowed..ids];
        scores.slice_fill(place, f32::NEG_INFINITY)
    }

    /// Scores of one codebook: `[batch, n, ids]` out of `[batch, codebooks, n, ids]`.
    pub(crate) fn row_of(&self, scores: &Tensor<4>, codebook: usize) -> Tensor<3> {
        let row = scores.clone().narrow(1, codebook, 1).squeeze_dim(1);
        self.choosable(row, codebook)
    }

    /// Ids of one codebook of a unit: fixed by the arrangement, or picked.
    fn chosen(
        &self,
        scores: &Tensor<4>,
        codebook: usize,
        unit: &Unit,
        sampler: &mut dyn Sampler,
    ) -> Result<Tensor<2, Int>> {
        let [batch, _, n, _] = scores.dims();
        let (at, len) = (unit.span.start, self.layout.len());
        let Some(id) = self.config.arrangement.fixed(codebook, at, len) else {
            return sampler.pick(self.row_of(scores, codebook), unit);
        };
        let ids = Tensor::full([batch, n], id as i64, &scores.device());
        sampler.settled(&ids, unit);
        Ok(ids)
    }
}

impl Narrowable for NextTokens {
    fn tied(&self) -> Option<&Param<Tensor<2>>> {
        self.tokens.as_ref().filter(|_| self.out.is_empty())
    }
}

impl Head for NextTokens {
    fn units(&self, want: &Layout) -> Vec<Unit> {
        want.tokens()
    }

    fn prefill(&self, condition: &Condition) -> Option<StepInput> {
        let embedded = self.prefix_before(condition)?;
        let before = embedded.dims()[1];
        let lead = self.lead(condition);
        Some(StepInput {
            coords: self
                .places
                .coords(lead, 0..before, 0..0, &embedded.device()),
            attend: Attend::Blocks(self.prefix_runs(before)),
            embedded,
        })
    }

    /// A unit may also span several positions, all but the last of which are known: a given beginning, or a draft.
    fn embed(
        &self,
        so_far: &Codes,
        unit: &Unit,
        condition: &Condition,
        _pyramid: Option<&dyn Pyramid>,
    ) -> StepInput {
        let span = unit.span.clone();
        let lead = self.lead(condition);
        let (leads, held) = match span.start {
            0 => (lead - 1..lead, 0..span.end - 1),
            start => (0..0, start - 1..span.end - 1),
        };
        // First what is uploaded: a GPU is handed all that is queued before an upload.
        let device = so_far.ids.device();
        let coords = self.places.coords(lead, leads, held, &device);
        StepInput {
            embedded: self.fed(&so_far.ids, span, condition),
            coords,
            attend: Attend::Causal,
        }
    }

    /// # Panics
    /// If the head leaves codes to a depth transformer, or the unit is more than one position where positions differ.
    fn choose(
        &self,
        hidden: Tensor<3>,
        unit: &Unit,
        sampler: &mut dyn Sampler,
    ) -> Result<Tensor<3, Int>> {
        assert_eq!(
            self.config.predicts,
            Predicts::All,
            "this head chooses through `Deep`"
        );
        let alike = self.config.arrangement == (Arrangement::Parallel {});
        assert!(
            alike || unit.len() == 1,
            "position axis: one position at a time"
        );
        let scores = self.logits(hidden);
        if self.config.arrangement == (Arrangement::Flattened {}) {
            let codebook = unit.span.start % self.config.depth;
            let ids = sampler.pick(self.row_of(&scores, codebook), unit)?;
            return Ok(ids.unsqueeze_dim(1));
        }
        let rows = (0..self.config.depth)
            .map(|codebook| self.chosen(&scores, codebook, unit, sampler))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(rows, 1))
    }
}
