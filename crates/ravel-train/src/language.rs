//! Training of a language model on plain text: byte pairs first, then next-token prediction.
//!
//! A step reads stretches of `context` ids from random places of the training text; what each id predicts is the next one.
//! Held-out text is measured in nats per id and, so that vocabularies can be compared, in bits per byte.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_backbone::Transformer;
use ravel_core::{Codes, Condition, Decoding, Generator, Layout, Seed, Start};
use ravel_decode::OneByOne;
use ravel_heads::{HeadConfig, NextToken, NextTokenConfig, StartKind};
use ravel_pipeline::{BackbonePart, Costs, Definition, KeptAs, TextPart, WeightsType};
use ravel_text::{END_OF_TEXT, Vocabulary};
use ravel_weights::Checkpoint;

use crate::learner::{Learned, Learner};
use crate::run::{Sample, StepWork, Task};
use crate::{LanguageConfig, Recipe, TrainError, cross_entropy, host};

/// What stands between paragraphs; no subword reaches over it.
const PARAGRAPHS: &str = "\n\n";
/// Stretches measured at a time.
const MEASURED: usize = 8;
/// Ids given and made for each text of a sample.
const SAMPLE: (usize, usize) = (12, 100);
/// Texts of a sample.
const SAMPLES: usize = 4;

/// The sequence model and what it predicts.
#[derive(Module, Debug)]
pub struct LanguageModel {
    /// The sequence model.
    pub backbone: Transformer,
    /// Predicts the next id.
    pub head: NextToken,
}

impl Learned for LanguageModel {}

impl LanguageModel {
    /// What a step on stretches of so many ids does.
    pub(crate) fn work(&self, rows: usize, context: usize) -> StepWork {
        let costs = Costs::of(&self.backbone, &self.head, WeightsType::F32);
        StepWork {
            tokens: rows * context,
            work: costs.training_step(rows, context, context),
        }
    }

    /// Mean cross-entropy of each row's ids after its first, in nats.
    ///
    /// # Shapes
    /// - `ids`: `[batch, context + 1]`
    pub(crate) fn loss(&self, ids: Tensor<2, Int>) -> Tensor<1> {
        let [_, n] = ids.dims();
        let condition = Condition {
            prefix: Some(self.head.embedded(ids.clone().narrow(1, 0, 1))),
            ..Condition::default()
        };
        let targets = ids.narrow(1, 1, n - 1);
        let input = self.head.inputs(targets.clone(), &condition);
        let hidden = self.backbone.forward(input, &condition);
        cross_entropy(self.head.logits_of(hidden), targets)
    }
}

/// Ids of some files, with the bytes that they stand for.
struct Text {
    ids: Vec<u32>,
    bytes: usize,
}

/// A language model in training.
pub struct LanguageTask {
    recipe: Recipe,
    config: LanguageConfig,
    vocabulary: Vocabulary,
    train: Text,
    held_out: Text,
    learner: Learner<LanguageModel>,
    seed: Seed,
    device: Device,
}

impl LanguageTask {
    /// Reads the texts, learns the vocabulary and draws first weights.
    ///
    /// # Errors
    /// [`TrainError`] if a file is no text or has fewer ids than a stretch, or a size is impossible.
    pub fn new(
        recipe: &Recipe,
        config: &LanguageConfig,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let texts = config.train.iter().map(|path| read(path));
        let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
        let paragraphs = texts.iter().flat_map(|text| {
            let parts = text.split_inclusive(PARAGRAPHS);
            parts.map(String::from).collect::<Vec<_>>()
        });
        let vocabulary = Vocabulary::train(paragraphs, config.vocabulary_size)?;
        let train = encoded(&texts, &vocabulary)?;
        let held_out = config.held_out.iter().map(|path| read(path));
        let held_out = encoded(&held_out.collect::<Result<Vec<_>, _>>()?, &vocabulary)?;
        for (text, paths) in [(&train, &config.train), (&held_out, &config.held_out)] {
            if let Some(path) = paths.first()
                && text.ids.len() <= config.context
            {
                return Err(TrainError::Data {
                    path: path.clone(),
                    reason: format!(
                        "{} ids of text, more than the context of {} are needed",
                        text.ids.len(),
                        config.context
                    ),
                });
            }
        }
        let seed = Seed::new(recipe.seed);
        device.seed(seed.named("first weights").number());
        let average = first_weights(config, &vocabulary, device)?;
        Ok(Self {
            learner: Learner::new(average, recipe, device),
            recipe: recipe.clone(),
            config: config.clone(),
            vocabulary,
            train,
            held_out,
            seed,
            device: device.clone(),
        })
    }

