//! Contrastive search: its choice on given tensors, and inside the loop on a small language model. What each was made with stands in
//! the README's words: `alphas for selected_alpha0..: [0.0, 0.3]`, `generated0: alpha 0.6, k 4`.

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor, TensorData};
use ravel_core::{Generator, Layout};
use ravel_decode::ContrastiveSearch;
use ravel_decode::method::{contrastive_choice, likeness};
use ravel_decode::sampler::{Chain, Choice};
use ravel_families::language::{self, LanguageModel};

use super::words::{number_after, prompted};
use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// What the reader of the configuration or the weights reports; [`GoldenError::Input`] if a setting or a tensor is absent.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["context_hidden", "next_hidden", "next_top_k_probs", "ids"]);
    let readme = case.text("README.md")?;
    choices(case, report, &readme)?;
    let config = language::read(&case.config()?)?;
    let model = config.build(case.weights("model.safetensors")?, &case.device())?;
    for at in 0.. {
        let name = format!("generated{at}");
        if !case.has(&name) {
            break;
        }
        generated(case, report, &model, &readme, &name)?;
    }
    Ok(())
}

/// What is chosen among given candidates.
fn choices(case: &Case, report: &mut CaseReport<'_>, readme: &str) -> Result<(), GoldenError> {
    let alphas = alphas(readme).ok_or_else(|| case.input("the README names no alphas"))?;
    let near = likeness(case.real("context_hidden")?, case.real("next_hidden")?);
    let near: Vec<f32> = near.into_data().iter::<f32>().collect();
    let [rows, k] = *case.shape("next_top_k_probs")? else {
        return Err(case.input("`next_top_k_probs` has no two axes"));
    };
    let probabilities = case.numbers("next_top_k_probs")?;
    let probabilities: Vec<f32> = probabilities.iter().map(|&p| p as f32).collect();
    for (at, alpha) in alphas.into_iter().enumerate() {
        let pairs = probabilities.chunks_exact(k).zip(near.chunks_exact(k));
        let chosen = pairs.map(|(p, near)| contrastive_choice(p, near, alpha) as i64);
        let chosen = TensorData::new::<i64, _>(chosen.collect(), [rows]);
        let chosen = Tensor::<1, Int>::from_data(chosen, &case.device());
        report.ids(&format!("selected_alpha{at}"), chosen)?;
    }
    Ok(())
}

fn alphas(readme: &str) -> Option<Vec<f64>> {
    let (_, after) = readme.split_once("alphas for")?;
    let (_, after) = after.split_once('[')?;
    let (inside, _) = after.split_once(']')?;
    inside
        .split(',')
        .map(|alpha| alpha.trim().parse().ok())
        .collect()
}

/// A continuation, and how far the chosen candidate was ahead at each step.
fn generated(
    case: &Case,
    report: &mut CaseReport<'_>,
    model: &LanguageModel,
    readme: &str,
    name: &str,
) -> Result<(), GoldenError> {
    let said = readme.split_once(&format!("{name}:"));
    let words = said.map_or("", |(_, after)| {
        after.split([';', '\n']).next().unwrap_or(after)
    });
    let settings = number_after(words, "alpha").zip(number_after(words, " k"));
    let (alpha, k) = settings
        .ok_or_else(|| case.input(format!("the README does not say how `{name}` was made")))?;
    let search = ContrastiveSearch {
        candidates: k as usize,
        alpha,
    };
    let ids: Tensor<2, Int> = case.ids("ids")?;
    let given = ids.dims()[1];
    let made = case.shape(name)?[1] - given;
    let layout = Layout::Sequence { len: made };
    let (start, _) = prompted(model, ids.clone(), &layout);
    let generator = Generator {
        backbone: &model.backbone,
        head: &model.head,
        pyramid: None,
    };
    let mut sampler = Chain::new(Vec::new(), Choice::Greedy);
    let mut margins = Vec::new();
    let codes = search.decode_watched(
        &generator,
        start,
        &layout,
        &mut sampler,
        &mut |_, _| ControlFlow::Continue(()),
        &mut |margin| margins.push(margin as f32),
    )?;
    let all = Tensor::cat(vec![ids, codes.at_depth(0)], 1);
    let margin_name = format!("{name}_margin");
    let bound = report.bound(&margin_name)?;
    let reference = case.numbers(&margin_name)?;
    // Once two candidates were nearly equal, all that follows may differ.
    let tied = |at: usize| {
        let chosen = (at % (given + made)).checked_sub(given);
        chosen.is_some_and(|chosen| {
            reference
                .iter()
                .take(chosen + 1)
                .any(|margin| *margin <= bound)
        })
    };
    report.ids_unless(name, "", all, tied)?;
    report.numbers(&margin_name, &margins)
}
