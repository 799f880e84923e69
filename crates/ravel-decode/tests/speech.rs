//! The rules that speech models bring: windowed penalties, a mass that is kept within, guidance that only selects, and
//! codebooks that end one after the other.

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, Layout, Sampler, Seed, Unit};
use ravel_decode::sampler::{
    EndIfLargest, Ending, Filter, RecentPenalty, RepetitionPenalty, TopP, TopPWithin, all_ended,
};
use ravel_decode::{Guidance, SamplerConfig};
use ravel_testkit::{device, ids};

const OUT: f32 = f32::NEG_INFINITY;

fn after(filter: &dyn Filter, scores: &[f32], history: &[u32]) -> Vec<f32> {
    let mut scores = scores.to_vec();
    filter.apply(&mut scores, history);
    scores
}

fn logarithms(shares: &[f32]) -> Vec<f32> {
    shares.iter().map(|share| share.ln()).collect()
}

fn kept(filter: &dyn Filter, shares: &[f32]) -> Vec<usize> {
    let scores = after(filter, &logarithms(shares), &[]);
    let kept = scores.iter().enumerate().filter(|(_, score)| **score > OUT);
    kept.map(|(id, _)| id).collect()
}

#[test]
fn a_mass_that_is_kept_within_drops_the_id_that_crosses_it() {
    let shares = [0.1, 0.5, 0.15, 0.25];
    assert_eq!(kept(&TopPWithin(0.8), &shares), [1, 3]);
    assert_eq!(kept(&TopP { p: 0.8, keep: 1 }, &shares), [1, 2, 3]);
    assert_eq!(kept(&TopPWithin(0.0), &shares), [1]);
    assert_eq!(kept(&TopPWithin(0.4), &shares), [1]);
    assert_eq!(kept(&TopPWithin(0.95), &shares), [1, 2, 3]);
}

#[test]
fn a_window_forgets_and_begins_with_zeros() {
    let scores = [1.0, -1.0, 2.0, 3.0];
    let recent = RecentPenalty {
        penalty: 2.0,
        window: 2,
    };
    assert_eq!(after(&recent, &scores, &[]), [0.5, -1.0, 2.0, 3.0]);
    assert_eq!(after(&recent, &scores, &[1]), [0.5, -2.0, 2.0, 3.0]);
    assert_eq!(after(&recent, &scores, &[1, 2, 3]), [1.0, -1.0, 1.0, 1.5]);
    let long = RecentPenalty {
        penalty: 2.0,
        window: 3,
    };
    let all = after(&RepetitionPenalty(2.0), &scores, &[1, 2, 3]);
    assert_eq!(after(&long, &scores, &[1, 2, 3]), all);
}

#[test]
fn the_end_comes_when_it_is_largest_and_only_then() {
    let end = EndIfLargest { end: 2 };
    assert_eq!(after(&end, &[0.0, 1.0, 2.0], &[]), [OUT, OUT, 2.0]);
    assert_eq!(after(&end, &[0.0, 3.0, 2.0], &[]), [0.0, 3.0, OUT]);
}

/// Picks at one unit for one codebook after the other, a score of one for each row's wish.
fn picks(sampler: &mut dyn Sampler, index: usize, wishes: &[Vec<i64>]) -> Vec<Vec<i64>> {
    let unit = Unit {
        index,
        span: index..index + 1,
    };
    let pick = |wish: &Vec<i64>| {
        let wish = Tensor::<1, Int>::from_data(wish.as_slice(), &device());
        let scores = wish.one_hot::<2>(10).float().unsqueeze_dim(1);
        ids(&sampler.pick(scores, &unit).expect("finite scores"))
    };
    wishes.iter().map(pick).collect()
}

