//! What holds for every picture and every pyramid of codes, with both architectures.

#[path = "../../vq-image/tests/common/mod.rs"]
mod common;

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use common::{filled, idle};
use multiscale_image::{MultiscaleImage, MultiscaleImageConfig, MultiscaleImageTokenizer};
use ravel_core::{Codes, Error, ImageTokenizer, Images, Layout, Pyramid, Tokenizer};
use ravel_nn::conv::{AutoencoderConfig, CompactConfig, VqGanConfig};
use ravel_quant::{MultiscaleConfig, VectorConfig, area_down};
use ravel_testkit::{assert_close, device, formula, formula_ids, ids, largest_difference, values};
use vq_image::sequence_from_grid;

const SIZE: usize = 16;
const SIDES: [usize; 3] = [1, 2, 4];
const POSITIONS: usize = 21;
const CODEBOOK: usize = 24;

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
        code_kernel: 3,
        ..VqGanConfig::default()
    })
}

fn config(autoencoder: AutoencoderConfig) -> MultiscaleImageConfig {
    MultiscaleImageConfig {
        size: SIZE,
        autoencoder,
        quantizer: MultiscaleConfig {
            codebook: VectorConfig {
                codebook_size: CODEBOOK,
                width: 5,
                l2_normalize: false,
            },
            sides: SIDES.to_vec(),
            phi: 4,
            phi_share: 0.5,
            cosine: false,
            residual: true,
        },
    }
}

/// The check with the weights and the tokenizer of each architecture.
fn for_each(check: impl Fn(&MultiscaleImage, &MultiscaleImageTokenizer)) {
    for autoencoder in [compact(), vq_gan()] {
        let config = config(autoencoder);
        config.validate().unwrap();
        let module = filled(config.init(&device()));
        check(
            &module,
            &MultiscaleImageTokenizer::new(module.clone(), &config),
        );
    }
}

fn images(batch: usize) -> Images {
    Images {
        pixels: formula([batch, 3, SIZE, SIZE], 7, 1.0, &device()),
    }
}

fn codes(batch: usize, filled: usize) -> Codes {
    let ids = formula_ids([batch, 1, POSITIONS], 8, CODEBOOK, &device());
    Codes {
        ids: ids.slice([0..batch, 0..1, 0..filled]),
        layout: Layout::square_scales(&SIDES),
    }
}

/// The canvas after each scale, grown one scale at a time as a next-scale head does.
fn grown(pyramid: &dyn Pyramid, codes: &Codes) -> Vec<Tensor<4>> {
    let mut canvases: Vec<Tensor<4>> = Vec::new();
    for unit in codes.layout.blocks() {
        let ids = codes.of_unit(&unit);
        canvases.push(pyramid.add_scale(canvases.last().cloned(), unit.index, ids));
    }
    canvases
}

