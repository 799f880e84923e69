//! Dia's encoder, decoder and delay pattern.

use burn::tensor::{Int, Tensor};
use ravel_core::{Attend, StepInput};
use ravel_families::dia::Config;

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError::Input`] if the case lacks a file or a tensor; what building the model reports.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs([
        "input_ids",
        "attention_mask",
        "decoder_input_ids",
        "raw_codes",
    ]);
    let config = Config::read(&case.config()?)?;
    delays(case, report, &config)?;
    let model = config.build(case.weights("model.safetensors")?, &case.device())?;

    let padding = match case.has("attention_mask") {
        true => Some(case.ids::<2>("attention_mask")?.equal_elem(0)),
        false => None,
    };
    let condition = model.condition(case.ids("input_ids")?, padding);
    let encoded = condition.cross.clone().expect("an encoded text");
    report.real("encoder_last_hidden", encoded)?;

    let codes = case.ids::<3>("decoder_input_ids")?.swap_dims(1, 2);
    let [batch, channels, n] = codes.dims();
    let input = StepInput {
        embedded: model.head.embedded(codes, 0),
        coords: Tensor::arange(0..n as i64, &case.device()).unsqueeze_dim(1),
        attend: Attend::Causal,
    };
    let scores = model.head.logits(model.backbone.forward(input, &condition));
    let ids = scores.dims()[3];
    report.real("logits", scores.reshape([batch * channels, n, ids]))
}

/// The reference cuts delayed codes to the frames' length, and fills up what is cut when it undoes them.
fn delays(case: &Case, report: &mut CaseReport<'_>, config: &Config) -> Result<(), GoldenError> {
    let raw = case.ids::<3>("raw_codes")?.swap_dims(1, 2);
    let [batch, depth, n] = raw.dims();
    let arrangement = config.arrangement();
    let whole = arrangement.arrange(raw);
    let late = whole.dims()[2] - n;
    let delayed = whole.slice([0..batch, 0..depth, 0..n]);
    report.ids("delayed_codes", delayed.clone().swap_dims(1, 2))?;
    let after = config.pad_token_id as i64;
    let filled = match late {
        0 => delayed,
        late => {
            let end = Tensor::<3, Int>::full([batch, depth, late], after, &case.device());
            Tensor::cat(vec![delayed, end], 2)
        }
    };
    let reverted = arrangement.undo(filled, depth);
    report.ids("reverted_codes", reverted.swap_dims(1, 2))
}
