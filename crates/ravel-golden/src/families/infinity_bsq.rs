//! Infinity's multi-scale quantizer: features to bits of every scale and back.

use burn::tensor::{Int, Tensor};
use ravel_families::infinity_bsq::{Config, build};
use ravel_families::read_config;
use ravel_testkit::values;

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["x"]);
    let config: Config = read_config("infinity_bsq", &case.config()?)?;
    const WEIGHTS: &str = "model.safetensors";
    let weights = match case.has_file(WEIGHTS) {
        true => Some(case.weights(WEIGHTS)?),
        false => None,
    };
    let quantizer = build(&config, weights, &case.device())?;
    let picture = case.shape("x")?.len() == 4;
    let x: Tensor<5> = match picture {
        true => case.real::<4>("x")?.unsqueeze_dim(2),
        false => case.real("x")?,
    };
    let [_, _, time, height, width] = x.dims();
    let found = quantizer.quantize(x);
    let scales = found.bits.len();
    for (scale, bits) in found.bits.iter().enumerate() {
        report.ids(&format!("bits_scale{scale}"), bits.clone())?;
    }
    for scale in 1..scales {
        let shown = quantizer.features_for(found.canvases[scale - 1].clone(), scale);
        report.real(&format!("var_input_scale{scale}"), shown)?;
    }
    let canvas = found.canvases[scales - 1].clone();
    let latents = quantizer.latents(canvas);
    match case.shape("quantized")?.len() {
        4 => report.real("quantized", latents.squeeze_dim::<4>(2))?,
        _ => report.real("quantized", latents)?,
    }
    let bits = (0..scales).map(|scale| case.ids(&format!("bits_scale{scale}")));
    let bits: Vec<Tensor<5, Int>> = bits.collect::<Result<_, _>>()?;
    report.real("codes_scale0", quantizer.codes(bits[0].clone()))?;
    let summed = quantizer.canvases(&bits, [time, height, width]);
    report.real("summed_codes", summed[scales - 1].clone())?;
    let margins: Vec<f32> = found.asked.iter().map(least).collect();
    report.numbers("bit_margin_per_scale", &margins)
}

/// How near the nearest number is to where its bit would change.
fn least(asked: &Tensor<5>) -> f32 {
    values(&asked.clone().abs())
        .into_iter()
        .fold(f32::MAX, f32::min)
}
