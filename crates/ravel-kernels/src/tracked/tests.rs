use burn::tensor::{Device, Gradients, Tensor, TensorData, activation};

use super::*;
use crate::Turn;
use crate::curve::Curve;
use crate::random::Random;

fn device() -> Device {
    Device::flex().autodiff()
}

fn numbers<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<D> {
    let values = Random::new(seed).normals(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), &device())
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Within so much of the length of what is expected.
fn near<const D: usize>(what: &str, found: Tensor<D>, expected: Tensor<D>, share: f32) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let length = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
    let apart: Vec<f32> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
    let (apart, whole) = (length(&apart), length(&expected));
    assert!(
        apart <= share * whole && whole > 0.0,
        "{what}: {apart} of {whole}"
    );
}

/// Rounding to eight bits, a few times over.
const ROUNDED: f32 = 0.012;

/// The gradients of a result weighed by fixed numbers.
fn gradients<const D: usize>(out: &Tensor<D>) -> Gradients {
    (out.clone() * numbers(99, out.dims())).sum().backward()
}

fn grad<const D: usize>(of: &Tensor<D>, grads: &Gradients) -> Tensor<D> {
    of.grad(grads).expect("a gradient")
}

#[test]
fn nothing_is_served_outside_of_halves_or_without_gradients() {
    let (x, w) = (numbers(1, [5, 8]), numbers(2, [8, 3]).require_grad());
    assert!(linear(&x, &w, None).is_none());
    let (x, w) = (x.inner(), w.inner());
    assert!(in_halves(|| linear(&x, &w, None)).is_none());
    assert!(!HALVES.get());
}

#[test]
fn linear_layers_and_their_gradients_are_burn_s() {
    if !has_halves() {
        return;
    }
    for (rows, k, n) in [(3, 5, 7), (70, 64, 96), (600, 40, 33)] {
        let x = numbers(1, [2, rows, k]).require_grad();
        let w = numbers(2, [k, n]).require_grad();
        let b = numbers(3, [n]).require_grad();
        let plain = x.clone().matmul(w.clone().unsqueeze()) + b.clone().unsqueeze();
        let found = in_halves(|| linear(&x, &w, Some(&b))).expect("served");
        near("out", found.clone(), plain.clone(), ROUNDED);
        let (found, plain) = (gradients(&found), gradients(&plain));
        near("x", grad(&x, &found), grad(&x, &plain), ROUNDED);
        near("w", grad(&w, &found), grad(&w, &plain), ROUNDED);
        near("b", grad(&b, &found), grad(&b, &plain), 1e-5);
        let without = in_halves(|| linear(&x, &w, None)).expect("served");
        let plain = x.clone().matmul(w.clone().unsqueeze());
        near("no bias", without, plain, ROUNDED);
    }
}

#[test]
fn a_constant_input_gets_no_gradient_and_the_weight_does() {
    if !has_halves() {
        return;
    }
    let (x, w) = (numbers(1, [40, 8]), numbers(2, [8, 3]).require_grad());
    let found = in_halves(|| linear(&x, &w, None)).expect("served");
    let grads = gradients(&found);
    assert!(x.grad(&grads).is_none());
    let plain = gradients(&x.clone().matmul(w.clone()));
    near("w", grad(&w, &grads), grad(&w, &plain), ROUNDED);
}

#[test]
fn norms_and_their_gradients_are_burn_s() {
    if !has_halves() {
        return;
    }
    for width in [5, 32, 100] {
        let x = numbers(1, [3, 50, width]).require_grad();
        let gain = numbers(2, [width]).require_grad();
        let square = (x.clone() * x.clone()).mean_dim(2);
        let plain = x.clone() * (square + 1e-5).sqrt().recip() * gain.clone().unsqueeze();
        let found = in_halves(|| rms_norm(&x, &gain, 1e-5)).expect("served");
        near("out", found.clone(), plain.clone(), 1e-5);
        let (found, plain) = (gradients(&found), gradients(&plain));
        near("x", grad(&x, &found), grad(&x, &plain), 1e-5);
        near("gain", grad(&gain, &found), grad(&gain, &plain), 1e-5);
    }
}

#[test]
fn curves_and_their_slopes_are_burn_s() {
    if !has_halves() {
        return;
    }
    for kind in [
        Curve::Silu,
        Curve::Relu,
        Curve::ReluSquared,
        Curve::GeluTanh,
    ] {
        let x = (numbers(1, [7, 333]) * 3.0).detach().require_grad();
        let relu = activation::relu(x.clone());
        let plain = match kind {
            Curve::Silu => activation::silu(x.clone()),
            Curve::Relu => relu,
            Curve::ReluSquared => relu.clone() * relu,
            Curve::GeluTanh => activation::gelu_approximate(x.clone()),
        };
        let found = in_halves(|| curve(&x, kind)).expect("served");
        near("out", found.clone(), plain.clone(), 1e-5);
        let (found, plain) = (gradients(&found), gradients(&plain));
        near("slope", grad(&x, &found), grad(&x, &plain), 1e-5);
    }
}

struct Case {
    n: usize,
    heads: [usize; 2],
    width: usize,
    norm: bool,
    turn: Option<bool>,
    /// Rows of the mask's batch, heads and queries.
    mask: Option<[usize; 3]>,
}

impl Case {
    const BATCH: usize = 2;

