//! Rows do not see each other, noise is repeatable, ids come back, sizes are those published, and what cannot be coded is refused.

mod common;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use common::filled;
use multirate_codec::{SnacConfig, SnacTokenizer};
use ravel_core::{Codes, Layout, SoundTokenizer, Tokenizer, Waveform};
use ravel_testkit::{assert_close, device, formula, ids};

fn tiny() -> SnacConfig {
    SnacConfig {
        sample_rate_hz: 800,
        encoder_width: 4,
        encoder_strides: vec![2, 3],
        decoder_width: 8,
        decoder_strides: vec![3, 2],
        codebook_size: 16,
        code_width: 4,
        ..SnacConfig::default()
    }
}

fn attentive() -> SnacConfig {
    SnacConfig {
        encoder_width: 16,
        decoder_width: 64,
        attention_window: Some(3),
        depthwise: false,
        noise: false,
        ..tiny()
    }
}

fn codec(config: &SnacConfig) -> SnacTokenizer {
    config.validate().unwrap();
    SnacTokenizer::new(filled(config.init(&device())), config)
}

fn sound(batch: usize, time: usize) -> Waveform {
    Waveform {
        samples: formula([batch, 1, time], 11, 0.9, &device()),
        sample_rate_hz: 800,
    }
}

#[test]
fn rows_do_not_see_each_other_and_noise_is_repeatable() {
    for config in [tiny(), attentive()] {
        let codec = codec(&config);
        let both = codec.encode_sound(sound(2, 101)).unwrap();
        let heard = codec.decode_sound(&both).unwrap().samples;
        assert_eq!(heard.dims(), [2, 1, 101]);
        for row in 0..2 {
            let one = Waveform {
                samples: sound(2, 101).samples.narrow(0, row, 1),
                sample_rate_hz: 800,
            };
            let alone = codec.encode(one).unwrap();
            assert_eq!(ids(&alone.ids), ids(&both.codes.rows(row, 1).ids));
        }
        let first = codec.decode(&both.codes.rows(0, 1)).unwrap().samples;
        let again = codec.decode(&both.codes.rows(0, 1)).unwrap().samples;
        assert_close("again", &first, &again, 0.0);
        let alone = first.narrow(2, 0, 101);
        assert_close("row", &alone, &heard.narrow(0, 0, 1), 2e-5);
    }
}

#[test]
fn sound_keeps_its_length() {
    for time in [1, 23, 24, 25, 72] {
        let codec = codec(&attentive());
        let coded = codec.encode_sound(sound(1, time)).unwrap();
        // Whole windows of three frames and whole strides of four: twelve frames of six samples.
        assert_eq!(coded.codes.filled() % 21, 0);
        assert_eq!(codec.decode_sound(&coded).unwrap().samples.dims()[2], time);
    }
}

#[test]
fn the_coarsest_codebook_alone_gives_back_its_ids() {
    let config = SnacConfig {
        code_strides: vec![2],
        ..tiny()
    };
    let codec = codec(&config);
    let quantizer = &codec.module().quantizers[0];
    let given = ravel_testkit::formula_ids([2, 7], 3, 16, &device());
    let rows = quantizer.search.codebook.val();
    let narrow = rows
        .select(0, given.clone().reshape([14]))
        .reshape([2, 7, 4]);
    assert_eq!(ids(&quantizer.ids(narrow)), ids(&given));
}

#[test]
fn what_cannot_be_coded_is_refused() {
    let codec = codec(&tiny());
    let rate = Waveform {
        sample_rate_hz: 44_100,
        ..sound(1, 50)
    };
    let error = codec.encode(rate).unwrap_err().to_string();
    assert!(error.contains("at 44100 Hz"), "{error}");
    assert!(codec.encode(sound(1, 50).shortened(0)).is_err());
    let codes = codec.encode(sound(1, 50)).unwrap();
    let refused = |codes: Codes| codec.decode(&codes).unwrap_err().to_string();
    let flat = Codes {
        layout: Layout::Sequence {
            len: codes.filled(),
        },
        ..codes.clone()
    };
    assert!(refused(flat).contains("a sequence of"));
    let beyond = Codes {
        ids: codes.ids.clone() + 16,
        ..codes.clone()
    };
    assert!(refused(beyond).contains("an id below 16"));
    let uneven = Codes {
        layout: Layout::Scales {
            sides: vec![(1, 2), (1, 5), (1, 8)],
        },
        ..codes
    };
    assert!(refused(uneven).contains("scales"));
    let config = SnacConfig {
        code_strides: vec![4, 3],
        ..tiny()
    };
    let error = config.validate().unwrap_err().to_string();
    assert!(error.starts_with("code-strides"), "{error}");
    let config = SnacConfig {
        encoder_width: 4,
        ..attentive()
    };
    let error = config.validate().unwrap_err().to_string();
    assert!(error.starts_with("encoder-width"), "{error}");
}

/// Numbers in all parameters, none of which is drawn.
fn size(config: &SnacConfig) -> usize {
    struct Count(usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 += param.lazy_shape().num_elements();
        }
    }
    let mut count = Count(0);
    config.init(&device()).visit(&mut count);
    count.0
}

#[test]
fn published_sizes_have_the_stated_parameters() {
    let million = |config: &SnacConfig| (size(config) as f64 / 1e5).round() / 10.0;
    assert_eq!(million(&SnacConfig::default()), 19.8);
    let larger = SnacConfig {
        sample_rate_hz: 32_000,
        encoder_width: 64,
        encoder_strides: vec![2, 3, 8, 8],
        decoder_width: 1536,
        decoder_strides: vec![8, 8, 3, 2],
        attention_window: Some(32),
        code_strides: vec![8, 4, 2, 1],
        ..SnacConfig::default()
    };
    assert_eq!(million(&larger), 54.5);
}
