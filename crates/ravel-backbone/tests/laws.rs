//! What holds for every variant: steps with memory equal one full pass, rows do not touch each other, and
//! what was truncated leaves no trace.

mod common;

use burn::tensor::{Int, Tensor};
use common::filled;
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{Attend, Backbone, Condition, Step, StepInput};
use ravel_nn::{Activation, NormKind, Pairs, QueryKeyNorm, RelativeConfig, RotaryConfig};
use ravel_testkit::{assert_close, device, formula, formula_ids, largest_difference};

/// Sums of the same products in another order: a few rounding steps of numbers about 1.
const ROUNDING: f32 = 2e-5;

fn tiny() -> TransformerConfig {
    TransformerConfig {
        layers: 2,
        d_model: 24,
        n_heads: 4,
        ..TransformerConfig::default()
    }
}

fn rotary(axes: usize, pairs: Pairs) -> Option<RotaryConfig> {
    Some(RotaryConfig {
        axes,
        pairs,
        base: 50.0,
        ..RotaryConfig::default()
    })
}

/// One of each kind of variant, several at a time.
fn variants() -> Vec<(&'static str, TransformerConfig)> {
    vec![
        ("plain", tiny()),
        (
            "gpt-2",
            TransformerConfig {
                norm: NormKind::Layer,
                activation: Activation::GeluTanh,
                bias: true,
                learned_positions: Some(32),
                ..tiny()
            },
        ),
        (
            "llama",
            TransformerConfig {
                n_kv_heads: Some(2),
                head_width: Some(8),
                activation: Activation::Silu,
                gated: true,
                d_ff: Some(40),
                rotary: rotary(1, Pairs::HalfSplit),
                ..tiny()
            },
        ),
        (
            "two axes, query and key norm",
            TransformerConfig {
                n_kv_heads: Some(1),
                head_width: Some(12),
                qk_norm: QueryKeyNorm::Rms,
                rotary: rotary(2, Pairs::Interleaved),
                ..tiny()
            },
        ),
        (
            "three axes, cross-attention",
            TransformerConfig {
                rotary: rotary(3, Pairs::HalfSplit),
                cross_attention: Some(10),
                ..tiny()
            },
        ),
        (
            "sinusoidal, heads of its own beside",
            TransformerConfig {
                norm: NormKind::Layer,
                sinusoidal_positions: true,
                cross_attention: Some(10),
                cross_heads: Some(2),
                cross_kv_heads: Some(1),
                cross_head_width: Some(8),
                bias: true,
                feed_forward_bias: Some(false),
                ..tiny()
            },
        ),
        (
            "rounded rotary table",
            TransformerConfig {
                rotary: Some(RotaryConfig {
                    pairs: Pairs::Interleaved,
                    bf16_table: true,
                    ..RotaryConfig::default()
                }),
                ..tiny()
            },
        ),
        (
            "modulated, cosine attention",
            TransformerConfig {
                norm: NormKind::LayerPlain,
                qk_norm: QueryKeyNorm::Cosine,
                activation: Activation::Gelu,
                modulation: Some(14),
                bias: true,
                ..tiny()
            },
        ),
        (
            "scores by distance",
            TransformerConfig {
                relative: Some(RelativeConfig {
                    buckets: 6,
                    farthest: 9,
                    both_ways: true,
                }),
                attention_scale: Some(1.0),
                ..tiny()
            },
        ),
        (
            "shared modulation",
            TransformerConfig {
                norm: NormKind::LayerPlain,
                modulation: Some(14),
                shared_modulation: true,
                ..tiny()
            },
        ),
        (
            "window",
            TransformerConfig {
                rotary: rotary(1, Pairs::HalfSplit),
                window: Some(3),
                ..tiny()
            },
        ),
        (
            "window in one of two layers, attention scaled by layer",
            TransformerConfig {
                rotary: rotary(1, Pairs::HalfSplit),
                window: Some(3),
                full_layers: vec![1],
                attention_scale_by_layer: true,
                bias: true,
                feed_forward_bias: Some(false),
                ..tiny()
            },
        ),
    ]
}

struct Case {
    model: Transformer,
    embedded: Tensor<3>,
    coords: Tensor<2, Int>,
    condition: Condition,
}

const LEN: usize = 12;

fn case(config: &TransformerConfig, batch: usize) -> Case {
    let device = device();
    let cross = |width| formula([batch, 5, width], 2, 1.0, &device);
    let modulation = |width| formula([batch, width], 3, 1.0, &device);
    Case {
        model: filled(config.init(&device)),
        embedded: formula([batch, LEN, config.d_model], 1, 1.0, &device),
        coords: formula_ids([LEN, config.axes()], 4, 9, &device),
        condition: Condition {
            cross: config.cross_attention.map(cross),
            cross_hidden: None,
            modulation: config.modulation.map(modulation),
            ..Condition::default()
        },
    }
}

