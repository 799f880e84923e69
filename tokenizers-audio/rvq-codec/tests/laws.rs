//! What holds for every codec: rows do not see each other, pieces are the whole, one codebook gives back its ids, and what
//! cannot be coded is refused in words.

mod common;

use burn::tensor::{Int, Tensor};
use common::filled;
use ravel_core::{Codes, Error, Layout, SoundCodes, SoundTokenizer, Waveform};
use ravel_nn::wave::PadKind;
use ravel_testkit::{assert_close, device, formula, formula_ids, ids};
use rvq_codec::*;

/// Sums of the same products in another order.
const BOUND: f32 = 2e-5;

fn seanet() -> SeanetConfig {
    SeanetConfig {
        width: 8,
        filters: 4,
        ratios: vec![2, 2],
        lstm_layers: 1,
        ..SeanetConfig::default()
    }
}

fn encodec() -> EncodecConfig {
    EncodecConfig {
        sample_rate_hz: 800,
        seanet: seanet(),
        codebook_size: 16,
        code_width: 8,
        depth: 4,
        bandwidth_kbps: None,
        ..EncodecConfig::default()
    }
}

fn chunked() -> EncodecConfig {
    EncodecConfig {
        seanet: SeanetConfig {
            channels: 2,
            causal: false,
            time_norm: true,
            shortcut: false,
            ..seanet()
        },
        normalize: true,
        chunks: Some(Chunks {
            length: 40,
            stride: 32,
        }),
        ..encodec()
    }
}

fn mimi() -> MimiConfig {
    MimiConfig {
        sample_rate_hz: 800,
        seanet: SeanetConfig {
            lstm_layers: 0,
            pad: PadKind::Zero,
            ..seanet()
        },
        transformer: MimiTransformerConfig {
            layers: 2,
            n_heads: 2,
            n_kv_heads: 1,
            head_width: 4,
            d_ff: 16,
            window: Some(5),
            ..MimiTransformerConfig::default()
        },
        upsample_groups: 8,
        depth: 4,
        codebook_size: 16,
        code_width: 4,
        ..MimiConfig::default()
    }
}

fn dac() -> DacConfig {
    DacConfig {
        sample_rate_hz: 800,
        encoder_width: 4,
        encoder_strides: vec![2, 3],
        latent_width: 8,
        decoder_width: 8,
        decoder_strides: vec![3, 2],
        depth: 3,
        codebook_size: 16,
        code_width: 4,
        encode_depth: None,
    }
}

fn firefly() -> FireflyConfig {
    FireflyConfig {
        mel: LogMelConfig {
            sample_rate_hz: 800,
            points: 16,
            window: 16,
            hop: 4,
            mels: 5,
            ..LogMelConfig::default()
        },
        backbone: FireflyBackboneConfig {
            channels: 5,
            depths: vec![1, 1],
            widths: vec![4, 8],
            kernel: 7,
        },
        quantizer: GroupedFsqConfig {
            width: 8,
            groups: 2,
            levels: vec![4, 3],
            factors: vec![2],
            ..GroupedFsqConfig::default()
        },
        head: FireflyHeadConfig {
            channels: 8,
            strides: vec![2, 2],
            kernels: vec![4, 4],
            residual_kernels: vec![3],
            residual_dilations: vec![vec![1, 3]],
            width: 8,
            first_kernel: 5,
            last_kernel: 5,
        },
    }
}

fn spectral() -> SpectralConfig {
    SpectralConfig {
        sample_rate_hz: 800,
        mels: 5,
        mel_hop: 4,
        encoder_width: 6,
        encoder_blocks: 2,
        stride: 2,
        code_width: 4,
        depth: 3,
        codebook_size: 16,
        decoder_width: 8,
        decoder_blocks: 2,
        window: 16,
        hop: 4,
    }
}

fn spectral_of(config: &SpectralConfig) -> SpectralTokenizer {
    config.validate().unwrap();
    SpectralTokenizer::new(filled(config.init(&device())), config, &device())
}

