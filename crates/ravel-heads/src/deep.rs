//! Codes of one frame in turn: a small transformer over depth picks what the backbone left open.
//!
//! The slow/fast idea of Fish-Speech (Liao et al. 2024, section 3.1) and of CSM, after the RQ-Transformer (Lee et al. 2022,
//! section 3.2): the backbone's hidden state is position 0 of a short sequence, the code of codebook `j` its position `j + 1`,
//! and position `j` predicts the code of codebook `j`. The transformer is any [`Backbone`]; its state lives within one call of
//! [`Head::choose`].
//!
//! Symbols: `r` frames at once (rows times positions), `w` width of the depth transformer.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor, module::embedding};
use ravel_core::{
    Attend, Backbone, Codes, Condition, Head, Layout, Pyramid, Result, Sampler, State, StepInput,
    Unit,
};
use ravel_nn::{Project, init};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::NextTokens;
use crate::config::positive;

/// What fixes the reading and the scores of a depth transformer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DepthConfig {
    /// Codebooks of a frame. The first is known before the depth transformer begins.
    pub depth: usize,
    /// Ids of each codebook.
    pub codebook_size: usize,
    /// Width of the codes' embeddings; the depth transformer's if unset.
    pub code_width: Option<usize>,
    /// What is projected to the depth transformer's width.
    pub projection: DepthProjection,
    /// Whether all codebooks share one table of embeddings; one joined table, codebook after codebook, otherwise.
    pub shared_table: bool,
    /// Whether all positions share one projection to scores; one for each codebook but the first otherwise.
    pub shared_out: bool,
    /// Where the first code comes from.
    pub first: FirstCode,
}

impl Default for DepthConfig {
    fn default() -> Self {
        Self {
            depth: 8,
            codebook_size: 1024,
            code_width: None,
            projection: DepthProjection::None,
            shared_table: false,
            shared_out: false,
            first: FirstCode::default(),
        }
    }
}

/// What is projected to the depth transformer's width.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DepthProjection {
    /// Nothing: all widths agree.
    #[default]
    None,
    /// The backbone's hidden state, with a bias (Fish-Speech).
    Hidden,
    /// The hidden state and the codes' embeddings alike, without a bias (CSM).
    Both,
}

/// Where the first code of a frame comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FirstCode {
    /// The backbone chose it.
    Chosen {}, // The braces make serde refuse unknown keys, which it lets pass in a bare variant.
    /// It is the backbone's token less `begin`, and 0 for tokens below that.
    Token {
        /// The token that stands for code 0.
        begin: usize,
    },
}

impl Default for FirstCode {
    fn default() -> Self {
        Self::Chosen {}
    }
}

impl DepthConfig {
    /// Checks that the parts can be built.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        positive("depth", self.depth)?;
        positive("codebook-size", self.codebook_size)?;
        positive(
            "depth times codebook-size",
            self.depth.saturating_mul(self.codebook_size),
        )?;
        positive("code-width", self.code_width.unwrap_or(1))
    }

    /// Fresh parts between a backbone of `d_model` and a depth transformer of `d_depth`.
    ///
    /// # Panics
    /// If [`DepthConfig::validate`] would report an error, or widths that nothing projects differ.
    pub fn init(&self, d_model: usize, d_depth: usize, device: &Device) -> DepthHead {
        self.validate().expect("a configuration that was checked");
        let width = self.code_width.unwrap_or(d_depth);
        let (hidden, codes) = match self.projection {
            DepthProjection::None => (d_model, width),
            DepthProjection::Hidden => (d_depth, width),
            DepthProjection::Both => (d_depth, d_depth),
        };
        assert_eq!(hidden, d_depth, "width axis: the hidden state's");
        assert_eq!(codes, d_depth, "width axis: the codes' embeddings'");
        let biased = self.projection == DepthProjection::Hidden;
        let std = (d_model as f64).powf(-0.5);
        let tables = if self.shared_table { 1 } else { self.depth };
        let outs = match self.shared_out {
            true => 1,
            false => (self.depth - 1).max(1),
        };
        DepthHead {
            codebook: init::normal([tables * self.codebook_size, width], init::STD, device),
            projection: (self.projection != DepthProjection::None)
                .then(|| init::linear(d_model, d_depth, biased, std, device)),
            out: init::normal([outs, d_depth, self.codebook_size], init::STD, device),
            config: self.clone(),
        }
    }
}

