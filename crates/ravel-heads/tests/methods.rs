//! What holds for methods that choose by themselves: speculative sampling, beam search, contrastive search, on small transformers.

mod common;

use std::cell::Cell;
use std::ops::ControlFlow;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use common::filled;
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{
    Attend, Codes, Condition, Decoding, Error, Generator, Layout, Seed, Start, StepInput,
};
use ravel_decode::method::{Hypothesis, Tally};
use ravel_decode::{
    BeamConfig, BeamSearch, ContrastiveSearch, Guidance, OneByOne, Patience, SamplerConfig,
    Speculative,
};
use ravel_heads::{NextToken, NextTokenConfig, StartKind};
use ravel_nn::RotaryConfig;
use ravel_testkit::{device, formula};

const IDS: usize = 5;
const WIDTH: usize = 16;
const PREFIX: usize = 3;

/// A language model: what is given stands in front.
struct Model {
    backbone: Transformer,
    head: NextToken,
    prefix: Tensor<3>,
}

impl Model {
    fn new(layers: usize, rows: &[u32]) -> Self {
        let backbone = TransformerConfig {
            layers,
            d_model: WIDTH,
            n_heads: 2,
            rotary: Some(RotaryConfig::default()),
            ..TransformerConfig::default()
        };
        let head = NextTokenConfig {
            codebook_size: IDS,
            start: StartKind::Prefix,
            positions: false,
            causal_prefix: true,
            ..NextTokenConfig::default()
        };
        let rows = rows
            .iter()
            .map(|&row| formula([1, PREFIX, WIDTH], row, 1.0, &device()));
        Self {
            head: filled(head.init(WIDTH, backbone.axes(), &want(8), &device())),
            backbone: filled(backbone.init(&device())),
            prefix: Tensor::cat(rows.collect(), 0),
        }
    }

    fn generator(&self) -> Generator<'_> {
        Generator {
            backbone: &self.backbone,
            head: &self.head,
            pyramid: None,
        }
    }

    fn condition(&self) -> Condition {
        Condition {
            prefix: Some(self.prefix.clone()),
            ..Condition::default()
        }
    }

    fn start(&self) -> Start {
        Start {
            condition: self.condition(),
            prompt: Codes {
                ids: Tensor::zeros([self.prefix.dims()[0], 1, 0], &device()),
                layout: want(8),
            },
        }
    }

    fn run(
        &self,
        method: &dyn Decoding,
        sampler: &SamplerConfig,
        seed: u64,
        len: usize,
    ) -> Vec<Vec<u32>> {
        let rows: Vec<u64> = (0..self.prefix.dims()[0] as u64).collect();
        let mut sampler = sampler.build(Seed::new(seed), &rows, len);
        let watch = &mut |_: &_, _: &_| ControlFlow::Continue(());
        let codes = method.decode(
            &self.generator(),
            self.start(),
            &want(len),
            &mut *sampler,
            watch,
        );
        codes.unwrap().to_host()
    }

    /// Log-probabilities of what follows ids after the first row's prefix, in one pass without memory.
    fn next(&self, ids: &[u32]) -> Vec<f32> {
        let prefix = self.prefix.clone().narrow(0, 0, 1);
        let n = PREFIX + ids.len();
        let embedded = match ids {
            [] => prefix,
            ids => {
                let values = ids.iter().map(|&id| id as i32).collect();
                let data = TensorData::new::<i32, _>(values, [1, ids.len()]);
                let ids: Tensor<2, Int> = Tensor::from_data(data, &device());
                Tensor::cat(vec![prefix, self.head.embedded(ids)], 1)
            }
        };
        let input = StepInput {
            embedded,
            coords: Tensor::arange(0..n as i64, &device()).unsqueeze_dim(1),
            attend: Attend::Causal,
        };
        let hidden = self.backbone.forward(input, &Condition::default());
        let scores = self.head.scores(hidden.narrow(1, n - 1, 1));
        log_softmax(scores, 2).into_data().iter::<f32>().collect()
    }
}

fn want(len: usize) -> Layout {
    Layout::Sequence { len }
}

fn greedy() -> SamplerConfig {
    SamplerConfig {
        temperature: 0.0,
        ..SamplerConfig::default()
    }
}

fn beam(beams: usize, ends: &[u32]) -> BeamSearch {
    BeamSearch {
        config: BeamConfig {
            beams,
            ..BeamConfig::default()
        },
        ends: ends.to_vec(),
    }
}

fn drafted<'a>(draft: &'a Model, ahead: usize, seed: u64) -> Speculative<'a> {
    Speculative {
        draft: draft.generator(),
        condition: draft.condition(),
        ahead,
        seed: Seed::new(seed),
        tally: Cell::new(Tally::default()),
    }
}

