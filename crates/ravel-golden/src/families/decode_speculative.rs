//! Speculative sampling: how many drafted ids are kept, what the next is drawn from, and what comes out. A case has no `config.json`.

use burn::tensor::{Int, Tensor, TensorData};
use ravel_decode::method::{draw, judge};
use ravel_decode::sampler::probabilities;

use crate::{Case, CaseReport, GoldenError};

/// What stands in the outputs behind the last id.
const FILLER: i64 = -1;

/// Runs a case.
///
/// # Errors
/// [`GoldenError::Input`] if the case lacks a tensor.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["draft_logits", "target_logits", "draft_tokens", "u", "v"]);
    let [rows, drafted, size] = *case.shape("draft_logits")? else {
        return Err(case.input("`draft_logits` has no three axes"));
    };
    let draft = distributions(case, "draft_logits", size)?;
    let target = distributions(case, "target_logits", size)?;
    let ids: Vec<u32> = case
        .numbers("draft_tokens")?
        .iter()
        .map(|&id| id as u32)
        .collect();
    let uniforms = case.numbers("u")?;
    let (mut kept, mut last, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..rows {
        let at = row * drafted..(row + 1) * drafted;
        let judged = &target[row * (drafted + 1)..][..drafted + 1];
        let verdict = judge(
            judged,
            &draft[at.clone()],
            &ids[at.clone()],
            &uniforms[at.clone()],
        );
        let chosen = draw(&verdict.distribution, case.numbers("v")?[row]);
        let ids = ids[at].iter().take(verdict.accepted).chain([&chosen]);
        let ids = ids.map(|&id| i64::from(id));
        out.extend(ids.chain(std::iter::repeat(FILLER)).take(drafted + 1));
        kept.push(verdict.accepted as i64);
        last.extend(verdict.distribution.into_iter().map(|p| p as f32));
    }
    let kept = TensorData::new::<i64, _>(kept, [rows]);
    report.ids(
        "n_accepted",
        Tensor::<1, Int>::from_data(kept, &case.device()),
    )?;
    report.numbers("final_distribution", &last)?;
    let out = TensorData::new::<i64, _>(out, [rows, drafted + 1]);
    report.ids(
        "output_tokens",
        Tensor::<2, Int>::from_data(out, &case.device()),
    )
}

/// Softmax of each row of scores.
fn distributions(case: &Case, name: &str, size: usize) -> Result<Vec<Vec<f64>>, GoldenError> {
    let scores: Vec<f32> = case
        .numbers(name)?
        .iter()
        .map(|&score| score as f32)
        .collect();
    Ok(scores.chunks_exact(size).map(probabilities).collect())
}
