//! What holds for every picture and every grid of codes, with both architectures.

mod common;

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use common::{filled, idle};
use ravel_core::{Codes, Error, ImageTokenizer, Images, Layout, Tokenizer};
use ravel_nn::conv::{AutoencoderConfig, CompactConfig, VqGanConfig};
use ravel_quant::VectorConfig;
use ravel_testkit::{assert_close, device, formula, formula_ids, ids, values};
use vq_image::{
    VqImage, VqImageConfig, VqImageReader, VqImageReaderTokenizer, VqImageTokenizer,
    sequence_from_grid,
};

const SIZE: usize = 16;
const CODEBOOK: usize = 24;
const LAYOUT: Layout = Layout::Grid {
    height: 4,
    width: 4,
};

fn compact() -> AutoencoderConfig {
    AutoencoderConfig::Compact(CompactConfig {
        patch: 2,
        encoder: vec![8, 12],
        decoder: vec![12, 8],
        encoder_blocks: vec![1, 2],
        decoder_blocks: vec![2, 1],
    })
}

fn vq_gan() -> AutoencoderConfig {
    AutoencoderConfig::VqGan(VqGanConfig {
        channels: 32,
        multiples: vec![1, 2, 1],
        blocks: 1,
        z_channels: 6,
        code_kernel: 1,
        ..VqGanConfig::default()
    })
}

/// Attention at the finest grid only, none in the middle, no convolution to the code's width.
fn elsewhere() -> AutoencoderConfig {
    AutoencoderConfig::VqGan(VqGanConfig {
        channels: 32,
        multiples: vec![1, 2, 1],
        blocks: 1,
        z_channels: 5,
        code_kernel: 0,
        attention: Some(vec![0]),
        middle_attention: false,
        ..VqGanConfig::default()
    })
}

fn config(autoencoder: AutoencoderConfig) -> VqImageConfig {
    VqImageConfig {
        size: SIZE,
        autoencoder,
        codebook: VectorConfig {
            codebook_size: CODEBOOK,
            width: 5,
            l2_normalize: false,
        },
        unit_vectors: false,
    }
}

/// The check with the weights and the tokenizer of each architecture.
fn for_each(check: impl Fn(&VqImage, &VqImageTokenizer)) {
    for autoencoder in [compact(), vq_gan(), elsewhere()] {
        let config = config(autoencoder);
        config.validate().unwrap();
        let module = filled(config.init(&device()));
        check(&module, &VqImageTokenizer::new(module.clone(), &config));
    }
}

fn images(batch: usize) -> Images {
    Images {
        pixels: formula([batch, 3, SIZE, SIZE], 7, 1.0, &device()),
    }
}

fn codes(batch: usize, filled: usize) -> Codes {
    let ids = formula_ids([batch, 1, 16], 8, CODEBOOK, &device());
    Codes {
        ids: ids.slice([0..batch, 0..1, 0..filled]),
        layout: LAYOUT,
    }
}

#[test]
fn a_batch_is_its_rows() {
    for_each(|_, tokenizer| {
        let both = tokenizer.encode(images(2)).unwrap();
        let pictures = tokenizer.decode(&codes(2, 16)).unwrap().pixels;
        for row in 0..2 {
            let image = Images {
                pixels: images(2).pixels.narrow(0, row, 1),
            };
            let alone = tokenizer.encode(image).unwrap();
            assert_eq!(ids(&both.rows(row, 1).ids), ids(&alone.ids));
            let picture = tokenizer.decode(&codes(2, 16).rows(row, 1)).unwrap().pixels;
            assert_close(
                "picture",
                &picture,
                &pictures.clone().narrow(0, row, 1),
                0.0,
            );
        }
    });
}

#[test]
fn codes_tell_pictures_apart() {
    for_each(|_, tokenizer| {
        let chosen = ids(&tokenizer.encode(images(2)).unwrap().ids);
        assert_ne!(chosen[..16], chosen[16..]);
        let pixels = values(&tokenizer.decode(&codes(2, 16)).unwrap().pixels);
        let (first, second) = pixels.split_at(pixels.len() / 2);
        assert_ne!(first, second);
    });
}

#[test]
fn decoding_twice_gives_the_same_bits_within_range() {
    for_each(|_, tokenizer| {
        let first = values(&tokenizer.decode(&codes(2, 16)).unwrap().pixels);
        let second = values(&tokenizer.decode(&codes(2, 16)).unwrap().pixels);
        assert_eq!(first, second);
        assert!(first.iter().all(|pixel| (-1.0..=1.0).contains(pixel)));
    });
}

