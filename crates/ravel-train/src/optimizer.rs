//! One optimizer for a whole module: AdamW for every parameter, or Muon for the hidden matrices and AdamW
//! for the rest, with clipping by the global norm.
//!
//! The update rules are burn's. Parameters are known by their path in the module (`backbone.layers.0.attention.qkv.weight`),
//! so that a checkpoint's state finds its parameter again in another process.
//!
//! AdamW: Loshchilov and Hutter 2019. Muon: Jordan et al. 2024; matrices whose path contains one of
//! [`OptimizerConfig::muon_skips`] (embeddings, output scores) stay with AdamW, as its authors advise.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{
    AdamW, AdamWConfig, AdamWState, GradientsParams, Muon, MuonConfig, MuonState,
    Optimizer as Rule, RecordState, StateSink, StateSource, momentum::MomentumConfig,
};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// How weights are updated, and how fast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OptimizerConfig {
    /// AdamW's peak learning rate.
    pub learning_rate: f64,
    /// Muon's peak learning rate for hidden matrices; AdamW takes them too if absent.
    pub muon_learning_rate: Option<f64>,
    /// Path parts of matrices that Muon leaves to AdamW.
    pub muon_skips: Vec<String>,
    /// Steps over which the rate rises from zero.
    pub warm_up: usize,
    /// Steps at the start of which the rate stands, after the warm-up, before the cosine begins.
    pub hold: usize,
    /// The rate at the last step as a share of the peak.
    pub final_share: f64,
    /// Decoupled weight decay of matrices and kernels (never of vectors).
    pub weight_decay: f32,
    /// Decay of the mean of gradients.
    pub beta_1: f32,
    /// Decay of the mean of squared gradients.
    pub beta_2: f32,
    /// Largest norm of all gradients together; larger ones are scaled down. Zero switches it off.
    pub clip_norm: f64,
    /// Decay of the moving average of weights that is validated and exported. Zero keeps the raw weights.
    pub average: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 3e-3,
            muon_learning_rate: None,
            muon_skips: [
                "embedding",
                "words",
                "codebook",
                "scores",
                "position",
                "level",
                "modulation",
            ]
            .map(String::from)
            .to_vec(),
            warm_up: 50,
            hold: 0,
            final_share: 0.02,
            weight_decay: 0.01,
            beta_1: 0.9,
            beta_2: 0.99,
            clip_norm: 1.0,
            average: 0.99,
        }
    }
}

impl OptimizerConfig {
    /// The share of the peak rate at `step` of `steps`: linear rise, then half a cosine down.
    pub fn rate_share(&self, step: usize, steps: usize) -> f64 {
        if step < self.warm_up {
            return (step + 1) as f64 / self.warm_up as f64;
        }
        let start = self.warm_up + self.hold;
        let span = steps.saturating_sub(start).max(1) as f64;
        let done = (step.saturating_sub(start) as f64 / span).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.final_share + (1.0 - self.final_share) * cosine
    }
}

enum ParamState {
    AdamW(Box<AdamWState<1>>),
    Muon(Box<MuonState<2>>),
}

/// The state of every parameter's update rule.
pub struct Optimizer {
    config: OptimizerConfig,
    adamw: AdamW,
    adamw_plain: AdamW,
    muon: Muon,
    states: BTreeMap<String, ParamState>,
}

/// What one update saw.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
}

impl Optimizer {
    /// An optimizer that has seen nothing yet.
    pub fn new(config: OptimizerConfig) -> Self {
        let adamw = AdamWConfig::new()
            .with_beta_1(config.beta_1)
            .with_beta_2(config.beta_2)
            .with_epsilon(1e-8);
        let momentum = MomentumConfig {
            momentum: 0.95,
            dampening: 0.0,
            nesterov: true,
        };
        Self {
            adamw: adamw.clone().with_weight_decay(config.weight_decay).build(),
            adamw_plain: adamw.with_weight_decay(0.0).build(),
            muon: MuonConfig::new().with_momentum(momentum).build(),
            states: BTreeMap::new(),
            config,
        }
    }