#[test]
fn a_batch_is_its_rows() {
    for_each(|_, tokenizer| {
        let both = tokenizer.encode(images(2)).unwrap();
        assert_eq!(both.filled(), POSITIONS);
        let pictures = tokenizer.decode(&codes(2, POSITIONS)).unwrap().pixels;
        for row in 0..2 {
            let image = Images {
                pixels: images(2).pixels.narrow(0, row, 1),
            };
            let alone = tokenizer.encode(image).unwrap();
            assert_eq!(ids(&both.rows(row, 1).ids), ids(&alone.ids));
            let one = codes(2, POSITIONS).rows(row, 1);
            let picture = tokenizer.decode(&one).unwrap().pixels;
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
fn decoding_twice_gives_the_same_bits_within_range() {
    for_each(|_, tokenizer| {
        let first = values(&tokenizer.decode(&codes(2, POSITIONS)).unwrap().pixels);
        let second = values(&tokenizer.decode(&codes(2, POSITIONS)).unwrap().pixels);
        assert_eq!(first, second);
        assert!(first.iter().all(|pixel| (-1.0..=1.0).contains(pixel)));
    });
}

#[test]
fn scales_added_one_by_one_give_the_picture() {
    for_each(|_, tokenizer| {
        let pyramid = tokenizer.pyramid().expect("there is a pyramid");
        assert_eq!(pyramid.sides(), [(1, 1), (2, 2), (4, 4)]);
        assert_eq!(pyramid.code_width(), 5);
        let all = codes(2, POSITIONS);
        let canvases = grown(pyramid, &all);
        let pictures: Vec<Tensor<4>> = canvases
            .into_iter()
            .map(|canvas| tokenizer.decode_canvas(canvas).pixels)
            .collect();
        let decoded = tokenizer.decode(&all).unwrap().pixels;
        assert_close("all scales", &pictures[2], &decoded, 0.0);
        for (scale, filled) in [(0, 1), (1, 5), (2, POSITIONS)] {
            let shown = tokenizer.preview(&codes(2, filled)).unwrap().pixels;
            assert_close("preview", &shown, &pictures[scale], 0.0);
        }
        // A scale that is begun shows nothing yet; a finished one does.
        let begun = tokenizer.preview(&codes(2, 4)).unwrap().pixels;
        assert_close("begun", &begun, &pictures[0], 0.0);
        assert!(largest_difference(&pictures[0], &pictures[1]) > 1e-3);
    });
}

#[test]
fn a_head_is_shown_the_canvas_brought_down_to_its_scale() {
    for_each(|_, tokenizer| {
        let pyramid = tokenizer.pyramid().expect("there is a pyramid");
        for (scale, canvas) in grown(pyramid, &codes(2, POSITIONS)).iter().enumerate() {
            for (next, &side) in pyramid.sides().iter().enumerate().skip(scale) {
                let shown = pyramid.features_for(canvas, next);
                let expected = sequence_from_grid(area_down(canvas.clone(), side));
                assert_close("features", &shown, &expected, 0.0);
                let mean = |features: Tensor<3>| features.mean_dim(1);
                let whole = sequence_from_grid(canvas.clone());
                assert_close("mean", &mean(shown), &mean(whole), 1e-5);
            }
        }
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
        assert_eq!(output.groups.len(), SIDES.len());
        for ((latents, chosen), unit) in output.groups.iter().zip(found.layout.blocks()) {
            assert_eq!(latents.dims(), [2 * unit.len(), 5]);
            assert_eq!(ids(chosen), ids(&found.of_unit(&unit)));
        }
        let latents = tokenizer.latents(images(2)).unwrap();
        let plain = module.forward(pixels, false);
        assert!(plain.commitment.is_none() && plain.groups.is_empty());
        assert_close(
            "plain pixels",
            &plain.pixels,
            &module.decoder.forward(latents),
            0.0,
        );
    });
}

#[test]
fn every_weight_learns() {
    let training = device().autodiff();
    for autoencoder in [compact(), vq_gan()] {
        let module = filled(config(autoencoder).init(&device()));
        let module = module.fork(&training).train();
        let pixels: Tensor<4> = formula([2, 3, SIZE, SIZE], 7, 1.0, &training);
        let output = module.forward(pixels.clone(), true);
        let loss = (output.pixels - pixels).square().mean()
            + output.commitment.unwrap()
            + output.canvas_loss.unwrap();
        // The codebook follows by moving means instead, and three scales have use for three of the four φ.
        let expected = [
            "quantizer.vector.codebook",
            "quantizer.phi.1.weight",
            "quantizer.phi.1.bias",
        ];
        assert_eq!(idle(&module, &loss.backward()), expected);
    }
}

#[test]
fn pictures_of_another_size_are_refused() {
    for_each(|_, tokenizer| {
        for shape in [[1, 3, 16, 20], [1, 3, 8, 8], [1, 1, 16, 16]] {
            let images = Images {
                pixels: formula(shape, 1, 1.0, &device()),
            };
            let error = tokenizer.encode(images).unwrap_err();
            assert!(matches!(error, Error::Signal { .. }), "{error}");
        }
    });
}

#[test]
fn codes_that_do_not_fit_are_refused() {
    let of_id = |id: i64| {
        let ids: Tensor<2, Int> = Tensor::full([1, POSITIONS], id, &device());
        Codes::flat(ids, Layout::square_scales(&SIDES))
    };
    let other = Codes {
        layout: Layout::square_scales(&[1, 2, 4, 0]),
        ..codes(1, POSITIONS)
    };
    for_each(|_, tokenizer| {
        assert!(tokenizer.decode(&of_id(CODEBOOK as i64 - 1)).is_ok());
        for wrong in [&of_id(CODEBOOK as i64), &other, &codes(1, POSITIONS - 1)] {
            let error = tokenizer.decode(wrong).unwrap_err();
            assert!(matches!(error, Error::Codes { .. }), "{error}");
        }
        let none = tokenizer.preview(&codes(1, 0)).unwrap_err();
        assert!(matches!(none, Error::Codes { .. }), "{none}");
    });
}

#[test]
fn sides_that_do_not_end_at_the_encoders_grid_are_refused() {
    for sides in [vec![], vec![1, 2], vec![1, 2, 8], vec![2, 1, 4], vec![0, 4]] {
        let mut config = config(compact());
        config.quantizer.sides = sides.clone();
        let error = config.validate().unwrap_err().to_string();
        let expected = format!("quantizer.sides is {sides:?}, sides from small to 4");
        assert!(error.starts_with(&expected), "{error}");
    }
}