/// Embeddings and scores around a depth transformer.
#[derive(Module, Debug)]
pub struct DepthHead {
    /// `[depth codebook_size, code_width]`, or `[codebook_size, code_width]` where it is shared.
    pub codebook: Param<Tensor<2>>,
    /// `[d_model, w]`.
    pub projection: Option<Linear>,
    /// `[depth - 1, w, codebook_size]`, or `[1, w, codebook_size]` where it is shared.
    pub out: Param<Tensor<3>>,
    #[module(skip)]
    config: DepthConfig,
}

impl DepthHead {
    /// What it was built from.
    pub fn config(&self) -> &DepthConfig {
        &self.config
    }

    /// The backbone's hidden state as position 0.
    ///
    /// # Shapes
    /// - `hidden`: `[r, n, d_model]`
    /// - returns: `[r, n, w]`
    pub fn hidden(&self, hidden: Tensor<3>) -> Tensor<3> {
        match &self.projection {
            Some(projection) => projection.project(hidden),
            None => hidden,
        }
    }

    /// Codes as positions `first + 1..`.
    ///
    /// # Shapes
    /// - `codes`: `[r, n]`, of codebooks `first..first + n`
    /// - returns: `[r, n, w]`
    pub fn embedded(&self, codes: Tensor<2, Int>, first: usize) -> Tensor<3> {
        let n = codes.dims()[1];
        let step = match self.config.shared_table {
            true => 0,
            false => self.config.codebook_size as i64,
        };
        let offsets = Tensor::<1, Int>::arange(0..n as i64, &codes.device()) + first as i64;
        let vectors = embedding(self.codebook.val(), codes + (offsets * step).unsqueeze());
        match (&self.projection, self.config.projection) {
            (Some(projection), DepthProjection::Both) => projection.project(vectors),
            _ => vectors,
        }
    }

    /// Scores of the code of codebook `codebook` from the hidden state of the position of the same number.
    ///
    /// # Shapes
    /// - `hidden`: `[r, 1, w]`
    /// - returns: `[r, 1, codebook_size]`
    ///
    /// # Panics
    /// For codebook 0, unless all positions share one projection.
    pub fn logits(&self, hidden: Tensor<3>, codebook: usize) -> Tensor<3> {
        let at = match self.config.shared_out {
            true => 0,
            false => codebook
                .checked_sub(1)
                .expect("depth axis: the first code has no projection of its own"),
        };
        hidden.matmul(self.out.val().narrow(0, at, 1))
    }
}

/// A head with several codebooks of which a depth transformer chooses all but the first.
pub struct Deep<B> {
    /// What the backbone reads, and the first choice.
    pub frame: NextTokens,
    /// Embeddings and scores over depth.
    pub depth: DepthHead,
    /// The depth transformer.
    pub transformer: B,
}

impl<B: Backbone> Deep<B> {
    /// Hidden states over depth of whole frames, in one causal pass.
    ///
    /// # Shapes
    /// - `hidden`: `[r, d_model]`, the backbone's
    /// - `codes`: `[r, n]`, of codebooks `0..n`
    /// - returns: `[r, 1 + n, w]`; position `j` predicts codebook `j`
    pub fn over_depth(&self, hidden: Tensor<2>, codes: Tensor<2, Int>) -> Tensor<3> {
        let [rows, n] = codes.dims();
        let mut parts = vec![self.depth.hidden(hidden.unsqueeze_dim(1))];
        if n > 0 {
            parts.push(self.depth.embedded(codes, 0));
        }
        let mut state = self.transformer.start(rows, 1 + n);
        self.stepped(Tensor::cat(parts, 1), &mut state)
    }

