//! What training spends its time on: `cargo bench -p ravel-kernels --bench tracked`.

use burn::tensor::{Device, Tensor, TensorData};
use divan::Bencher;
use ravel_kernels::random::Random;
use ravel_kernels::tracked::{Heads, attention, in_halves, linear};

fn main() {
    divan::main();
}

fn numbers<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<D> {
    let values = Random::new(seed).normals(shape.iter().product());
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
}

/// Twelve rows of 512 positions, eight heads of 32, whether the way back counts.
#[divan::bench(args = [false, true], sample_count = 10)]
fn heads(bencher: Bencher, back: bool) {
    let qkv = numbers(1, [12, 512, 768]);
    bencher.bench_local(|| {
        let heads = Heads {
            qkv: &qkv,
            n_heads: 8,
            n_kv_heads: 8,
            gains: None,
            turn: None,
            scale: 0.2,
            mask: None,
        };
        let out = in_halves(|| attention(&heads));
        let out = out.expect("this processor has products in bf16");
        back.then(|| out.sum().backward())
    });
}

/// 6,144 rows of 256 to 768 and the gradients of both.
#[divan::bench(args = [false, true], sample_count = 10)]
fn rows(bencher: Bencher, back: bool) {
    let (x, w) = (numbers(1, [6144, 256]), numbers(2, [256, 768]));
    bencher.bench_local(|| {
        let out = in_halves(|| linear(&x, &w, None));
        let out = out.expect("this processor has products in bf16");
        back.then(|| out.sum().backward())
    });
}
