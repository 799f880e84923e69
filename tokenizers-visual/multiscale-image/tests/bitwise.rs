//! What holds for every picture and every pyramid of bits.

use burn::tensor::Tensor;
use multiscale_image::{BitwiseImageConfig, BitwiseImageTokenizer};
use ravel_core::{Codes, Error, ImageTokenizer, Images, Layout, Tokenizer};
use ravel_nn::conv::{AutoencoderConfig, VqGanConfig};
use ravel_quant::MultiscaleBinaryConfig;
use ravel_testkit::{assert_close, device, formula, formula_ids, ids, values};

const BITS: usize = 5;
const POSITIONS: usize = 1 + 6 + 12;

fn config() -> BitwiseImageConfig {
    BitwiseImageConfig {
        size: [6, 8],
        autoencoder: AutoencoderConfig::VqGan(VqGanConfig {
            channels: 32,
            multiples: vec![1, 2],
            blocks: 1,
            z_channels: BITS,
            code_kernel: 0,
            attention: Some(vec![]),
            middle_attention: false,
            ..VqGanConfig::default()
        }),
        quantizer: MultiscaleBinaryConfig {
            width: BITS,
            bits: BITS,
            scales: vec![[1, 1, 1], [1, 2, 3], [1, 3, 4]],
            norm: false,
            decay: false,
        },
        patch: 1,
    }
}

/// Positions of two cells by two.
fn patched() -> BitwiseImageConfig {
    let mut config = BitwiseImageConfig {
        size: [8, 16],
        patch: 2,
        ..config()
    };
    config.quantizer.scales = vec![[1, 2, 2], [1, 2, 4], [1, 4, 8]];
    config
}

fn tokenizer() -> BitwiseImageTokenizer {
    let config = config();
    config.validate().unwrap();
    BitwiseImageTokenizer::new(config.init(&device()), &config)
}

fn images(batch: usize) -> Images {
    Images {
        pixels: formula([batch, 3, 6, 8], 7, 1.0, &device()),
    }
}

fn codes(batch: usize, filled: usize) -> Codes {
    let bits = formula_ids([batch, BITS, POSITIONS], 8, 2, &device());
    Codes {
        ids: bits.slice([0..batch, 0..BITS, 0..filled]),
        layout: tokenizer().image_spec().layout.clone(),
    }
}

#[test]
fn pictures_become_bits_and_bits_pictures() {
    let tokenizer = tokenizer();
    let found = tokenizer.encode(images(2)).unwrap();
    assert_eq!(found.ids.dims(), [2, BITS, POSITIONS]);
    assert!(ids(&found.ids).iter().all(|bit| [0, 1].contains(bit)));
    let back = tokenizer.decode(&found).unwrap().pixels;
    assert_eq!(back.dims(), [2, 3, 6, 8]);
    assert!(
        values(&back)
            .iter()
            .all(|pixel| (-1.0..=1.0).contains(pixel))
    );
}

#[test]
fn a_batch_is_its_rows() {
    let tokenizer = tokenizer();
    let both = tokenizer.encode(images(2)).unwrap();
    let pictures = tokenizer.decode(&codes(2, POSITIONS)).unwrap().pixels;
    for row in 0..2 {
        let image = Images {
            pixels: images(2).pixels.narrow(0, row, 1),
        };
        assert_eq!(
            ids(&both.rows(row, 1).ids),
            ids(&tokenizer.encode(image).unwrap().ids)
        );
        let alone = tokenizer
            .decode(&codes(2, POSITIONS).rows(row, 1))
            .unwrap()
            .pixels;
        assert_close("picture", &alone, &pictures.clone().narrow(0, row, 1), 1e-5);
    }
}

#[test]
fn a_preview_shows_the_whole_scales() {
    let tokenizer = tokenizer();
    let two = tokenizer.preview(&codes(1, 7)).unwrap().pixels;
    let more = tokenizer.preview(&codes(1, 12)).unwrap().pixels;
    assert_close("two scales", &more, &two, 0.0);
    let all = tokenizer.preview(&codes(1, POSITIONS)).unwrap().pixels;
    assert_ne!(values(&all), values(&two));
    let error = tokenizer.preview(&codes(1, 0)).unwrap_err();
    assert!(matches!(error, Error::Codes { .. }), "{error}");
}

/// Scale by scale as a generator adds them, from the encoder's latents: what `encode` and `preview` do at once.
fn check_pyramid(config: &BitwiseImageConfig) {
    config.validate().unwrap();
    let module = config.init(&device());
    let tokenizer = BitwiseImageTokenizer::new(module.clone(), config);
    let [height, width] = config.size;
    let pixels = formula([2, 3, height, width], 9, 1.0, &device());
    let images = || Images {
        pixels: pixels.clone(),
    };
    let latents = tokenizer.latents(images()).unwrap();
    let codes = tokenizer.encode(images()).unwrap();
    let pyramid = tokenizer.pyramid().unwrap();
    let depth = tokenizer.spec().depth;
    assert_eq!(pyramid.code_width(), depth);
    let mut canvas = None;
    let mut found = Vec::new();
    for (scale, &(rows, columns)) in pyramid.sides().iter().enumerate() {
        if let Some(canvas) = &canvas {
            let features = pyramid.features_for(canvas, scale);
            assert_eq!(features.dims(), [2, rows * columns, depth]);
        }
        let chosen = pyramid.ids_for(latents.clone(), canvas.as_ref(), scale);
        canvas = Some(pyramid.add_scale(canvas, scale, chosen.clone()));
        found.push(chosen);
        let so_far = Codes {
            ids: Tensor::cat(found.clone(), 2),
            layout: codes.layout.clone(),
        };
        let expected = codes.ids.clone().narrow(2, 0, so_far.filled());
        assert_eq!(ids(&so_far.ids), ids(&expected));
        let shown = tokenizer.preview(&so_far).unwrap().pixels;
        let grown = canvas.clone().unwrap().unsqueeze_dim(2);
        let picture = module.picture(grown).clamp(-1.0, 1.0);
        assert_close("canvas", &picture, &shown, 1e-4);
    }
    let whole = tokenizer.decode(&codes).unwrap().pixels;
    assert_eq!(whole.dims(), [2, 3, height, width]);
}

#[test]
fn a_pyramid_adds_what_encoding_finds() {
    check_pyramid(&config());
    check_pyramid(&patched());
    let mut odd = patched();
    odd.quantizer.scales[0] = [1, 1, 2];
    assert!(odd.validate().unwrap_err().to_string().starts_with("patch"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let tokenizer = tokenizer();
    let other = Codes {
        layout: Layout::Sequence { len: POSITIONS },
        ..codes(1, POSITIONS)
    };
    let thrice = Codes {
        ids: codes(1, POSITIONS).ids + 1,
        ..codes(1, POSITIONS)
    };
    for wrong in [&other, &thrice, &codes(1, 7)] {
        let error = tokenizer.decode(wrong).unwrap_err();
        assert!(matches!(error, Error::Codes { .. }), "{error}");
    }
    let check = |change: fn(&mut BitwiseImageConfig), expected: &str| {
        let mut config = config();
        change(&mut config);
        let error = config.validate().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check(|c| c.size = [6, 7], "size is 7");
    check(|c| c.quantizer.width = 4, "codebook.width is 4");
    check(
        |c| c.quantizer.bits = 0,
        "quantizer.width, quantizer.bits is 5, 0",
    );
    check(|c| c.quantizer.scales.clear(), "quantizer.scales is []");
    check(|c| c.quantizer.scales[1] = [2, 2, 3], "quantizer.scales");
}
