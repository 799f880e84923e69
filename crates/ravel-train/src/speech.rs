//! Training of a speech generator: phonemes, a voice and a speed in front, codes of several codebooks behind.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_backbone::Transformer;
use ravel_core::{Codes, Condition, Decoding, Generator, Layout, Seed, SoundTokenizer, Start};
use ravel_decode::OneByOne;
use ravel_decode::sampler::all_ended;
use ravel_heads::{
    Arrangement, HeadConfig, NextTokens, NextTokensConfig, PrefixConfig, PrefixEmbedding,
};
use ravel_pipeline::{BackbonePart, Definition, Source, SpeechText, TextPart};
use ravel_weights::Checkpoint;

use crate::generator::copy;
use crate::learner::{Learned, Learner};
use crate::run::{Sample, Task};
use crate::{LikeLengths, Recipe, Recording, Sounds, SpeechConfig, TrainError, host};

/// Held-out recordings that a sample says.
const SAID: usize = 6;
/// Recordings that are encoded at a time.
const ENCODED_TOGETHER: usize = 16;
/// Silence between them, in samples.
const PAUSE: usize = 4000;

/// All that is trained together: what stands in front, the sequence model and the head.
#[derive(Module, Debug)]
pub struct SpeechModel {
    /// Embeds voice, speed and phonemes.
    pub prefix: PrefixEmbedding,
    /// The sequence model.
    pub backbone: Transformer,
    /// Predicts codes.
    pub head: NextTokens,
}

impl Learned for SpeechModel {}

/// What is learned from one recording.
pub(crate) struct Utterance {
    pub voice: String,
    pub speed: String,
    pub symbols: Vec<u32>,
    /// Row by row, `depth * frames`.
    codes: Vec<u32>,
    pub frames: usize,
}

impl Utterance {
    /// This utterance and another one behind it, as one.
    fn before(&self, other: &Self, text: &SpeechText) -> Self {
        let rows = |one: &Self| one.codes.chunks(one.frames).map(<[u32]>::to_vec).collect();
        let (first, then): (Vec<Vec<u32>>, Vec<Vec<u32>>) = (rows(self), rows(other));
        let both = first.into_iter().zip(then);
        Self {
            voice: other.voice.clone(),
            speed: other.speed.clone(),
            symbols: text.joined(&self.symbols, &other.symbols),
            codes: both
                .flat_map(|(first, then)| [first, then].concat())
                .collect(),
            frames: self.frames + other.frames,
        }
    }
}

