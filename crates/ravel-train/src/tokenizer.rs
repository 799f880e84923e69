//! Training of an image tokenizer: reconstruction and commitment by gradient, the codebook by moving means.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use multiscale_image::MultiscaleImage;
use ravel_core::Seed;
use ravel_pipeline::{Definition, KeptAs, TokenizerPart};
use ravel_quant::{CodebookHealth, EmaState, VectorQuantizer};
use ravel_weights::{Checkpoint, Dtype};
use vq_image::{TrainingOutput, VqImage};

use crate::learner::{named, warmed};
use crate::recipe::TokenizerModelConfig;
use crate::run::{Sample, Task};
use crate::{
    Batches, Item, Optimizer, Pictures, Recipe, TokenizerConfig, TrainError, follow, host,
    reconstruction,
};

/// Pictures measured at a time.
const MEASURE_BATCH: usize = 32;
/// Training pictures whose codes tell the codebook's health, beside the held-out ones.
const HEALTH_PICTURES: usize = 512;
/// Pictures on a sample sheet, each beside its reconstruction.
const SHEET: usize = 16;

/// A tokenizer that can be trained.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // One per run.
enum TokenizerModule {
    VqImage(VqImage),
    MultiscaleImage(MultiscaleImage),
}

impl TokenizerModule {
    fn init(config: &TokenizerModelConfig, device: &Device) -> Result<Self, TrainError> {
        Ok(match config {
            TokenizerModelConfig::VqImage(config) => {
                config.validate()?;
                Self::VqImage(config.init(device))
            }
            TokenizerModelConfig::MultiscaleImage(config) => {
                config.validate()?;
                Self::MultiscaleImage(config.init(device))
            }
        })
    }

    fn forward(&self, pixels: Tensor<4>, quantize: bool) -> TrainingOutput {
        match self {
            Self::VqImage(model) => model.forward(pixels, quantize),
            Self::MultiscaleImage(model) => model.forward(pixels, quantize),
        }
    }

    fn latents(&self, pixels: Tensor<4>) -> Tensor<4> {
        match self {
            Self::VqImage(model) => model.encoder.forward(pixels),
            Self::MultiscaleImage(model) => model.encoder.forward(pixels),
        }
    }

    fn codebook_size(&self) -> usize {
        let quantizer = match self {
            Self::VqImage(model) => &model.quantizer,
            Self::MultiscaleImage(model) => &model.quantizer.vector,
        };
        quantizer.codebook.val().dims()[0]
    }

    fn map_quantizer(self, change: impl FnOnce(VectorQuantizer) -> VectorQuantizer) -> Self {
        match self {
            Self::VqImage(mut model) => {
                model.quantizer = change(model.quantizer);
                Self::VqImage(model)
            }
            Self::MultiscaleImage(mut model) => {
                model.quantizer.vector = change(model.quantizer.vector);
                Self::MultiscaleImage(model)
            }
        }
    }

    /// Parameters by the paths that the exported file has.
    fn tensors(&self) -> Vec<(String, TensorData)> {
        match self {
            Self::VqImage(model) => ravel_weights::tensors_of(model),
            Self::MultiscaleImage(model) => ravel_weights::tensors_of(model),
        }
    }

    fn load(self, checkpoint: &Checkpoint, prefix: &str) -> Result<Self, TrainError> {
        Ok(match self {
            Self::VqImage(model) => Self::VqImage(ravel_weights::load(model, checkpoint, prefix)?),
            Self::MultiscaleImage(model) => {
                Self::MultiscaleImage(ravel_weights::load(model, checkpoint, prefix)?)
            }
        })
    }
}

/// A tokenizer in training.
pub struct TokenizerTask {
    recipe: Recipe,
    config: TokenizerConfig,
    pictures: Pictures,
    model: TokenizerModule,
    average: TokenizerModule,
    optimizer: Optimizer,
    codebook: Option<EmaState>,
    batches: Batches,
    seed: Seed,
    device: Device,
}

impl TokenizerTask {
    /// Draws first weights.
    ///
    /// # Errors
    /// [`TrainError::Part`] if the tokenizer's configuration is impossible.
    pub fn new(
        recipe: &Recipe,
        config: &TokenizerConfig,
        pictures: Pictures,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let seed = Seed::new(recipe.seed);
        device.seed(seed.named("first weights").number());
        let average = TokenizerModule::init(&config.model, device)?;
        average.tensors(); // Draws every parameter now, in the module's order.
        let training = device.clone().autodiff();
        let model = average.clone().fork(&training).train();
        Ok(Self {
            batches: Batches::new(seed.named("order"), pictures.train.len(), recipe.batch),
            optimizer: Optimizer::new(recipe.optimizer.clone()),
            recipe: recipe.clone(),
            config: config.clone(),
            pictures,
            model,
            average,
            codebook: None,
            seed,
            device: device.clone(),
        })
    }