fn encodec_of(config: &EncodecConfig) -> EncodecTokenizer {
    config.validate().unwrap();
    EncodecTokenizer::new(filled(config.init(&device())), config)
}

fn mimi_of(config: &MimiConfig) -> MimiTokenizer {
    config.validate().unwrap();
    let mut module = filled(config.init(&device()));
    // Usage is a count.
    let books = module.quantizer.acoustic.iter_mut();
    for group in books.chain([&mut module.quantizer.semantic]) {
        for book in &mut group.codebooks {
            book.usage = book.usage.clone().map(|usage| usage.abs() + 1.0);
        }
    }
    MimiTokenizer::new(module, config)
}

fn all() -> Vec<(&'static str, Box<dyn SoundTokenizer>)> {
    let (dac, firefly) = (dac(), firefly());
    dac.validate().unwrap();
    firefly.validate().unwrap();
    let firefly_module = filled(firefly.init(&device()));
    vec![
        ("encodec", Box::new(encodec_of(&encodec())) as _),
        ("encodec in chunks", Box::new(encodec_of(&chunked())) as _),
        ("mimi", Box::new(mimi_of(&mimi())) as _),
        (
            "dac",
            Box::new(DacTokenizer::new(filled(dac.init(&device())), &dac)) as _,
        ),
        (
            "firefly",
            Box::new(FireflyTokenizer::new(firefly_module, &firefly, &device())) as _,
        ),
        ("spectral", Box::new(spectral_of(&spectral())) as _),
    ]
}

fn sound(codec: &dyn SoundTokenizer, batch: usize, time: usize) -> Waveform {
    let spec = codec.sound_spec();
    Waveform {
        samples: formula([batch, spec.channels, time], 11, 0.9, &device()),
        sample_rate_hz: spec.sample_rate_hz,
    }
}

#[test]
fn rows_do_not_see_each_other() {
    for (name, codec) in all() {
        let both = sound(&*codec, 2, 101);
        let coded = codec.encode_sound(both.clone()).unwrap();
        let heard = codec.decode_sound(&coded).unwrap();
        for row in 0..2 {
            let one = Waveform {
                samples: both.samples.clone().narrow(0, row, 1),
                ..both
            };
            let alone = codec.encode_sound(one).unwrap();
            assert_eq!(
                ids(&alone.codes.ids),
                ids(&coded.codes.rows(row, 1).ids),
                "{name}"
            );
            let single = codec.decode_sound(&alone).unwrap();
            let of_both = heard.samples.clone().narrow(0, row, 1);
            assert_close(name, &single.samples, &of_both, BOUND);
        }
    }
}

#[test]
fn sound_keeps_its_length_but_for_odd_strides() {
    for (name, codec) in all() {
        for time in [1, 2, 7, 40, 41, 101] {
            let coded = codec.encode_sound(sound(&*codec, 1, time)).unwrap();
            let heard = codec.decode_sound(&coded).unwrap();
            let found = heard.samples.dims()[2];
            match name {
                "dac" => assert!(
                    found <= time && found + 4 > time,
                    "{name}: {found} of {time}"
                ),
                _ => assert_eq!(found, time, "{name}"),
            }
        }
    }
}

#[test]
fn silence_stays_finite() {
    for (name, codec) in all() {
        let mut silence = sound(&*codec, 1, 90);
        silence.samples = silence.samples.zeros_like();
        let coded = codec.encode_sound(silence).unwrap();
        let heard = codec.decode_sound(&coded).unwrap();
        let finite = ravel_testkit::values(&heard.samples)
            .iter()
            .all(|x| x.is_finite());
        assert!(finite, "{name}");
    }
}

