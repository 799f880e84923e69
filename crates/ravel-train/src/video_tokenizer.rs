//! Training of a video tokenizer: first frames as pictures, later groups on the tokenizer's own canvas.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use causal_video::CausalVideo;
use ravel_core::{Images, Seed};
use ravel_pipeline::{Definition, KeptAs, Task as Purpose, TokenizerPart};
use ravel_quant::CodebookHealth;
use ravel_weights::{Checkpoint, Dtype};

use crate::clips::{Clips, Part};
use crate::learner::{named, warmed};
use crate::recipe::VideoTokenizerConfig;
use crate::run::{Sample, Task};
use crate::{Batches, Optimizer, Recipe, TrainError, follow, host, reconstruction};

/// Clips measured at a time, and in all.
const MEASURE_BATCH: usize = 12;
const MEASURED: usize = 48;
/// Clips on a sample sheet.
const SHEET: usize = 8;

/// A video tokenizer in training.
pub struct VideoTokenizerTask {
    recipe: Recipe,
    config: VideoTokenizerConfig,
    clips: Clips,
    model: CausalVideo,
    average: CausalVideo,
    optimizer: Optimizer,
    batches: Batches,
    seed: Seed,
    device: Device,
}

/// What a pass over some frames gives.
struct Passed {
    loss: Tensor<1>,
    first: f64,
    later: f64,
    painted: f64,
}

impl VideoTokenizerTask {
    /// Draws first weights.
    ///
    /// # Errors
    /// [`TrainError`] if the configuration is impossible or a clip too short.
    pub fn new(
        recipe: &Recipe,
        config: &VideoTokenizerConfig,
        clips: Clips,
        device: &Device,
    ) -> Result<Self, TrainError> {
        config.model.validate()?;
        clips.check_length(1 + config.groups * config.model.later.group)?;
        let seed = Seed::new(recipe.seed);
        device.seed(seed.named("first weights").number());
        let mut average = config.model.init(device);
        ravel_weights::tensors_of(&average); // Draws every parameter now, in the module's order.
        if let Some(folder) = &config.start_from {
            let checkpoint = Checkpoint::open(&folder.join("tokenizer.safetensors"))?;
            let known = ravel_weights::load(config.model.init(device), &checkpoint, "")?;
            average.later_encoder = known.later_encoder;
            average.later_decoder = known.later_decoder;
            if config.groups > 0 {
                average.first_encoder = known.first_encoder;
                average.first_decoder = known.first_decoder;
            }
        }
        let training = device.clone().autodiff();
        let model = average.clone().fork(&training).train();
        Ok(Self {
            batches: Batches::new(seed.named("order"), clips.train.len(), recipe.batch),
            optimizer: Optimizer::new(recipe.optimizer.clone()),
            recipe: recipe.clone(),
            config: config.clone(),
            clips,
            model,
            average,
            seed,
            device: device.clone(),
        })
    }

    /// Trained numbers.
    pub fn parameters(&self) -> usize {
        self.average.num_params()
    }

    fn frames(&self) -> usize {
        1 + self.config.groups * self.config.model.later.group
    }