    /// Trained numbers.
    pub fn parameters(&self) -> usize {
        self.average.num_params()
    }

    fn definition(&self) -> Definition {
        let weights = "tokenizer.safetensors".to_string();
        Definition {
            task: ravel_pipeline::Task::ImageTokenizer,
            name: self.recipe.name.clone(),
            description: self.recipe.description.clone(),
            licence: self.recipe.licence.clone(),
            weights: None,
            weights_type: KeptAs::default(),
            text: None,
            decoding: Default::default(),
            filling: None,
            sampler: Default::default(),
            tokenizer: Some(match self.config.model.clone() {
                TokenizerModelConfig::VqImage(config) => TokenizerPart::VqImage { weights, config },
                TokenizerModelConfig::MultiscaleImage(config) => {
                    TokenizerPart::MultiscaleImage { weights, config }
                }
            }),
            backbone: None,
            head: None,
            model: None,
            speech: None,
            sound_model: None,
            published: None,
        }
    }

    fn quantizes(&self, step: usize) -> bool {
        step >= self.config.warm_steps
    }

    /// Draws the codebook from the encoder's outputs when the quantizer is switched on.
    fn start_codebook(&mut self, pixels: Tensor<4>) {
        let latents = self.model.latents(pixels).inner();
        let [batch, width, height, columns] = latents.dims();
        let flat = latents
            .reshape([batch, width, height * columns])
            .swap_dims(1, 2)
            .reshape([batch * height * columns, width]);
        let seed = self.seed.named("first codebook");
        let mut started = None;
        self.model = self.model.clone().map_quantizer(|quantizer| {
            let (state, quantizer) = EmaState::start(quantizer, flat, seed);
            started = Some((state, quantizer.clone()));
            quantizer
        });
        if let Some((state, quantizer)) = started {
            let rows = quantizer.codebook.val().inner();
            self.average = self.average.clone().map_quantizer(|mut quantizer| {
                quantizer.codebook = quantizer.codebook.map(|_| rows);
                quantizer
            });
            self.codebook = Some(state);
        }
    }

    fn update_codebook(&mut self, step: usize, groups: Vec<(Tensor<2>, Tensor<1, Int>)>) {
        let Some(state) = &mut self.codebook else {
            return;
        };
        let redraw = (step as f64) < self.recipe.steps as f64 * (1.0 - self.config.settle);
        let seed = self.seed.named("dead codes").indexed(step as u64);
        let config = &self.config.codebook;
        self.model = self
            .model
            .clone()
            .map_quantizer(|quantizer| state.update(config, quantizer, groups, redraw, seed));
    }

    fn measured<'a>(&self, items: impl Iterator<Item = &'a Item>) -> Measured {
        let items: Vec<&Item> = items.collect();
        let quantize = self.codebook.is_some();
        let mut measured = Measured::default();
        for chunk in items.chunks(MEASURE_BATCH) {
            let pixels = self.pictures.tensor(chunk.iter().copied(), &self.device);
            let output = self.average.forward(pixels.clone(), quantize);
            let error = output.pixels.clamp(-1.0, 1.0) - pixels;
            let squares = host(error.square().flatten::<2>(1, 3).mean_dim(1));
            // The range of values is 2, so the peak's square is 4.
            let psnr = squares
                .iter()
                .map(|&square| 10.0 * (4.0 / f64::from(square)).log10());
            measured.psnr.extend(psnr);
            for (_, ids) in output.groups {
                let ids = ids.into_data().convert::<u32>().try_into_vec::<u32>();
                measured.ids.extend(ids.expect("ids were converted to u32"));
            }
        }
        measured
    }
}

#[derive(Default)]
struct Measured {
    psnr: Vec<f64>,
    ids: Vec<u32>,
}

