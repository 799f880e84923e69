//! VAR's image tokenizer.

use burn::tensor::{Int, Tensor};
use multiscale_image::{MultiscaleImage, MultiscaleImageTokenizer};
use ravel_core::{ImageTokenizer, Pyramid};
use ravel_families::read_config;
use ravel_families::var::{TOKENIZER, TokenizerConfig};
use ravel_nn::conv::Encoder;
use ravel_nn::unit_length;
use ravel_quant::bicubic_up;
use ravel_testkit::values;
use vq_image::grid_from_sequence;

use crate::sampling::{lead_of_largest, lead_of_nearest};
use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the configuration or the weights do not become a model.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["image"]);
    let config: TokenizerConfig = read_config(TOKENIZER, &case.config()?)?;
    let module = config.load(case.weights("model.safetensors")?, &case.device())?;
    let image: Tensor<4> = case.real("image")?;
    if let Encoder::VqGan(encoder) = &module.encoder {
        report.real("encoder_out", encoder.features(image.clone()))?;
    }
    let latents = module.encoder.forward(image);
    report.real("quant_conv_out", latents.clone())?;
    scales(&module, &config, latents, report)?;

    let mut tokenizer = MultiscaleImageTokenizer::new(module.clone(), &config.tokenizer());
    let given = given_ids(case, config.v_patch_nums.len())?;
    from_ids(&mut tokenizer, given.clone(), report)?;
    alone(case, &module, &given, report)
}

/// The reference's ids of each scale.
pub fn given_ids(case: &Case, scales: usize) -> Result<Vec<Tensor<2, Int>>, GoldenError> {
    (0..scales)
        .map(|scale| case.ids(&format!("idx_scale{scale}")))
        .collect()
}

/// What the transformer is shown of given ids: the canvas before each scale after the first.
pub fn features_of(pyramid: &dyn Pyramid, given: &[Tensor<2, Int>]) -> Tensor<3> {
    let mut canvas = None;
    let mut features = Vec::new();
    for (scale, ids) in given[..given.len() - 1].iter().enumerate() {
        let added = pyramid.add_scale(canvas, scale, ids.clone().unsqueeze_dim(1));
        features.push(pyramid.features_for(&added, scale + 1));
        canvas = Some(added);
    }
    Tensor::cat(features, 1)
}

/// Ids, canvases and margins from the latents.
fn scales(
    module: &MultiscaleImage,
    config: &TokenizerConfig,
    latents: Tensor<4>,
    report: &mut CaseReport<'_>,
) -> Result<(), GoldenError> {
    let found = module.quantizer.quantize(latents);
    let canvases = module.quantizer.canvases(Tensor::cat(found.ids.clone(), 1));
    for (scale, (ids, canvas)) in found.ids.into_iter().zip(canvases).enumerate() {
        report.ids(&format!("idx_scale{scale}"), ids)?;
        report.real(&format!("fhat_scale{scale}"), canvas)?;
    }
    let rows = module.quantizer.vector.rows();
    let margins = found.groups.into_iter().map(|(latents, _)| {
        let margins = match config.using_znorm {
            true => {
                let across = unit_length(rows.clone(), 1e-12).transpose();
                let cosines = unit_length(latents, 1e-12).matmul(across);
                lead_of_largest(&values(&cosines), config.vocab_size)
            }
            false => lead_of_nearest(&latents, &rows),
        };
        margins.into_iter().fold(f32::MAX, f32::min)
    });
    report.numbers("nearest_margin_per_scale", &margins.collect::<Vec<_>>())
}

/// Pictures and canvases from the reference's ids.
fn from_ids(
    tokenizer: &mut MultiscaleImageTokenizer,
    given: Vec<Tensor<2, Int>>,
    report: &mut CaseReport<'_>,
) -> Result<(), GoldenError> {
    let pyramid = tokenizer.pyramid().expect("a tokenizer with a pyramid");
    report.real("var_input", features_of(pyramid, &given))?;
    let mut canvas = None;
    let mut pictures = Vec::new();
    for (scale, ids) in given.into_iter().enumerate() {
        let added = pyramid.add_scale(canvas, scale, ids.unsqueeze_dim(1));
        report.real_also(&format!("fhat_scale{scale}"), "from ids", added.clone())?;
        pictures.push(tokenizer.decode_canvas(added.clone()).pixels);
        canvas = Some(added);
    }
    report.real("img_scale0", pictures[0].clone())?;
    report.real("img_mid", pictures[pictures.len() / 2].clone())?;
    report.real("img_last", pictures[pictures.len() - 1].clone())?;
    let Some(canvas) = canvas else {
        return Ok(());
    };
    tokenizer.decode_within(0);
    let pixels = tokenizer.decode_canvas(canvas).pixels;
    report.real_also("img_last", "in strips", pixels)
}

/// Single scales, grown, before and after φ.
fn alone(
    case: &Case,
    module: &MultiscaleImage,
    given: &[Tensor<2, Int>],
    report: &mut CaseReport<'_>,
) -> Result<(), GoldenError> {
    let quantizer = &module.quantizer;
    let sides = quantizer.sides().to_vec();
    let finest = *sides.last().expect("there is a scale");
    for (scale, ids) in given.iter().enumerate() {
        let name = format!("bicubic_up_scale{scale}");
        if case.has(&name) {
            let vectors = quantizer.vector.vectors(ids.clone());
            let (rows, columns) = sides[scale];
            let grid = grid_from_sequence(vectors, rows, columns);
            report.real(&name, bicubic_up(grid, finest))?;
        }
        let name = format!("phi_scale{scale}");
        if case.has(&name) {
            let ids = ids.clone().unsqueeze_dim(1);
            report.real(&name, quantizer.add_scale(None, scale, ids))?;
        }
    }
    Ok(())
}