    /// The losses of a first frame and of the groups after it. Each group is coded on what was decoded before, in a quarter
    /// of the rows from the decoded first frame on, in the others from the true one.
    fn pass(&self, frames: Tensor<5>, seed: Seed) -> Passed {
        let config = &self.config;
        let group = config.model.later.group;
        let wanted: Tensor<4> = frames.clone().narrow(1, 0, 1).squeeze_dim(1);
        let found = match config.keep_first {
            true => Tensor::from_inner(self.average.first(wanted.clone().inner())),
            false => self.model.first(wanted.clone()),
        };
        let [batch, ..] = wanted.dims();
        let mut latest = mixed(found.clone().detach(), wanted.clone(), batch, seed);
        let first = reconstruction(&config.reconstruction, found, wanted);
        let mut loss = first.clone();
        let (mut later, mut painted) = (0.0, 0.0);
        for at in 0..config.groups {
            let wanted = frames.clone().narrow(1, 1 + at * group, group);
            let (vectors, _) = self.model.later_codes(latest.clone(), wanted.clone());
            let vectors = disturbed(
                vectors,
                config.wrong_codes,
                seed.named("wrong").indexed(at as u64),
            );
            let changed = self.model.changed(latest, vectors);
            let share = changed.painted.mean();
            let [_, time, channels, height, width] = wanted.dims();
            let flat = [batch * time, channels, height, width];
            let difference = reconstruction(
                &config.reconstruction,
                changed.frames.clone().reshape(flat),
                wanted.reshape(flat),
            );
            later += f64::from(host(difference.clone())[0]) / config.groups as f64;
            painted += f64::from(host(share.clone())[0]) / config.groups as f64;
            let weight = config.later_weight / config.groups as f64; // In the loop there is a group.
            loss = loss + (difference + share * config.paint) * weight;
            latest = changed.frames.narrow(1, time - 1, 1).squeeze_dim(1);
            latest = latest.detach().clamp(-1.0, 1.0);
        }
        Passed {
            first: f64::from(host(first)[0]),
            loss,
            later,
            painted,
        }
    }

    /// Decoded frames of a batch, by the averaged weights: `[batch, time, 3, size, size]`, and the ids of later groups.
    fn decoded(&self, frames: &Tensor<5>, anchored: bool) -> (Tensor<5>, Vec<u32>) {
        let group = self.config.model.later.group;
        let first: Tensor<4> = frames.clone().narrow(1, 0, 1).squeeze_dim(1);
        let mut latest = match anchored {
            true => first,
            false => self.average.first(first).clamp(-1.0, 1.0),
        };
        let mut out = vec![latest.clone().unsqueeze_dim(1)];
        let mut ids = Vec::new();
        for at in 0..self.config.groups {
            let wanted = frames.clone().narrow(1, 1 + at * group, group);
            let (vectors, found) = self.average.later_codes(latest.clone(), wanted);
            let changed = self.average.changed(latest, vectors);
            let frames = changed.frames.clamp(-1.0, 1.0);
            latest = frames.clone().narrow(1, group - 1, 1).squeeze_dim(1);
            let found = found.into_data().convert::<u32>();
            ids.extend(
                found
                    .try_into_vec::<u32>()
                    .expect("ids were converted to u32"),
            );
            out.push(frames);
        }
        (Tensor::cat(out, 1), ids)
    }

    fn held_out(&self) -> Vec<Part<'_>> {
        let items = match self.clips.held_out.is_empty() {
            true => &self.clips.train,
            false => &self.clips.held_out,
        };
        items.iter().take(MEASURED).map(Part::beginning).collect()
    }
}

/// A quarter of the rows of one, the rest of the other, drawn anew for every row.
fn mixed(one: Tensor<4>, other: Tensor<4>, batch: usize, seed: Seed) -> Tensor<4> {
    let device = one.device();
    device.seed(seed.number());
    let draw = Tensor::<4>::random([batch, 1, 1, 1], Distribution::Uniform(0.0, 1.0), &device);
    let share = draw.lower_elem(0.25).float();
    (other.clone() + (one - other) * share).clamp(-1.0, 1.0)
}

