//! What must hold for every stream of frames: steps with memory equal one full pass, however the window rolls; memory stays bounded.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Int, Tensor};
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{Condition, FrameHead, Result, Sampler, Seed, Unit};
use ravel_decode::{FillingConfig, FrameStream, SamplerConfig};
use ravel_heads::{FarConfig, NextFrame, NextFrameConfig};
use ravel_nn::{QueryKeyNorm, RotaryConfig};
use ravel_testkit::{assert_close, device, formula, values};

/// Sums of the same products in another order, and keys that were turned once per frame.
const ROUNDING: f32 = 1e-4;
const GRID: (usize, usize) = (4, 4);
const FEATURES: usize = 6;
const IDS: usize = 11;

fn filled<M: Module>(module: M) -> M {
    struct Fill(u32);
    impl ModuleMapper for Fill {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += 1;
            let scale = if D == 1 { 1.0 } else { 0.3 };
            param.map(|old| formula(old.dims(), self.0, scale, &old.device()))
        }
    }
    module.map(&mut Fill(100))
}

fn model(
    window: usize,
    far: Option<FarConfig>,
    decay: f64,
    device: &Device,
) -> (Transformer, NextFrame) {
    let backbone = TransformerConfig {
        layers: 2,
        d_model: 24,
        n_heads: 2,
        qk_norm: QueryKeyNorm::Rms,
        rotary: Some(RotaryConfig {
            axes: 3,
            base: 50.0,
            ..RotaryConfig::default()
        }),
        ..TransformerConfig::default()
    };
    let head = NextFrameConfig {
        codebook_size: IDS,
        feature_width: FEATURES,
        window,
        far,
        decay,
    };
    (
        filled(backbone.init(device)),
        filled(head.init(24, GRID, device)),
    )
}

/// Takes the largest scores and keeps all of them.
#[derive(Default)]
struct Recorder(Vec<Tensor<3>>);

impl Sampler for Recorder {
    fn pick(&mut self, logits: Tensor<3>, _unit: &Unit) -> Result<Tensor<2, Int>> {
        self.0.push(logits.clone());
        Ok(logits.argmax(2).squeeze_dim(2))
    }
}

fn features(rows: usize, frames: usize) -> Tensor<3> {
    formula(
        [rows, frames * GRID.0 * GRID.1, FEATURES],
        4,
        1.0,
        &device(),
    )
}

fn of_frame(all: &Tensor<3>, frame: usize) -> Tensor<3> {
    let n = GRID.0 * GRID.1;
    all.clone().narrow(1, frame * n, n)
}

const ONE_PASS: FillingConfig = FillingConfig::Refined { steps: 1 };

/// Scores of every frame, step by step.
fn stepped(
    model: &(Transformer, NextFrame),
    all: &Tensor<3>,
    frames: usize,
    condition: &Condition,
) -> Vec<Tensor<3>> {
    let rows = all.dims()[0];
    let mut stream = FrameStream::new(&model.0, &model.1, condition.clone(), rows);
    let mut scores = Recorder::default();
    for frame in 0..frames {
        let ids = stream.predict(of_frame(all, frame), &ONE_PASS, &mut scores);
        assert_eq!(ids.expect("finite scores").dims(), [rows, 16]);
    }
    scores.0
}

fn check_full_pass(window: usize, far: Option<FarConfig>, decay: f64, frames: usize, lead: usize) {
    let device = device();
    let model = model(window, far, decay, &device);
    let all = features(2, frames);
    let condition = Condition {
        prefix: (lead > 0).then(|| formula([2, lead, 24], 8, 1.0, &device)),
        ..Condition::default()
    };
    let none = Tensor::full([2, frames * 16], -1, &device);
    let input = model.1.inputs(all.clone(), none, &condition);
    let hidden = model.0.forward(input, &condition);
    let full = model.1.logits_of(hidden, frames);
    for (frame, found) in stepped(&model, &all, frames, &condition).iter().enumerate() {
        let expected = full.clone().narrow(1, frame * 16, 16);
        let name = format!("window {window}, decay {decay}, frame {frame}");
        assert_close(&name, found, &expected, ROUNDING);
    }
}

#[test]
fn steps_equal_a_full_pass_within_the_window_and_beyond() {
    check_full_pass(4, None, 0.0, 4, 0);
    check_full_pass(3, None, 0.0, 9, 0);
    check_full_pass(1, None, 0.0, 3, 0);
    check_full_pass(3, None, 0.3, 8, 0);
}

#[test]
fn steps_equal_a_full_pass_with_a_prompt() {
    check_full_pass(4, None, 0.0, 4, 3);
    check_full_pass(4, None, 0.2, 4, 2);
}

#[test]
fn frames_that_left_the_window_are_remembered_by_fewer_positions() {
    let far = |pool| Some(FarConfig { frames: 8, pool });
    check_full_pass(2, far(2), 0.0, 7, 0);
    check_full_pass(3, far(4), 0.25, 8, 0);
    // They matter: scores differ where fewer of them are remembered.
    let device = device();
    let all = features(1, 6);
    let with = stepped(
        &model(2, far(2), 0.0, &device),
        &all,
        6,
        &Condition::default(),
    );
    let one = Some(FarConfig { frames: 1, pool: 2 });
    let without = stepped(&model(2, one, 0.0, &device), &all, 6, &Condition::default());
    let apart = |frame: usize| {
        let difference = with[frame].clone() - without[frame].clone();
        values(&difference.abs().max())[0]
    };
    assert!(
        apart(1) < 1e-6 && apart(5) > 1e-3,
        "{} {}",
        apart(1),
        apart(5)
    );
}

