//! Each kernel by itself: `cargo bench -p ravel-kernels`.

use burn::tensor::{Device, Tensor, TensorData};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ravel_kernels::attend::{HeadNorm, Inputs, Shape, attend};
use ravel_kernels::conv::{Conv, Grid, Precision};
use ravel_kernels::isa::Isa;
use ravel_kernels::norm::{Entry, GroupNorm};
use ravel_kernels::pool;
use ravel_kernels::product::{After, Matrix, gated, product};
use ravel_kernels::random::Random;
use ravel_kernels::row_norm::{RowNorm, row_norm};
use ravel_kernels::{Curve, Packed, WeightsType, shifts};

fn main() {
    divan::main();
}

/// `[768, 4096]` by some rows.
#[divan::bench(args = [(0, 1), (0, 16), (1, 1), (1, 16), (2, 1), (2, 16), (3, 1), (3, 2), (3, 16), (4, 1), (4, 16)])]
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

/// Of a table `[4096, 768]`, as where scores are taken with the table that embeds.
#[divan::bench(args = [1, 16])]
fn products_of_a_table(bencher: Bencher, rows: usize) {
    let (k, n) = (768, 4096);
    let mut random = Random::new(1);
    let (values, x) = (random.normals(k * n), random.normals(rows * k));
    let mut out = vec![0.0; rows * n];
    bencher.counter(BytesCount::new(4 * k * n)).bench_local(|| {
        let (x, matrix) = (black_box(&x), Matrix::Table(&values, [k, n]));
        let after = After::default();
        product(pool::global(), Isa::best(), x, matrix, after, &mut out);
    });
}

#[divan::bench(args = WeightsType::ALL)]
fn gates(bencher: Bencher, kind: WeightsType) {
    let (k, n) = (768, 4096);
    let mut random = Random::new(1);
    let (values, x) = (random.normals(k * n), random.normals(k));
    let packed = Packed::new(pool::global(), &values, [k, n], kind);
    let mut out = vec![0.0; n / 2];
    let bytes = BytesCount::new(kind.bytes(k, n));
    bencher.counter(bytes).bench_local(|| {
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

/// Group norm and SiLU on the way into a convolution to one channel, which adds little to it.
#[divan::bench]
fn group_norm_and_silu(bencher: Bencher) {
    let (side, channels, pool) = (64, 128, pool::global());
    let mut random = Random::new(1);
    let mut conv = |to: usize| {
        let weight = random.normals(to * channels);
        Conv::new(pool, &weight, &[], [to, channels, 1], Precision::F32)
    };
    let (mix, conv) = (conv(channels), conv(1));
    let mut from = Grid::zeros(side, side, channels);
    let len = from.cells().len();
    from.cells_mut().copy_from_slice(&random.normals(len));
    let mut grid = from.clone();
    let sums = mix.run(pool, &from, &Entry::default(), 1, &mut grid, false);
    let norm = GroupNorm {
        groups: 32,
        gamma: vec![1.0; channels],
        beta: vec![0.0; channels],
        epsilon: 1e-6,
    };
    let mut out = Grid::zeros(side, side, 1);
    bencher.counter(ItemsCount::new(len)).bench_local(|| {
        let entry = norm.entry(&sums, Some(Curve::Silu));
        conv.run(pool, &grid, &entry, 1, &mut out, false)
    });
}

fn numbers(shape: [usize; 4]) -> Tensor<4> {
    let values = Random::new(1).normals(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Nine shifts in each direction of a picture of 64 by 64.
#[divan::bench]
fn shifts_moved(bencher: Bencher) {
    let (around, weights) = (numbers([1, 3, 72, 72]), numbers([1, 9, 64, 64]));
    bencher.bench_local(|| shifts::moved(black_box(&around), &weights, &weights));
}

#[divan::bench]
fn shifts_costs(bencher: Bencher) {
    let (around, picture) = (numbers([1, 3, 72, 72]), numbers([1, 3, 64, 64]));
    bencher.bench_local(|| shifts::costs(black_box(&around), &picture, 9, 4));
}

/// What the pool itself takes of each job: a piece for each thread with nothing in it.
#[divan::bench]
fn empty_job(bencher: Bencher) {
    let pool = pool::global();
    bencher.bench_local(|| {
        pool.run(pool.threads(), &|piece| {
            black_box(piece);
        })
    });
}
