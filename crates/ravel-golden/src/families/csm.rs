//! CSM's backbone and depth decoder.

use burn::tensor::{Int, Tensor};
use ravel_backbone::Transformer;
use ravel_core::{Attend, Backbone, Condition, StepInput};
use ravel_families::csm::Config;

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError::Input`] if the case lacks a file or a tensor; what building the model reports.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["text_ids", "codes", "depth_input_ids"]);
    let config = Config::read(&case.config()?)?;
    let model = config.build(case.weights("model.safetensors")?, &case.device())?;

    let text = model.text.embedded(case.ids("text_ids")?);
    let hidden = model.backbone.forward(causal(text), &Condition::default());
    let scores = model.head.frame.logits(hidden.clone());
    report.real("text_last_hidden", hidden)?;
    report.real("text_logits", scores.squeeze_dim::<3>(1))?;

    let codes = case.ids::<3>("codes")?.swap_dims(1, 2);
    let frames = model.head.frame.embedded(codes, 0);
    let stepped = stepped(&model.backbone, &frames);
    let hidden = model
        .backbone
        .forward(causal(frames), &Condition::default());
    let scores = model.head.frame.logits(hidden.clone());
    report.real("codes_last_hidden", hidden.clone())?;
    report.real_also("codes_last_hidden", "step by step", stepped)?;
    report.real("codes_logits", scores.squeeze_dim::<3>(1))?;

    // The last frame's hidden state stands in the placeholder's stead.
    let [_, n, _] = hidden.dims();
    let last = hidden.narrow(1, n - 1, 1).squeeze_dim(1);
    let given: Tensor<2, Int> = case.ids("depth_input_ids")?;
    let [rows, length] = given.dims();
    let over_depth = model
        .head
        .over_depth(last, given.slice([0..rows, 1..length]));
    report.real("depth_logits", model.head.scores(&over_depth, 1))
}

fn causal(embedded: Tensor<3>) -> StepInput {
    let n = embedded.dims()[1];
    StepInput {
        coords: Tensor::arange(0..n as i64, &embedded.device()).unsqueeze_dim(1),
        embedded,
        attend: Attend::Causal,
    }
}

fn stepped(backbone: &Transformer, embedded: &Tensor<3>) -> Tensor<3> {
    let [batch, n, _] = embedded.dims();
    let mut state = backbone.start(batch, n);
    let steps = (0..n).map(|at| {
        let input = StepInput {
            embedded: embedded.clone().narrow(1, at, 1),
            coords: Tensor::from_data([[at as i64]], &embedded.device()),
            attend: Attend::Unit,
        };
        backbone.step(input, &Condition::default(), &mut state)
    });
    Tensor::cat(steps.collect(), 1)
}
