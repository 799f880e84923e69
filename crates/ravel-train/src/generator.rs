//! Training of a text-to-image generator over the codes of a finished tokenizer.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_backbone::Transformer;
use ravel_core::{
    Codes, Decoding, Generator, Head, ImageTokenizer, Images, Layout, Pyramid, Seed, Start,
};
use ravel_decode::{OneByOne, SamplerConfig};
use ravel_heads::{HeadConfig, NextScale, NextToken, PrefixConfig, PrefixEmbedding};
use ravel_pipeline::{BackbonePart, Costs, Definition, KeptAs, Source, TextPart, WeightsType};
use ravel_text::{Span, Subwords};
use ravel_weights::Checkpoint;

use crate::code_table::{CodeTable, ENCODE_BATCH};
use crate::learner::{Learned, Learner, named};
use crate::run::{Sample, StepWork, Task};
use crate::self_correct::{Lesson, Shown, self_corrected};
use crate::{
    Batches, GeneratorConfig, Item, Pictures, Recipe, TrainError, cross_entropy, host,
    soft_answers, soft_cross_entropy,
};

/// Captions on a sample sheet, half of them held out.
const SHEET: usize = 16;

/// All that is trained together: text prefix, sequence model and head.
#[derive(Module, Debug)]
pub struct TextToImageModel {
    /// Embeds the prompt's ids.
    pub prefix: PrefixEmbedding,
    /// The sequence model.
    pub backbone: Transformer,
    /// Predicts codes.
    pub head: HeadModule,
}

/// A head that can be trained.
#[derive(Module, Debug)]
pub enum HeadModule {
    /// One token after another.
    NextToken(NextToken),
    /// One scale after another.
    NextScale(NextScale),
}

impl HeadModule {
    /// The head as the decoding loop sees it.
    pub fn as_head(&self) -> &dyn Head {
        match self {
            Self::NextToken(head) => head,
            Self::NextScale(head) => head,
        }
    }
}

/// The exported file has no word for the kind of head.
impl Learned for TextToImageModel {
    fn tensors(&self) -> Vec<(String, TensorData)> {
        let head = match &self.head {
            HeadModule::NextToken(head) => ravel_weights::tensors_of(head),
            HeadModule::NextScale(head) => ravel_weights::tensors_of(head),
        };
        let mut all: Vec<_> = named("prefix", ravel_weights::tensors_of(&self.prefix)).collect();
        all.extend(named("backbone", ravel_weights::tensors_of(&self.backbone)));
        all.extend(named("head", head));
        all
    }

    fn load(self, checkpoint: &Checkpoint, prefix: &str) -> Result<Self, TrainError> {
        let part = |name: &str| match prefix {
            "" => name.to_string(),
            prefix => format!("{prefix}.{name}"),
        };
        Ok(Self {
            prefix: ravel_weights::load(self.prefix, checkpoint, &part("prefix"))?,
            backbone: ravel_weights::load(self.backbone, checkpoint, &part("backbone"))?,
            head: match self.head {
                HeadModule::NextToken(head) => {
                    HeadModule::NextToken(ravel_weights::load(head, checkpoint, &part("head"))?)
                }
                HeadModule::NextScale(head) => {
                    HeadModule::NextScale(ravel_weights::load(head, checkpoint, &part("head"))?)
                }
            },
        })
    }
}

impl TextToImageModel {
    /// The weights that a finished run wrote.
    fn load_run(self, folder: &Path, text: &Subwords) -> Result<Self, TrainError> {
        check_subwords(folder, text)?;
        let checkpoint = Checkpoint::open(&folder.join("generator.safetensors"))?;
        self.load(&checkpoint, "")
    }
}

/// Checks that a finished run had the same subwords.
///
/// # Errors
/// [`TrainError::Recipe`] if not, or if it had none.
pub(crate) fn check_subwords(folder: &Path, text: &Subwords) -> Result<(), TrainError> {
    let path = folder.join("text.json");
    let wrong = |reason: &str| TrainError::Recipe {
        path: path.display().to_string(),
        reason: reason.into(),
    };
    let found = Subwords::open(&path).map_err(|error| wrong(&error.to_string()))?;
    match found.to_json() == text.to_json() {
        true => Ok(()),
        false => Err(wrong(
            "its subwords are not those of this recipe's captions (`start-from` needs the same data and text settings)",
        )),
    }
}

