//! What holds for models that speak, whatever they have beside text, sequence model and head: the pass that trains prefers what steps choose,
//! and rows of a batch do not touch each other.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Int, Tensor};
use ravel_backbone::TransformerConfig;
use ravel_core::{Codes, Condition, Decoding, Generator, Layout, Seed, Start};
use ravel_decode::{OneByOne, SamplerConfig};
use ravel_heads::{
    Arrangement, DepthConfig, DepthProjection, NextTokensConfig, Predicts, ReferenceConfig, Timed,
};
use ravel_pipeline::{
    DepthPart, DurationsConfig, Prompt, SpeechModel, SpeechPart, SpeechShape, SpeechText,
};
use ravel_testkit::{assert_close, device, formula, formula_ids, ids};

const DEPTH: usize = 3;
const CODES: usize = 11;
const FRAMES: usize = 6;

struct Fill(u32);

impl ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        let scale = if D == 1 { 1.0 } else { 0.3 };
        param.map(|old| formula(old.dims(), self.0, scale, &old.device()))
    }
}

fn text() -> SpeechText {
    SpeechText::new(vec!["ann".into(), "bob".into()], vec!["slow".into()], 20)
}

fn transformer(d_model: usize) -> TransformerConfig {
    TransformerConfig {
        layers: 2,
        d_model,
        n_heads: 2,
        d_ff: Some(2 * d_model),
        padding_sees_itself: true,
        ..toml::from_str("[rotary]\naxes = 1").unwrap()
    }
}

fn head(arrangement: Arrangement, pace: Option<usize>) -> NextTokensConfig {
    NextTokensConfig {
        depth: DEPTH,
        codebook_size: CODES + 2,
        scored_ids: Some(CODES + 1),
        arrangement,
        causal_prefix: false,
        pace,
        ..NextTokensConfig::default()
    }
}

fn durations() -> DurationsConfig {
    DurationsConfig {
        most: 4,
        backbone: transformer(16),
    }
}

/// Every arrangement, with and without what may stand beside it.
fn models() -> Vec<(&'static str, NextTokensConfig, SpeechPart)> {
    let delayed = Arrangement::Delayed {
        steps: vec![0, 1, 2],
        before: CODES + 1,
        after: CODES,
    };
    let voices = SpeechPart {
        reference: Some(ReferenceConfig {
            code_width: 6,
            width: 10,
        }),
        ..SpeechPart::default()
    };
    let all = SpeechPart {
        durations: Some(durations()),
        ..voices.clone()
    };
    let depth = DepthPart {
        head: DepthConfig {
            depth: DEPTH,
            codebook_size: CODES + 2,
            projection: DepthProjection::Hidden,
            ..DepthConfig::default()
        },
        backbone: transformer(12),
    };
    let first = NextTokensConfig {
        predicts: Predicts::First,
        ..head(Arrangement::Parallel {}, Some(2))
    };
    vec![
        (
            "delayed",
            head(delayed.clone(), None),
            SpeechPart::default(),
        ),
        ("delayed, voices", head(delayed.clone(), None), voices),
        ("delayed, all", head(delayed, Some(2)), all.clone()),
        (
            "flattened",
            head(Arrangement::Flattened {}, None),
            SpeechPart::default(),
        ),
        (
            "flattened, all",
            head(Arrangement::Flattened {}, Some(6)),
            all.clone(),
        ),
        (
            "depth, all",
            first,
            SpeechPart {
                depth: Some(depth),
                ..all
            },
        ),
    ]
}

fn built(head: &NextTokensConfig, part: &SpeechPart) -> SpeechModel {
    let backbone = transformer(24);
    part.validate_for(&backbone, head).unwrap();
    let shape = SpeechShape {
        text: &text(),
        backbone: &backbone,
        head,
        part,
    };
    shape.init(&device()).map(&mut Fill(100))
}

/// Two utterances of different lengths, the second with a voice that is shown.
fn prompts() -> Vec<Prompt> {
    let text = text();
    let symbols = |words: &str| text.whole(words).unwrap();
    let shown = (0..DEPTH as u32).map(|book| (0..5).map(|at| (3 * at + book) % 11).collect());
    vec![
        Prompt {
            ids: text.ids(Some("bob"), "slow", &symbols("Two cats.")),
            shown: Vec::new(),
        },
        Prompt {
            ids: text.ids(None, "slow", &symbols("One.")),
            shown: shown.collect(),
        },
    ]
}

fn condition(model: &SpeechModel, rows: &[Prompt], positions: usize) -> Condition {
    let frames: Vec<Vec<u32>> = rows
        .iter()
        .map(|row| (2..row.ids.len() as u32).map(|at| at % 3).collect())
        .collect();
    let timed: Vec<Timed<'_>> = rows
        .iter()
        .zip(&frames)
        .map(|(row, frames)| Timed {
            symbols: &row.ids[2..],
            frames,
        })
        .collect();
    model.timed(model.condition(rows, &device()), &timed, positions)
}

