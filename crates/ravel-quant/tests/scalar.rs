//! Quantizers without a codebook: agreement with the reference and laws.

use burn::tensor::{Int, Tensor};
use ravel_quant::{BinaryQuantizer, Bound, FiniteQuantizer};
use ravel_testkit::{Golden, assert_close, device, formula, formula_ids, ids};

mod common;
use common::linear;

fn golden() -> (Golden, Golden) {
    (
        Golden::open("quantizers_lucidrains", "io.safetensors"),
        Golden::open("quantizers_lucidrains", "model.safetensors"),
    )
}

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
fn finite_scalars_match_the_reference() {
    let device = device();
    let (io, _) = golden();
    let cases = [
        ("fsq_a", finite(&[8, 5, 5, 5], Bound::Tanh)),
        ("fsq_b", finite(&[8, 6, 5], Bound::Tanh)),
        ("fsq_symmetric", finite(&[8, 5, 5], Bound::SymmetricTanh)),
    ];
    for (case, quantizer) in cases {
        let name = |what: &str| format!("{case}.{what}");
        let found = quantizer.quantize(io.tensor(&name("x"), &device));
        assert_eq!(
            ids(&found.ids),
            ids(&io.ids::<2>(&name("indices"), &device)),
            "{case}"
        );
        let expected = io.tensor(&name("quantized"), &device);
        assert_close(case, &found.vectors, &expected, 1e-6);
        assert_close(case, &quantizer.vectors(found.ids), &expected, 1e-6);
        if io.has(&name("codes_of_0_to_49")) {
            let expected: Tensor<2> = io.tensor(&name("codes_of_0_to_49"), &device);
            let codes = quantizer.vectors(all_ids(50)).squeeze_dim(0);
            assert_close(case, &codes, &expected, 1e-6);
        }
    }
}

#[test]
fn finite_scalars_between_projections_match_the_reference() {
    let device = device();
    let (io, weights) = golden();
    let quantizer = finite(&[8, 5, 5], Bound::Tanh);
    let latents = linear(
        &weights,
        "fsq_proj.project_in",
        io.tensor("fsq_proj.x", &device),
    );
    let found = quantizer.quantize(latents);
    assert_eq!(
        ids(&found.ids),
        ids(&io.ids::<2>("fsq_proj.indices", &device))
    );
    let out = linear(&weights, "fsq_proj.project_out", found.vectors);
    assert_close(
        "fsq_proj",
        &out,
        &io.tensor("fsq_proj.quantized", &device),
        1e-5,
    );
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
fn signs_match_the_reference() {
    let device = device();
    let (io, weights) = golden();
    let quantizer = BinaryQuantizer {
        bits: 8,
        spherical: false,
    };
    let latents: Tensor<4> = io.tensor("lfq.x", &device);
    let [batch, width, height, columns] = latents.dims();
    let latents = latents
        .reshape([batch, width, height * columns])
        .swap_dims(1, 2);
    let found = quantizer.quantize(latents);
    let expected = io
        .ids::<3>("lfq.indices", &device)
        .reshape([batch, height * columns]);
    assert_eq!(ids(&found.ids), ids(&expected));
    let expected: Tensor<4> = io.tensor("lfq.quantized", &device);
    let out = found.vectors.swap_dims(1, 2).reshape(expected.dims());
    assert_close("lfq", &out, &expected, 0.0);

    let quantizer = BinaryQuantizer {
        bits: 6,
        spherical: true,
    };
    let latents = linear(
        &weights,
        "bsq_proj.project_in",
        io.tensor("bsq_proj.x", &device),
    );
    let found = quantizer.quantize(latents);
    assert_eq!(
        ids(&found.ids),
        ids(&io.ids::<2>("bsq_proj.indices", &device))
    );
    let out = linear(&weights, "bsq_proj.project_out", found.vectors);
    assert_close("bsq", &out, &io.tensor("bsq_proj.quantized", &device), 1e-5);
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