    /// One update of every parameter that has a gradient.
    ///
    /// `rate_share` scales all peak rates (see [`OptimizerConfig::rate_share`]).
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] names the first parameter whose gradient is not a number; nothing is updated then.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        gradients: GradientsParams,
        rate_share: f64,
    ) -> Result<(M, Update), TrainError> {
        let mut norms = NormVisitor::new(&gradients);
        module.visit(&mut norms);
        let gradient_norm = norms.total()?;
        let clip = self.config.clip_norm;
        let scale = if clip > 0.0 && gradient_norm > clip {
            clip / gradient_norm
        } else {
            1.0
        };
        let mut updater = Updater {
            optimizer: self,
            gradients,
            path: Vec::new(),
            rate_share,
            scale,
        };
        let module = module.map(&mut updater);
        Ok((module, Update { gradient_norm }))
    }

    /// The state as named tensors.
    pub fn tensors(&self) -> Vec<(String, TensorData)> {
        let mut sink = StateSink::default();
        for (path, state) in &self.states {
            match state {
                ParamState::AdamW(state) => {
                    state.state_flatten(&format!("adamw.{path}"), &mut sink)
                }
                ParamState::Muon(state) => state.state_flatten(&format!("muon.{path}"), &mut sink),
            }
        }
        let scalars = sink.scalars.into_iter().map(|(name, value)| {
            let value = usize::try_from(value).expect("the only scalar is a count of steps");
            let data = TensorData::new::<i64, _>(vec![value as i64], [1]);
            (format!("{name}.scalar"), data)
        });
        sink.tensors.into_iter().chain(scalars).collect()
    }

    /// Takes back a state that [`Optimizer::tensors`] wrote.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] if a part of a parameter's state is missing.
    pub fn restore(
        &mut self,
        tensors: Vec<(String, TensorData)>,
        device: &Device,
    ) -> Result<(), TrainError> {
        let mut scalars = BTreeMap::new();
        let mut rest = Vec::new();
        let mut paths = BTreeMap::new();
        for (name, data) in tensors {
            if let Some(path) = name.strip_prefix("muon.") {
                let path = path.trim_end_matches(".momentum.velocity").to_string();
                paths.insert(path, true);
            } else if let Some(path) = name
                .strip_prefix("adamw.")
                .and_then(|path| path.strip_suffix(".momentum.moment_1"))
            {
                paths.insert(path.to_string(), false);
            }
            match name.strip_suffix(".scalar") {
                Some(name) => {
                    let value = data
                        .convert::<i64>()
                        .try_into_vec::<i64>()
                        .unwrap_or_default();
                    let value = value.first().copied().unwrap_or_default() as usize;
                    scalars.insert(name.to_string(), value.into());
                }
                None => rest.push((name, data)),
            }
        }
        let mut source = StateSource::new(scalars);
        for (name, data) in rest {
            source.insert_tensor(name, data);
        }
        self.states.clear();
        for (path, is_muon) in paths {
            let state = if is_muon {
                MuonState::state_unflatten(&format!("muon.{path}"), &mut source, device)
                    .map(|state| ParamState::Muon(Box::new(state)))
            } else {
                AdamWState::state_unflatten(&format!("adamw.{path}"), &mut source, device)
                    .map(|state| ParamState::AdamW(Box::new(state)))
            };
            let state = state.ok_or_else(|| TrainError::Checkpoint {
                reason: format!("the optimizer's state of `{path}` is incomplete"),
            })?;
            self.states.insert(path, state);
        }
        Ok(())
    }

    fn takes_muon<const D: usize>(&self, path: &str) -> bool {
        D == 2
            && self.config.muon_learning_rate.is_some()
            && !self
                .config
                .muon_skips
                .iter()
                .any(|skip| path.contains(skip))
    }

    fn update<const D: usize>(
        &mut self,
        path: &str,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        rate_share: f64,
    ) -> Tensor<D> {
        let dims = tensor.dims();
        let state = self.states.remove(path);
        if self.takes_muon::<D>(path) {
            let state = match state {
                Some(ParamState::Muon(state)) => Some(*state),
                _ => None,
            };
            let rate = self.config.muon_learning_rate.unwrap_or_default() * rate_share;
            let shape = [dims[0], dims[1]];
            let (tensor, state) =
                self.muon
                    .step(rate, tensor.reshape(shape), gradient.reshape(shape), state);
            if let Some(state) = state {
                self.states
                    .insert(path.to_string(), ParamState::Muon(Box::new(state)));
            }
            return tensor.reshape(dims);
        }
        let state = match state {
            Some(ParamState::AdamW(state)) => Some(*state),
            _ => None,
        };
        let rule = if D >= 2 {
            &self.adamw
        } else {
            &self.adamw_plain
        };
        let rate = self.config.learning_rate * rate_share;
        let count = dims.iter().product::<usize>();
        let (tensor, state) = rule.step(
            rate,
            tensor.reshape([count]),
            gradient.reshape([count]),
            state,
        );
        if let Some(state) = state {
            self.states
                .insert(path.to_string(), ParamState::AdamW(Box::new(state)));
        }
        tensor.reshape(dims)
    }
}

