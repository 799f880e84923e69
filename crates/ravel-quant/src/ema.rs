//! A codebook that follows the encoder: each row is the moving mean of the latents that chose it.
//!
//! van den Oord et al. 2017, appendix A.1. Symbols: `counts` is N, `sums` is m, `decay` is γ. A row that nobody chooses any
//! more is drawn again from the latents of the batch (Dhariwal et al. 2020, section 3.1: random restart).

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::Seed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::VectorQuantizer;

/// How a codebook follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EmaConfig {
    /// Share of the old means that each step keeps.
    pub decay: f64,
    /// Rows whose moving count of choices per step falls below this are drawn again. Zero keeps all.
    pub dead_below: f64,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self {
            decay: 0.98,
            dead_below: 0.02,
        }
    }
}

/// The moving counts and sums of one codebook. It lives beside the module: an exported model does not need it.
#[derive(Debug, Clone, PartialEq)]
pub struct EmaState {
    width: usize,
    counts: Vec<f32>,
    sums: Vec<f32>,
}

/// Latents with the ids that they chose, `[n, d]` and `[n]`.
pub type Group = (Tensor<2>, Tensor<1, Int>);

impl EmaState {
    /// A codebook drawn from the encoder's outputs, every row counted once.
    ///
    /// # Shapes
    /// - `latents`: `[n, d]`, `n` at least 1
    ///
    /// # Panics
    /// If there is no latent or `d` is not the codebook's width.
    pub fn start(
        quantizer: VectorQuantizer,
        latents: Tensor<2>,
        seed: Seed,
    ) -> (Self, VectorQuantizer) {
        let [size, width] = quantizer.codebook.val().dims();
        let [count, latent_width] = latents.dims();
        assert_eq!(
            width, latent_width,
            "width axis: latents do not fit the codebook"
        );
        assert!(count > 0, "position axis: a codebook starts from latents");
        let latents = numbers(latents);
        let mut random = seed.stream();
        let sums: Vec<f32> = (0..size)
            .flat_map(|_| near(&latents, width, &mut random))
            .collect();
        let state = Self {
            width,
            counts: vec![1.0; size],
            sums,
        };
        let quantizer = state.lay_into(quantizer);
        (state, quantizer)
    }

    /// One step: means move towards the latents that chose them, dead rows are drawn again.
    ///
    /// All groups count as one batch. `redraw` switches the drawing of dead rows.
    ///
    /// # Panics
    /// If a group's width is not the codebook's.
    pub fn update(
        &mut self,
        config: &EmaConfig,
        quantizer: VectorQuantizer,
        groups: Vec<Group>,
        redraw: bool,
        seed: Seed,
    ) -> VectorQuantizer {
        let keep = config.decay as f32;
        for number in self.counts.iter_mut().chain(&mut self.sums) {
            *number *= keep;
        }
        let mut pool = Vec::new();
        for (latents, ids) in groups {
            let latents = numbers(latents);
            let ids: Vec<i64> = ids
                .into_data()
                .convert::<i64>()
                .try_into_vec()
                .expect("ids were converted to i64");
            assert_eq!(
                latents.len(),
                ids.len() * self.width,
                "width axis: latents do not fit"
            );
            for (row, id) in latents.chunks_exact(self.width).zip(ids) {
                let id = id as usize;
                self.counts[id] += 1.0 - keep;
                let sum = &mut self.sums[id * self.width..(id + 1) * self.width];
                for (sum, value) in sum.iter_mut().zip(row) {
                    *sum += (1.0 - keep) * value;
                }
            }
            pool.extend(latents);
        }
        if redraw && !pool.is_empty() {
            let mut random = seed.stream();
            for id in 0..self.counts.len() {
                if f64::from(self.counts[id]) < config.dead_below {
                    self.counts[id] = 1.0;
                    let row = near(&pool, self.width, &mut random);
                    self.sums[id * self.width..(id + 1) * self.width].copy_from_slice(&row);
                }
            }
        }
        self.lay_into(quantizer)
    }

    /// The state as named tensors.
    pub fn tensors(&self) -> Vec<(String, TensorData)> {
        let size = self.counts.len();
        vec![
            (
                "counts".into(),
                TensorData::new::<f32, _>(self.counts.clone(), [size]),
            ),
            (
                "sums".into(),
                TensorData::new::<f32, _>(self.sums.clone(), [size, self.width]),
            ),
        ]
    }

