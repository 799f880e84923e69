//! Text to speech: a text is cut into utterances, each becomes codes and then sound, handed on while the next one is made.
//!
//! An utterance is chosen code by code until the model ends it. One that does not end, repeats itself or is too short for its
//! phonemes is drawn again, a few times; then the best of them is taken. What is handed on depends on the request alone, not on who
//! listens when.

mod attempt;
mod join;

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, Decoding, Generator, Layout, Seed, Start};
use ravel_decode::sampler::all_ended;
use ravel_decode::{OneByOne, SamplerConfig};
use ravel_pipeline::SpeechParts;
use ravel_pronounce::PronounceError;
use serde::{Deserialize, Serialize};

pub use attempt::{Fault, fault};
pub use join::{faded, pause};

/// Times that an utterance is drawn at most.
const ATTEMPTS: u64 = 4;

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is said.
    pub text: String,
    /// Who says it; the first voice if unset.
    pub voice: Option<String>,
    /// How fast, by name; the first speed if unset.
    pub speed: Option<String>,
    /// The source of all randomness.
    pub seed: u64,
    /// How codes are chosen.
    pub sampler: SamplerConfig,
}

/// What a recording says about itself: all that is needed to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metadata {
    /// What is said.
    pub text: String,
    /// Who says it.
    pub voice: String,
    /// How fast.
    pub speed: String,
    /// The request's seed.
    pub seed: u64,
    /// The pipeline's name, or its definition file.
    pub pipeline: String,
    /// The pipeline's fingerprint.
    pub hash: String,
    /// Sampling settings.
    pub sampler: SamplerConfig,
    /// The program's version.
    pub version: String,
}

/// What cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text.
    #[error(transparent)]
    Text(#[from] PronounceError),
    /// A voice that the model has not.
    #[error("there is no voice `{found}`; this model has {known}")]
    Voice {
        /// What was asked for.
        found: String,
        /// What there is.
        known: String,
    },
    /// A speed that the model has not.
    #[error("there is no speed `{found}`; this model has {known}")]
    Speed {
        /// What was asked for.
        found: String,
        /// What there is.
        known: String,
    },
    /// A part that fails.
    #[error(transparent)]
    Part(#[from] ravel_core::Error),
}

/// A stretch of sound, ready to be heard.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece<'a> {
    /// The words of its utterance, as they are said.
    pub words: &'a str,
    /// Samples in `-1..=1`, silence after the words included.
    pub samples: &'a [f32],
    /// Which utterance it is.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// Draws that it took.
    pub attempts: u64,
    /// What is still wrong with it, if anything is.
    pub fault: Option<Fault>,
}

/// A request that can be spoken.
pub struct Plan {
    utterances: Vec<(String, Vec<u32>)>,
    /// Who says it.
    pub voice: String,
    /// How fast.
    pub speed: String,
    seed: u64,
    sampler: SamplerConfig,
}

impl Plan {
    /// How many utterances there are.
    pub fn len(&self) -> usize {
        self.utterances.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.utterances.is_empty()
    }
}

/// A pipeline that speaks.
pub struct TextToSpeech {
    parts: SpeechParts,
}

impl TextToSpeech {
    /// The pipeline of built parts.
    pub fn new(parts: SpeechParts) -> Self {
        Self { parts }
    }

    /// What it is made of.
    pub fn parts(&self) -> &SpeechParts {
        &self.parts
    }

    /// Samples in a second.
    pub fn sample_rate_hz(&self) -> u32 {
        self.parts.codec.sound_spec().sample_rate_hz
    }

    /// Checks a request before anything is computed.
    ///
    /// # Errors
    /// [`Error`] if the text cannot be said, or there is no such voice or speed.
    pub fn plan(&self, request: &Request) -> Result<Plan, Error> {
        let text = &self.parts.text;
        let voice = known(text.voices(), request.voice.as_deref())
            .map_err(|(found, known)| Error::Voice { found, known })?;
        let speed = known(text.speeds(), request.speed.as_deref())
            .map_err(|(found, known)| Error::Speed { found, known })?;
        request.sampler.validate()?;
        Ok(Plan {
            utterances: text.utterances(&request.text)?,
            voice,
            speed,
            seed: request.seed,
            sampler: request.sampler.clone(),
        })
    }

