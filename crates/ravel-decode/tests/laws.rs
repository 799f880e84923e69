//! What must hold for every sampler and for the loop, on a small generator made of a formula.

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor, TensorData};
use ravel_core::*;
use ravel_decode::sampler::{Chain, Choice, SequenceBias};
use ravel_decode::{DecodingConfig, Guidance, OneByOne, SamplerConfig};
use ravel_testkit::{device, formula, ids};

const IDS: usize = 12;
const WIDTH: usize = 8;
const WANT: Layout = Layout::Grid {
    height: 2,
    width: 3,
};

/// Remembers the sum of all it was fed; the state's length tells how many.
struct Summing;

impl Backbone for Summing {
    fn width(&self) -> usize {
        WIDTH
    }

    fn step(&self, input: StepInput, _condition: &Condition, state: &mut State) -> Tensor<3> {
        let [batch, n, width] = input.embedded.dims();
        let past = match state.layers.pop() {
            Some(layer) => layer.keys.reshape([batch, 1, width]),
            None => Tensor::zeros([batch, 1, width], &input.embedded.device()),
        };
        let hidden = past.expand([batch, n, width]) * 4.0 + input.embedded.clone();
        let sum = (hidden.clone().sum_dim(1))
            .sin()
            .reshape([batch, 1, 1, width]);
        state.layers.push(LayerState {
            keys: sum.clone(),
            values: sum,
        });
        state.len += n;
        hidden
    }
}

struct Table;

impl Head for Table {
    fn units(&self, want: &Layout) -> Vec<Unit> {
        want.tokens()
    }

    fn prefill(&self, condition: &Condition) -> Option<StepInput> {
        let embedded = condition.prefix.clone()?;
        let n = embedded.dims()[1];
        let coords = Tensor::zeros([n, 1], &embedded.device());
        Some(StepInput {
            embedded,
            coords,
            attend: Attend::Unit,
        })
    }

    fn embed(
        &self,
        so_far: &Codes,
        unit: &Unit,
        _: &Condition,
        _: Option<&dyn Pyramid>,
    ) -> StepInput {
        let device = so_far.ids.device();
        let table: Tensor<2> = formula([IDS, WIDTH], 5, 2.0, &device);
        let embedded = match unit.index {
            0 => Tensor::ones([so_far.batch(), 1, WIDTH], &device),
            at => table
                .select(
                    0,
                    so_far.at_depth(0).narrow(1, at - 1, 1).flatten::<1>(0, 1),
                )
                .unsqueeze_dim(1),
        };
        StepInput {
            embedded,
            coords: Tensor::zeros([1, 1], &device),
            attend: Attend::Unit,
        }
    }

    fn choose(
        &self,
        hidden: Tensor<3>,
        unit: &Unit,
        sampler: &mut dyn Sampler,
    ) -> Result<Tensor<3, Int>> {
        Ok(sampler
            .pick(self.logits(hidden, unit), unit)?
            .unsqueeze_dim(1))
    }
}

impl Scored for Table {
    fn logits(&self, hidden: Tensor<3>, _unit: &Unit) -> Tensor<3> {
        let out: Tensor<2> = formula([WIDTH, IDS], 6, 1.0, &hidden.device());
        hidden.matmul(out.unsqueeze())
    }
}

fn condition(rows: &[u32]) -> Condition {
    let rows = rows
        .iter()
        .map(|&row| formula([1, 3, WIDTH], 10 + row, 1.0, &device()));
    Condition {
        prefix: Some(Tensor::cat(rows.collect(), 0)),
        ..Condition::default()
    }
}

fn empty(batch: usize) -> Codes {
    Codes {
        ids: Tensor::zeros([batch, 1, 0], &device()),
        layout: WANT,
    }
}

