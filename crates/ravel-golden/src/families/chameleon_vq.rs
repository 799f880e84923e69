//! Chameleon's image tokenizer: pictures to ids.

use ravel_families::chameleon_vq::{Config, build};
use ravel_families::read_config;
use ravel_nn::conv::Encoder;
use vq_image::{grid_from_sequence, sequence_from_grid};

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["image"]);
    let config: Config = read_config("chameleon_vq", &case.config()?)?;
    let reader = build(&config, case.weights("model.safetensors")?, &case.device())?;
    let image = case.real("image")?;
    if let Encoder::VqGan(encoder) = &reader.encoder {
        report.real("encoder_out", encoder.features(image.clone()))?;
    }
    let latents = reader.encoder.forward(image);
    let [_, _, height, width] = latents.dims();
    report.real("quant_conv_out", latents.clone())?;
    let ids = reader.quantizer.ids(sequence_from_grid(latents));
    let vectors = reader.quantizer.vectors(ids.clone());
    report.real("quantized", grid_from_sequence(vectors, height, width))?;
    report.ids("indices", ids.flatten::<1>(0, 1))
}
