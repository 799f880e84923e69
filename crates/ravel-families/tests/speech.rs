//! Speech and music models: published sizes, the ways in which files name their weights, files of other models, and whole
//! generations through the shared loop.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Int, Tensor, TensorData};
use ravel_core::{Codes, Condition, Decoding, Generator, Seed, Start, Unit};
use ravel_decode::sampler::{Ending, all_ended};
use ravel_decode::{Guidance, OneByOne, SamplerConfig};
use ravel_families::{csm, dia, fish_dual_ar, musicgen};
use ravel_heads::Arrangement;
use ravel_testkit::{assert_close, device, formula, golden_folder, ids};
use ravel_weights::{Checkpoint, Dtype, save};

type Tensors = Vec<(String, TensorData)>;

fn config(folder: &str) -> String {
    let path = golden_folder().join(folder).join("config.json");
    std::fs::read_to_string(path).expect("a golden configuration")
}

fn published(folder: &str) -> Tensors {
    let path = golden_folder().join(folder).join("model.safetensors");
    let file = Checkpoint::open(&path).expect("golden weights");
    let names = file.names().map(String::from).collect::<Vec<_>>();
    let tensor = |name: String| {
        let data = file.real(&name).expect("real numbers");
        (name, data)
    };
    names.into_iter().map(tensor).collect()
}

fn file(tensors: Tensors) -> Checkpoint {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("weights.safetensors");
    save(&path, tensors, &BTreeMap::new(), Dtype::Keep).expect("a written file");
    let bytes = std::fs::read(path).expect("the file");
    Checkpoint::from_bytes(Cow::Owned(bytes), "published").expect("a sound file")
}

fn renamed(tensors: Tensors, name: impl Fn(&str) -> String) -> Tensors {
    let each = tensors.into_iter();
    each.map(|(old, data)| (name(&old), data)).collect()
}

/// Numbers in all weights, none of which are drawn for this.
fn count<M: Module>(module: &M) -> usize {
    struct Sum(usize);
    impl ModuleVisitor for Sum {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 += param.lazy_shape().num_elements();
        }
    }
    let mut sum = Sum(0);
    module.visit(&mut sum);
    sum.0
}

const FISH_1_5: &str = r#"{"model_type": "dual_ar", "dim": 1024, "n_layer": 24, "n_head": 16, "n_local_heads": 2,
    "intermediate_size": 4096, "vocab_size": 102048, "codebook_size": 1024, "num_codebooks": 8, "n_fast_layer": 4,
    "rope_base": 1000000.0, "norm_eps": 1e-6, "max_seq_len": 8192}"#;

#[test]
fn published_sizes_have_the_stated_number_of_weights() {
    let device = device();
    let layout = ravel_core::Layout::Sequence { len: 8 };

    // Fish-Speech 1.5, stated as half a billion.
    let fish = fish_dual_ar::Config::read(FISH_1_5).expect("a sound configuration");
    let found = count(&fish.backbone().init(&device))
        + count(&fish.fast().init(&device))
        + count(&fish.head(0).init(1024, 1, &layout, &device))
        + count(&fish.depth(0).init(1024, 1024, &device));
    assert_eq!(found, 533_424_128);

    // CSM without its codec, stated as a billion in the backbone; its one table of codes is counted in both places.
    let csm = csm::Config::read("{}").expect("a sound configuration");
    let (backbone, depth) = (csm.backbone(), csm.over_depth());
    let text = 128_256 * 2048;
    let found = count(&backbone.expect("known").init(&device))
        + count(&depth.expect("known").init(&device))
        + count(&csm.head().init(2048, 1, &layout, &device))
        + count(&csm.depth().init(2048, 1024, &device))
        + text;
    assert_eq!(found - 32 * 2051 * 2048, 1_552_791_552);

    // Dia, stated as 1.6 billion.
    let dia = dia::Config::read("{}").expect("a sound configuration");
    let found = count(&dia.encoder().expect("known").init(&device))
        + count(&dia.backbone().expect("known").init(&device))
        + count(&dia.head().init(2048, 1, &layout, &device))
        + 256 * 1024;
    assert_eq!(found, 1_611_160_576);

    // MusicGen's decoders. The 300M, 1.5B and 3.3B of its pages count cross-attention now and not.
    for (json, expected) in [
        ("{}".to_string(), 419_584_000),
        (musicgen_json(1536, 24, "musicgen_decoder"), 1_837_556_736),
        (musicgen_json(2048, 32, "musicgen_decoder"), 3_255_382_016),
        // Without cross-attention: the description stands in front.
        (
            musicgen_json(1536, 24, "musicgen_melody_decoder"),
            1_384_424_448,
        ),
    ] {
        let musicgen = musicgen::Config::read(&json).expect("a sound configuration");
        let width = musicgen.hidden_size;
        let found = count(&musicgen.backbone().expect("known").init(&device))
            + count(&musicgen.head().init(width, 1, &layout, &device));
        assert_eq!(found, expected, "{json}");
    }
}

