//! A head of continuous latents: a small network takes noise away from a vector, given a hidden state.
//!
//! Li et al. 2024 (MAR), section 3.2. Shapes: `n` places, `c` the hidden states' width, `d` the latents'.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ravel_core::{Error, Noise, Place, Result};
use ravel_nn::{Denoiser, DenoiserConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diffusion::{Diffusion, NoiseSchedule, kept_steps};

/// What fixes the head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DiffusionHeadConfig {
    /// The network.
    pub denoiser: DenoiserConfig,
    /// How noise grows.
    #[serde(default)]
    pub schedule: NoiseSchedule,
    /// Steps of the process that is learned.
    #[serde(default = "thousand")]
    pub steps: usize,
    /// Which of them are taken when sampling: see [`kept_steps`].
    #[serde(default = "hundred")]
    pub sampled: String,
}

fn thousand() -> usize {
    1000
}

fn hundred() -> String {
    "100".into()
}

impl DiffusionHeadConfig {
    /// # Errors
    /// [`Error::Config`] names the field that no head can be built from.
    pub fn validate(&self) -> Result<()> {
        let DenoiserConfig {
            target_width,
            condition_width,
            width,
            layers,
        } = self.denoiser;
        for (field, found) in [
            ("target-width", target_width),
            ("condition-width", condition_width),
            ("width", width),
            ("layers", layers),
            ("steps", self.steps),
        ] {
            if found == 0 || found > 1 << 16 {
                return Err(Error::Config {
                    field: field.into(),
                    found: found.to_string(),
                    expected: "a number of 1 to 65536".into(),
                });
            }
        }
        kept_steps(self.steps, &self.sampled).map(|_| ())
    }

    /// A fresh head.
    ///
    /// # Panics
    /// If [`DiffusionHeadConfig::validate`] would report an error.
    pub fn init(&self, device: &Device) -> DiffusionHead {
        let learned = Diffusion::new(self.schedule, self.steps);
        let kept = kept_steps(self.steps, &self.sampled).expect("a configuration that was checked");
        DiffusionHead {
            denoiser: self.denoiser.init(device),
            sampled: learned.respaced(&kept),
            learned,
            width: self.denoiser.target_width,
        }
    }
}

/// The network with its processes.
#[derive(Module, Debug)]
pub struct DiffusionHead {
    /// Tells the noise.
    pub denoiser: Denoiser,
    #[module(skip)]
    learned: Diffusion,
    #[module(skip)]
    sampled: Diffusion,
    width: usize,
}

impl DiffusionHead {
    /// The process that is learned.
    pub fn learned(&self) -> &Diffusion {
        &self.learned
    }

    /// The process that samples: fewer steps.
    pub fn sampled(&self) -> &Diffusion {
        &self.sampled
    }

    /// A latent for each place.
    ///
    /// With guidance `t` the noise is `c + t (c - u)`; its variance is the conditioned rows' own.
    ///
    /// # Shapes
    /// - `condition`: `[n, c]`; with guidance `[2 n, c]`, the unconditioned rows second
    /// - returns: `[n, d]`
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a latent is not a number.
    ///
    /// # Panics
    /// If the rows do not fit the places.
    pub fn sample(
        &self,
        condition: Tensor<2>,
        places: &[Place],
        guidance: f64,
        temperature: f64,
        noise: &mut dyn Noise,
    ) -> Result<Tensor<2>> {
        let (n, device) = (places.len(), condition.device());
        let guided = guidance != 0.0;
        let rows = if guided { 2 * n } else { n };
        assert_eq!(
            condition.dims()[0],
            rows,
            "row axis: not one hidden state for each place"
        );
        let mut draw = |step| {
            let numbers = noise.draw(places, step, self.width);
            Tensor::<2>::from_data(TensorData::new(numbers, [n, self.width]), &device)
        };
        let mut x = draw(0);
        for step in (0..self.sampled.len()).rev() {
            let time = [self.sampled.timesteps[step]];
            let seen = match guided {
                true => Tensor::cat(vec![x.clone(), x.clone()], 0),
                false => x.clone(),
            };
            let answer = self.denoiser.forward(seen, &time, condition.clone());
            let answer = match guided {
                true => self.guided(answer, guidance),
                false => answer,
            };
            let fresh = draw(self.sampled.len() - step);
            x = self.sampled.earlier(x, answer, step, fresh, temperature);
        }
        let sum: f32 = x.clone().sum().into_scalar();
        match sum.is_finite() {
            true => Ok(x),
            false => Err(Error::NotFinite {
                place: "the diffusion head".into(),
                what: "a latent that is no number".into(),
            }),
        }
    }

    fn guided(&self, answer: Tensor<2>, guidance: f64) -> Tensor<2> {
        let [rows, width] = answer.dims();
        let (n, d) = (rows / 2, self.width);
        let told = |start| answer.clone().slice([start..start + n, 0..d]);
        let (with, without) = (told(0), told(n));
        let noise = without.clone() + (with - without) * (1.0 + guidance);
        Tensor::cat(vec![noise, answer.slice([0..n, d..width])], 1)
    }
}