/// The symbols of a text that is said in one utterance, or why it cannot be.
pub(crate) fn whole(speech: &SpeechText, text: &str) -> Result<Vec<u32>, String> {
    let symbols = speech
        .whole(text)
        .map_err(|error| format!("\"{text}\": {error}"))?;
    match symbols.len() <= speech.most_symbols() {
        true => Ok(symbols),
        false => Err(format!(
            "\"{}…\": {} symbols, there is room for {}; say it in several recordings, or train with a greater `text-length`",
            text.chars().take(40).collect::<String>(),
            symbols.len(),
            speech.most_symbols()
        )),
    }
}

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
        if config.head.arrangement == (Arrangement::Flattened {}) {
            return Err(wrong(
                "`task.head.arrangement` is flattened, which speech is not trained with yet; take delayed or parallel"
                    .into(),
            ));
        }
        let sounds = Sounds::read(&config.rows, spec.sample_rate_hz)?;
        let text = SpeechText::new(
            voices_of(&sounds.train),
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
        let train = coded(&sounds.train)?;
        let held_out = coded(&sounds.held_out)?;
        let seed = Seed::new(recipe.seed);
        device.seed(seed.named("first weights").number());
        let average = first_weights(config, &text, device)?;
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

    /// The summed loss of some utterances and how many codes it is about. `hidden` says whose voice is not told.
    fn loss(
        &self,
        model: &SpeechModel,
        rows: &[&Utterance],
        unnamed: &[bool],
        device: &Device,
    ) -> Tensor<1> {
        let prompts: Vec<Vec<u32>> = rows
            .iter()
            .zip(unnamed)
            .map(|(row, &unnamed)| {
                let voice = (!unnamed).then_some(&row.voice[..]);
                self.text.ids(voice, &row.speed, &row.symbols)
            })
            .collect();
        let condition = condition(&model.prefix, &prompts, &self.config.head, device);
        let lesson = Lesson::new(rows, &self.config.head, device);
        let layout = Layout::Sequence {
            len: lesson.codes.dims()[2],
        };
        let head = model.head.clone().with_layout(&layout);
        let input = head.inputs(lesson.codes.clone(), &condition);
        let logits = head.logits_of(model.backbone.forward(input, &condition));
        lesson.loss(logits)
    }

    /// Some of the utterances behind another one of their voice, as a reference stands in front of what is said with it.
    fn led(&self, items: &[usize], step: usize) -> Vec<Option<Utterance>> {
        let mut random = self.seed.named("references").indexed(step as u64).stream();
        let one = |&item: &usize| {
            let asked = share(&mut random) < self.config.references;
            let own = &self.train[item];
            let others = &self.by_voice[&own.voice];
            let other = others[(random.next_u64() % others.len() as u64) as usize];
            let symbols = self.train[other].symbols.len() + 1 + own.symbols.len();
            let fits = symbols <= self.text.most_symbols();
            (asked && other != item && fits).then(|| self.train[other].before(own, &self.text))
        };
        items.iter().map(one).collect()
    }

    fn held_out_loss(&self) -> f64 {
        let mut total = 0.0;
        let mut order: Vec<&Utterance> = self.held_out.iter().collect();
        order.sort_by_key(|utterance| utterance.frames);
        for rows in order.chunks(self.recipe.batch) {
            let named = vec![false; rows.len()];
            let loss = self.loss(&self.learner.average, rows, &named, &self.device);
            total += f64::from(host(loss)[0]) * rows.len() as f64;
        }
        total / self.held_out.len().max(1) as f64
    }

    /// Codes that the averaged model says, `[1, depth, frames]`.
    fn said(&self, utterance: &Utterance, row: u64) -> Result<Tensor<3, Int>, TrainError> {
        let ids = self
            .text
            .ids(Some(&utterance.voice), &utterance.speed, &utterance.symbols);
        let condition = condition(
            &self.learner.average.prefix,
            &[ids],
            &self.config.head,
            &self.device,
        );
        let depth = self.config.head.depth;
        let frames = self.text.most_frames(utterance.symbols.len());
        let layout = self.config.head.arrangement.layout(frames, depth);
        let head = self.learner.average.head.clone().with_layout(&layout);
        let generator = Generator {
            backbone: &self.learner.average.backbone,
            head: &head,
            pyramid: None,
        };
        let prompt = Codes {
            ids: Tensor::zeros([1, depth, 0], &self.device),
            layout: layout.clone(),
        };
        let seed = self.seed.named("samples");
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
            published: None,
            model: None,
        }
    }
}

/// Positions of a batch, and which of them are to be learned.
pub(crate) struct Lesson {
    /// `[batch, depth, positions]`.
    pub codes: Tensor<3, Int>,
    /// The same with ids that have no score replaced, `[batch, depth, positions, 1]`.
    targets: Tensor<4, Int>,
    /// One where a code is learned, `[batch, depth, positions]`.
    weights: Tensor<3>,
}

