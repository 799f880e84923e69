//! Training of a sound tokenizer: spectra and commitment by gradient, the codebooks by moving means.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use ravel_core::Seed;
use ravel_pipeline::{Definition, KeptAs, TokenizerPart};
use ravel_quant::{CodebookHealth, EmaState, VectorQuantizer};
use ravel_weights::{Checkpoint, Dtype};
use rvq_codec::{SoundTrainingOutput, Spectral, SpectralTables};

use crate::learner::{named, warmed};
use crate::run::{Sample, Task};
use crate::sound_loss::{MelDistance, SoundLoss};
use crate::{
    Batches, Optimizer, Recipe, Recording, SoundTokenizerConfig, Sounds, TrainError, follow, host,
};

/// Held-out recordings that are measured.
const MEASURED: usize = 24;
/// Training recordings beside them whose codes tell the codebooks' health.
const HEALTH: usize = 96;
/// Recordings of a sample, each followed by what the codec makes of it.
const HEARD: usize = 4;

/// A sound tokenizer in training.
pub struct SoundTokenizerTask {
    recipe: Recipe,
    config: SoundTokenizerConfig,
    sounds: Sounds,
    model: Spectral,
    average: Spectral,
    optimizer: Optimizer,
    codebooks: Vec<EmaState>,
    loss: SoundLoss,
    training_tables: SpectralTables,
    tables: SpectralTables,
    batches: Batches,
    seed: Seed,
    device: Device,
}

impl SoundTokenizerTask {
    /// Reads the recordings and draws first weights.
    ///
    /// # Errors
    /// [`TrainError::Part`] if the tokenizer's configuration is impossible.
    pub fn new(
        recipe: &Recipe,
        config: &SoundTokenizerConfig,
        device: &Device,
    ) -> Result<Self, TrainError> {
        config.model.validate()?;
        let training = device.clone().autodiff();
        let rate = config.model.sample_rate_hz;
        let loss = SoundLoss::new(&config.loss, rate, &training)?;
        if config.frames * config.model.frame_hop() < loss.least_samples() {
            return Err(TrainError::Recipe {
                path: recipe.name.clone(),
                reason: format!(
                    "`task.frames` of {} is shorter than a window of the loss, {} samples",
                    config.frames,
                    loss.least_samples()
                ),
            });
        }
        let sounds = Sounds::read(&config.rows, rate)?;
        let seed = Seed::new(recipe.seed);
        device.seed(seed.named("first weights").number());
        let average = config.model.init(device);
        ravel_weights::tensors_of(&average); // Draws every parameter now, in the module's order.
        let model = average.clone().fork(&training).train();
        Ok(Self {
            batches: Batches::new(seed.named("order"), sounds.train.len(), recipe.batch),
            optimizer: Optimizer::new(recipe.optimizer.clone()),
            recipe: recipe.clone(),
            config: config.clone(),
            loss,
            training_tables: config.model.tables(&training),
            tables: config.model.tables(device),
            sounds,
            model,
            average,
            codebooks: Vec::new(),
            seed,
            device: device.clone(),
        })
    }

    /// Trained numbers.
    pub fn parameters(&self) -> usize {
        self.average.num_params()
    }

    /// Draws the codebooks from the encoder's outputs when the quantizer is switched on, each from what those before left over.
    fn start_codebooks(&mut self, samples: Tensor<3>) {
        let latents = self.model.latents(samples, &self.training_tables).inner();
        let [batch, width, n] = latents.dims();
        let mut rest = latents.swap_dims(1, 2).reshape([batch * n, width]);
        let seed = self.seed.named("first codebooks");
        let books = std::mem::take(&mut self.model.quantizer.codebooks);
        for (at, book) in books.into_iter().enumerate() {
            let (state, book) = EmaState::start(book, rest.clone(), seed.indexed(at as u64));
            let plain = with_rows(self.average.quantizer.codebooks[at].clone(), &book);
            let ids = plain.ids(rest.clone().unsqueeze_dim(0));
            rest = rest - plain.vectors(ids).squeeze_dim(0);
            self.average.quantizer.codebooks[at] = plain;
            self.model.quantizer.codebooks.push(book);
            self.codebooks.push(state);
        }
    }

