//! Every way of computing beside the formula, on random shapes, sets of instructions and numbers of threads.

use super::*;
use crate::Curve;
use crate::norm::GroupNorm;
use crate::tiles::Unit;
use half::bf16;

/// Numbers that look random, the same each time (Marsaglia 2003, xorshift).
struct Random(u32);

impl Random {
    fn number(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        self.number() as usize % most
    }

    fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| self.number() as f32 / (1u32 << 31) as f32 - 1.0)
            .collect()
    }
}

/// A convolution with all that it is computed from.
struct Case {
    shape: [usize; 3],
    weight: Vec<f32>,
    bias: Vec<f32>,
    input: Grid,
    entry: Entry,
    repeat: usize,
    before: Grid,
    add: bool,
}

impl Case {
    fn random(random: &mut Random, shape: [usize; 3]) -> Self {
        let [to, from, kernel] = shape;
        let (height, width, repeat) = (
            1 + random.below(20),
            1 + random.below(37),
            1 + random.below(2),
        );
        let mut input = Grid::zeros(height, width, from);
        input
            .cells_mut()
            .copy_from_slice(&random.values(height * width * from));
        let mut before = Grid::zeros(height * repeat, width * repeat, to);
        let len = before.cells().len();
        before.cells_mut().copy_from_slice(&random.values(len));
        let curve = [
            None,
            Some(Curve::Relu),
            Some(Curve::Silu),
            Some(Curve::GeluTanh),
        ][random.below(4)];
        let entry = match random.below(2) {
            0 => Entry::curve(curve),
            _ => {
                let groups = if from.is_multiple_of(2) { 2 } else { 1 };
                let norm = GroupNorm {
                    groups,
                    gamma: random.values(from),
                    beta: random.values(from),
                    epsilon: 1e-6,
                };
                let mut sums = Sums::none(from);
                sums.take_in(Isa::best(), input.cells());
                norm.entry(&sums, curve)
            }
        };
        let size = 1.0 / ((from * kernel * kernel) as f32).sqrt();
        let weight = random
            .values(to * from * kernel * kernel)
            .iter()
            .map(|x| x * size)
            .collect();
        let bias = if random.below(2) == 0 {
            Vec::new()
        } else {
            random.values(to)
        };
        Self {
            shape,
            weight,
            bias,
            input,
            entry,
            repeat,
            before,
            add: random.below(2) == 0,
        }
    }

    /// The formula, in `f64`, of numbers that went through `rounded`; and the sums of the products' sizes.
    fn exact(&self, rounded: impl Fn(f32) -> f32) -> Vec<(f64, f64)> {
        let [to, from, kernel] = self.shape;
        let mut entered = vec![0.0f32; self.input.cells().len()];
        self.entry
            .read(Isa::best(), self.input.cells(), from, &mut entered, from);
        let entered: Vec<f64> = entered.iter().map(|x| f64::from(rounded(*x))).collect();
        let weight: Vec<f64> = self.weight.iter().map(|x| f64::from(rounded(*x))).collect();
        let (height, width) = (self.before.height, self.before.width);
        let mut found = Vec::new();
        for (at, before) in self.before.cells().iter().enumerate() {
            let (y, x, channel) = (at / to / width, at / to % width, at % to);
            let first = if self.add { f64::from(*before) } else { 0.0 };
            let bias = self.bias.get(channel).map_or(0.0, |bias| f64::from(*bias));
            let (mut sum, mut size) = (first + bias, (first + bias).abs());
            for place in 0..kernel * kernel {
                let (row, column) = (y + place / kernel, x + place % kernel);
                let inside = (kernel / 2..height + kernel / 2).contains(&row)
                    && (kernel / 2..width + kernel / 2).contains(&column);
                if !inside {
                    continue;
                }
                let [row, column] = [row, column].map(|at| (at - kernel / 2) / self.repeat);
                let cell = (row * self.input.width + column) * from;
                for i in 0..from {
                    let product =
                        entered[cell + i] * weight[(channel * from + i) * kernel * kernel + place];
                    sum += product;
                    size += product.abs();
                }
            }
            found.push((sum, size));
        }
        found
    }

    fn run(&self, pool: &Pool, way: Way, isa: Isa) -> (Grid, Sums) {
        let conv = Conv::in_way(pool, &self.weight, &self.bias, self.shape, way, isa);
        let mut out = self.before.clone();
        let sums = conv.run(
            pool,
            &self.input,
            &self.entry,
            self.repeat,
            &mut out,
            self.add,
        );
        (out, sums)
    }

