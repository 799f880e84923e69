//! VAR's transformer, with the tokenizer whose codes it predicts.

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor};
use multiscale_image::{MultiscaleImage, MultiscaleImageTokenizer};
use ravel_core::{
    Attend, Backbone, Codes, Condition, Decoding, Generator, ImageTokenizer, Scored, Start,
    StepInput, Unit,
};
use ravel_decode::sampler::{Chain, Choice, Filter, Guided, TopK, TopP};
use ravel_decode::{Guidance, OneByOne};
use ravel_families::read_config;
use ravel_families::var::{Config, Parts, TRANSFORMER};
use ravel_nn::{Sight, activated};
use ravel_testkit::values;

use super::var_vqvae::{features_of, given_ids};
use crate::sampling::{Seen, lead_of_largest};
use crate::settings::Settings;
use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the configuration or the weights do not become a model.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["labels"]);
    let config: Config = read_config(TRANSFORMER, &case.config()?)?;
    let given = given_ids(case, config.patch_nums.len())?;
    let names: Vec<_> = (0..given.len())
        .map(|at| format!("idx_scale{at}"))
        .collect();
    report.inputs(names.iter().map(String::as_str));

    let files = case.files_with(&["safetensors", "pth", "pt"])?;
    let mut of_transformer = Vec::new();
    let mut vae = None;
    for file in files.into_iter().filter(|file| !file.starts_with("io.")) {
        match file.starts_with("vae") {
            true => vae = Some(config.vae.load(case.weights(&file)?, &case.device())?),
            false => of_transformer.push(file),
        }
    }
    let vae = vae.ok_or_else(|| case.input("there is no file of the tokenizer (vae…)"))?;
    if of_transformer.is_empty() {
        return Err(case.input("there is no file of the transformer (var….)"));
    }
    for (at, file) in of_transformer.iter().enumerate() {
        let parts = config.load(case.weights(file)?, &case.device())?;
        let model = Model::new(case, &config, parts, vae.clone());
        let features = features_of(model.pyramid(), &given);
        model.teacher(features, if at == 0 { "" } else { file }, report)?;
        if at == 0 {
            model.generations(report)?;
        }
    }
    Ok(())
}

struct Model<'a> {
    case: &'a Case,
    config: &'a Config,
    parts: Parts,
    tokenizer: MultiscaleImageTokenizer,
}

impl<'a> Model<'a> {
    fn new(case: &'a Case, config: &'a Config, parts: Parts, vae: MultiscaleImage) -> Self {
        let tokenizer = MultiscaleImageTokenizer::new(vae, &config.vae.tokenizer());
        Self {
            case,
            config,
            parts,
            tokenizer,
        }
    }

    fn pyramid(&self) -> &dyn ravel_core::Pyramid {
        let pyramid = self.tokenizer.pyramid();
        pyramid.expect("a tokenizer with a pyramid")
    }

    fn condition(&self, guided: bool) -> Result<Condition, GoldenError> {
        let labels: Tensor<1, Int> = self.case.ids("labels")?;
        let batch = labels.dims()[0];
        let given = self.parts.prefix.condition(labels.unsqueeze_dim(1));
        if !guided {
            return Ok(given);
        }
        let none = self.config.num_classes as i64;
        let none = Tensor::full([batch, 1], none, &self.case.device());
        Ok(given.stack(self.parts.prefix.condition(none)))
    }

    /// All scales at once; `note` says which file of weights, for all but the first.
    fn teacher(
        &self,
        features: Tensor<3>,
        note: &str,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let Parts { backbone, head, .. } = &self.parts;
        report.real_also("var_input", note, features.clone())?;
        let condition = self.condition(false)?;
        let input = head.inputs(features, &condition);
        self.first_attention(&input, &condition, note, report)?;
        let mut states = backbone.hidden_states(input.clone(), &condition);
        let last = states.pop().expect("the final norm's output");
        for (block, state) in states.into_iter().skip(1).enumerate() {
            report.real_also(&format!("teacher_block{block}_out"), note, state)?;
        }
        report.real_also("teacher_head_nm", note, last.clone())?;
        report.real_also("teacher_logits", note, head.logits_of(last))?;
        let stepped = self.stepped(&input, &condition);
        let note = format!("{note} scale by scale");
        report.real_also("teacher_logits", note.trim(), stepped)
    }

