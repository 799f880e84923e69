//! Runs one kernel on one thread, for `cargo xtask instructions` to count what it takes.

use std::hint::black_box;

use burn::tensor::{Device, Tensor, TensorData};
use ravel_kernels::attend::{HeadNorm, Inputs, Shape, Turn, attend};
use ravel_kernels::conv::{Conv, Grid, Precision};
use ravel_kernels::isa::Isa;
use ravel_kernels::norm::{Entry, GroupNorm, Sums};
use ravel_kernels::pool::Pool;
use ravel_kernels::product::{After, Matrix, gated, product};
use ravel_kernels::random::Random;
use ravel_kernels::row_norm::{RowNorm, row_norm};
use ravel_kernels::{Curve, Packed, WeightsType, shifts};

/// Does it twice: the first time makes the room that a thread keeps, whose cost depends on what the allocator has.
fn counted(work: &mut dyn FnMut()) {
    work();
    measured(work);
}

/// What is counted, by name.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

fn products(kind: WeightsType, rows: usize) {
    let (k, n) = (256, 512);
    let (pool, mut random) = (Pool::new(1), Random::new(1));
    let (values, x) = (random.normals(k * n), random.normals(rows * k));
    let packed = Packed::new(&pool, &values, [k, n], kind);
    let matrix = Matrix::Packed(&packed);
    let mut out = vec![0.0; rows * n];
    counted(&mut || product(&pool, Isa::best(), &x, matrix, After::default(), &mut out));
    black_box(out);
}

fn table() {
    let (k, n) = (256, 512);
    let (pool, mut random) = (Pool::new(1), Random::new(1));
    let (values, x) = (random.normals(k * n), random.normals(k));
    let mut out = vec![0.0; n];
    let matrix = Matrix::Table(&values, [k, n]);
    counted(&mut || product(&pool, Isa::best(), &x, matrix, After::default(), &mut out));
    black_box(out);
}

fn gate() {
    let (k, n) = (256, 512);
    let (pool, mut random) = (Pool::new(1), Random::new(1));
    let (values, x) = (random.normals(k * n), random.normals(k));
    let packed = Packed::new(&pool, &values, [k, n], WeightsType::Q8);
    let mut out = vec![0.0; n / 2];
    let matrix = Matrix::Packed(&packed);
    counted(&mut || gated(&pool, Isa::best(), &x, matrix, None, Curve::Silu, &mut out));
    black_box(out);
}

fn attention() {
    let (pool, mut random) = (Pool::new(1), Random::new(1));
    let shape = Shape {
        batch: 1,
        n: 1,
        n_heads: 4,
        n_kv_heads: 4,
        width: 64,
        capacity: 256,
        past: 255,
        first: 0,
    };
    let qkv = random.normals(12 * 64);
    let turn = [random.normals(64), random.normals(64)];
    let mut memory = [random.normals(4 * 256 * 64), random.normals(4 * 256 * 64)];
    let mut out = vec![0.0; 4 * 64];
    let inputs = Inputs {
        qkv: &qkv,
        norm: HeadNorm::None,
        turn: Some(Turn {
            cos: &turn[0],
            sin: &turn[1],
            interleaved: false,
        }),
        scales: &[0.125],
        mask: None,
    };
    let [keys, values] = &mut memory;
    counted(&mut || attend(&pool, Isa::best(), &shape, &inputs, keys, values, &mut out));
    black_box(out);
}

const CHANNELS: usize = 64;

/// Random cells and their sums, and a convolution of them to some channels.
fn picture(to: usize, kernel: usize) -> (Grid, Sums, Conv) {
    let (pool, mut random) = (Pool::new(1), Random::new(1));
    let mut conv = |to: usize, kernel: usize| {
        let weight = random.normals(to * CHANNELS * kernel * kernel);
        let shape = [to, CHANNELS, kernel];
        Conv::new(&pool, &weight, &[], shape, Precision::F32)
    };
    let (mix, conv) = (conv(CHANNELS, 1), conv(to, kernel));
    let (mut from, mut grid) = (Grid::zeros(16, 16, CHANNELS), Grid::zeros(16, 16, CHANNELS));
    let len = from.cells().len();
    from.cells_mut().copy_from_slice(&random.normals(len));
    let sums = mix.run(&pool, &from, &Entry::default(), 1, &mut grid, false);
    (grid, sums, conv)
}

/// With 64 channels, 3×3 goes Winograd's way and 1×1 directly.
fn convolution(kernel: usize) {
    let (pool, (grid, _, conv)) = (Pool::new(1), picture(CHANNELS, kernel));
    let (mut out, entry) = (Grid::zeros(16, 16, CHANNELS), Entry::default());
    counted(&mut || {
        conv.run(&pool, &grid, &entry, 1, &mut out, false);
    });
    black_box(out);
}

/// Group norm and SiLU on the way into a convolution to one channel, which adds little to it.
fn group_norm() {
    let (pool, (grid, sums, conv)) = (Pool::new(1), picture(1, 1));
    let norm = GroupNorm {
        groups: 32,
        gamma: vec![1.0; CHANNELS],
        beta: vec![0.0; CHANNELS],
        epsilon: 1e-6,
    };
    let mut out = Grid::zeros(16, 16, 1);
    counted(&mut || {
        let entry = norm.entry(&sums, Some(Curve::Silu));
        conv.run(&pool, &grid, &entry, 1, &mut out, false);
    });
    black_box(out);
}

fn norm(centred: bool) {
    let (pool, x) = (Pool::new(1), Random::new(1).normals(8 * 768));
    let norm = RowNorm {
        centred,
        eps: 1e-5,
        gain: Some(&x[..768]),
        ..RowNorm::default()
    };
    let mut out = vec![0.0; 8 * 768];
    counted(&mut || row_norm(&pool, Isa::best(), &x, 768, &norm, &mut out));
    black_box(out);
}

fn numbers(shape: [usize; 4]) -> Tensor<4> {
    let values = Random::new(1).normals(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Five shifts in each direction.
fn moved() {
    let (around, weights) = (numbers([1, 3, 36, 36]), numbers([1, 5, 32, 32]));
    counted(&mut || {
        black_box(shifts::moved(&around, &weights, &weights)).expect("reals on the CPU");
    });
}

fn costs() {
    let (around, picture) = (numbers([1, 3, 36, 36]), numbers([1, 3, 32, 32]));
    counted(&mut || {
        black_box(shifts::costs(&around, &picture, 5, 4)).expect("reals on the CPU");
    });
}

fn main() {
    // For what runs in the pool that everything shares.
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .expect("no pool is there yet");
    let name = std::env::args().nth(1).unwrap_or_default();
    match name.as_str() {
        "table" => table(),
        "gated" => gate(),
        "attention" => attention(),
        "conv-1" => convolution(1),
        "conv-3" => convolution(3),
        "group-norm" => group_norm(),
        "rms-norm" => norm(false),
        "layer-norm" => norm(true),
        "moved" => moved(),
        "costs" => costs(),
        _ => {
            let (kind, rows) = name.split_once('-').unwrap_or_default();
            let kind = WeightsType::ALL.into_iter().find(|k| k.name() == kind);
            let (Some(kind), Ok(rows)) = (kind, rows.parse()) else {
                panic!(
                    "a name of `crates/ravel-kernels/instructions.json` is needed, not `{name}`"
                );
            };
            products(kind, rows);
        }
    }
}