    fn update_codebooks(&mut self, step: usize, output: Groups) {
        let redraw = (step as f64) < self.recipe.steps as f64 * (1.0 - self.config.settle);
        let seed = self.seed.named("dead codes").indexed(step as u64);
        let books = std::mem::take(&mut self.model.quantizer.codebooks);
        let updated = books.into_iter().zip(&mut self.codebooks).zip(output);
        let updated = updated.enumerate().map(|(at, ((book, state), group))| {
            let seed = seed.indexed(at as u64);
            state.update(&self.config.codebook, book, vec![group], redraw, seed)
        });
        self.model.quantizer.codebooks = updated.collect();
    }

    fn there_and_back(&self, recording: &Recording) -> (Tensor<3>, SoundTrainingOutput) {
        let hop = self.config.model.frame_hop();
        let samples = recording.tensor(hop, &self.device);
        let quantize = !self.codebooks.is_empty();
        let output = self
            .average
            .forward(samples.clone(), &self.tables, quantize);
        (samples, output)
    }
}

/// What each codebook was asked for.
type Groups = Vec<(Tensor<2>, Tensor<1, burn::tensor::Int>)>;

/// The codebook with the rows of another one, outside the graph.
fn with_rows(mut book: VectorQuantizer, other: &VectorQuantizer) -> VectorQuantizer {
    let rows = other.codebook.val();
    let rows = if rows.is_autodiff() {
        rows.inner()
    } else {
        rows
    };
    book.codebook = book.codebook.map(|_| rows);
    book
}

