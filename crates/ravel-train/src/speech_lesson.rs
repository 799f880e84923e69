//! What is learned from recordings that are spoken: their codes, where each ends, and how long each symbol is said.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::SoundTokenizer;
use ravel_heads::{Arrangement, NextTokensConfig, Timed};
use ravel_pipeline::SpeechText;

use crate::{Recording, TrainError, host};

/// Recordings that are encoded at a time.
const ENCODED_TOGETHER: usize = 16;

/// What is learned from one recording.
pub(crate) struct Utterance {
    pub voice: String,
    pub speed: String,
    pub symbols: Vec<u32>,
    /// Row by row, `depth * frames`.
    pub codes: Vec<u32>,
    pub frames: usize,
    /// Frames of each symbol, where they are known.
    pub durations: Vec<u32>,
}

impl Utterance {
    /// This utterance and another one behind it, as one.
    pub fn before(&self, other: &Self, text: &SpeechText) -> Self {
        let both = self.books().zip(other.books());
        Self {
            voice: other.voice.clone(),
            speed: other.speed.clone(),
            symbols: text.joined(&self.symbols, &other.symbols),
            codes: both
                .flat_map(|(first, then)| [first, then].concat())
                .collect(),
            frames: self.frames + other.frames,
            durations: Vec::new(),
        }
    }

    /// Codes of each codebook.
    pub fn books(&self) -> impl Iterator<Item = &[u32]> {
        self.codes.chunks(self.frames.max(1))
    }

    /// Its symbols with their durations.
    pub fn timed(&self) -> Timed<'_> {
        Timed {
            symbols: &self.symbols,
            frames: &self.durations,
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
            durations: Vec::new(),
        })
        .collect())
}

/// Positions of a batch, and which of them are to be learned.
pub(crate) struct Lesson {
    /// `[batch, rows, positions]`, as the arrangement lays them.
    pub codes: Tensor<3, Int>,
    /// What each codebook has at each position, of a flattened arrangement in each frame; ids that have no score replaced,
    /// `[batch, depth, positions, 1]`.
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
        let shape @ [batch, depth, n] = [rows.len(), head.depth, len];
        let codes = Tensor::from_data(TensorData::new::<i32, _>(codes, shape), device);
        Self {
            codes: match head.arrangement {
                Arrangement::Flattened {} => head.arrangement.arrange(codes),
                _ => codes,
            },
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

    /// Mean nats of a learned code; `logits`: `[batch, depth, positions, ids]`, as [`ravel_pipeline::SpeechModel::scores`] gives them.
    pub fn loss(self, logits: Tensor<4>) -> Tensor<1> {
        let [batch, depth, n, _] = logits.dims();
        let picked = log_softmax(logits, 3).gather(3, self.targets);
        let count = self.weights.clone().sum();
        let sum = (picked.reshape([batch, depth, n]) * self.weights).sum();
        (sum / count).neg()
    }
}

/// Durations of the symbols of some rows, and which of them are to be learned.
pub(crate) struct DurationLesson {
    /// `[batch, 1, symbols]`.
    pub frames: Tensor<3, Int>,
    /// One where a symbol stands, `[batch, symbols]`.
    weights: Tensor<2>,
}

impl DurationLesson {
    /// Longer durations count as `most`.
    pub fn new(rows: &[&Utterance], most: usize, device: &Device) -> Self {
        let len = rows
            .iter()
            .map(|row| row.durations.len())
            .max()
            .unwrap_or(0);
        let mut frames = vec![0i32; rows.len() * len];
        let mut weights = vec![0f32; rows.len() * len];
        for (at, row) in rows.iter().enumerate() {
            for (symbol, &duration) in row.durations.iter().enumerate() {
                frames[at * len + symbol] = duration.min(most as u32) as i32;
                weights[at * len + symbol] = 1.0;
            }
        }
        Self {
            frames: Tensor::from_data(TensorData::new(frames, [rows.len(), 1, len]), device),
            weights: Tensor::from_data(TensorData::new(weights, [rows.len(), len]), device),
        }
    }

    /// Mean nats of a duration; `scores`: `[batch, 1, symbols, durations]`.
    pub fn loss(self, scores: Tensor<4>) -> Tensor<1> {
        let [batch, _, len, _] = scores.dims();
        let targets = self.frames.reshape([batch, 1, len, 1]);
        let picked = log_softmax(scores, 3).gather(3, targets);
        let count = self.weights.clone().sum();
        let sum = (picked.reshape([batch, len]) * self.weights).sum();
        (sum / count).neg()
    }
}
