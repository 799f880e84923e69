//! Residual quantizers: laws.

use burn::module::Param;
use burn::tensor::Tensor;
use ravel_quant::{
    Bound, FiniteQuantizer, ResidualConfig, ResidualFiniteQuantizer, ResidualQuantizer,
    VectorConfig,
};
use ravel_testkit::{assert_close, device, formula, formula_ids, ids};

fn residual(depth: usize, codebook_size: usize, width: usize) -> ResidualQuantizer {
    let codebook = VectorConfig {
        codebook_size,
        width,
        l2_normalize: false,
    };
    let config = ResidualConfig { depth, codebook };
    let mut quantizer = config.init(&device());
    for (at, codebook) in quantizer.codebooks.iter_mut().enumerate() {
        // Each codebook is finer than the gaps of the one before it.
        let scale = 0.02_f32.powi(at as i32);
        codebook.codebook =
            Param::from_tensor(formula([codebook_size, width], at as u32, scale, &device()));
    }
    quantizer
}

fn residual_finite() -> ResidualFiniteQuantizer {
    ResidualFiniteQuantizer {
        depth: 3,
        quantizer: FiniteQuantizer {
            levels: vec![5, 5, 4],
            bound: Bound::SymmetricClamp,
        },
    }
}

#[test]
fn residual_codes_come_back_as_they_were_given() {
    let quantizer = residual(3, 12, 5);
    let given = formula_ids([2, 3, 9], 5, 12, &device());
    let back = quantizer.ids(quantizer.vectors(given.clone()));
    assert_eq!(ids(&back), ids(&given));
}

#[test]
fn residual_finite_codes_come_back_as_they_were_given() {
    let quantizer = residual_finite();
    let given = formula_ids([2, 3, 60], 5, 100, &device());
    let vectors = quantizer.vectors(given.clone());
    // The soft bound undone: `1 + 1 / (levels - 1)` is more than any sum reaches.
    let reach: Tensor<3> = Tensor::from_data([[[1.25, 1.25, 4.0 / 3.0]]], &device());
    let latents = (vectors / reach.clone()).atanh() * reach;
    assert_eq!(ids(&quantizer.ids(latents)), ids(&given));
}

#[test]
fn fewer_codebooks_are_a_prefix_of_more() {
    let quantizer = residual(4, 12, 5);
    let latents: Tensor<3> = formula([2, 7, 5], 9, 1.0, &device());
    let all = quantizer.quantize(latents.clone(), 4);
    let two = quantizer.quantize(latents, 2);
    assert_eq!(ids(&two.ids), ids(&all.ids.clone().narrow(1, 0, 2)));
    let coarse = quantizer.vectors(all.ids.narrow(1, 0, 2));
    assert_close("coarse", &two.vectors, &coarse, 1e-5);
}

#[test]
fn residuals_shrink_with_depth_and_the_gradient_passes() {
    let training = device().autodiff();
    let quantizer = burn::module::Module::fork(residual(3, 40, 4), &training);
    let latents: Tensor<3> = formula([2, 30, 4], 3, 1.0, &training).require_grad();
    let found = quantizer.quantize(latents.clone(), 3);
    let size = |at: usize| {
        let residual: Tensor<3> = found.residuals[at].clone();
        residual.square().mean().into_scalar::<f32>()
    };
    assert!(size(1) < size(0));
    let gradients = found.vectors.sum().backward();
    let ones = Tensor::ones([2, 30, 4], &device());
    assert_close("gradient", &latents.grad(&gradients).unwrap(), &ones, 0.0);
    let gradients = found.commitment.backward();
    assert!(latents.grad(&gradients).is_some());
}
