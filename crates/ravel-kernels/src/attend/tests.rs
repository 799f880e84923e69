use super::*;
use crate::random::Random;

struct Case {
    shape: Shape,
    qkv: Vec<f32>,
    gains: [Vec<f32>; 2],
    angles: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    mask: Option<Vec<f32>>,
    mask_heads: usize,
    mask_positions: usize,
    norm: usize,
    interleaved: Option<bool>,
}

impl Case {
    fn random(random: &mut Random) -> Self {
        let n_kv_heads = random.within(1..4);
        let n = random.within(1..6);
        let past = random.within(0..90);
        let shape = Shape {
            batch: random.within(1..4),
            n,
            n_heads: n_kv_heads * random.within(1..4),
            n_kv_heads,
            width: 2 * random.within(1..70),
            capacity: past + n + random.within(0..5),
            past,
            first: random.within(0..past + 1),
        };
        let heads = shape.n_heads + 2 * n_kv_heads;
        let room = shape.batch * n_kv_heads * shape.capacity * shape.width;
        let mask_heads = [1, shape.n_heads][random.within(0..2)];
        let mask_positions = [1, n][random.within(0..2)];
        let masked = shape.batch * mask_heads * mask_positions * shape.seen();
        let hides = random.within(0..2) == 0;
        Self {
            qkv: random.normals(shape.batch * n * heads * shape.width),
            gains: [random.normals(shape.width), random.normals(shape.width)],
            angles: random.normals(n * shape.width),
            keys: random.normals(room),
            values: random.normals(room),
            mask: hides.then(|| {
                // The first position is never hidden: of none in sight nothing is left in 32 bits.
                let mut add =
                    |at: usize| match !at.is_multiple_of(shape.seen()) && random.unit() < 0.3 {
                        true => -1e9,
                        false => random.normal(),
                    };
                (0..masked).map(&mut add).collect()
            }),
            mask_heads,
            mask_positions,
            norm: random.within(0..3),
            interleaved: [None, Some(false), Some(true)][random.within(0..3)],
            shape,
        }
    }

    /// Keys, values and out of the kernel.
    fn run(&self, pool: &Pool, isa: Isa) -> [Vec<f32>; 3] {
        let (mut keys, mut values) = (self.keys.clone(), self.values.clone());
        let Shape {
            batch,
            n,
            n_heads,
            width,
            ..
        } = self.shape;
        let mut out = vec![f32::NAN; batch * n * n_heads * width];
        let cos: Vec<f32> = self.angles.iter().map(|x| x.cos()).collect();
        let sin: Vec<f32> = self.angles.iter().map(|x| x.sin()).collect();
        let inputs = Inputs {
            qkv: &self.qkv,
            norm: match self.norm {
                0 => HeadNorm::None,
                1 => HeadNorm::Rms {
                    q: &self.gains[0],
                    k: &self.gains[1],
                    eps: 1e-5,
                },
                _ => HeadNorm::Unit { eps: 1e-12 },
            },
            turn: self.interleaved.map(|interleaved| Turn {
                cos: &cos,
                sin: &sin,
                interleaved,
            }),
            scales: &[0.3],
            mask: self.mask.as_ref().map(|values| Mask {
                values,
                batch,
                heads: self.mask_heads,
                positions: self.mask_positions,
            }),
        };
        attend(
            pool,
            isa,
            &self.shape,
            &inputs,
            &mut keys,
            &mut values,
            &mut out,
        );
        [keys, values, out]
    }

    /// The same, straight from the formulas and in 64 bits.
    fn plain(&self) -> [Vec<f64>; 3] {
        let Shape {
            batch,
            n,
            n_heads,
            n_kv_heads,
            width,
            capacity,
            past,
            first,
        } = self.shape;
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let (mut keys, mut values) = (wide(&self.keys), wide(&self.values));
        let mut out = Vec::new();
        let head = |row: usize, at: usize, head: usize, gain: Option<&[f32]>| {
            let start = ((row * n + at) * (n_heads + 2 * n_kv_heads) + head) * width;
            let mut x = wide(&self.qkv[start..start + width]);
            let Some(gain) = gain else { return x };
            let square: f64 = x.iter().map(|x| x * x).sum();
            match self.norm {
                0 => {}
                1 => x.iter_mut().zip(gain).for_each(|(x, gain)| {
                    *x *= f64::from(*gain) / (square / width as f64 + 1e-5).sqrt();
                }),
                _ => x.iter_mut().for_each(|x| *x /= square.sqrt()),
            }
            if let Some(interleaved) = self.interleaved {
                let partner = |i: usize| match interleaved {
                    true => i ^ 1,
                    false => (i + width / 2) % width,
                };
                let angle = |i: usize| f64::from(self.angles[at * width + i]);
                x = (0..width)
                    .map(|i| x[i] * angle(i).cos() + x[partner(i)] * angle(i).sin())
                    .collect();
            }
            x
        };
        for row in 0..batch {
            for kv in 0..n_kv_heads {
                for at in 0..n {
                    let place = ((row * n_kv_heads + kv) * capacity + past + at) * width;
                    let k = head(row, at, n_heads + kv, Some(&self.gains[1]));
                    keys[place..place + width].copy_from_slice(&k);
                    let v = head(row, at, n_heads + n_kv_heads + kv, None);
                    values[place..place + width].copy_from_slice(&v);
                }
            }
            for at in 0..n {
                for h in 0..n_heads {
                    let q = head(row, at, h, Some(&self.gains[0]));
                    let kv = row * n_kv_heads + h / (n_heads / n_kv_heads);
                    let of = |all: &[f64], position: usize| {
                        let start = (kv * capacity + position) * width;
                        all[start..start + width].to_vec()
                    };
                    let seen = self.shape.seen();
                    let scores: Vec<f64> = (0..seen)
                        .map(|position| {
                            let score: f64 = of(&keys, first + position)
                                .iter()
                                .zip(&q)
                                .map(|(k, q)| k * q * f64::from(0.3f32))
                                .sum();
                            let mask = self.mask.as_ref().map_or(0.0, |mask| {
                                let head = h % self.mask_heads;
                                f64::from(
                                    mask[((row * self.mask_heads + head) * self.mask_positions
                                        + at % self.mask_positions)
                                        * seen
                                        + position],
                                )
                            });
                            score + mask
                        })
                        .collect();
                    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
                    let sum: f64 = weights.iter().sum();
                    let mut mix = vec![0.0; width];
                    for (position, weight) in weights.iter().enumerate() {
                        for (mix, v) in mix.iter_mut().zip(of(&values, first + position)) {
                            *mix += weight / sum * v;
                        }
                    }
                    out.extend(mix);
                }
            }
        }
        [keys, values, out]
    }
}

#[test]
fn attention_is_that_of_the_plain_path_on_all_instructions_and_threads() {
    let mut random = Random::new(8);
    let pools: Vec<Pool> = (1..4).map(Pool::new).collect();
    for _ in 0..60 {
        let case = Case::random(&mut random);
        let expected = case.plain();
        let first = case.run(&pools[0], Isa::scalar());
        for (found, expected) in first.iter().zip(&expected) {
            for (found, expected) in found.iter().zip(expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(
                    error < 2e-4 * expected.abs().max(1.0),
                    "{:?}: {found} {expected}",
                    case.shape
                );
            }
        }
        for pool in &pools {
            for isa in Isa::all() {
                assert!(case.run(pool, isa) == first, "{isa:?} {:?}", case.shape);
            }
        }
    }
}