fn run(config: &SamplerConfig, rows: &[u32], seed: u64, prompt: Codes) -> Vec<Vec<u32>> {
    let generator = Generator {
        backbone: &Summing,
        head: &Table,
        pyramid: None,
    };
    let numbers: Vec<u64> = rows.iter().map(|&row| row.into()).collect();
    let mut sampler = config.build(Seed::new(seed), &numbers, WANT.len());
    let mut start = Start {
        condition: condition(rows),
        prompt,
    };
    if config.is_guided() {
        start.condition = start
            .condition
            .clone()
            .stack(condition(&vec![99; rows.len()]));
        start.prompt.ids = start.prompt.ids.repeat_dim(0, 2);
    }
    let mut go = |_: &Unit, _: &Codes| ControlFlow::Continue(());
    let codes = OneByOne
        .decode(&generator, start, &WANT, &mut *sampler, &mut go)
        .unwrap();
    codes.rows(0, rows.len()).to_host()
}

fn drawn() -> SamplerConfig {
    SamplerConfig {
        temperature: 0.9,
        top_p: Some(0.95),
        ..SamplerConfig::default()
    }
}

#[test]
fn a_batch_of_two_is_two_batches_of_one() {
    let both = run(&drawn(), &[1, 2], 7, empty(2));
    assert_eq!(both[0], run(&drawn(), &[1], 7, empty(1))[0]);
    assert_eq!(both[1], run(&drawn(), &[2], 7, empty(1))[0]);
}

#[test]
fn the_seed_decides() {
    assert_eq!(
        run(&drawn(), &[1], 7, empty(1)),
        run(&drawn(), &[1], 7, empty(1))
    );
    let many: std::collections::BTreeSet<_> = (0..8)
        .map(|seed| run(&drawn(), &[1], seed, empty(1)))
        .collect();
    assert!(many.len() > 4);
}

#[test]
fn one_of_the_largest_is_greedy() {
    let greedy = SamplerConfig {
        temperature: 0.0,
        ..SamplerConfig::default()
    };
    let one = SamplerConfig {
        top_k: Some(1),
        ..SamplerConfig::default()
    };
    assert_eq!(
        run(&greedy, &[1, 2, 3], 1, empty(3)),
        run(&one, &[1, 2, 3], 2, empty(3))
    );
}

#[test]
fn guidance_of_zero_changes_nothing_and_some_guidance_does() {
    let ramp = |to| SamplerConfig {
        guidance: Guidance::Ramp { from: 0.0, to },
        ..drawn()
    };
    let plain = run(&drawn(), &[1, 2, 3, 4], 3, empty(4));
    // So small a ramp runs the guided path with both halves, and changes no choice.
    assert_eq!(run(&ramp(1e-12), &[1, 2, 3, 4], 3, empty(4)), plain);
    assert_eq!(run(&ramp(0.0), &[1, 2, 3, 4], 3, empty(4)), plain);
    assert_ne!(run(&ramp(6.0), &[1, 2, 3, 4], 3, empty(4)), plain);
}

fn check_continues(config: &SamplerConfig) {
    let whole = run(config, &[1, 2], 5, empty(2));
    for known in [1, 4, 6] {
        let flat: Vec<i32> = whole
            .iter()
            .flat_map(|row| row[..known].iter().map(|&id| id as i32))
            .collect();
        let mut prompt = empty(2);
        let data = TensorData::new::<i32, _>(flat, [2, 1, known]);
        prompt.ids = Tensor::from_data(data, &device());
        assert_eq!(run(config, &[1, 2], 5, prompt), whole, "{config:?}");
    }
}

#[test]
fn continuing_ones_own_prefix_agrees() {
    check_continues(&drawn());
    let remembering = SamplerConfig {
        repetition_penalty: Some(3.0),
        ..drawn()
    };
    assert_ne!(
        run(&remembering, &[1, 2], 5, empty(2)),
        run(&drawn(), &[1, 2], 5, empty(2))
    );
    check_continues(&remembering);
    check_continues(&SamplerConfig {
        guidance: Guidance::Ramp { from: 0.0, to: 2.0 },
        ..remembering
    });
}

#[test]
fn a_prompt_longer_than_what_is_wanted_is_an_error() {
    let generator = Generator {
        backbone: &Summing,
        head: &Table,
        pyramid: None,
    };
    let start = Start {
        condition: condition(&[1]),
        prompt: Codes {
            ids: Tensor::zeros([1, 1, 7], &device()),
            layout: Layout::Sequence { len: 7 },
        },
    };
    let mut sampler = drawn().build(Seed::new(1), &[0], WANT.len());
    let mut go = |_: &Unit, _: &Codes| ControlFlow::Continue(());
    let error = OneByOne
        .decode(&generator, start, &WANT, &mut *sampler, &mut go)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the codes have 7 given positions, a beginning of whole units of a grid of 2 x 3 is expected"
    );
}

