//! What holds for both heads: the pass that trains is what the steps are fed, and a model that is trained
//! with it generates with the same scores.

mod common;

use burn::tensor::{Int, Tensor};
use common::filled;
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{
    Backbone, Codes, Condition, Head, Layout, Pyramid, Result, Sampler, Scored, StepInput, Unit,
};
use ravel_heads::{
    HeadConfig, NextScale, NextScaleConfig, NextToken, NextTokenConfig, NextTokens,
    NextTokensConfig, Opening, Predicts, PrefixConfig, StartKind, TokenRowConfig,
};
use ravel_nn::{NormKind, RotaryConfig, WeightsType, narrowed, streamed};
use ravel_testkit::{assert_close, device, formula, formula_ids, ids, values};

const ROUNDING: f32 = 2e-5;
const WIDTH: usize = 24;
const CODES: usize = 11;
const BATCH: usize = 2;

fn backbone(axes: usize, modulation: Option<usize>) -> Transformer {
    let config = TransformerConfig {
        layers: 2,
        d_model: WIDTH,
        n_heads: 2,
        norm: NormKind::Layer,
        modulation,
        rotary: Some(RotaryConfig {
            axes,
            ..RotaryConfig::default()
        }),
        ..TransformerConfig::default()
    };
    filled(config.init(&device()))
}

fn condition(len: usize, modulation: bool) -> Condition {
    if len == 0 {
        return Condition::default();
    }
    let config = PrefixConfig {
        vocabulary_size: 7,
        len,
        modulation,
        padding: Some(0),
        ..PrefixConfig::default()
    };
    filled(config.init(WIDTH, &device())).condition(formula_ids([BATCH, len], 5, 7, &device()))
}

/// What the backbone is fed while generating `codes`, step by step.
fn steps(
    head: &dyn Head,
    codes: &Codes,
    condition: &Condition,
    pyramid: Option<&dyn Pyramid>,
) -> Vec<StepInput> {
    let mut so_far = codes.clone();
    let units = head.units(&codes.layout);
    let embed = |unit: &Unit| {
        so_far.truncate(0);
        so_far.extend(codes.ids.clone().narrow(2, 0, unit.span.end));
        so_far.truncate(unit.span.start);
        head.embed(&so_far, unit, condition, pyramid)
    };
    let embedded: Vec<_> = units.iter().map(embed).collect();
    head.prefill(condition)
        .into_iter()
        .chain(embedded)
        .collect()
}

/// The teacher-forced input is the steps' inputs in a row, and its scores are the steps' scores.
fn check(
    what: &str,
    head: &dyn Scored,
    scores_of: &dyn Fn(Tensor<3>) -> Tensor<3>,
    whole: &StepInput,
    steps: &[StepInput],
    axes: usize,
    condition: &Condition,
) {
    let embedded = steps.iter().map(|step| step.embedded.clone()).collect();
    assert_close(what, &Tensor::cat(embedded, 1), &whole.embedded, 1e-6);
    let coords: Vec<i64> = steps.iter().flat_map(|step| ids(&step.coords)).collect();
    assert_eq!(coords, ids(&whole.coords), "{what}");
    let runs: Vec<usize> = steps
        .iter()
        .flat_map(|step| step.attend.blocks(step.embedded.dims()[1]))
        .collect();
    let n = whole.embedded.dims()[1];
    assert_eq!(runs, whole.attend.blocks(n), "{what}");

    let modulation = condition.modulation.as_ref().map(|_| WIDTH);
    let backbone = backbone(axes, modulation);
    let full = scores_of(backbone.forward(whole.clone(), condition));
    let mut state = backbone.start(BATCH, n);
    let hidden = steps
        .iter()
        .map(|step| backbone.step(step.clone(), condition, &mut state))
        .collect();
    let hidden = Tensor::cat(hidden, 1);
    let unit = Unit {
        index: 0,
        span: 0..1,
    };
    let all = head.logits(hidden, &unit);
    let predicted = full.dims()[1];
    let stepped = all.narrow(1, n - predicted, predicted);
    assert_close(what, &stepped, &full, ROUNDING);
}

fn next_token(config: &NextTokenConfig, axes: usize, layout: &Layout) -> NextToken {
    let head = filled(config.init(WIDTH, axes, layout, &device()));
    match config.code_width {
        Some(width) => head.with_codebook(formula([CODES, width], 7, 1.0, &device())),
        None => head,
    }
}

