//! A Gaussian diffusion: how noise is added to a vector step by step, and taken away again.
//!
//! Ho et al. 2020; Nichol and Dhariwal 2021 (cosine schedule, section 3.2; learned variance, section 3.1; fewer steps, section 4).
//! Symbols: `betas` is β_t, `alphas_cumprod` is ᾱ_t. Shapes: `n` vectors, `d` their width.

use std::collections::BTreeSet;

use burn::tensor::{Bool, Device, Tensor, TensorData};
use ravel_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most noise that one step adds.
const MOST_BETA: f64 = 0.999;
/// Half the distance between two of 256 levels from -1 to 1.
const HALF_LEVEL: f64 = 1.0 / 255.0;
const LEAST_PROBABILITY: f64 = 1e-12;

/// How noise grows with time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseSchedule {
    /// What is left of the vector falls as a squared cosine.
    #[default]
    Cosine,
    /// Each step adds evenly more.
    Linear,
}

/// The numbers of every step, from the least noise to the most.
#[derive(Debug, Clone, PartialEq)]
pub struct Diffusion {
    /// Variance that a step adds.
    pub betas: Vec<f64>,
    /// The step of the whole process that each step is.
    pub timesteps: Vec<usize>,
    /// Share of the vector's variance that is left after a step.
    pub alphas_cumprod: Vec<f64>,
}

/// What a network's answer costs at each vector, `[n]` each.
#[derive(Debug, Clone)]
pub struct DiffusionLosses {
    /// The variational bound, in bits: teaches the variance only.
    pub bound: Tensor<1>,
    /// Mean squared error of the noise.
    pub squared: Tensor<1>,
}

impl DiffusionLosses {
    /// Both together, `[n]`.
    pub fn sum(&self) -> Tensor<1> {
        self.squared.clone() + self.bound.clone()
    }
}

