//! Laws of a single codebook.

use burn::module::Param;
use burn::tensor::Tensor;
use ravel_quant::{VectorConfig, VectorQuantizer};
use ravel_testkit::{Golden, assert_close, device, formula, formula_ids, ids};

mod common;
use common::linear;

fn quantizer(l2_normalize: bool) -> VectorQuantizer {
    let device = device();
    let config = VectorConfig {
        codebook_size: 50,
        width: 6,
        l2_normalize,
    };
    let mut quantizer = config.init(&device);
    quantizer.codebook = Param::from_tensor(formula([50, 6], 1, 1.0, &device));
    quantizer
}

#[test]
fn codes_come_back_as_they_were_given() {
    for l2_normalize in [false, true] {
        let quantizer = quantizer(l2_normalize);
        let given = formula_ids([3, 17], 2, 50, &device());
        let back = quantizer.ids(quantizer.vectors(given.clone()));
        assert_eq!(ids(&back), ids(&given));
    }
}

#[test]
fn straight_through_passes_the_gradient_and_commitment_pulls_to_the_row() {
    let training = device().autodiff();
    let quantizer = burn::module::Module::fork(quantizer(false), &training);
    let latents: Tensor<3> = formula([2, 5, 6], 3, 1.0, &training).require_grad();
    let found = quantizer.quantize(latents.clone());
    let gradients = found.vectors.clone().sum().backward();
    let ones = Tensor::ones([2, 5, 6], &device());
    assert_close("gradient", &latents.grad(&gradients).unwrap(), &ones, 0.0);
    let gradients = quantizer.quantize(latents.clone()).commitment.backward();
    let expected = (latents.clone() - found.vectors).inner() * (2.0 / 60.0);
    assert_close(
        "commitment",
        &latents.grad(&gradients).unwrap(),
        &expected,
        1e-6,
    );
}

#[test]
fn euclidean_codes_match_the_reference() {
    let device = device();
    let io = Golden::open("quantizers_lucidrains", "io.safetensors");
    let weights = Golden::open("quantizers_lucidrains", "model.safetensors");
    let mut quantizer = VectorConfig {
        codebook_size: 32,
        width: 6,
        l2_normalize: false,
    }
    .init(&device);
    let codebook: Tensor<3> = weights.tensor("vq_euclid._codebook.embed", &device);
    quantizer.codebook = Param::from_tensor(codebook.squeeze_dim(0));
    let found = quantizer.ids(io.tensor("vq_euclid.x", &device));
    assert_eq!(ids(&found), ids(&io.ids::<2>("vq_euclid.indices", &device)));
    let vectors = quantizer.vectors(found);
    assert_close(
        "quantized",
        &vectors,
        &io.tensor("vq_euclid.quantized", &device),
        1e-6,
    );
}

#[test]
fn cosine_codes_between_projections_match_the_reference() {
    let device = device();
    let io = Golden::open("quantizers_lucidrains", "io.safetensors");
    let weights = Golden::open("quantizers_lucidrains", "model.safetensors");
    let mut quantizer = VectorConfig {
        codebook_size: 24,
        width: 5,
        l2_normalize: true,
    }
    .init(&device);
    let codebook: Tensor<3> = weights.tensor("vq_cosine_proj._codebook.embed", &device);
    quantizer.codebook = Param::from_tensor(codebook.squeeze_dim(0));
    let x = io.tensor("vq_cosine_proj.x", &device);
    let found = quantizer.quantize(linear(&weights, "vq_cosine_proj.project_in", x));
    let expected = io.ids::<2>("vq_cosine_proj.indices", &device);
    assert_eq!(ids(&found.ids), ids(&expected));
    let out = linear(&weights, "vq_cosine_proj.project_out", found.vectors);
    assert_close(
        "quantized",
        &out,
        &io.tensor("vq_cosine_proj.quantized", &device),
        1e-5,
    );
}
