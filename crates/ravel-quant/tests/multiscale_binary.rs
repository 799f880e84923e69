//! What holds for every latent that is coded by bits from coarse to fine.

use burn::tensor::Tensor;
use ravel_quant::{MultiscaleBinaryConfig, MultiscaleBinaryQuantizer, MultiscaleBits};
use ravel_testkit::{assert_close, device, formula, ids, values};

const SIZE: [usize; 3] = [2, 4, 6];

fn quantizer(width: usize, decay: bool) -> MultiscaleBinaryQuantizer {
    let config = MultiscaleBinaryConfig {
        width,
        bits: 6,
        scales: vec![[1, 1, 1], [1, 2, 3], [2, 3, 4], SIZE],
        norm: width != 6,
        decay,
    };
    config.init(&device())
}

fn latents(batch: usize, width: usize) -> Tensor<5> {
    formula([batch, width, SIZE[0], SIZE[1], SIZE[2]], 3, 2.0, &device())
}

fn quantized(width: usize, decay: bool) -> MultiscaleBits {
    quantizer(width, decay).quantize(latents(2, width))
}

#[test]
fn bits_give_the_canvases_back() {
    for (width, decay) in [(6, false), (6, true), (9, false)] {
        let quantizer = quantizer(width, decay);
        let found = quantizer.quantize(latents(2, width));
        let again = quantizer.canvases(&found.bits, SIZE);
        assert_eq!(again.len(), 4);
        for (again, canvas) in again.iter().zip(&found.canvases) {
            assert_close("canvas", again, canvas, 1e-6);
        }
        let last = found.canvases[3].clone();
        assert_eq!(quantizer.latents(last).dims(), latents(2, width).dims());
    }
}

#[test]
fn code_vectors_lie_on_the_unit_sphere_on_their_bits_side() {
    let quantizer = quantizer(6, false);
    let found = quantizer.quantize(latents(2, 6));
    let codes = quantizer.codes(found.bits[1].clone());
    let length = values(&codes.clone().square().sum_dim(1));
    assert!(length.iter().all(|length| (length - 1.0).abs() < 1e-6));
    let sides = codes.permute([0, 2, 3, 4, 1]).greater_elem(0.0).int();
    assert_eq!(ids(&sides), ids(&found.bits[1]));
}

#[test]
fn each_scale_codes_what_is_left() {
    let found = quantized(6, false);
    let left = latents(2, 6) - found.canvases[2].clone();
    assert_close("asked", &found.asked[3], &left, 1e-6);
    let bits = left.permute([0, 2, 3, 4, 1]).greater_elem(0.0).int();
    assert_eq!(ids(&bits), ids(&found.bits[3]));
}

#[test]
fn later_scales_count_less_where_scales_decay() {
    let canvas = |decay| values(&quantized(6, decay).canvases[0]);
    assert_eq!(canvas(true), canvas(false));
    let second = |decay| {
        let found = quantized(6, decay);
        values(&(found.canvases[1].clone() - found.canvases[0].clone()))
    };
    // The second scale was asked the same.
    let (less, full) = (second(true), second(false));
    for (less, full) in less.iter().zip(full) {
        assert!((less - 0.9 * full).abs() < 1e-6, "{less} of {full}");
    }
}

#[test]
fn a_batch_is_its_rows() {
    let quantizer = quantizer(9, false);
    let both = quantizer.quantize(latents(2, 9));
    for row in 0..2 {
        let alone = quantizer.quantize(latents(2, 9).narrow(0, row, 1));
        for (both, alone) in both.bits.iter().zip(&alone.bits) {
            assert_eq!(ids(&both.clone().narrow(0, row, 1)), ids(alone));
        }
    }
}
