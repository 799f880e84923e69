//! Language models of the `transformers` library: GPT-2, LLaMA, Mistral, Qwen 2 and Qwen 3. The configuration says which.
//!
//! A case has the scores of a whole pass, what leaves each block, a row behind padding, and a greedy continuation.

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor};
use ravel_core::{Attend, Backbone, Condition, Decoding, Generator, Layout, Seed};
use ravel_core::{Sampler, StepInput};
use ravel_decode::sampler::Recorded;
use ravel_decode::{OneByOne, SamplerConfig};
use ravel_families::language::{self, LanguageConfig, LanguageModel};
use ravel_nn::Scaling;

use super::words::prompted;
use crate::{Case, CaseReport, GoldenError};

/// The same weights as PyTorch writes them, which some cases also have.
const PICKLED: &str = "pytorch_model.bin";

/// Runs a case.
///
/// # Errors
/// What the reader of the configuration or the weights reports; [`GoldenError::Input`] if a tensor is absent.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["ids", "attention_mask"]);
    let config = language::read(&case.config()?)?;
    let model = config.build(case.weights("model.safetensors")?, &case.device())?;
    whole(case, report, &model)?;
    stepped(case, report, &config, &model)?;
    padded(case, report, &config, &model)?;
    greedy(case, report, &model)?;
    if case.has_file(PICKLED) {
        let model = config.build(case.weights(PICKLED)?, &case.device())?;
        let scores = model.head.scores(forward(&model, case.ids("ids")?));
        report.real_also("logits", PICKLED, scores)?;
    }
    Ok(())
}

fn input(model: &LanguageModel, ids: Tensor<2, Int>, start: usize, attend: Attend) -> StepInput {
    let [_, n] = ids.dims();
    let (start, end) = (start as i64, (start + n) as i64);
    StepInput {
        coords: Tensor::arange(start..end, &ids.device()).unsqueeze_dim(1),
        embedded: model.head.embedded(ids),
        attend,
    }
}

fn forward(model: &LanguageModel, ids: Tensor<2, Int>) -> Tensor<3> {
    let input = input(model, ids, 0, Attend::Causal);
    model.backbone.forward(input, &Condition::default())
}

/// One pass over everything.
fn whole(
    case: &Case,
    report: &mut CaseReport<'_>,
    model: &LanguageModel,
) -> Result<(), GoldenError> {
    let input = input(model, case.ids("ids")?, 0, Attend::Causal);
    let states = model.backbone.hidden_states(input, &Condition::default());
    // The reference has the last block's output only after the final norm.
    let (unnormed, last) = (states.len() - 2, states.len() - 1);
    report.real("logits", model.head.scores(states[last].clone()))?;
    let kept = states.into_iter().enumerate();
    let kept = kept.filter(|(at, _)| *at != unnormed);
    for (at, (_, state)) in kept.enumerate() {
        report.real(&format!("hidden{at}"), state)?;
    }
    Ok(())
}

/// Position by position with memory: the same scores, but for rotations that grow with the text, whose reference stepped too.
fn stepped(
    case: &Case,
    report: &mut CaseReport<'_>,
    config: &LanguageConfig,
    model: &LanguageModel,
) -> Result<(), GoldenError> {
    const OWN: &str = "logits_stepped";
    let ids: Tensor<2, Int> = case.ids("ids")?;
    let [batch, n] = ids.dims();
    let rotary = config.backbone.rotary.as_ref();
    let grows = match rotary.and_then(|rotary| rotary.scaling) {
        Some(Scaling::Dynamic(by)) => n as f64 > by.original_positions,
        _ => false,
    };
    if grows && !case.has(OWN) {
        return Ok(());
    }
    let mut state = model.backbone.start(batch, n);
    let scores = (0..n).map(|at| {
        let input = input(model, ids.clone().narrow(1, at, 1), at, Attend::Causal);
        let hidden = model
            .backbone
            .step(input, &Condition::default(), &mut state);
        model.head.scores(hidden)
    });
    let scores = Tensor::cat(scores.collect(), 1);
    match grows {
        true => report.real(OWN, scores),
        false => report.real_also("logits", "step by step", scores),
    }
}

