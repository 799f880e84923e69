//! How much the models inside the program lose in blocks of several sizes: a larger block has fewer scales and larger errors.
//!
//! `cargo test --release -p ravel-weights --test blocks -- --nocapture` prints the table of BENCHMARKS.md.

#![allow(clippy::print_stdout)] // The measured figures are what the run is for.

use std::path::Path;

use ravel_kernels::blocks::{BLOCK, to_4_bits, to_8_bits};
use ravel_weights::Checkpoint;

/// Matrices with fewer numbers are not quantized.
const SMALL: usize = 1 << 12;
const SIZES: [usize; 5] = [16, 32, 64, 128, 256];

/// The weights of linear layers of a file, each `[inputs, outputs]`.
fn matrices(file: &str) -> Vec<([usize; 2], Vec<f32>)> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models");
    let checkpoint = Checkpoint::open(&models.join(file)).unwrap();
    let names = checkpoint.names().filter(|name| name.ends_with(".weight"));
    let all = names.filter_map(|name| match checkpoint.shape(name) {
        Some(&[k, n]) if k * n >= SMALL => {
            let values = checkpoint.real(name).unwrap();
            Some(([k, n], values.try_into_vec::<f32>().unwrap()))
        }
        _ => None,
    });
    let all: Vec<_> = all.collect();
    assert!(all.len() > 10, "{file}");
    all
}

/// Squares of what is lost and of what there was, and bits.
#[derive(Default, Clone, Copy)]
struct Loss {
    lost: f64,
    whole: f64,
    bits: usize,
    numbers: usize,
}

impl Loss {
    /// The root of the mean squared error over that of the numbers.
    fn relative(self) -> f64 {
        (self.lost / self.whole).sqrt()
    }

    fn bits_per_number(self) -> f64 {
        self.bits as f64 / self.numbers as f64
    }
}

/// What a matrix loses in blocks of `N` along its inputs.
fn loss<const N: usize>([k, n]: [usize; 2], values: &[f32], bits: usize, sum: &mut Loss) {
    for column in 0..n {
        for start in (0..k).step_by(N) {
            let len = N.min(k - start);
            let mut numbers = [0.0; N];
            for (at, number) in numbers[..len].iter_mut().enumerate() {
                *number = values[(start + at) * n + column];
            }
            let (levels, scale) = match bits {
                8 => to_8_bits(&numbers),
                _ => to_4_bits(&numbers),
            };
            for (x, level) in numbers[..len].iter().zip(levels) {
                let back = f32::from(level) * scale.to_f32();
                sum.lost += f64::from(x - back).powi(2);
                sum.whole += f64::from(*x).powi(2);
            }
            sum.bits += 16 + bits * len;
            sum.numbers += len;
        }
    }
}

fn losses(file: &str, bits: usize) -> [Loss; 5] {
    let mut all = [Loss::default(); 5];
    for (shape, values) in matrices(file) {
        loss::<16>(shape, &values, bits, &mut all[0]);
        loss::<32>(shape, &values, bits, &mut all[1]);
        loss::<64>(shape, &values, bits, &mut all[2]);
        loss::<128>(shape, &values, bits, &mut all[3]);
        loss::<256>(shape, &values, bits, &mut all[4]);
    }
    all
}

#[test]
fn a_larger_block_costs_fewer_bits_and_loses_more() {
    assert!(SIZES.contains(&BLOCK));
    println!("file, bits: bits a number and error in percent for blocks of {SIZES:?}");
    for file in [
        "emoji-ar/generator.safetensors",
        "emoji-var/generator.safetensors",
        "novels/model.safetensors",
    ] {
        for bits in [8, 4] {
            let all = losses(file, bits);
            let told = all.map(|loss| {
                let error = 100.0 * loss.relative();
                format!("{:.3} {error:.3}", loss.bits_per_number())
            });
            println!("{file}, {bits}: {}", told.join(" | "));
            for pair in all.windows(2) {
                assert!(pair[0].bits_per_number() > pair[1].bits_per_number());
                assert!(
                    pair[0].relative() < pair[1].relative(),
                    "{file}, {bits} bits"
                );
            }
            // A level is a 254th, or a 15th, of a block's range, and an error a third of half a level on average.
            let most = [(8, 0.012), (4, 0.2)];
            let most = most.iter().find(|(of, _)| *of == bits).unwrap().1;
            assert!(all[1].relative() < most, "{file}: {}", all[1].relative());
        }
    }
}
