//! Linear layers.

use burn::tensor::Tensor;

use super::{Rule, made, operation, tracked, unit};
use crate::halves::{Panels, Plain, Rows, product};
use crate::isa::Isa;
use crate::linear::slice;
use crate::pool::global;

/// `x w + bias`, and its gradients, each a product in `bf16`.
///
/// # Shapes
/// - `x`: `[.., d_input]`, `weight`: `[d_input, d_output]`, `bias`: `[d_output]`
/// - returns: `[.., d_output]`
///
/// # Panics
/// If a width does not fit.
pub fn linear<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<D>> {
    let unit = unit()?;
    let mut shape = x.dims();
    let [k, n] = weight.dims();
    assert_eq!(shape[D - 1], k, "width axis: the weight takes {k}");
    let rows = shape.iter().product::<usize>() / k;
    let input = shape;
    shape[D - 1] = n;
    let ((x, flows), (weight, learns)) = (tracked(x)?, tracked(weight)?);
    if !flows && !learns {
        return None;
    }
    let (pool, isa) = (global(), Isa::best());
    let forward = |x: &[f32], weight: &[f32], bias: Option<&[f32]>| {
        let x = Rows::new(pool, isa, Plain::new(x, rows, k));
        let weight = Panels::new(pool, isa, Plain::new(weight, k, n));
        let mut out = vec![0.0; rows * n];
        product(pool, unit, &x, &weight, bias, &mut out);
        made(out, shape)
    };
    let of_x = move |grad: &[f32], weight: &[f32]| {
        let grad = Rows::new(pool, isa, Plain::new(grad, rows, n));
        let weight = Panels::new(pool, isa, Plain::new(weight, k, n).transposed());
        let mut out = vec![0.0; rows * k];
        product(pool, unit, &grad, &weight, None, &mut out);
        made(out, input)
    };
    let of_weight = move |grad: &[f32], x: &[f32]| {
        let x = Rows::new(pool, isa, Plain::new(x, rows, k).transposed());
        let grad = Panels::new(pool, isa, Plain::new(grad, rows, n));
        let mut out = vec![0.0; k * n];
        product(pool, unit, &x, &grad, None, &mut out);
        made(out, [k, n])
    };
    Some(match bias {
        None => operation([x, weight], |[x, weight]| {
            let out = forward(slice(&x), slice(&weight), None);
            let rule = Rule::new(move |grad, [flows, learns]| {
                [
                    flows.then(|| of_x(grad, slice(&weight))),
                    learns.then(|| of_weight(grad, slice(&x))),
                ]
            });
            (out, rule)
        }),
        Some(bias) => operation([x, weight, tracked(bias)?.0], |[x, weight, bias]| {
            let out = forward(slice(&x), slice(&weight), Some(slice(&bias)));
            let rule = Rule::new(move |grad, [flows, learns, moves]| {
                [
                    flows.then(|| of_x(grad, slice(&weight))),
                    learns.then(|| of_weight(grad, slice(&x))),
                    moves.then(|| made(column_sums(grad, n), [n])),
                ]
            });
            (out, rule)
        }),
    })
}

/// Rows that are added up before their sum goes to the others'.
const RUN: usize = 64;

/// The sum of each column, `[n]`.
pub(super) fn column_sums(values: &[f32], n: usize) -> Vec<f32> {
    let mut sums = vec![0.0; n];
    for run in values.chunks(RUN * n) {
        let mut part = vec![0.0; n];
        for row in run.chunks_exact(n) {
            part.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        sums.iter_mut().zip(&part).for_each(|(sum, x)| *sum += x);
    }
    sums
}
