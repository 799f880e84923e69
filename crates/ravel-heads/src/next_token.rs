//! One code after the other, in the flat order of the layout.
//!
//! The sequence that the backbone reads is the *lead*, then the codes but the last. The lead is the prefix, with a
//! learned start vector after it unless the prefix's last position takes that part. The lead's last
//! position predicts code 0, the position that carries code `i` predicts code `i + 1`.
//! Each carries the rotary coordinates of the code that it holds, and the learned position (where there is a
//! table) of the code that it predicts.
//!
//! Esser et al. 2021 (VQ-GAN), section 3.2; Sun et al. 2024 (LlamaGen).

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor};
use ravel_core::{
    Attend, Codes, Condition, Head, Layout, Pyramid, Result, Sampler, Scored, StepInput, Unit,
};
use ravel_nn::{Narrowable, Project, embed_by_table, init, project_by_table};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{StartKind, positive};
use crate::place::Places;

/// What fixes a next-token head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NextTokenConfig {
    /// Ids that can be predicted.
    pub codebook_size: usize,
    /// Width of the tokenizer's code vectors, if codes are embedded through them; a learned table if unset.
    pub code_width: Option<usize>,
    /// What predicts the first code.
    pub start: StartKind,
    /// Whether each code's position has a learned embedding.
    pub positions: bool,
    /// Whether the learned table is also the projection to scores.
    pub tie: bool,
    /// Whether the projection to scores adds a bias.
    pub bias: bool,
    /// Whether a prefix position sees only itself and earlier ones, rather than the whole prefix.
    pub causal_prefix: bool,
}

impl Default for NextTokenConfig {
    fn default() -> Self {
        Self {
            codebook_size: 2048,
            code_width: None,
            start: StartKind::Learned,
            positions: true,
            tie: false,
            bias: false,
            causal_prefix: false,
        }
    }
}

impl NextTokenConfig {
    /// Checks that a head can be built.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        positive("codebook-size", self.codebook_size)?;
        positive("code-width", self.code_width.unwrap_or(1))?;
        if self.tie && self.code_width.is_some() {
            return Err(ravel_core::Error::Config {
                field: "tie".into(),
                found: "true beside code-width".into(),
                expected: "a learned table, or tie = false".into(),
            });
        }
        Ok(())
    }

    /// A fresh head for a backbone of `d_model` with `axes` rotary coordinates.
    ///
    /// # Panics
    /// If [`NextTokenConfig::validate`] would report an error, or the layout has fewer than `axes` axes.
    pub fn init(&self, d_model: usize, axes: usize, layout: &Layout, device: &Device) -> NextToken {
        self.validate().expect("a configuration that was checked");
        let width = self.code_width.unwrap_or(d_model);
        let codebook = match self.code_width {
            Some(_) => init::zeros([self.codebook_size, width], device).set_require_grad(false),
            None => init::normal([self.codebook_size, width], init::STD, device),
        };
        let projection = || init::linear(width, d_model, true, (width as f64).powf(-0.5), device);
        let start = self.start.is_learned();
        let out = |_| init::linear(d_model, self.codebook_size, self.bias, init::STD, device);
        NextToken {
            codebook,
            projection: self.code_width.map(|_| projection()),
            start: start.then(|| init::normal([d_model], init::STD, device)),
            positions: self
                .positions
                .then(|| init::normal([layout.len(), d_model], init::STD, device)),
            out: (!self.tie).then_some(()).map(out),
            config: self.clone(),
            layout: layout.clone(),
            places: Places::new(layout, axes),
        }
    }
}

/// Predicts one code after the other.
#[derive(Module, Debug)]
pub struct NextToken {
    /// `[codebook_size, d_model]`, learned; or with a `code_width` the tokenizer's frozen
    /// `[codebook_size, code_width]`, zeros until [`NextToken::with_codebook`] or a checkpoint sets them.
    pub codebook: Param<Tensor<2>>,
    /// `[code_width, d_model]`, where codes are embedded through the tokenizer's vectors.
    pub projection: Option<Linear>,
    /// `[d_model]`.
    pub start: Option<Param<Tensor<1>>>,
    /// `[layout.len(), d_model]`.
    pub positions: Option<Param<Tensor<2>>>,
    /// `[d_model, codebook_size]`; the codebook itself if tied.
    pub out: Option<Linear>,
    #[module(skip)]
    config: NextTokenConfig,
    #[module(skip)]
    layout: Layout,
    #[module(skip)]
    places: Places,
}

