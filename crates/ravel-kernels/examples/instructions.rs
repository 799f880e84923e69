//! Runs one kernel on one thread, for `cargo xtask instructions` to count what it takes.

use std::hint::black_box;

use ravel_kernels::attend::{HeadNorm, Inputs, Shape, Turn, attend};
use ravel_kernels::isa::Isa;
use ravel_kernels::pool::Pool;
use ravel_kernels::product::{After, Matrix, gated, product};
use ravel_kernels::random::Random;
use ravel_kernels::{Curve, Packed, WeightsType};

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
    measured(&mut || product(&pool, Isa::best(), &x, matrix, After::default(), &mut out));
    black_box(out);
}

fn table() {
    let (k, n) = (256, 512);
    let (pool, mut random) = (Pool::new(1), Random::new(1));
    let (values, x) = (random.normals(k * n), random.normals(k));
    let mut out = vec![0.0; n];
    let matrix = Matrix::Table(&values, [k, n]);
    measured(&mut || product(&pool, Isa::best(), &x, matrix, After::default(), &mut out));
    black_box(out);
}

fn gate() {
    let (k, n) = (256, 512);
    let (pool, mut random) = (Pool::new(1), Random::new(1));
    let (values, x) = (random.normals(k * n), random.normals(k));
    let packed = Packed::new(&pool, &values, [k, n], WeightsType::Q8);
    let mut out = vec![0.0; n / 2];
    let matrix = Matrix::Packed(&packed);
    measured(&mut || gated(&pool, Isa::best(), &x, matrix, None, Curve::Silu, &mut out));
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
    measured(&mut || attend(&pool, Isa::best(), &shape, &inputs, keys, values, &mut out));
    black_box(out);
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    let (what, rows) = name.split_once('-').unwrap_or((&name, "1"));
    let kind = WeightsType::ALL
        .into_iter()
        .find(|kind| kind.name() == what);
    match (kind, rows.parse(), what) {
        (Some(kind), Ok(rows), _) => products(kind, rows),
        (.., "table") => table(),
        (.., "gated") => gate(),
        (.., "attention") => attention(),
        _ => panic!("a name of `crates/ravel-kernels/instructions.json` is needed, not `{name}`"),
    }
}
