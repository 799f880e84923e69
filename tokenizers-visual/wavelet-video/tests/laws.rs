//! What holds for every clip, with factorized and with whole convolutions.

use burn::tensor::{Int, Tensor};
use ravel_testkit::{assert_close, device, formula, formula_ids};
use wavelet_video::{Codebook, Patching, WaveletVideo, WaveletVideoConfig};

fn config(factorized: bool) -> WaveletVideoConfig {
    WaveletVideoConfig {
        channels: 8,
        multiples: vec![1, 2],
        blocks: 1,
        encoder_channels: 6,
        decoder_channels: 5,
        encoder_attention: vec![1],
        decoder_attention: vec![1],
        patch: 2,
        patching: Patching::Haar,
        factorized,
        groups: 1,
        space_halvings: 1,
        time_halvings: 0,
        doubles_time_first: false,
        in_channels: 3,
        out_channels: 3,
        codebook: Codebook::Finite {
            levels: vec![8, 5, 5],
            depth: 1,
        },
        half_vectors: false,
    }
}

fn for_each(check: impl Fn(&WaveletVideo, usize)) {
    for factorized in [true, false] {
        let config = config(factorized);
        let factor = config.time_factor();
        assert_eq!(factor, if factorized { 2 } else { 4 });
        check(&config.init(&device()), factor);
    }
}

fn clip(batch: usize, frames: usize) -> Tensor<5> {
    formula([batch, 3, frames, 8, 12], 1, 1.0, &device())
}

fn coded(module: &WaveletVideo, clip: Tensor<5>) -> Tensor<5, Int> {
    module.quantize(module.latents(clip)).ids
}

#[test]
fn the_first_frame_is_a_group_and_later_ones_follow_in_groups() {
    for_each(|module, factor| {
        for groups in 1..=3 {
            let frames = 1 + (groups - 1) * factor;
            let found = coded(module, clip(1, frames));
            assert_eq!(found.dims(), [1, 1, groups, 2, 3]);
            let back = module.decode(module.vectors(found));
            assert_eq!(back.dims(), [1, 3, frames, 8, 12]);
        }
    });
}

#[test]
fn earlier_groups_do_not_depend_on_later_ones() {
    for_each(|module, factor| {
        let all = clip(1, 1 + 2 * factor);
        let latents = module.latents(all.clone());
        let part = module.latents(all.narrow(2, 0, 1 + factor));
        assert_close("latents", &part, &latents.narrow(2, 0, 2), 1e-5);
        let chosen: Tensor<5, Int> = formula_ids([1, 1, 3, 2, 3], 2, 200, &device());
        let whole = module.decode(module.vectors(chosen.clone()));
        let part = module.decode(module.vectors(chosen.narrow(2, 0, 2)));
        assert_close("clip", &part, &whole.narrow(2, 0, 1 + factor), 1e-5);
    });
}

#[test]
fn a_batch_is_its_rows() {
    for_each(|module, factor| {
        let both = module.latents(clip(2, 1 + factor));
        for row in 0..2 {
            let alone = module.latents(clip(2, 1 + factor).narrow(0, row, 1));
            assert_close("row", &alone, &both.clone().narrow(0, row, 1), 1e-5);
        }
    });
}

#[test]
fn ids_give_their_vectors_back() {
    for codebook in [
        Codebook::Finite {
            levels: vec![8, 5, 5],
            depth: 2,
        },
        Codebook::Residual {
            levels: vec![7, 5, 5],
            depth: 3,
        },
    ] {
        let config = WaveletVideoConfig {
            codebook,
            ..config(true)
        };
        let module = config.init(&device());
        let width = config.codebook.width();
        let latents: Tensor<5> = formula([2, width, 2, 2, 3], 4, 1.5, &device());
        let found = module.quantize(latents);
        assert_eq!(found.ids.dims()[1], config.codebook.depth());
        assert_close(
            "vectors",
            &module.vectors(found.ids.clone()),
            &found.vectors,
            1e-6,
        );
    }
}

#[test]
fn half_vectors_are_rounded_to_sixteen_bits() {
    let rounded = WaveletVideoConfig {
        half_vectors: true,
        ..config(true)
    };
    let module = rounded.init(&device());
    let ids: Tensor<5, Int> = formula_ids([1, 1, 2, 2, 3], 2, 200, &device());
    let full = config(true).init(&device()).vectors(ids.clone());
    let half = module.vectors(ids);
    // Halves and quarters have few digits.
    assert_close("vectors", &half, &full, 0.0);
    let third = WaveletVideoConfig {
        codebook: Codebook::Finite {
            levels: vec![7, 7, 7],
            depth: 1,
        },
        ..rounded
    };
    let one: Tensor<5, Int> = Tensor::zeros([1, 1, 1, 1, 1], &device()) + 2;
    let third = ravel_testkit::values(&third.init(&device()).vectors(one))[0];
    assert_eq!(third, -0.333_984_38);
}

#[test]
fn configurations_that_cannot_be_built_are_refused() {
    let check = |change: fn(&mut WaveletVideoConfig), expected: &str| {
        let mut config = config(true);
        change(&mut config);
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|c| c.multiples.clear(), "multiples is a list of 0");
    check(|c| c.channels = 0, "channels is 0");
    check(|c| c.patch = 3, "patch is 3, a power of two");
    check(|c| c.groups = 3, "groups is 3, a divisor of 8");
    check(|c| c.time_halvings = 3, "time-halvings");
    check(|c| c.decoder_attention = vec![2], "attention is 2");
    let levels = |levels: Vec<usize>| Codebook::Finite { levels, depth: 1 };
    let mut config = config(true);
    for wrong in [vec![], vec![8, 1], vec![1 << 20, 1 << 20]] {
        config.codebook = levels(wrong);
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("codebook.levels"), "{error}");
    }
}