struct Updater<'a> {
    optimizer: &'a mut Optimizer,
    gradients: GradientsParams,
    path: Vec<String>,
    rate_share: f64,
    scale: f64,
}

impl ModuleMapper for Updater<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let gradient = if self.scale == 1.0 {
            gradient
        } else {
            gradient.mul_scalar(self.scale)
        };
        let path = self.path.join(".");
        let (id, tensor, mapper) = param.consume();
        let updated = self
            .optimizer
            .update(&path, tensor.inner(), gradient, self.rate_share);
        let updated = Tensor::from_inner(updated).require_grad();
        Param::from_mapped_value(id, updated, mapper)
    }
}

struct NormVisitor<'a> {
    gradients: &'a GradientsParams,
    path: Vec<String>,
    squares: Vec<(String, Tensor<1>)>,
}

impl<'a> NormVisitor<'a> {
    fn new(gradients: &'a GradientsParams) -> Self {
        Self {
            gradients,
            path: Vec::new(),
            squares: Vec::new(),
        }
    }

    /// The global norm, in one read from the device.
    fn total(self) -> Result<f64, TrainError> {
        if self.squares.is_empty() {
            return Ok(0.0);
        }
        let (names, sums): (Vec<_>, Vec<_>) = self.squares.into_iter().unzip();
        let sums: Vec<f32> = crate::host(Tensor::cat(sums, 0));
        match sums.iter().position(|sum| !sum.is_finite()) {
            Some(at) => Err(TrainError::NotFinite {
                place: format!("the gradient of `{}`", names[at]),
            }),
            None => Ok(sums.iter().map(|&sum| f64::from(sum)).sum::<f64>().sqrt()),
        }
    }
}

impl ModuleVisitor for NormVisitor<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let sum = gradient.square().sum();
            self.squares.push((self.path.join("."), sum));
        }
    }
}

/// Moves `average` towards `module`: `average ← decay · average + (1 − decay) · module`, parameter by parameter.
///
/// `module` may be on an autodiff device; `average` is not.
///
/// # Panics
/// If the two have different parameters.
pub fn follow<M: Module>(average: M, module: &M, decay: f64) -> M {
    let mut latest = Values::default();
    module.visit(&mut latest);
    average.map(&mut Follow {
        latest: latest.0.into_iter(),
        decay,
    })
}

#[derive(Default)]
struct Values(Vec<Tensor<1>>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val().inner();
        let count = tensor.dims().iter().product::<usize>();
        self.0.push(tensor.reshape([count]));
    }
}

struct Follow {
    latest: std::vec::IntoIter<Tensor<1>>,
    decay: f64,
}

