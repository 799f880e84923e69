//! Training of a next-frame generator on the changes that a finished video tokenizer finds.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_backbone::Transformer;
use ravel_core::{Condition, Images, Seed, VideoTokenizer};
use ravel_decode::{FillingConfig, FrameStream, SamplerConfig};
use ravel_heads::{HeadConfig, NextFrame, PrefixEmbedding};
use ravel_pipeline::{BackbonePart, Definition, KeptAs, Source, TextPart};
use ravel_weights::Checkpoint;

use crate::clip_captions::ClipCaptions;
use crate::clips::{ClipItem, Clips, Part};
use crate::generator::{check_subwords, copy};
use crate::learner::{Learned, Learner};
use crate::lessons::{Guess, LessonBook, Lessons, Shown};
use crate::recipe::VideoGeneratorConfig;
use crate::run::{Sample, Task};
use crate::{Batches, Recipe, TrainError, host};

/// Held-out clips that are continued for a validation, the frames given, and the new ones.
const CONTINUED: usize = 24;
const GIVEN: usize = 4;
const NEW: usize = 12;
/// Clips on a sample sheet.
const SHEET: usize = 6;

/// All that is trained together.
#[derive(Module, Debug)]
pub struct VideoModel {
    /// What it is told in words, if anything.
    pub prefix: Option<PrefixEmbedding>,
    /// The sequence model.
    pub backbone: Transformer,
    /// Predicts codes.
    pub head: NextFrame,
}

impl Learned for VideoModel {}

/// A next-frame generator in training.
pub struct VideoGeneratorTask {
    recipe: Recipe,
    config: VideoGeneratorConfig,
    clips: Clips,
    book: LessonBook,
    captions: Option<ClipCaptions>,
    tokenizer_definition: Definition,
    tokenizer: Box<dyn VideoTokenizer>,
    learner: Learner<VideoModel>,
    /// The first weights, where codes are guessed by them.
    guesser: Option<VideoModel>,
    batches: Batches,
    seed: Seed,
    device: Device,
}