/// Code vectors of which some are those of a neighbouring cell or say nothing, as a generator mistakes them; of each row a share that is
/// drawn evenly from zero to `most`.
///
/// # Shapes
/// - `vectors`: `[b, d, h, w]`
fn disturbed(vectors: Tensor<4>, most: f64, seed: Seed) -> Tensor<4> {
    if most == 0.0 {
        return vectors;
    }
    let device = vectors.device();
    device.seed(seed.number());
    let [batch, _, rows, columns] = vectors.dims();
    let even = Distribution::Uniform(0.0, 1.0);
    let share = Tensor::<4>::random([batch, 1, 1, 1], even, &device) * most;
    let draw = Tensor::<4>::random([batch, 1, rows, columns], even, &device);
    // Which of the five; none from five on.
    let which = (draw / share * 5.0).floor();
    // A cell that is decoded by another's code teaches the other nothing.
    let around = vectors.clone().detach().pad((1, 1, 1, 1), PadMode::Edge);
    let neighbour = |down: usize, right: usize| {
        let rows = around.clone().narrow(2, down, rows);
        rows.narrow(3, right, columns)
    };
    let others = [
        vectors.zeros_like(),
        neighbour(0, 1),
        neighbour(2, 1),
        neighbour(1, 0),
        neighbour(1, 2),
    ];
    let right = vectors.clone();
    others
        .into_iter()
        .enumerate()
        .fold(right, |all, (at, other)| {
            let chosen = which.clone().equal_elem(at as f32).float();
            all + (other - vectors.clone()) * chosen
        })
}

impl Task for VideoTokenizerTask {
    fn step(&mut self, step: usize) -> Result<BTreeMap<String, f64>, TrainError> {
        let training = self.device.clone().autodiff();
        let items = self.batches.at(step);
        let seed = self.seed.named("parts").indexed(step as u64);
        let parts = self
            .clips
            .drawn(&items, self.frames(), self.recipe.pictures()?.flip, seed);
        let frames = self.clips.tensor(&parts, self.frames(), &training);
        let passed = self.pass(frames, self.seed.named("canvas").indexed(step as u64));
        let value = f64::from(host(passed.loss.clone())[0]);
        if !value.is_finite() {
            return Err(TrainError::NotFinite {
                place: "the video tokenizer's loss".into(),
            });
        }
        let gradients = GradientsParams::from_grads(passed.loss.backward(), &self.model);
        let share = self.recipe.optimizer.rate_share(step, self.recipe.steps);
        let (model, update) = self.optimizer.step(self.model.clone(), gradients, share)?;
        self.model = model;
        let decay = warmed(self.recipe.optimizer.average, step);
        self.average = follow(self.average.clone(), &self.model, decay);
        Ok(BTreeMap::from([
            ("loss".to_string(), value),
            ("first".to_string(), passed.first),
            ("later".to_string(), passed.later),
            ("painted".to_string(), passed.painted),
            ("gradient-norm".to_string(), update.gradient_norm),
        ]))
    }

    /// PSNR of the first frame, of the last after a decoded first frame, and of the last after a true one.
    fn validate(&self) -> Result<BTreeMap<String, f64>, TrainError> {
        let last = self.frames() - 1;
        let (mut found, mut ids) = (BTreeMap::new(), Vec::new());
        let parts = self.held_out();
        for chunk in parts.chunks(MEASURE_BATCH) {
            let frames = self.clips.tensor(chunk, self.frames(), &self.device);
            let (decoded, of_chunk) = self.decoded(&frames, false);
            let (anchored, _) = self.decoded(&frames, true);
            ids.extend(of_chunk);
            let mut add = |name: &str, from: &Tensor<5>, at: usize| {
                let difference = from.clone().narrow(1, at, 1) - frames.clone().narrow(1, at, 1);
                let squares = host(difference.square().flatten::<2>(1, 4).mean_dim(1));
                // The range of values is 2, so the peak's square is 4.
                let decibels = squares.iter().map(|&s| 10.0 * (4.0 / f64::from(s)).log10());
                *found.entry(name.to_string()).or_insert(0.0) +=
                    decibels.sum::<f64>() / parts.len() as f64;
            };
            add("psnr-first", &decoded, 0);
            add("psnr-last", &decoded, last);
            add("psnr-anchored", &anchored, last);
        }
        let size = self.config.model.later.quantizer().codebook_size();
        let health = CodebookHealth::of(size, ids);
        found.insert("later-usage".into(), health.usage);
        found.insert("later-perplexity".into(), health.perplexity);
        Ok(found)
    }