    /// The state that [`EmaState::tensors`] wrote, or `None` if a part is missing or they do not fit each other.
    pub fn from_tensors(tensors: Vec<(String, TensorData)>) -> Option<Self> {
        let mut found = tensors
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>();
        let counts: Vec<f32> = found.remove("counts")?.try_into_vec().ok()?;
        let sums: Vec<f32> = found.remove("sums")?.try_into_vec().ok()?;
        let width = sums.len().checked_div(counts.len())?;
        (width * counts.len() == sums.len()).then_some(Self {
            width,
            counts,
            sums,
        })
    }

    fn lay_into(&self, mut quantizer: VectorQuantizer) -> VectorQuantizer {
        let rows: Vec<f32> = self
            .sums
            .chunks_exact(self.width)
            .zip(&self.counts)
            .flat_map(|(sum, &count)| sum.iter().map(move |value| value / count.max(1e-5)))
            .collect();
        let data = TensorData::new::<f32, _>(rows, [self.counts.len(), self.width]);
        quantizer.codebook = quantizer.codebook.map(|old| {
            let device: Device = old.device();
            if old.is_autodiff() {
                Tensor::from_inner(Tensor::from_data(data, &device.inner()))
            } else {
                Tensor::from_data(data, &device)
            }
        });
        quantizer
    }
}

/// One of the latents, moved a little so that two draws of the same one differ.
fn near(latents: &[f32], width: usize, random: &mut impl Rng) -> Vec<f32> {
    let count = latents.len() / width;
    let at = (random.next_u64() % count as u64) as usize;
    latents[at * width..(at + 1) * width]
        .iter()
        .map(|value| {
            let share = random.next_u32() as f32 / u32::MAX as f32;
            value + (share - 0.5) * 0.02 * value.abs().max(0.01)
        })
        .collect()
}

fn numbers(tensor: Tensor<2>) -> Vec<f32> {
    crate::vector::plain(tensor)
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("numbers were converted to f32")
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{device, formula, ids, values};

    use super::*;
    use crate::VectorConfig;

    fn quantizer() -> VectorQuantizer {
        let config = VectorConfig {
            codebook_size: 4,
            width: 2,
            l2_normalize: false,
        };
        config.init(&device())
    }

    #[test]
    fn rows_move_to_the_mean_of_what_chose_them() {
        let device = device();
        let latents = Tensor::from_data(
            [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]],
            &device,
        );
        let (mut state, mut quantizer) =
            EmaState::start(quantizer(), latents.clone(), Seed::new(3));
        let config = EmaConfig {
            decay: 0.5,
            dead_below: 0.01,
        };
        for step in 0..60 {
            let chosen = quantizer
                .ids(latents.clone().unsqueeze_dim(0))
                .squeeze_dim(0);
            let group = vec![(latents.clone(), chosen)];
            quantizer = state.update(&config, quantizer, group, true, Seed::new(step));
        }
        let mut found = ids(&quantizer.ids(latents.clone().unsqueeze_dim(0)));
        let back = quantizer.vectors(quantizer.ids(latents.clone().unsqueeze_dim(0)));
        ravel_testkit::assert_close("means", &back.squeeze_dim(0), &latents, 1e-3);
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3], "every dead row was drawn again");
    }

    #[test]
    fn a_saved_state_continues_bit_for_bit() {
        let device = device();
        let latents: Tensor<2> = formula([32, 2], 1, 1.0, &device);
        let (mut state, quantizer) = EmaState::start(quantizer(), latents.clone(), Seed::new(1));
        let mut again = EmaState::from_tensors(state.tensors()).unwrap();
        let chosen = quantizer
            .ids(latents.clone().unsqueeze_dim(0))
            .squeeze_dim(0);
        let step = |state: &mut EmaState| {
            let group = vec![(latents.clone(), chosen.clone())];
            state.update(
                &EmaConfig::default(),
                quantizer.clone(),
                group,
                true,
                Seed::new(5),
            )
        };
        let straight = step(&mut state);
        let resumed = step(&mut again);
        assert_eq!(
            values(&straight.codebook.val()),
            values(&resumed.codebook.val())
        );
    }
}
