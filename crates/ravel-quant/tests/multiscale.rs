//! The pyramid of codes against VAR's own numbers, and its laws.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};
use ravel_core::Pyramid;
use ravel_quant::{MultiscaleConfig, MultiscaleQuantizer, VectorConfig, bicubic_up};
use ravel_testkit::{Golden, assert_close, device, formula, ids};

const SIDES: [usize; 6] = [1, 2, 3, 4, 5, 6];

fn published() -> MultiscaleQuantizer {
    let device = device();
    let weights = Golden::open("var_vqvae", "model.safetensors");
    let codebook: Tensor<2> = weights.tensor("quantize.embedding.weight", &device);
    let [codebook_size, width] = codebook.dims();
    let config = MultiscaleConfig {
        codebook: VectorConfig {
            codebook_size,
            width,
            l2_normalize: false,
        },
        sides: SIDES.to_vec(),
        phi: 4,
        phi_share: 0.5,
        cosine: false,
    };
    let mut quantizer = config.init(&device);
    quantizer.vector.codebook = Param::from_tensor(codebook);
    for (at, phi) in quantizer.phi.iter_mut().enumerate() {
        let name = format!("quantize.quant_resi.qresi_ls.{at}");
        phi.weight = Param::from_tensor(weights.tensor(&format!("{name}.weight"), &device));
        phi.bias = Some(Param::from_tensor(
            weights.tensor(&format!("{name}.bias"), &device),
        ));
    }
    quantizer
}

#[test]
fn var_gives_the_same_ids_canvases_and_features() {
    let device = device();
    let io = Golden::open("var_vqvae", "io.safetensors");
    let quantizer = published();
    let found = quantizer.quantize(io.tensor("quant_conv_out", &device));
    for (scale, chosen) in found.ids.iter().enumerate() {
        let expected: Tensor<2, Int> = io.ids(&format!("idx_scale{scale}"), &device);
        assert_eq!(ids(chosen), ids(&expected), "ids of scale {scale}");
    }
    let all = Tensor::cat(found.ids.clone(), 1);
    let canvases = quantizer.canvases(all);
    for (scale, canvas) in canvases.iter().enumerate() {
        let name = format!("fhat_scale{scale}");
        assert_close(&name, canvas, &io.tensor(&name, &device), 2e-5);
    }
    let features =
        (1..SIDES.len()).map(|scale| quantizer.features_for(&canvases[scale - 1], scale));
    let features = Tensor::cat(features.collect(), 1);
    assert_close(
        "var_input",
        &features,
        &io.tensor("var_input", &device),
        2e-5,
    );
}

#[test]
fn bicubic_matches_the_reference() {
    let device = device();
    let io = Golden::open("var_vqvae", "io.safetensors");
    let quantizer = published();
    let vectors = quantizer.vector.vectors(io.ids("idx_scale1", &device));
    let grid = vectors.swap_dims(1, 2).reshape([2, -1, 2, 2]);
    let grown = bicubic_up(grid, (6, 6));
    assert_close(
        "bicubic",
        &grown,
        &io.tensor("bicubic_up_scale1", &device),
        1e-5,
    );
}

#[test]
fn the_decoders_gradient_passes_straight_through() {
    let training = device().autodiff();
    let quantizer = published().fork(&training).train();
    let latents: Tensor<4> = formula([1, 16, 6, 6], 3, 1.0, &training).require_grad();
    let wanted: Tensor<4> = formula([1, 16, 6, 6], 4, 1.0, &training);
    let found = quantizer.quantize(latents.clone());
    let gradients = (found.canvas * wanted.clone()).sum().backward();
    assert_close(
        "gradient",
        &latents.grad(&gradients).unwrap(),
        &wanted.inner(),
        1e-6,
    );
}