/// Row 1 behind positions that nobody sees. Learned positions count with the memory, so there the row stands alone.
fn padded(
    case: &Case,
    report: &mut CaseReport<'_>,
    config: &LanguageConfig,
    model: &LanguageModel,
) -> Result<(), GoldenError> {
    const NAME: &str = "logits_left_padded_row1";
    let row = case.ids::<2>("ids")?.narrow(0, 1, 1);
    let [_, n] = row.dims();
    let real = case.shape(NAME)?[0];
    let before = n - real;
    let alone = forward(model, row.clone().narrow(1, before, real));
    let scores = model.head.scores(alone).squeeze_dim::<2>(0);
    report.real_also(NAME, "alone", scores)?;
    if config.backbone.learned_positions.is_some() {
        return Ok(());
    }
    let mask: Tensor<2, Int> = case.ids::<2>("attention_mask")?.narrow(0, 1, 1);
    let mut state = model.backbone.start(1, n);
    state.hidden = Some(mask.equal_elem(0));
    let coords = (0..n as i32).map(|at| (at - before as i32).max(0));
    let coords: Vec<i32> = coords.collect();
    let input = StepInput {
        coords: Tensor::<1, Int>::from_data(&coords[..], &case.device()).unsqueeze_dim(1),
        embedded: model.head.embedded(row),
        attend: Attend::Causal,
    };
    let hidden = model
        .backbone
        .step(input, &Condition::default(), &mut state);
    let scores = model.head.scores(hidden.narrow(1, before, real));
    report.real_also(NAME, "padded", scores.squeeze_dim::<2>(0))
}

/// The most likely ids, with the prompt read at once and the rest one by one.
fn greedy(
    case: &Case,
    report: &mut CaseReport<'_>,
    model: &LanguageModel,
) -> Result<(), GoldenError> {
    let ids: Tensor<2, Int> = case.ids("ids")?;
    let [batch, made] = [0, 1].map(|axis| case.shape("greedy_margin").map(|shape| shape[axis]));
    let (batch, made) = (batch?, made?);
    let given = case.shape("greedy")?[1] - made;
    let prompt = ids.narrow(1, 0, given);
    let layout = Layout::Sequence { len: made };
    let greedy = SamplerConfig {
        temperature: 0.0,
        ..SamplerConfig::default()
    };
    let rows: Vec<u64> = (0..batch as u64).collect();
    let mut sampler = Recorded {
        inner: greedy.build(Seed::new(1), &rows, made),
        top: Some(2),
        picks: Vec::new(),
    };
    let (start, _) = prompted(model, prompt.clone(), &layout);
    let generator = Generator {
        backbone: &model.backbone,
        head: &model.head,
        pyramid: None,
    };
    let sampler_seen: &mut dyn Sampler = &mut sampler;
    let codes = OneByOne.decode(&generator, start, &layout, sampler_seen, &mut |_, _| {
        ControlFlow::Continue(())
    })?;
    let mut margins = vec![0.0; batch * made];
    for pick in &sampler.picks {
        margins[pick.row * made + pick.position] = pick.top[0].1 - pick.top[1].1;
    }
    report.numbers("greedy_margin", &margins)?;
    let bound = report.bound("greedy_margin")?;
    // Once two ids were nearly equal, all that follows may differ.
    let reference = case.numbers("greedy_margin")?;
    let tied = |at: usize| {
        let (row, column) = (at / (given + made), at % (given + made));
        let chosen = column.saturating_sub(given);
        column >= given
            && reference[row * made..][..=chosen]
                .iter()
                .any(|margin| *margin <= bound)
    };
    let all = Tensor::cat(vec![prompt, codes.at_depth(0)], 1);
    report.ids_unless("greedy", "", all, tied)
}