impl VideoGeneratorTask {
    /// Reads the tokenizer and draws first weights.
    ///
    /// # Errors
    /// [`TrainError`] if the tokenizer does not fit the recipe, or a clip is too short.
    pub fn new(
        recipe: &Recipe,
        config: &VideoGeneratorConfig,
        clips: Clips,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let (tokenizer_definition, tokenizer) = open_tokenizer(&config.tokenizer, device)?;
        let spec = tokenizer.video_spec().clone();
        config.backbone.validate()?;
        config.head.validate_for(&spec, config.backbone.axes())?;
        let measured = given(spec.group) + NEW.div_ceil(spec.group) * spec.group;
        clips.check_length((1 + config.groups * spec.group).max(measured))?;
        let seed = Seed::new(recipe.seed);
        let captions = match &config.text {
            Some(text) => Some(ClipCaptions::new(text, &clips, seed.named("captions"))?),
            None => None,
        };
        device.seed(seed.named("first weights").number());
        let width = config.backbone.d_model;
        let prefix = captions
            .as_ref()
            .map(|captions| captions.prefix().init(width, device));
        let mut average = VideoModel {
            prefix,
            backbone: config.backbone.init(device),
            head: config.head.init(width, spec.grid, device),
        };
        average.tensors(); // Draws every parameter now, in the module's order.
        if let Some(folder) = &config.start_from {
            if let Some(captions) = &captions {
                check_subwords(folder, &captions.subwords)?;
            }
            let checkpoint = Checkpoint::open(&folder.join("generator.safetensors"))?;
            average = average.load(&checkpoint, "")?;
        }
        let shown = Shown {
            clean: config.clean,
            corrupt_codes: config.corrupt_codes,
            own_codes: config.own_codes,
            recolour: config.recolour,
        };
        Ok(Self {
            batches: Batches::new(seed.named("order"), clips.train.len(), recipe.batch),
            book: LessonBook::new(shown, clips.size, seed.named("lessons")),
            guesser: (config.own_codes > 0.0).then(|| average.clone()),
            learner: Learner::new(average, recipe, device),
            recipe: recipe.clone(),
            config: config.clone(),
            clips,
            captions,
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

    /// Which codes a step shows, frame by frame: none in half of the frames, in the others a share that the cosine of a random
    /// number draws (Chang et al. 2022, section 3.1). The others are -1.
    fn known(&self, lessons: &Lessons, step: usize) -> Tensor<2, Int> {
        let positions = self.tokenizer.video_spec().positions();
        let targets = lessons.targets.to_data().convert::<i32>();
        let mut known: Vec<i32> = targets
            .try_into_vec()
            .expect("targets were converted to i32");
        let mut random = self.seed.named("hidden").indexed(step as u64).stream();
        let mut chance = || f64::from(random.next_u32()) / f64::from(u32::MAX);
        for frame in known.chunks_exact_mut(positions) {
            let hidden = match chance() < 0.5 {
                true => 1.0,
                false => (std::f64::consts::FRAC_PI_2 * chance()).cos(),
            };
            for id in frame.iter_mut() {
                if chance() < hidden {
                    *id = -1;
                }
            }
        }
        let shape = lessons.targets.dims();
        Tensor::from_data(TensorData::new::<i32, _>(known, shape), &self.device)
    }

    /// Mean cross-entropy of the codes that are not shown.
    fn loss(
        &self,
        condition: &Condition,
        features: Tensor<3>,
        known: Tensor<2, Int>,
        targets: Tensor<2, Int>,
    ) -> Tensor<1> {
        let model = &self.learner.model;
        let [batch, len] = targets.dims();
        let frames = len / self.tokenizer.video_spec().positions();
        let hidden = known.clone().lower_elem(0).float();
        let input = model.head.inputs(features, known, condition);
        let states = model.backbone.forward(input, condition);
        let logits = model.head.logits_of(states, frames);
        let size = logits.dims()[2];
        let scores = log_softmax(logits.reshape([batch * len, size]), 1);
        let picked = scores.gather(1, targets.reshape([batch * len, 1]));
        let weights = hidden.reshape([batch * len, 1]);
        (picked * weights.clone()).sum().neg() / weights.sum()
    }

    fn held_out(&self) -> Vec<Part<'_>> {
        let items = match self.clips.held_out.is_empty() {
            true => &self.clips.train,
            false => &self.clips.held_out,
        };
        items.iter().take(CONTINUED).map(Part::beginning).collect()
    }

    /// True frames, and as many with the given ones in front and the generator's after them: `[clips, time, 3, size, size]`.
    fn continued(&self, parts: &[Part<'_>]) -> Result<(Tensor<5>, Tensor<5>), TrainError> {
        let tokenizer = &self.tokenizer;
        let group = tokenizer.video_spec().group;
        let given = given(group);
        let total = given + NEW.div_ceil(group) * group;
        let truth = self.clips.tensor(parts, total, &self.device);
        let items: Vec<&ClipItem> = parts.iter().map(|part| part.item).collect();
        let model = &self.learner.average;
        let condition = condition_of(model, self.captions.as_ref(), &items, &self.device)?;
        let mut stream = FrameStream::new(&model.backbone, &model.head, condition, parts.len());
        let mut canvas = tokenizer.anchored(truth.clone().narrow(1, 0, 1), None);
        for start in (1..given).step_by(group) {
            let frames = truth.clone().narrow(1, start, group);
            let ids = tokenizer.later_ids(&canvas, frames.clone());
            stream.see(tokenizer.features(&canvas));
            canvas = tokenizer.following(&canvas, frames, ids);
        }
        let mut out = vec![truth.clone().narrow(1, 0, given)];
        let greedy = SamplerConfig {
            temperature: 0.0,
            ..SamplerConfig::default()
        };
        let rows: Vec<u64> = (0..parts.len() as u64).collect();
        let mut sampler = greedy.build(self.seed.named("samples"), &rows, total);
        for _ in (given..total).step_by(group) {
            let features = tokenizer.features(&canvas);
            let ids = stream.predict(features, &self.config.filling, &mut *sampler)?;
            canvas = tokenizer.later(&canvas, ids);
            out.push(canvas.frames.clone());
        }
        Ok((truth, Tensor::cat(out, 1)))
    }
}

/// Frames that are given for a validation: the first one and whole groups.
fn given(group: usize) -> usize {
    1 + (GIVEN - 1) / group * group
}

/// What a model is told of some clips.
fn condition_of(
    model: &VideoModel,
    captions: Option<&ClipCaptions>,
    items: &[&ClipItem],
    device: &Device,
) -> Result<Condition, TrainError> {
    Ok(match (captions, &model.prefix) {
        (Some(captions), Some(prefix)) => prefix.condition(captions.of(items, device)?),
        _ => Condition::default(),
    })
}

/// A model's guesses at the codes of training clips, all codes of a frame at once.
fn guesses<'a>(
    model: &'a VideoModel,
    sampler: &SamplerConfig,
    captions: Option<&ClipCaptions>,
    clips: &Clips,
    items: &[usize],
    seed: Seed,
    device: &Device,
) -> Result<Guess<'a>, TrainError> {
    let shown: Vec<&ClipItem> = items.iter().map(|&item| &clips.train[item]).collect();
    let condition = condition_of(model, captions, &shown, device)?;
    let mut stream = FrameStream::new(&model.backbone, &model.head, condition, items.len());
    let rows: Vec<u64> = items.iter().map(|&item| item as u64).collect();
    let alone = SamplerConfig {
        guidance: Default::default(),
        ..sampler.clone()
    };
    let mut sampler = alone.build(seed, &rows, 0);
    let at_once = FillingConfig::Refined { steps: 1 };
    Ok(Box::new(move |features| {
        Ok(stream.predict(features, &at_once, &mut *sampler)?)
    }))
}

/// Mean PSNR of each frame over the clips, decibels.
fn decibels(found: &Tensor<5>, truth: &Tensor<5>) -> Vec<f64> {
    let [clips, time, channels, height, width] = truth.dims();
    let squares = (found.clone() - truth.clone()).square();
    let squares = squares.reshape([clips * time, channels * height * width]);
    let each = host(squares.mean_dim(1));
    (0..time)
        .map(|at| {
            // The range of values is 2, so the peak's square is 4.
            let of_clip =
                |clip: usize| 10.0 * (4.0 / f64::from(each[clip * time + at]).max(1e-9)).log10();
            (0..clips).map(of_clip).sum::<f64>() / clips as f64
        })
        .collect()
}

impl Task for VideoGeneratorTask {
    fn step(&mut self, step: usize) -> Result<BTreeMap<String, f64>, TrainError> {
        self.learner.begin(step);
        let training = self.device.clone().autodiff();
        let items = self.batches.at(step);
        let (clips, captions, device) = (&self.clips, &self.captions, &self.device);
        let seed = self.seed.named("guesses");
        let sampler = &self.config.sampler;
        let guesser = self.guesser.as_ref().map(|model| {
            move |items: &[usize]| {
                guesses(
                    model,
                    sampler,
                    captions.as_ref(),
                    clips,
                    items,
                    seed,
                    device,
                )
            }
        });
        let lessons = self.book.lessons(
            &*self.tokenizer,
            clips,
            &items,
            self.config.groups,
            guesser.as_ref().map(|guesser| guesser as _),
            self.seed.named("places").indexed(step as u64),
            device,
        )?;
        let known = self.known(&lessons, step);
        let lift = |ids: Tensor<2, Int>| Tensor::<2, Int>::from_data(ids.to_data(), &training);
        let features = Tensor::from_inner(lessons.features);
        let condition = match (&self.captions, &self.learner.model.prefix) {
            (Some(captions), Some(prefix)) => {
                prefix.condition(lift(captions.of_step(step, &items, &self.device)))
            }
            _ => Condition::default(),
        };
        let loss = self.loss(&condition, features, lift(known), lift(lessons.targets));
        self.learner.update(loss, step, "the generator's loss")
    }