    /// Compares a way with the formula on all sets of instructions and some numbers of threads: an error of at most `bound`
    /// times the largest sum of the products' sizes, and the same bits.
    fn check(&self, way: Way, bound: f64, rounded: impl Fn(f32) -> f32) {
        let exact = self.exact(rounded);
        let largest = exact
            .iter()
            .fold(0.0, |most: f64, (_, size)| most.max(*size));
        let (first, sums) = self.run(&Pool::new(1), way, Isa::best());
        for (found, (exact, _)) in first.cells().iter().zip(&exact) {
            let error = (f64::from(*found) - exact).abs() / largest;
            assert!(
                error <= bound,
                "{way:?} {:?}: {found} {exact}, {error:e}",
                self.shape
            );
        }
        for isa in Isa::all() {
            for threads in 1..4 {
                let (again, sums_again) = self.run(&Pool::new(threads), way, isa);
                assert!(
                    first.cells() == again.cells(),
                    "{way:?} {isa:?} {threads} threads {:?}",
                    self.shape
                );
                assert!(sums == sums_again);
            }
        }
    }
}

impl Case {
    /// Pieces that begin where bands do, each with no more rows of the input than it sees, are the same bits as the whole.
    fn check_pieces(&self, way: Way, random: &mut Random) {
        let pool = Pool::new(2);
        let conv = Conv::in_way(
            &pool,
            &self.weight,
            &self.bias,
            self.shape,
            way,
            Isa::best(),
        );
        let (whole, sums) = self.run(&pool, way, Isa::best());
        let (mut out, mut found) = (self.before.clone(), Sums::none(self.before.channels));
        let (height, band) = (out.height, conv.band(out.height, out.width));
        let Grid {
            width, channels, ..
        } = self.input;
        let mut strip = Strip::new(self.input.height, width, channels);
        let mut start = 0;
        while start < height {
            let end = (start + band * (1 + random.below(2))).min(height);
            let seen = (end + conv.reach()).min(height).div_ceil(self.repeat);
            let mut more = strip.extend(seen.max(strip.range().end));
            let same = self.input.rows().cells(more.range());
            more.cells_mut().copy_from_slice(same);
            strip.forget(start.saturating_sub(conv.reach()) / self.repeat);
            let (input, mut to) = (strip.rows(), out.rows_mut(start..end));
            conv.run_rows(
                &pool,
                input,
                &self.entry,
                self.repeat,
                &mut to,
                self.add,
                &mut found,
            );
            start = end;
        }
        assert!(out.cells() == whole.cells(), "{way:?} {:?}", self.shape);
        assert!(found == sums);
    }
}

#[test]
fn pieces_of_rows_are_the_whole() {
    let mut random = Random(9);
    for kernel in [1, 3, 5, 3, 3, 3] {
        let shape = [1 + random.below(70), 16 * (1 + random.below(3)), kernel];
        let case = Case::random(&mut random, shape);
        case.check_pieces(Way::Direct, &mut random);
        if kernel == 3 {
            case.check_pieces(Way::Winograd, &mut random);
        }
        if let Some(unit) = Unit::best() {
            case.check_pieces(Way::Half(unit), &mut random);
        }
    }
}

#[test]
fn the_direct_way_is_the_formula() {
    let mut random = Random(1);
    for _ in 0..40 {
        let shape = [
            1 + random.below(70),
            1 + random.below(50),
            [1, 3, 5][random.below(3)],
        ];
        Case::random(&mut random, shape).check(Way::Direct, 1e-6, |x| x);
    }
    // More channels than are summed at once.
    Case::random(&mut random, [33, 300, 3]).check(Way::Direct, 1e-6, |x| x);
}

#[test]
fn winograds_way_is_the_formula() {
    let mut random = Random(2);
    for _ in 0..40 {
        let shape = [1 + random.below(70), 16 * (1 + random.below(4)), 3];
        Case::random(&mut random, shape).check(Way::Winograd, 2e-6, |x| x);
    }
}

#[test]
fn the_half_ways_are_the_formula_of_rounded_numbers() {
    let rounded = |x| f32::from(bf16::from_f32(x));
    for unit in Unit::all() {
        let mut random = Random(3);
        for _ in 0..40 {
            let shape = [
                1 + random.below(70),
                1 + random.below(70),
                [1, 3][random.below(2)],
            ];
            Case::random(&mut random, shape).check(Way::Half(unit), 1e-6, rounded);
        }
    }
}

#[test]
fn sums_are_those_of_what_was_written() {
    let mut random = Random(4);
    for way in [Way::Direct, Way::Winograd] {
        let case = Case::random(&mut random, [32, 16, 3]);
        let (out, sums) = case.run(&Pool::new(2), way, Isa::best());
        let norm = GroupNorm {
            groups: 4,
            gamma: vec![1.0; 32],
            beta: vec![0.0; 32],
            epsilon: 0.0,
        };
        let mut normed = vec![0.0f32; out.cells().len()];
        norm.entry(&sums, None)
            .read(Isa::best(), out.cells(), 32, &mut normed, 32);
        for group in 0..4 {
            let own = || {
                normed
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| at % 32 / 8 == group)
                    .map(|(_, x)| f64::from(*x))
            };
            let count = own().count() as f64;
            let (mean, square) = (
                own().sum::<f64>() / count,
                own().map(|x| x * x).sum::<f64>() / count,
            );
            assert!(
                mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-5,
                "{mean} {square}"
            );
        }
    }
}

