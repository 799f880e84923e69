//! Infinity's image tokenizer: pictures to bits, bits to pictures.

use burn::tensor::{Int, Tensor};
use ravel_families::infinity_vae::{Config, build};
use ravel_families::read_config;
use ravel_nn::conv::ReadyDecoder;

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["image"]);
    let config: Config = read_config("infinity_vae", &case.config()?)?;
    let module = build(&config, case.weights("model.safetensors")?, &case.device())?;
    let latents = module.encoder.forward(case.real("image")?);
    report.real("latents", latents.clone())?;
    let [_, _, height, width] = latents.dims();
    let found = module.quantizer.quantize(latents.unsqueeze_dim(2));
    for (scale, bits) in found.bits.iter().enumerate() {
        report.ids(&format!("bits_scale{scale}"), bits.clone())?;
    }
    let given = (0..found.bits.len()).map(|scale| case.ids(&format!("bits_scale{scale}")));
    let given: Vec<Tensor<5, Int>> = given.collect::<Result<_, _>>()?;
    let canvases = module.quantizer.canvases(&given, [1, height, width]);
    if let Some(canvas) = canvases.last() {
        report.real("canvas", canvas.clone())?;
        let pixels = module.picture(canvas.clone()).clamp(-1.0, 1.0);
        report.real("decoded", pixels)?;
        // By the CPU's kernels, as the tokenizer decodes where a picture is large.
        let mut decoder = ReadyDecoder::default();
        decoder.decode_within(0);
        let latents = module.quantizer.latents(canvas.clone()).squeeze_dim(2);
        let pixels = decoder.forward(&module.decoder, latents).clamp(-1.0, 1.0);
        report.real_also("decoded", "in strips", pixels)?;
    }
    Ok(())
}