    /// PSNR of the first, the last and all new frames of held-out clips, and of repeating the last given frame instead.
    fn validate(&self) -> Result<BTreeMap<String, f64>, TrainError> {
        let (truth, found) = self.continued(&self.held_out())?;
        let [_, total, ..] = truth.dims();
        let new = given(self.tokenizer.video_spec().group);
        let last = truth.clone().narrow(1, new - 1, 1);
        let mut copied = vec![truth.clone().narrow(1, 0, new)];
        copied.extend((new..total).map(|_| last.clone()));
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let ours = decibels(&found, &truth);
        let copy = decibels(&Tensor::cat(copied, 1), &truth);
        Ok(BTreeMap::from([
            ("psnr-first".to_string(), ours[new]),
            ("psnr-last".to_string(), ours[total - 1]),
            ("psnr".to_string(), mean(&ours[new..])),
            ("psnr-copy".to_string(), mean(&copy[new..])),
        ]))
    }

    /// Clips row by row: true frames, then the given and the generator's below.
    fn samples(&self) -> Result<Sample, TrainError> {
        let parts: Vec<_> = self.held_out().into_iter().take(SHEET).collect();
        let (truth, found) = self.continued(&parts)?;
        let both = Tensor::stack::<6>(vec![truth, found], 1);
        let [clips, two, time, channels, height, width] = both.dims();
        let pixels = both.reshape([clips * two * time, channels, height, width]);
        let pictures = ravel_media::pictures_from_images(&Images { pixels });
        Ok(ravel_media::grid(&pictures, time, 2).into())
    }