#[test]
fn next_token_trains_on_what_it_generates_with() {
    let layout = Layout::Grid {
        height: 3,
        width: 4,
    };
    let base = NextTokenConfig {
        codebook_size: CODES,
        ..NextTokenConfig::default()
    };
    let through_codebook = NextTokenConfig {
        code_width: Some(5),
        bias: true,
        ..base.clone()
    };
    let tied = NextTokenConfig {
        tie: true,
        positions: false,
        start: StartKind::Prefix,
        causal_prefix: true,
        ..base.clone()
    };
    let both = NextTokenConfig {
        start: StartKind::PrefixPlusLearned,
        ..base.clone()
    };
    let cases = [
        ("no prefix", &base, 0, 1, false),
        ("prefix", &base, 4, 2, false),
        ("codebook", &through_codebook, 3, 2, true),
        ("tied, prefix starts", &tied, 4, 1, false),
        ("one class starts", &tied, 1, 2, false),
        ("prefix and vector start", &both, 2, 2, false),
    ];
    for (what, config, prefix, axes, modulation) in cases {
        let head = next_token(config, axes, &layout);
        let condition = condition(prefix, modulation);
        let ids = formula_ids([BATCH, layout.len()], 3, CODES, &device());
        let whole = head.inputs(ids.clone(), &condition);
        let codes = Codes::flat(ids, layout.clone());
        let steps = steps(&head, &codes, &condition, None);
        let scores = |hidden| head.logits_of(hidden);
        check(what, &head, &scores, &whole, &steps, axes, &condition);
    }
}

#[test]
fn several_codes_at_once_are_fed_as_one_by_one() {
    let layout = Layout::Sequence { len: 6 };
    let config = NextTokenConfig {
        codebook_size: CODES,
        ..NextTokenConfig::default()
    };
    let head = next_token(&config, 1, &layout);
    let condition = condition(2, false);
    let codes = Codes::flat(formula_ids([BATCH, 6], 3, CODES, &device()), layout);
    let one_by_one = steps(&head, &codes, &condition, None);
    for (start, end) in [(0, 4), (2, 6)] {
        let unit = Unit {
            index: start,
            span: start..end,
        };
        let found = head.embed(&codes, &unit, &condition, None);
        let expected = one_by_one[1 + start..1 + end].iter();
        let embedded = expected.clone().map(|step| step.embedded.clone()).collect();
        assert_close("run", &found.embedded, &Tensor::cat(embedded, 1), 1e-6);
        let coords: Vec<_> = expected.flat_map(|step| ids(&step.coords)).collect();
        assert_eq!(ids(&found.coords), coords);
    }
}

/// A pyramid of a table and means over blocks: enough to tell scales, places and ids apart.
struct Blocks {
    sides: Vec<(usize, usize)>,
    table: Tensor<2>,
}

impl Pyramid for Blocks {
    fn sides(&self) -> &[(usize, usize)] {
        &self.sides
    }

    fn code_width(&self) -> usize {
        self.table.dims()[1]
    }

    fn add_scale(&self, canvas: Option<Tensor<4>>, scale: usize, ids: Tensor<3, Int>) -> Tensor<4> {
        let (height, width) = self.sides[scale];
        let (full, _) = self.sides[self.sides.len() - 1];
        let [batch, depth, n] = ids.dims();
        let ids = ids.reshape([batch * depth, n]);
        let vectors = burn::tensor::module::embedding(self.table.clone(), ids).reshape([
            batch,
            depth,
            n,
            self.code_width(),
        ]);
        // Codebooks add up, each a little less than the one before.
        let less = Tensor::arange(1..depth as i64 + 1, &vectors.device());
        let vectors = vectors / less.float().reshape([1, depth, 1, 1]);
        let vectors: Tensor<3> = vectors.sum_dim(1).squeeze_dim(1);
        let grown = vectors
            .swap_dims(1, 2)
            .reshape([batch, self.code_width(), height, width])
            .repeat_dim(2, full / height)
            .repeat_dim(3, full / width);
        match canvas {
            Some(canvas) => canvas + grown,
            None => grown,
        }
    }

