//! Emu3's tokenizer: clips and pictures to ids, ids to clips.

use burn::tensor::{Int, Tensor};
use ravel_families::emu3_vq::{Config, build};
use ravel_families::read_config;

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["video", "image_sizes", "free_codes"]);
    let config: Config = read_config("emu3_vq", &case.config()?)?;
    let module = build(&config, case.weights("model.safetensors")?, &case.device())?;
    let video: Tensor<5> = case.real("video")?;

    // Ids beyond a picture's own size are cut off.
    let sizes = case.numbers("image_sizes")?;
    let stride = module.config().stride();
    let [rows, columns] = [0, 1].map(|axis| sizes[axis] as usize / stride);
    let codes = module.ids(video.clone());
    let [batch, groups, height, width] = codes.dims();
    let (rows, columns) = (rows.min(height), columns.min(width));
    // The reference cuts the first two axes of a clip's ids, which are groups and rows there.
    let cut = codes.slice([
        0..batch,
        0..rows.min(groups),
        0..columns.min(height),
        0..width,
    ]);
    report.ids("codes_video", cut)?;

    let first = video.narrow(1, 0, 1).squeeze_dim::<4>(1);
    let codes = module.picture_ids(first).slice([0..1, 0..rows, 0..columns]);
    match case.shape("codes_image")?.len() {
        2 => report.ids("codes_image", codes.squeeze_dim::<2>(0))?,
        _ => report.ids("codes_image", codes)?,
    }
    let free: Tensor<4, Int> = case.ids("free_codes")?;
    report.real("free_decoded", module.decode(free))
}