impl NextToken {
    /// What it was built from.
    pub fn config(&self) -> &NextTokenConfig {
        &self.config
    }

    /// How the codes are arranged.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// With the tokenizer's code vectors, which stay as they are while training.
    ///
    /// # Shapes
    /// - `vectors`: `[codebook_size, code_width]`
    ///
    /// # Panics
    /// If the head has a learned table, or the shape differs.
    pub fn with_codebook(mut self, vectors: Tensor<2>) -> Self {
        let width = self.config.code_width;
        let width = width.expect("a head that embeds codes through the tokenizer's vectors");
        assert_eq!(vectors.dims(), [self.config.codebook_size, width]);
        let id = self.codebook.id;
        self.codebook = Param::initialized(id, vectors.detach()).set_require_grad(false);
        self
    }

    /// The teacher-forced pass over whole layouts: what all the steps together are fed.
    ///
    /// Hidden position `lead - 1 + i` predicts code `i`; [`NextToken::logits_of`] picks them out.
    ///
    /// # Shapes
    /// - `codes`: `[batch, layout.len()]`
    /// - `StepInput::embedded`: `[batch, lead - 1 + layout.len(), d_model]`
    ///
    /// # Panics
    /// If the number of codes differs from the layout's, or a prefix is needed and absent.
    pub fn inputs(&self, codes: Tensor<2, Int>, condition: &Condition) -> StepInput {
        let [_, n] = codes.dims();
        assert_eq!(n, self.layout.len(), "position axis: not a whole layout");
        let device = codes.device();
        let units = self.fed(&codes, 0..n, condition);
        let lead = self.lead(condition);
        let before = lead - 1;
        let embedded = match self.prefix_before(condition) {
            Some(prefix) => Tensor::cat(vec![prefix, units], 1),
            None => units,
        };
        let mut runs = self.prefix_runs(before);
        runs.extend(std::iter::repeat_n(1, n));
        StepInput {
            embedded,
            coords: self.places.coords(lead, 0..lead, 0..n - 1, &device),
            attend: Attend::Blocks(runs),
        }
    }

    /// Scores of all codes from the hidden states of [`NextToken::inputs`].
    ///
    /// # Shapes
    /// - `hidden`: `[batch, lead - 1 + layout.len(), d_model]`
    /// - returns: `[batch, layout.len(), codebook_size]`
    pub fn logits_of(&self, hidden: Tensor<3>) -> Tensor<3> {
        let total = hidden.dims()[1];
        let n = self.layout.len();
        self.scores(hidden.narrow(1, total - n, n))
    }

    /// Scores over all codes from any hidden states.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, n, d_model]`
    /// - returns: `[batch, n, codebook_size]`
    pub fn scores(&self, hidden: Tensor<3>) -> Tensor<3> {
        match &self.out {
            Some(out) => out.project(hidden),
            None => project_by_table(hidden, &self.codebook),
        }
    }

    /// Positions up to and with the one that predicts code 0.
    fn lead(&self, condition: &Condition) -> usize {
        let prefix = condition.prefix_len();
        if !self.config.start.uses_prefix() {
            return prefix + 1;
        }
        assert!(
            prefix > 0,
            "the prefix's last position starts, there is no prefix"
        );
        prefix
    }

    /// The prefix without the position that predicts code 0.
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

    /// What predicts code 0, `[batch, 1, d_model]`.
    fn started(&self, batch: usize, condition: &Condition) -> Tensor<3> {
        let learned = self.start.as_ref().map(|start| start.val().unsqueeze());
        let given = self.config.start.uses_prefix().then(|| {
            let last = self.lead(condition) - 1;
            let prefix = condition.prefix.clone().expect("lead() saw a prefix");
            prefix.narrow(1, last, 1)
        });
        match (given, learned) {
            (Some(given), Some(learned)) => given + learned,
            (Some(given), None) => given,
            (None, Some(learned)) => {
                let learned: Tensor<3> = learned;
                let width = learned.dims()[2];
                learned.expand([batch, 1, width])
            }
            (None, None) => unreachable!("a start is learned or given"),
        }
    }