    fn features_for(&self, canvas: &Tensor<4>, scale: usize) -> Tensor<3> {
        let (height, width) = self.sides[scale];
        let [batch, channels, ..] = canvas.dims();
        canvas
            .clone()
            .slice([0..batch, 0..channels, 0..height, 0..width])
            .reshape([batch, channels, height * width])
            .swap_dims(1, 2)
    }

    fn ids_for(&self, _: Tensor<4>, _: Option<&Tensor<4>>, _: usize) -> Tensor<3, Int> {
        unreachable!("heads are given codes")
    }
}

#[test]
fn next_scale_trains_on_what_it_generates_with() {
    let pyramid = Blocks {
        sides: vec![(1, 1), (2, 2), (4, 4)],
        table: formula([CODES, 6], 8, 1.0, &device()),
    };
    let layout = Layout::square_scales(&[1, 2, 4]);
    let base = NextScaleConfig {
        codebook_size: CODES,
        code_width: 6,
        ..NextScaleConfig::default()
    };
    let var = NextScaleConfig {
        start: StartKind::PrefixPlusLearned,
        ..base.clone()
    };
    let bare = NextScaleConfig {
        start: StartKind::Prefix,
        levels: false,
        positions: false,
        ..base.clone()
    };
    let several = NextScaleConfig {
        depth: 3,
        most_levels: Some(5),
        spread: Some([9, 7]),
        positions: false,
        ..var.clone()
    };
    let cases = [
        ("no prefix", &base, 0, 3, false),
        ("prefix", &base, 4, 1, true),
        ("var", &var, 1, 3, true),
        ("bare", &bare, 3, 2, false),
        ("several codes of a place", &several, 1, 2, true),
    ];
    for (what, config, prefix, axes, modulation) in cases {
        let head: NextScale = filled(config.init(WIDTH, axes, &layout, &device()));
        let condition = condition(prefix, modulation);
        let ids = formula_ids([BATCH, config.depth, layout.len()], 3, CODES, &device());
        let codes = Codes {
            ids,
            layout: layout.clone(),
        };
        let mut canvas = None;
        let mut features = Vec::new();
        for unit in layout.blocks() {
            if let Some(canvas) = &canvas {
                features.push(pyramid.features_for(canvas, unit.index));
            }
            canvas = Some(pyramid.add_scale(canvas, unit.index, codes.of_unit(&unit)));
        }
        let whole = head.inputs(Tensor::cat(features, 1), &condition);
        let steps = steps(&head, &codes, &condition, Some(&pyramid));
        let scores = |hidden| head.logits_of(hidden);
        check(what, &head, &scores, &whole, &steps, axes, &condition);
    }
}

#[test]
fn chosen_ids_are_the_samplers() {
    struct Largest;
    impl Sampler for Largest {
        fn pick(&mut self, logits: Tensor<3>, _unit: &Unit) -> Result<Tensor<2, Int>> {
            Ok(logits.argmax(2).squeeze_dim(2))
        }
    }
    let layout = Layout::Sequence { len: 2 };
    let config = NextTokenConfig {
        codebook_size: CODES,
        ..NextTokenConfig::default()
    };
    let head = next_token(&config, 1, &layout);
    let hidden = formula([BATCH, 1, WIDTH], 1, 1.0, &device());
    let unit = &layout.tokens()[0];
    let found = head.choose(hidden.clone(), unit, &mut Largest);
    let expected = head.logits(hidden, unit).argmax(2);
    assert_eq!(ids(&found.expect("finite scores")), ids(&expected));
}

#[test]
fn the_tokenizers_vectors_stay_while_training() {
    let config = NextTokenConfig {
        codebook_size: CODES,
        code_width: Some(5),
        ..NextTokenConfig::default()
    };
    let device = device().autodiff();
    let layout = Layout::Sequence { len: 4 };
    let vectors = formula([CODES, 5], 7, 1.0, &device);
    let head = config
        .init(WIDTH, 1, &layout, &device)
        .with_codebook(vectors);
    let codes = formula_ids([BATCH, 4], 3, CODES, &device);
    let input = head.inputs(codes, &Condition::default());
    let scores = head.logits_of(input.embedded);
    let grads = (scores.clone() * scores).sum().backward();
    assert!(head.codebook.val().grad(&grads).is_none());
    let projection = head.projection.as_ref().expect("a projection");
    assert!(projection.weight.val().grad(&grads).is_some());
}