    /// Scores of codebooks `from..=n` from [`Deep::over_depth`]'s hidden states.
    ///
    /// # Shapes
    /// - `hidden`: `[r, 1 + n, w]`
    /// - returns: `[r, 1 + n - from, codebook_size]`
    ///
    /// # Panics
    /// As [`DepthHead::logits`].
    pub fn scores(&self, hidden: &Tensor<3>, from: usize) -> Tensor<3> {
        let each = (from..hidden.dims()[1]).map(|codebook| {
            self.depth
                .logits(hidden.clone().narrow(1, codebook, 1), codebook)
        });
        Tensor::cat(each.collect(), 1)
    }

    fn stepped(&self, embedded: Tensor<3>, state: &mut State) -> Tensor<3> {
        let n = embedded.dims()[1];
        let places = state.len as i64..(state.len + n) as i64;
        let input = StepInput {
            coords: Tensor::arange(places, &embedded.device()).unsqueeze_dim(1),
            embedded,
            attend: Attend::Causal,
        };
        self.transformer.step(input, &Condition::default(), state)
    }

    /// The codes of codebooks `1..`, one after the other.
    fn rest(
        &self,
        hidden: Tensor<3>,
        first: Tensor<2, Int>,
        unit: &Unit,
        sampler: &mut dyn Sampler,
    ) -> Result<Vec<Tensor<2, Int>>> {
        let [batch, n, width] = hidden.dims();
        let depth = self.depth.config.depth;
        let mut state = self.transformer.start(batch * n, depth);
        let mut before = Some(self.depth.hidden(hidden.reshape([batch * n, 1, width])));
        let mut latest = first;
        let mut chosen = Vec::with_capacity(depth);
        for codebook in 1..depth {
            let code = latest.reshape([batch * n, 1]);
            let code = self.depth.embedded(code, codebook - 1);
            // What position 0 predicts is known: it goes together with the first code.
            let input: Vec<_> = before.take().into_iter().chain([code]).collect();
            let states = self.stepped(Tensor::cat(input, 1), &mut state);
            let last = states.dims()[1] - 1;
            let scores = self.depth.logits(states.narrow(1, last, 1), codebook);
            let ids = scores.dims()[2];
            latest = sampler.pick(scores.reshape([batch, n, ids]), unit)?;
            chosen.push(latest.clone());
        }
        Ok(chosen)
    }
}

impl<B: Backbone> Head for Deep<B> {
    fn units(&self, want: &Layout) -> Vec<Unit> {
        self.frame.units(want)
    }

    fn prefill(&self, condition: &Condition) -> Option<StepInput> {
        self.frame.prefill(condition)
    }

    fn embed(
        &self,
        so_far: &Codes,
        unit: &Unit,
        condition: &Condition,
        pyramid: Option<&dyn Pyramid>,
    ) -> StepInput {
        self.frame.embed(so_far, unit, condition, pyramid)
    }

    fn choose(
        &self,
        hidden: Tensor<3>,
        unit: &Unit,
        sampler: &mut dyn Sampler,
    ) -> Result<Tensor<3, Int>> {
        let scores = self.frame.logits(hidden.clone());
        let chosen = sampler.pick(self.frame.row_of(&scores, 0), unit)?;
        let mut rows = vec![chosen.clone()];
        let first = match self.depth.config.first {
            // Ids behind the codes end the signal: what stands beside them is not heard.
            FirstCode::Chosen {} => chosen.clamp_max(self.depth.config.codebook_size as i64 - 1),
            FirstCode::Token { begin } => {
                let code = (chosen - begin as i64).clamp_min(0);
                sampler.settled(&code, unit);
                rows.push(code.clone());
                code
            }
        };
        rows.extend(self.rest(hidden, first, unit, sampler)?);
        Ok(Tensor::stack(rows, 1))
    }
}
