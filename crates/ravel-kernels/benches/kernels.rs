//! Each kernel by itself: `cargo bench -p ravel-kernels`.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ravel_kernels::attend::{HeadNorm, Inputs, Shape, attend};
use ravel_kernels::isa::Isa;
use ravel_kernels::pool;
use ravel_kernels::product::{After, Matrix, gated, product};
use ravel_kernels::random::Random;
use ravel_kernels::row_norm::{RowNorm, row_norm};
use ravel_kernels::{Curve, Packed, WeightsType};

fn main() {
    divan::main();
}

/// `[768, 4096]` by some rows.
#[divan::bench(args = [(0, 1), (0, 16), (1, 1), (2, 1), (2, 16), (3, 1), (3, 2), (3, 16), (4, 1), (4, 16)])]
fn products(bencher: Bencher, (kind, rows): (usize, usize)) {
    let (k, n, kind) = (768, 4096, WeightsType::ALL[kind]);
    let bytes = BytesCount::new(kind.bytes(k, n));
    multiplied(bencher.counter(bytes), [rows, k, n], kind);
}

/// `[1024, 2048]` by many rows.
#[divan::bench(args = [(0, 64), (0, 256), (0, 512), (1, 256), (2, 256), (3, 256)])]
fn products_of_many_rows(bencher: Bencher, (kind, rows): (usize, usize)) {
    let (k, n) = (1024, 2048);
    let products = ItemsCount::new(rows * k * n);
    multiplied(
        bencher.counter(products),
        [rows, k, n],
        WeightsType::ALL[kind],
    );
}

fn multiplied(bencher: Bencher, [rows, k, n]: [usize; 3], kind: WeightsType) {
    let mut random = Random::new(1);
    let (values, x) = (random.normals(k * n), random.normals(rows * k));
    let packed = Packed::new(pool::global(), &values, [k, n], kind);
    let matrix = Matrix::Packed(&packed);
    let mut out = vec![0.0; rows * n];
    bencher.bench_local(|| {
        let after = After::default();
        let x = black_box(&x);
        product(pool::global(), Isa::best(), x, matrix, after, &mut out);
    });
}

#[divan::bench]
fn gates(bencher: Bencher) {
    let (k, n) = (768, 4096);
    let mut random = Random::new(1);
    let (values, x) = (random.normals(k * n), random.normals(k));
    let packed = Packed::new(pool::global(), &values, [k, n], WeightsType::Q8);
    let mut out = vec![0.0; n / 2];
    bencher.bench_local(|| {
        let matrix = Matrix::Packed(&packed);
        gated(
            pool::global(),
            Isa::best(),
            black_box(&x),
            matrix,
            None,
            Curve::Silu,
            &mut out,
        );
    });
}

#[divan::bench(args = [16, 256, 4096])]
fn attention(bencher: Bencher, seen: usize) {
    let mut random = Random::new(1);
    let shape = Shape {
        batch: 1,
        n: 1,
        n_heads: 12,
        n_kv_heads: 12,
        width: 64,
        capacity: seen,
        past: seen - 1,
        first: 0,
    };
    let qkv = random.normals(36 * 64);
    let mut keys = random.normals(12 * seen * 64);
    let mut values = random.normals(12 * seen * 64);
    let mut out = vec![0.0; 768];
    let inputs = Inputs {
        qkv: &qkv,
        norm: HeadNorm::None,
        turn: None,
        scales: &[0.125],
        mask: None,
    };
    bencher
        .counter(BytesCount::new(2 * 4 * 12 * seen * 64))
        .bench_local(|| {
            attend(
                pool::global(),
                Isa::best(),
                &shape,
                &inputs,
                &mut keys,
                &mut values,
                &mut out,
            );
        });
}

#[divan::bench]
fn norms(bencher: Bencher) {
    let x = Random::new(1).normals(768);
    let mut out = vec![0.0; 768];
    let norm = RowNorm {
        centred: true,
        gain: Some(&x),
        ..RowNorm::default()
    };
    let pool = pool::global();
    bencher.bench_local(|| row_norm(pool, Isa::best(), black_box(&x), 768, &norm, &mut out));
}
