//! Watermarks and hindsight: choices that a key or an observation explains, without a change of the distribution.

use burn::tensor::{Tensor, TensorData};
use ravel_core::{Codes, Layout, Sampler, Seed, Unit};
use ravel_decode::SamplerConfig;
use ravel_decode::sampler::{Hindsight, hindsight_noise, noisy_choice};
use ravel_decode::watermark::{Watermark, WatermarkConfig, p_value};
use ravel_testkit::{device, formula, ids, noise};

const IDS: usize = 12;
const SHARES: [f64; 4] = [0.1, 0.2, 0.3, 0.4];
/// Four standard deviations of a share that is counted 4,000 times.
const SPREAD: f64 = 0.032;
const TRIES: u32 = 4000;

fn assert_shares(counts: [u32; 4]) {
    for (count, share) in counts.iter().zip(SHARES) {
        let found = f64::from(*count) / f64::from(TRIES);
        assert!((found - share).abs() < SPREAD, "{counts:?}");
    }
}

fn unit(index: usize) -> Unit {
    Unit {
        index,
        span: index..index + 1,
    }
}

/// Scores that change with the position.
fn scores(rows: usize, index: usize) -> Tensor<3> {
    formula([rows, 1, IDS], 40 + index as u32, 1.5, &device())
}

fn marked(key: Option<u32>, seed: u64, len: usize) -> Vec<u32> {
    let config = SamplerConfig {
        watermark: key.map(|key| WatermarkConfig { key, rows: 32 }),
        ..SamplerConfig::default()
    };
    let mut sampler = config.build(Seed::new(seed), &[0], len);
    let pick = |index| {
        let id = sampler.pick(scores(1, index), &unit(index));
        ids(&id.expect("finite scores"))[0] as u32
    };
    (0..len).map(pick).collect()
}

#[test]
fn over_all_keys_every_id_has_its_probability() {
    let mut counts = [0; 4];
    for key in 0..TRIES {
        let watermark = Watermark::new(WatermarkConfig { key, rows: 1 }, 4);
        counts[watermark.choice(&SHARES, 0) as usize] += 1;
    }
    assert_shares(counts);
}

#[test]
fn who_has_the_key_finds_the_watermark_and_nobody_finds_another() {
    let table = |key| Watermark::new(WatermarkConfig { key, rows: 32 }, IDS);
    let others = |ids: &[u32]| -> Vec<f32> {
        (500..519)
            .map(|key| table(key).cost(ids, 30, 0.0))
            .collect()
    };
    let found = |ids: &[u32]| p_value(table(7).cost(ids, 30, 0.0), &others(ids));
    let written = marked(Some(7), 3, 45);
    assert_eq!(found(&written), 0.05);
    // Two ids are lost and one is another.
    let mut edited = written.clone();
    edited.drain(8..10);
    edited[20] = (edited[20] + 1) % IDS as u32;
    assert_eq!(found(&edited), 0.05);
    let plain: Vec<f64> = (0..8).map(|seed| found(&marked(None, seed, 45))).collect();
    let mean = plain.iter().sum::<f64>() / 8.0;
    assert!((0.2..=0.8).contains(&mean), "{plain:?}");
}

#[test]
fn the_seed_moves_the_beginning_and_the_key_decides_the_rest() {
    assert_eq!(marked(Some(7), 3, 10), marked(Some(7), 3, 10));
    assert_ne!(marked(Some(7), 3, 10), marked(Some(8), 3, 10));
    let begins: Vec<_> = (0..6).map(|seed| marked(Some(7), seed, 10)).collect();
    assert!(begins.iter().any(|begin| *begin != begins[0]));
}

#[test]
fn a_watermark_keeps_to_the_filters() {
    let config = SamplerConfig {
        watermark: Some(WatermarkConfig { key: 1, rows: 16 }),
        top_k: Some(1),
        ..SamplerConfig::default()
    };
    let mut sampler = config.build(Seed::new(1), &[0], 8);
    for index in 0..8 {
        let largest = scores(1, index).argmax(2);
        let found = sampler.pick(scores(1, index), &unit(index));
        assert_eq!(ids(&found.expect("finite scores")), ids(&largest));
    }
    let none = SamplerConfig {
        watermark: Some(WatermarkConfig { key: 1, rows: 0 }),
        ..SamplerConfig::default()
    };
    let line = none.validate().expect_err("no row").to_string();
    assert!(line.starts_with("watermark.rows is 0"), "{line}");
}

