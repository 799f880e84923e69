//! What holds for heads with several codebooks, whatever the arrangement: the pass that trains is what the steps are fed,
//! what is generated is what a full pass prefers, and rows do not touch each other.

mod common;

use burn::tensor::{Int, Tensor};
use common::filled;
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{
    Backbone, Codes, Condition, Decoding, Generator, Head, Layout, Sampler, Seed, Start,
};
use ravel_decode::method::{Next, in_takes};
use ravel_decode::{OneByOne, SamplerConfig};
use ravel_heads::{
    Arrangement, CodeTables, Deep, DepthConfig, DepthProjection, FirstCode, NextTokens,
    NextTokensConfig, Opening, Predicts, TokenRowConfig,
};
use ravel_nn::{NormKind, RotaryConfig};
use ravel_testkit::{assert_close, device, formula, formula_ids, ids};

const ROUNDING: f32 = 2e-5;
const WIDTH: usize = 24;
const DEPTH: usize = 3;
const CODES: usize = 13;
const FRAMES: usize = 5;

fn transformer(d_model: usize) -> Transformer {
    let config = TransformerConfig {
        layers: 2,
        d_model,
        n_heads: 2,
        norm: NormKind::Layer,
        rotary: Some(RotaryConfig::default()),
        ..TransformerConfig::default()
    };
    filled(config.init(&device()))
}

fn condition(batch: usize, prefix: usize) -> Condition {
    let rows = |n: usize, salt: u32| {
        let row = |row: u32| formula([1, n, WIDTH], salt + row, 1.0, &device());
        Tensor::cat((0..batch as u32).map(row).collect(), 0)
    };
    Condition {
        prefix: (prefix > 0).then(|| rows(prefix, 50)),
        beside: Some(rows(FRAMES * DEPTH, 70)),
        ..Condition::default()
    }
}

fn base() -> NextTokensConfig {
    NextTokensConfig {
        depth: DEPTH,
        codebook_size: CODES,
        ..NextTokensConfig::default()
    }
}

fn delayed() -> Arrangement {
    Arrangement::Delayed {
        steps: vec![0, 2, 1],
        before: CODES - 1,
        after: CODES - 2,
    }
}

/// Every arrangement, opening, way of keeping tables and projections, several at a time.
fn variants() -> Vec<(&'static str, NextTokensConfig, usize)> {
    let musicgen = NextTokensConfig {
        arrangement: delayed(),
        scored_ids: Some(CODES - 1),
        tables: CodeTables::Separate,
        opening: Opening::Ids { id: CODES - 1 },
        ..base()
    };
    let dia = NextTokensConfig {
        arrangement: delayed(),
        end: Some(CODES - 3),
        joined_out: true,
        opening: Opening::Ids { id: CODES - 1 },
        bias: true,
        ..base()
    };
    let flattened = NextTokensConfig {
        arrangement: Arrangement::Flattened {},
        norm: Some(NormKind::Rms),
        ..base()
    };
    let parallel = NextTokensConfig {
        opening: Opening::Prefix {},
        causal_prefix: false,
        ..base()
    };
    let paced = NextTokensConfig {
        arrangement: delayed(),
        pace: Some(2),
        ..base()
    };
    vec![
        ("delayed, at a pace", paced, 3),
        ("separate tables, delayed", musicgen, 0),
        ("joined projection, delayed", dia, 2),
        ("flattened", flattened.clone(), 0),
        (
            "flattened, separate tables",
            NextTokensConfig {
                tables: CodeTables::Separate,
                opening: Opening::Prefix {},
                ..flattened
            },
            3,
        ),
        ("parallel", base(), 2),
        ("parallel, the prefix starts", parallel, 4),
    ]
}

fn head(config: &NextTokensConfig) -> NextTokens {
    let layout = config.arrangement.layout(FRAMES, DEPTH);
    filled(config.init(WIDTH, 1, &layout, &device()))
}