    /// Clips row by row: true frames, then the decoded ones below.
    fn samples(&self) -> Result<Sample, TrainError> {
        let parts: Vec<_> = self.held_out().into_iter().take(SHEET).collect();
        let frames = self.clips.tensor(&parts, self.frames(), &self.device);
        let (decoded, _) = self.decoded(&frames, false);
        let both = Tensor::stack::<6>(vec![frames, decoded], 1);
        let [clips, two, time, channels, height, width] = both.dims();
        let pixels = both.reshape([clips * two * time, channels, height, width]);
        let pictures = ravel_media::pictures_from_images(&Images { pixels });
        Ok(ravel_media::grid(&pictures, time, 2).into())
    }

    fn tensors(&self) -> Vec<(String, TensorData)> {
        let mut all: Vec<_> = named("model", ravel_weights::tensors_of(&self.model)).collect();
        all.extend(named("average", ravel_weights::tensors_of(&self.average)));
        all.extend(named("optimizer", self.optimizer.tensors()));
        all
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.model = ravel_weights::load(self.model.clone(), checkpoint, "model")?;
        self.average = ravel_weights::load(self.average.clone(), checkpoint, "average")?;
        let state = checkpoint.tensors_under("optimizer")?;
        self.optimizer.restore(state, &self.device)
    }

    fn export(&self, folder: &Path) -> Result<(), TrainError> {
        let metadata = BTreeMap::from([("name".to_string(), self.recipe.name.clone())]);
        let path = folder.join("tokenizer.safetensors");
        let tensors = ravel_weights::tensors_of(&self.average);
        ravel_weights::save(&path, tensors, &metadata, Dtype::F16)?;
        let definition = Definition {
            task: Purpose::VideoTokenizer,
            name: self.recipe.name.clone(),
            description: self.recipe.description.clone(),
            licence: self.recipe.licence.clone(),
            weights: None,
            weights_type: KeptAs::default(),
            text: None,
            decoding: Default::default(),
            filling: None,
            sampler: Default::default(),
            tokenizer: Some(TokenizerPart::CausalVideo {
                weights: "tokenizer.safetensors".into(),
                config: self.config.model.clone(),
            }),
            backbone: None,
            head: None,
            model: None,
            speech: None,
            sound_model: None,
            published: None,
        };
        let text = definition.to_toml();
        ravel_weights::atomic_write(&folder.join("tokenizer.toml"), text.as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{device, values};

    use super::*;

    #[test]
    fn wrong_codes_are_a_neighbours_or_none_and_not_too_many() {
        // Each cell says its row and its column, from 1 on.
        let numbers = |of: fn(usize) -> usize| (0..64).map(move |at| 1.0 + of(at) as f32);
        let all: Vec<f32> = numbers(|at| at / 8).chain(numbers(|at| at % 8)).collect();
        let data = TensorData::new::<f32, _>(all, [1, 2, 8, 8]);
        let right = Tensor::<4>::from_data(data, &device()).repeat_dim(0, 50);
        let same = disturbed(right.clone(), 0.0, Seed::new(3));
        assert_eq!(values(&same), values(&right));
        let found = disturbed(right.clone(), 0.4, Seed::new(3));
        let mut wrong = 0;
        for (found, right) in values(&found).chunks(128).zip(values(&right).chunks(128)) {
            for at in 0..64 {
                let (found, right) = ([found[at], found[64 + at]], [right[at], right[64 + at]]);
                let apart = (found[0] - right[0]).abs() + (found[1] - right[1]).abs();
                assert!(
                    apart <= 1.0 || found == [0.0, 0.0],
                    "{found:?} for {right:?}"
                );
                wrong += usize::from(apart > 0.0);
            }
        }
        // Half of 0.4 on average, less the neighbours beyond the edge.
        let share = wrong as f64 / 3200.0;
        assert!((0.1..0.25).contains(&share), "{share}");
    }
}
