use super::*;
use crate::blocks::{Activations, BLOCK};
use crate::random::Random;

/// The plain path: sums in 64 bits of what the type rounds.
fn expected(
    pool: &Pool,
    x: &[f32],
    values: &[f32],
    [k, n]: [usize; 2],
    kind: WeightsType,
) -> Vec<f64> {
    let weights = match kind {
        WeightsType::F32 => values.to_vec(),
        _ => Packed::new(pool, values, [k, n], kind).unpacked(pool),
    };
    let mut x = x.to_vec();
    if matches!(kind, WeightsType::Q8 | WeightsType::Q4) {
        let levels = Activations::of(&x, k);
        for (at, x) in x.iter_mut().enumerate() {
            let (row, column) = (at / k, at % k);
            let block = row * levels.blocks + column / BLOCK;
            *x = f32::from(levels.levels[block * BLOCK + column % BLOCK]) * levels.scales[block];
        }
    }
    let sum = |row: usize, column: usize| {
        (0..k)
            .map(|at| f64::from(x[row * k + at]) * f64::from(weights[at * n + column]))
            .sum()
    };
    (0..x.len() / k)
        .flat_map(|row| (0..n).map(move |column| (row, column)))
        .map(|(r, c)| sum(r, c))
        .collect()
}

fn shapes(random: &mut Random) -> Vec<[usize; 3]> {
    let mut shapes = vec![
        [1, 1, 1],
        [16, 64, 64],
        [70, 33, 65],
        [5, 1100, 130],
        [1, 768, 1000],
        [2, 300, 2048],
        [300, 150, 200],
    ];
    shapes.extend((0..20).map(|_| {
        [
            random.within(1..20),
            random.within(1..150),
            random.within(1..600),
        ]
    }));
    shapes
}

/// Those that the slowest instructions are done with soon.
fn small_shapes(random: &mut Random) -> Vec<[usize; 3]> {
    let mut shapes = shapes(random);
    shapes.retain(|[rows, k, n]| rows * k * n < 1 << 20);
    shapes
}

fn matrix<'a>(values: &'a [f32], shape: [usize; 2], packed: &'a Option<Packed>) -> Matrix<'a> {
    match packed {
        Some(packed) => Matrix::Packed(packed),
        None => Matrix::Plain(values, shape),
    }
}

fn packed(pool: &Pool, values: &[f32], shape: [usize; 2], kind: WeightsType) -> Option<Packed> {
    (kind != WeightsType::F32).then(|| Packed::new(pool, values, shape, kind))
}

