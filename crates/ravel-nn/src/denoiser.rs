//! A small network that tells the noise in a vector: residual layers whose norms are set by a time and a condition.
//!
//! Li et al. 2024 (MAR), section 4.2 and appendix B. Shapes: `n` vectors, `d` their width, `c` the condition's, `w` the
//! network's.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Norm, NormConfig, NormKind, Project, init};

/// Numbers that a time is spread over: half cosines, half sines.
const TIME_WIDTH: usize = 256;
/// The longest wave's length over 2π.
const LONGEST: f64 = 10_000.0;
const EPSILON: f64 = 1e-6;

/// What fixes a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DenoiserConfig {
    /// Numbers of a vector.
    pub target_width: usize,
    /// Numbers of a condition.
    pub condition_width: usize,
    /// Numbers between layers.
    pub width: usize,
    /// Residual layers.
    pub layers: usize,
}

impl DenoiserConfig {
    /// A fresh network, which answers zero until it is trained.
    pub fn init(&self, device: &Device) -> Denoiser {
        let (w, d) = (self.width, self.target_width);
        let linear = |from, to| init::linear(from, to, true, init::STD, device);
        let silent = |from, to| init::linear(from, to, true, 0.0, device);
        let norm = |kind| NormConfig { kind, eps: EPSILON }.init(w, device);
        Denoiser {
            time_in: linear(TIME_WIDTH, w),
            time_out: linear(w, w),
            condition: linear(self.condition_width, w),
            enter: linear(d, w),
            blocks: (0..self.layers)
                .map(|_| DenoiserBlock {
                    norm: norm(NormKind::Layer),
                    modulation: silent(w, 3 * w),
                    up: linear(w, w),
                    down: linear(w, w),
                })
                .collect(),
            norm: norm(NormKind::LayerPlain),
            modulation: silent(w, 2 * w),
            leave: silent(w, 2 * d),
        }
    }
}

/// The network.
#[derive(Module, Debug)]
pub struct Denoiser {
    /// `[256, w]`.
    pub time_in: Linear,
    /// `[w, w]`.
    pub time_out: Linear,
    /// `[c, w]`.
    pub condition: Linear,
    /// `[d, w]`.
    pub enter: Linear,
    /// Residual layers.
    pub blocks: Vec<DenoiserBlock>,
    /// Before the last product; nothing learned.
    pub norm: Norm,
    /// `[w, 2 w]`: bias and gain of that norm.
    pub modulation: Linear,
    /// `[w, 2 d]`.
    pub leave: Linear,
}

/// `x + strength * mlp(norm(x) * (1 + gain) + bias)`.
#[derive(Module, Debug)]
pub struct DenoiserBlock {
    /// Over the width.
    pub norm: Norm,
    /// `[w, 3 w]`: bias, gain and strength.
    pub modulation: Linear,
    /// `[w, w]`.
    pub up: Linear,
    /// `[w, w]`.
    pub down: Linear,
}

impl Denoiser {
    /// The noise, and where its variance lies between its bounds (-1 to 1).
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - `times`: one for each vector, or one for all
    /// - `condition`: `[n, c]`
    /// - returns: `[n, 2 d]`
    pub fn forward(&self, x: Tensor<2>, times: &[usize], condition: Tensor<2>) -> Tensor<2> {
        let times = waves(times, &x.device());
        let times = self.time_out.project(silu(self.time_in.project(times)));
        let set = silu(times + self.condition.project(condition));
        let mut x = self.enter.project(x);
        for block in &self.blocks {
            x = block.forward(x, set.clone());
        }
        let [bias, gain] = chunks(self.modulation.project(set));
        self.leave.project(self.norm.modulated(x, &gain, &bias))
    }
}

impl DenoiserBlock {
    fn forward(&self, x: Tensor<2>, set: Tensor<2>) -> Tensor<2> {
        let [bias, gain, strength] = chunks(self.modulation.project(set));
        let inner = self.norm.modulated(x.clone(), &gain, &bias);
        x + self.down.project(silu(self.up.project(inner))) * strength
    }
}

fn chunks<const N: usize>(x: Tensor<2>) -> [Tensor<2>; N] {
    let width = x.dims()[1] / N;
    std::array::from_fn(|at| x.clone().narrow(1, at * width, width))
}

/// Times as waves, `[times, 256]`. Worked out in 32 bits where the published code does: at late times the rounding of a frequency
/// shows.
fn waves(times: &[usize], device: &Device) -> Tensor<2> {
    let half = TIME_WIDTH / 2;
    let frequency = |at: usize| {
        let power = (-LONGEST.ln()) as f32 * at as f32 / half as f32;
        f64::from(power).exp() as f32
    };
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let row = |&time: &usize| {
        let angle = move |frequency: &f32| f64::from(time as f32 * frequency);
        let cosines = frequencies.iter().map(move |f| angle(f).cos() as f32);
        cosines.chain(frequencies.iter().map(move |f| angle(f).sin() as f32))
    };
    let numbers: Vec<f32> = times.iter().flat_map(row).collect();
    Tensor::from_data(TensorData::new(numbers, [times.len(), TIME_WIDTH]), device)
}

#[cfg(test)]
mod tests {
    use burn::module::{ModuleMapper, Param};
    use ravel_testkit::{assert_close, device, formula, values};

    use super::*;

    struct Fill(u32);

    impl ModuleMapper for Fill {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += 1;
            let salt = self.0;
            param.map(|old| formula(old.dims(), salt, 0.3, &device()))
        }
    }

    fn network() -> Denoiser {
        let config = DenoiserConfig {
            target_width: 3,
            condition_width: 5,
            width: 8,
            layers: 2,
        };
        config.init(&device()).map(&mut Fill(0))
    }

    #[test]
    fn vectors_do_not_see_each_other_and_see_time_and_condition() {
        let network = network();
        let x: Tensor<2> = formula([4, 3], 1, 1.0, &device());
        let condition: Tensor<2> = formula([4, 5], 2, 1.0, &device());
        let times = [0, 7, 500, 999];
        let all = network.forward(x.clone(), &times, condition.clone());
        assert_eq!(all.dims(), [4, 6]);
        for at in 0..4 {
            let one = |t: &Tensor<2>| t.clone().narrow(0, at, 1);
            let alone = network.forward(one(&x), &times[at..=at], one(&condition));
            assert_close("row", &alone, &one(&all), 1e-6);
        }
        let later = network.forward(x.clone(), &[8], condition.clone());
        let earlier = network.forward(x.clone(), &[7], condition.clone());
        assert_ne!(values(&later), values(&earlier));
        let other = network.forward(x, &[7], condition * 0.5);
        assert_ne!(values(&other), values(&earlier));
    }

    #[test]
    fn time_is_cosines_then_sines() {
        let found = values(&waves(&[0, 3], &device()));
        assert!(found[..128].iter().all(|cosine| *cosine == 1.0));
        assert!(found[128..256].iter().all(|sine| *sine == 0.0));
        assert!((found[256] - 3f32.cos()).abs() < 1e-6);
        assert!((found[256 + 128] - 3f32.sin()).abs() < 1e-6);
    }
}
