//! One scale after the other, each whole scale at once, from coarse to fine.
//!
//! Tian et al. 2024 (VAR), sections 3.2 and 3.3. The first scale is predicted from a start vector; each later
//! one from the canvas of all earlier scales, brought down to that scale's size. The position that stands at
//! a place of a scale predicts the code of that place. Each carries the embeddings of its scale and place
//! and the rotary coordinates of its place.
//!
//! A place may have several codes that are predicted side by side: bits in Infinity (Han et al. 2024, section 3.3), whose places also
//! stand, on every scale, where they would on one grid.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor};
use ravel_core::{
    Attend, Codes, Condition, Error, Head, Layout, Pyramid, Result, Sampler, Scored, StepInput,
    Unit,
};
use ravel_nn::{Narrowable, Project, init};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{StartKind, positive};
use crate::place::Places;

/// What fixes a next-scale head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NextScaleConfig {
    /// Ids that can be predicted.
    pub codebook_size: usize,
    /// Codes of a place, each with scores of its own: bits, where there are two ids.
    #[serde(skip_serializing_if = "is_one")]
    pub depth: usize,
    /// Numbers that a place is shown of the canvas.
    pub code_width: usize,
    /// What predicts the first scale.
    pub start: StartKind,
    /// Whether each scale has a learned embedding.
    pub levels: bool,
    /// Scales that there are embeddings for; those of the layout if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_levels: Option<usize>,
    /// Height and width of a grid on which the places of all scales are spread out for their rotary coordinates; each scale's own
    /// if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<[usize; 2]>,
    /// Whether each place of each scale has a learned embedding.
    pub positions: bool,
    /// Whether the projection to scores adds a bias.
    pub bias: bool,
    /// Whether a prefix position sees only itself and earlier ones, rather than the whole prefix.
    pub causal_prefix: bool,
}

