//! Laws of a single codebook.

use burn::module::Param;
use burn::tensor::Tensor;
use ravel_quant::{VectorConfig, VectorQuantizer};
use ravel_testkit::{assert_close, device, formula, formula_ids, ids};

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