fn pick(config: &SamplerConfig, scores: Tensor<3>) -> Result<Vec<i64>> {
    let rows: Vec<u64> = (0..scores.dims()[0] as u64).collect();
    let unit = Unit {
        index: 3,
        span: 10..10 + scores.dims()[1],
    };
    let mut sampler = config.build(Seed::new(1), &rows, 4);
    Ok(ids(&sampler.pick(scores, &unit)?))
}

#[test]
fn draws_follow_the_probabilities() {
    let scores: Tensor<3> = Tensor::from_data([[[0.0, 1.0, f32::NEG_INFINITY, 2.0]]], &device());
    let drawn = pick(&SamplerConfig::default(), scores.repeat_dim(1, 20_000)).unwrap();
    let total: f64 = [0.0f64, 1.0, 2.0].iter().map(|score| score.exp()).sum();
    for (id, score) in [(0, Some(0.0f64)), (1, Some(1.0)), (2, None), (3, Some(2.0))] {
        let share = drawn.iter().filter(|&&drawn| drawn == id).count() as f64 / 20_000.0;
        let expected = score.map_or(0.0, |score| score.exp() / total);
        // Four standard deviations of a share of one half.
        assert!(
            (share - expected).abs() < 0.0142,
            "{id}: {share} is not {expected}"
        );
    }
}

#[test]
fn codebooks_of_one_unit_draw_independently() {
    let mut sampler = SamplerConfig::default().build(Seed::new(1), &[0], 1);
    let unit = Unit {
        index: 0,
        span: 0..200,
    };
    let mut pick = || {
        let flat = Tensor::zeros([1, 200, 50], &device());
        ids(&sampler.pick(flat, &unit).unwrap())
    };
    let (first, second) = (pick(), pick());
    let equal = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    assert!(equal < 20, "{equal} of 200 are equal, 4 are expected");
}

#[test]
fn greedy_takes_the_first_of_the_largest_with_filters_or_without() {
    let greedy = SamplerConfig {
        temperature: 0.0,
        ..SamplerConfig::default()
    };
    let on_host = SamplerConfig {
        typical: Some(1.0),
        ..greedy.clone()
    };
    for size in [5, 300] {
        let mut scores = vec![-1.0; 3 * size];
        for at in [2, 4, size, 3 * size - 2, 3 * size - 1] {
            scores[at] = 1.0;
        }
        let scores = TensorData::new::<f32, _>(scores, [1, 3, size]);
        let scores: Tensor<3> = Tensor::from_data(scores, &device());
        let expected = [2, 0, size as i64 - 2];
        assert_eq!(pick(&greedy, scores.clone()).unwrap(), expected);
        assert_eq!(pick(&on_host, scores).unwrap(), expected);
    }
}

