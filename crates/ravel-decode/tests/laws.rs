//! What must hold for every sampler and for the loop, on a small generator made of a formula.

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor};
use ravel_core::*;
use ravel_decode::{Guidance, OneByOne, SamplerConfig};
use ravel_testkit::{device, formula};

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

#[test]
fn continuing_ones_own_prefix_agrees() {
    let config = drawn();
    let whole = run(&config, &[1, 2], 5, empty(2));
    let mut prompt = empty(2);
    let flat: Vec<i32> = whole
        .iter()
        .flat_map(|row| row[..4].iter().map(|&id| id as i32))
        .collect();
    prompt.ids = Tensor::from_data(
        burn::tensor::TensorData::new::<i32, _>(flat, [2, 1, 4]),
        &device(),
    );
    assert_eq!(run(&config, &[1, 2], 5, prompt), whole);
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
fn scores_that_are_no_numbers_are_an_error() {
    let mut sampler = drawn().build(Seed::new(1), &[0], 1);
    let unit = WANT.tokens().remove(0);
    let nan = Tensor::full([1, 1, IDS], f32::NAN, &device());
    let line = sampler.pick(nan, &unit).unwrap_err().to_string();
    assert!(line.contains("NaN"), "{line}");
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