/// A generator in training.
pub struct GeneratorTask {
    recipe: Recipe,
    config: GeneratorConfig,
    pictures: Pictures,
    train_codes: CodeTable,
    held_out_codes: CodeTable,
    text: Subwords,
    /// Prompts of each training picture: the caption's, then its alternates'.
    prompts: Vec<Vec<Vec<u32>>>,
    /// Latents of each training picture, one after the other, where mistakes are to be mended.
    latents: Vec<f32>,
    /// Answers spread over neighbouring codes, `[codebook_size, codebook_size]`, where they are to be.
    answers: Option<Tensor<2>>,
    tokenizer_definition: Definition,
    tokenizer: Box<dyn ImageTokenizer>,
    learner: Learner<TextToImageModel>,
    batches: Batches,
    seed: Seed,
    device: Device,
}

impl GeneratorTask {
    /// Reads the tokenizer, trains the subwords, encodes all pictures and draws first weights.
    ///
    /// # Errors
    /// [`TrainError`] if the tokenizer does not fit the recipe or a caption is too long.
    pub fn new(
        recipe: &Recipe,
        config: &GeneratorConfig,
        pictures: Pictures,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let (tokenizer_definition, tokenizer) = open_tokenizer(&config.tokenizer, device)?;
        let text = train_subwords(&pictures, config)?;
        let prompts = pictures
            .train
            .iter()
            .map(|item| {
                std::iter::once(&item.caption)
                    .chain(&item.alternates)
                    .map(|caption| text.prompt(caption, config.text_length))
                    .collect::<Result<Vec<_>, _>>()
            })
            .collect::<Result<Vec<_>, _>>()?;
        let train_codes = CodeTable::encode(&*tokenizer, &pictures, &pictures.train, device)?;
        let held_out_codes = CodeTable::encode(&*tokenizer, &pictures, &pictures.held_out, device)?;
        let latents = match config.self_correct {
            true => latents_of(&*tokenizer, &pictures, device)?,
            false => Vec::new(),
        };
        let answers = (config.soft_codes > 0.0)
            .then(|| soft_answers(tokenizer.codebook(), config.soft_codes));
        let seed = Seed::new(recipe.seed);
        device.seed(seed.named("first weights").number());
        let mut average = first_weights(config, &text, &*tokenizer, device)?;
        if let Some(folder) = &config.start_from {
            average = average.load_run(folder, &text)?;
        }
        Ok(Self {
            batches: Batches::new(seed.named("order"), pictures.train.len(), recipe.batch),
            learner: Learner::new(average, recipe, device),
            recipe: recipe.clone(),
            config: config.clone(),
            pictures,
            train_codes,
            held_out_codes,
            text,
            prompts,
            latents,
            answers,
            tokenizer_definition,
            tokenizer,
            seed,
            device: device.clone(),
        })
    }

    /// Trained numbers.
    pub fn parameters(&self) -> usize {
        self.learner.average.num_params()
    }

    /// Prompt ids of the items of a step, some replaced by an alternate or by the empty prompt.
    fn captions(&self, step: usize, items: &[usize]) -> Vec<u32> {
        let seed = self.seed.named("captions").indexed(step as u64);
        let chance = |random: &mut dyn FnMut() -> u32| f64::from(random()) / f64::from(u32::MAX);
        items
            .iter()
            .enumerate()
            .flat_map(|(row, &item)| {
                let mut stream = seed.indexed(row as u64).stream();
                let mut random = || stream.next_u32();
                let prompts = &self.prompts[item];
                if chance(&mut random) < self.config.drop_caption {
                    return self.text.empty_prompt(self.config.text_length);
                }
                let other = chance(&mut random) < self.config.alternate_caption;
                match prompts.len() - 1 {
                    alternates if other && alternates > 0 => {
                        prompts[1 + random() as usize % alternates].clone()
                    }
                    _ => prompts[0].clone(),
                }
            })
            .collect()
    }

    /// Scores of codes, from the prompts and from what a lesson shows, `[batch, positions, codebook_size]`.
    fn scores(model: &TextToImageModel, prompts: Tensor<2, Int>, shown: Shown) -> Tensor<3> {
        let condition = model.prefix.condition(prompts);
        match (&model.head, shown) {
            (HeadModule::NextToken(head), Shown::Codes(codes)) => {
                let input = head.inputs(codes, &condition);
                head.logits_of(model.backbone.forward(input, &condition))
            }
            (HeadModule::NextScale(head), Shown::Canvas(features)) => {
                let input = head.inputs(features, &condition);
                head.logits_of(model.backbone.forward(input, &condition))
            }
            _ => unreachable!("a next-scale head, and no other, is shown a canvas"),
        }
    }

