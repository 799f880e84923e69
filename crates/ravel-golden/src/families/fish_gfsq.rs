//! Fish-Speech's grouped residual finite scalar quantizer with its change of frame rate.

use burn::tensor::{Int, Tensor};
use ravel_families::firefly::QuantizerConfig;
use ravel_families::read_config;

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["z", "free_indices"]);
    let config: QuantizerConfig = read_config("fish_gfsq", &case.config()?)?;
    let quantizer = config.build(case.weights("model.safetensors")?, &case.device())?;
    let features = case.real::<3>("z")?;
    let down = quantizer.downsampled(features.clone());
    report.real("downsampled", down.clone())?;
    let found = quantizer.quantize(down);
    report.real("residual_fsq_out", found.vectors.swap_dims(1, 2))?;
    report.ids("indices", found.ids.clone())?;
    // [group, row, quantizer, frame] there.
    let [batch, _, frames] = found.ids.dims();
    let by_group: Tensor<4, Int> = found
        .ids
        .clone()
        .reshape([batch, config.n_groups, config.n_codebooks, frames])
        .permute([1, 0, 2, 3]);
    report.ids("forward_codes", by_group)?;
    report.real("forward_z", quantizer.forward(features))?;
    report.real("decoded", quantizer.vectors(found.ids))?;
    let free = case.ids("free_indices")?;
    report.real("free_decoded", quantizer.vectors(free))
}