    /// Speaks a plan, utterance after utterance; `false` if `hear` broke it off.
    ///
    /// # Errors
    /// [`Error::Part`] if a part fails.
    pub fn run(
        &self,
        plan: &Plan,
        hear: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        let of = plan.len();
        for (number, (words, symbols)) in plan.utterances.iter().enumerate() {
            let drawn = self.drawn(plan, number, symbols)?;
            let mut samples = self.sound(drawn.codes)?;
            faded(&mut samples, self.sample_rate_hz());
            samples.extend(pause(words, self.sample_rate_hz()));
            let piece = Piece {
                words,
                samples: &samples,
                number,
                of,
                attempts: drawn.attempts,
                fault: drawn.fault,
            };
            if hear(piece).is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// An utterance's codes: the first draw without a fault, or the one whose fault is the least.
    fn drawn(&self, plan: &Plan, number: usize, symbols: &[u32]) -> Result<Drawn, Error> {
        let seed = Seed::new(plan.seed).named("speech").indexed(number as u64);
        let mut best: Option<Drawn> = None;
        for attempt in 0..ATTEMPTS {
            let (codes, ended) = self.attempt(plan, symbols, seed.indexed(attempt))?;
            let found = fault(&first_codes(&codes), ended, symbols.len());
            let drawn = Drawn {
                codes,
                attempts: attempt + 1,
                fault: found,
            };
            let better = best.as_ref().is_none_or(|best| drawn.fault < best.fault);
            if better {
                best = Some(drawn);
            }
            // Without chance every draw is the same.
            if found.is_none() || plan.sampler.temperature == 0.0 {
                break;
            }
        }
        Ok(best.expect("there is one attempt at least"))
    }

    /// One draw: frames of codes, `[1, depth, frames]`, and whether the model ended them.
    fn attempt(
        &self,
        plan: &Plan,
        symbols: &[u32],
        seed: Seed,
    ) -> Result<(Tensor<3, Int>, bool), Error> {
        let parts = &self.parts;
        let ids = parts.text.ids(Some(&plan.voice), &plan.speed, symbols);
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        let ids = Tensor::<1, Int>::from_ints(&ids[..], &parts.device).unsqueeze();
        let condition = parts.prefix.condition(ids);
        let config = parts.head.config().clone();
        let frames = parts.text.most_frames(symbols.len());
        let layout = config.arrangement.layout(frames, config.depth);
        let head = parts.head.clone().with_layout(&layout);
        let generator = Generator {
            backbone: &parts.backbone,
            head: &head,
            pyramid: None,
        };
        let prompt = Codes {
            ids: Tensor::zeros([1, config.depth, 0], &parts.device),
            layout: layout.clone(),
        };
        let mut sampler = plan.sampler.build(seed, &[0], layout.len());
        let ending = plan.sampler.ending.as_ref();
        let codes = OneByOne.decode(
            &generator,
            Start { condition, prompt },
            &layout,
            &mut *sampler,
            &mut |_, codes| match ending {
                Some(ending) if all_ended(codes, ending) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            },
        )?;
        let whole = config.arrangement.undo(codes.ids, config.depth);
        Ok(until_end(whole, config.end))
    }

    /// The sound of an utterance's codes.
    fn sound(&self, ids: Tensor<3, Int>) -> Result<Vec<f32>, Error> {
        let [_, _, len] = ids.dims();
        if len == 0 {
            return Ok(Vec::new());
        }
        let layout = Layout::Sequence { len };
        let sound = self.parts.codec.decode(&Codes { ids, layout })?;
        Ok(sound.samples.into_data().iter::<f32>().collect())
    }
}

/// One draw of an utterance.
struct Drawn {
    codes: Tensor<3, Int>,
    attempts: u64,
    fault: Option<Fault>,
}

/// Frames before the first that holds the end id, and whether there is one.
fn until_end(ids: Tensor<3, Int>, end: Option<usize>) -> (Tensor<3, Int>, bool) {
    let [batch, depth, frames] = ids.dims();
    let end = end.unwrap_or(usize::MAX) as i64;
    let flat: Vec<i64> = ids.to_data().iter::<i64>().collect();
    let at = (0..frames).find(|at| (0..depth).any(|row| flat[row * frames + at] >= end));
    let kept = ids.slice([0..batch, 0..depth, 0..at.unwrap_or(frames)]);
    (kept, at.is_some())
}

fn first_codes(ids: &Tensor<3, Int>) -> Vec<u32> {
    let first = ids.clone().narrow(1, 0, 1);
    first.into_data().iter::<u32>().collect()
}

/// The name that was asked for, or the first one.
fn known(names: &[String], asked: Option<&str>) -> Result<String, (String, String)> {
    match asked {
        None => Ok(names.first().cloned().unwrap_or_default()),
        Some(asked) => match names.iter().find(|name| *name == asked) {
            Some(name) => Ok(name.clone()),
            None if names.is_empty() => Err((asked.into(), "none to choose from".into())),
            None => Err((asked.into(), names.join(", "))),
        },
    }
}