    /// Cross-entropy of the lesson's codes, or of the answers spread around them.
    fn training_loss(&self, prompts: Tensor<2, Int>, lesson: Lesson) -> Tensor<1> {
        let scores = Self::scores(&self.learner.model, prompts, lesson.shown);
        match &self.answers {
            None => cross_entropy(scores, lesson.targets),
            Some(answers) => {
                let answers = Tensor::from_inner(answers.clone());
                soft_cross_entropy(scores, lesson.targets, answers)
            }
        }
    }

    /// `targets` are to be predicted from `codes`. What is shown is computed outside the graph, since the tokenizer is frozen.
    fn lesson(&self, codes: Tensor<2, Int>, targets: Tensor<2, Int>) -> Lesson {
        let shown = match &self.learner.average.head {
            HeadModule::NextToken(_) => Shown::Codes(codes),
            HeadModule::NextScale(_) => Shown::Canvas(teacher_features(self.pyramid(), codes)),
        };
        Lesson { shown, targets }
    }

    fn pyramid(&self) -> &dyn Pyramid {
        self.tokenizer
            .pyramid()
            .expect("a next-scale head was built on a pyramid")
    }

    /// What a step shows and asks.
    fn lesson_of_step(&self, step: usize, items: &[usize]) -> Lesson {
        let (table, device) = (&self.train_codes, &self.device);
        let seed = self.seed.named("corrupt codes").indexed(step as u64);
        let share = self.config.corrupt_codes;
        if self.config.self_correct {
            let mistakes = table.mistakes(items, share, seed, device);
            let latents = self.latents_of_items(items);
            return self_corrected(self.pyramid(), &latents, &mistakes);
        }
        let codes = table.rows(items, device);
        let shown = match share {
            0.0 => codes.clone(),
            share => table.corrupted_rows(items, share, seed, device),
        };
        self.lesson(shown, codes)
    }

    /// `[items, code_width, height, width]`.
    fn latents_of_items(&self, items: &[usize]) -> Tensor<4> {
        let pyramid = self.pyramid();
        let &(height, width) = pyramid.sides().last().expect("there is a scale");
        let shape = [items.len(), pyramid.code_width(), height, width];
        let size = shape[1] * height * width;
        let values: Vec<f32> = items
            .iter()
            .flat_map(|item| &self.latents[item * size..(item + 1) * size])
            .copied()
            .collect();
        Tensor::from_data(TensorData::new::<f32, _>(values, shape), &self.device)
    }

    /// Mean loss over held-out pictures, per token.
    fn held_out_loss(&self) -> Result<f64, TrainError> {
        let items: Vec<usize> = (0..self.pictures.held_out.len()).collect();
        let mut total = 0.0;
        for chunk in items.chunks(ENCODE_BATCH) {
            let mut ids = Vec::new();
            for &item in chunk {
                let caption = &self.pictures.held_out[item].caption;
                ids.extend(self.text.prompt(caption, self.config.text_length)?);
            }
            let prompts = self.prompt_tensor(ids, &self.device);
            let codes = self.held_out_codes.rows(chunk, &self.device);
            let lesson = self.lesson(codes.clone(), codes);
            let scores = Self::scores(&self.learner.average, prompts, lesson.shown);
            let loss = cross_entropy(scores, lesson.targets);
            total += f64::from(host(loss)[0]) * chunk.len() as f64;
        }
        Ok(total / items.len().max(1) as f64)
    }

    fn prompt_tensor(&self, ids: Vec<u32>, device: &Device) -> Tensor<2, Int> {
        let len = self.config.text_length;
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        let shape = [ids.len() / len, len];
        Tensor::from_data(TensorData::new::<i32, _>(ids, shape), device)
    }

