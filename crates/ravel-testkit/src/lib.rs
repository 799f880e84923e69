//! For tests only: a device, tensors from a formula, tolerant comparisons and golden files.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};

pub use golden::Golden;

mod golden;

/// The device of all tests: pure Rust on the CPU.
pub fn device() -> Device {
    Device::flex()
}

/// A tensor of numbers in about `-scale..scale` that depend only on the shape and `salt`: a fixed
/// formula, so that no test hangs on the order in which a random generator is read.
pub fn formula<const D: usize>(
    shape: [usize; D],
    salt: u32,
    scale: f32,
    device: &Device,
) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let values = (0..count as u32)
        .map(|at| scale * noise(at, salt))
        .collect();
    Tensor::from_data(TensorData::new::<f32, _>(values, shape), device)
}

/// Ids in `0..below` from the same formula.
pub fn formula_ids<const D: usize>(
    shape: [usize; D],
    salt: u32,
    below: usize,
    device: &Device,
) -> Tensor<D, Int> {
    let count: usize = shape.iter().product();
    let values = (0..count as u32)
        .map(|at| (((noise(at, salt) + 1.0) / 2.0 * below as f32) as i32).min(below as i32 - 1))
        .collect();
    Tensor::from_data(TensorData::new::<i32, _>(values, shape), device)
}

/// A hash of two numbers, as a real number in `-1..1`.
pub fn noise(at: u32, salt: u32) -> f32 {
    let mut x = at
        .wrapping_mul(0x9E37_79B9)
        .wrapping_add(salt.wrapping_mul(0x85EB_CA6B) ^ 0xC2B2_AE35);
    x ^= x >> 16;
    x = x.wrapping_mul(0x7FEB_352D);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846C_A68B);
    x ^= x >> 16;
    (x >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// The tensor's numbers on the host, in row-major order.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor
        .to_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("numbers were converted to f32")
}

/// The tensor's ids on the host, in row-major order.
pub fn ids<const D: usize>(tensor: &Tensor<D, Int>) -> Vec<i64> {
    tensor
        .to_data()
        .convert::<i64>()
        .try_into_vec()
        .expect("ids were converted to i64")
}

/// The largest absolute difference.
///
/// # Panics
/// If the shapes differ.
pub fn largest_difference<const D: usize>(found: &Tensor<D>, expected: &Tensor<D>) -> f32 {
    assert_eq!(found.dims(), expected.dims(), "shapes differ");
    values(found)
        .iter()
        .zip(values(expected))
        .map(|(a, b)| {
            if a.is_nan() || b.is_nan() {
                f32::INFINITY
            } else {
                (a - b).abs()
            }
        })
        .fold(0.0, f32::max)
}

/// Asserts that no number differs by more than `bound`.
///
/// # Panics
/// If the shapes or a number differ; the message names `what`.
#[track_caller]
pub fn assert_close<const D: usize>(
    what: &str,
    found: &Tensor<D>,
    expected: &Tensor<D>,
    bound: f32,
) {
    let difference = largest_difference(found, expected);
    assert!(
        difference <= bound,
        "{what}: the largest difference is {difference:e}, the bound is {bound:e}"
    );
}

/// The workspace's `tests/golden` folder.
pub fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}