#[test]
fn a_draft_changes_nothing_that_is_certain() {
    let (model, draft) = (Model::new(2, &[1]), Model::new(1, &[7]));
    let penalized = SamplerConfig {
        repetition_penalty: Some(1.7),
        ..greedy()
    };
    for sampler in [greedy(), penalized] {
        let expected = model.run(&OneByOne, &sampler, 0, 20);
        for ahead in [1, 3, 30] {
            let method = drafted(&draft, ahead, 0);
            assert_eq!(model.run(&method, &sampler, 0, 20), expected, "{ahead}");
        }
    }
    // What drafts for itself is always right.
    let itself = drafted(&model, 4, 3);
    model.run(&itself, &SamplerConfig::default(), 3, 20);
    let Tally { drafted, accepted } = itself.tally.get();
    assert_eq!((drafted, accepted), (16, 16));
}

#[test]
fn a_rejected_draft_leaves_the_distribution_unchanged() {
    const RUNS: usize = 4000;
    let (model, draft) = (Model::new(2, &[1]), Model::new(1, &[7]));
    let sampler = SamplerConfig {
        temperature: 0.7,
        ..SamplerConfig::default()
    };
    let softened = |scores: Vec<f32>| {
        let scores: Vec<f64> = scores.iter().map(|s| (f64::from(*s) / 0.7).exp()).collect();
        let total: f64 = scores.iter().sum();
        scores
            .into_iter()
            .map(move |s| s / total)
            .collect::<Vec<f64>>()
    };
    let exact = |model: &Model| {
        let mut pairs = vec![0.0; IDS * IDS];
        for (first, p) in softened(model.next(&[])).into_iter().enumerate() {
            for (second, q) in softened(model.next(&[first as u32]))
                .into_iter()
                .enumerate()
            {
                pairs[first * IDS + second] = p * q;
            }
        }
        pairs
    };
    let mut counts = [0.0; IDS * IDS];
    let mut tally = Tally::default();
    for seed in 0..RUNS as u64 {
        let method = drafted(&draft, 2, seed);
        let ids = model.run(&method, &sampler, seed, 3).remove(0);
        counts[(ids[0] * IDS as u32 + ids[1]) as usize] += 1.0;
        tally.drafted += method.tally.get().drafted;
        tally.accepted += method.tally.get().accepted;
    }
    // Both things happen often enough to matter.
    let share = tally.accepted as f64 / tally.drafted as f64;
    assert!((0.1..0.9).contains(&share), "{tally:?}");
    let squares = |expected: Vec<f64>| -> f64 {
        let terms = counts.iter().zip(expected).map(|(found, p)| {
            let expected = p * RUNS as f64;
            (found - expected).powi(2) / expected
        });
        terms.sum()
    };
    // 24 degrees of freedom: above 60 once in 20,000 times.
    let found = squares(exact(&model));
    assert!(found < 60.0, "chi squared {found}");
    let other = squares(exact(&draft));
    assert!(
        other > 600.0,
        "the draft's own distribution is too near: {other}"
    );
}

#[test]
fn one_beam_is_the_most_likely_id_each_time() {
    let model = Model::new(2, &[1, 2]);
    let expected = model.run(&OneByOne, &greedy(), 0, 12);
    assert_eq!(model.run(&beam(1, &[]), &greedy(), 0, 12), expected);
}

/// With as many beams as there are sequences nothing can be missed, whichever way the state's rows were moved.
#[test]
fn enough_beams_find_the_likeliest_sequence_of_all() {
    let model = Model::new(2, &[1]);
    let mut all: Vec<(Vec<u32>, f64)> = vec![(Vec::new(), 0.0)];
    for _ in 0..3 {
        let longer = all.iter().flat_map(|(ids, total)| {
            let next = model.next(ids).into_iter().enumerate();
            next.map(|(id, score)| ([&ids[..], &[id as u32]].concat(), total + f64::from(score)))
                .collect::<Vec<_>>()
        });
        all = longer.collect();
    }
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    let sampler = greedy().build(Seed::new(0), &[0], 3);
    let search = beam(125, &[]);
    let found = search.search(
        &model.generator(),
        model.start(),
        &want(3),
        &*sampler,
        &mut |_| ControlFlow::Continue(()),
    );
    let found = found.unwrap().remove(0);
    for (Hypothesis { ids, score }, (expected, total)) in found.iter().zip(&all) {
        assert!((score - total / 3.0).abs() < 1e-5, "{ids:?} {expected:?}");
    }
    assert_eq!(found[0].ids, all[0].0);
    let few = model.run(&beam(4, &[]), &greedy(), 0, 3);
    assert_eq!(few[0].len(), 3);
}