    fn generate(&self, captions: &[&str]) -> Result<Images, TrainError> {
        let mut ids = Vec::new();
        for caption in captions {
            ids.extend(self.text.prompt(caption, self.config.text_length)?);
        }
        let condition = self
            .learner
            .average
            .prefix
            .condition(self.prompt_tensor(ids, &self.device));
        let layout = self.tokenizer.image_spec().layout.clone();
        let prompt = Codes {
            ids: Tensor::zeros([captions.len(), 1, 0], &self.device),
            layout: layout.clone(),
        };
        let generator = Generator {
            backbone: &self.learner.average.backbone,
            head: self.learner.average.head.as_head(),
            pyramid: self.tokenizer.pyramid(),
        };
        let greedy = SamplerConfig {
            temperature: 0.0,
            ..SamplerConfig::default()
        };
        let rows: Vec<u64> = (0..captions.len() as u64).collect();
        let units = generator.head.units(&layout).len();
        let mut sampler = greedy.build(self.seed.named("samples"), &rows, units);
        let codes = OneByOne.decode(
            &generator,
            Start { condition, prompt },
            &layout,
            &mut *sampler,
            &mut |_, _| ControlFlow::Continue(()),
        )?;
        Ok(self.tokenizer.decode(&codes)?)
    }
}

impl Task for GeneratorTask {
    fn step(&mut self, step: usize) -> Result<BTreeMap<String, f64>, TrainError> {
        self.learner.begin(step);
        let training = self.device.clone().autodiff();
        let items = self.batches.at(step);
        let prompts = self.prompt_tensor(self.captions(step, &items), &training);
        let lesson = self.lesson_of_step(step, &items).for_training();
        let loss = self.training_loss(prompts, lesson);
        self.learner.update(loss, step, "the generator's loss")
    }

    fn validate(&self) -> Result<BTreeMap<String, f64>, TrainError> {
        if self.pictures.held_out.is_empty() {
            return Ok(BTreeMap::new());
        }
        let loss = self.held_out_loss()?;
        Ok(BTreeMap::from([("loss".to_string(), loss)]))
    }

    fn samples(&self) -> Result<Sample, TrainError> {
        let spread = |items: &[Item], count: usize| -> Vec<String> {
            let step = (items.len() / count.max(1)).max(1);
            let captions = items.iter().step_by(step).take(count);
            captions.map(|item| item.caption.clone()).collect()
        };
        let mut captions = spread(&self.pictures.train, SHEET / 2);
        captions.extend(spread(&self.pictures.held_out, SHEET / 2));
        let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        let pictures = ravel_media::pictures_from_images(&self.generate(&captions)?);
        Ok(ravel_media::grid(&pictures, SHEET / 2, 2).into())
    }

    fn work(&self) -> Option<StepWork> {
        let model = &self.learner.average;
        let costs = match &model.head {
            HeadModule::NextToken(head) => Costs::of(&model.backbone, head, WeightsType::F32),
            HeadModule::NextScale(head) => Costs::of(&model.backbone, head, WeightsType::F32),
        };
        let (rows, codes) = (self.recipe.batch, self.tokenizer.image_spec().layout.len());
        Some(StepWork {
            tokens: rows * codes,
            work: costs.training_step(rows, self.config.text_length + codes, codes),
        })
    }

    fn tensors(&self) -> Vec<(String, TensorData)> {
        self.learner.tensors()
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.learner.restore(checkpoint)
    }

    fn export(&self, folder: &Path) -> Result<(), TrainError> {
        self.learner.export(&folder.join("generator.safetensors"))?;
        self.text.save(&folder.join("text.json"))?;
        copy(&self.config.tokenizer, folder, "tokenizer.safetensors")?;
        let definition = Definition {
            task: ravel_pipeline::Task::TextToImage,
            name: self.recipe.name.clone(),
            description: self.recipe.description.clone(),
            licence: self.recipe.licence.clone(),
            weights: Some("generator.safetensors".into()),
            weights_type: KeptAs::default(),
            text: Some(TextPart::Subword {
                file: "text.json".into(),
                length: self.config.text_length,
            }),
            tokenizer: self.tokenizer_definition.tokenizer.clone(),
            backbone: Some(BackbonePart::Transformer {
                config: self.config.backbone.clone(),
            }),
            head: Some(self.config.head.clone()),
            decoding: Default::default(),
            filling: None,
            sampler: self.config.sampler.clone(),
            model: None,
            speech: None,
            sound_model: None,
            published: None,
        };
        ravel_weights::atomic_write(
            &folder.join("pipeline.toml"),
            definition.to_toml().as_bytes(),
        )?;
        Ok(())
    }
}

pub(crate) fn copy(from: &Path, to: &Path, name: &str) -> Result<(), TrainError> {
    let path = from.join(name);
    let bytes = std::fs::read(&path).map_err(|source| TrainError::File { path, source })?;
    ravel_weights::atomic_write(&to.join(name), &bytes)?;
    Ok(())
}

