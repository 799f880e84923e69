//! Laws of the pyramid of codes.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ravel_core::Pyramid;
use ravel_quant::{MultiscaleConfig, MultiscaleQuantizer, VectorConfig};
use ravel_testkit::{assert_close, device, formula, formula_ids, ids};

const SIDES: [usize; 6] = [1, 2, 3, 4, 5, 6];

fn quantizer() -> MultiscaleQuantizer {
    quantizer_with(true)
}

fn quantizer_with(residual: bool) -> MultiscaleQuantizer {
    let device = device();
    let config = MultiscaleConfig {
        codebook: VectorConfig {
            codebook_size: 40,
            width: 16,
            l2_normalize: false,
        },
        sides: SIDES.to_vec(),
        phi: 4,
        phi_share: 0.5,
        cosine: false,
        residual,
    };
    let mut quantizer = config.init(&device);
    quantizer.vector.codebook = Param::from_tensor(formula([40, 16], 1, 1.0, &device));
    for (at, phi) in quantizer.phi.iter_mut().enumerate() {
        let salt = 2 + 2 * at as u32;
        phi.weight = Param::from_tensor(formula([16, 16, 3, 3], salt, 0.1, &device));
        phi.bias = Some(Param::from_tensor(formula([16], salt + 1, 0.1, &device)));
    }
    quantizer
}

/// Without residuals the finest scale alone says what is decoded, and its codes do not depend on the canvas.
#[test]
fn scales_that_code_anew_take_the_place_of_those_before() {
    let mut quantizer = quantizer_with(false);
    quantizer.phi = Vec::new();
    let given = formula_ids([2, 36], 22, 40, &device());
    let latents = quantizer.add_scale(None, 5, given.clone().unsqueeze_dim(1));
    let coded = quantizer.ids(latents.clone());
    assert_eq!(ids(&coded.clone().narrow(1, 55, 36)), ids(&given));
    let last = quantizer.canvases(coded).pop().expect("six scales");
    assert_close("canvas", &last, &latents, 1e-6);
    let wrong = latents.clone() * -0.5;
    let mended = quantizer.ids_for(latents, Some(&wrong), 5);
    assert_eq!(ids(&mended.squeeze_dim::<2>(1)), ids(&given));
}

/// By cosine a row is found whatever its length, and used at its own.
#[test]
fn cosines_leave_rows_their_length() {
    let mut quantizer = quantizer();
    quantizer.phi = Vec::new();
    let rows = quantizer.vector.codebook.val();
    let lengths: Tensor<2> = formula([40, 1], 20, 0.4, &device()) + 1.0;
    quantizer.vector.codebook = Param::from_tensor(rows.clone() * lengths);
    let given = formula_ids([2, 9], 21, 40, &device());
    let latents = rows
        .select(0, given.clone().reshape([18]))
        .reshape([2, 9, 16]);
    let found = quantizer.vector.ids_by_cosine(latents);
    assert_eq!(ids(&found), ids(&given));
    let own = quantizer
        .vector
        .codebook
        .val()
        .narrow(0, 0, 1)
        .square()
        .sum();
    let first = Tensor::from_data([[0]], &device());
    let looked_up = quantizer.vector.vectors(first).square().sum();
    assert_close("length", &looked_up, &own, 0.0);
}

#[test]
fn the_decoders_gradient_passes_straight_through() {
    let training = device().autodiff();
    let quantizer = quantizer().fork(&training).train();
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
