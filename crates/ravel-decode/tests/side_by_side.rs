//! Generations side by side: each is what it is by itself, and what has ended is not computed any more.

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor};
use ravel_core::*;
use ravel_decode::method::{Effort, Heard, Lane};
use ravel_decode::{OneByOne, SamplerConfig, SideBySide};
use ravel_testkit::{device, formula};

const IDS: usize = 12;
const WIDTH: usize = 8;

/// Attends to everything before it with equal weight: its memory is what it was fed, position by position.
struct Mean;

impl Backbone for Mean {
    fn width(&self) -> usize {
        WIDTH
    }

    fn step(&self, input: StepInput, _: &Condition, state: &mut State) -> Tensor<3> {
        let [batch, n, width] = input.embedded.dims();
        let room = [batch, 1, state.capacity, width];
        let memory = match state.layers.pop() {
            Some(layer) => layer.keys,
            None => Tensor::zeros(room, &input.embedded.device()),
        };
        let place = [0..batch, 0..1, state.len..state.len + n, 0..width];
        let memory = memory.slice_assign(place, input.embedded.unsqueeze_dim(1));
        let rows = (state.len..state.len + n).map(|at| {
            let seen = memory.clone().narrow(2, 0, at + 1);
            seen.mean_dim(2).reshape([batch, 1, width]) * 3.0
        });
        let hidden = Tensor::cat(rows.collect(), 1);
        state.layers.push(LayerState {
            keys: memory.clone(),
            values: memory,
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
        Some(StepInput {
            coords: Tensor::zeros([n, 1], &embedded.device()),
            embedded,
            attend: Attend::Causal,
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
        let embedded = match unit.index {
            0 => Tensor::ones([so_far.batch(), 1, WIDTH], &device),
            at => embedded(so_far.at_depth(0).narrow(1, at - 1, 1)),
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
        let out: Tensor<2> = formula([WIDTH, IDS], 6, 2.0, &hidden.device());
        let picked = sampler.pick(hidden.matmul(out.unsqueeze()), unit)?;
        Ok(picked.unsqueeze_dim(1))
    }
}

/// `[batch, n]` ids as vectors.
fn embedded(ids: Tensor<2, Int>) -> Tensor<3> {
    let [batch, n] = ids.dims();
    let table: Tensor<2> = formula([IDS, WIDTH], 5, 2.0, &ids.device());
    table
        .select(0, ids.flatten::<1>(0, 1))
        .reshape([batch, n, WIDTH])
}

fn prefix(ids: &[u32]) -> Condition {
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let ids = Tensor::<1, Int>::from_data(&ids[..], &device());
    Condition {
        prefix: Some(embedded(ids.unsqueeze())),
        ..Condition::default()
    }
}

/// A text: what stands in front, how many ids are wanted, which id ends it.
#[derive(Clone)]
struct Text {
    prompt: Vec<u32>,
    want: usize,
    end: u32,
}

fn texts() -> Vec<Text> {
    let shared: Vec<u32> = (0..9).map(|at| at * 5 % 12).collect();
    let text = |more: &[u32], want, end| Text {
        prompt: [&shared[..], more].concat(),
        want,
        end,
    };
    vec![
        text(&[1, 2], 9, 4),
        text(&[], 3, 99),
        text(&[1, 2, 3], 12, 7),
        Text {
            prompt: vec![7, 3],
            want: 6,
            end: 1,
        },
        text(&[1, 2], 9, 4),
        text(&[8; 10], 20, 99),
    ]
}

fn start(text: &Text) -> Start {
    Start {
        condition: prefix(&text.prompt),
        prompt: Codes {
            ids: Tensor::zeros([1, 1, 0], &device()),
            layout: Layout::Sequence { len: text.want },
        },
    }
}

fn sampler(row: u64, len: usize) -> Box<dyn Sampler> {
    let config = SamplerConfig {
        temperature: 0.9,
        ..SamplerConfig::default()
    };
    config.build(Seed::new(5), &[row], len)
}

fn generator() -> Generator<'static> {
    Generator {
        backbone: &Mean,
        head: &Table,
        pyramid: None,
    }
}

fn last(codes: &Codes) -> u32 {
    *codes.to_host()[0].last().unwrap()
}

/// A text by itself.
fn alone(text: &Text, row: u64) -> Vec<u32> {
    let layout = Layout::Sequence { len: text.want };
    let mut sampler = sampler(row, text.want);
    let mut watch = |_: &Unit, codes: &Codes| match last(codes) == text.end {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let codes = OneByOne
        .decode(
            &generator(),
            start(text),
            &layout,
            &mut *sampler,
            &mut watch,
        )
        .unwrap();
    codes.to_host().remove(0)
}

fn together(texts: &[Text], how: SideBySide) -> (Vec<Vec<u32>>, Effort) {
    let mut samplers: Vec<Box<dyn Sampler>> = (texts.iter().enumerate())
        .map(|(row, text)| sampler(row as u64, text.want))
        .collect();
    let lanes = texts.iter().zip(&mut samplers);
    let lanes = lanes.map(|(text, sampler)| Lane {
        start: start(text),
        want: Layout::Sequence { len: text.want },
        sampler: &mut **sampler,
        prefix: text.prompt.clone(),
    });
    let mut watch = |lane: usize, _: &Unit, codes: &Codes| match last(codes) == texts[lane].end {
        true => Heard::Done,
        false => Heard::On,
    };
    let (codes, effort) = how.run(&generator(), lanes.collect(), &mut watch).unwrap();
    let rows = codes.iter().map(|codes| codes.to_host().remove(0));
    (rows.collect(), effort)
}

#[test]
fn each_is_what_it_is_by_itself_and_what_ended_is_not_computed() {
    let texts = texts();
    let expected: Vec<Vec<u32>> = (texts.iter().zip(0..))
        .map(|(text, row)| alone(text, row))
        .collect();
    let units: usize = expected.iter().map(Vec::len).sum();
    assert!(
        expected
            .iter()
            .zip(&texts)
            .any(|(ids, text)| ids.len() < text.want)
    );
    for lanes in [1, 2, 4, 9] {
        for cut in [None, Some(3), Some(4), Some(64)] {
            for room in [1, 16, 512] {
                let how = SideBySide {
                    lanes,
                    room,
                    cut,
                    beginnings: 2,
                };
                let (found, effort) = together(&texts, how);
                assert_eq!(found, expected, "{how:?}");
                assert_eq!(effort.units, units, "{how:?}");
                let prompts: usize = texts.iter().map(|text| text.prompt.len()).sum();
                assert_eq!(effort.read + effort.remembered, prompts, "{how:?}");
                let longest = expected.iter().map(Vec::len).max().unwrap();
                assert!(
                    effort.steps >= longest.max(units.div_ceil(lanes)),
                    "{how:?}"
                );
            }
        }
    }
}

#[test]
fn what_prompts_begin_with_is_read_once() {
    let texts = texts();
    let how = |lanes, cut| SideBySide {
        lanes,
        cut,
        ..SideBySide::default()
    };
    for lanes in [1, 9] {
        let effort = together(&texts, how(lanes, Some(3))).1;
        // Nine positions are shared by five of six, of which the first reads them; the same prompt again has eleven, nine of them
        // up to a cut.
        assert_eq!(effort.remembered, 4 * 9, "{lanes}");
        assert_eq!(together(&texts, how(lanes, None)).1.remembered, 0);
    }
    // All in one pass where no one waits for another: the longest prompt takes two cuts of 16.
    let packed = together(&texts, how(9, Some(16))).1;
    assert_eq!((packed.passes, packed.remembered), (2, 0));
    let alone = together(&texts, how(1, Some(16))).1;
    assert_eq!(alone.passes, 7);
}

#[test]
fn everything_can_be_stopped() {
    let texts = texts();
    let mut samplers: Vec<Box<dyn Sampler>> =
        texts.iter().map(|text| sampler(0, text.want)).collect();
    let lanes = texts.iter().zip(&mut samplers);
    let lanes = lanes.map(|(text, sampler)| Lane {
        start: start(text),
        want: Layout::Sequence { len: text.want },
        sampler: &mut **sampler,
        prefix: Vec::new(),
    });
    let how = SideBySide {
        lanes: 2,
        ..SideBySide::default()
    };
    let mut heard = 0;
    let mut watch = |_: usize, _: &Unit, _: &Codes| {
        heard += 1;
        if heard < 4 { Heard::On } else { Heard::Stop }
    };
    let (codes, effort) = how.run(&generator(), lanes.collect(), &mut watch).unwrap();
    let filled: Vec<usize> = codes.iter().map(Codes::filled).collect();
    assert_eq!(filled, [2, 2, 0, 0, 0, 0]);
    assert_eq!(effort.steps, 2);
}

#[test]
fn given_codes_are_read_and_not_chosen_again() {
    let text = &texts()[0];
    let whole = alone(text, 0);
    let given = whole.len() / 2;
    let mut begun = start(text);
    let ids: Vec<i32> = whole[..given].iter().map(|&id| id as i32).collect();
    begun.prompt.ids = Tensor::<1, Int>::from_data(&ids[..], &device()).reshape([1, 1, given]);
    let mut sampler = sampler(0, text.want);
    let lane = Lane {
        start: begun,
        want: Layout::Sequence { len: text.want },
        sampler: &mut *sampler,
        prefix: text.prompt.clone(),
    };
    let mut heard = 0;
    let mut watch = |_: usize, _: &Unit, codes: &Codes| {
        heard += 1;
        match last(codes) == text.end {
            true => Heard::Done,
            false => Heard::On,
        }
    };
    let how = SideBySide::default();
    let (codes, _) = how.run(&generator(), vec![lane], &mut watch).unwrap();
    assert_eq!(codes[0].to_host()[0], whole);
    assert_eq!(heard, whole.len() - given);
}
