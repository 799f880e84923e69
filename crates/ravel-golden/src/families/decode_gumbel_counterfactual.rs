//! Hindsight of Gumbel noise and counterfactual choices. A case has no `config.json`.

use burn::tensor::{Int, Tensor, TensorData};
use ravel_decode::sampler::{hindsight_noise, noisy_choice};

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError::Input`] if the case lacks a tensor.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["logits", "new_logits", "observed", "u"]);
    let [rows, size] = *case.shape("logits")? else {
        return Err(case.input("`logits` has no two axes"));
    };
    let each = |name| Ok::<_, GoldenError>(case.numbers(name)?.chunks_exact(size));
    let (logits, new, uniforms) = (each("logits")?, each("new_logits")?, each("u")?);
    let observed = case.numbers("observed")?;
    let (mut noise, mut perturbed, mut chosen) = (Vec::new(), Vec::new(), Vec::new());
    for (((logits, new), uniforms), &id) in logits.zip(new).zip(uniforms).zip(observed) {
        let found = hindsight_noise(logits, id as usize, uniforms);
        perturbed.extend(logits.iter().zip(&found).map(|(a, b)| (a + b) as f32));
        chosen.push(noisy_choice(new, &found) as i32);
        noise.extend(found.into_iter().map(|noise| noise as f32));
    }
    report.numbers("noise", &noise)?;
    report.numbers("perturbed", &perturbed)?;
    let chosen = TensorData::new::<i32, _>(chosen, [rows]);
    report.ids(
        "counterfactual",
        Tensor::<1, Int>::from_data(chosen, &case.device()),
    )
}
