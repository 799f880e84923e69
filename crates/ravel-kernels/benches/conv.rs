//! Convolutions at the sizes of LlamaGen's VQ-16, with the norm and SiLU that stand before them. What is counted are multiplications with
//! their additions as the formula has them, so that Winograd's way can count more of them than the processor does.
//!
//! `cargo bench -p ravel-kernels --bench conv`

use divan::Bencher;
use divan::counter::ItemsCount;
use ravel_kernels::Curve;
use ravel_kernels::conv::{CellAttention, Conv, Grid, Planes, Precision};
use ravel_kernels::norm::{Entry, GroupNorm, Sums};
use ravel_kernels::pool;

fn main() {
    divan::main();
}

/// Numbers between -1 and 1 that look random.
fn numbers(len: usize) -> Vec<f32> {
    let number = |at: usize| (at as u32).wrapping_mul(2_654_435_769) >> 8;
    (0..len)
        .map(|at| number(at) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

fn conv(from: usize, to: usize, kernel: usize, precision: Precision) -> Conv {
    let size = 1.0 / ((from * kernel * kernel) as f32).sqrt();
    let weight: Vec<f32> = numbers(to * from * kernel * kernel)
        .iter()
        .map(|x| x * size)
        .collect();
    Conv::new(pool::global(), &weight, &[], [to, from, kernel], precision)
}

/// A grid, and the sums of its channels.
fn grid(side: usize, channels: usize) -> (Grid, Sums) {
    let mut grid = Grid::zeros(side, side, channels);
    let len = grid.cells().len();
    grid.cells_mut().copy_from_slice(&numbers(len));
    let mut identity = vec![0.0; channels * channels];
    (0..channels).for_each(|at| identity[at * channels + at] = 1.0);
    let same = Conv::new(
        pool::global(),
        &identity,
        &[],
        [channels, channels, 1],
        Precision::F32,
    );
    let mut copy = grid.clone();
    let sums = same.run(
        pool::global(),
        &grid,
        &Entry::default(),
        1,
        &mut copy,
        false,
    );
    (grid, sums)
}

fn norm(channels: usize) -> GroupNorm {
    GroupNorm {
        groups: 32,
        gamma: vec![1.0; channels],
        beta: vec![0.0; channels],
        epsilon: 1e-6,
    }
}

/// Side, channels in, channels out.
const SIZES: [[usize; 3]; 6] = [
    [256, 128, 128],
    [256, 128, 3],
    [128, 256, 128],
    [64, 256, 256],
    [32, 512, 512],
    [16, 512, 512],
];

fn run(bencher: Bencher, [side, from, to]: [usize; 3], kernel: usize, precision: Precision) {
    let (input, sums) = grid(side, from);
    let conv = conv(from, to, kernel, precision);
    let norm = norm(from);
    let mut out = Grid::zeros(side, side, to);
    let products = side * side * from * to * kernel * kernel;
    bencher.counter(ItemsCount::new(products)).bench_local(|| {
        let entry = norm.entry(&sums, Some(Curve::Silu));
        conv.run(pool::global(), &input, &entry, 1, &mut out, false)
    });
}

#[divan::bench(args = SIZES)]
fn three_by_three_f32(bencher: Bencher, size: [usize; 3]) {
    run(bencher, size, 3, Precision::F32);
}

#[divan::bench(args = SIZES)]
fn three_by_three_bf16(bencher: Bencher, size: [usize; 3]) {
    run(bencher, size, 3, Precision::Bf16);
}

#[divan::bench(args = SIZES)]
fn one_by_one_f32(bencher: Bencher, size: [usize; 3]) {
    run(bencher, size, 1, Precision::F32);
}

#[divan::bench(args = SIZES)]
fn one_by_one_bf16(bencher: Bencher, size: [usize; 3]) {
    run(bencher, size, 1, Precision::Bf16);
}

/// The grid twice as large, each cell repeated, then a convolution.
#[divan::bench(args = [Precision::F32, Precision::Bf16])]
fn doubled(bencher: Bencher, precision: Precision) {
    let (input, _) = grid(128, 128);
    let conv = conv(128, 128, 3, precision);
    let mut out = Grid::zeros(256, 256, 128);
    let counter = ItemsCount::new(256 * 256 * 128 * 128 * 9usize);
    bencher.counter(counter).bench_local(|| {
        conv.run(
            pool::global(),
            &input,
            &Entry::default(),
            2,
            &mut out,
            false,
        )
    });
}

#[divan::bench]
fn attention(bencher: Bencher) {
    let (mut cells, sums) = grid(16, 512);
    let make = || conv(512, 512, 1, Precision::F32);
    let attention = CellAttention {
        norm: norm(512),
        qkv: [make(), make(), make()],
        out: make(),
    };
    let mut planes = Planes::default();
    bencher.bench_local(|| attention.run(pool::global(), &mut planes, &mut cells, &sums));
}

/// What one core can do at most with `f32`: fused products in registers alone.
#[divan::bench]
fn product_rate_of_one_core_f32(bencher: Bencher) {
    let counter = ItemsCount::new(ravel_kernels::conv::RATE_PRODUCTS);
    bencher
        .counter(counter)
        .bench_local(ravel_kernels::conv::rate_f32);
}
