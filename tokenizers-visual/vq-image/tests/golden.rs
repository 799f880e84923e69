//! The VQ-GAN architecture against LlamaGen's own numbers.
//!
//! Bounds are 20 times what the reference itself moves when its weights are rounded differently, as
//! the folder's README measured it. Ids are exact.

mod common;

use burn::tensor::{Int, Tensor};
use common::{Place, margins, published, torch_name};
use ravel_nn::conv::{AutoencoderConfig, VqGanConfig};
use ravel_quant::VectorConfig;
use ravel_testkit::{Golden, assert_close, device, ids, values};
use vq_image::{VqImage, VqImageConfig, grid_from_sequence, sequence_from_grid};

const FOLDER: &str = "llamagen_vq";

fn config() -> VqImageConfig {
    VqImageConfig {
        size: 24,
        autoencoder: AutoencoderConfig::VqGan(VqGanConfig {
            channels: 32,
            multiples: vec![1, 2, 1],
            blocks: 2,
            z_channels: 16,
            code_kernel: 1,
            ..VqGanConfig::default()
        }),
        codebook: VectorConfig {
            codebook_size: 128,
            width: 8,
            l2_normalize: true,
        },
        unit_vectors: false,
    }
}

/// LlamaGen numbers what others name: levels are `conv_blocks`, the decoder's from the coarsest.
fn place(path: &str) -> Place {
    let name = torch_name(path)
        .replace(".VqGan", "")
        .replace("quantizer.codebook", "quantize.embedding.weight")
        .replace("encoder.quant_conv", "quant_conv")
        .replace("decoder.post_quant_conv", "post_quant_conv")
        .replace("encoder.down.", "encoder.conv_blocks.")
        .replace("decoder.up.", "decoder.conv_blocks.")
        .replace(".block.", ".res.")
        .replace("mid.block_1", "mid.0")
        .replace("mid.attn_1", "mid.1")
        .replace("mid.block_2", "mid.2");
    Place { name, part: (0, 1) }
}

fn llamagen() -> VqImage {
    let file = Golden::open(FOLDER, "model.safetensors");
    let (module, unused) = published(config().init(&device()), &file, |path| Some(place(path)));
    assert!(unused.is_empty(), "no weight asked for {unused:?}");
    module
}

#[test]
fn pictures_have_the_references_latents_and_ids() {
    let (device, module) = (device(), llamagen());
    let io = Golden::open(FOLDER, "io.safetensors");
    let latents = module.encoder.forward(io.tensor("image", &device));
    assert_close(
        "latents",
        &latents,
        &io.tensor("quant_conv_out", &device),
        7.1e-5,
    );

    let found = module
        .quantizer
        .quantize(sequence_from_grid(latents.clone()));
    let expected: Tensor<1, Int> = io.ids("indices", &device);
    assert_eq!(ids(&found.ids), ids(&expected));
    let vectors = grid_from_sequence(found.vectors, 6, 8);
    assert_close("vectors", &vectors, &io.tensor("quant", &device), 3e-6);

    let flat = sequence_from_grid(latents).flatten::<2>(0, 1);
    let unit = flat.clone() / flat.square().sum_dim(1).sqrt();
    let margins = margins(unit, &module.quantizer.rows());
    let expected = values(&io.tensor::<1>("nearest_margin", &device));
    assert_eq!(margins.len(), expected.len());
    for (at, (found, expected)) in margins.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= 7.5e-5,
            "margin {at}: {found}, {expected}"
        );
    }
}

#[test]
fn ids_become_the_references_pictures() {
    let (device, module) = (device(), llamagen());
    let io = Golden::open(FOLDER, "io.safetensors");
    let decoded = |ids: Tensor<2, Int>| {
        let grid = grid_from_sequence(module.quantizer.vectors(ids), 6, 8);
        (grid.clone(), module.decoder.forward(grid))
    };
    let chosen = io.ids::<1>("indices", &device).reshape([2, 48]);
    let (_, pixels) = decoded(chosen);
    assert_close(
        "pixels",
        &pixels,
        &io.tensor("decoded_from_codes", &device),
        1.1e-4,
    );

    let (vectors, pixels) = decoded(io.ids("free_indices", &device));
    assert_close(
        "free vectors",
        &vectors,
        &io.tensor("free_quant", &device),
        3e-6,
    );
    assert_close(
        "free pixels",
        &pixels,
        &io.tensor("free_decoded", &device),
        1.2e-4,
    );
}

#[test]
fn there_and_back_gives_the_references_pictures() {
    let (device, module) = (device(), llamagen());
    let io = Golden::open(FOLDER, "io.safetensors");
    let output = module.forward(io.tensor("image", &device), true);
    assert_close(
        "pixels",
        &output.pixels,
        &io.tensor("forward_dec", &device),
        1.4e-4,
    );
}

/// The output before the 1×1 convolution, seen through one that changes nothing.
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
        6.2e-5,
    );
}