impl Task for SoundTokenizerTask {
    fn step(&mut self, step: usize) -> Result<BTreeMap<String, f64>, TrainError> {
        let training = self.device.clone().autodiff();
        let items = self.batches.at(step);
        let seed = self.seed.named("places").indexed(step as u64);
        let len = self.config.frames * self.config.model.frame_hop();
        let samples = self.sounds.stretches(&items, len, seed, &training);
        if step == self.config.warm_steps {
            self.start_codebooks(samples.clone());
        }
        let quantize = !self.codebooks.is_empty();
        let output = self
            .model
            .forward(samples.clone(), &self.training_tables, quantize);
        let (mut loss, mel) = self.loss.forward(output.samples, samples);
        let mut values = BTreeMap::from([
            ("loss".to_string(), f64::from(host(loss.clone())[0])),
            ("mel".to_string(), f64::from(host(mel)[0])),
        ]);
        if let Some(commitment) = output.commitment {
            values.insert("commitment".into(), f64::from(host(commitment.clone())[0]));
            loss = loss + commitment * self.config.commitment;
        }
        if !values["loss"].is_finite() {
            return Err(TrainError::NotFinite {
                place: "the sound tokenizer's loss".into(),
            });
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
        let share = self.recipe.optimizer.rate_share(step, self.recipe.steps);
        let (model, update) = self.optimizer.step(self.model.clone(), gradients, share)?;
        self.model = model;
        if quantize {
            self.update_codebooks(step, output.groups);
        }
        let decay = warmed(self.recipe.optimizer.average, step);
        self.average = follow(self.average.clone(), &self.model, decay);
        values.insert("gradient-norm".into(), update.gradient_norm);
        Ok(values)
    }

    fn validate(&self) -> Result<BTreeMap<String, f64>, TrainError> {
        let distance = MelDistance::new(self.config.model.sample_rate_hz, &self.device);
        let mut ids = vec![Vec::new(); self.codebooks.len()];
        let mut heard = |recording: &Recording| {
            let (samples, output) = self.there_and_back(recording);
            for (all, (_, found)) in ids.iter_mut().zip(output.groups) {
                all.extend(found.into_data().iter::<u32>());
            }
            (samples, output.samples)
        };
        let mut mel = 0.0;
        let measured = &self.sounds.held_out[..MEASURED.min(self.sounds.held_out.len())];
        for recording in measured {
            let (samples, back) = heard(recording);
            mel += f64::from(host(distance.forward(back, samples))[0]);
        }
        let step = (self.sounds.train.len() / HEALTH).max(1);
        if !self.codebooks.is_empty() {
            self.sounds.train.iter().step_by(step).for_each(|one| {
                heard(one);
            });
        }
        let mut found = BTreeMap::new();
        if !measured.is_empty() {
            found.insert("mel".into(), mel / measured.len() as f64);
        }
        for (at, ids) in ids.into_iter().enumerate() {
            let health = CodebookHealth::of(self.config.model.codebook_size, ids);
            found.insert(format!("codebook-{at}-usage"), health.usage);
            found.insert(format!("codebook-{at}-perplexity"), health.perplexity);
        }
        Ok(found)
    }

    fn samples(&self) -> Result<Sample, TrainError> {
        let list = match self.sounds.held_out.is_empty() {
            true => &self.sounds.train,
            false => &self.sounds.held_out,
        };
        let mut samples = Vec::new();
        for recording in list.iter().take(HEARD) {
            let (there, output) = self.there_and_back(recording);
            samples.extend(host(there));
            samples.extend(host(output.samples));
        }
        let sound = ravel_media::Sound {
            channels: vec![samples],
            sample_rate_hz: self.sounds.sample_rate_hz,
        };
        Ok(Sample {
            extension: "wav",
            bytes: ravel_media::encode_wav(&sound, &[]),
        })
    }

    fn tensors(&self) -> Vec<(String, TensorData)> {
        let mut all: Vec<_> = named("model", ravel_weights::tensors_of(&self.model)).collect();
        all.extend(named("average", ravel_weights::tensors_of(&self.average)));
        all.extend(named("optimizer", self.optimizer.tensors()));
        for (at, state) in self.codebooks.iter().enumerate() {
            all.extend(named(&format!("codebook.{at}"), state.tensors()));
        }
        all
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.model = ravel_weights::load(self.model.clone(), checkpoint, "model")?;
        self.average = ravel_weights::load(self.average.clone(), checkpoint, "average")?;
        let state = checkpoint.tensors_under("optimizer")?;
        self.optimizer.restore(state, &self.device)?;
        self.codebooks = (0..self.config.model.depth)
            .map_while(|at| {
                let tensors = checkpoint.tensors_under(&format!("codebook.{at}")).ok()?;
                EmaState::from_tensors(tensors)
            })
            .collect();
        Ok(())
    }

    fn export(&self, folder: &Path) -> Result<(), TrainError> {
        let metadata = BTreeMap::from([("name".to_string(), self.recipe.name.clone())]);
        let path = folder.join("tokenizer.safetensors");
        let tensors = ravel_weights::tensors_of(&self.average);
        ravel_weights::save(&path, tensors, &metadata, Dtype::F16)?;
        let text = self.definition().to_toml();
        ravel_weights::atomic_write(&folder.join("tokenizer.toml"), text.as_bytes())?;
        Ok(())
    }
}

impl SoundTokenizerTask {
    fn definition(&self) -> Definition {
        Definition {
            task: ravel_pipeline::Task::SoundTokenizer,
            name: self.recipe.name.clone(),
            description: self.recipe.description.clone(),
            licence: self.recipe.licence.clone(),
            weights: None,
            weights_type: KeptAs::default(),
            text: None,
            decoding: Default::default(),
            filling: None,
            sampler: Default::default(),
            tokenizer: Some(TokenizerPart::SpectralCodec {
                weights: "tokenizer.safetensors".into(),
                config: self.config.model.clone(),
            }),
            backbone: None,
            head: None,
            speech: None,
            published: None,
            model: None,
            sound_model: None,
        }
    }
}