impl Case {
    fn input(&self, start: usize, len: usize, attend: Attend) -> StepInput {
        StepInput {
            embedded: self.embedded.clone().narrow(1, start, len),
            coords: self.coords.clone().narrow(0, start, len),
            attend,
        }
    }

    fn whole(&self, runs: &[usize]) -> Tensor<3> {
        let input = self.input(0, LEN, Attend::Blocks(runs.to_vec()));
        self.model.forward(input, &self.condition)
    }

    /// The same runs, one step each.
    fn stepped(&self, runs: &[usize]) -> Tensor<3> {
        let mut state = self.model.start(self.embedded.dims()[0], LEN + 3);
        let mut parts = Vec::new();
        for &run in runs {
            let input = self.input(state.len, run, Attend::Unit);
            parts.push(self.model.step(input, &self.condition, &mut state));
        }
        assert_eq!(state.len, LEN);
        Tensor::cat(parts, 1)
    }

    fn row(&self, row: usize) -> Self {
        let of = |x: &Tensor<3>| x.clone().narrow(0, row, 1);
        Self {
            model: self.model.clone(),
            embedded: of(&self.embedded),
            coords: self.coords.clone(),
            condition: Condition {
                cross: self.condition.cross.as_ref().map(of),
                cross_hidden: None,
                modulation: self
                    .condition
                    .modulation
                    .as_ref()
                    .map(|m| m.clone().narrow(0, row, 1)),
                ..Condition::default()
            },
        }
    }
}

fn runs() -> [(&'static str, Vec<usize>); 4] {
    [
        ("causal", vec![1; LEN]),
        ("prefix", [vec![5], vec![1; LEN - 5]].concat()),
        ("scales", vec![1, 4, 7]),
        ("one run", vec![LEN]),
    ]
}

#[test]
fn steps_with_memory_equal_one_full_pass() {
    for (name, config) in variants() {
        let case = case(&config, 2);
        for (kind, runs) in runs() {
            let what = format!("{name}, {kind}");
            assert_close(&what, &case.stepped(&runs), &case.whole(&runs), ROUNDING);
        }
    }
}

#[test]
fn several_runs_in_one_step_equal_several_steps() {
    for (name, config) in variants() {
        let case = case(&config, 1);
        let mut state = case.model.start(1, LEN);
        let first = case.input(0, 5, Attend::Blocks(vec![3, 1, 1]));
        let second = case.input(5, LEN - 5, Attend::Causal);
        let parts = [first, second]
            .map(|input| case.model.step(input, &case.condition, &mut state))
            .to_vec();
        let expected = case.stepped(&[vec![3], vec![1; LEN - 3]].concat());
        assert_close(name, &Tensor::cat(parts, 1), &expected, ROUNDING);
    }
}

#[test]
fn rows_do_not_touch_each_other() {
    for (name, config) in variants() {
        let both = case(&config, 2);
        for (kind, runs) in runs() {
            let alone = [0, 1].map(|row| both.row(row).stepped(&runs)).to_vec();
            let what = format!("{name}, {kind}");
            assert_close(
                &what,
                &both.stepped(&runs),
                &Tensor::cat(alone, 0),
                ROUNDING,
            );
        }
    }
}

/// One of several generations: its rows, positions and runs of each step.
type Generation = (usize, Vec<Vec<usize>>);

/// Prompts of several lengths, some read whole and some in pieces, beside steps of one position.
fn generations() -> Vec<Generation> {
    vec![
        (1, vec![vec![1; 7], vec![1], vec![1]]),
        (2, vec![vec![1], vec![1], vec![1; 3]]),
        (1, vec![vec![4, 1], vec![1; 4], vec![2]]),
        (3, vec![vec![1; 2], vec![3, 1, 1], vec![1]]),
    ]
}

#[test]
fn steps_of_several_generations_together_are_those_of_each() {
    for (name, config) in variants() {
        let cases: Vec<Case> = (generations().iter())
            .map(|(rows, _)| case(&config, *rows))
            .collect();
        let model = &cases[0].model;
        let start = || {
            generations()
                .into_iter()
                .map(|(rows, _)| model.start(rows, LEN))
        };
        let (mut together, mut alone): (Vec<_>, Vec<_>) = (start().collect(), start().collect());
        for step in 0..3 {
            let input = |at: usize, len: usize| {
                let runs = generations()[at].1[step].clone();
                cases[at].input(len, runs.iter().sum(), Attend::Blocks(runs))
            };
            let expected: Vec<Tensor<3>> = (alone.iter_mut().enumerate())
                .map(|(at, state)| model.step(input(at, state.len), &cases[at].condition, state))
                .collect();
            let steps = together.iter_mut().enumerate().map(|(at, state)| Step {
                input: input(at, state.len),
                condition: &cases[at].condition,
                state,
            });
            let found = model.step_each(steps.collect());
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.dims(), expected.dims());
                // Every number is one sum in a fixed order, whatever stands beside it.
                assert_eq!(
                    largest_difference(found, expected),
                    0.0,
                    "{name}, step {step}"
                );
            }
        }
        for (together, alone) in together.iter().zip(&alone) {
            assert_eq!(together.len, alone.len);
        }
    }
}

