//! Noise that a decoder adds: standard normals, drawn from a seed or given.

use burn::tensor::{Device, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::Seed;

/// Where a decoder's noise comes from.
pub trait NoiseSource {
    /// The next standard normals.
    ///
    /// # Shapes
    /// - returns: `[batch, 1, time]`
    fn next(&mut self, batch: usize, time: usize, device: &Device) -> Tensor<3>;
}

/// Noise from a seed: a row's noise does not depend on how many rows there are.
#[derive(Debug, Clone)]
pub struct SeededNoise {
    seed: Seed,
    drawn: u64,
}

impl SeededNoise {
    /// Noise of a seed.
    pub fn new(seed: Seed) -> Self {
        Self { seed, drawn: 0 }
    }
}

impl NoiseSource for SeededNoise {
    fn next(&mut self, batch: usize, time: usize, device: &Device) -> Tensor<3> {
        let layer = self.seed.named("layer").indexed(self.drawn);
        self.drawn += 1;
        let mut values = Vec::with_capacity(batch * time + 1);
        for row in 0..batch {
            let mut stream = layer.indexed(row as u64).stream();
            while values.len() < (row + 1) * time {
                values.extend(pair(stream.next_u64()));
            }
            values.truncate((row + 1) * time);
        }
        Tensor::from_data(TensorData::new::<f32, _>(values, [batch, 1, time]), device)
    }
}

/// Two standard normals from 64 random bits (Box and Muller 1958).
fn pair(bits: u64) -> [f32; 2] {
    let unit = |bits: u32| (f64::from(bits) + 1.0) / (f64::from(u32::MAX) + 2.0);
    let radius = (-2.0 * unit(bits as u32).ln()).sqrt();
    let (sine, cosine) = (std::f64::consts::TAU * unit((bits >> 32) as u32)).sin_cos();
    [(radius * cosine) as f32, (radius * sine) as f32]
}

/// Noise that was written down, in the order of use.
#[derive(Debug, Clone)]
pub struct GivenNoise {
    values: Vec<f32>,
    used: usize,
}

impl GivenNoise {
    /// Each use takes `batch * time` numbers, row by row.
    pub fn new(values: Vec<f32>) -> Self {
        Self { values, used: 0 }
    }
}

impl NoiseSource for GivenNoise {
    /// # Panics
    /// If too few numbers are left.
    fn next(&mut self, batch: usize, time: usize, device: &Device) -> Tensor<3> {
        let end = self.used + batch * time;
        assert!(
            end <= self.values.len(),
            "time axis: {end} numbers of noise are used, {} were given",
            self.values.len()
        );
        let values = self.values[self.used..end].to_vec();
        self.used = end;
        Tensor::from_data(TensorData::new::<f32, _>(values, [batch, 1, time]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{device, values};

    #[test]
    fn seeded_noise_is_normal_and_a_row_does_not_depend_on_the_batch() {
        let noise = |batch| {
            let mut source = SeededNoise::new(Seed::new(3));
            source.next(batch, 1000, &device());
            values(&source.next(batch, 1001, &device()))
        };
        let (one, two) = (noise(1), noise(2));
        assert_eq!(one, two[..1001]);
        let mean = two.iter().sum::<f32>() / 2002.0;
        let square = two.iter().map(|x| x * x).sum::<f32>() / 2002.0;
        assert!(
            mean.abs() < 0.1 && (square - 1.0).abs() < 0.15,
            "{mean} {square}"
        );
    }
}
