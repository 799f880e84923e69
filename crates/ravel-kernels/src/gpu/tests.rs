//! On the machine's own GPU or on Mesa's Vulkan in software: what kernels compute is what the CPU's numbers say.

use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use ravel_testkit::values;

use super::Blocks;
use crate::packed::{Packed, WeightsType};
use crate::pool::Pool;
use crate::random::Random;

const KINDS: [WeightsType; 2] = [WeightsType::Q8, WeightsType::Q4];

fn device() -> Device {
    Device::wgpu(DeviceKind::DefaultDevice)
}

struct Case {
    packed: Packed,
    blocks: Blocks,
    shape: [usize; 2],
}

fn case(random: &mut Random, shape: [usize; 2], kind: WeightsType) -> Case {
    let values = random.normals(shape[0] * shape[1]);
    let packed = Packed::new(&Pool::new(2), &values, shape, kind);
    let blocks = Blocks::new(&packed, &device()).expect("a device that serves");
    Case {
        packed,
        blocks,
        shape,
    }
}

fn on_gpu(x: &[f32], rows: usize) -> Tensor<2> {
    let data = TensorData::new(x.to_vec(), [rows, x.len() / rows]);
    Tensor::from_data(data, &device())
}

/// The product in f64, and what its terms come to without their signs.
fn expected(case: &Case, x: &[f32]) -> Vec<(f64, f64)> {
    let ([k, n], weight) = (case.shape, case.packed.unpacked(&Pool::new(2)));
    let number = |row: &[f32], column: usize| {
        let terms = row.iter().enumerate();
        let terms = terms.map(|(at, &x)| f64::from(x) * f64::from(weight[at * n + column]));
        terms.fold((0.0, 0.0), |(sum, size), term| {
            (sum + term, size + term.abs())
        })
    };
    let rows = x.chunks_exact(k);
    rows.flat_map(|row| (0..n).map(move |column| (row, column)))
        .map(|(row, column)| number(row, column))
        .collect()
}

#[test]
fn blocks_are_the_numbers_that_the_cpu_packs() {
    let mut random = Random::new(1);
    for shape in [[1, 1], [32, 7], [70, 33], [96, 130], [256, 4]] {
        for kind in KINDS {
            let case = case(&mut random, shape, kind);
            let unpacked = case.packed.unpacked(&Pool::new(2));
            assert_eq!(
                values(&case.blocks.unpacked()),
                unpacked,
                "{kind} {shape:?}"
            );
        }
    }
}

#[test]
fn products_are_those_of_the_numbers() {
    let mut random = Random::new(2);
    let shapes = [[32, 1], [70, 33], [768, 130], [2048, 17], [1000, 5]];
    for (round, shape) in shapes.into_iter().enumerate() {
        for kind in KINDS {
            let case = case(&mut random, shape, kind);
            for rows in [1, 2, 3, 8, 13, 31, 32, 40 + round] {
                let x = random.normals(rows * shape[0]);
                let product = values(&case.blocks.product(on_gpu(&x, rows)));
                for (found, (sum, size)) in product.iter().zip(expected(&case, &x)) {
                    let apart = (f64::from(*found) - sum).abs();
                    assert!(
                        apart <= 2e-6 * size,
                        "{kind} {shape:?}, {rows} rows: {found} for {sum}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_hang_on_the_others() {
    let mut random = Random::new(3);
    for kind in KINDS {
        let case = case(&mut random, [320, 50], kind);
        let x = random.normals(21 * 320);
        let all = values(&case.blocks.product(on_gpu(&x, 21)));
        for (row, x) in x.chunks_exact(320).enumerate() {
            let alone = values(&case.blocks.product(on_gpu(x, 1)));
            assert_eq!(alone, all[row * 50..][..50], "{kind}, row {row}");
        }
    }
}

#[test]
fn any_shape_of_rows_is_taken_and_other_weights_are_not() {
    let mut random = Random::new(4);
    let case = case(&mut random, [64, 6], WeightsType::Q4);
    let x = random.normals(2 * 3 * 64);
    let flat = case.blocks.product(on_gpu(&x, 6));
    let boxed = case.blocks.product(on_gpu(&x, 6).reshape([2, 3, 64]));
    assert_eq!(boxed.dims(), [2, 3, 6]);
    assert_eq!(values(&boxed), values(&flat));
    // A view whose rows do not lie one after the other.
    let across: Vec<f32> = (0..6 * 64).map(|at| x[at % 6 * 64 + at / 6]).collect();
    let turned = on_gpu(&across, 64).transpose();
    assert_eq!(values(&case.blocks.product(turned)), values(&flat));
    let halves = Packed::new(&Pool::new(1), &[1.0; 64], [64, 1], WeightsType::F16);
    assert!(Blocks::new(&halves, &device()).is_none());
    assert!(Blocks::new(&case.packed, &ravel_testkit::device()).is_none());
}