    /// Trained numbers.
    pub fn parameters(&self) -> usize {
        self.learner.average.num_params()
    }

    /// `[starts, context + 1]`.
    fn stretches(&self, ids: &[u32], starts: &[usize], device: &Device) -> Tensor<2, Int> {
        let len = self.config.context + 1;
        let values = starts.iter().flat_map(|&start| &ids[start..start + len]);
        let values: Vec<i32> = values.map(|&id| id as i32).collect();
        Tensor::from_data(
            TensorData::new::<i32, _>(values, [starts.len(), len]),
            device,
        )
    }

    /// Where a step reads.
    fn starts(&self, step: usize) -> Vec<usize> {
        let places = (self.train.ids.len() - self.config.context) as u64;
        let mut random = self.seed.named("places").indexed(step as u64).stream();
        (0..self.recipe.batch)
            .map(|_| (random.next_u64() % places) as usize)
            .collect()
    }

    /// Mean nats per held-out id.
    fn held_out_loss(&self) -> f64 {
        let context = self.config.context;
        let all = (self.held_out.ids.len() - 1) / context;
        let step = all.div_ceil(self.config.validate_stretches).max(1);
        let starts: Vec<usize> = (0..all).step_by(step).map(|at| at * context).collect();
        let sums = starts.chunks(MEASURED).map(|chunk| {
            let ids = self.stretches(&self.held_out.ids, chunk, &self.device);
            f64::from(host(self.learner.average.loss(ids))[0]) * chunk.len() as f64
        });
        sums.sum::<f64>() / starts.len() as f64
    }

    fn definition(&self) -> Definition {
        Definition {
            task: ravel_pipeline::Task::TextGeneration,
            name: self.recipe.name.clone(),
            description: self.recipe.description.clone(),
            licence: self.recipe.licence.clone(),
            weights: Some("model.safetensors".into()),
            weights_type: KeptAs::default(),
            text: Some(TextPart::Vocabulary {
                file: "tokenizer.json".into(),
                context: self.config.context,
                end: vec![END_OF_TEXT.into()],
            }),
            tokenizer: None,
            backbone: Some(BackbonePart::Transformer {
                config: self.config.backbone.clone(),
            }),
            head: Some(HeadConfig::NextToken(head_config(
                &self.config,
                &self.vocabulary,
            ))),
            decoding: Default::default(),
            filling: None,
            sampler: self.config.sampler.clone(),
            model: None,
            speech: None,
            sound_model: None,
            published: None,
        }
    }

    /// How some ids go on, sampled.
    fn continued(&self, given: &[u32], row: u64) -> Result<String, TrainError> {
        let ids: Vec<i32> = given.iter().map(|&id| id as i32).collect();
        let ids = TensorData::new::<i32, _>(ids, [1, given.len()]);
        let ids = Tensor::<2, Int>::from_data(ids, &self.device);
        let condition = Condition {
            prefix: Some(self.learner.average.head.embedded(ids)),
            ..Condition::default()
        };
        let most = self.config.context.saturating_sub(given.len()).max(1);
        let layout = Layout::Sequence {
            len: SAMPLE.1.min(most),
        };
        let prompt = Codes {
            ids: Tensor::zeros([1, 1, 0], &self.device),
            layout: layout.clone(),
        };
        let generator = Generator {
            backbone: &self.learner.average.backbone,
            head: &self.learner.average.head,
            pyramid: None,
        };
        let seed = self.seed.named("samples");
        let mut sampler = self.config.sampler.build(seed, &[row], layout.len());
        let codes = OneByOne.decode(
            &generator,
            Start { condition, prompt },
            &layout,
            &mut *sampler,
            &mut |_, _| ControlFlow::Continue(()),
        )?;
        let made = codes.to_host().remove(0);
        Ok(self.vocabulary.decode(&made, true)?)
    }
}

