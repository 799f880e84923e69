//! The filters against the reference library's own numbers.

use burn::tensor::Tensor;
use ravel_core::{Layout, Sampler};
use ravel_decode::Guidance;
use ravel_decode::sampler::*;
use ravel_testkit::{Golden, assert_close, device};

const IDS: usize = 60;

fn io() -> Golden {
    Golden::open("decode_logits_processors", "io.safetensors")
}

fn rows(io: &Golden, name: &str) -> Vec<Vec<f32>> {
    let rows = io.numbers(name).chunks(IDS);
    rows.map(|row| row.iter().map(|&value| value as f32).collect())
        .collect()
}

fn histories(io: &Golden) -> Vec<Vec<u32>> {
    let rows = io.numbers("input_ids").chunks(12);
    rows.map(|row| row.iter().map(|&id| id as u32).collect())
        .collect()
}

fn filtered(io: &Golden, filters: &[Box<dyn Filter>]) -> Vec<Vec<f32>> {
    let mut scores = rows(io, "scores");
    for (row, history) in scores.iter_mut().zip(histories(io)) {
        for filter in filters {
            filter.apply(row, &history);
        }
    }
    scores
}

/// Row 3 has four equal maxima: at an edge the reference's sort may keep any of them, so there the kept
/// values are compared as sets.
fn check(name: &str, filters: Vec<Box<dyn Filter>>, tied_edge: bool) {
    let io = io();
    let expected = rows(&io, name);
    for (at, (mut found, mut wanted)) in filtered(&io, &filters)
        .into_iter()
        .zip(expected)
        .enumerate()
    {
        if tied_edge && at == 3 {
            found.sort_by(f32::total_cmp);
            wanted.sort_by(f32::total_cmp);
        }
        for (id, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            let same = found == wanted || (found - wanted).abs() <= 1e-6 * wanted.abs().max(1.0);
            assert!(same, "{name}: row {at} id {id} is {found}, not {wanted}");
        }
    }
}

#[test]
fn every_filter_matches() {
    check("out_temperature", vec![Box::new(Temperature(0.7))], false);
    check("out_top_k", vec![Box::new(TopK { k: 5 })], false);
    check("out_top_k_min8", vec![Box::new(TopK { k: 8 })], false);
    check("out_top_p", vec![Box::new(TopP { p: 0.9, keep: 1 })], true);
    check(
        "out_top_p_min3",
        vec![Box::new(TopP { p: 0.27, keep: 3 })],
        true,
    );
    check("out_min_p", vec![Box::new(MinP(0.1))], false);
    check("out_typical", vec![Box::new(Typical(0.8))], false);
    check("out_epsilon", vec![Box::new(EpsilonCutoff(0.01))], false);
    check("out_eta", vec![Box::new(EtaCutoff(0.02))], false);
    check(
        "out_repetition",
        vec![Box::new(RepetitionPenalty(1.3))],
        false,
    );
    check(
        "out_repetition_below1",
        vec![Box::new(RepetitionPenalty(0.8))],
        false,
    );
    check(
        "out_no_repeat_ngram",
        vec![Box::new(NoRepeat { run: 2 })],
        false,
    );
    check(
        "out_min_length",
        vec![Box::new(MinLength { length: 20, end: 2 })],
        false,
    );
    let forbidden = SequenceBias(vec![
        (vec![5], f32::NEG_INFINITY),
        (vec![35, 9], f32::NEG_INFINITY),
    ]);
    check("out_bad_words", vec![Box::new(forbidden)], false);
    let bias = SequenceBias(vec![(vec![4], -3.0), (vec![13, 6], 5.0)]);
    check("out_sequence_bias", vec![Box::new(bias)], false);
}

#[test]
fn a_chain_of_filters_and_its_draws_match() {
    let chain: Vec<Box<dyn Filter>> = vec![
        Box::new(RepetitionPenalty(1.3)),
        Box::new(Temperature(0.7)),
        Box::new(TopK { k: 20 }),
        Box::new(TopP { p: 0.9, keep: 1 }),
        Box::new(MinP(0.02)),
    ];
    check("out_chain", chain, true);
    let io = io();
    let scores = rows(&io, "out_chain");
    let shares = rows(&io, "out_chain_probs");
    for (row, scores) in scores.iter().enumerate() {
        for (found, wanted) in probabilities(scores).iter().zip(&shares[row]) {
            assert!((found - f64::from(*wanted)).abs() < 1e-6);
        }
        let chosen = inverse_cdf_choice(scores, io.numbers("u")[row]);
        assert_eq!(f64::from(chosen), io.numbers("inverse_cdf_choice")[row]);
        let uniforms = &io.numbers("gumbel_u")[row * IDS..(row + 1) * IDS];
        let chosen = gumbel_choice(scores, uniforms);
        assert_eq!(f64::from(chosen), io.numbers("gumbel_choice")[row]);
    }
}

/// Keeps what it is shown.
struct Recorder(Option<Tensor<3>>);

impl Sampler for Recorder {
    fn pick(
        &mut self,
        logits: Tensor<3>,
        _unit: &ravel_core::Unit,
    ) -> ravel_core::Result<Tensor<2, burn::tensor::Int>> {
        let [batch, len, _] = logits.dims();
        let ids = Tensor::zeros([batch, len], &logits.device());
        self.0 = Some(logits);
        Ok(ids)
    }
}

#[test]
fn guidance_matches() {
    let (io, device) = (io(), device());
    let logits: Tensor<2> = io.tensor("cfg_logits", &device);
    let mut guided = Guided {
        guidance: Guidance::Constant(2.0), // The reference's scale 3 is 1 + 2.
        units: 1,
        inner: Recorder(None),
    };
    let unit = Layout::Sequence { len: 1 }.tokens().remove(0);
    guided.pick(logits.unsqueeze_dim(1), &unit).unwrap();
    let found = guided.inner.0.unwrap().squeeze_dim::<2>(1);
    assert_close("guidance", &found, &io.tensor("out_cfg3", &device), 2e-5);
}