#[test]
fn a_beginning_that_was_copied_goes_on_as_the_whole() {
    for (name, config) in variants() {
        let case = case(&config, 2);
        let mut whole = case.model.start(2, LEN);
        let first = case.input(0, 7, Attend::Causal);
        case.model.step(first, &case.condition, &mut whole);
        let mut copy = whole.beginning(5, LEN + 3);
        assert_eq!((copy.len, copy.capacity), (5, LEN + 3));
        whole.truncate(5);
        let go = |state: &mut _| {
            let rest = case.input(5, LEN - 5, Attend::Causal);
            case.model.step(rest, &case.condition, state)
        };
        let (copied, expected) = (go(&mut copy), go(&mut whole));
        assert_eq!(largest_difference(&copied, &expected), 0.0, "{name}");
    }
}

#[test]
fn what_was_truncated_leaves_no_trace() {
    for (name, config) in variants() {
        let case = case(&config, 1);
        let step = |state: &mut _, start, len| {
            let input = case.input(start, len, Attend::Causal);
            case.model.step(input, &case.condition, state)
        };
        let mut state = case.model.start(1, LEN);
        step(&mut state, 0, 4);
        // A draft that is taken back: the last positions of the sequence, at the wrong place.
        step(&mut state, 7, 5);
        state.truncate(4);
        let continued = step(&mut state, 4, 8);
        let mut fresh = case.model.start(1, LEN);
        step(&mut fresh, 0, 4);
        let expected = step(&mut fresh, 4, 8);
        assert_eq!(largest_difference(&continued, &expected), 0.0, "{name}");
    }
}

#[test]
fn a_window_forgets_and_nothing_else_does() {
    let mut config = tiny();
    let far = |config: &TransformerConfig| {
        let mut case = case(config, 1);
        let before = case.whole(&[1; LEN]);
        // Two layers that each look back two positions see four back, not five.
        let changed = formula([1, 1, 24], 9, 1.0, &device());
        case.embedded = case.embedded.slice_assign([0..1, 0..1, 0..24], changed);
        let after = case.whole(&[1; LEN]);
        let at = |position| {
            let row = |x: &Tensor<3>| x.clone().narrow(1, position, 1);
            largest_difference(&row(&before), &row(&after))
        };
        (at(4), at(5))
    };
    let (near, gone) = far(&config);
    assert!(near > 0.0 && gone > 0.0);
    config.window = Some(3);
    let (near, gone) = far(&config);
    assert!(near > 0.0);
    assert_eq!(gone, 0.0);
    config.full_layers = vec![1];
    let (_, seen) = far(&config);
    assert!(seen > 0.0, "a layer without a window sees everything");
}

#[test]
fn hidden_positions_change_nothing() {
    let config = TransformerConfig {
        rotary: rotary(1, Pairs::HalfSplit),
        ..tiny()
    };
    let case = case(&config, 2);
    let run = |padded: bool| {
        let mut state = case.model.start(2, LEN + 2);
        if padded {
            let hidden = Tensor::<2, Int>::from_data([[1, 1], [1, 1]], &device()).bool();
            state.hidden = Some(hidden);
            let padding = case.input(9, 2, Attend::Causal);
            case.model.step(padding, &case.condition, &mut state);
        }
        let first = case.input(0, 4, Attend::Unit);
        case.model.step(first, &case.condition, &mut state);
        let second = case.input(4, 1, Attend::Unit);
        case.model.step(second, &case.condition, &mut state)
    };
    assert_close("padding", &run(true), &run(false), ROUNDING);
}