/// The quantizer's law: pictures lose something on the way, code vectors do not.
#[test]
fn code_vectors_keep_their_ids() {
    for_each(|module, _| {
        let chosen = codes(2, 16).at_depth(0);
        let vectors = module.quantizer.vectors(chosen.clone());
        assert_eq!(ids(&module.quantizer.ids(vectors)), ids(&chosen));
    });
}

#[test]
fn training_sees_what_decoding_shows() {
    for_each(|module, tokenizer| {
        let pixels = images(2).pixels;
        let found = tokenizer.encode(images(2)).unwrap();
        let shown = tokenizer.decode(&found).unwrap().pixels;
        let output = module.forward(pixels.clone(), true);
        assert_close("pixels", &output.pixels.clamp(-1.0, 1.0), &shown, 1e-5);
        let (looked_up, chosen) = &output.groups[0];
        assert_eq!(ids(chosen), ids(&found.ids));
        let latents = tokenizer.latents(images(2)).unwrap();
        let flat = sequence_from_grid(latents.clone()).flatten(0, 1);
        assert_close("looked up", looked_up, &flat, 0.0);

        let plain = module.forward(pixels, false);
        assert!(plain.commitment.is_none() && plain.groups.is_empty());
        assert_close("latents", &plain.latents.unwrap(), &latents, 0.0);
        assert_close(
            "plain pixels",
            &plain.pixels,
            &module.decoder.forward(latents),
            0.0,
        );
    });
}

#[test]
fn a_preview_of_all_is_the_picture_and_of_none_one_flat_guess() {
    for_each(|module, tokenizer| {
        let all = tokenizer.preview(&codes(2, 16)).unwrap().pixels;
        let picture = tokenizer.decode(&codes(2, 16)).unwrap().pixels;
        assert_close("all", &all, &picture, 0.0);

        let none = tokenizer.preview(&codes(1, 0)).unwrap().pixels;
        let mean = module.quantizer.rows().mean_dim(0).reshape([1, 5, 1, 1]);
        let guess = module.decoder.forward(mean.expand([1, 5, 4, 4]));
        assert_close("none", &none, &guess.clamp(-1.0, 1.0), 1e-5);
        assert_eq!(
            tokenizer.preview(&codes(1, 5)).unwrap().pixels.dims(),
            [1, 3, 16, 16]
        );
    });
}

#[test]
fn attention_stands_where_the_configuration_says() {
    let blocks = |autoencoder| {
        let module = filled(config(autoencoder).init(&device()));
        let mut names: Vec<String> = common::names(&module)
            .into_iter()
            .filter(|name| name.ends_with(".q.weight"))
            .map(|name| name.replace(".VqGan", "").replace(".q.weight", ""))
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        blocks(elsewhere()),
        [
            "decoder.up.2.attn.0",
            "decoder.up.2.attn.1",
            "encoder.down.0.attn.0"
        ]
    );
    assert_eq!(
        blocks(vq_gan()),
        [
            "decoder.mid.attn_1",
            "decoder.up.0.attn.0",
            "decoder.up.0.attn.1",
            "encoder.down.2.attn.0",
            "encoder.mid.attn_1"
        ]
    );
}

#[test]
fn the_reading_half_has_the_ids_of_the_whole_and_no_pictures() {
    for_each(|module, tokenizer| {
        let half = VqImageReader {
            encoder: module.encoder.clone(),
            quantizer: module.quantizer.clone(),
        };
        let half = VqImageReaderTokenizer::new(half, &config(vq_gan()));
        let found = half.encode(images(2)).unwrap();
        let whole = tokenizer.encode(images(2)).unwrap();
        assert_eq!(ids(&found.ids), ids(&whole.ids));
        let error = half.decode(&found).unwrap_err().to_string();
        assert!(error.contains("no decoder"), "{error}");
    });
}

#[test]
fn a_decoder_of_unit_vectors_does_not_see_their_length() {
    let config = VqImageConfig {
        unit_vectors: true,
        ..config(vq_gan())
    };
    let module = filled(config.init(&device()));
    let mut longer = module.clone();
    longer.quantizer.codebook = longer.quantizer.codebook.map(|rows| rows * 3.0);
    let decoded = |module: &VqImage| module.decode(codes(1, 16).at_depth(0), 4, 4);
    assert_close("pixels", &decoded(&longer), &decoded(&module), 1e-5);
    let pixels = images(1).pixels;
    let output = module.forward(pixels.clone(), true);
    let chosen = output.groups[0].1.clone().reshape([1, 16]);
    assert_close("pixels", &output.pixels, &module.decode(chosen, 4, 4), 1e-5);
}

