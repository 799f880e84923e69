//! What every generator in training has: weights that move, their average, and the optimizer's state.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use ravel_core::Seed;
use ravel_weights::{Checkpoint, Dtype};

use crate::{Optimizer, Recipe, TrainError, follow, host};

/// A model whose tensors have the names of the exported file.
pub(crate) trait Learned: Module {
    /// Parameters by the paths that the exported file has.
    fn tensors(&self) -> Vec<(String, TensorData)> {
        ravel_weights::tensors_of(self)
    }

    /// The model with its parameters from a file, by path under `prefix`.
    fn load(self, checkpoint: &Checkpoint, prefix: &str) -> Result<Self, TrainError> {
        Ok(ravel_weights::load(self, checkpoint, prefix)?)
    }
}

/// A model in training.
pub(crate) struct Learner<M> {
    /// The weights that are moved, on an autodiff device.
    pub(crate) model: M,
    /// Their moving average, which is measured and exported.
    pub(crate) average: M,
    optimizer: Optimizer,
    recipe: Recipe,
    device: Device,
}

impl<M: Learned> Learner<M> {
    /// Begins with these weights.
    pub(crate) fn new(first: M, recipe: &Recipe, device: &Device) -> Self {
        Self {
            model: first.clone().fork(&device.clone().autodiff()).train(),
            average: first,
            optimizer: Optimizer::new(recipe.optimizer.clone()),
            recipe: recipe.clone(),
            device: device.clone(),
        }
    }

    /// Seeds what is drawn on the device within a step (dropout), so that it follows from the recipe's seed and the step alone.
    pub(crate) fn begin(&self, step: usize) {
        let seed = Seed::new(self.recipe.seed).named("dropout");
        self.device.seed(seed.indexed(step as u64).number());
    }

    /// Moves the weights against the loss of a step, and the average after them. `place` names the loss in an error.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] if the loss or a gradient is not a number; nothing is moved then.
    pub(crate) fn update(
        &mut self,
        loss: Tensor<1>,
        step: usize,
        place: &str,
    ) -> Result<BTreeMap<String, f64>, TrainError> {
        let value = f64::from(host(loss.clone())[0]);
        if !value.is_finite() {
            return Err(TrainError::NotFinite {
                place: place.into(),
            });
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
        let share = self.recipe.optimizer.rate_share(step, self.recipe.steps);
        let (model, update) = self.optimizer.step(self.model.clone(), gradients, share)?;
        self.model = model;
        let decay = warmed(self.recipe.optimizer.average, step);
        self.average = follow(self.average.clone(), &self.model, decay);
        Ok(BTreeMap::from([
            ("loss".to_string(), value),
            ("gradient-norm".to_string(), update.gradient_norm),
            ("rate-share".to_string(), share),
        ]))
    }

    /// Everything that the next update depends on.
    pub(crate) fn tensors(&self) -> Vec<(String, TensorData)> {
        let mut all: Vec<_> = named("model", self.model.tensors()).collect();
        all.extend(named("average", self.average.tensors()));
        all.extend(named("optimizer", self.optimizer.tensors()));
        all
    }

    /// Takes back what [`Learner::tensors`] wrote.
    ///
    /// # Errors
    /// [`TrainError`] if something is missing or does not fit.
    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.model = self.model.clone().load(checkpoint, "model")?;
        self.average = self.average.clone().load(checkpoint, "average")?;
        let state = checkpoint.tensors_under("optimizer")?;
        self.optimizer.restore(state, &self.device)
    }

    /// Writes the averaged weights in half precision.
    ///
    /// # Errors
    /// [`TrainError::Weights`] if the file cannot be written.
    pub(crate) fn export(&self, path: &Path) -> Result<(), TrainError> {
        let metadata = BTreeMap::from([("name".to_string(), self.recipe.name.clone())]);
        ravel_weights::save(path, self.average.tensors(), &metadata, Dtype::F16)?;
        Ok(())
    }
}

/// The tensors with a path in front of their names.
pub(crate) fn named(
    prefix: &str,
    tensors: Vec<(String, TensorData)>,
) -> impl Iterator<Item = (String, TensorData)> {
    let prefix = prefix.to_string();
    tensors
        .into_iter()
        .map(move |(name, data)| (format!("{prefix}.{name}"), data))
}

/// The averaging decay early on, when an average over many steps would remember the first weights.
pub(crate) fn warmed(decay: f64, step: usize) -> f64 {
    decay.min((1.0 + step as f64) / (10.0 + step as f64))
}
