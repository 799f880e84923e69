//! Training of a speech generator: phonemes, a voice and a speed in front, codes of several codebooks behind.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::{Codes, Decoding, Generator, Layout, Seed, SoundTokenizer, Start};
use ravel_decode::OneByOne;
use ravel_decode::sampler::all_ended;
use ravel_heads::{HeadConfig, Timed};
use ravel_pipeline::{
    BackbonePart, Definition, KeptAs, Prompt, Source, SpeechModel, SpeechShape, SpeechText,
    TextPart,
};
use ravel_weights::Checkpoint;

use crate::align::aligned;
use crate::generator::copy;
use crate::learner::{Learned, Learner};
use crate::run::{Sample, Task};
use crate::speech_lesson::{DurationLesson, Lesson, Utterance, utterances, whole};
use crate::{LikeLengths, Recipe, Recording, Sounds, SpeechConfig, TrainError, host};

/// Held-out recordings that a sample says.
const SAID: usize = 6;
/// Silence between them, in samples.
const PAUSE: usize = 4000;
/// Frames of a recording that shows a voice, at least: a second of most codecs.
const SHOWN_LEAST: usize = 25;

impl Learned for SpeechModel {}

/// A number in `0..=1`.
fn share(random: &mut impl Rng) -> f64 {
    f64::from(random.next_u32()) / f64::from(u32::MAX)
}

fn by_voice(utterances: &[Utterance]) -> BTreeMap<String, Vec<usize>> {
    let mut all: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, utterance) in utterances.iter().enumerate() {
        all.entry(utterance.voice.clone()).or_default().push(at);
    }
    all
}

/// A generator in training.
pub struct SpeechTask {
    recipe: Recipe,
    config: SpeechConfig,
    text: SpeechText,
    train: Vec<Utterance>,
    /// Training utterances of each voice.
    by_voice: BTreeMap<String, Vec<usize>>,
    held_out: Vec<Utterance>,
    tokenizer_definition: Definition,
    tokenizer: Box<dyn SoundTokenizer>,
    learner: Learner<SpeechModel>,
    batches: LikeLengths,
    seed: Seed,
    device: Device,
}

