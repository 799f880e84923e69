//! LlamaGen's image tokenizer.

use burn::tensor::{Int, Tensor};
use ravel_families::llamagen_vq::{Config, NAME};
use ravel_families::read_config;
use ravel_nn::conv::{Encoder, ReadyDecoder};
use vq_image::{grid_from_sequence, sequence_from_grid};

use crate::sampling::lead_of_nearest;
use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the configuration or the weights do not become a model.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["image", "free_indices"]);
    let config: Config = read_config(NAME, &case.config()?)?;
    let module = config.load(case.weights("model.safetensors")?, &case.device())?;
    let image: Tensor<4> = case.real("image")?;
    if let Encoder::VqGan(encoder) = &module.encoder {
        report.real("encoder_out", encoder.features(image.clone()))?;
    }
    let latents = module.encoder.forward(image.clone());
    let [batch, _, height, width] = latents.dims();
    report.real("quant_conv_out", latents.clone())?;

    let sequence = sequence_from_grid(latents);
    let found = module.quantizer.quantize(sequence.clone());
    report.real("quant", grid_from_sequence(found.vectors, height, width))?;
    let flat = sequence.flatten::<2>(0, 1);
    let compared = match config.codebook_l2_norm {
        true => ravel_nn::unit_length(flat, 1e-12),
        false => flat,
    };
    let margins = lead_of_nearest(&compared, &module.quantizer.rows());
    report.numbers("nearest_margin", &margins)?;
    let (given, bound) = (
        case.numbers("nearest_margin")?,
        report.bound("nearest_margin")?,
    );
    let ids = found.ids.flatten::<1>(0, 1);
    report.ids_unless("indices", "", ids, |at| given[at] < bound)?;

    let chosen: Tensor<1, Int> = case.ids("indices")?;
    let pixels = module.decode(chosen.reshape([batch as i32, -1]), height, width);
    report.real("decoded_from_codes", pixels)?;
    report.real("forward_dec", module.forward(image, true).pixels)?;

    let free: Tensor<2, Int> = case.ids("free_indices")?;
    let vectors = module.quantizer.vectors(free.clone());
    let &[_, _, height, width] = case.shape("free_quant")? else {
        return Err(case.input("`free_quant` is no grid"));
    };
    let grid = grid_from_sequence(vectors, height, width);
    report.real("free_quant", grid.clone())?;
    // By the CPU's kernels, as the tokenizer decodes; `decoded_from_codes` is by the layers.
    let mut decoder = ReadyDecoder::default();
    report.real(
        "free_decoded",
        decoder.forward(&module.decoder, grid.clone()),
    )?;
    decoder.decode_within(0);
    report.real_also(
        "free_decoded",
        "in strips",
        decoder.forward(&module.decoder, grid),
    )
}