impl Diffusion {
    /// A whole process.
    ///
    /// # Panics
    /// If there is no step.
    pub fn new(schedule: NoiseSchedule, steps: usize) -> Self {
        let whole = steps as f64;
        let left = |time: f64| {
            let angle = (time + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2;
            angle.cos().powi(2)
        };
        let beta = |at: usize| match schedule {
            NoiseSchedule::Cosine => {
                let (now, next) = (at as f64 / whole, (at + 1) as f64 / whole);
                (1.0 - left(next) / left(now)).min(MOST_BETA)
            }
            NoiseSchedule::Linear => {
                let (first, last) = (0.1 / whole, 20.0 / whole);
                first + (last - first) * at as f64 / (whole - 1.0).max(1.0)
            }
        };
        Self::from_betas((0..steps).map(beta).collect(), (0..steps).collect())
    }

    fn from_betas(betas: Vec<f64>, timesteps: Vec<usize>) -> Self {
        assert!(!betas.is_empty(), "step axis: there is no step");
        let alphas_cumprod = betas.iter().scan(1.0, |left, beta| {
            *left *= 1.0 - beta;
            Some(*left)
        });
        Self {
            alphas_cumprod: alphas_cumprod.collect(),
            betas,
            timesteps,
        }
    }

    /// The process with the steps in `kept` only: each adds what those left out added too.
    ///
    /// # Panics
    /// If no step is kept.
    pub fn respaced(&self, kept: &BTreeSet<usize>) -> Self {
        let mut last = 1.0;
        let mut betas = Vec::new();
        let mut timesteps = Vec::new();
        for (at, left) in self.alphas_cumprod.iter().enumerate() {
            if kept.contains(&at) {
                betas.push(1.0 - left / last);
                timesteps.push(self.timesteps[at]);
                last = *left;
            }
        }
        Self::from_betas(betas, timesteps)
    }

    /// Steps.
    pub fn len(&self) -> usize {
        self.betas.len()
    }

    /// Whether there is no step; there always is one.
    pub fn is_empty(&self) -> bool {
        self.betas.is_empty()
    }

    /// Vectors with the noise of their steps.
    ///
    /// # Shapes
    /// - `clean`, `noise`: `[n, d]`
    /// - `steps`: one for each vector
    /// - returns: `[n, d]`
    pub fn noised(&self, clean: Tensor<2>, steps: &[usize], noise: Tensor<2>) -> Tensor<2> {
        let device = clean.device();
        let at = |number: fn(f64) -> f64| {
            self.column(steps, |step| number(self.alphas_cumprod[step]), &device)
        };
        clean * at(f64::sqrt) + noise * at(|left| (1.0 - left).sqrt())
    }

    /// The vectors one step earlier.
    ///
    /// # Shapes
    /// - `x`: `[n, d]` at `step`
    /// - `answer`: `[n, 2 d]`, as a denoiser gives it
    /// - `noise`: `[n, d]`, standard normal
    /// - returns: `[n, d]`
    pub fn earlier(
        &self,
        x: Tensor<2>,
        answer: Tensor<2>,
        step: usize,
        noise: Tensor<2>,
        temperature: f64,
    ) -> Tensor<2> {
        let believed = self.believed(x, answer, &[step]);
        if step == 0 {
            return believed.mean;
        }
        believed.mean + (believed.log_variance * 0.5).exp() * noise * temperature
    }

    /// What a denoiser's answer costs. The bound's gradient reaches the variance only.
    ///
    /// # Shapes
    /// - `answer`: `[n, 2 d]`, to `noised`
    /// - `clean`, `noised`, `noise`: `[n, d]`
    /// - `steps`: one for each vector
    pub fn losses(
        &self,
        answer: Tensor<2>,
        clean: Tensor<2>,
        noised: Tensor<2>,
        steps: &[usize],
        noise: Tensor<2>,
    ) -> DiffusionLosses {
        let width = clean.dims()[1];
        let [told, variance] = halves(answer, width);
        let squared = (noise - told.clone()).square().mean_dim(1).squeeze_dim(1);
        let frozen = Tensor::cat(vec![told.detach(), variance], 1);
        let believed = self.believed(noised.clone(), frozen, steps);
        let known = self.posterior(clean.clone(), noised, steps);
        let apart = divergence(known, believed.clone());
        let surprise = surprise(clean, believed);
        let first: Vec<bool> = steps.iter().map(|step| *step == 0).collect();
        let first: Tensor<2, Bool> =
            Tensor::from_data(TensorData::new(first, [steps.len(), 1]), &apart.device());
        let bound = apart.mean_dim(1).mask_where(first, surprise.mean_dim(1));
        DiffusionLosses {
            bound: bound.squeeze_dim::<1>(1) / std::f64::consts::LN_2,
            squared,
        }
    }

    /// What is known of one step earlier when the clean vector is.
    fn posterior(&self, clean: Tensor<2>, x: Tensor<2>, steps: &[usize]) -> Gaussian {
        let device = x.device();
        let clean_share = |step: usize| {
            self.betas[step] * self.left_before(step).sqrt() / (1.0 - self.alphas_cumprod[step])
        };
        let own_share = |step: usize| {
            (1.0 - self.left_before(step)) * (1.0 - self.betas[step]).sqrt()
                / (1.0 - self.alphas_cumprod[step])
        };
        let mean = clean * self.column(steps, clean_share, &device)
            + x * self.column(steps, own_share, &device);
        Gaussian {
            mean,
            log_variance: self.column(steps, |step| self.least_log_variance(step), &device),
        }
    }

    /// What a denoiser's answer says of one step earlier.
    fn believed(&self, x: Tensor<2>, answer: Tensor<2>, steps: &[usize]) -> Gaussian {
        let (device, width) = (x.device(), x.dims()[1]);
        let column = |number: &dyn Fn(usize) -> f64| self.column(steps, number, &device);
        let left = |step: usize| self.alphas_cumprod[step];
        let [told, variance] = halves(answer, width);
        let clean = x.clone() * column(&|step| (1.0 / left(step)).sqrt())
            - told * column(&|step| (1.0 / left(step) - 1.0).sqrt());
        let share = (variance + 1.0) * 0.5;
        let most = column(&|step| self.betas[step].ln());
        let least = column(&|step| self.least_log_variance(step));
        Gaussian {
            mean: self.posterior(clean, x, steps).mean,
            log_variance: share.clone() * most + (-share + 1.0) * least,
        }
    }

    fn left_before(&self, step: usize) -> f64 {
        match step {
            0 => 1.0,
            step => self.alphas_cumprod[step - 1],
        }
    }

    /// The logarithm of the posterior's variance; at the first step, where that is zero, of the second one's.
    fn least_log_variance(&self, step: usize) -> f64 {
        let step = step.max(1).min(self.len() - 1);
        let variance =
            self.betas[step] * (1.0 - self.left_before(step)) / (1.0 - self.alphas_cumprod[step]);
        variance.max(f64::MIN_POSITIVE).ln()
    }

    /// A number of each step, `[steps, 1]`.
    fn column(&self, steps: &[usize], number: impl Fn(usize) -> f64, device: &Device) -> Tensor<2> {
        let numbers: Vec<f32> = steps.iter().map(|&step| number(step) as f32).collect();
        Tensor::from_data(TensorData::new(numbers, [steps.len(), 1]), device)
    }
}

#[derive(Clone)]
struct Gaussian {
    mean: Tensor<2>,
    log_variance: Tensor<2>,
}

fn halves(answer: Tensor<2>, width: usize) -> [Tensor<2>; 2] {
    [0, width].map(|start| answer.clone().narrow(1, start, width))
}

/// Kullback and Leibler's, number by number, in nats.
fn divergence(of: Gaussian, from: Gaussian) -> Tensor<2> {
    let gap = of.log_variance.clone() - from.log_variance.clone();
    let distance = (of.mean - from.mean).square() * (-from.log_variance).exp();
    (gap.clone().exp() - gap + distance - 1.0) * 0.5
}

/// How unlikely each number is as one of 256 levels from -1 to 1, in nats.
fn surprise(x: Tensor<2>, from: Gaussian) -> Tensor<2> {
    let centred = x.clone() - from.mean;
    let narrow = (-(from.log_variance * 0.5)).exp();
    let above = below((centred.clone() + HALF_LEVEL) * narrow.clone());
    let beneath = below((centred - HALF_LEVEL) * narrow);
    let log = |share: Tensor<2>| share.clamp_min(LEAST_PROBABILITY).log();
    let within = log(above.clone() - beneath.clone());
    let (lowest, highest) = (x.clone().lower_elem(-0.999), x.greater_elem(0.999));
    -within
        .mask_where(highest, log(-beneath + 1.0))
        .mask_where(lowest, log(above))
}

/// The share of a standard normal below each number, by the curve of Page (1977).
fn below(x: Tensor<2>) -> Tensor<2> {
    let cube = x.clone() * x.clone() * x.clone();
    let inner = (x + cube * 0.044_715) * (2.0 / std::f64::consts::PI).sqrt();
    (inner.tanh() + 1.0) * 0.5
}

/// Steps of a process of `whole` that are kept: a count, counts of equal sections after one another (`10,15,20`), or every so many
/// (`ddim50`).
///
/// # Errors
/// [`Error::Config`] if so many steps cannot be kept.
pub fn kept_steps(whole: usize, spacing: &str) -> Result<BTreeSet<usize>> {
    let wrong = |expected: String| Error::Config {
        field: "steps".into(),
        found: spacing.into(),
        expected,
    };
    let number = |text: &str| {
        let number = text.trim().parse::<usize>().ok().filter(|count| *count > 0);
        number.ok_or_else(|| wrong("counts, as `100`, `10,20` or `ddim50`".into()))
    };
    if let Some(count) = spacing.strip_prefix("ddim") {
        let count = number(count)?;
        let stride = (1..whole).find(|stride| whole.div_ceil(*stride) == count);
        let stride = stride.ok_or_else(|| wrong(format!("a whole stride through {whole}")))?;
        return Ok((0..whole).step_by(stride).collect());
    }
    let counts: Vec<usize> = spacing.split(',').map(number).collect::<Result<_>>()?;
    let (size, extra) = (whole / counts.len(), whole % counts.len());
    let mut kept = BTreeSet::new();
    let mut start = 0;
    for (section, count) in counts.into_iter().enumerate() {
        let size = size + usize::from(section < extra);
        if count > size {
            return Err(wrong(format!("{size} at most in a section")));
        }
        let stride = match count {
            1 => 1.0,
            count => (size - 1) as f64 / (count - 1) as f64,
        };
        // Added up rather than multiplied, as the published code does.
        let mut place = 0f64;
        for _ in 0..count {
            kept.insert(start + place.round_ties_even() as usize);
            place += stride;
        }
        start += size;
    }
    Ok(kept)
}
