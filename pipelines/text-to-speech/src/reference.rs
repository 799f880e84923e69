//! A few seconds of another voice: checked, cut to a fitting length, and coded.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::{CodeSpec, Waveform};
use ravel_pipeline::{SpeechParts, SpeechText};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The shortest stretch of speech that tells a voice, in seconds.
const LEAST_SECS: f64 = 0.5;
/// Loudness below which nothing is heard (root of the mean square of 20 ms; full scale is 1).
const SILENT: f32 = 1e-3;
/// Share of the loudest 20 ms below which the ends of a recording are cut off.
const QUIET: f32 = 0.02;
/// Seconds that stay in front of and behind what is heard.
const MARGIN_SECS: f64 = 0.05;
/// How far from where the words end a cut may be, as a share of the recording.
const REACH: f64 = 0.12;
/// Seconds that are enough where no words are needed.
const ENOUGH_SECS: f64 = 12.0;

/// A voice to speak with: what was said in it, where that is needed, and its codes. Everything that is needed of the recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reference {
    /// Its words; empty where the model reads a voice without them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Its codes, codebook by codebook.
    pub codes: Vec<Vec<u32>>,
}

/// A reference that fits a pipeline.
#[allow(clippy::large_enum_variant)] // One exists per request.
pub(crate) enum Given {
    /// It stands in front together with its words.
    InFront {
        symbols: Vec<u32>,
        /// `[1, depth, frames]`.
        ids: Tensor<3, Int>,
    },
    /// The model reads its codes, codebook by codebook.
    Read(Vec<Vec<u32>>),
}

impl Given {
    /// Codes that stand in front, `[1, depth, frames]`.
    pub fn in_front(&self) -> Option<&Tensor<3, Int>> {
        match self {
            Self::InFront { ids, .. } => Some(ids),
            Self::Read(_) => None,
        }
    }
}

impl Reference {
    /// A recording of one channel at the codec's rate, with its words.
    ///
    /// Silence at its ends is left out. A model that reads voices needs no words and takes the first 12 seconds. For another one, where
    /// there are more words than an utterance of the model has, the first sentences are kept, and the sound up to the quietest place near
    /// where they should end.
    ///
    /// # Errors
    /// [`Error::Reference`] if nothing is heard in it, or too little, or far more than its words, or words that are needed are not given;
    /// [`Error::ReferenceText`] if they cannot be said.
    pub fn new(samples: &[f32], text: Option<&str>, parts: &SpeechParts) -> Result<Self, Error> {
        let spec = parts.codec.sound_spec();
        let rate = f64::from(spec.sample_rate_hz);
        let heard = heard(samples, rate)?;
        let (words, end) = match parts.model.reference {
            Some(_) => {
                let enough = (ENOUGH_SECS * rate) as usize;
                (String::new(), heard.len().min(enough))
            }
            None => with_words(heard, text, parts)?,
        };
        let kept = &heard[..end];
        let one = Tensor::<1>::from_floats(kept, &parts.device).reshape([1, 1, kept.len()]);
        let codes = parts.codec.encode(Waveform {
            samples: one.repeat_dim(1, spec.channels),
            sample_rate_hz: spec.sample_rate_hz,
        })?;
        let frames = codes.filled().max(1);
        let rows = codes.to_host().remove(0);
        Ok(Self {
            text: words,
            codes: rows.chunks(frames).map(<[u32]>::to_vec).collect(),
        })
    }

    /// Checked against a pipeline, whose metadata may have come from anywhere.
    pub(crate) fn given(&self, parts: &SpeechParts) -> Result<Given, Error> {
        let ids = self.ids(&parts.codec.sound_spec().codes, &parts.device)?;
        let frames = ids.dims()[2];
        if parts.model.reference.is_some() {
            let hop = parts.codec.sound_spec().hop as f64;
            let secs = frames as f64 * hop / f64::from(parts.codec.sound_spec().sample_rate_hz);
            return match secs <= ENOUGH_SECS + 1.0 && self.text.is_empty() {
                true => Ok(Given::Read(self.codes.clone())),
                false => Err(unfit()),
            };
        }
        let (_, symbols, share) = kept_words(&self.text, &parts.text)?;
        if frames > parts.text.most_frames(symbols.len()) || share < 1.0 {
            return Err(unfit());
        }
        Ok(Given::InFront { symbols, ids })
    }

    /// Its codes, `[1, depth, frames]`, checked against a codec.
    pub(crate) fn ids(&self, spec: &CodeSpec, device: &Device) -> Result<Tensor<3, Int>, Error> {
        let frames = self.codes.first().map_or(0, Vec::len);
        let mut ids = self.codes.iter().flatten();
        let fits = self.codes.len() == spec.depth
            && frames > 0
            && self.codes.iter().all(|row| row.len() == frames)
            && ids.all(|&id| (id as usize) < spec.codebook_size);
        match fits {
            true => Ok(tensor(&self.codes, frames, device)),
            false => Err(unfit()),
        }
    }
}

fn unfit() -> Error {
    Error::Reference("its codes or words do not fit this model".into())
}