    fn first_attention(
        &self,
        input: &StepInput,
        condition: &Condition,
        note: &str,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let backbone = &self.parts.backbone;
        let block = &backbone.blocks[0];
        let steering = condition.modulation.clone().map(activated);
        let steering = steering.expect("a class within every norm");
        let shared = backbone.shared_modulation.as_ref();
        let shared = shared.map(|shared| shared.forward(steering.clone()));
        let modulation = block.modulation.as_ref().expect("a modulated block");
        let [branch, _] = modulation.forward(steering, shared.as_ref());
        let x = input.embedded.clone();
        let sight = Sight::new(
            &input.attend,
            x.dims()[1],
            0,
            None,
            None,
            x.dtype(),
            &x.device(),
        );
        let entered = branch.enter(&block.attention_norm, x);
        let (out, _) = block.attention.forward(entered, None, &sight, None);
        report.real_also("teacher_block0_attn", note, out)
    }

    fn stepped(&self, input: &StepInput, condition: &Condition) -> Tensor<3> {
        let Parts { backbone, head, .. } = &self.parts;
        let layout = self.config.layout();
        let mut state = backbone.start(input.embedded.dims()[0], layout.len());
        let logits = layout.blocks().into_iter().map(|unit| {
            let embedded = input.embedded.clone();
            let step = StepInput {
                embedded: embedded.narrow(1, unit.span.start, unit.len()),
                coords: input.coords.clone().narrow(0, unit.span.start, unit.len()),
                attend: Attend::Unit,
            };
            head.logits(backbone.step(step, condition, &mut state), &unit)
        });
        Tensor::cat(logits.collect(), 1)
    }

    fn generations(&self, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
        let names = self.case.names().into_iter();
        let runs: Vec<String> = names
            .filter_map(|name| name.strip_suffix("_tokens").map(String::from))
            .collect();
        for run in runs {
            self.generation(&run, report)?;
        }
        Ok(())
    }

    fn generation(&self, run: &str, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
        let settings = Settings::of(self.case, &format!("{run}_image"))?;
        let units = self.config.patch_nums.len();
        let mut sampler = Guided {
            guidance: Guidance::Ramp {
                from: 0.0,
                to: settings.number("cfg").unwrap_or(1.5),
            },
            units,
            top_k: None,
            inner: Seen::new(Chain::new(filters(&settings), Choice::Greedy)),
        };
        let codes = self.decoded(&mut sampler)?;
        report.ids(&format!("{run}_tokens"), codes.at_depth(0))?;

        let scores = sampler.inner.scores;
        let size = self.config.vae.vocab_size;
        let margins = scores.iter().map(|scores| {
            let leads = lead_of_largest(&values(scores), size);
            leads.into_iter().fold(f32::MAX, f32::min)
        });
        let name = format!("{run}_margin_per_scale");
        report.numbers(&name, &margins.collect::<Vec<_>>())?;
        for (scale, scores) in scores.into_iter().enumerate() {
            let name = format!("{run}_logits_scale{scale}");
            if self.case.has(&name) {
                report.real(&name, scores)?;
            }
        }
        let mut canvas = None;
        for unit in codes.layout.blocks() {
            let ids = codes.of_unit(&unit);
            canvas = Some(self.pyramid().add_scale(canvas, unit.index, ids));
        }
        let canvas = canvas.expect("there is a scale");
        report.real(&format!("{run}_fhat"), canvas.clone())?;
        let pixels = self.tokenizer.decode_canvas(canvas).pixels;
        report.real(&format!("{run}_image"), (pixels + 1.0) * 0.5)
    }

    fn decoded(&self, sampler: &mut dyn ravel_core::Sampler) -> Result<Codes, GoldenError> {
        let condition = self.condition(true)?;
        let rows = condition
            .prefix
            .as_ref()
            .map_or(0, |prefix| prefix.dims()[0]);
        let layout = self.config.layout();
        let generator = Generator {
            backbone: &self.parts.backbone,
            head: &self.parts.head,
            pyramid: Some(self.pyramid()),
        };
        let prompt = Codes {
            ids: Tensor::zeros([rows, 1, 0], &self.case.device()),
            layout: layout.clone(),
        };
        let start = Start { condition, prompt };
        let watch = &mut |_: &Unit, _: &Codes| ControlFlow::Continue(());
        let codes = OneByOne.decode(&generator, start, &layout, sampler, watch)?;
        Ok(codes.rows(0, rows / 2))
    }
}

/// Filters that keep the largest score keep the choice.
fn filters(settings: &Settings) -> Vec<Box<dyn Filter>> {
    let mut filters: Vec<Box<dyn Filter>> = Vec::new();
    if let Some(k) = settings.number("top_k").filter(|k| *k > 0.0) {
        filters.push(Box::new(TopK { k: k as usize }));
    }
    if let Some(p) = settings.number("top_p").filter(|p| *p > 0.0) {
        filters.push(Box::new(TopP { p, keep: 1 }));
    }
    filters
}