/// Latents of all training pictures, one after the other.
fn latents_of(
    tokenizer: &dyn ImageTokenizer,
    pictures: &Pictures,
    device: &Device,
) -> Result<Vec<f32>, TrainError> {
    let mut all = Vec::new();
    for chunk in pictures.train.chunks(ENCODE_BATCH) {
        let pixels = pictures.tensor(chunk, device);
        all.extend(host(tokenizer.latents(Images { pixels })?));
    }
    Ok(all)
}

type OpenTokenizer = (Definition, Box<dyn ImageTokenizer>);

fn open_tokenizer(folder: &Path, device: &Device) -> Result<OpenTokenizer, TrainError> {
    let path = folder.join("tokenizer.toml");
    let wrong = |reason: String| TrainError::Recipe {
        path: path.display().to_string(),
        reason,
    };
    let text = std::fs::read_to_string(&path)
        .map_err(|error| wrong(format!("{error} (train the tokenizer's recipe first)")))?;
    let definition = Definition::parse(&path.display().to_string(), &text)
        .map_err(|error| wrong(error.to_string()))?;
    let source = Source::Folder(folder.to_path_buf());
    let tokenizer = definition
        .tokenizer_part()
        .and_then(|part| ravel_pipeline::build_tokenizer(part, &source, device))
        .map_err(|error| wrong(error.to_string()))?;
    Ok((definition, tokenizer))
}

fn train_subwords(pictures: &Pictures, config: &GeneratorConfig) -> Result<Subwords, TrainError> {
    let captions = pictures.train.iter().flat_map(|item| {
        std::iter::once(item.caption.clone()).chain(item.alternates.iter().cloned())
    });
    let span = match config.phrases {
        true => Span::Phrases,
        false => Span::Words,
    };
    Ok(Subwords::train(
        captions,
        config.vocabulary_size,
        span,
        &config.rewrites,
    )?)
}

/// The model before its first step, every parameter drawn in the module's order.
fn first_weights(
    config: &GeneratorConfig,
    text: &Subwords,
    tokenizer: &dyn ImageTokenizer,
    device: &Device,
) -> Result<TextToImageModel, TrainError> {
    config.backbone.validate()?;
    let width = config.backbone.d_model;
    let layout: &Layout = &tokenizer.image_spec().layout;
    let axes = config.backbone.axes();
    let prefix = PrefixConfig {
        vocabulary_size: text.vocabulary_size(),
        len: config.text_length,
        ..PrefixConfig::default()
    };
    let head = match &config.head {
        HeadConfig::NextToken(head) => {
            let built = head.init(width, axes, layout, device);
            HeadModule::NextToken(match head.code_width {
                Some(_) => built.with_codebook(tokenizer.codebook()),
                None => built,
            })
        }
        HeadConfig::NextScale(head) if tokenizer.pyramid().is_some() => {
            HeadModule::NextScale(head.init(width, axes, layout, device))
        }
        other @ (HeadConfig::NextFrame(_) | HeadConfig::NextTokens(_)) => {
            return Err(ravel_core::Error::Config {
                field: "head.kind".into(),
                found: other.kind().into(),
                expected: "a head that predicts pictures".into(),
            }
            .into());
        }
        HeadConfig::NextScale(_) => {
            return Err(ravel_core::Error::Config {
                field: "head.kind".into(),
                found: "next-scale".into(),
                expected: "next-token, since the tokenizer has one grid".into(),
            }
            .into());
        }
    };
    let model = TextToImageModel {
        prefix: prefix.init(width, device),
        backbone: config.backbone.init(device),
        head,
    };
    model.tensors(); // Draws every parameter now, in the module's order.
    Ok(model)
}

/// The features of scales after the first, `[batch, positions after the first scale, code_width]`.
fn teacher_features(pyramid: &dyn Pyramid, codes: Tensor<2, Int>) -> Tensor<3> {
    let sides = pyramid.sides();
    let [batch, _] = codes.dims();
    let mut start = 0;
    let mut canvas = None;
    let mut features = Vec::new();
    for (scale, (height, width)) in sides.iter().enumerate() {
        if let Some(canvas) = &canvas {
            features.push(pyramid.features_for(canvas, scale));
        }
        if scale + 1 < sides.len() {
            let end = start + height * width;
            let ids = codes.clone().slice([0..batch, start..end]);
            canvas = Some(pyramid.add_scale(canvas, scale, ids.unsqueeze_dim(1)));
            start = end;
        }
    }
    Tensor::cat(features, 1)
}
