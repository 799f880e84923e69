//! Sound with what is said in it, from a file of JSON lines, held in memory as samples of 16 bits.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::Seed;
use serde::Deserialize;

use crate::TrainError;

/// One recording with what is known about it.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Its file.
    pub file: PathBuf,
    /// Samples of its one channel.
    pub samples: Vec<i16>,
    /// What is said.
    pub text: String,
    /// Who says it.
    pub voice: String,
    /// How fast, in a word; empty where nothing is said about it.
    pub speed: String,
    /// Whether the voice is nobody's whose name is learned.
    pub unnamed: bool,
}

/// All recordings of a recipe, split.
#[derive(Debug, Clone)]
pub struct Sounds {
    /// Samples in a second.
    pub sample_rate_hz: u32,
    /// What the model learns from.
    pub train: Vec<Recording>,
    /// What it never hears.
    pub held_out: Vec<Recording>,
}

#[derive(Debug, Deserialize)]
struct Row {
    file: PathBuf,
    #[serde(default)]
    text: String,
    #[serde(default)]
    voice: String,
    #[serde(default)]
    speed: String,
    #[serde(default)]
    unnamed: bool,
    #[serde(default)]
    split: Split,
}

/// What a recording is for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// To be learned.
    #[default]
    Train,
    /// To measure with: known voices, other sentences.
    HeldOut,
    /// To measure with: a voice of which nothing is learned.
    HeldOutVoice,
}

impl Sounds {
    /// Reads all rows (`{"file": …, "text": …, "voice": …, "speed": …, "unnamed": true, "split": "train" | "held-out" | "held-out-voice"}`, WAV files
    /// relative to it), as one channel at a rate. Voices that are held out altogether are left out.
    ///
    /// # Errors
    /// [`TrainError::Data`] names the file and line of the first row that cannot be used.
    pub fn read(path: &Path, sample_rate_hz: u32) -> Result<Self, TrainError> {
        let wrong = |reason: String| TrainError::Data {
            path: path.into(),
            reason,
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut sounds = Self {
            sample_rate_hz,
            train: Vec::new(),
            held_out: Vec::new(),
        };
        for row in rows(path)? {
            let list = match row.split {
                Split::Train => &mut sounds.train,
                Split::HeldOut => &mut sounds.held_out,
                Split::HeldOutVoice => continue,
            };
            list.push(Recording::read(folder, row, sample_rate_hz)?);
        }
        match sounds.train.is_empty() {
            true => Err(wrong("no training recording in it".into())),
            false => Ok(sounds),
        }
    }

    /// A stretch of each of some training recordings, from a random place; shorter ones are filled up with silence.
    ///
    /// # Shapes
    /// - returns: `[items, 1, len]` in `-1..=1`
    pub fn stretches(&self, items: &[usize], len: usize, seed: Seed, device: &Device) -> Tensor<3> {
        let rows = items.iter().enumerate().map(|(row, &item)| {
            let mut random = seed.indexed(row as u64).stream();
            let samples = &self.train[item].samples;
            let places = samples.len().saturating_sub(len) as u64 + 1;
            let from = (random.next_u64() % places) as usize;
            &samples[from..(from + len).min(samples.len())]
        });
        tensor(&rows.collect::<Vec<_>>(), len, device)
    }
}

/// The rows of a file.
fn rows(path: &Path) -> Result<Vec<Row>, TrainError> {
    let wrong = |reason: String| TrainError::Data {
        path: path.into(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        wrong(format!(
            "{error} (`make data-speech` builds the default data)"
        ))
    })?;
    let lines = text.lines().enumerate();
    let filled = lines.filter(|(_, line)| !line.trim().is_empty());
    filled
        .map(|(at, line)| {
            serde_json::from_str(line).map_err(|error| wrong(format!("line {}: {error}", at + 1)))
        })
        .collect()
}

impl Recording {
    /// `count` recordings of a split at equal distances, all of them for zero; rows as [`Sounds::read`] has them.
    ///
    /// # Errors
    /// As [`Sounds::read`], except that a split may be empty.
    pub fn spread(
        path: &Path,
        split: Split,
        count: usize,
        sample_rate_hz: u32,
    ) -> Result<Vec<Self>, TrainError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let all: Vec<Row> = rows(path)?
            .into_iter()
            .filter(|row| row.split == split)
            .collect();
        let (len, kept) = (all.len(), if count == 0 { usize::MAX } else { count });
        let chosen = |at: usize| kept >= len || (at * kept) / len != ((at + 1) * kept) / len;
        let rows = all.into_iter().enumerate().filter(|(at, _)| chosen(*at));
        rows.map(|(_, row)| Self::read(folder, row, sample_rate_hz))
            .collect()
    }

    /// Its samples in `-1..=1`.
    pub fn samples(&self) -> Vec<f32> {
        let scaled = |sample: &i16| f32::from(*sample) / f32::from(i16::MAX);
        self.samples.iter().map(scaled).collect()
    }

    fn read(folder: &Path, row: Row, sample_rate_hz: u32) -> Result<Self, TrainError> {
        let file = folder.join(&row.file);
        let sound = ravel_media::read_sound(&file)?;
        let sound = sound.with_channels(1).resampled(sample_rate_hz);
        let scaled = sound.channels[0]
            .iter()
            .map(|sample| (sample * f32::from(i16::MAX)).round() as i16);
        Ok(Self {
            samples: scaled.collect(),
            file,
            text: row.text,
            voice: row.voice,
            speed: row.speed,
            unnamed: row.unnamed,
        })
    }

    /// The whole recording, filled up with silence to a multiple of `unit` samples.
    ///
    /// # Shapes
    /// - returns: `[1, 1, t]`
    pub fn tensor(&self, unit: usize, device: &Device) -> Tensor<3> {
        Self::batch(&[self], unit, device)
    }

    /// Whole recordings, all filled up with silence to the longest one's next multiple of `unit` samples.
    ///
    /// # Shapes
    /// - returns: `[recordings, 1, t]`
    pub fn batch(recordings: &[&Self], unit: usize, device: &Device) -> Tensor<3> {
        let rows: Vec<&[i16]> = recordings.iter().map(|one| &one.samples[..]).collect();
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        tensor(&rows, longest.next_multiple_of(unit), device)
    }
}

/// Rows of samples, filled up with silence to `len`.
fn tensor(rows: &[&[i16]], len: usize, device: &Device) -> Tensor<3> {
    let mut values = Vec::with_capacity(rows.len() * len);
    for row in rows {
        let end = values.len() + len;
        values.extend(
            row.iter()
                .map(|&sample| f32::from(sample) / f32::from(i16::MAX)),
        );
        values.resize(end, 0.0);
    }
    let shape = [rows.len(), 1, len];
    Tensor::from_data(TensorData::new::<f32, _>(values, shape), device)
}