#[test]
fn a_watcher_stops_at_a_whole_unit() {
    let generator = Generator {
        backbone: &Summing,
        head: &Table,
        pyramid: None,
    };
    let mut sampler = drawn().build(Seed::new(1), &[0], WANT.len());
    let start = Start {
        condition: condition(&[1]),
        prompt: empty(1),
    };
    let mut seen = Vec::new();
    let mut stop_after_three = |unit: &Unit, codes: &Codes| {
        seen.push(codes.filled());
        if unit.index == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let codes = OneByOne
        .decode(
            &generator,
            start,
            &WANT,
            &mut *sampler,
            &mut stop_after_three,
        )
        .unwrap();
    assert_eq!(codes.filled(), 3);
    assert_eq!(seen, [1, 2, 3]);
}

#[test]
fn scores_that_are_no_numbers_are_an_error_that_names_the_place() {
    let greedy = SamplerConfig {
        temperature: 0.0,
        ..SamplerConfig::default()
    };
    let guided = SamplerConfig {
        guidance: Guidance::Constant(2.0),
        ..SamplerConfig::default()
    };
    for (bad, what) in [(f32::NAN, "NaN"), (f32::INFINITY, "infinity")] {
        let mut scores = vec![0.0; 4 * 2 * IDS];
        scores[3 * IDS + 5] = bad; // Row 1, second position.
        let scores = TensorData::new::<f32, _>(scores, [4, 2, IDS]);
        let scores: Tensor<3> = Tensor::from_data(scores, &device());
        for config in [&greedy, &drawn(), &guided] {
            assert_eq!(
                pick(config, scores.clone()).unwrap_err().to_string(),
                format!("the head's scores produced {what} in row 1 at unit 3, position 11")
            );
        }
    }
    let nothing = Tensor::full([1, 1, IDS], f32::NEG_INFINITY, &device());
    for config in [&greedy, &drawn()] {
        let line = pick(config, nothing.clone()).unwrap_err().to_string();
        assert!(line.contains("no finite number in row 0"), "{line}");
    }
}

#[test]
fn filters_that_leave_nothing_are_an_error() {
    let everything = (0..IDS as u32).map(|id| (vec![id], f32::NEG_INFINITY));
    let forbid = SequenceBias(everything.collect());
    let mut chain = Chain::new(vec![Box::new(forbid)], Choice::Greedy);
    let unit = WANT.tokens().remove(2);
    let line = chain
        .pick(Tensor::zeros([1, 1, IDS], &device()), &unit)
        .unwrap_err()
        .to_string();
    assert_eq!(
        line,
        "the sampler's filters produced no id to choose from in row 0 at unit 2, position 2"
    );
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let wrong = |config: SamplerConfig| config.validate().unwrap_err().to_string();
    assert!(
        wrong(SamplerConfig {
            temperature: -1.0,
            ..drawn()
        })
        .contains("temperature")
    );
    assert!(
        wrong(SamplerConfig {
            temperature: f64::NAN,
            ..drawn()
        })
        .contains("temperature")
    );
    assert!(
        wrong(SamplerConfig {
            top_p: Some(1.5),
            ..drawn()
        })
        .contains("top-p")
    );
    assert!(
        wrong(SamplerConfig {
            top_k: Some(0),
            ..drawn()
        })
        .contains("top-k")
    );
    assert!(drawn().validate().is_ok());
}

#[test]
fn settings_are_read_strictly() {
    fn read<T: serde::de::DeserializeOwned>(text: &str) -> std::result::Result<T, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
    #[track_caller]
    fn check_refused<T: serde::de::DeserializeOwned + std::fmt::Debug>(text: &str, names: &str) {
        let line = read::<T>(text).unwrap_err();
        assert!(line.contains(names), "{line}");
    }
    let guidance = |text: &str| read::<SamplerConfig>(text).map(|config| config.guidance);
    assert_eq!(guidance(r#"{"guidance": 2}"#), Ok(Guidance::Constant(2.0)));
    let ramp = Guidance::Ramp { from: 0.0, to: 4.5 };
    assert_eq!(
        guidance(r#"{"guidance": {"from": 0, "to": 4.5}}"#),
        Ok(ramp)
    );
    assert_eq!(read::<SamplerConfig>("{}"), Ok(SamplerConfig::default()));
    let written = serde_json::to_string(&drawn()).unwrap();
    assert_eq!(read::<SamplerConfig>(&written), Ok(drawn()));
    check_refused::<SamplerConfig>(r#"{"top_k": 3}"#, "`top_k`");
    check_refused::<SamplerConfig>(r#"{"guidance": {"from": 0, "to": 1, "too": 2}}"#, "`too`");
    check_refused::<SamplerConfig>(r#"{"guidance": {"from": 0}}"#, "`to`");
    check_refused::<SamplerConfig>(r#"{"guidance": "much"}"#, "a number, or a table");
    let method = read::<DecodingConfig>(r#"{"kind": "one-by-one"}"#);
    assert_eq!(method, Ok(DecodingConfig::default()));
    check_refused::<DecodingConfig>(r#"{"kind": "one-by-one", "steps": 2}"#, "`steps`");
    check_refused::<DecodingConfig>(r#"{"kind": "two-by-two"}"#, "`two-by-two`");
}