#[test]
fn what_steps_choose_is_what_the_pass_that_trains_prefers() {
    for (what, config, part) in models() {
        let model = built(&config, &part);
        let layout = config.arrangement.layout(FRAMES, DEPTH);
        for row in prompts() {
            let condition = condition(&model, &[row], layout.len());
            let codes = greedy(&model, &layout, condition.clone());
            let scores = model.scores(codes.clone(), &condition);
            let best = ids(&scores.argmax(3));
            let frames = config.arrangement.undo(codes, DEPTH);
            let [_, _, n] = frames.dims();
            let frames = ids(&frames);
            let steps = match &config.arrangement {
                Arrangement::Delayed { steps, .. } => steps.clone(),
                _ => vec![0; DEPTH],
            };
            let positions = best.len() / DEPTH;
            for codebook in 0..DEPTH {
                for frame in 0..n {
                    let place = codebook * positions + frame + steps[codebook];
                    let chosen = frames[codebook * n + frame];
                    assert_eq!(best[place], chosen, "{what}: {codebook} {frame}");
                }
            }
        }
    }
}

fn greedy(model: &SpeechModel, layout: &Layout, condition: Condition) -> Tensor<3, Int> {
    let head = model.choosing(layout);
    let generator = Generator {
        backbone: &model.backbone,
        head: &*head,
        pyramid: None,
    };
    let prompt = Codes {
        ids: Tensor::zeros([1, model.head.config().rows(), 0], &device()),
        layout: layout.clone(),
    };
    let config = SamplerConfig {
        temperature: 0.0,
        ..SamplerConfig::default()
    };
    let mut sampler = config.build(Seed::new(0), &[0], layout.len());
    let on = &mut |_: &_, _: &_| std::ops::ControlFlow::Continue(());
    let start = Start { condition, prompt };
    let codes = OneByOne.decode(&generator, start, layout, &mut *sampler, on);
    codes.unwrap().ids
}

#[test]
fn a_row_scores_the_same_in_a_batch_as_by_itself() {
    for (what, config, part) in models() {
        let model = built(&config, &part);
        let layout = config.arrangement.layout(FRAMES, DEPTH);
        let frames = formula_ids([2, DEPTH, FRAMES], 3, CODES, &device());
        let codes = config.arrangement.arrange(frames);
        let rows = prompts();
        let together = model.scores(codes.clone(), &condition(&model, &rows, layout.len()));
        for at in 0..2 {
            let one = condition(&model, &rows[at..=at], layout.len());
            let alone = model.scores(codes.clone().narrow(0, at, 1), &one);
            assert_close(what, &together.clone().narrow(0, at, 1), &alone, 1e-4);
        }
    }
}

#[test]
fn a_voice_that_is_shown_changes_what_is_said() {
    for (what, config, part) in models() {
        let model = built(&config, &part);
        let row = prompts().remove(1);
        let hidden = Prompt {
            shown: Vec::new(),
            ..row.clone()
        };
        let fronts = [row, hidden].map(|row| model.condition(&[row], &device()).prefix.unwrap());
        let [shown, hidden] = fronts;
        let difference: f32 = (shown - hidden).abs().sum().into_scalar();
        assert_eq!(difference > 1e-3, part.reference.is_some(), "{what}");
    }
}

#[test]
fn durations_are_drawn_as_their_scores_say() {
    let (_, config, part) = models().remove(2);
    let model = built(&config, &part);
    let durations = model.durations.as_ref().unwrap();
    let row = prompts().remove(0);
    let symbols = row.ids.len() - 2;
    let greedy = SamplerConfig {
        temperature: 0.0,
        ..SamplerConfig::default()
    };
    let drawn = durations
        .draw(&row.ids, symbols, &greedy, Seed::new(1), &device())
        .unwrap();
    assert_eq!(drawn.len(), symbols);
    let frames: Vec<i32> = drawn.iter().map(|&frames| frames as i32).collect();
    let frames = Tensor::<1, Int>::from_ints(&frames[..], &device()).reshape([1, 1, -1]);
    let scores = durations.scores(&[&row.ids], frames);
    assert_eq!(scores.dims(), [1, 1, symbols, 5]);
    let best: Vec<u32> = ids(&scores.argmax(3)).iter().map(|&id| id as u32).collect();
    assert_eq!(best, drawn);
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let line = |part: &SpeechPart, head: &NextTokensConfig| {
        let wrong = part.validate_for(&transformer(24), head).unwrap_err();
        wrong.to_string()
    };
    let (_, first, deep) = models().pop().unwrap();
    let all = NextTokensConfig {
        predicts: Predicts::All,
        ..first.clone()
    };
    assert!(line(&deep, &all).contains("head.predicts"));
    assert!(line(&SpeechPart::default(), &first).contains("speech.depth"));
    let mut wide = deep.clone();
    wide.depth.as_mut().unwrap().head.projection = DepthProjection::None;
    assert!(line(&wide, &first).contains("depth.backbone.d-model"));
    let mut both = deep.clone();
    both.depth.as_mut().unwrap().head.projection = DepthProjection::Both;
    assert!(line(&both, &first).contains("depth.head.code-width is 12, 24"));
    both.depth.as_mut().unwrap().head.code_width = Some(24);
    both.validate_for(&transformer(24), &first).unwrap();
    let mut shallow = deep.clone();
    shallow.depth.as_mut().unwrap().head.depth = 2;
    assert!(line(&shallow, &first).contains("depth.head.depth"));
    let mut short = deep;
    short.durations.as_mut().unwrap().most = 0;
    assert!(line(&short, &first).contains("durations.most"));
}