#[test]
fn attention_is_the_formula() {
    let mut random = Random(5);
    for _ in 0..10 {
        let (height, width, channels) = (
            1 + random.below(9),
            1 + random.below(9),
            4 * (1 + random.below(20)),
        );
        let pool = Pool::new(2);
        let conv = |random: &mut Random| {
            let weight: Vec<f32> = random
                .values(channels * channels)
                .iter()
                .map(|x| 2.0 * x / (channels as f32).sqrt())
                .collect();
            let bias = random.values(channels);
            (
                Conv::new(
                    &pool,
                    &weight,
                    &bias,
                    [channels, channels, 1],
                    Precision::F32,
                ),
                weight,
                bias,
            )
        };
        let [q, k, v, out] = [(); 4].map(|_| conv(&mut random));
        let norm = GroupNorm {
            groups: 4,
            gamma: random.values(channels),
            beta: random.values(channels),
            epsilon: 1e-6,
        };
        let mut grid = Grid::zeros(height, width, channels);
        let n = height * width;
        grid.cells_mut()
            .copy_from_slice(&random.values(n * channels));
        let mut sums = Sums::none(channels);
        sums.take_in(Isa::best(), grid.cells());
        let mut normed = vec![0.0f32; n * channels];
        norm.entry(&sums, None)
            .read(Isa::best(), grid.cells(), channels, &mut normed, channels);
        let product = |x: &[f64], (_, weight, bias): &(Conv, Vec<f32>, Vec<f32>)| -> Vec<f64> {
            let row = |cell: usize, to: usize| {
                (0..channels)
                    .map(|i| x[cell * channels + i] * f64::from(weight[to * channels + i]))
                    .sum::<f64>()
            };
            (0..n * channels)
                .map(|at| row(at / channels, at % channels) + f64::from(bias[at % channels]))
                .collect()
        };
        let normed: Vec<f64> = normed.iter().map(|x| f64::from(*x)).collect();
        let (qs, ks, vs) = (
            product(&normed, &q),
            product(&normed, &k),
            product(&normed, &v),
        );
        let mut mixed = vec![0.0; n * channels];
        for row in 0..n {
            let score = |other: usize| {
                (0..channels)
                    .map(|i| qs[row * channels + i] * ks[other * channels + i])
                    .sum::<f64>()
                    / (channels as f64).sqrt()
            };
            let weights: Vec<f64> = (0..n).map(|other| score(other).exp()).collect();
            let total: f64 = weights.iter().sum();
            for i in 0..channels {
                mixed[row * channels + i] = (0..n)
                    .map(|other| weights[other] * vs[other * channels + i])
                    .sum::<f64>()
                    / total;
            }
        }
        let exact = product(&mixed, &out);
        let attention = CellAttention {
            norm,
            qkv: [q.0, k.0, v.0],
            out: out.0,
        };
        let mut first: Option<Grid> = None;
        for threads in 1..4 {
            let mut found = grid.clone();
            attention.run(
                &Pool::new(threads),
                &mut Planes::default(),
                &mut found,
                &sums,
            );
            for ((found, exact), before) in found.cells().iter().zip(&exact).zip(grid.cells()) {
                let exact = exact + f64::from(*before);
                assert!((f64::from(*found) - exact).abs() < 2e-5, "{found} {exact}");
            }
            assert!(first.get_or_insert(found.clone()).cells() == found.cells());
        }
    }
}

#[test]
fn grids_come_back_from_planes_and_shuffles_agree() {
    let mut random = Random(6);
    let pool = Pool::new(2);
    let planes = random.values(12 * 5 * 7);
    let grid = Grid::read(&planes, 5, 7, 12);
    let mut back = vec![0.0; planes.len()];
    grid.write(&pool, 1, &mut back);
    assert_eq!(planes, back);
    let shuffled = grid.shuffled(&pool, &mut Planes::default(), 2);
    assert_eq!(
        [shuffled.height, shuffled.width, shuffled.channels],
        [10, 14, 3]
    );
    let (mut one, mut other) = (vec![0.0; planes.len()], vec![0.0; planes.len()]);
    grid.write(&pool, 2, &mut one);
    shuffled.write(&pool, 1, &mut other);
    assert_eq!(one, other);
    // Channel 1 of a cell is the second of the first row of its four cells.
    assert_eq!(one[1], planes[5 * 7]);
}

#[test]
fn memory_is_used_again_and_small_pieces_are_let_go() {
    let mut planes = Planes::default();
    let small = planes.take(2, 2, 8);
    planes.give(small);
    let large = planes.take(4, 4, 8);
    let start = large.cells().as_ptr();
    planes.give(large);
    assert_eq!(planes.take(2, 4, 8).cells().as_ptr(), start);
}