fn check_pieces(name: &str, codec: &dyn SoundTokenizer, time: usize, piece: usize) {
    let whole = sound(codec, 2, time);
    let channels = codec.sound_spec().channels;
    let streaming = codec.streaming().expect("a causal codec streams");
    let expected = codec.encode(whole.clone()).unwrap();
    let mut chunks = streaming.begin_encode(2);
    let mut found = Vec::new();
    for from in (0..time).step_by(piece) {
        let to = (from + piece).min(time);
        let samples = whole.samples.clone().slice([0..2, 0..channels, from..to]);
        found.push(chunks.push(Waveform { samples, ..whole }).unwrap());
        let nothing = whole.clone().shortened(0);
        assert_eq!(chunks.push(nothing).unwrap().filled(), 0);
    }
    found.push(chunks.finish().unwrap());
    let pieces = found.into_iter().filter(|codes| codes.filled() > 0);
    let found = Tensor::cat(pieces.map(|codes| codes.ids).collect(), 2);
    assert_eq!(ids(&found), ids(&expected.ids), "{name}, pieces of {piece}");

    let heard = codec.decode(&expected).unwrap().samples;
    let mut chunks = streaming.begin_decode(2, expected.depth());
    let mut pieces = Vec::new();
    for at in 0..expected.filled() {
        let ids = expected.ids.clone().narrow(2, at, 1);
        let layout = Layout::Sequence { len: 1 };
        pieces.push(chunks.push(&Codes { ids, layout }).unwrap().samples);
    }
    pieces.push(chunks.finish().unwrap().samples);
    pieces.retain(|samples| samples.dims()[2] > 0);
    assert_close(name, &Tensor::cat(pieces, 2), &heard, BOUND);
}

#[test]
fn pieces_are_the_whole() {
    for pad in [PadKind::Reflect, PadKind::Zero, PadKind::Replicate] {
        for trim_right_ratio in [1.0, 0.4] {
            let config = EncodecConfig {
                seanet: SeanetConfig {
                    pad,
                    trim_right_ratio,
                    residual_layers: 2,
                    ..seanet()
                },
                ..encodec()
            };
            for (time, piece) in [(1, 1), (3, 2), (90, 1), (101, 13), (101, 101)] {
                check_pieces("encodec", &encodec_of(&config), time, piece);
            }
        }
    }
    assert!(encodec_of(&chunked()).streaming().is_none());
    for (time, piece) in [(1, 1), (3, 2), (90, 1), (101, 13), (101, 101)] {
        check_pieces("spectral", &spectral_of(&spectral()), time, piece);
    }
}

#[test]
fn a_window_makes_an_endless_stream_possible() {
    // 300 frames are more than the transformers' memory has room for.
    for window in [Some(5), None] {
        let mut config = mimi();
        config.transformer.window = window;
        let codec = mimi_of(&config);
        check_pieces("mimi", &codec, 1203, 37);
        check_pieces("mimi", &codec, 9, 1);
    }
}

#[test]
fn one_codebook_gives_back_its_ids() {
    let given = |size| formula_ids([2, 1, 9], 3, size, &device());
    let codec = encodec_of(&encodec());
    let ids_: Tensor<3, Int> = given(16);
    let found = codec.module().ids(codec.module().vectors(ids_.clone()), 1);
    assert_eq!(ids(&found), ids(&ids_));
    // Finite scalars without projections: rounding a code vector changes nothing.
    let config = GroupedFsqConfig {
        width: 4,
        groups: 2,
        levels: vec![4, 3],
        factors: vec![1],
        ..GroupedFsqConfig::default()
    };
    let quantizer = config.init(&device());
    let given: Tensor<3, Int> = formula_ids([1, 2, 9], 5, 12, &device());
    let half = |levels: usize| (levels - 1) as f32 / 2.0 * 1.001;
    let back: Vec<f32> = ids(&given)
        .into_iter()
        .flat_map(|id| {
            let step = |step: i64, levels: usize| {
                let even = levels.is_multiple_of(2);
                let offset = if even { 0.5 } else { 0.0 };
                let bounded = (step - levels as i64 / 2) as f32 + offset;
                (bounded / half(levels)).atanh() - (offset / half(levels)).atanh()
            };
            [step(id % 4, 4), step(id / 4, 3)]
        })
        .collect();
    let features = Tensor::<1>::from_floats(&back[..], &device())
        .reshape([1, 2, 9, 2])
        .permute([0, 1, 3, 2])
        .reshape([1, 4, 9]);
    assert_eq!(ids(&quantizer.quantize(features).ids), ids(&given));
}