    /// What predicts the codes in `span`: the embeddings of those one earlier, and the positions.
    fn fed(
        &self,
        codes: &Tensor<2, Int>,
        span: std::ops::Range<usize>,
        condition: &Condition,
    ) -> Tensor<3> {
        let [batch, _] = codes.dims();
        let mut parts = Vec::with_capacity(2);
        if span.start == 0 {
            parts.push(self.started(batch, condition));
        }
        let held = span.start.saturating_sub(1)..span.end - 1;
        if !held.is_empty() {
            let ids = codes.clone().slice([0..batch, held]);
            parts.push(self.embedded(ids));
        }
        let embedded = match parts.len() {
            1 => parts.remove(0),
            _ => Tensor::cat(parts, 1),
        };
        match &self.positions {
            Some(positions) => {
                embedded
                    + positions
                        .val()
                        .narrow(0, span.start, span.len())
                        .unsqueeze()
            }
            None => embedded,
        }
    }

    /// Codes as the backbone is fed them, without their positions. Where text continues text, this also embeds the
    /// given part, which is then the condition's prefix.
    ///
    /// # Shapes
    /// - `ids`: `[batch, n]`
    /// - returns: `[batch, n, d_model]`
    pub fn embedded(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let vectors = embed_by_table(ids, &self.codebook);
        match &self.projection {
            Some(projection) => projection.project(vectors),
            None => vectors,
        }
    }
}

impl Narrowable for NextToken {
    fn tied(&self) -> Option<&Param<Tensor<2>>> {
        self.out.is_none().then_some(&self.codebook)
    }
}

impl Head for NextToken {
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

    /// A unit may also span several codes, all but the last of which are known: a given beginning, or a draft.
    fn embed(
        &self,
        so_far: &Codes,
        unit: &Unit,
        condition: &Condition,
        _pyramid: Option<&dyn Pyramid>,
    ) -> StepInput {
        let codes = so_far.at_depth(0);
        let span = unit.span.clone();
        let lead = self.lead(condition);
        let (leads, held) = match span.start {
            0 => (lead - 1..lead, 0..span.end - 1),
            start => (0..0, start - 1..span.end - 1),
        };
        // First what is uploaded: a GPU is handed all that is queued before an upload.
        let coords = self.places.coords(lead, leads, held, &codes.device());
        StepInput {
            embedded: self.fed(&codes, span, condition),
            coords,
            attend: Attend::Causal,
        }
    }

    fn choose(
        &self,
        hidden: Tensor<3>,
        unit: &Unit,
        sampler: &mut dyn Sampler,
    ) -> Result<Tensor<3, Int>> {
        let ids = sampler.pick(self.scores(hidden), unit)?;
        Ok(ids.unsqueeze_dim(1))
    }

    fn choose_each(
        &self,
        hidden: Vec<Tensor<3>>,
        units: &[&Unit],
        samplers: Vec<&mut dyn Sampler>,
    ) -> Result<Vec<Tensor<3, Int>>> {
        let shapes: Vec<_> = hidden.iter().map(|hidden| hidden.dims()).collect();
        let rows = hidden.into_iter().zip(&shapes);
        let rows = rows.map(|(hidden, [batch, n, width])| hidden.reshape([1, batch * n, *width]));
        let scores = self.scores(Tensor::cat(rows.collect(), 1));
        let ids = scores.dims()[2];
        let mut start = 0;
        let mut chosen = Vec::with_capacity(shapes.len());
        for ((sampler, unit), [batch, n, _]) in samplers.into_iter().zip(units).zip(shapes) {
            let own = scores.clone().narrow(1, start, batch * n);
            start += batch * n;
            let picked = sampler.pick(own.reshape([batch, n, ids]), unit)?;
            chosen.push(picked.unsqueeze_dim(1));
        }
        Ok(chosen)
    }

    fn scored(&self) -> Option<&dyn Scored> {
        Some(self)
    }
}

impl Scored for NextToken {
    fn logits(&self, hidden: Tensor<3>, _unit: &Unit) -> Tensor<3> {
        self.scores(hidden)
    }
}
