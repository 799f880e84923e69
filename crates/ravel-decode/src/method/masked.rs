//! Filling in latents in random order, few positions at first and more in every round.
//!
//! Li et al. 2024 (MAR), section 3.4, with the cosine schedule of Chang et al. 2022 (MaskGIT), section 3.2.

use std::ops::ControlFlow;

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::{Error, Filling, Masked, Noise, Place, Result, Seed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How latents are filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MaskedFilling {
    /// Rounds.
    pub rounds: usize,
    /// How far to go beyond the condition at the end; zero for not at all.
    pub guidance: f64,
    /// Whether guidance grows with the positions that are known, rather than being the same throughout.
    pub ramp: bool,
    /// Factor on the noise.
    pub temperature: f64,
}

impl Default for MaskedFilling {
    fn default() -> Self {
        Self {
            rounds: 64,
            guidance: 0.0,
            ramp: true,
            temperature: 1.0,
        }
    }
}

/// Called after each round with its number and all latents so far; may stop the filling.
pub type WatchRounds<'a> = dyn FnMut(usize, &Tensor<3>) -> ControlFlow<()> + 'a;

impl MaskedFilling {
    /// # Errors
    /// [`Error::Config`] names the field that cannot be.
    pub fn validate(&self) -> Result<()> {
        let wrong = |field: &str, found: String, expected: &str| {
            Err(Error::Config {
                field: field.into(),
                found,
                expected: expected.into(),
            })
        };
        if self.rounds == 0 {
            return wrong("rounds", "0".into(), "1 at least");
        }
        for (field, number) in [
            ("guidance", self.guidance),
            ("temperature", self.temperature),
        ] {
            if !number.is_finite() || number < 0.0 {
                return wrong(field, number.to_string(), "a number of at least 0");
            }
        }
        Ok(())
    }

    /// Latents of all positions.
    ///
    /// # Shapes
    /// - `orders`: for each row the order in which positions are filled in, the last one first
    /// - returns: `[batch, positions, width]`
    ///
    /// # Errors
    /// [`Error::Config`] if a setting cannot be or an order is no order of all positions; what the model reports.
    pub fn fill(
        &self,
        model: &dyn Masked,
        orders: &[Vec<usize>],
        noise: &mut dyn Noise,
        watch: &mut WatchRounds<'_>,
    ) -> Result<Tensor<3>> {
        self.validate()?;
        let positions = model.positions();
        check_orders(orders, positions)?;
        let mut latents = model.empty();
        let mut masked = positions;
        for round in 0..self.rounds {
            let next = self.masked_after(round, masked, positions);
            let last = round + 1 == self.rounds;
            let left = if last { 0 } else { next };
            if left < masked {
                let known = sorted(orders, masked..positions);
                let chosen = sorted(orders, left..masked);
                let filling = Filling {
                    latents: latents.clone(),
                    known: &known,
                    chosen: &chosen,
                    guidance: self.guidance_at(next, positions),
                    temperature: self.temperature,
                };
                let found = model.fill(filling, noise)?;
                latents = placed(latents, &chosen, found);
            }
            masked = left;
            if watch(round, &latents).is_break() {
                break;
            }
        }
        Ok(latents)
    }

    /// Positions that stay masked after a round: a cosine of the rounds that are done, one less than before at least, never none.
    fn masked_after(&self, round: usize, masked: usize, positions: usize) -> usize {
        let done = (round + 1) as f64 / self.rounds as f64;
        let share = (std::f64::consts::FRAC_PI_2 * done).cos();
        let wanted = (positions as f64 * share).floor().max(0.0) as usize;
        wanted.min(masked.saturating_sub(1)).max(1)
    }

    fn guidance_at(&self, masked: usize, positions: usize) -> f64 {
        match self.ramp {
            true => self.guidance * (positions - masked) as f64 / positions as f64,
            false => self.guidance,
        }
    }
}

/// A random order of `positions` positions for each of `batch` rows, which depends on seed and row alone.
pub fn random_orders(seed: &Seed, batch: usize, positions: usize) -> Vec<Vec<usize>> {
    let order = |row: usize| {
        let mut stream = seed.named("order").indexed(row as u64).stream();
        let mut order: Vec<usize> = (0..positions).collect();
        for at in (1..positions).rev() {
            order.swap(at, (stream.next_u64() % (at as u64 + 1)) as usize);
        }
        order
    };
    (0..batch).map(order).collect()
}

/// Normal numbers that depend on seed, row, position and step alone, so that batches do not change them.
#[derive(Debug, Clone, Copy)]
pub struct SeededNoise(pub Seed);

impl Noise for SeededNoise {
    fn draw(&mut self, places: &[Place], step: usize, width: usize) -> Vec<f32> {
        let seed = self.0.named("noise");
        let numbers = |place: &Place| {
            let seed = seed
                .indexed(place.row as u64)
                .indexed(place.position as u64);
            let mut stream = seed.indexed(step as u64).stream();
            // 53 bits, never zero.
            let mut uniform =
                move || ((stream.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            (0..width).map(move |_| {
                let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), uniform());
                (radius * (std::f64::consts::TAU * angle).cos()) as f32
            })
        };
        places.iter().flat_map(numbers).collect()
    }
}

/// A part of each row's order, ascending.
fn sorted(orders: &[Vec<usize>], part: std::ops::Range<usize>) -> Vec<Vec<usize>> {
    let row = |order: &Vec<usize>| {
        let mut row = order[part.clone()].to_vec();
        row.sort_unstable();
        row
    };
    orders.iter().map(row).collect()
}

fn check_orders(orders: &[Vec<usize>], positions: usize) -> Result<()> {
    let whole: Vec<Vec<usize>> = vec![(0..positions).collect()];
    let wrong = orders.iter().position(|order| {
        order.len() != positions || sorted(std::slice::from_ref(order), 0..positions) != whole
    });
    match wrong {
        None => Ok(()),
        Some(row) => Err(Error::Config {
            field: "orders".into(),
            found: format!("row {row} of {} positions", orders[row].len()),
            expected: format!("each of {positions} positions once"),
        }),
    }
}

/// The latents with those of the chosen positions in their places.
fn placed(latents: Tensor<3>, chosen: &[Vec<usize>], found: Tensor<3>) -> Tensor<3> {
    let [batch, positions, width] = latents.dims();
    let count = found.dims()[1];
    let flat = chosen.iter().enumerate();
    let flat = flat.flat_map(|(row, chosen)| {
        chosen
            .iter()
            .map(move |position| (row * positions + position) as i64)
    });
    let flat: Vec<i64> = flat.collect();
    let places: Tensor<1, Int> =
        Tensor::from_data(TensorData::new(flat, [batch * count]), &latents.device());
    // What was there is zero: adding is putting.
    latents
        .reshape([batch * positions, width])
        .select_assign(
            0,
            places,
            found.reshape([batch * count, width]),
            IndexingUpdateOp::Add,
        )
        .reshape([batch, positions, width])
}