#[test]
fn rows_are_searched_as_if_they_were_alone() {
    let both = Model::new(2, &[1, 2]);
    let contrastive = ContrastiveSearch::default();
    for row in [1, 2] {
        let alone = Model::new(2, &[row]);
        let at = row as usize - 1;
        let methods: [&dyn Decoding; 3] = [&beam(3, &[]), &beam(3, &[0]), &contrastive];
        for method in methods {
            let together = both.run(method, &greedy(), 0, 9).remove(at);
            let single = alone.run(method, &greedy(), 0, 9).remove(0);
            // A row that ended earlier is filled up with its end.
            assert_eq!(together[..single.len()], single);
            assert!(together[single.len()..].iter().all(|id| *id == 0));
        }
    }
}

#[test]
fn sequences_that_end_are_scored_by_their_length() {
    let model = Model::new(2, &[1]);
    for (penalty, patience) in [
        (0.0, Patience::PresentLength),
        (2.0, Patience::GreatestLength),
        (1.0, Patience::None),
    ] {
        let search = BeamSearch {
            config: BeamConfig {
                beams: 4,
                length_penalty: penalty,
                patience,
            },
            ends: vec![0, 3],
        };
        let sampler = greedy().build(Seed::new(0), &[0], 6);
        let go_on = &mut |_: &[u32]| ControlFlow::Continue(());
        let found = search.search(
            &model.generator(),
            model.start(),
            &want(6),
            &*sampler,
            go_on,
        );
        for Hypothesis { ids, score } in found.unwrap().remove(0) {
            let (last, before) = ids.split_last().unwrap();
            assert!(ids.len() == 6 || [0, 3].contains(last), "{ids:?}");
            assert!(!before.contains(&0) && !before.contains(&3), "{ids:?}");
            let total: f64 = (0..ids.len())
                .map(|at| f64::from(model.next(&ids[..at])[ids[at] as usize]))
                .sum();
            let expected = total / (ids.len() as f64).powf(penalty);
            assert!((score - expected).abs() < 1e-4, "{score} {expected}");
        }
    }
}

#[test]
fn contrast_of_no_weight_is_the_most_likely_id() {
    let model = Model::new(2, &[1, 2]);
    let expected = model.run(&OneByOne, &greedy(), 0, 12);
    let search = |candidates, alpha| ContrastiveSearch { candidates, alpha };
    assert_eq!(model.run(&search(4, 0.0), &greedy(), 0, 12), expected);
    assert_eq!(model.run(&search(1, 0.9), &greedy(), 0, 12), expected);
    // More candidates than ids are all ids.
    let all = model.run(&search(IDS, 0.6), &greedy(), 0, 12);
    assert_eq!(model.run(&search(9, 0.6), &greedy(), 0, 12), all);
    assert_ne!(all, expected);
}

#[test]
fn a_given_beginning_is_gone_on_with() {
    let model = Model::new(2, &[1]);
    let contrastive = ContrastiveSearch::default();
    let draft = Model::new(1, &[7]);
    let speculative = drafted(&draft, 3, 5);
    let methods: [&dyn Decoding; 2] = [&contrastive, &speculative];
    for method in methods {
        let whole = model.run(method, &greedy(), 0, 8).remove(0);
        let values = whole[..3].iter().map(|&id| id as i32).collect();
        let data = TensorData::new::<i32, _>(values, [1, 1, 3]);
        let mut start = model.start();
        start.prompt.ids = Tensor::from_data(data, &device());
        let mut sampler = greedy().build(Seed::new(0), &[0], 8);
        let go_on = &mut |_: &_, _: &_| ControlFlow::Continue(());
        let found = method.decode(&model.generator(), start, &want(8), &mut *sampler, go_on);
        assert_eq!(found.unwrap().to_host()[0], whole);
    }
}

#[test]
fn what_these_methods_cannot_do_is_refused() {
    let model = Model::new(1, &[1, 2]);
    let draft = Model::new(1, &[7]);
    let speculative = drafted(&draft, 3, 0);
    let contrastive = ContrastiveSearch {
        candidates: 3,
        alpha: 1.5,
    };
    let guided = SamplerConfig {
        guidance: Guidance::Constant(2.0),
        ..SamplerConfig::default()
    };
    let cases: [(&dyn Decoding, SamplerConfig, &str); 4] = [
        (&speculative, greedy(), "2 rows"),
        (&contrastive, greedy(), "alpha is 1.5"),
        (&beam(0, &[]), greedy(), "beams is 0"),
        (&beam(2, &[]), guided, "sampler"),
    ];
    for (method, sampler, expected) in cases {
        let mut sampler = sampler.build(Seed::new(0), &[0, 1], 8);
        let go_on = &mut |_: &_, _: &_| ControlFlow::Continue(());
        let found = method.decode(
            &model.generator(),
            model.start(),
            &want(8),
            &mut *sampler,
            go_on,
        );
        let error: Error = found.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