/// A number inside `0..1` for a try and an id.
fn uniform(at: u32, salt: u32) -> f64 {
    (f64::from(noise(at, salt)) + 1.0) / 2.0 * 0.999_998 + 1e-6
}

#[test]
fn hindsight_explains_the_observation_and_is_gumbel_noise_on_average() {
    let logarithms = SHARES.map(f64::ln);
    let (mut sums, mut counts) = ([0.0; 4], [0; 4]);
    for at in 0..TRIES {
        // The observation is drawn by its probability, so that what is inferred has no reason to lean.
        let draw = uniform(at, 1);
        let mut mass = 0.0;
        let observed = SHARES.iter().position(|share| {
            mass += share;
            draw < mass
        });
        let observed = observed.unwrap_or(3);
        let uniforms: Vec<f64> = (0..4).map(|id| uniform(at * 4 + id, 2)).collect();
        let noise = hindsight_noise(&logarithms, observed, &uniforms);
        assert_eq!(noisy_choice(&logarithms, &noise), observed);
        for (sum, noise) in sums.iter_mut().zip(&noise) {
            *sum += noise;
        }
        // Under even scores the same noise chooses evenly.
        counts[noisy_choice(&[0.0; 4], &noise)] += 1;
    }
    for sum in sums {
        // Euler's constant is a Gumbel's mean; four standard deviations of the mean of 4,000.
        let mean = sum / f64::from(TRIES);
        assert!((mean - 0.5772).abs() < 0.082, "{mean}");
    }
    for count in counts {
        let share = f64::from(count) / f64::from(TRIES);
        assert!((share - 0.25).abs() < SPREAD, "{counts:?}");
    }
}

#[test]
fn a_rise_of_the_observed_score_alone_changes_nothing() {
    for at in 0..50 {
        let scores: Vec<f64> = (0..6).map(|id| uniform(at * 6 + id, 3) * 4.0).collect();
        let uniforms: Vec<f64> = (0..6).map(|id| uniform(at * 6 + id, 4)).collect();
        let observed = at as usize % 6;
        let noise = hindsight_noise(&scores, observed, &uniforms);
        let mut raised = scores.clone();
        raised[observed] += 1.0;
        assert_eq!(noisy_choice(&raised, &noise), observed);
    }
}

fn observed() -> Codes {
    let rows = [[3i32, 1, 4, 1], [5, 9, 2, 6]];
    Codes::flat(
        Tensor::from_data(TensorData::from(rows), &device()),
        Layout::Sequence { len: 4 },
    )
}

fn replayed(change: f32) -> [Vec<i64>; 2] {
    let seeds = vec![Seed::new(1), Seed::new(2)];
    let mut sampler = Hindsight::new(&observed(), seeds);
    let mut halves = [Vec::new(), Vec::new()];
    for index in 0..4 {
        let then = scores(2, index);
        let now = then.clone() + formula([2, 1, IDS], 90, change, &device());
        let pair = Tensor::cat(vec![then, now], 0);
        let found = ids(&sampler.pick(pair, &unit(index)).expect("finite scores"));
        halves[0].extend(&found[..2]);
        halves[1].extend(&found[2..]);
    }
    halves
}

#[test]
fn unchanged_scores_give_what_was_observed() {
    let [then, now] = replayed(0.0);
    assert_eq!(then, [3, 5, 1, 9, 4, 2, 1, 6]);
    assert_eq!(then, now);
    let [then, now] = replayed(6.0);
    assert_eq!(then, [3, 5, 1, 9, 4, 2, 1, 6]);
    assert_ne!(then, now);
}

#[test]
fn observations_that_cannot_be_are_refused_in_a_line() {
    let pick = |scores: Tensor<3>, index| {
        let mut sampler = Hindsight::new(&observed(), vec![Seed::new(1), Seed::new(2)]);
        let error = sampler.pick(scores, &unit(index)).expect_err("refused");
        error.to_string()
    };
    let line = pick(scores(4, 0), 4);
    assert!(line.contains("4 observed positions"), "{line}");
    let out = scores(4, 0).slice_fill([0..1, 0..1, 3..4], f32::NEG_INFINITY);
    assert!(pick(out, 0).contains("id 3 at position 0"));
    let nan = scores(4, 0).slice_fill([2..3, 0..1, 7..8], f32::NAN);
    assert!(pick(nan, 0).contains("NaN in row 0"));
}
