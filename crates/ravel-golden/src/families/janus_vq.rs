//! Janus' image tokenizer: pictures to ids, ids to pictures.

use burn::tensor::{Int, Tensor};
use ravel_families::janus_vq::{Config, build};
use ravel_families::read_config;
use vq_image::{grid_from_sequence, sequence_from_grid};

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["image", "free_indices"]);
    let config: Config = read_config("janus_vq", &case.config()?)?;
    let module = build(&config, case.weights("model.safetensors")?, &case.device())?;
    let latents = module.encoder.forward(case.real("image")?);
    let [_, _, height, width] = latents.dims();
    let ids = module.quantizer.ids(sequence_from_grid(latents));
    report.ids("indices", ids.clone().flatten::<1>(0, 1))?;
    let vectors = module.quantizer.vectors(ids.clone());
    report.real("quantized", grid_from_sequence(vectors, height, width))?;
    let side = config.num_patches;
    let decoded = |ids: Tensor<2, Int>| module.decode(ids, side, side);
    report.real("decoded", decoded(ids))?;
    report.real("free_decoded", decoded(case.ids("free_indices")?))
}