impl Default for NextScaleConfig {
    fn default() -> Self {
        Self {
            codebook_size: 2048,
            depth: 1,
            code_width: 16,
            start: StartKind::Learned,
            levels: true,
            most_levels: None,
            spread: None,
            positions: true,
            bias: true,
            causal_prefix: false,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_one(depth: &usize) -> bool {
    *depth == 1
}

impl NextScaleConfig {
    /// Checks that a head can be built.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        positive("codebook-size", self.codebook_size)?;
        positive("depth", self.depth)?;
        positive(
            "depth times codebook-size",
            self.depth.saturating_mul(self.codebook_size),
        )?;
        positive("code-width", self.code_width)
    }

    /// Checks that a head can be built for this layout.
    ///
    /// # Errors
    /// [`Error::Config`] names what does not fit.
    pub fn validate_for(&self, layout: &Layout) -> Result<()> {
        self.validate()?;
        let wrong = |found: String, expected: &str| {
            Err(Error::Config {
                field: "layout".into(),
                found,
                expected: expected.into(),
            })
        };
        match layout {
            Layout::Scales { sides } if self.most_levels.is_some_and(|most| most < sides.len()) => {
                let found = format!("{} scales", sides.len());
                wrong(found, "no more than most-levels")
            }
            Layout::Scales { sides } if !sides.is_empty() => Ok(()),
            other => wrong(other.describe(), "scales, coarsest first"),
        }
    }

    /// A fresh head for a backbone of `d_model` with `axes` rotary coordinates.
    ///
    /// # Panics
    /// If [`NextScaleConfig::validate_for`] would report an error.
    pub fn init(&self, d_model: usize, axes: usize, layout: &Layout, device: &Device) -> NextScale {
        self.validate_for(layout)
            .expect("a configuration that was checked");
        let table = |rows| init::normal([rows, d_model], init::STD, device);
        let units = layout.blocks();
        let std = (self.code_width as f64).powf(-0.5);
        let start = self.start.is_learned();
        NextScale {
            features: init::linear(self.code_width, d_model, true, std, device),
            start: start.then(|| table(units[0].len())),
            levels: self
                .levels
                .then(|| table(self.most_levels.unwrap_or(units.len()))),
            positions: self.positions.then(|| table(layout.len())),
            out: init::linear(
                d_model,
                self.depth * self.codebook_size,
                self.bias,
                init::STD,
                device,
            ),
            config: self.clone(),
            layout: layout.clone(),
            places: match self.spread {
                Some(grid) => Places::spread(layout, axes, grid),
                None => Places::new(layout, axes),
            },
        }
    }
}

/// Predicts one scale after the other.
#[derive(Module, Debug)]
pub struct NextScale {
    /// `[code_width, d_model]`: the canvas as the backbone sees it.
    pub features: Linear,
    /// `[positions of the first scale, d_model]`.
    pub start: Option<Param<Tensor<2>>>,
    /// `[most_levels, d_model]`.
    pub levels: Option<Param<Tensor<2>>>,
    /// `[layout.len(), d_model]`.
    pub positions: Option<Param<Tensor<2>>>,
    /// `[d_model, depth codebook_size]`: all ids of the first code, then of the second.
    pub out: Linear,
    #[module(skip)]
    config: NextScaleConfig,
    #[module(skip)]
    layout: Layout,
    #[module(skip)]
    places: Places,
}

impl NextScale {
    /// What it was built from.
    pub fn config(&self) -> &NextScaleConfig {
        &self.config
    }

    /// How the codes are arranged.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The teacher-forced pass over all scales: what all the steps together are fed.
    ///
    /// Hidden position `lead + i` predicts code `i`, where `lead` is the prefix's length, less one if its
    /// last position starts; [`NextScale::logits_of`] picks them out.
    ///
    /// # Shapes
    /// - `features`: `[batch, positions after the first scale, code_width]`, scale by scale what
    ///   [`Pyramid::features_for`] gives
    /// - `StepInput::embedded`: `[batch, lead + layout.len(), d_model]`
    ///
    /// # Panics
    /// If the number of positions differs from the layout's, or a prefix is needed and absent.
    pub fn inputs(&self, features: Tensor<3>, condition: &Condition) -> StepInput {
        let [batch, after, _] = features.dims();
        let units = self.layout.blocks();
        assert_eq!(
            units[0].len() + after,
            self.layout.len(),
            "position axis: not all scales after the first"
        );
        let device = features.device();
        let lead = self.lead(condition);
        let mut parts: Vec<_> = self.prefix_before(condition).into_iter().collect();
        parts.push(self.placed(self.started(batch, condition), &units[..1]));
        if after > 0 {
            parts.push(self.placed(self.features.project(features), &units[1..]));
        }
        let mut runs = self.prefix_runs(lead);
        runs.extend(units.iter().map(Unit::len));
        StepInput {
            embedded: Tensor::cat(parts, 1),
            coords: self
                .places
                .coords(lead, 0..lead, 0..self.layout.len(), &device),
            attend: Attend::Blocks(runs),
        }
    }

    /// Scores of all codes from the hidden states of [`NextScale::inputs`].
    ///
    /// # Shapes
    /// - `hidden`: `[batch, lead + layout.len(), d_model]`
    /// - returns: `[batch, layout.len(), depth codebook_size]`
    pub fn logits_of(&self, hidden: Tensor<3>) -> Tensor<3> {
        let total = hidden.dims()[1];
        let n = self.layout.len();
        self.out.project(hidden.narrow(1, total - n, n))
    }

    /// Positions before the first scale.
    fn lead(&self, condition: &Condition) -> usize {
        let prefix = condition.prefix_len();
        if !self.config.start.uses_prefix() {
            return prefix;
        }
        assert!(
            prefix > 0,
            "the prefix's last position starts, there is no prefix"
        );
        prefix - 1
    }

    fn prefix_before(&self, condition: &Condition) -> Option<Tensor<3>> {
        let lead = self.lead(condition);
        let prefix = condition.prefix.as_ref()?;
        (lead > 0).then(|| prefix.clone().narrow(1, 0, lead))
    }

    fn prefix_runs(&self, lead: usize) -> Vec<usize> {
        match lead {
            0 => Vec::new(),
            _ if self.config.causal_prefix => vec![1; lead],
            _ => vec![lead],
        }
    }

    /// What predicts the first scale, `[batch, positions, d_model]`.
    fn started(&self, batch: usize, condition: &Condition) -> Tensor<3> {
        let first = self.layout.blocks()[0].len();
        let learned = self.start.as_ref().map(|start| start.val().unsqueeze());
        let given: Option<Tensor<3>> = self.config.start.uses_prefix().then(|| {
            let prefix = condition.prefix.clone().expect("lead() saw a prefix");
            prefix.narrow(1, self.lead(condition), 1)
        });
        let start = match (given, learned) {
            (Some(given), Some(learned)) => given + learned,
            (Some(given), None) => given,
            (None, Some(learned)) => learned,
            (None, None) => unreachable!("a start is learned or given"),
        };
        let width = start.dims()[2];
        start.expand([batch, first, width])
    }

    /// With the embeddings of the units' scales and places.
    fn placed(&self, x: Tensor<3>, units: &[Unit]) -> Tensor<3> {
        let span = units[0].span.start..units[units.len() - 1].span.end;
        let places = self
            .positions
            .as_ref()
            .map(|positions| positions.val().narrow(0, span.start, span.len()));
        let levels = self.levels.as_ref().map(|levels| {
            let rows = units.iter().map(|unit| {
                let level = levels.val().narrow(0, unit.index, 1);
                let width = level.dims()[1];
                level.expand([unit.len(), width])
            });
            Tensor::cat(rows.collect(), 0)
        });
        match (places, levels) {
            (Some(places), Some(levels)) => x + (places + levels).unsqueeze(),
            (Some(one), None) | (None, Some(one)) => x + one.unsqueeze(),
            (None, None) => x,
        }
    }
}

/// The canvas after the first `scales` scales of the codes.
///
/// # Panics
/// If they are not filled.
fn canvas_of(codes: &Codes, units: &[Unit], pyramid: &dyn Pyramid) -> Tensor<4> {
    let mut canvas = None;
    for unit in units {
        canvas = Some(pyramid.add_scale(canvas, unit.index, codes.of_unit(unit)));
    }
    canvas.expect("at least one scale")
}

impl Narrowable for NextScale {}

impl Head for NextScale {
    fn units(&self, want: &Layout) -> Vec<Unit> {
        want.blocks()
    }

    fn prefill(&self, condition: &Condition) -> Option<StepInput> {
        let embedded = self.prefix_before(condition)?;
        let lead = embedded.dims()[1];
        Some(StepInput {
            coords: self.places.coords(lead, 0..lead, 0..0, &embedded.device()),
            attend: Attend::Blocks(self.prefix_runs(lead)),
            embedded,
        })
    }

    /// # Panics
    /// If a scale after the first is asked for without a pyramid.
    fn embed(
        &self,
        so_far: &Codes,
        unit: &Unit,
        condition: &Condition,
        pyramid: Option<&dyn Pyramid>,
    ) -> StepInput {
        let embedded = if unit.index == 0 {
            self.started(so_far.batch(), condition)
        } else {
            let pyramid = pyramid.expect("the pyramid of a tokenizer with scales");
            let units = self.layout.blocks();
            let canvas = canvas_of(so_far, &units[..unit.index], pyramid);
            let features = pyramid.features_for(&canvas, unit.index);
            self.features.project(features)
        };
        let device = embedded.device();
        let lead = self.lead(condition);
        StepInput {
            embedded: self.placed(embedded, std::slice::from_ref(unit)),
            coords: self.places.coords(lead, 0..0, unit.span.clone(), &device),
            attend: Attend::Unit,
        }
    }

    fn choose(
        &self,
        hidden: Tensor<3>,
        unit: &Unit,
        sampler: &mut dyn Sampler,
    ) -> Result<Tensor<3, Int>> {
        let ids = self.config.codebook_size;
        let scores = self.out.project(hidden);
        let codes = (0..self.config.depth).map(|depth| {
            let scores = scores.clone().narrow(2, depth * ids, ids);
            sampler.pick(scores, unit)
        });
        Ok(Tensor::stack(codes.collect::<Result<Vec<_>>>()?, 1))
    }

    fn scored(&self) -> Option<&dyn Scored> {
        (self.config.depth == 1).then_some(self)
    }
}

impl Scored for NextScale {
    fn logits(&self, hidden: Tensor<3>, _unit: &Unit) -> Tensor<3> {
        self.out.project(hidden)
    }
}
