//! The VQ-GAN architecture around the pyramid of codes against VAR's own numbers.
//!
//! Bounds are 20 times what the reference itself moves when its weights are rounded differently, as
//! the folder's README measured it. Ids are exact.

#[path = "../../vq-image/tests/common/mod.rs"]
mod common;

use burn::tensor::{Int, Tensor};
use common::{Place, margins, published, torch_name};
use multiscale_image::{MultiscaleImage, MultiscaleImageConfig, MultiscaleImageTokenizer};
use ravel_core::{Codes, ImageTokenizer, Images, Layout, Tokenizer};
use ravel_nn::conv::{AutoencoderConfig, VqGanConfig};
use ravel_quant::{MultiscaleConfig, VectorConfig};
use ravel_testkit::{Golden, assert_close, device, ids, values};

const FOLDER: &str = "var_vqvae";
const SIDES: [usize; 6] = [1, 2, 3, 4, 5, 6];

fn config() -> MultiscaleImageConfig {
    MultiscaleImageConfig {
        size: 24,
        autoencoder: AutoencoderConfig::VqGan(VqGanConfig {
            channels: 32,
            multiples: vec![1, 2, 1],
            blocks: 1,
            z_channels: 16,
            code_kernel: 3,
            ..VqGanConfig::default()
        }),
        quantizer: MultiscaleConfig {
            codebook: VectorConfig {
                codebook_size: 128,
                width: 16,
                l2_normalize: false,
            },
            sides: SIDES.to_vec(),
            phi: 4,
            phi_share: 0.5,
            cosine: false,
        },
    }
}

/// VAR counts the decoder's levels from the finest, though it goes through them from the coarsest, and joins q, k and v.
fn place(path: &str) -> Place {
    let mut name = torch_name(path)
        .replace(".VqGan", "")
        .replace("quantizer.vector.codebook", "quantize.embedding.weight")
        .replace("quantizer.phi", "quantize.quant_resi.qresi_ls")
        .replace("encoder.quant_conv", "quant_conv")
        .replace("decoder.post_quant_conv", "post_quant_conv");
    if let Some(rest) = name.strip_prefix("decoder.up.") {
        let (level, rest) = rest.split_once('.').expect("a level has parts");
        let level: usize = level.parse().expect("levels are numbered");
        name = format!("decoder.up.{}.{rest}", 2 - level);
    }
    let joined = ["q", "k", "v"]
        .iter()
        .position(|part| name.contains(".attn") && name.contains(&format!(".{part}.")));
    match joined {
        None => Place { name, part: (0, 1) },
        Some(which) => {
            let (layer, _) = name.rsplit_once('.').expect("a layer has weights");
            let layer = layer.rsplit_once('.').expect("attention has layers").0;
            let last = name.rsplit('.').next().expect("a name has a last word");
            Place {
                name: format!("{layer}.qkv.{last}"),
                part: (which, 3),
            }
        }
    }
}

fn module() -> MultiscaleImage {
    let file = Golden::open(FOLDER, "model.safetensors");
    let (module, unused) = published(config().init(&device()), &file, |path| Some(place(path)));
    // How often each row was hit while training: published files hold it, decoding never reads it.
    assert_eq!(unused, ["quantize.ema_vocab_hit_SV"]);
    module
}

fn tokenizer() -> MultiscaleImageTokenizer {
    MultiscaleImageTokenizer::new(module(), &config())
}

/// Ids of the first `scales` scales in a row.
fn codes(io: &Golden, scales: usize) -> Codes {
    let parts = (0..scales).map(|scale| io.ids(&format!("idx_scale{scale}"), &device()));
    Codes::flat(
        Tensor::cat(parts.collect(), 1),
        Layout::square_scales(&SIDES),
    )
}