#[test]
fn every_weight_learns() {
    let training = device().autodiff();
    for autoencoder in [compact(), vq_gan(), elsewhere()] {
        let module = filled(config(autoencoder).init(&device()))
            .fork(&training)
            .train();
        let pixels: Tensor<4> = formula([2, 3, SIZE, SIZE], 7, 1.0, &training);
        let output = module.forward(pixels.clone(), true);
        let loss = (output.pixels - pixels).square().mean() + output.commitment.unwrap();
        // The codebook follows by moving means instead.
        assert_eq!(idle(&module, &loss.backward()), ["quantizer.codebook"]);
    }
}

#[test]
fn pictures_of_another_size_are_refused() {
    for_each(|_, tokenizer| {
        for (shape, found) in [
            ([1, 3, 16, 20], "20 x 16 pixels of 3 channels"),
            ([1, 3, 8, 8], "8 x 8 pixels of 3 channels"),
            ([1, 4, 16, 16], "16 x 16 pixels of 4 channels"),
        ] {
            let images = Images {
                pixels: formula(shape, 1, 1.0, &device()),
            };
            let error = Error::Signal {
                found: found.into(),
                expected: "16 x 16 pixels of 3 channels".into(),
            };
            assert_eq!(tokenizer.encode(images.clone()).unwrap_err(), error);
            assert_eq!(tokenizer.latents(images).unwrap_err(), error);
        }
    });
}

#[test]
fn codes_that_do_not_fit_are_refused() {
    let largest = |id: i64| {
        let ids: Tensor<2, Int> = Tensor::full([1, 16], id, &device());
        Codes::flat(ids, LAYOUT)
    };
    let other = Codes {
        layout: Layout::Sequence { len: 16 },
        ..codes(1, 16)
    };
    let deep = Codes {
        ids: codes(1, 16).ids.repeat_dim(1, 2),
        layout: LAYOUT,
    };
    for_each(|_, tokenizer| {
        assert!(tokenizer.decode(&largest(CODEBOOK as i64 - 1)).is_ok());
        for wrong in [&largest(CODEBOOK as i64), &other, &deep, &codes(1, 15)] {
            let error = tokenizer.decode(wrong).unwrap_err();
            assert!(matches!(error, Error::Codes { .. }), "{error}");
        }
    });
}

#[test]
fn configurations_that_cannot_be_built_are_refused() {
    let check = |autoencoder: &str, expected: &str| {
        let text = format!(
            r#"{{"size": 16, "autoencoder": {autoencoder}, "codebook": {{"codebook-size": 24, "width": 5}}}}"#
        );
        let found = match serde_json::from_str::<VqImageConfig>(&text) {
            Ok(config) => config.validate().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "{autoencoder}: {found}");
    };
    let compact = |fields: &str| format!(r#"{{"arch": "compact", {fields}}}"#);
    let lists = r#""encoder": [8, 8], "decoder": [8, 8], "encoder-blocks": [1, 1], "decoder-blocks": [1, 1]"#;
    check(
        &compact(&format!(r#""patch": 3, {lists}"#)),
        "size is 16, a multiple of 6",
    );
    check(
        &compact(&format!(r#""patch": 0, {lists}"#)),
        "numbers of at least 1",
    );
    check(&compact(&format!(r#""patches": 2, {lists}"#)), "patches");
    let short = lists.replace(r#""decoder-blocks": [1, 1]"#, r#""decoder-blocks": [1]"#);
    check(
        &compact(&format!(r#""patch": 2, {short}"#)),
        "decoder-blocks is a list of 1",
    );

    let vq_gan = |channels: usize, blocks: usize, kernel: usize| {
        format!(
            r#"{{"arch": "vq-gan", "channels": {channels}, "multiples": [1, 2], "blocks": {blocks},
                "z-channels": 8, "code-kernel": {kernel}}}"#
        )
    };
    check(&vq_gan(48, 1, 1), "channels is 48");
    check(&vq_gan(32, 0, 1), "blocks is 0");
    check(&vq_gan(32, 1, 2), "code-kernel is 2");
    check(&vq_gan(32, 1, 0), "codebook.width is 5");
    let attending = vq_gan(32, 1, 1).replace('}', r#", "attention": [2]}"#);
    check(&attending, "attention is 2");
    check(r#"{"arch": "vq-gen"}"#, "vq-gen");
    check(r#"{"patch": 2}"#, "arch");
}