    fn tensors(&self) -> Vec<(String, TensorData)> {
        self.learner.tensors()
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.learner.restore(checkpoint)
    }

    fn export(&self, folder: &Path) -> Result<(), TrainError> {
        self.learner.export(&folder.join("generator.safetensors"))?;
        copy(
            &self.config.tokenizer,
            folder,
            self.tokenizer_definition.tokenizer_part()?.weights(),
        )?;
        if let Some(captions) = &self.captions {
            captions.subwords.save(&folder.join("text.json"))?;
        }
        let text = self.config.text.as_ref().map(|text| TextPart::Subword {
            file: "text.json".into(),
            length: text.length,
        });
        let definition = Definition {
            task: ravel_pipeline::Task::VideoContinuation,
            name: self.recipe.name.clone(),
            description: self.recipe.description.clone(),
            licence: self.recipe.licence.clone(),
            weights: Some("generator.safetensors".into()),
            weights_type: KeptAs::default(),
            text,
            tokenizer: self.tokenizer_definition.tokenizer.clone(),
            backbone: Some(BackbonePart::Transformer {
                config: self.config.backbone.clone(),
            }),
            head: Some(HeadConfig::NextFrame(self.config.head.clone())),
            decoding: Default::default(),
            filling: Some(self.config.filling.clone()),
            sampler: self.config.sampler.clone(),
            model: None,
            speech: None,
            sound_model: None,
            published: None,
        };
        let text = definition.to_toml();
        ravel_weights::atomic_write(&folder.join("pipeline.toml"), text.as_bytes())?;
        Ok(())
    }
}

type OpenTokenizer = (Definition, Box<dyn VideoTokenizer>);

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
        .and_then(|part| ravel_pipeline::build_video_tokenizer(part, &source, device))
        .map_err(|error| wrong(error.to_string()))?;
    Ok((definition, tokenizer))
}