/// The decoder's part of a published configuration of 48 layers.
fn musicgen_json(width: usize, heads: usize, kind: &str) -> String {
    let between = 4 * width;
    format!(
        r#"{{"hidden_size": {width}, "num_hidden_layers": 48, "num_attention_heads": {heads}, "ffn_dim": {between},
            "model_type": "{kind}"}}"#
    )
}

#[test]
fn fish_weights_are_found_below_a_name_and_in_parts() {
    let config = fish_dual_ar::Config::read(&config("fish_dual_ar")).expect("a configuration");
    let plain = published("fish_dual_ar");
    let mut parts = Tensors::new();
    for (name, data) in plain.clone() {
        let name = format!("model.{name}");
        let Some(layer) = name.strip_suffix("wqkv.weight") else {
            parts.push((name, data));
            continue;
        };
        let whole = Tensor::<2>::from_data(data, &device());
        let (rows, kv) = (whole.dims()[0], 24);
        for (part, start, len) in [("wq", 0, 48), ("wk", 48, kv), ("wv", 48 + kv, kv)] {
            let part = (
                format!("{layer}{part}.weight"),
                whole.clone().narrow(0, start, len),
            );
            parts.push((part.0, part.1.into_data()));
        }
        assert_eq!(rows, 48 + 2 * kv);
    }
    let build = |tensors| config.build(file(tensors), 48, &device()).expect("it fits");
    let (plain, parts) = (build(plain), build(parts));
    let weight = |model: &fish_dual_ar::DualAr| {
        let slow = model.backbone.blocks[1].attention.qkv.weight.val();
        let fast = &model.head.transformer.blocks[0];
        Tensor::cat(vec![slow, fast.attention.qkv.weight.val()], 0)
    };
    assert_close("attention", &weight(&parts), &weight(&plain), 0.0);
}

#[test]
fn one_table_of_codes_serves_both_of_csm() {
    let config = csm::Config::read(&config("csm")).expect("a configuration");
    for kept in [
        "backbone_model.embed_tokens",
        "depth_decoder.model.embed_tokens",
    ] {
        let is_other = |name: &str| {
            name.contains("embed_tokens")
                && name != "embed_text_tokens.weight"
                && !name.starts_with(kept)
        };
        let mut tensors = published("csm");
        tensors.retain(|(name, _)| !is_other(name));
        assert_eq!(tensors.len(), published("csm").len() - 1);
        let model = config.build(file(tensors), &device()).expect("it fits");
        let (frame, depth) = (&model.head.frame.codebooks[0], &model.head.depth.codebook);
        assert_close(kept, &frame.val(), &depth.val(), 0.0);
    }
}