impl ModuleMapper for Follow {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let latest = self
            .latest
            .next()
            .expect("parameter axis: both modules have the same parameters");
        param.map(|average| {
            let dims = average.dims();
            let latest = latest.reshape(dims);
            average * self.decay + latest * (1.0 - self.decay)
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use ravel_testkit::{assert_close, device, formula};

    use super::*;

    fn linear(device: &Device) -> Linear {
        let mut linear = LinearConfig::new(6, 4).init(device);
        linear.weight = Param::from_tensor(formula([6, 4], 1, 0.5, device));
        linear.bias = Some(Param::from_tensor(formula([4], 2, 0.5, device)));
        linear
    }

    fn gradients(module: &Linear, device: &Device, salt: u32) -> GradientsParams {
        let input: Tensor<2> = formula([8, 6], salt, 1.0, device);
        let loss = module.forward(input).square().mean();
        GradientsParams::from_grads(loss.backward(), module)
    }

    fn check_resume(config: OptimizerConfig) {
        let device = device().autodiff();
        let mut module = linear(&device);
        let mut optimizer = Optimizer::new(config.clone());
        for step in 0..3 {
            let gradients = gradients(&module, &device, step);
            module = optimizer.step(module, gradients, 1.0).unwrap().0;
        }
        let mut resumed = Optimizer::new(config);
        resumed
            .restore(optimizer.tensors(), &device.clone().inner())
            .unwrap();
        let next = gradients(&module, &device, 9);
        let again = gradients(&module, &device, 9);
        let straight = optimizer.step(module.clone(), next, 0.5).unwrap().0;
        let restored = resumed.step(module, again, 0.5).unwrap().0;
        assert_close(
            "weights after resuming",
            &straight.weight.val().inner(),
            &restored.weight.val().inner(),
            0.0,
        );
    }

    #[test]
    fn a_restored_state_continues_bit_for_bit() {
        check_resume(OptimizerConfig::default());
        check_resume(OptimizerConfig {
            muon_learning_rate: Some(0.02),
            ..Default::default()
        });
    }

    #[test]
    fn large_gradients_are_scaled_to_the_clip_norm() {
        let device = device().autodiff();
        let module = linear(&device);
        let gradients = gradients(&module, &device, 3);
        let mut optimizer = Optimizer::new(OptimizerConfig {
            clip_norm: 1e-3,
            ..Default::default()
        });
        let (_, update) = optimizer.step(module, gradients, 1.0).unwrap();
        assert!(update.gradient_norm > 1e-3);
        let ParamState::AdamW(state) = &optimizer.states["bias"] else {
            panic!("a vector is AdamW's");
        };
        let ParamState::AdamW(weight) = &optimizer.states["weight"] else {
            panic!("no Muon was asked for");
        };
        // After one step the first moment is (1 - beta_1) times the clipped gradient.
        let squares = [&state.momentum.moment_1, &weight.momentum.moment_1]
            .iter()
            .map(|moment| crate::host((*moment).clone().square().sum())[0])
            .sum::<f32>();
        assert!((squares.sqrt() / 0.1 - 1e-3).abs() < 1e-6);
    }

    #[test]
    fn a_gradient_that_is_no_number_is_named() {
        let device = device().autodiff();
        let module = linear(&device);
        let input: Tensor<2> = Tensor::full([1, 6], f32::NAN, &device);
        let loss = module.forward(input).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        let error = Optimizer::new(OptimizerConfig::default())
            .step(module, gradients, 1.0)
            .err()
            .unwrap();
        assert!(error.to_string().contains("`weight`"), "{error}");
    }

    #[test]
    fn the_rate_rises_then_falls_to_its_final_share() {
        let config = OptimizerConfig {
            warm_up: 10,
            ..Default::default()
        };
        assert!((config.rate_share(0, 100) - 0.1).abs() < 1e-12);
        assert!((config.rate_share(10, 100) - 1.0).abs() < 1e-12);
        assert!((config.rate_share(100, 100) - config.final_share).abs() < 1e-12);
        assert!(config.rate_share(40, 100) > config.rate_share(60, 100));
    }

    #[test]
    fn the_average_follows_at_its_decay() {
        let device = device();
        let start = linear(&device);
        let mut target = start.clone();
        target.weight = Param::from_tensor(formula([6, 4], 7, 0.5, &device));
        let moved = follow(start.clone(), &target, 0.75);
        let expected = start.weight.val() * 0.75 + target.weight.val() * 0.25;
        assert_close("average", &moved.weight.val(), &expected, 1e-7);
    }
}