impl Task for LanguageTask {
    fn step(&mut self, step: usize) -> Result<BTreeMap<String, f64>, TrainError> {
        self.learner.begin(step);
        let training = self.device.clone().autodiff();
        let ids = self.stretches(&self.train.ids, &self.starts(step), &training);
        let loss = self.learner.model.loss(ids);
        self.learner.update(loss, step, "the language model's loss")
    }

    fn validate(&self) -> Result<BTreeMap<String, f64>, TrainError> {
        if self.held_out.ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let loss = self.held_out_loss();
        let ids_per_byte = self.held_out.ids.len() as f64 / self.held_out.bytes as f64;
        Ok(BTreeMap::from([
            ("loss".to_string(), loss),
            ("perplexity".to_string(), loss.exp()),
            (
                "bits-per-byte".to_string(),
                loss / std::f64::consts::LN_2 * ids_per_byte,
            ),
        ]))
    }

    fn samples(&self) -> Result<Sample, TrainError> {
        let text = match self.held_out.ids.is_empty() {
            true => &self.train,
            false => &self.held_out,
        };
        let given = SAMPLE.0.min(self.config.context);
        let mut shown = String::new();
        for row in 0..SAMPLES {
            let start = row * (text.ids.len() - given) / SAMPLES;
            let given = &text.ids[start..start + given];
            shown += &self.vocabulary.decode(given, true)?;
            shown += "|";
            shown += &self.continued(given, row as u64)?;
            shown += "\n-----\n";
        }
        Ok(Sample {
            extension: "txt",
            bytes: shown.into_bytes(),
        })
    }

    fn work(&self) -> Option<StepWork> {
        let rows = self.recipe.batch;
        Some(self.learner.average.work(rows, self.config.context))
    }

    fn tensors(&self) -> Vec<(String, TensorData)> {
        self.learner.tensors()
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.learner.restore(checkpoint)
    }

    fn export(&self, folder: &Path) -> Result<(), TrainError> {
        self.learner.export(&folder.join("model.safetensors"))?;
        ravel_weights::atomic_write(
            &folder.join("tokenizer.json"),
            self.vocabulary.to_json().as_bytes(),
        )?;
        ravel_weights::atomic_write(
            &folder.join("pipeline.toml"),
            self.definition().to_toml().as_bytes(),
        )?;
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, TrainError> {
    let wrong = |reason: String| TrainError::Data {
        path: path.into(),
        reason,
    };
    let bytes = std::fs::read(path).map_err(|error| {
        wrong(format!(
            "{error} (`make data-text` builds the default text)"
        ))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        wrong(format!(
            "not UTF-8 from byte {} on",
            error.utf8_error().valid_up_to()
        ))
    })
}

/// All texts one after the other, each closed by the end token.
fn encoded(texts: &[String], vocabulary: &Vocabulary) -> Result<Text, TrainError> {
    let end = vocabulary
        .id(END_OF_TEXT)
        .expect("a vocabulary learned here has an end token");
    let mut all = Text {
        ids: Vec::new(),
        bytes: texts.iter().map(String::len).sum(),
    };
    for text in texts {
        for paragraph in text.split_inclusive(PARAGRAPHS) {
            all.ids.extend(vocabulary.encode(paragraph, false)?.ids);
        }
        all.ids.push(end);
    }
    Ok(all)
}

/// The head of a language model: what is given stands in front, its last id predicts the first new one.
fn head_config(config: &LanguageConfig, vocabulary: &Vocabulary) -> NextTokenConfig {
    NextTokenConfig {
        codebook_size: vocabulary.size(),
        start: StartKind::Prefix,
        positions: false,
        tie: config.tie,
        causal_prefix: true,
        ..NextTokenConfig::default()
    }
}

/// The model before its first step, every parameter drawn in the module's order.
fn first_weights(
    config: &LanguageConfig,
    vocabulary: &Vocabulary,
    device: &Device,
) -> Result<LanguageModel, TrainError> {
    config.backbone.validate()?;
    let head = head_config(config, vocabulary);
    let layout = Layout::Sequence {
        len: config.context,
    };
    let model = LanguageModel {
        backbone: config.backbone.init(device),
        head: head.init(
            config.backbone.d_model,
            config.backbone.axes(),
            &layout,
            device,
        ),
    };
    model.tensors(); // Draws every parameter now, in the module's order.
    Ok(model)
}