#[test]
fn the_decoder_of_a_whole_musicgen_file_is_found() {
    let decoder = config("musicgen_delay");
    let whole = format!(r#"{{"decoder": {decoder}, "text_encoder": {{}}}}"#);
    let config = musicgen::Config::read(&whole).expect("a configuration");
    let name = |name: &str| format!("decoder.{name}");
    let mut tensors = renamed(published("musicgen_delay"), name);
    let beside = TensorData::from([[1f32, 2.0]]);
    tensors.push(("text_encoder.shared.weight".into(), beside.clone()));
    tensors.push(("enc_to_dec_proj.weight".into(), beside));
    let found = config.build(file(tensors), &device()).expect("it fits");
    let plain = file(published("musicgen_delay"));
    let plain = config.build(plain, &device()).expect("it fits");
    let out = |model: &musicgen::MusicGen| model.head.out[3].weight.val();
    assert_close("projection", &out(&found), &out(&plain), 0.0);
}

#[test]
fn files_of_other_models_are_refused_in_a_line() {
    let config = dia::Config::read(&config("dia")).expect("a configuration");
    let check = |tensors: Tensors, expected: &[&str]| {
        let error = config.build(file(tensors), &device()).err();
        let line = error.expect("a refusal").to_string();
        assert_eq!(line.lines().count(), 1, "{line}");
        for part in expected {
            assert!(line.contains(part), "{part}: {line}");
        }
    };
    check(
        published("csm"),
        &["missing", "`model.encoder.embedding.weight`"],
    );
    let mut broken = published("dia");
    broken[0].1 = TensorData::from([[f32::NAN, 0.0]]);
    check(broken, &["definition needs"]);
    let mut nan = published("dia");
    let shape = nan[0].1.shape().to_vec();
    let values = vec![f32::NAN; shape.iter().product()];
    nan[0].1 = TensorData::new::<f32, _>(values, shape);
    check(nan, &["NaN"]);
}

/// Codes of `frames` frames at most, and whether the watcher stopped them.
fn generate(
    generator: &Generator<'_>,
    arrangement: &Arrangement,
    condition: Condition,
    frames: usize,
    sampler: &SamplerConfig,
) -> Codes {
    let batch = condition.cross.as_ref().map_or(1, |cross| cross.dims()[0]);
    let depth = 3;
    let want = arrangement.layout(frames, depth);
    let start = Start {
        condition,
        prompt: Codes {
            ids: Tensor::zeros([batch, depth, 0], &device()),
            layout: want.clone(),
        },
    };
    let mut drawn = sampler.build(Seed::new(5), &[0, 1, 2, 3][..batch], want.len());
    let mut watch = |_: &Unit, codes: &Codes| match &sampler.ending {
        Some(ending) if all_ended(codes, ending) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    OneByOne
        .decode(generator, start, &want, &mut *drawn, &mut watch)
        .expect("finite scores")
}

#[test]
fn dia_speaks_whole_frames_under_guidance_until_it_ends() {
    let config = dia::Config::read(&config("dia")).expect("a configuration");
    let model = config.build(file(published("dia")), &device());
    let model = model.expect("it fits");
    let text = Tensor::<2, Int>::from_data([[1, 20, 21, 22], [2, 30, 0, 0]], &device());
    let padding = Tensor::<2, Int>::from_data([[0, 0, 0, 0], [0, 0, 1, 1]], &device()).bool();
    let given = model.condition(text.clone(), Some(padding.clone()));
    let empty = model.condition(text.zeros_like(), Some(padding));
    let sampler = SamplerConfig {
        temperature: 1.3,
        guidance: Guidance::Constant(3.0),
        guidance_top_k: Some(20),
        ending: Some(Ending {
            end: config.eos_token_id,
            after: config.pad_token_id,
            steps: config.delay_pattern.clone(),
        }),
        ..SamplerConfig::default()
    };
    let arrangement = config.arrangement();
    let head = model.head.clone().with_layout(&arrangement.layout(40, 3));
    let generator = Generator {
        backbone: &model.backbone,
        head: &head,
        pyramid: None,
    };
    let condition = given.stack(empty);
    let codes = generate(&generator, &arrangement, condition, 40, &sampler);
    let halves = [0, 2].map(|row| ids(&codes.rows(row, 2).ids));
    assert_eq!(halves[0], halves[1], "guidance answers for both halves");
    let frames = arrangement.undo(codes.ids, 3);
    let n = frames.dims()[2];
    for row in 0..2 {
        let rows = ids(&frames.clone().narrow(0, row, 1));
        let end = rows[..n].iter().position(|&id| id == 36).unwrap_or(n);
        for codebook in rows.chunks(n) {
            assert!(codebook[..end].iter().all(|&id| id < 36), "{codebook:?}");
            assert!(codebook[end..].iter().all(|&id| id >= 36), "{codebook:?}");
        }
    }
}

#[test]
fn musicgen_composes_and_a_full_pass_agrees() {
    let config = r#""num_codebooks": 4"#;
    let json = self::config("musicgen_delay").replace(config, r#""num_codebooks": 3"#);
    let config = musicgen::Config::read(&json).expect("a configuration");
    let mut tensors = published("musicgen_delay");
    tensors.retain(|(name, _)| !name.ends_with("lm_heads.3.weight"));
    tensors.retain(|(name, _)| !name.ends_with("embed_tokens.3.weight"));
    let model = config.build(file(tensors), &device()).expect("it fits");
    let arrangement = config.arrangement();
    let layout = arrangement.layout(9, 3);
    let head = model.head.clone().with_layout(&layout);
    let condition = Condition {
        cross: Some(formula([1, 5, 32], 4, 1.0, &device())),
        ..Condition::default()
    };
    let greedy = SamplerConfig {
        temperature: 0.0,
        ..SamplerConfig::default()
    };
    let generator = Generator {
        backbone: &model.backbone,
        head: &head,
        pyramid: None,
    };
    let codes = generate(&generator, &arrangement, condition.clone(), 9, &greedy);
    let input = head.inputs(codes.ids.clone(), &condition);
    let scores = head.logits_of(model.backbone.forward(input, &condition));
    let best = arrangement.undo(scores.argmax(3).squeeze_dim(3), 3);
    let frames = arrangement.undo(codes.ids.clone(), 3);
    assert_eq!(frames.dims(), [1, 3, 9]);
    assert_eq!(ids(&frames), ids(&best));
    let again = arrangement.arrange(frames);
    assert_eq!(ids(&again), ids(&codes.ids), "what is no frame is padding");
}
