//! How well a generator foretells given codes.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use ravel_core::{Codes, Condition, Generator, Layout};

use crate::host;

/// Mean cross-entropy of given codes in nats per position, one value per row, through the same steps as generation.
///
/// # Panics
/// If the head shows no scores, or the codes do not fill the layout.
pub fn loss_per_token(generator: &Generator<'_>, condition: &Condition, codes: &Codes) -> Vec<f64> {
    let layout: &Layout = &codes.layout;
    assert_eq!(
        codes.filled(),
        layout.len(),
        "position axis: the codes must be full"
    );
    let scored = generator.head.scored().expect("the head shows its scores");
    let (batch, depth) = (codes.batch(), codes.depth());
    let capacity = condition.prefix_len() + layout.len() + 1;
    let mut state = generator.backbone.start(batch, capacity);
    if let Some(prefill) = generator.head.prefill(condition) {
        generator.backbone.step(prefill, condition, &mut state);
    }
    let mut total = vec![0.0; batch];
    for unit in generator.head.units(layout) {
        let mut so_far = codes.clone();
        so_far.ids = codes
            .ids
            .clone()
            .slice([0..batch, 0..depth, 0..unit.span.start]);
        let input = generator
            .head
            .embed(&so_far, &unit, condition, generator.pyramid);
        let hidden = generator.backbone.step(input, condition, &mut state);
        let logits: Tensor<3> = scored.logits(hidden, &unit);
        let scores = log_softmax(logits, 2);
        let targets = codes.of_unit(&unit).narrow(1, 0, 1).swap_dims(1, 2);
        let picked = host(scores.gather(2, targets).flatten::<2>(1, 2).sum_dim(1));
        for (total, score) in total.iter_mut().zip(picked) {
            *total -= f64::from(score);
        }
    }
    total
        .iter()
        .map(|total| total / layout.len() as f64)
        .collect()
}
