//! T5's encoder.

use burn::tensor::{Int, Tensor};
use ravel_families::read_config;
use ravel_families::t5::{Config, NAME};

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the configuration or the weights do not become a model.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["ids", "attention_mask"]);
    let config: Config = read_config(NAME, &case.config()?)?;
    let encoder = config.load(case.weights("model.safetensors")?, &case.device())?;
    let ids: Tensor<2, Int> = case.ids("ids")?;
    let mask: Tensor<2, Int> = case.ids("attention_mask")?;
    let mut states = encoder.hidden_states(ids, Some(mask.equal_elem(0)));
    // The reference shows the last block's output after the final norm only.
    let last = states.pop().expect("the final norm's output");
    states.pop();
    for (at, state) in states.into_iter().enumerate() {
        report.real(&format!("hidden{at}"), state)?;
    }
    report.real(&format!("hidden{}", config.num_layers), last.clone())?;
    report.real("last_hidden_state", last)
}