impl Task for TokenizerTask {
    fn step(&mut self, step: usize) -> Result<BTreeMap<String, f64>, TrainError> {
        let training = self.device.clone().autodiff();
        let items = self.batches.at(step);
        let seed = self.seed.named("variation").indexed(step as u64);
        let pixels = self
            .pictures
            .varied(self.recipe.pictures()?, &items, seed, &training);
        if step == self.config.warm_steps {
            self.start_codebook(pixels.clone());
        }
        let output = self.model.forward(pixels.clone(), self.quantizes(step));
        let squares = (output.pixels.clone() - pixels.clone())
            .inner()
            .square()
            .mean();
        let mut loss = reconstruction(&self.config.reconstruction, output.pixels, pixels);
        let mut values = BTreeMap::new();
        values.insert("loss".to_string(), f64::from(host(loss.clone())[0]));
        values.insert(
            "psnr".to_string(),
            10.0 * (4.0 / f64::from(host(squares)[0])).log10(),
        );
        if let Some(commitment) = output.commitment {
            values.insert("commitment".into(), f64::from(host(commitment.clone())[0]));
            loss = loss + commitment * self.config.commitment;
        }
        if let Some(canvas_loss) = output.canvas_loss {
            loss = loss + canvas_loss;
        }
        if !values["loss"].is_finite() {
            return Err(TrainError::NotFinite {
                place: "the tokenizer's loss".into(),
            });
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
        let share = self.recipe.optimizer.rate_share(step, self.recipe.steps);
        let (model, update) = self.optimizer.step(self.model.clone(), gradients, share)?;
        self.model = model;
        self.update_codebook(step, output.groups);
        let decay = warmed(self.recipe.optimizer.average, step);
        self.average = follow(self.average.clone(), &self.model, decay);
        values.insert("gradient-norm".into(), update.gradient_norm);
        Ok(values)
    }

    fn validate(&self) -> Result<BTreeMap<String, f64>, TrainError> {
        let held_out = self.measured(self.pictures.held_out.iter());
        let step = (self.pictures.train.len() / HEALTH_PICTURES).max(1);
        let train = self.measured(self.pictures.train.iter().step_by(step));
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let mut found = BTreeMap::from([("psnr-train".to_string(), mean(&train.psnr))]);
        if !held_out.psnr.is_empty() {
            found.insert("psnr".into(), mean(&held_out.psnr));
        }
        if self.codebook.is_some() {
            let ids = held_out.ids.into_iter().chain(train.ids);
            let health = CodebookHealth::of(self.average.codebook_size(), ids);
            found.insert("codebook-usage".into(), health.usage);
            found.insert("codebook-perplexity".into(), health.perplexity);
            found.insert("codebook-dead".into(), health.dead() as f64);
        }
        Ok(found)
    }

    fn samples(&self) -> Result<Sample, TrainError> {
        let items = if self.pictures.held_out.is_empty() {
            &self.pictures.train
        } else {
            &self.pictures.held_out
        };
        let pixels = self.pictures.tensor(items.iter().take(SHEET), &self.device);
        let [count, ..] = pixels.dims();
        let back = self
            .average
            .forward(pixels.clone(), self.codebook.is_some())
            .pixels;
        let both = ravel_core::Images {
            pixels: Tensor::cat(vec![pixels, back], 0),
        };
        let pictures = ravel_media::pictures_from_images(&both);
        Ok(ravel_media::grid(&pictures, count, 2).into())
    }

    fn tensors(&self) -> Vec<(String, TensorData)> {
        let mut all: Vec<_> = named("model", self.model.tensors()).collect();
        all.extend(named("average", self.average.tensors()));
        all.extend(named("optimizer", self.optimizer.tensors()));
        if let Some(codebook) = &self.codebook {
            all.extend(named("codebook", codebook.tensors()));
        }
        all
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.model = self.model.clone().load(checkpoint, "model")?;
        self.average = self.average.clone().load(checkpoint, "average")?;
        let state = checkpoint.tensors_under("optimizer")?;
        self.optimizer.restore(state, &self.device)?;
        let codebook = checkpoint.tensors_under("codebook")?;
        self.codebook = EmaState::from_tensors(codebook);
        Ok(())
    }

    fn export(&self, folder: &Path) -> Result<(), TrainError> {
        let metadata = BTreeMap::from([("name".to_string(), self.recipe.name.clone())]);
        let path = folder.join("tokenizer.safetensors");
        ravel_weights::save(&path, self.average.tensors(), &metadata, Dtype::F16)?;
        let text = self.definition().to_toml();
        ravel_weights::atomic_write(&folder.join("tokenizer.toml"), text.as_bytes())?;
        Ok(())
    }
}