impl Lesson {
    /// Each codebook of each row begins as late as its delay; the first one ends with the end.
    pub fn new(rows: &[&Utterance], head: &NextTokensConfig, device: &Device) -> Self {
        let end = head.end.unwrap_or(0) as i32;
        let (steps, before) = match &head.arrangement {
            Arrangement::Delayed { steps, before, .. } => (steps.clone(), *before),
            _ => (vec![0; head.depth], 0),
        };
        let longest = steps.iter().copied().max().unwrap_or(0);
        let frames = rows.iter().map(|row| row.frames).max().unwrap_or(0);
        let len = frames + longest.max(1);
        let mut codes = Vec::with_capacity(rows.len() * head.depth * len);
        let mut targets = Vec::with_capacity(codes.capacity());
        let mut weights = Vec::with_capacity(codes.capacity());
        for row in rows {
            for (codebook, &step) in steps.iter().enumerate() {
                let of_book = &row.codes[codebook * row.frames..(codebook + 1) * row.frames];
                for at in 0..len {
                    let (id, learned) = match at.checked_sub(step) {
                        None => (before as i32, false),
                        Some(frame) => match of_book.get(frame) {
                            Some(&id) => (id as i32, true),
                            None => (end, codebook == 0 && frame == row.frames),
                        },
                    };
                    codes.push(id);
                    targets.push(if learned { id } else { 0 });
                    weights.push(f32::from(u8::from(learned)));
                }
            }
        }
        let shape = [rows.len(), head.depth, len];
        let [batch, depth, n] = shape;
        Self {
            codes: Tensor::from_data(TensorData::new::<i32, _>(codes, shape), device),
            targets: Tensor::from_data(
                TensorData::new::<i32, _>(targets, [batch, depth, n, 1]),
                device,
            ),
            weights: Tensor::from_data(TensorData::new::<f32, _>(weights, shape), device),
        }
    }

    /// Summed nats of each codebook's learned codes, and how many these are; `logits` as in [`Lesson::loss`].
    pub fn by_codebook(self, logits: Tensor<4>) -> Vec<(f64, f64)> {
        let [batch, depth, n, _] = logits.dims();
        let picked = log_softmax(logits, 3).gather(3, self.targets);
        let nats = picked.reshape([batch, depth, n]) * self.weights.clone();
        let sums = |all: Tensor<3>| host(all.sum_dim(2).sum_dim(0));
        let both = sums(nats).into_iter().zip(sums(self.weights));
        both.map(|(nats, count)| (-f64::from(nats), f64::from(count)))
            .collect()
    }

    /// Mean nats of a learned code; `logits`: `[batch, depth, positions, ids]`.
    fn loss(self, logits: Tensor<4>) -> Tensor<1> {
        let [batch, depth, n, _] = logits.dims();
        let picked = log_softmax(logits, 3).gather(3, self.targets);
        let count = self.weights.clone().sum();
        let sum = (picked.reshape([batch, depth, n]) * self.weights).sum();
        (sum / count).neg()
    }
}

impl Task for SpeechTask {
    fn step(&mut self, step: usize) -> Result<BTreeMap<String, f64>, TrainError> {
        self.learner.begin(step);
        let training = self.device.clone().autodiff();
        let items = self.batches.at(step);
        let mut random = self.seed.named("voices").indexed(step as u64).stream();
        let mut unnamed: Vec<bool> = items
            .iter()
            .map(|_| share(&mut random) < self.config.drop_voice)
            .collect();
        let led = self.led(&items, step);
        for (unnamed, led) in unnamed.iter_mut().zip(&led) {
            *unnamed |= led.is_some();
        }
        let rows: Vec<&Utterance> = items
            .iter()
            .zip(&led)
            .map(|(&item, led)| led.as_ref().unwrap_or(&self.train[item]))
            .collect();
        let loss = self.loss(&self.learner.model, &rows, &unnamed, &training);
        self.learner
            .update(loss, step, "the speech generator's loss")
    }