/// Ids and width of a table that is worth keeping in fewer bits.
const LARGE: [usize; 2] = [90, 64];

#[test]
fn a_table_is_kept_in_fewer_bits_only_where_it_gives_the_scores() {
    let [size, width] = LARGE;
    let layout = Layout::Sequence { len: 4 };
    let ids = formula_ids([BATCH, 4], 3, size, &device());
    let hidden: Tensor<3> = formula([BATCH, 4, width], 5, 1.0, &device());
    for tie in [true, false] {
        let config = NextTokenConfig {
            codebook_size: size,
            tie,
            ..NextTokenConfig::default()
        };
        let plain = filled(config.init(width, 1, &layout, &device()));
        let narrow = narrowed(plain.clone(), Some(WeightsType::Q8));
        let (table, exact) = (narrow.codebook.val(), plain.codebook.val());
        assert_eq!(values(&table) != values(&exact), tie);
        let embedded = narrow.embedded(ids.clone());
        let expected = burn::tensor::module::embedding(table, ids.clone());
        assert_eq!(values(&embedded), values(&expected));
        // One matrix gives the scores either way, and its bytes are what is read.
        let kind = WeightsType::Q8;
        assert_eq!(
            streamed(&plain, kind),
            [kind.bytes(width, size), width * size]
        );
        let exact = plain.scores(hidden.clone());
        let largest = values(&exact).iter().fold(0f32, |a, b| a.max(b.abs()));
        assert_close(
            "scores",
            &narrow.scores(hidden.clone()),
            &exact,
            0.01 * largest,
        );
    }
}

#[test]
fn a_row_of_tokens_that_gives_its_scores_is_kept_in_fewer_bits() {
    let [size, width] = LARGE;
    let layout = Layout::Sequence { len: 4 };
    let config = |tie| NextTokensConfig {
        codebook_size: size,
        depth: 2,
        predicts: Predicts::First,
        opening: Opening::Prefix {},
        tokens: Some(TokenRowConfig {
            vocabulary_size: size,
            semantic_begin: 10,
            semantic_len: 10,
            tie,
        }),
        ..NextTokensConfig::default()
    };
    for tie in [true, false] {
        let plain = filled(config(tie).init(width, 1, &layout, &device()));
        let narrow = narrowed(plain.clone(), Some(WeightsType::Q8));
        let table = |head: &NextTokens| values(&head.tokens.as_ref().unwrap().val());
        assert_eq!(table(&narrow) != table(&plain), tie);
        for (narrow, plain) in narrow.codebooks.iter().zip(&plain.codebooks) {
            assert_eq!(values(&narrow.val()), values(&plain.val()));
        }
        let ids = formula_ids([BATCH, 3, 4], 3, size, &device());
        let most = 5e-3;
        let (found, exact) = (narrow.embedded(ids.clone(), 0), plain.embedded(ids, 0));
        assert_close("embedded", &found, &exact, most);
        let hidden: Tensor<3> = formula([BATCH, 4, width], 5, 1.0, &device());
        let (found, exact) = (narrow.logits(hidden.clone()), plain.logits(hidden));
        let largest = values(&exact).iter().fold(0f32, |a, b| a.max(b.abs()));
        assert_close("scores", &found, &exact, 0.01 * largest);
    }
}

#[test]
fn definitions_name_their_kind_and_typos_are_refused() {
    let read = |text| serde_json::from_str::<HeadConfig>(text);
    let config = read(r#"{"kind": "next-token", "codebook-size": 64, "start": "prefix"}"#);
    let Ok(HeadConfig::NextToken(config)) = config else {
        panic!("{config:?}");
    };
    assert_eq!(
        (config.codebook_size, config.start),
        (64, StartKind::Prefix)
    );
    let typo = read(r#"{"kind": "next-scale", "codebok-size": 64}"#);
    assert!(
        typo.expect_err("a typo")
            .to_string()
            .contains("codebok-size")
    );
    let zero = read(r#"{"kind": "next-scale", "codebook-size": 0}"#).expect("well-formed");
    assert!(zero.validate().is_err());
    let long =
        r#"{"kind": "next-frame", "codebook-size": 4, "feature-width": 4, "window": 16777216}"#;
    let long = read(long).expect("well-formed").validate();
    let told = long.expect_err("more than there is room for").to_string();
    assert!(told.contains("4096 frames at most"), "{told}");
}