/// Codes, then tokens of which about half say "semantic", as CSM and Fish-Speech have them.
fn deep(tokens: bool) -> Deep<Transformer> {
    let row = TokenRowConfig {
        vocabulary_size: 20,
        semantic_begin: 10,
        semantic_len: 10,
        tie: true,
    };
    let config = NextTokensConfig {
        predicts: Predicts::First,
        tokens: tokens.then_some(row),
        norm: tokens.then_some(NormKind::Rms),
        opening: Opening::Prefix {},
        ..base()
    };
    let depth = DepthConfig {
        depth: DEPTH,
        codebook_size: CODES,
        code_width: (!tokens).then_some(WIDTH),
        projection: match tokens {
            true => DepthProjection::Hidden,
            false => DepthProjection::Both,
        },
        shared_table: tokens,
        shared_out: tokens,
        first: match tokens {
            true => FirstCode::Token { begin: 10 },
            false => FirstCode::Chosen {},
        },
    };
    Deep {
        frame: head(&config),
        depth: filled(depth.init(WIDTH, 16, &device())),
        transformer: transformer(16),
    }
}

fn generated(
    head: &dyn Head,
    rows: usize,
    layout: &Layout,
    condition: Condition,
    sampler: &mut dyn Sampler,
    given: Option<Tensor<3, Int>>,
) -> Tensor<3, Int> {
    let batch = condition.prefix.as_ref().map_or(1, |p| p.dims()[0]);
    let backbone = transformer(WIDTH);
    let generator = Generator {
        backbone: &backbone,
        head,
        pyramid: None,
    };
    let none = || Tensor::zeros([batch, rows, 0], &device());
    let prompt = Codes {
        ids: given.unwrap_or_else(none),
        layout: layout.clone(),
    };
    let start = Start { condition, prompt };
    let mut watch = |_: &_, _: &_| std::ops::ControlFlow::Continue(());
    let codes = OneByOne.decode(&generator, start, layout, sampler, &mut watch);
    codes.expect("finite scores").ids
}

fn sampler(temperature: f64, batch: u64) -> Box<dyn Sampler> {
    let config = SamplerConfig {
        temperature,
        repetition_penalty: Some(1.3),
        ..SamplerConfig::default()
    };
    let rows: Vec<u64> = (0..batch).collect();
    config.build(Seed::new(3), &rows, FRAMES)
}

#[test]
fn several_codebooks_train_on_what_they_generate_with() {
    for (what, config, prefix) in variants() {
        let head = head(&config);
        let layout = head.layout().clone();
        let condition = condition(2, prefix);
        let frames = formula_ids([2, DEPTH, FRAMES], 3, CODES - 4, &device());
        let codes = Codes {
            ids: config.arrangement.arrange(frames),
            layout: layout.clone(),
        };
        let whole = head.inputs(codes.ids.clone(), &condition);
        let steps = head.units(&layout).into_iter().map(|unit| {
            let mut so_far = codes.clone();
            so_far.truncate(unit.span.start);
            head.embed(&so_far, &unit, &condition, None)
        });
        let steps: Vec<_> = head.prefill(&condition).into_iter().chain(steps).collect();
        let embedded = steps.iter().map(|step| step.embedded.clone()).collect();
        assert_close(what, &Tensor::cat(embedded, 1), &whole.embedded, 1e-6);
        let coords: Vec<i64> = steps.iter().flat_map(|step| ids(&step.coords)).collect();
        assert_eq!(coords, ids(&whole.coords), "{what}");

        let backbone = transformer(WIDTH);
        let full = head.logits_of(backbone.forward(whole.clone(), &condition));
        let mut state = backbone.start(2, whole.embedded.dims()[1]);
        let hidden = steps
            .into_iter()
            .map(|step| backbone.step(step, &condition, &mut state));
        let stepped = head.logits_of(Tensor::cat(hidden.collect(), 1));
        assert_close(what, &stepped, &full, ROUNDING);
    }
}

