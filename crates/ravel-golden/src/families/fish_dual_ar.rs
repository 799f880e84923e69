//! Fish-Speech's slow and fast transformers.

use burn::tensor::{Bool, FloatDType, Int, Tensor};
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{
    Attend, Backbone, Codes, Condition, Decoding, Generator, Layout, Sampler, Start, StepInput,
    Unit,
};
use ravel_decode::OneByOne;
use ravel_decode::sampler::{Filter, RecentPenalty, Temperature, TopPWithin, gumbel_choice};
use ravel_families::fish_dual_ar::{Config, DualAr};
use ravel_heads::CodeTables;

use super::words::number_after;
use crate::{Case, CaseReport, GoldenError};

/// Steps that the reference's repetition penalty looks back.
const WINDOW: usize = 16;
/// If training would skip every row, the reference keeps this many.
const KEPT_ROWS: usize = 8;

/// Runs a case.
///
/// # Errors
/// [`GoldenError::Input`] if the case lacks a file, a key or a tensor; what building the model reports.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["inp", "key_padding_mask", "prompt", "noise_uniforms"]);
    let config = Config::read(&case.config()?)?;
    let begin = config.semantic_begin_id;
    let begin = begin.ok_or_else(|| case.input("config.json has no `semantic_begin_id`"))?;
    let weights = case.weights("model.safetensors")?;
    let model = config.build(weights, begin, &case.device())?;
    table(report, case, "freqs_cis", &config.backbone())?;
    table(report, case, "fast_freqs_cis", &config.fast())?;
    teacher_forced(case, report, &model)?;
    generated(case, report, &model, "greedy_codes")?;
    generated(case, report, &model, "sampled_codes")?;
    first_step(case, report, &model)
}

/// Cosines and sines, as a head of ones and zeros is turned.
fn table(
    report: &mut CaseReport<'_>,
    case: &Case,
    name: &str,
    config: &TransformerConfig,
) -> Result<(), GoldenError> {
    let (rows, width) = (case.shape(name)?[0], config.head_width());
    let rotary = config.rotary.as_ref().expect("rotary positions");
    let coords = Tensor::arange(0..rows as i64, &case.device()).unsqueeze_dim(1);
    let turn = rotary.init(width).rotation(&coords, FloatDType::F32);
    let ones = Tensor::<4>::ones([1, rows, width / 2, 1], &case.device());
    let head = Tensor::cat(vec![ones.clone(), ones.zeros_like()], 3);
    let turned = turn.apply(head.reshape([1, rows, 1, width]));
    report.real(name, turned.reshape([rows, width / 2, 2]))
}

fn teacher_forced(
    case: &Case,
    report: &mut CaseReport<'_>,
    model: &DualAr,
) -> Result<(), GoldenError> {
    let inp = case.ids::<3>("inp")?;
    let padding = match case.has("key_padding_mask") {
        true => Some(case.ids::<2>("key_padding_mask")?.bool()),
        false => None,
    };
    // The reference's training pass reads the table in its parts whatever the configuration says.
    let frame = model.head.frame.clone().with_tables(CodeTables::Joined);
    let embedded = frame.embedded(inp.clone(), 0);
    report.real("embed", embedded.clone())?;
    for layer in 0..model.backbone.blocks.len() {
        let mut first = model.backbone.clone();
        first.blocks.truncate(layer + 1);
        let out = whole(&first, embedded.clone(), padding.clone());
        let name = format!("layer{layer}_out");
        if case.has(&name) {
            report.real(&name, out)?;
        }
    }
    let hidden = whole(&model.backbone, embedded, padding);
    let tokens = frame.logits(hidden.clone());
    report.real("token_logits", tokens.squeeze_dim::<3>(1))?;
    report.real("codebook_logits", codebook_logits(model, inp, hidden))
}

/// Hidden states of whole sequences of which some positions are padding.
fn whole(
    backbone: &Transformer,
    embedded: Tensor<3>,
    padding: Option<Tensor<2, Bool>>,
) -> Tensor<3> {
    let [batch, n, _] = embedded.dims();
    let mut state = backbone.start(batch, n);
    state.hidden = padding;
    let input = StepInput {
        coords: Tensor::arange(0..n as i64, &embedded.device()).unsqueeze_dim(1),
        embedded,
        attend: Attend::Causal,
    };
    backbone.step(input, &Condition::default(), &mut state)
}

/// `[batch, n, codebooks, ids]`: the codes are those of the next position, and rows whose codes are all zero score zero.
fn codebook_logits(model: &DualAr, inp: Tensor<3, Int>, hidden: Tensor<3>) -> Tensor<4> {
    let [batch, n, width] = hidden.dims();
    let depth = model.head.depth.config().depth;
    let device = hidden.device();
    let codes: Tensor<2, Int> = match depth {
        1 => Tensor::zeros([batch * n, 0], &device),
        _ => {
            let next = inp.slice([0..batch, 1..depth, 1..n]);
            let end = Tensor::zeros([batch, depth - 1, 1], &device);
            let next = Tensor::cat(vec![next, end], 2);
            next.swap_dims(1, 2).reshape([batch * n, depth - 1])
        }
    };
    let spoken = match depth {
        1 => Tensor::<2>::zeros([batch * n, 1], &device),
        _ => codes.clone().max_dim(1).greater_elem(0).float(),
    };
    let none = spoken.clone().sum().into_scalar::<f32>() == 0.0;
    let spoken = match none {
        true => {
            let first = KEPT_ROWS.min(batch * n);
            spoken.slice_fill([0..first, 0..1], 1.0)
        }
        false => spoken,
    };
    let rows = hidden.reshape([batch * n, width]);
    let over_depth = model.head.over_depth(rows, codes);
    let scores = model.head.scores(&over_depth, 0) * spoken.unsqueeze_dim(2);
    let ids = scores.dims()[2];
    scores.reshape([batch, n, depth, ids])
}