#[test]
fn codebooks_end_as_late_as_they_began() {
    let ending = Ending {
        end: 8,
        after: 9,
        steps: vec![0, 2, 1],
    };
    let config = SamplerConfig {
        temperature: 0.0,
        ending: Some(ending.clone()),
        ..SamplerConfig::default()
    };
    let mut sampler = config.build(Seed::new(1), &[0, 1], 6);
    let mut codes = Codes {
        ids: Tensor::zeros([2, 3, 0], &device()),
        layout: Layout::Sequence { len: 6 },
    };
    let mut over = Vec::new();
    for at in 0..6 {
        // Row 0 wants to end at position 1, row 1 at position 3, and again later.
        let first = vec![if at == 1 { 8 } else { 1 }, if at >= 3 { 8 } else { 2 }];
        let found = picks(&mut *sampler, at, &[first, vec![3, 4], vec![5, 6]]);
        let column = Tensor::<1, Int>::from_data(found.concat().as_slice(), &device());
        codes.extend(column.reshape([3, 2, 1]).swap_dims(0, 1));
        over.push(all_ended(&codes, &ending));
    }
    let rows = ids(&codes.ids);
    assert_eq!(rows[..6], [1, 8, 9, 9, 9, 9]);
    assert_eq!(rows[6..12], [3, 3, 3, 8, 9, 9]);
    assert_eq!(rows[12..18], [5, 5, 8, 9, 9, 9]);
    assert_eq!(rows[18..24], [2, 2, 2, 8, 9, 9]);
    assert_eq!(rows[24..30], [4, 4, 4, 4, 4, 8]);
    assert_eq!(over, [false, false, false, false, false, true]);
}

#[test]
fn ends_that_were_given_count() {
    let ending = Ending {
        end: 8,
        after: 9,
        steps: vec![0, 1],
    };
    let config = SamplerConfig {
        temperature: 0.0,
        ending: Some(ending),
        ..SamplerConfig::default()
    };
    let mut sampler = config.build(Seed::new(1), &[0], 6);
    sampler.given(&Codes {
        ids: Tensor::from_data([[[1, 8], [2, 3]]], &device()),
        layout: Layout::Sequence { len: 6 },
    });
    let found = picks(&mut *sampler, 2, &[vec![1], vec![1]]);
    assert_eq!(found, [vec![9], vec![8]]);
}

#[test]
fn guidance_that_selects_keeps_the_conditioned_scores() {
    // Guided, id 1 leads by far; conditioned, id 0 does, and it is among the two best when guided.
    let conditioned = [3.0, 2.5, 2.0, 0.0];
    let unconditioned = [2.5, 0.0, 3.0, 0.0];
    let scores = [conditioned, unconditioned].concat();
    let scores = Tensor::<1>::from_data(scores.as_slice(), &device()).reshape([2, 1, 4]);
    let unit = Unit {
        index: 0,
        span: 0..1,
    };
    let pick = |guidance: f64, top_k: Option<usize>| {
        let config = SamplerConfig {
            temperature: 0.0,
            guidance: Guidance::Constant(guidance),
            guidance_top_k: top_k,
            ..SamplerConfig::default()
        };
        let mut sampler = config.build(Seed::new(1), &[0], 1);
        ids(&sampler.pick(scores.clone(), &unit).expect("finite scores"))
    };
    assert_eq!(pick(3.0, None), [1, 1]);
    assert_eq!(pick(3.0, Some(2)), [0, 0]);
    assert_eq!(pick(3.0, Some(1)), [1, 1]);
    assert_eq!(pick(3.0, Some(99)), [0, 0]);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let wrong = |config: SamplerConfig| config.validate().expect_err("no sense").to_string();
    let window = SamplerConfig {
        repetition_window: Some(0),
        ..SamplerConfig::default()
    };
    assert!(wrong(window).starts_with("repetition-window is 0"));
    let mass = SamplerConfig {
        top_p_within: Some(1.5),
        ..SamplerConfig::default()
    };
    assert!(wrong(mass).starts_with("top-p-within is 1.5"));
    let none = SamplerConfig {
        guidance_top_k: Some(0),
        ..SamplerConfig::default()
    };
    assert!(wrong(none).starts_with("guidance-top-k is 0"));
}