#[test]
fn what_is_remembered_is_bounded_however_long_the_video_is() {
    let device = device();
    for (far, most) in [
        (None, 3 * 16),
        (Some(FarConfig { frames: 2, pool: 2 }), 3 * 16 + 2 * 4),
    ] {
        let model = model(3, far, 0.1, &device);
        let mut stream = FrameStream::new(&model.0, &model.1, Condition::default(), 1);
        let mut scores = Recorder::default();
        for _ in 0..40 {
            let ids = stream.predict(features(1, 1), &ONE_PASS, &mut scores);
            ids.expect("finite scores");
            assert!(stream.remembered() <= most);
        }
        assert_eq!((stream.remembered(), stream.frames()), (most, 40));
        // The same frame again and again: what is seen no longer changes, so neither do the scores.
        let [.., before, last] = &scores.0[..] else {
            unreachable!("forty frames")
        };
        assert_close("settled", last, before, ROUNDING);
    }
}

#[test]
fn decay_makes_far_frames_matter_less() {
    let device = device();
    let (one, mut other) = (features(1, 3), features(1, 3));
    other = Tensor::cat(
        vec![
            other.clone().narrow(1, 0, 16) * -1.0,
            other.narrow(1, 16, 32),
        ],
        1,
    );
    let apart = |decay: f64| {
        let model = model(3, None, decay, &device);
        let last = |all: &Tensor<3>| stepped(&model, all, 3, &Condition::default()).remove(2);
        values(&(last(&one) - last(&other)).abs().max())[0]
    };
    assert!(
        apart(20.0) < 1e-4 && apart(0.0) > 1e-2,
        "{} {}",
        apart(20.0),
        apart(0.0)
    );
}

#[test]
fn rows_do_not_see_each_other() {
    let model = model(2, None, 0.0, &device());
    let all = features(2, 4);
    let both = stepped(&model, &all, 4, &Condition::default());
    let second = stepped(&model, &all.narrow(0, 1, 1), 4, &Condition::default());
    for (both, second) in both.iter().zip(&second) {
        assert_close("row", &both.clone().narrow(0, 1, 1), second, ROUNDING);
    }
}

#[test]
fn rows_that_need_fewer_passes_than_others_go_on_as_they_would_alone() {
    let model = model(3, None, 0.0, &device());
    let filling = FillingConfig::Bounded {
        entropy: 9.0,
        most: 12,
    };
    let all = features(4, 5);
    let ids = |rows: std::ops::Range<usize>| {
        let own: Vec<u64> = rows.clone().map(|row| row as u64).collect();
        let mut sampler = SamplerConfig::default().build(Seed::new(3), &own, 5);
        let mut stream = FrameStream::new(&model.0, &model.1, Condition::default(), own.len());
        let all = all.clone().narrow(0, rows.start, own.len());
        let frames = (0..5).map(|frame| {
            let ids = stream.predict(of_frame(&all, frame), &filling, &mut *sampler);
            let ids = ids.expect("finite scores").into_data().convert::<i32>();
            ids.try_into_vec::<i32>().expect("converted")
        });
        frames.collect::<Vec<_>>()
    };
    let together = ids(0..4);
    for row in 0..4 {
        for (together, alone) in together.iter().zip(ids(row..row + 1)) {
            assert_eq!(together[row * 16..(row + 1) * 16], alone, "row {row}");
        }
    }
}

#[test]
fn passes_leave_no_trace_but_the_last_one() {
    let device = device();
    let model = model(3, None, 0.0, &device);
    for filling in [
        FillingConfig::Refined { steps: 5 },
        FillingConfig::Bounded {
            entropy: 0.0,
            most: 6,
        },
        FillingConfig::OneByOne {},
    ] {
        let mut stream = FrameStream::new(&model.0, &model.1, Condition::default(), 1);
        let mut scores = Recorder::default();
        let ids = stream.predict(features(1, 1), &filling, &mut scores);
        let ids = ids.expect("finite scores").into_data().convert::<i32>();
        let ids: Vec<i32> = ids.try_into_vec().expect("converted");
        assert!(ids.iter().all(|&id| (0..IDS as i32).contains(&id)));
        assert_eq!(stream.remembered(), 16);
        let passes = match filling {
            FillingConfig::OneByOne {} => 16,
            FillingConfig::Refined { steps } => steps,
            FillingConfig::Bounded { most, .. } => most,
        };
        assert_eq!(scores.0.len(), passes);
        // A later pass is shown what earlier ones chose.
        let difference = scores.0[passes - 1].clone() - scores.0[0].clone();
        assert!(values(&difference.abs().max())[0] > 1e-3);
    }
    assert_eq!(model.1.window(), 3);
}