impl SpeechTask {
    /// Reads the tokenizer, encodes all recordings and draws first weights.
    ///
    /// # Errors
    /// [`TrainError`] if the tokenizer does not fit the recipe or a text cannot be said.
    pub fn new(
        recipe: &Recipe,
        config: &SpeechConfig,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let (tokenizer_definition, tokenizer) = open_tokenizer(&config.tokenizer, device)?;
        let spec = tokenizer.sound_spec().clone();
        let wrong = |reason: String| TrainError::Recipe {
            path: recipe.name.clone(),
            reason,
        };
        let codes = &spec.codes;
        if config.head.depth != codes.depth || config.head.end != Some(codes.codebook_size) {
            return Err(wrong(format!(
                "`task.head` has {} codebooks that end with {:?}; the tokenizer has {} of {} ids, so `end` is {}",
                config.head.depth,
                config.head.end,
                codes.depth,
                codes.codebook_size,
                codes.codebook_size
            )));
        }
        config.speech.validate_for(&config.backbone, &config.head)?;
        config.sampler.validate()?;
        if config.speech.durations.is_some()
            && config.speech.reference.is_none()
            && config.references > 0.0
        {
            return Err(wrong(
                "`task.references` stand in front with their words, whose durations nobody foretells; take a table `task.speech.reference` beside `task.speech.durations`"
                    .into(),
            ));
        }
        let sounds = Sounds::read(&config.rows, spec.sample_rate_hz)?;
        let text = SpeechText::new(
            named_voices(&sounds.train, &config.voices).map_err(&wrong)?,
            config.speeds.clone(),
            config.text_length,
        );
        let symbols = |list: &[Recording]| -> Result<Vec<Vec<u32>>, TrainError> {
            let all = list
                .iter()
                .map(|recording| whole(&text, &recording.text).map_err(&wrong));
            all.collect()
        };
        let coded = |list: &[Recording]| utterances(list, symbols(list)?, &*tokenizer, device);
        let mut train = coded(&sounds.train)?;
        let mut held_out = coded(&sounds.held_out)?;
        if config.speech.durations.is_some() {
            aligned(&mut train, &mut held_out, |id| text.is_mark(id));
        }
        let seed = Seed::new(recipe.seed);
        device.seed(seed.named("first weights").number());
        let shape = SpeechShape {
            text: &text,
            backbone: &config.backbone,
            head: &config.head,
            part: &config.speech,
        };
        let mut average = shape.init(device);
        average.tensors(); // Draws every parameter now, in the module's order.
        if let Some(folder) = &config.start_from {
            average = begun(average, folder, &text)?;
        }
        let lengths = train.iter().map(|utterance| utterance.frames).collect();
        Ok(Self {
            by_voice: by_voice(&train),
            batches: LikeLengths::new(seed.named("order"), lengths, recipe.batch),
            learner: Learner::new(average, recipe, device),
            recipe: recipe.clone(),
            config: config.clone(),
            text,
            train,
            held_out,
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

    /// Mean nats of a code and, where they are foretold, of a duration.
    fn loss(
        &self,
        model: &SpeechModel,
        rows: &[&Utterance],
        told: Vec<Told>,
        device: &Device,
    ) -> (Tensor<1>, Option<Tensor<1>>) {
        let prompts = rows.iter().zip(told).map(|(row, told)| {
            let voice = matches!(told, Told::Name).then_some(&row.voice[..]);
            Prompt {
                ids: self.text.ids(voice, &row.speed, &row.symbols),
                shown: match told {
                    Told::Shown(codes) => codes,
                    _ => Vec::new(),
                },
            }
        });
        let prompts: Vec<Prompt> = prompts.collect();
        let lesson = Lesson::new(rows, &self.config.head, device);
        let timed: Vec<Timed<'_>> = rows.iter().map(|row| row.timed()).collect();
        let condition = model.condition(&prompts, device);
        let condition = model.timed(condition, &timed, lesson.codes.dims()[2]);
        let durations = model.durations.as_ref().map(|durations| {
            let lesson = DurationLesson::new(rows, durations.most(), device);
            let ids: Vec<&[u32]> = prompts.iter().map(|prompt| &prompt.ids[..]).collect();
            let scores = durations.scores(&ids, lesson.frames.clone());
            lesson.loss(scores)
        });
        let scores = model.scores(lesson.codes.clone(), &condition);
        (lesson.loss(scores), durations)
    }

    /// How the voice of each item of a step is told: by its name, by another recording, or not at all. Without an encoder of voices the
    /// other recording stands in front, and the utterance behind it is the second of the pair.
    fn told(&self, items: &[usize], step: usize) -> Vec<(Told, Option<Utterance>)> {
        let mut unnamed = self.seed.named("voices").indexed(step as u64).stream();
        let mut random = self.seed.named("references").indexed(step as u64).stream();
        let encoder = self.config.speech.reference.is_some();
        let one = |&item: &usize| {
            let dropped = share(&mut unnamed) < self.config.drop_voice;
            let asked = share(&mut random) < self.config.references;
            let own = &self.train[item];
            let named = self.text.voices().contains(&own.voice);
            let others = &self.by_voice[&own.voice];
            let other = others[(random.next_u64() % others.len() as u64) as usize];
            let fits =
                self.train[other].symbols.len() + 1 + own.symbols.len() <= self.text.most_symbols();
            let (from, to) = stretch(self.train[other].frames, &mut random);
            match (asked || (encoder && !named), encoder) {
                (true, true) if other != item && !dropped => {
                    let books = self.train[other].books();
                    let shown = books.map(|book| book[from..to].to_vec()).collect();
                    (Told::Shown(shown), None)
                }
                (true, false) if other != item && fits => {
                    let both = self.train[other].before(own, &self.text);
                    (Told::Nothing, Some(both))
                }
                _ if dropped || !named => (Told::Nothing, None),
                _ => (Told::Name, None),
            }
        };
        items.iter().map(one).collect()
    }

    /// Mean nats of a code and of a duration of held-out recordings.
    fn held_out_loss(&self) -> (f64, Option<f64>) {
        let mut totals = (0.0, None);
        let mut order: Vec<&Utterance> = self.held_out.iter().collect();
        order.sort_by_key(|utterance| utterance.frames);
        let share = |rows: &[&Utterance]| rows.len() as f64 / self.held_out.len() as f64;
        for rows in order.chunks(self.recipe.batch) {
            let named = rows.iter().map(|_| Told::Name).collect();
            let (codes, durations) = self.loss(&self.learner.average, rows, named, &self.device);
            totals.0 += f64::from(host(codes)[0]) * share(rows);
            if let Some(durations) = durations {
                let sum = totals.1.get_or_insert(0.0);
                *sum += f64::from(host(durations)[0]) * share(rows);
            }
        }
        totals
    }

    /// Codes that the averaged model says, `[1, depth, frames]`.
    fn said(&self, utterance: &Utterance, row: u64) -> Result<Tensor<3, Int>, TrainError> {
        let model = &self.learner.average;
        let symbols = utterance.symbols.len();
        let ids = self
            .text
            .ids(Some(&utterance.voice), &utterance.speed, &utterance.symbols);
        let seed = self.seed.named("samples");
        let durations = model.durations.as_ref().map(|durations| {
            let seed = seed.named("durations").indexed(row);
            durations.draw(&ids, symbols, &self.config.sampler, seed, &self.device)
        });
        let durations = durations.transpose()?;
        let depth = self.config.head.depth;
        let frames = match &durations {
            Some(durations) => durations.iter().sum::<u32>().max(1) as usize + 1,
            None => self.text.most_frames(symbols),
        };
        let layout = self.config.head.arrangement.layout(frames, depth);
        let front = Prompt {
            ids,
            shown: Vec::new(),
        };
        let timed = Timed {
            symbols: &utterance.symbols,
            frames: durations.as_deref().unwrap_or_default(),
        };
        let condition = model.condition(&[front], &self.device);
        let condition = model.timed(condition, &[timed], layout.len());
        let head = model.choosing(&layout);
        let generator = Generator {
            backbone: &model.backbone,
            head: &*head,
            pyramid: None,
        };
        let prompt = Codes {
            ids: Tensor::zeros([1, self.config.head.rows(), 0], &self.device),
            layout: layout.clone(),
        };
        let mut sampler = self.config.sampler.build(seed, &[row], layout.len());
        let ending = self.config.sampler.ending.clone();
        let codes = OneByOne.decode(
            &generator,
            Start { condition, prompt },
            &layout,
            &mut *sampler,
            &mut |_, codes| match &ending {
                Some(ending) if all_ended(codes, ending) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            },
        )?;
        let end = self.config.head.end.unwrap_or(usize::MAX) as u32;
        let whole = self.config.head.arrangement.undo(codes.ids, depth);
        let [_, _, made] = whole.dims();
        let rows = whole.to_data().iter::<u32>().collect::<Vec<_>>();
        let ended = (0..made).find(|at| (0..depth).any(|row| rows[row * made + at] >= end));
        Ok(whole.slice([0..1, 0..depth, 0..ended.unwrap_or(made)]))
    }

    fn definition(&self) -> Definition {
        Definition {
            task: ravel_pipeline::Task::TextToSpeech,
            name: self.recipe.name.clone(),
            description: self.recipe.description.clone(),
            licence: self.recipe.licence.clone(),
            weights: Some("generator.safetensors".into()),
            weights_type: KeptAs::default(),
            text: Some(TextPart::Phonemes {
                voices: self.text.voices().to_vec(),
                speeds: self.text.speeds().to_vec(),
                length: self.text.length(),
            }),
            decoding: Default::default(),
            filling: None,
            sampler: self.config.sampler.clone(),
            tokenizer: self.tokenizer_definition.tokenizer.clone(),
            backbone: Some(BackbonePart::Transformer {
                config: self.config.backbone.clone(),
            }),
            head: Some(HeadConfig::NextTokens(self.config.head.clone())),
            speech: Some(self.config.speech.clone()).filter(|part| !part.is_empty()),
            published: None,
            model: None,
            sound_model: None,
        }
    }
}

impl Task for SpeechTask {
    fn step(&mut self, step: usize) -> Result<BTreeMap<String, f64>, TrainError> {
        self.learner.begin(step);
        let training = self.device.clone().autodiff();
        let items = self.batches.at(step);
        let (told, led): (Vec<Told>, Vec<Option<Utterance>>) =
            self.told(&items, step).into_iter().unzip();
        let rows: Vec<&Utterance> = items
            .iter()
            .zip(&led)
            .map(|(&item, led)| led.as_ref().unwrap_or(&self.train[item]))
            .collect();
        let (loss, durations) = self.loss(&self.learner.model, &rows, told, &training);
        let Some(durations) = durations else {
            return self
                .learner
                .update(loss, step, "the speech generator's loss");
        };
        let codes = f64::from(host(loss.clone())[0]);
        let found = f64::from(host(durations.clone())[0]);
        let mut values =
            self.learner
                .update(loss + durations, step, "the speech generator's loss")?;
        values.insert("loss".into(), codes);
        values.insert("durations".into(), found);
        Ok(values)
    }

    fn validate(&self) -> Result<BTreeMap<String, f64>, TrainError> {
        if self.held_out.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (codes, durations) = self.held_out_loss();
        let durations = durations.map(|nats| ("durations".to_string(), nats));
        Ok([("loss".to_string(), codes)]
            .into_iter()
            .chain(durations)
            .collect())
    }

    fn samples(&self) -> Result<Sample, TrainError> {
        let list = match self.held_out.is_empty() {
            true => &self.train,
            false => &self.held_out,
        };
        let mut samples = Vec::new();
        for (row, utterance) in list.iter().take(SAID).enumerate() {
            let ids = self.said(utterance, row as u64)?;
            let [_, _, len] = ids.dims();
            if len > 0 {
                let layout = Layout::Sequence { len };
                let sound = self.tokenizer.decode(&Codes { ids, layout })?;
                samples.extend(host(sound.samples));
            }
            samples.extend([0.0; PAUSE]);
        }
        let sound = ravel_media::Sound {
            channels: vec![samples],
            sample_rate_hz: self.tokenizer.sound_spec().sample_rate_hz,
        };
        Ok(Sample {
            extension: "wav",
            bytes: ravel_media::encode_wav(&sound, &[]),
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
        let weights = self.tokenizer_definition.tokenizer_part()?.weights();
        copy(&self.config.tokenizer, folder, weights)?;
        ravel_weights::atomic_write(
            &folder.join("pipeline.toml"),
            self.definition().to_toml().as_bytes(),
        )?;
        Ok(())
    }
}

/// How a voice is told to the model.
enum Told {
    /// By its name.
    Name,
    /// By codes of another recording, codebook by codebook.
    Shown(Vec<Vec<u32>>),
    /// Not at all.
    Nothing,
}

/// A stretch of so many frames, as short as a second.
fn stretch(frames: usize, random: &mut impl Rng) -> (usize, usize) {
    let spare = frames.saturating_sub(SHOWN_LEAST);
    let len = frames - (random.next_u64() % (spare as u64 + 1)) as usize;
    let from = (random.next_u64() % ((frames - len) as u64 + 1)) as usize;
    (from, from + len)
}

/// Every voice that has a name: the `first` ones, then the others in alphabetical order. Says which of the first ones nobody has.
fn named_voices(recordings: &[Recording], first: &[String]) -> Result<Vec<String>, String> {
    let named = recordings.iter().filter(|recording| !recording.unnamed);
    let mut others: BTreeSet<&String> = named.map(|recording| &recording.voice).collect();
    if let Some(unknown) = first
        .iter()
        .find(|voice| voice.is_empty() || !others.remove(voice))
    {
        return Err(format!(
            "`task.voices` names \"{unknown}\" once more, or no training recording has that voice"
        ));
    }
    let others = others.into_iter().filter(|voice| !voice.is_empty());
    Ok(first.iter().chain(others).cloned().collect())
}

/// The model with the weights of a finished run, as far as that has them. Voices keep their rows by name.
fn begun(fresh: SpeechModel, folder: &Path, text: &SpeechText) -> Result<SpeechModel, TrainError> {
    let definition = read_definition(&folder.join("pipeline.toml"))?;
    let order = match &definition.text {
        Some(TextPart::Phonemes { voices, speeds, .. }) if speeds == text.speeds() => {
            rows_of(voices, text)
        }
        _ => None,
    };
    let order = order.ok_or_else(|| TrainError::Recipe {
        path: folder.display().to_string(),
        reason: format!(
            "`task.start-from` needs a run with the voices {} and the speeds {}",
            text.voices().join(", "),
            text.speeds().join(", ")
        ),
    })?;
    let file = Checkpoint::open(&folder.join("generator.safetensors"))?;
    let mut prefix = ravel_weights::load(fresh.prefix, &file, "prefix")?;
    let rows = prefix.tokens.val();
    let order = Tensor::<1, Int>::from_ints(&order[..], &rows.device());
    prefix.tokens = prefix.tokens.map(|_| rows.select(0, order));
    let has = |part: &str| {
        file.names()
            .any(|name| name.split('.').next() == Some(part))
    };
    Ok(SpeechModel {
        prefix,
        backbone: ravel_weights::load(fresh.backbone, &file, "backbone")?,
        head: ravel_weights::load(fresh.head, &file, "head")?,
        reference: match fresh.reference {
            Some(own) if has("reference") => Some(ravel_weights::load(own, &file, "reference")?),
            own => own,
        },
        durations: fresh.durations,
        depth: match fresh.depth {
            Some(own) if has("depth") => Some(ravel_weights::load(own, &file, "depth")?),
            own => own,
        },
    })
}

/// Where each row of the embedding stands among those of other voices' order; none if the voices are others.
fn rows_of(voices: &[String], text: &SpeechText) -> Option<Vec<i32>> {
    let own = text.voices();
    if voices.len() != own.len() {
        return None;
    }
    let place = |name: &String| voices.iter().position(|known| known == name);
    let named: Option<Vec<usize>> = own.iter().map(place).collect();
    let first = SpeechText::FIRST_VOICE as usize;
    let count = text.prefix_config().vocabulary_size;
    let named = named?.into_iter().map(|at| first + at);
    let rows = (0..first).chain(named).chain(first + own.len()..count);
    Some(rows.map(|row| row as i32).collect())
}

fn read_definition(path: &Path) -> Result<Definition, TrainError> {
    let text = std::fs::read_to_string(path).map_err(|source| TrainError::File {
        path: path.into(),
        source,
    })?;
    let definition = Definition::parse(&path.display().to_string(), &text);
    Ok(definition.map_err(ravel_pipeline::PipelineError::from)?)
}

fn open_tokenizer(
    folder: &Path,
    device: &Device,
) -> Result<(Definition, Box<dyn SoundTokenizer>), TrainError> {
    let own = folder.join("tokenizer.toml");
    let whole = folder.join("pipeline.toml");
    // A pipeline that speaks has its tokenizer in it.
    let definition = read_definition(if whole.exists() && !own.exists() {
        &whole
    } else {
        &own
    })?;
    let source = Source::Folder(folder.into());
    let tokenizer =
        ravel_pipeline::build_sound_tokenizer(definition.tokenizer_part()?, &source, device)?;
    Ok((definition, tokenizer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voices_stand_in_the_asked_order_and_the_crowd_nowhere() {
        let recording = |voice: &str, unnamed| Recording {
            file: "a.wav".into(),
            samples: Vec::new(),
            text: String::new(),
            voice: voice.into(),
            speed: String::new(),
            unnamed,
        };
        let all = [
            recording("dot", false),
            recording("ann", false),
            recording("", false),
            recording("crowd", true),
            recording("cal", false),
        ];
        let named = |first: &[&str]| {
            let first: Vec<String> = first.iter().map(ToString::to_string).collect();
            named_voices(&all, &first)
        };
        assert_eq!(named(&[]).unwrap(), ["ann", "cal", "dot"]);
        assert_eq!(named(&["dot", "cal"]).unwrap(), ["dot", "cal", "ann"]);
        for unknown in [&["crowd"][..], &["ann", "ann"], &[""]] {
            let error = named(unknown).unwrap_err();
            assert!(error.contains(unknown[0]), "{error}");
        }
    }
}
