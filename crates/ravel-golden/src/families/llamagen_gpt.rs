//! LlamaGen's transformer, from classes (`c2i`) and from captions (`t2i`).

use std::ops::ControlFlow;

use burn::tensor::{Bool, FloatDType, Int, Tensor};
use ravel_core::{
    Attend, Backbone, Codes, Condition, Decoding, Generator, Head, Layout, Sampler, Scored, Start,
    StepInput, Unit,
};
use ravel_decode::sampler::{Chain, Choice, Filter, Guided, Temperature, TopK, TopP};
use ravel_decode::{Guidance, OneByOne};
use ravel_families::llamagen_gpt::{Config, NAME, Parts, Prefix};
use ravel_families::read_config;

use crate::sampling::{GivenDraws, Seen};
use crate::settings::Settings;
use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the configuration or the weights do not become a model.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    let inputs = ["tokens", "cond", "uniforms", "emb_masks"];
    report.inputs(inputs.into_iter().filter(|name| case.has(name)));
    let config: Config = read_config(NAME, &case.config()?)?;
    let weights = case.weights("model.safetensors")?;
    let model = Model::new(case, &config, config.load(weights, &case.device())?)?;
    model.table(report)?;
    model.whole(report)?;
    model.stepped(report)?;
    model.greedy(report)?;
    model.drawn(report)?;
    for file in case.files_with(&["pt", "pth", "bin"])? {
        let parts = config.load(case.weights(&file)?, &case.device())?;
        let model = Model::new(case, &config, parts)?;
        let (_, logits) = model.whole_states()?;
        report.real_also("full_logits", &format!("from {file}"), logits)?;
    }
    Ok(())
}

struct Model<'a> {
    case: &'a Case,
    config: &'a Config,
    parts: Parts,
    layout: Layout,
    hidden: Option<Tensor<2, Bool>>,
}

impl<'a> Model<'a> {
    fn new(case: &'a Case, config: &'a Config, parts: Parts) -> Result<Self, GoldenError> {
        let hidden = match case.has("emb_masks") {
            true => Some(case.ids::<2>("emb_masks")?.equal_elem(0)),
            false => None,
        };
        let layout = config.layout()?;
        Ok(Self {
            case,
            config,
            parts,
            layout,
            hidden,
        })
    }

    /// The condition as the reference's prefix; with guidance, that of no class or caption below it.
    fn condition(&self, padded: bool, guided: bool) -> Result<Condition, GoldenError> {
        let hidden = self.hidden.clone().filter(|_| padded);
        let given = match &self.parts.prefix {
            Prefix::Class(prefix) => {
                let classes: Tensor<1, Int> = self.case.ids("cond")?;
                prefix.condition(classes.unsqueeze_dim(1))
            }
            Prefix::Caption(prefix) => prefix.condition(self.case.real("cond")?, hidden.clone()),
        };
        if !guided {
            return Ok(given);
        }
        let batch = given.prefix.as_ref().map_or(1, |prefix| prefix.dims()[0]);
        let none = match &self.parts.prefix {
            Prefix::Class(prefix) => {
                let none = self.config.num_classes as i64;
                prefix.condition(Tensor::full([batch, 1], none, &self.case.device()))
            }
            Prefix::Caption(prefix) => prefix.without(batch, hidden),
        };
        Ok(given.stack(none))
    }

    fn codes(&self) -> Result<Codes, GoldenError> {
        Ok(Codes::flat(self.case.ids("tokens")?, self.layout.clone()))
    }

    /// The condition's positions but the last, then the last and all codes.
    fn whole_input(&self, condition: &Condition) -> Result<StepInput, GoldenError> {
        let unit = Unit {
            index: 0,
            span: 0..self.layout.len() + 1,
        };
        let codes = self
            .parts
            .head
            .embed(&self.codes()?, &unit, condition, None);
        Ok(match self.parts.head.prefill(condition) {
            None => codes,
            Some(before) => StepInput {
                embedded: Tensor::cat(vec![before.embedded, codes.embedded], 1),
                coords: Tensor::cat(vec![before.coords, codes.coords], 0),
                attend: Attend::Causal,
            },
        })
    }

    fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let unit = self.layout.tokens().remove(0);
        self.parts.head.logits(hidden, &unit)
    }

    fn whole_states(&self) -> Result<(Vec<Tensor<3>>, Tensor<3>), GoldenError> {
        let condition = self.condition(false, false)?;
        let input = self.whole_input(&condition)?;
        let states = self.parts.backbone.hidden_states(input, &condition);
        let last = states.last().expect("the final norm's output").clone();
        Ok((states, self.logits(last)))
    }

    /// The rotation seen through heads of pairs (1, 0): cosines and sines.
    fn table(&self, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
        let backbone = self.config.backbone();
        let (width, rotary) = (backbone.head_width(), backbone.rotary.expect("a rotation"));
        let input = self.whole_input(&self.condition(false, false)?)?;
        let rotation = rotary.init(width).rotation(&input.coords, FloatDType::F32);
        let n = input.coords.dims()[0];
        let pair = Tensor::<1>::from_floats([1.0, 0.0], &self.case.device());
        let heads = pair.repeat(&[width / 2]).reshape([1, 1, 1, width]);
        let turned = rotation.apply(heads.expand([1, n, 1, width]));
        report.real("freqs_cis_2d", turned.reshape([n, width / 2, 2]))
    }

    fn whole(&self, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
        let condition = self.condition(false, false)?;
        let prefix = condition.prefix.expect("a condition before the codes");
        report.real("cls_embedding_out", prefix)?;
        let (mut states, logits) = self.whole_states()?;
        report.real(
            "full_norm_out",
            states.pop().expect("the final norm's output"),
        )?;
        for (layer, state) in states.into_iter().skip(1).enumerate() {
            report.real(&format!("full_layer{layer}_out"), state)?;
        }
        report.real("full_logits", logits)
    }

    /// The prefix at once, then the codes one by one.
    fn stepped(&self, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
        let Parts { backbone, head, .. } = &self.parts;
        let condition = self.condition(true, false)?;
        let codes = self.codes()?;
        let n = self.layout.len();
        let lead = condition.prefix_len();
        let mut state = backbone.start(codes.batch(), lead + n);
        let mut hidden = Vec::new();
        if let Some(before) = head.prefill(&condition) {
            hidden.push(backbone.step(before, &condition, &mut state));
        }
        let mut steps = Vec::new();
        for unit in head.units(&self.layout) {
            let input = head.embed(&codes, &unit, &condition, None);
            steps.push(backbone.step(input, &condition, &mut state));
        }
        hidden.push(steps.remove(0));
        report.real("prefill_logits", self.logits(Tensor::cat(hidden, 1)))?;
        report.real("cached_logits", self.logits(Tensor::cat(steps, 1)))
    }

    /// Generates with a sampler that takes twice the rows where it is guided.
    fn generated(
        &self,
        guided: bool,
        sampler: &mut dyn Sampler,
    ) -> Result<Tensor<2, Int>, GoldenError> {
        let batch = self.codes()?.batch();
        let rows = batch * if guided { 2 } else { 1 };
        let prompt = Codes {
            ids: Tensor::zeros([rows, 1, 0], &self.case.device()),
            layout: self.layout.clone(),
        };
        let generator = Generator {
            backbone: &self.parts.backbone,
            head: &self.parts.head,
            pyramid: None,
        };
        let start = Start {
            condition: self.condition(true, guided)?,
            prompt,
        };
        let watch = &mut |_: &Unit, _: &Codes| ControlFlow::Continue(());
        let codes = OneByOne.decode(&generator, start, &self.layout, sampler, watch)?;
        Ok(codes.rows(0, batch).at_depth(0))
    }

    fn greedy(&self, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
        let chain = || Chain::new(Vec::new(), Choice::Greedy);
        let ids = self.generated(false, &mut chain())?;
        report.ids("greedy_nocfg_tokens", ids)?;

        let settings = Settings::of(self.case, "greedy_cfg_tokens")?;
        let mut sampler = Seen::new(Intervalled::new(&settings, Seen::new(chain())));
        let ids = self.generated(true, &mut sampler)?;
        report.ids("greedy_cfg_tokens", ids)?;

        let both = sampler.scores[0].clone().squeeze_dim::<2>(1);
        let batch = both.dims()[0] / 2;
        report.real("cfg_first_cond_logits", both.clone().narrow(0, 0, batch))?;
        report.real("cfg_first_uncond_logits", both.narrow(0, batch, batch))?;
        let combined = sampler.inner.guided.inner.scores[0].clone();
        report.real("cfg_first_logits", combined.squeeze_dim::<2>(1))
    }

    fn drawn(&self, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
        let settings = Settings::of(self.case, "sampled_tokens")?;
        let draws = GivenDraws::new(filters(&settings), self.case.numbers("uniforms")?);
        let guided = settings.number("cfg_scale").unwrap_or(1.0) > 1.0;
        let mut sampler = Intervalled::new(&settings, draws);
        let ids = match guided {
            true => self.generated(true, &mut sampler)?,
            false => self.generated(false, &mut sampler.guided.inner)?,
        };
        report.ids("sampled_tokens", ids)?;
        let draws = sampler.guided.inner;
        report.numbers("sample_margin", &draws.margins)?;
        report.numbers("sampled_first_probs", &draws.shares[0])
    }
}

/// Temperature, then the largest, then the most probable, as the reference has them.
fn filters(settings: &Settings) -> Vec<Box<dyn Filter>> {
    let mut filters: Vec<Box<dyn Filter>> = Vec::new();
    let temperature = settings.number("temperature").unwrap_or(1.0);
    filters.push(Box::new(Temperature(temperature.max(1e-5))));
    if let Some(k) = settings.number("top_k").filter(|k| *k > 0.0) {
        filters.push(Box::new(TopK { k: k as usize }));
    }
    if let Some(p) = settings.number("top_p").filter(|p| *p < 1.0) {
        filters.push(Box::new(TopP { p, keep: 1 }));
    }
    filters
}

/// Guidance up to a unit, the plain conditioned scores from there on.
struct Intervalled<S> {
    /// The last guided unit.
    last: Option<usize>,
    guided: Guided<S>,
}

impl<S> Intervalled<S> {
    /// The reference counts steps after the prefill from zero, and `-1` stands for all.
    fn new(settings: &Settings, inner: S) -> Self {
        let interval = settings.number("cfg_interval").filter(|last| *last > -1.0);
        let scale = settings.number("cfg_scale").unwrap_or(1.0);
        Self {
            last: interval.map(|last| last as usize + 1),
            guided: Guided {
                guidance: Guidance::Constant(scale - 1.0),
                units: 1,
                top_k: None,
                inner,
            },
        }
    }
}

impl<S: Sampler> Sampler for Intervalled<S> {
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> ravel_core::Result<Tensor<2, Int>> {
        if self.last.is_none_or(|last| unit.index <= last) {
            return self.guided.pick(logits, unit);
        }
        let rows = logits.dims()[0] / 2;
        let ids = self.guided.inner.pick(logits.narrow(0, 0, rows), unit)?;
        Ok(Tensor::cat(vec![ids.clone(), ids], 0))
    }
}