#[test]
fn what_cannot_be_coded_is_refused() {
    for (name, codec) in all() {
        let good = sound(&*codec, 1, 50);
        let refused = |signal: Waveform| codec.encode(signal).unwrap_err().to_string();
        let rate = Waveform {
            sample_rate_hz: 801,
            ..good.clone()
        };
        assert!(refused(rate).contains("at 801 Hz"), "{name}");
        assert!(
            refused(good.clone().shortened(0)).contains("0 samples"),
            "{name}"
        );
        let [_, channels, time] = good.samples.dims();
        let more = Waveform {
            samples: formula([1, channels + 1, time], 1, 1.0, &device()),
            ..good.clone()
        };
        assert!(refused(more).contains("channels"), "{name}");

        let codes = codec.encode(good).unwrap();
        let grid = Codes {
            layout: Layout::Grid {
                height: 1,
                width: codes.filled(),
            },
            ..codes.clone()
        };
        assert!(
            matches!(codec.decode(&grid), Err(Error::Codes { .. })),
            "{name}"
        );
        let beyond = Codes {
            ids: codes.ids.clone() + 1000,
            ..codes.clone()
        };
        let error = codec.decode(&beyond).unwrap_err().to_string();
        assert!(error.contains("an id below"), "{name}: {error}");
        let deep = Codes {
            ids: codes.ids.clone().repeat_dim(1, 9),
            ..codes.clone()
        };
        let error = codec.decode(&deep).unwrap_err().to_string();
        assert!(error.contains("depth"), "{name}: {error}");
        let mut cut = codes.clone();
        cut.truncate(codes.filled() - 1);
        assert!(codec.decode(&cut).is_err(), "{name}");
    }
}

#[test]
fn gains_must_fit_their_chunks() {
    let codec = encodec_of(&chunked());
    let coded = codec.encode_sound(sound(&codec, 1, 101)).unwrap();
    let wrong = SoundCodes {
        gains: Some(Tensor::ones([1, 2], &device())),
        ..coded
    };
    let error = codec.decode_sound(&wrong).unwrap_err().to_string();
    assert!(error.contains("gains for 1 rows of 2 chunks"), "{error}");
}

#[test]
fn more_bandwidth_uses_more_codebooks() {
    let config = EncodecConfig::default();
    let depths = [1.5, 3.0, 6.0, 12.0, 24.0].map(|rate| config.depth_at(rate));
    assert_eq!(depths, [2, 4, 8, 16, 32]);
    assert_eq!((config.depth_at(0.1), config.depth_at(0.0)), (1, 32));
}

#[test]
fn impossible_settings_are_named() {
    let check = |field: &str, result: ravel_core::Result<()>| {
        let error = result.expect_err(field).to_string();
        assert!(error.starts_with(field), "{error}");
    };
    let mut config = encodec();
    config.seanet.ratios = vec![];
    check("ratios", config.validate());
    config.seanet.ratios = vec![usize::MAX, 2];
    check("ratios", config.validate());
    let mut config = encodec();
    config.code_width = 7;
    check("code-width", config.validate());
    let mut config = chunked();
    config.chunks = Some(Chunks {
        length: 4,
        stride: 5,
    });
    check("chunks.stride", config.validate());
    let mut config = mimi();
    config.upsample_groups = 3;
    check("upsample-groups", config.validate());
    config = mimi();
    config.semantic_depth = 9;
    check("semantic-depth", config.validate());
    let mut config = dac();
    config.encode_depth = Some(4);
    check("encode-depth", config.validate());
    let mut config = firefly();
    config.mel.hop = 8;
    check("head.strides", config.validate());
    config = firefly();
    config.quantizer.levels = vec![1];
    check("quantizer.levels", config.validate());
}