/// The same with padding that the condition marks, in one pass: what padding holds changes nothing but padding, and where
/// padding sees itself, nothing but its own place.
#[test]
fn padding_in_the_prefix_is_seen_by_itself_at_most() {
    for sees_itself in [false, true] {
        let config = TransformerConfig {
            padding_sees_itself: sees_itself,
            ..tiny()
        };
        let mut case = case(&config, 1);
        let marks = Tensor::<2, Int>::from_data([[1, 1, 0]], &device()).bool();
        case.condition.prefix_hidden = Some(marks);
        let before = case.whole(&[1; LEN]);
        let shown = |x: Tensor<3>| x.narrow(1, 2, LEN - 2);
        let stepped = shown(case.stepped(&[1; LEN]));
        assert_close("steps", &stepped, &shown(before.clone()), ROUNDING);
        let states = case
            .model
            .hidden_states(case.input(0, LEN, Attend::Causal), &case.condition);
        assert_eq!(states.len(), config.layers + 2);
        let changed = formula([1, 1, 24], 9, 1.0, &device());
        case.embedded = case.embedded.slice_assign([0..1, 1..2, 0..24], changed);
        let after = case.whole(&[1; LEN]);
        let far = |start, len| {
            let part = |x: &Tensor<3>| x.clone().narrow(1, start, len);
            largest_difference(&part(&before), &part(&after))
        };
        assert!(far(1, 1) > 0.0);
        assert_eq!(far(2, LEN - 2), 0.0);
        if sees_itself {
            assert_eq!(far(0, 1), 0.0);
        }
    }
}

#[test]
fn padding_beside_the_sequence_changes_nothing() {
    let config = TransformerConfig {
        cross_attention: Some(10),
        rotary: rotary(1, Pairs::HalfSplit),
        ..tiny()
    };
    let short = case(&config, 2);
    let mut long = case(&config, 2);
    let padding = formula([2, 3, 10], 12, 1.0, &device());
    let cross = short.condition.cross.clone().expect("cross-attention");
    long.condition.cross = Some(Tensor::cat(vec![cross, padding], 1));
    let marks = [[0, 0, 0, 0, 0, 1, 1, 1]; 2];
    let hidden = Tensor::<2, Int>::from_data(marks, &device()).bool();
    long.condition.cross_hidden = Some(hidden);
    let expected = short.stepped(&[1; LEN]);
    assert_close("steps", &long.stepped(&[1; LEN]), &expected, ROUNDING);
    assert_close("whole", &long.whole(&[1; LEN]), &expected, ROUNDING);
}

#[test]
fn gradients_reach_every_weight() {
    let device = device().autodiff();
    for (name, config) in variants() {
        let config = TransformerConfig {
            dropout: 0.1,
            ..config
        };
        let model = filled(config.init(&device));
        let plain = case(&config, 2);
        let lift = |x: Tensor<3>| Tensor::<3>::from_inner(x);
        let input = StepInput {
            embedded: lift(plain.embedded),
            coords: Tensor::from_inner(plain.coords),
            attend: Attend::Blocks(vec![1, 4, 7]),
        };
        let condition = Condition {
            cross: plain.condition.cross.map(lift),
            cross_hidden: None,
            modulation: plain.condition.modulation.map(Tensor::from_inner),
            ..Condition::default()
        };
        let out = model.forward(input, &condition);
        let grads = (out.clone() * out).sum().backward();
        let first = &model.blocks[0];
        let weights = [
            &first.attention.qkv.weight,
            &first.attention.out.weight,
            &first.feed_forward.up.weight,
            &first.feed_forward.down.weight,
        ];
        for weight in weights {
            let grad = weight.val().grad(&grads).expect(name);
            let size = ravel_testkit::values(&grad.abs().max())[0];
            assert!(size.is_finite() && size > 0.0, "{name}: {size}");
        }
    }
}

#[test]
fn half_precision_stays_near() {
    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::FloatDType;
    struct Halve;
    impl ModuleMapper for Halve {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|weight| weight.cast(FloatDType::F16))
        }
    }
    let half = |x: Tensor<3>| x.cast(FloatDType::F16);
    for (name, config) in variants() {
        let full = case(&config, 1);
        let mut case = case(&config, 1);
        case.model = case.model.map(&mut Halve);
        case.embedded = half(case.embedded);
        case.condition.cross = case.condition.cross.map(half);
        let to_half = |x: Tensor<2>| x.cast(FloatDType::F16);
        case.condition.modulation = case.condition.modulation.map(to_half);
        let runs = [vec![5], vec![1; LEN - 5]].concat();
        let expected = full.stepped(&runs);
        for found in [case.stepped(&runs), case.whole(&runs)] {
            let found = found.cast(FloatDType::F32);
            // Eleven bits, a few dozen roundings, hidden states up to about 5.
            assert_close(name, &found, &expected, 0.1);
        }
    }
}

#[test]
#[should_panic(expected = "position axis")]
fn a_full_memory_is_not_written_beyond() {
    let case = case(&tiny(), 1);
    let mut state = case.model.start(1, 4);
    let input = case.input(0, 5, Attend::Unit);
    case.model.step(input, &case.condition, &mut state);
}