#[test]
fn pictures_have_the_references_latents_and_ids() {
    let (device, tokenizer) = (device(), tokenizer());
    let io = Golden::open(FOLDER, "io.safetensors");
    let images = Images {
        pixels: io.tensor("image", &device),
    };
    let latents = tokenizer.latents(images.clone()).unwrap();
    assert_close(
        "latents",
        &latents,
        &io.tensor("quant_conv_out", &device),
        6.3e-5,
    );
    let found = tokenizer.encode(images).unwrap();
    assert_eq!(ids(&found.ids), ids(&codes(&io, 6).ids));
}

#[test]
fn ids_become_the_references_pictures_after_any_scale() {
    let (device, tokenizer) = (device(), tokenizer());
    let io = Golden::open(FOLDER, "io.safetensors");
    let decoded = tokenizer.decode(&codes(&io, 6)).unwrap();
    assert_close(
        "img_last",
        &decoded.pixels,
        &io.tensor("img_last", &device),
        1.1e-4,
    );
    for (name, scales, bound) in [("img_scale0", 1, 1.55e-4), ("img_mid", 4, 1.35e-4)] {
        let early = tokenizer.preview(&codes(&io, scales)).unwrap();
        assert_close(name, &early.pixels, &io.tensor(name, &device), bound);
    }
}

#[test]
fn the_canvas_grows_as_the_references() {
    let (device, tokenizer) = (device(), tokenizer());
    let io = Golden::open(FOLDER, "io.safetensors");
    let pyramid = tokenizer.pyramid().expect("there is a pyramid");
    let mut canvas = None;
    let mut features = Vec::new();
    // Per scale, 20 times 3.0e-7, 4.8e-7, 6.0e-7, 6.0e-7, 6.6e-7 and 7.2e-7.
    let bounds = [6e-6, 9.5e-6, 1.2e-5, 1.2e-5, 1.3e-5, 1.4e-5];
    for (scale, bound) in bounds.into_iter().enumerate() {
        let chosen: Tensor<2, Int> = io.ids(&format!("idx_scale{scale}"), &device);
        let added = pyramid.add_scale(canvas, scale, chosen);
        let name = format!("fhat_scale{scale}");
        assert_close(&name, &added, &io.tensor(&name, &device), bound);
        if scale + 1 < SIDES.len() {
            features.push(pyramid.features_for(&added, scale + 1));
        }
        canvas = Some(added);
    }
    let features = Tensor::cat(features, 1);
    assert_close(
        "var_input",
        &features,
        &io.tensor("var_input", &device),
        1.3e-5,
    );

    let alone = pyramid.add_scale(None, 1, io.ids("idx_scale1", &device));
    assert_close(
        "phi_scale1",
        &alone,
        &io.tensor("phi_scale1", &device),
        6e-6,
    );
}

#[test]
fn second_best_rows_are_as_far_as_the_references() {
    let (device, module) = (device(), module());
    let io = Golden::open(FOLDER, "io.safetensors");
    let found = module
        .quantizer
        .quantize(module.encoder.forward(io.tensor("image", &device)));
    let expected = values(&io.tensor::<1>("nearest_margin_per_scale", &device));
    assert_eq!(found.groups.len(), expected.len());
    for (scale, ((latents, _), expected)) in found.groups.into_iter().zip(expected).enumerate() {
        let margins = margins(latents, &module.quantizer.vector.rows());
        let smallest = margins.into_iter().fold(f32::MAX, f32::min);
        assert!(
            (smallest - expected).abs() <= 8.6e-5,
            "scale {scale}: {smallest}, {expected}"
        );
    }
}

/// The output before the convolution to codes, seen through one that changes nothing.
#[test]
fn the_encoder_before_the_codes_width_agrees() {
    let device = device();
    let file = Golden::open(FOLDER, "model.safetensors");
    let io = Golden::open(FOLDER, "io.safetensors");
    let (encoder, _) = config().autoencoder.init(16, &device);
    let (encoder, _) = published(encoder, &file, |path| {
        (!path.contains("quant_conv")).then(|| place(&format!("encoder.{path}")))
    });
    let found = encoder.forward(io.tensor("image", &device));
    assert_close(
        "encoder",
        &found,
        &io.tensor("encoder_out", &device),
        5.5e-5,
    );
}
