//! Cosmos' discrete video tokenizer: clips to ids, ids to clips.

use burn::tensor::{Int, Tensor};
use ravel_families::cosmos_dv::{Config, build};
use ravel_families::read_config;

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["video"]);
    let config: Config = read_config("cosmos_dv", &case.config()?)?;
    let module = build(&config, case.weights("model.safetensors")?, &case.device())?;
    let video: Tensor<5> = case.real("video")?;
    report.real("encoder_out", module.encoder.forward(video.clone()))?;
    let latents = module.latents(video);
    report.real("quant_conv_out", latents.clone())?;
    let found = module.quantize(latents);
    for name in ["encode_out0", "indices"] {
        compare_ids(case, report, name, found.ids.clone(), &config)?;
    }
    report.real("encode_out1", found.vectors.clone())?;
    // The reference's third output stands where other quantizers have a loss; it is zero.
    let [batch, _, _, _, columns] = found.vectors.dims();
    let nothing = Tensor::<5>::zeros([batch, 1, 1, 1, columns], &case.device());
    report.real("encode_out2", nothing)?;
    report.real("decoded", module.decode(module.vectors(found.ids)))
}

/// One id at each position has no axis of its own; side by side they are the last axis, one after another the second.
fn compare_ids(
    case: &Case,
    report: &mut CaseReport<'_>,
    name: &str,
    ids: Tensor<5, Int>,
    config: &Config,
) -> Result<(), GoldenError> {
    match (case.shape(name)?.len(), config.quantizer.as_str()) {
        (4, _) => report.ids(name, ids.squeeze_dim::<4>(1)),
        (_, "FSQ") => report.ids(name, ids.permute([0, 2, 3, 4, 1])),
        _ => report.ids(name, ids),
    }
}