#[test]
fn products_are_those_of_the_plain_path() {
    let (mut random, pool) = (Random::new(5), Pool::new(2));
    for [rows, k, n] in shapes(&mut random) {
        let (x, values) = (random.normals(rows * k), random.normals(k * n));
        for kind in WeightsType::ALL {
            let expected = expected(&pool, &x, &values, [k, n], kind);
            let packed = packed(&pool, &values, [k, n], kind);
            let matrix = matrix(&values, [k, n], &packed);
            for isa in Isa::all() {
                let mut out = vec![f32::NAN; rows * n];
                product(&pool, isa, &x, matrix, After::default(), &mut out);
                for (found, expected) in out.iter().zip(&expected) {
                    let error = (f64::from(*found) - expected).abs();
                    // k roundings of sums of numbers about one.
                    assert!(
                        error < 1e-6 * (k as f64 + 8.0),
                        "{kind} {isa:?} [{rows}, {k}, {n}]: {found} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn panels_change_no_bit() {
    let (mut random, pool) = (Random::new(11), Pool::new(2));
    for [rows, k, n] in shapes(&mut random) {
        let (x, values) = (random.normals(rows * k), random.normals(k * n));
        let packed = Packed::new(&pool, &values, [k, n], WeightsType::F32);
        for isa in Isa::all() {
            let run = |matrix: Matrix| {
                let mut out = vec![f32::NAN; rows * n];
                product(&pool, isa, &x, matrix, After::default(), &mut out);
                out
            };
            let plain = run(Matrix::Plain(&values, [k, n]));
            let panels = run(Matrix::Packed(&packed));
            assert_eq!(plain, panels, "{isa:?} [{rows}, {k}, {n}]");
        }
    }
}

#[test]
fn a_table_is_the_transpose() {
    let (mut random, pool) = (Random::new(9), Pool::new(2));
    for [rows, k, n] in shapes(&mut random) {
        let (x, values) = (random.normals(rows * k), random.normals(k * n));
        let turned: Vec<f32> = (0..n * k).map(|at| values[at % k * n + at / k]).collect();
        let expected = expected(&pool, &x, &values, [k, n], WeightsType::F32);
        let mut first = Vec::new();
        for (isa, threads) in Isa::all().into_iter().zip([1, 2, 3, 4]) {
            let mut out = vec![f32::NAN; rows * n];
            let table = Matrix::Table(&turned, [k, n]);
            product(
                &Pool::new(threads),
                isa,
                &x,
                table,
                After::default(),
                &mut out,
            );
            for (found, expected) in out.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(
                    error < 1e-6 * (k as f64 + 8.0),
                    "{isa:?} [{rows}, {k}, {n}]"
                );
            }
            if first.is_empty() {
                first = out.clone();
            }
            assert_eq!(first, out, "{isa:?} [{rows}, {k}, {n}]");
        }
    }
}

#[test]
fn no_bit_depends_on_threads_batch_or_instructions() {
    let mut random = Random::new(6);
    let pools: Vec<Pool> = (1..5).map(Pool::new).collect();
    for [rows, k, n] in shapes(&mut random) {
        let (x, values) = (random.normals(rows * k), random.normals(k * n));
        for kind in WeightsType::ALL {
            let packed = packed(&pools[0], &values, [k, n], kind);
            let matrix = matrix(&values, [k, n], &packed);
            let mut first = vec![0.0; rows * n];
            for (x, out) in x.chunks(k).zip(first.chunks_mut(n)) {
                product(&pools[0], Isa::scalar(), x, matrix, After::default(), out);
            }
            for pool in &pools {
                for isa in Isa::all() {
                    let mut out = vec![f32::NAN; rows * n];
                    product(pool, isa, &x, matrix, After::default(), &mut out);
                    assert_eq!(first, out, "{kind} {isa:?} [{rows}, {k}, {n}]");
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_stay_in_their_row_and_are_seen_in_all_of_it() {
    let (mut random, pool) = (Random::new(13), Pool::new(2));
    for [rows, k, n] in small_shapes(&mut random) {
        let (x, values) = (random.normals(rows * k), random.normals(k * n));
        let (bad_row, bad_place) = (random.within(0..rows), random.within(0..k));
        for kind in WeightsType::ALL {
            let packed = packed(&pool, &values, [k, n], kind);
            let matrix = matrix(&values, [k, n], &packed);
            for isa in Isa::all() {
                let run = |x: &[f32]| {
                    let mut out = vec![0.0; rows * n];
                    product(&pool, isa, x, matrix, After::default(), &mut out);
                    out
                };
                let good = run(&x);
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut x = x.clone();
                    x[bad_row * k + bad_place] = bad;
                    for (row, (found, good)) in run(&x).chunks(n).zip(good.chunks(n)).enumerate() {
                        let quantized = matches!(kind, WeightsType::Q8 | WeightsType::Q4);
                        let fits = match row == bad_row {
                            true if bad.is_nan() || quantized => found.iter().all(|x| x.is_nan()),
                            true => found.iter().all(|x| !x.is_finite()),
                            false => found == good,
                        };
                        assert!(fits, "{kind} {isa:?} {bad} [{rows}, {k}, {n}] {row}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_comes_after_is_what_it_would_be_by_itself() {
    let mut random = Random::new(7);
    let pools: Vec<Pool> = (1..4).map(Pool::new).collect();
    for [rows, k, n] in small_shapes(&mut random) {
        let n = 2 * n;
        let (x, values) = (random.normals(rows * k), random.normals(k * n));
        let (bias, more) = (random.normals(n), random.normals(rows * n));
        for (kind, curve) in WeightsType::ALL.into_iter().zip([
            Curve::Silu,
            Curve::Relu,
            Curve::ReluSquared,
            Curve::GeluTanh,
            Curve::Silu,
        ]) {
            let packed = packed(&pools[0], &values, [k, n], kind);
            let matrix = matrix(&values, [k, n], &packed);
            for (pool, isa) in pools
                .iter()
                .flat_map(|pool| Isa::all().into_iter().map(move |isa| (pool, isa)))
            {
                let mut plain = vec![0.0; rows * n];
                product(pool, isa, &x, matrix, After::default(), &mut plain);
                plain.chunks_mut(n).for_each(|row| add(row, &bias));

                let mut halves = vec![f32::NAN; rows * n / 2];
                gated(pool, isa, &x, matrix, Some(&bias), curve, &mut halves);
                for (row, out) in plain.chunks(n).zip(halves.chunks(n / 2)) {
                    let mut gates = row[..n / 2].to_vec();
                    curve.apply(&mut gates);
                    let values = row[n / 2..].iter();
                    let expected: Vec<f32> = gates.iter().zip(values).map(|(a, b)| a * b).collect();
                    assert_eq!(out, expected, "{kind} {isa:?}");
                }

                curve.apply(&mut plain);
                add(&mut plain, &more);
                let mut out = vec![f32::NAN; rows * n];
                let after = After {
                    bias: Some(&bias),
                    curve: Some(curve),
                    add: Some(&more),
                };
                product(pool, isa, &x, matrix, after, &mut out);
                assert_eq!(out, plain, "{kind} {isa:?}");
            }
        }
    }
}
