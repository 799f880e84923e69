//! Quantizers without a codebook: laws.

use burn::tensor::{Int, Tensor};
use ravel_quant::{BinaryQuantizer, Bound, FiniteQuantizer};
use ravel_testkit::{assert_close, device, formula, formula_ids, ids};

fn finite(levels: &[usize], bound: Bound) -> FiniteQuantizer {
    FiniteQuantizer {
        levels: levels.to_vec(),
        bound,
    }
}

/// Every id once, `[1, size]`.
fn all_ids(size: usize) -> Tensor<2, Int> {
    Tensor::<1, Int>::arange(0..size as i64, &device()).unsqueeze_dim(0)
}

#[test]
fn finite_codes_come_back_as_they_were_given() {
    for quantizer in [
        finite(&[8, 5, 5, 5], Bound::Tanh),
        finite(&[7, 6, 4], Bound::SymmetricTanh),
        finite(&[3, 3, 3], Bound::Tanh),
        finite(&[2], Bound::SymmetricTanh),
    ] {
        let given = all_ids(quantizer.codebook_size());
        let vectors = quantizer.vectors(given.clone());
        // Latents whose bounded value is the code vector's level: `tanh` undone, just inside its range.
        let latents = if quantizer.bound == Bound::SymmetricTanh {
            (vectors.clone() * 0.999).atanh()
        } else {
            undo_bound(&quantizer, vectors.clone())
        };
        assert_eq!(
            ids(&quantizer.ids(latents)),
            ids(&given),
            "{:?}",
            quantizer.levels
        );
    }
}

/// Latents that are bounded to these code vectors (the inverse of appendix A.1's `bound`).
fn undo_bound(quantizer: &FiniteQuantizer, vectors: Tensor<3>) -> Tensor<3> {
    let parts = quantizer.levels.iter().enumerate().map(|(at, &levels)| {
        let half = (levels as f64 - 1.0) * 1.001 / 2.0;
        let offset = if levels % 2 == 0 { 0.5 } else { 0.0 };
        let rounded = vectors.clone().narrow(2, at, 1) * (levels / 2) as f64;
        ((rounded + offset) / half).atanh() - (offset / half).atanh()
    });
    Tensor::cat(parts.collect(), 2)
}

#[test]
fn rounding_passes_the_gradient_of_the_bound() {
    let training = device().autodiff();
    let quantizer = finite(&[5, 5], Bound::Tanh);
    let latents: Tensor<3> = formula([1, 6, 2], 4, 0.5, &training).require_grad();
    let found = quantizer.quantize(latents.clone());
    let gradients = found.vectors.sum().backward();
    // d/dz of tanh(z) · half / 2 for five levels: half = 2.002.
    let expected = (-latents.clone().tanh().square() + 1.0) * (2.002 / 2.0);
    assert_close(
        "gradient",
        &latents.grad(&gradients).unwrap(),
        &expected.inner(),
        1e-5,
    );
}

#[test]
fn binary_codes_come_back_as_they_were_given() {
    for spherical in [false, true] {
        let quantizer = BinaryQuantizer { bits: 9, spherical };
        let given = all_ids(512);
        let vectors = quantizer.vectors(given.clone());
        assert_eq!(ids(&quantizer.ids(vectors.clone())), ids(&given));
        let again = quantizer.vectors_of_bits(quantizer.bits(vectors.clone()));
        assert_close("bits", &again, &vectors, 0.0);
        let lengths = vectors.square().sum_dim(2);
        let expected = if spherical { 1.0 } else { 9.0 };
        assert_close(
            "length",
            &lengths,
            &Tensor::full([1, 512, 1], expected, &device()),
            1e-5,
        );
    }
}

#[test]
fn entropy_is_that_of_the_softmax_over_all_codes() {
    let quantizer = BinaryQuantizer {
        bits: 4,
        spherical: true,
    };
    let latents: Tensor<3> = formula([2, 5, 4], 7, 1.0, &device());
    let found = quantizer.entropy(latents.clone(), 0.7).of_positions;

    let unit = latents.clone() / latents.square().sum_dim(2).sqrt();
    let codes = quantizer.vectors(all_ids(16)).squeeze_dim::<2>(0);
    let scores = unit.reshape([10, 4]).matmul(codes.transpose()) * (2.0 / 0.7);
    let chances = burn::tensor::activation::softmax(scores, 1);
    let expected = -(chances.clone() * chances.log()).sum_dim(1).mean();
    assert_close("entropy", &found, &expected, 1e-5);
}

#[test]
fn evenly_used_certain_bits_have_the_lowest_entropy_loss() {
    let quantizer = BinaryQuantizer {
        bits: 6,
        spherical: false,
    };
    let even = quantizer.vectors(all_ids(64));
    let one_code = quantizer.vectors(formula_ids([1, 64], 1, 1, &device()));
    let undecided = Tensor::zeros([1, 64, 6], &device());
    let loss = |latents| {
        quantizer
            .entropy(latents, 0.1)
            .loss(1.0)
            .into_scalar::<f32>()
    };
    let full = 6.0 * std::f32::consts::LN_2;
    assert!((loss(even) + full).abs() < 1e-3);
    assert!(loss(one_code).abs() < 1e-3);
    assert!(loss(undecided).abs() < 1e-3);
}
