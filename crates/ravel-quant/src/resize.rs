//! Small grids brought to other sizes, as one product with a fixed matrix: exact, differentiable and quick on a CPU.

use burn::tensor::{Tensor, TensorData};

/// The bicubic kernel's `a` in PyTorch.
const BICUBIC_A: f32 = -0.75;

/// Each target cell is the mean of the source cells that it covers (PyTorch's `area`, adaptive average pooling).
///
/// # Shapes
/// - `grid`: `[b, c, h, w]`
/// - returns: `[b, c, height, width]`
pub fn area_down(grid: Tensor<4>, (height, width): (usize, usize)) -> Tensor<4> {
    resized(grid, (height, width), area_weights)
}

/// Bicubic interpolation with `a = -0.75`, cell centres aligned (`align_corners = false`), edges repeated, no antialias.
///
/// # Shapes
/// - `grid`: `[b, c, h, w]`
/// - returns: `[b, c, height, width]`
pub fn bicubic_up(grid: Tensor<4>, (height, width): (usize, usize)) -> Tensor<4> {
    resized(grid, (height, width), bicubic_weights)
}

/// As [`area_down`] over three axes.
///
/// # Shapes
/// - `grid`: `[b, c, t, h, w]`
/// - returns: `[b, c, time, height, width]`
pub fn area_down_3d(grid: Tensor<5>, size: [usize; 3]) -> Tensor<5> {
    resized_3d(grid, size, area_weights)
}

/// Linear interpolation along three axes, cell centres aligned (`align_corners = false`), edges repeated.
///
/// # Shapes
/// - `grid`: `[b, c, t, h, w]`
/// - returns: `[b, c, time, height, width]`
pub fn trilinear_up(grid: Tensor<5>, size: [usize; 3]) -> Tensor<5> {
    resized_3d(grid, size, linear_weights)
}

/// One axis after another, the last one first.
fn resized_3d(
    grid: Tensor<5>,
    size: [usize; 3],
    weights: fn(usize, usize) -> Vec<Vec<f64>>,
) -> Tensor<5> {
    (2..5).rev().fold(grid, |grid, axis| {
        let shape = grid.dims();
        let (from, to) = (shape[axis], size[axis - 2]);
        if from == to {
            return grid;
        }
        let product = weights(from, to).concat();
        let product = product.into_iter().map(|weight| weight as f32).collect();
        let product: Tensor<2> = Tensor::from_data(
            TensorData::new::<f32, _>(product, [to, from]),
            &grid.device(),
        );
        let last = grid.swap_dims(axis, 4);
        let [b, c, t, h, _] = last.dims();
        last.reshape([b * c * t * h, from])
            .matmul(product.transpose())
            .reshape([b, c, t, h, to])
            .swap_dims(axis, 4)
    })
}

/// `weights(from, to)` gives `to` rows of `from` weights for one axis; both axes together are their Kronecker product.
fn resized(
    grid: Tensor<4>,
    (height, width): (usize, usize),
    weights: fn(usize, usize) -> Vec<Vec<f64>>,
) -> Tensor<4> {
    let [batch, channels, from_height, from_width] = grid.dims();
    if (from_height, from_width) == (height, width) {
        return grid;
    }
    let rows = weights(from_height, height);
    let columns = weights(from_width, width);
    let mut product = vec![0f32; from_height * from_width * height * width];
    for (y, row) in rows.iter().enumerate() {
        for (x, column) in columns.iter().enumerate() {
            for (from_y, &down) in row.iter().enumerate() {
                for (from_x, &across) in column.iter().enumerate() {
                    let from = from_y * from_width + from_x;
                    product[from * height * width + y * width + x] = (down * across) as f32;
                }
            }
        }
    }
    let shape = [from_height * from_width, height * width];
    let product = Tensor::from_data(TensorData::new::<f32, _>(product, shape), &grid.device());
    grid.reshape([batch * channels, from_height * from_width])
        .matmul(product)
        .reshape([batch, channels, height, width])
}

fn area_weights(from: usize, to: usize) -> Vec<Vec<f64>> {
    (0..to)
        .map(|at| {
            let start = at * from / to;
            let end = ((at + 1) * from).div_ceil(to);
            let share = 1.0 / (end - start) as f64;
            (0..from)
                .map(|source| {
                    if (start..end).contains(&source) {
                        share
                    } else {
                        0.0
                    }
                })
                .collect()
        })
        .collect()
}

fn linear_weights(from: usize, to: usize) -> Vec<Vec<f64>> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|at| {
            let centre = ((at as f64 + 0.5) * scale - 0.5).max(0.0);
            let base = (centre.floor() as usize).min(from - 1);
            let share = centre - base as f64;
            let mut row = vec![0.0; from];
            row[base] += 1.0 - share;
            row[(base + 1).min(from - 1)] += share;
            row
        })
        .collect()
}

/// Operation by operation in f32 as PyTorch computes them: on a canvas of several scales exact weights are farther from what it gives
/// (2.4e-6) than these (1.1e-6).
fn bicubic_weights(from: usize, to: usize) -> Vec<Vec<f64>> {
    let scale = from as f32 / to as f32;
    (0..to)
        .map(|at| {
            let centre = scale * (at as f32 + 0.5) - 0.5;
            let base = centre.floor();
            let (near, far) = (centre - base, 1.0 - (centre - base));
            let taps = [outer(near + 1.0), inner(near), inner(far), outer(far + 1.0)];
            let mut row = vec![0.0; from];
            for (tap, weight) in (-1..).zip(taps) {
                let source = (base as i64 + tap).clamp(0, from as i64 - 1) as usize;
                row[source] += f64::from(weight);
            }
            row
        })
        .collect()
}

/// Keys' cubic convolution kernel up to a distance of 1.
fn inner(x: f32) -> f32 {
    let a = BICUBIC_A;
    ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
}

/// The same from 1 to 2.
fn outer(x: f32) -> f32 {
    let a = BICUBIC_A;
    ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{device, values};

    use super::*;

    #[test]
    fn weights_of_every_cell_add_up_to_one() {
        for (from, to) in [(8, 3), (8, 8), (5, 4), (3, 8), (1, 6)] {
            for weights in [area_weights, bicubic_weights, linear_weights] {
                for row in weights(from, to) {
                    assert!((row.iter().sum::<f64>() - 1.0).abs() < 5e-7);
                }
            }
        }
    }

    #[test]
    fn a_straight_line_stays_straight_between_its_ends() {
        let line = Tensor::from_data([[[[[0.0, 1.0]]]]], &device());
        let found = values(&trilinear_up(line, [2, 1, 4]));
        let row = [0.0, 0.25, 0.75, 1.0];
        assert_eq!(found, [row, row].concat());
    }

    #[test]
    fn three_axes_agree_with_two() {
        let grid = ravel_testkit::formula([2, 3, 5, 7], 1, 1.0, &device());
        let deep = area_down_3d(grid.clone().unsqueeze_dim(2), [1, 2, 3]);
        let flat = area_down(grid, (2, 3));
        ravel_testkit::assert_close("mean", &deep.squeeze_dim::<4>(2), &flat, 1e-6);
    }

    #[test]
    fn a_mean_is_a_mean() {
        let grid = Tensor::from_data([[[[1.0, 3.0], [5.0, 7.0]]]], &device());
        assert_eq!(values(&area_down(grid, (1, 1))), [4.0]);
    }
}
