//! MusicGen's decoder and delay pattern.

use burn::tensor::{Int, Tensor};
use ravel_core::{Attend, Condition, StepInput};
use ravel_families::musicgen::Config;
use ravel_heads::Arrangement;

use crate::{Case, CaseReport, GoldenError};

/// What stands where the reference leaves a code to be predicted.
const OPEN: i64 = -1;

/// Runs a case.
///
/// # Errors
/// [`GoldenError::Input`] if the case lacks a file or a tensor; what building the model reports.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["prompt_codes", "random_codes", "encoder_hidden_states"]);
    let config = Config::read(&case.config()?)?;
    let applied = patterns(case, report, &config)?;
    let model = config.build(case.weights("model.safetensors")?, &case.device())?;

    let [_, n, _] = *case.shape("logits")? else {
        return Err(case.input("`logits` has no three axes"));
    };
    let hidden = match case.has("encoder_attention_mask") {
        true => {
            report.inputs(["encoder_attention_mask"]);
            Some(case.ids::<2>("encoder_attention_mask")?.equal_elem(0))
        }
        false => None,
    };
    let condition = Condition {
        cross: Some(case.real("encoder_hidden_states")?),
        cross_hidden: hidden,
        ..Condition::default()
    };
    let codes = by_codebook(applied.narrow(1, 0, n), config.num_codebooks);
    let input = StepInput {
        embedded: model.head.embedded(codes, 0),
        coords: Tensor::arange(0..n as i64, &case.device()).unsqueeze_dim(1),
        attend: Attend::Causal,
    };
    let scores = model.head.logits(model.backbone.forward(input, &condition));
    let [batch, depth, n, ids] = scores.dims();
    report.real("logits", scores.reshape([batch * depth, n, ids]))
}

/// The pattern of a prompt, and random codes under it.
fn patterns(
    case: &Case,
    report: &mut CaseReport<'_>,
    config: &Config,
) -> Result<Tensor<2, Int>, GoldenError> {
    let prompt = case.ids::<2>("prompt_codes")?;
    let length = case.shape("delay_mask")?[1];
    let (begun, mask) = pattern(config, prompt, length);
    report.ids("delay_ids", begun)?;
    report.ids("delay_mask", mask.clone())?;
    let open = mask.clone().equal_elem(OPEN);
    let applied = mask.mask_where(open, case.ids("random_codes")?);
    report.ids("applied", applied.clone())?;
    Ok(applied)
}

/// The prompt under its delays up to the first position that is open, and all `length` positions with [`OPEN`] where they are open. The
/// first position of all codebooks is the opening; what the prompt has there is not looked at.
fn pattern(
    config: &Config,
    prompt: Tensor<2, Int>,
    length: usize,
) -> (Tensor<2, Int>, Tensor<2, Int>) {
    let depth = config.num_codebooks;
    let [rows, given] = prompt.dims();
    let device = prompt.device();
    let codebooks = depth / config.audio_channels;
    // So few positions would hold no frame whole: the reference leaves them alone.
    if length + 1 < 2 * codebooks {
        return (prompt, Tensor::full([rows, length], OPEN, &device));
    }
    let frames = length - codebooks;
    let prompt = by_codebook(prompt, depth);
    let [batch, _, _] = prompt.dims();
    let known = given.min(frames + 1) - 1;
    let open = |count| Tensor::full([batch, depth, count], OPEN, &device);
    let parts = [
        (known > 0).then(|| prompt.narrow(2, 1, known)),
        (frames > known).then(|| open(frames - known)),
    ];
    let known = Tensor::cat(parts.into_iter().flatten().collect(), 2);
    let arrangement: Arrangement = config.arrangement();
    let opening = Tensor::full([batch, depth, 1], config.pad_token_id as i64, &device);
    let all = Tensor::cat(vec![opening, arrangement.arrange(known)], 2);
    let first: Vec<i64> = all
        .clone()
        .slice([0..1, 0..1, 0..length])
        .into_data()
        .iter::<i64>()
        .collect();
    let begun = first.iter().position(|&id| id == OPEN).unwrap_or(given);
    let all: Tensor<2, Int> = all.reshape([rows, length]);
    (all.clone().narrow(1, 0, begun), all)
}

/// `[batch, codebooks, n]` out of the reference's `[batch codebooks, n]`.
fn by_codebook(codes: Tensor<2, Int>, depth: usize) -> Tensor<3, Int> {
    let [rows, n] = codes.dims();
    codes.reshape([rows / depth, depth, n])
}