/// The whole loop, from the prompt on.
fn generated(
    case: &Case,
    report: &mut CaseReport<'_>,
    model: &DualAr,
    name: &str,
) -> Result<(), GoldenError> {
    let [rows, steps] = *case.shape(name)? else {
        return Err(case.input(format!("`{name}` is no table of codes")));
    };
    let words = case.meaning(name)?;
    let number = |word: &str, absent: f64| number_after(words, word).unwrap_or(absent);
    let filters: Vec<Box<dyn Filter>> = vec![
        Box::new(RecentPenalty {
            penalty: number("repetition_penalty", 1.0),
            window: WINDOW,
        }),
        Box::new(TopPWithin(number("top_p", 0.0))),
        Box::new(Temperature(number("temperature", 1.0).max(1e-5))),
    ];
    let mut sampler = Noise {
        filters,
        uniforms: case.numbers("noise_uniforms")?,
        shape: case.shape("noise_uniforms")?,
        history: vec![Vec::new(); rows],
        drawn: (0, 0),
    };
    let prompt = case.ids::<3>("prompt")?;
    let layout = Layout::Sequence { len: steps };
    let start = Start {
        condition: Condition {
            prefix: Some(model.head.frame.embedded(prompt, 0)),
            ..Condition::default()
        },
        prompt: Codes {
            ids: Tensor::zeros([1, rows, 0], &case.device()),
            layout: layout.clone(),
        },
    };
    let generator = Generator {
        backbone: &model.backbone,
        head: &model.head,
        pyramid: None,
    };
    let mut watch = |_: &Unit, _: &Codes| std::ops::ControlFlow::Continue(());
    let codes = OneByOne.decode(&generator, start, &layout, &mut sampler, &mut watch)?;
    report.ids(name, codes.ids.squeeze_dim::<2>(0))
}

/// The reference's draw, whose uniforms are given: the largest of probability over exponential noise.
struct Noise<'a> {
    filters: Vec<Box<dyn Filter>>,
    /// `[step, draw, id]`: draw 0 is the token, draw `j` the code of codebook `j`.
    uniforms: &'a [f64],
    shape: &'a [usize],
    history: Vec<Vec<u32>>,
    /// The unit and how many codebooks of it were chosen.
    drawn: (usize, usize),
}

impl Noise<'_> {
    fn row(&mut self, unit: &Unit) -> usize {
        let (index, drawn) = self.drawn;
        let row = if index == unit.index { drawn } else { 0 };
        self.drawn = (unit.index, row + 1);
        row
    }
}

impl Sampler for Noise<'_> {
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> ravel_core::Result<Tensor<2, Int>> {
        let row = self.row(unit);
        let device = logits.device();
        let mut scores: Vec<f32> = logits.into_data().iter::<f32>().collect();
        for filter in &self.filters {
            filter.apply(&mut scores, &self.history[row]);
        }
        // The first codebook's code is not drawn.
        let draw = row.saturating_sub(1);
        let start = (unit.index * self.shape[1] + draw) * self.shape[2];
        let id = gumbel_choice(&scores, &self.uniforms[start..start + scores.len()]);
        self.history[row].push(id);
        Ok(Tensor::from_data([[id as i64]], &device))
    }

    fn settled(&mut self, ids: &Tensor<2, Int>, unit: &Unit) {
        let row = self.row(unit);
        self.history[row].extend(ids.to_data().iter::<u32>());
    }
}

fn first_step(case: &Case, report: &mut CaseReport<'_>, model: &DualAr) -> Result<(), GoldenError> {
    let prompt = model.head.frame.embedded(case.ids("prompt")?, 0);
    let n = prompt.dims()[1];
    let hidden = whole(&model.backbone, prompt, None).narrow(1, n - 1, 1);
    let tokens = model.head.frame.logits(hidden.clone());
    report.real("prefill_last_logits", tokens.squeeze_dim::<3>(1))?;
    let projected = model.head.depth.hidden(hidden.clone());
    report.real("prefill_hidden_projected", projected)?;
    let hidden: Tensor<2> = hidden.squeeze_dim(1);
    let names: Vec<_> = case.names().into_iter().map(String::from).collect();
    for name in names {
        let Some(code) = name.strip_prefix("fast_step1_logits_after_code") else {
            continue;
        };
        let code: i64 = code.parse().map_err(|_| case.input(format!("`{name}`")))?;
        let code = Tensor::from_data([[code]], &case.device());
        let over_depth = model.head.over_depth(hidden.clone(), code);
        let scores = model.head.scores(&over_depth, 0);
        report.real("fast_step0_logits", scores.clone().narrow(1, 0, 1))?;
        report.real(&name, scores.narrow(1, 1, 1))?;
    }
    Ok(())
}