#[test]
fn what_is_generated_is_what_a_full_pass_prefers() {
    let greedy = SamplerConfig {
        temperature: 0.0,
        ..SamplerConfig::default()
    };
    for (what, config, prefix) in variants() {
        let head = head(&config);
        let layout = head.layout().clone();
        let condition = condition(1, prefix);
        let mut sampler = greedy.build(Seed::new(0), &[0], FRAMES);
        let rows = config.rows();
        let found = generated(&head, rows, &layout, condition.clone(), &mut *sampler, None);
        let input = head.inputs(found.clone(), &condition);
        let scores = head.logits_of(transformer(WIDTH).forward(input, &condition));
        let n = layout.len();
        let ids = ids(&found);
        for (at, &id) in ids.iter().enumerate() {
            let (row, position) = (at / n, at % n);
            let codebook = match rows {
                1 => position % DEPTH,
                _ => row,
            };
            if let Some(fixed) = config.arrangement.fixed(codebook, position, n) {
                assert_eq!(id, fixed as i64, "{what}");
                continue;
            }
            let all = scores.dims()[3];
            let seen = config
                .end
                .map_or(all, |end| end + usize::from(codebook == 0));
            let here = scores
                .clone()
                .slice([
                    0..1,
                    codebook..codebook + 1,
                    position..position + 1,
                    0..seen,
                ])
                .reshape([seen]);
            let best = here.argmax(0).into_scalar::<i64>();
            assert_eq!(id, best, "{what}, codebook {codebook} at {position}");
        }
    }
}

#[test]
fn a_depth_transformer_chooses_what_its_full_pass_prefers() {
    for tokens in [false, true] {
        let deep = deep(tokens);
        let layout = Layout::Sequence { len: FRAMES };
        let rows = deep.frame.config().rows();
        let greedy = SamplerConfig {
            temperature: 0.0,
            ..SamplerConfig::default()
        };
        let mut sampler = greedy.build(Seed::new(0), &[0], FRAMES);
        let condition = condition(1, 3);
        let found = generated(&deep, rows, &layout, condition.clone(), &mut *sampler, None);
        let input = deep.frame.inputs(found.clone(), &condition);
        let hidden = transformer(WIDTH).forward(input, &condition);
        let first = deep.frame.logits_of(hidden.clone()).argmax(3);
        let row = |at| ids(&found.clone().narrow(1, at, 1));
        assert_eq!(row(0), ids(&first));
        if tokens {
            let codes: Vec<i64> = row(0).iter().map(|&token| (token - 10).max(0)).collect();
            assert_eq!(row(1), codes);
        }
        let lead = hidden.dims()[1] - FRAMES;
        let hidden = hidden.narrow(1, lead, FRAMES).reshape([FRAMES, WIDTH]);
        let codes = found
            .clone()
            .narrow(1, rows - DEPTH, DEPTH)
            .swap_dims(1, 2)
            .reshape([FRAMES, DEPTH]);
        let all = deep.over_depth(hidden, codes.clone().narrow(1, 0, DEPTH - 1));
        let best = deep.scores(&all, 1).argmax(2);
        assert_eq!(ids(&best), ids(&codes.narrow(1, 1, DEPTH - 1)));
    }
}

/// Runs `check` for every head with its rows and layout.
fn each_head(check: impl Fn(&str, &dyn Head, usize, &Layout)) {
    for (what, config, prefix) in variants() {
        if prefix > 0 {
            let head = head(&config);
            check(what, &head, config.rows(), &head.layout().clone());
        }
    }
    for tokens in [false, true] {
        let deep = deep(tokens);
        let rows = deep.frame.config().rows();
        check("deep", &deep, rows, &Layout::Sequence { len: FRAMES });
    }
}

#[test]
fn rows_do_not_touch_each_other() {
    each_head(|what, head, rows, layout| {
        let both = condition(2, 3);
        let found = generated(head, rows, layout, both, &mut *sampler(1.0, 2), None);
        let alone = condition(1, 3);
        let alone = generated(head, rows, layout, alone, &mut *sampler(1.0, 1), None);
        assert_eq!(ids(&found.narrow(0, 0, 1)), ids(&alone), "{what}");
    });
}

#[test]
fn the_beginning_of_a_run_is_continued_to_the_rest_of_it() {
    each_head(|what, head, rows, layout| {
        let run = |given| {
            generated(
                head,
                rows,
                layout,
                condition(2, 3),
                &mut *sampler(1.0, 2),
                given,
            )
        };
        let whole = run(None);
        let given = whole.clone().narrow(2, 0, 2);
        assert_eq!(ids(&run(Some(given))), ids(&whole), "{what}");
    });
}