    fn validate(&self) -> Result<BTreeMap<String, f64>, TrainError> {
        Ok(match self.held_out.is_empty() {
            true => BTreeMap::new(),
            false => BTreeMap::from([("loss".to_string(), self.held_out_loss())]),
        })
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

/// Every voice that speaks, in alphabetical order.
fn voices_of(recordings: &[Recording]) -> Vec<String> {
    let voices = recordings.iter().map(|recording| recording.voice.clone());
    let sorted: std::collections::BTreeSet<String> = voices.collect();
    sorted
        .into_iter()
        .filter(|voice| !voice.is_empty())
        .collect()
}

/// Codes of recordings with what is said in them. Recordings are encoded together with others of like length: to a
/// causal tokenizer the silence behind the shorter ones changes nothing before it.
pub(crate) fn utterances(
    recordings: &[Recording],
    symbols: Vec<Vec<u32>>,
    tokenizer: &dyn SoundTokenizer,
    device: &Device,
) -> Result<Vec<Utterance>, TrainError> {
    let spec = tokenizer.sound_spec();
    let mut order: Vec<usize> = (0..recordings.len()).collect();
    order.sort_by_key(|&at| recordings[at].samples.len());
    let mut codes: Vec<Vec<Vec<u32>>> = vec![Vec::new(); recordings.len()];
    for chunk in order.chunks(ENCODED_TOGETHER) {
        let rows: Vec<&Recording> = chunk.iter().map(|&at| &recordings[at]).collect();
        let found = tokenizer.encode(ravel_core::Waveform {
            samples: Recording::batch(&rows, spec.hop, device),
            sample_rate_hz: spec.sample_rate_hz,
        })?;
        let len = found.filled();
        for (&at, row) in chunk.iter().zip(found.to_host()) {
            let frames = recordings[at].samples.len().div_ceil(spec.hop);
            codes[at] = row
                .chunks(len)
                .map(|book| book[..frames].to_vec())
                .collect();
        }
    }
    let all = recordings.iter().zip(symbols).zip(codes);
    Ok(all
        .map(|((recording, symbols), codes)| Utterance {
            voice: recording.voice.clone(),
            speed: recording.speed.clone(),
            symbols,
            frames: codes[0].len(),
            codes: codes.concat(),
        })
        .collect())
}

/// What stands in front of some rows, shorter ones filled up with positions that nothing sees: on the left, or at a pace, where
/// the front of all rows stands at the same place, on the right.
pub(crate) fn condition(
    prefix: &PrefixEmbedding,
    rows: &[Vec<u32>],
    head: &NextTokensConfig,
    device: &Device,
) -> Condition {
    let len = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut ids = Vec::with_capacity(rows.len() * len);
    let mut hidden = Vec::with_capacity(rows.len() * len);
    for row in rows {
        let missing = len - row.len();
        let (before, after) = match head.pace {
            None => (missing, 0),
            Some(_) => (0, missing),
        };
        ids.extend(std::iter::repeat_n(SpeechText::PADDING as i32, before));
        ids.extend(row.iter().map(|&id| id as i32));
        ids.extend(std::iter::repeat_n(SpeechText::PADDING as i32, after));
        hidden.extend(std::iter::repeat_n(true, before));
        hidden.extend(std::iter::repeat_n(false, row.len()));
        hidden.extend(std::iter::repeat_n(true, after));
    }
    let shape = [rows.len(), len];
    let ids = Tensor::from_data(TensorData::new::<i32, _>(ids, shape), device);
    let any = hidden.iter().any(|hidden| *hidden);
    Condition {
        prefix_hidden: any.then(|| Tensor::from_data(TensorData::new(hidden, shape), device)),
        ..prefix.condition(ids)
    }
}

fn open_tokenizer(
    folder: &Path,
    device: &Device,
) -> Result<(Definition, Box<dyn SoundTokenizer>), TrainError> {
    let path = folder.join("tokenizer.toml");
    let text = std::fs::read_to_string(&path).map_err(|source| TrainError::File {
        path: path.clone(),
        source,
    })?;
    let definition = Definition::parse(&path.display().to_string(), &text)
        .map_err(ravel_pipeline::PipelineError::from)?;
    let source = Source::Folder(folder.into());
    let tokenizer =
        ravel_pipeline::build_sound_tokenizer(definition.tokenizer_part()?, &source, device)?;
    Ok((definition, tokenizer))
}

/// The model before its first step, every parameter drawn in the module's order.
fn first_weights(
    config: &SpeechConfig,
    text: &SpeechText,
    device: &Device,
) -> Result<SpeechModel, TrainError> {
    config.backbone.validate()?;
    config.head.validate_for(config.backbone.axes())?;
    config.sampler.validate()?;
    let width = config.backbone.d_model;
    let prefix: PrefixConfig = text.prefix_config();
    let layout = Layout::Sequence { len: 1 };
    let model = SpeechModel {
        prefix: prefix.init(width, device),
        backbone: config.backbone.init(device),
        head: config
            .head
            .init(width, config.backbone.axes(), &layout, device),
    };
    model.tensors(); // Draws every parameter now, in the module's order.
    Ok(model)
}