/// The words of a recording that are kept, and the samples in which they are said.
fn with_words(
    heard: &[f32],
    text: Option<&str>,
    parts: &SpeechParts,
) -> Result<(String, usize), Error> {
    let spec = parts.codec.sound_spec();
    let rate = f64::from(spec.sample_rate_hz);
    let Some(text) = text else {
        return Err(Error::Reference(
            "its words are needed, since this model learned every sound together with its words"
                .into(),
        ));
    };
    let (words, symbols, share) = kept_words(text, &parts.text)?;
    let end = match share < 1.0 {
        true => quietest(heard, share, rate),
        false => heard.len(),
    };
    let most = parts.text.most_frames(symbols.len()) * spec.hop;
    match end > most {
        true => Err(Error::Reference(format!(
            "{:.1} seconds of speech are in it, its words take {:.1} at most; give all that is said in it, or cut it",
            end as f64 / rate,
            most as f64 / rate
        ))),
        false => Ok((words, end)),
    }
}

fn tensor(codes: &[Vec<u32>], frames: usize, device: &Device) -> Tensor<3, Int> {
    let ids = codes.iter().flatten().map(|&id| id as i32).collect();
    let shape = [1, codes.len(), frames];
    Tensor::from_data(TensorData::new::<i32, _>(ids, shape), device)
}

/// The first sentences that fit an utterance, their symbols, and which share of all symbols these are.
fn kept_words(text: &str, english: &SpeechText) -> Result<(String, Vec<u32>, f64), Error> {
    let all = english.utterances(text).map_err(Error::ReferenceText)?;
    let total: usize = all.iter().map(|(_, symbols)| symbols.len()).sum();
    let (mut words, mut symbols) = (String::new(), Vec::new());
    let mut kept = 0;
    for (said, next) in &all {
        let joined = english.joined(&symbols, next);
        if kept > 0 && joined.len() > english.length() {
            break;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(said);
        kept += next.len();
        symbols = joined;
    }
    let share = kept as f64 / total.max(1) as f64;
    Ok((words, symbols, share))
}

/// The recording without silence at its ends.
fn heard(samples: &[f32], rate: f64) -> Result<&[f32], Error> {
    let mean = samples.iter().sum::<f32>() / samples.len().max(1) as f32;
    let window = ((rate * 0.02) as usize).max(1);
    let loudness: Vec<f32> = samples
        .chunks(window)
        .map(|part| loudness(part, mean))
        .collect();
    let loudest = loudness.iter().copied().fold(0.0, f32::max);
    let long_enough = |len: usize| len as f64 >= LEAST_SECS * rate;
    let short = |len: usize| {
        let found = len as f64 / rate;
        Error::Reference(format!(
            "{found:.2} seconds of speech are in it, {LEAST_SECS} at least are needed"
        ))
    };
    if !long_enough(samples.len()) {
        return Err(short(samples.len()));
    }
    if loudest < SILENT {
        return Err(Error::Reference(
            "nothing is heard in it: it is silent".into(),
        ));
    }
    let above = |value: &f32| *value >= SILENT.max(QUIET * loudest);
    let first = loudness.iter().position(above).unwrap_or(0);
    let last = loudness.iter().rposition(above).unwrap_or(0);
    let margin = (MARGIN_SECS * rate) as usize;
    let from = (first * window).saturating_sub(margin);
    let to = ((last + 1) * window + margin).min(samples.len());
    match long_enough(to - from) {
        true => Ok(&samples[from..to]),
        false => Err(short(to - from)),
    }
}

/// The root of the mean square about a mean.
fn loudness(samples: &[f32], mean: f32) -> f32 {
    let sum: f32 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    (sum / samples.len().max(1) as f32).sqrt()
}

/// The middle of the quietest tenth of a second near a share of the recording.
fn quietest(samples: &[f32], share: f64, rate: f64) -> usize {
    let window = ((rate * 0.1) as usize).clamp(1, samples.len());
    let place = |share: f64| (share.clamp(0.0, 1.0) * (samples.len() - window) as f64) as usize;
    let (from, to) = (place(share - REACH), place(share + REACH));
    let step = (window / 10).max(1);
    let starts = (from..=to).step_by(step);
    let start = starts.min_by(|&a, &b| {
        let loudness = |at: usize| loudness(&samples[at..at + window], 0.0);
        loudness(a).total_cmp(&loudness(b))
    });
    start.unwrap_or(from) + window / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(len: usize) -> Vec<f32> {
        (0..len).map(|at| (at as f32 * 0.3).sin() * 0.5).collect()
    }

    #[test]
    fn silence_at_the_ends_is_left_out() {
        let mut samples = vec![0.0; 4000];
        samples.extend(tone(4000));
        samples.extend(vec![1e-4; 3000]);
        let kept = heard(&samples, 4000.0).unwrap();
        assert_eq!(kept.len(), 4000 + 2 * 200);
    }

    #[test]
    fn what_tells_no_voice_is_said() {
        let line = |samples: &[f32]| heard(samples, 4000.0).unwrap_err().to_string();
        assert!(line(&[]).contains("0.00 seconds"));
        assert!(line(&[0.3]).contains("0.00 seconds"));
        assert!(line(&[0.0; 8000]).contains("silent"));
        // A constant is silence too.
        assert!(line(&[0.4; 8000]).contains("silent"));
        let mut click = vec![0.0; 8000];
        click[4000] = 1.0;
        assert!(line(&click).contains("0.12 seconds"), "{}", line(&click));
    }

    #[test]
    fn a_cut_falls_into_the_pause() {
        let mut samples = tone(2400);
        samples.extend(vec![0.0; 600]);
        samples.extend(tone(3000));
        let cut = quietest(&samples, 0.5, 4000.0);
        assert!((2400..3000).contains(&cut), "{cut}");
    }
}