#[test]
fn codes_count_only_beside_semantic_tokens() {
    let head = deep(true).frame;
    let embed = |token: i64, codes: i64| {
        let column = Tensor::<1, Int>::from_data([token, codes, codes, codes], &device());
        head.embedded(column.reshape([1, 4, 1]), 0)
    };
    assert_close("text", &embed(9, 1), &embed(9, 2), 0.0);
    assert_close("above", &embed(19, 0), &(embed(19, 0)), 0.0);
    assert!(ravel_testkit::largest_difference(&embed(10, 1), &embed(10, 2)) > 0.01);
    // Overlaid, the second codebook's code 1 is read where the first one's is.
    let overlaid = head.clone().with_tables(CodeTables::Overlaid);
    let swapped = |first: i64, second: i64| {
        let column = Tensor::<1, Int>::from_data([12, first, second, 0], &device());
        overlaid.embedded(column.reshape([1, 4, 1]), 0)
    };
    assert_close("overlaid", &swapped(1, 5), &swapped(5, 1), 1e-6);
}

/// The sampler of a take.
fn take(number: u64) -> Box<dyn Sampler> {
    let config = SamplerConfig {
        repetition_penalty: Some(1.3),
        ..SamplerConfig::default()
    };
    config.build(Seed::new(number), &[0], FRAMES)
}

#[test]
fn what_is_taken_back_leaves_no_trace() {
    for (what, config, prefix) in variants() {
        let head = head(&config);
        let layout = head.layout().clone();
        let (rows, backbone) = (config.rows(), transformer(WIDTH));
        let generator = Generator {
            backbone: &backbone,
            head: &head,
            pyramid: None,
        };
        let in_takes = |given: Tensor<3, Int>, back: Option<(usize, usize)>| {
            let mut back = back;
            let start = Start {
                condition: condition(1, prefix),
                prompt: Codes {
                    ids: given,
                    layout: layout.clone(),
                },
            };
            let watch = &mut |_: &_, codes: &Codes| match back {
                Some((at, to)) if codes.filled() == at => {
                    back = None;
                    Next::Back(to)
                }
                _ => Next::On,
            };
            let codes = in_takes(&generator, start, &layout, &mut take, watch);
            ids(&codes.expect("finite scores").ids)
        };
        let generated = |number: u64, given: Option<Tensor<3, Int>>| {
            let condition = condition(1, prefix);
            generated(&head, rows, &layout, condition, &mut *take(number), given)
        };
        let none = Tensor::zeros([1, rows, 0], &device());
        let plain = generated(0, None);
        assert_eq!(in_takes(none.clone(), None), ids(&plain), "{what}");
        for to in [0, 2] {
            let expected = generated(1, Some(plain.clone().slice([0..1, 0..rows, 0..to])));
            let found = in_takes(none.clone(), Some((4, to)));
            assert_eq!(found, ids(&expected), "{what}, back to {to}");
            // What is given is read at once, and stays.
            let given = plain.clone().narrow(2, 0, 3);
            let expected = generated(1, Some(given.clone()));
            assert_eq!(in_takes(given, Some((4, to))), ids(&expected), "{what}");
        }
    }
}

#[test]
fn what_cannot_be_built_is_named() {
    let check = |change: &dyn Fn(&mut NextTokensConfig), field: &str| {
        let mut config = base();
        change(&mut config);
        let line = config.validate().expect_err(field).to_string();
        assert!(line.starts_with(field), "{line}");
    };
    base().validate().expect("the base fits");
    check(&|c| c.depth = 0, "depth");
    check(&|c| c.codebook_size = 1 << 30, "codebook-size");
    check(&|c| c.scored_ids = Some(CODES + 1), "scored-ids");
    check(&|c| c.end = Some(0), "end");
    check(&|c| c.opening = Opening::Ids { id: CODES }, "opening.id");
    let first = |c: &mut NextTokensConfig| {
        c.predicts = Predicts::First;
        c.arrangement = Arrangement::Flattened {};
    };
    check(&first, "arrangement");
    let read = |text| serde_json::from_str::<NextTokensConfig>(text);
    let typo = read(r#"{"dept": 2}"#).expect_err("a typo").to_string();
    assert!(typo.contains("dept"), "{typo}");
    let zero = DepthConfig {
        depth: 0,
        ..DepthConfig::default()
    };
    let line = zero.validate().expect_err("no codebook").to_string();
    assert!(line.starts_with("depth"), "{line}");
}