    fn angles(&self) -> (Tensor<4>, Tensor<4>) {
        let (half, all) = (self.width / 2, self.n * self.width / 2);
        let angles = Random::new(5).normals(all);
        let pair = |of: fn(f32) -> f32, signs: [f32; 2]| {
            let mut out = vec![0.0; self.n * self.width];
            for (at, angle) in angles.iter().enumerate() {
                let (row, pair) = (at / half, at % half);
                for (side, sign) in signs.into_iter().enumerate() {
                    let place = match self.turn {
                        Some(true) => 2 * pair + side,
                        _ => pair + side * half,
                    };
                    out[row * self.width + place] = sign * of(*angle);
                }
            }
            Tensor::from_data(TensorData::new(out, [1, self.n, 1, self.width]), &device())
        };
        (pair(f32::cos, [1.0, 1.0]), pair(f32::sin, [-1.0, 1.0]))
    }

    /// Frames of eight that see themselves and what is before them, and one position that is out of sight.
    fn mask(&self) -> Option<Tensor<4>> {
        let [batch, heads, rows] = self.mask?;
        let mut out = Vec::new();
        for at in 0..batch * heads {
            for query in 0..rows {
                for key in 0..self.n {
                    let hidden = (rows > 1 && key / 8 > query / 8) || key == 1 + at;
                    out.push(if hidden { -1e9 } else { 0.1 * (key % 3) as f32 });
                }
            }
        }
        let shape = [batch, heads, rows, self.n];
        Some(Tensor::from_data(TensorData::new(out, shape), &device()))
    }

    fn plain(&self, qkv: Tensor<3>, q: &Tensor<1>, k: &Tensor<1>) -> Tensor<3> {
        let [h, kv] = self.heads;
        let (n, width) = (self.n, self.width);
        let all = qkv.reshape([Self::BATCH, n, h + 2 * kv, width]);
        let part = |from: usize, count: usize| all.clone().narrow(2, from, count);
        let placed = |x: Tensor<4>, gain: &Tensor<1>| {
            let x = match self.norm {
                true => {
                    let square = (x.clone() * x.clone()).mean_dim(3);
                    x * (square + 1e-5).sqrt().recip() * gain.clone().unsqueeze()
                }
                false => x,
            };
            let Some(interleaved) = self.turn else {
                return x;
            };
            let (cos, sin) = self.angles();
            let partner = |at: usize| match interleaved {
                true => at ^ 1,
                false => (at + width / 2) % width,
            };
            let order: Vec<i32> = (0..width).map(|at| partner(at) as i32).collect();
            let order = Tensor::from_data(TensorData::new(order, [width]), &device());
            x.clone() * cos + x.select(3, order) * sin
        };
        let spread = |x: Tensor<4>| -> Tensor<4> {
            let x = x.swap_dims(1, 2).unsqueeze_dim::<5>(2);
            x.expand([Self::BATCH, kv, h / kv, n, width])
                .reshape([Self::BATCH, h, n, width])
        };
        let queries = placed(part(0, h), q).swap_dims(1, 2) * 0.3;
        let keys = spread(placed(part(h, kv), k));
        let mut scores = queries.matmul(keys.swap_dims(2, 3));
        if let Some(mask) = self.mask() {
            scores = scores + mask;
        }
        let mixed = activation::softmax(scores, 3).matmul(spread(part(h + kv, kv)));
        mixed.swap_dims(1, 2).reshape([Self::BATCH, n, h * width])
    }

    fn ours(&self, qkv: &Tensor<3>, q: &Tensor<1>, k: &Tensor<1>) -> Tensor<3> {
        let ((cos, sin), mask) = (self.angles(), self.mask());
        let heads = Heads {
            qkv,
            n_heads: self.heads[0],
            n_kv_heads: self.heads[1],
            gains: self.norm.then_some((q, k, 1e-5)),
            turn: self.turn.map(|interleaved| Turn {
                cos: &cos,
                sin: &sin,
                interleaved,
            }),
            scale: 0.3,
            mask: mask.as_ref(),
        };
        in_halves(|| attention(&heads)).expect("served")
    }

    fn check(&self) {
        let all = (self.heads[0] + 2 * self.heads[1]) * self.width;
        let qkv = numbers(1, [Self::BATCH, self.n, all]).require_grad();
        let gain = |seed| {
            (numbers(seed, [self.width]) * 0.3 + 1.0)
                .detach()
                .require_grad()
        };
        let (q, k) = (gain(2), gain(3));
        let (found, plain) = (self.ours(&qkv, &q, &k), self.plain(qkv.clone(), &q, &k));
        near("heads", found.clone(), plain.clone(), ROUNDED);
        let (ours, theirs) = (gradients(&found), gradients(&plain));
        near("qkv", grad(&qkv, &ours), grad(&qkv, &theirs), ROUNDED);
        if self.norm {
            near("q gain", grad(&q, &ours), grad(&q, &theirs), 2.0 * ROUNDED);
            near("k gain", grad(&k, &ours), grad(&k, &theirs), 2.0 * ROUNDED);
        }
        // Again is the same, bit by bit.
        let again = gradients(&self.ours(&qkv, &q, &k));
        assert_eq!(values(grad(&qkv, &ours)), values(grad(&qkv, &again)));
        assert_eq!(values(found), values(self.ours(&qkv, &q, &k)));
    }
}

#[test]
fn attention_and_its_gradients_are_burn_s() {
    if !has_halves() {
        return;
    }
    for (n, heads, width, norm, turn, mask) in [
        (7, [2, 2], 8, false, None, None),
        (64, [2, 1], 32, true, Some(false), Some([1, 1, 64])),
        (100, [4, 2], 48, true, Some(true), Some([2, 1, 1])),
        (33, [3, 3], 64, false, Some(false), Some([2, 3, 33])),
        (200, [1, 1], 16, true, None, Some([1, 1, 200])),
    ] {
        Case {
            n,
            heads,
            width,
            norm,
            turn,
            mask,
        }
        .check();
    }
}
