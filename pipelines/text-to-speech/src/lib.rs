//! Text to speech: a text is cut into utterances, each becomes codes and then sound, handed on as it is made.
//!
//! An utterance is chosen code by code until the model ends it. It may not end before its symbols can have been said, nor go on much
//! longer; a loop is taken back to where it begins and chosen anew ([`Checks`]). Frames are handed on as soon as no loop can begin
//! in front of them. What is handed on depends on the request alone, not on who listens when. Where the model foretells how long its
//! symbols are said, that is drawn first, and the utterance is as long.

mod checks;
mod join;
mod loops;
mod model;
mod pipeline;
mod published;
mod reference;
mod speaking;

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use ravel_core::{Codes, Generator, Sampler, Seed, Start, Unit};
use ravel_decode::SamplerConfig;
use ravel_decode::method::{Next, in_takes};
use ravel_heads::Timed;
use ravel_pipeline::{Prompt, SpeechParts};
use ravel_pronounce::PronounceError;
use ravel_text::TextError;
use serde::{Deserialize, Serialize};

use checks::LateEnd;
use reference::Given;
use speaking::{Frames, Speaking};

pub use checks::{Checks, Fault};
pub use join::{Fader, pause};
pub use loops::LoopWatch;
pub use model::PublishedSound;
pub use pipeline::SoundPipeline;
pub use published::{PUBLISHED, SHAPES};
pub use reference::Reference;

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is said.
    pub text: String,
    /// Who says it; the first voice if unset. A reference comes before it.
    pub voice: Option<String>,
    /// The voice to say it in.
    pub reference: Option<Reference>,
    /// How fast, by name; the first speed if unset.
    pub speed: Option<String>,
    /// How long it may last in seconds, with models that can be told; music lasts as long.
    pub seconds: Option<f64>,
    /// The source of all randomness.
    pub seed: u64,
    /// How codes are chosen.
    pub sampler: SamplerConfig,
    /// What is looked after meanwhile.
    pub checks: Checks,
}

/// What a recording says about itself: all that is needed to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metadata {
    /// What is said.
    pub text: String,
    /// Who says it; nobody of the model's with a reference.
    pub voice: String,
    /// The voice that it is said in: all that is needed of it, not its recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// How fast.
    pub speed: String,
    /// How long it could last in seconds, if that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The request's seed.
    pub seed: u64,
    /// The pipeline's name, or its definition file.
    pub pipeline: String,
    /// The pipeline's fingerprint.
    pub hash: String,
    /// Sampling settings.
    pub sampler: SamplerConfig,
    /// What was looked after.
    #[serde(default, skip_serializing_if = "Checks::are_all")]
    pub checks: Checks,
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
    /// A recording that tells no voice, without the name of its file.
    #[error("{0}")]
    Reference(String),
    /// What the model does not do.
    #[error("{0}")]
    Setting(String),
    /// A text without words.
    #[error("the text says nothing")]
    Nothing,
    /// A text that is longer than the model reads.
    #[error("{what} is {found} {unit} long, this model reads {most} at most")]
    Long {
        /// Which text.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// In what that is counted.
        unit: &'static str,
        /// How long it may be.
        most: usize,
    },
    /// What a vocabulary reports.
    #[error(transparent)]
    Vocabulary(#[from] TextError),
    /// The words of a reference.
    #[error("the reference's words: {0}")]
    ReferenceText(PronounceError),
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
    /// How the utterance went, with its last piece.
    pub end: Option<End>,
}

/// How an utterance went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Loops that were taken back.
    pub retakes: u64,
    /// What is still wrong with it, if anything is.
    pub fault: Option<Fault>,
}

/// A request that can be spoken.
pub struct Plan {
    utterances: Vec<(String, Vec<u32>)>,
    /// Who says it; empty with a reference.
    pub voice: String,
    /// How fast.
    pub speed: String,
    reference: Option<Given>,
    /// The reference's words, where they are needed as they are.
    words: Option<String>,
    /// New frames at most, all utterances together.
    frames: Option<usize>,
    seed: u64,
    sampler: SamplerConfig,
    checks: Checks,
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

    /// A voice to speak with, from a recording of one channel at the pipeline's rate and its words.
    ///
    /// # Errors
    /// As [`Reference::new`].
    pub fn reference(&self, samples: &[f32], text: Option<&str>) -> Result<Reference, Error> {
        Reference::new(samples, text, &self.parts)
    }

    /// Checks a request before anything is computed.
    ///
    /// # Errors
    /// [`Error`] if the text cannot be said, there is no such voice or speed, or a reference is not this model's.
    pub fn plan(&self, request: &Request) -> Result<Plan, Error> {
        let text = &self.parts.text;
        let reference = request.reference.as_ref();
        let voice = match reference {
            Some(_) => String::new(),
            None => known(text.voices(), request.voice.as_deref())
                .map_err(|(found, known)| Error::Voice { found, known })?,
        };
        let speed = known(text.speeds(), request.speed.as_deref())
            .map_err(|(found, known)| Error::Speed { found, known })?;
        request.sampler.validate()?;
        if request.sampler.is_guided() {
            return Err(Error::Setting(
                "this model was not trained to be guided; leave guidance out".into(),
            ));
        }
        if request.seconds.is_some() {
            return Err(Error::Setting(
                "this model takes as long as its words do; leave the seconds out".into(),
            ));
        }
        Ok(Plan {
            words: None,
            frames: None,
            utterances: text.utterances(&request.text)?,
            voice,
            speed,
            reference: reference.map(|own| own.given(&self.parts)).transpose()?,
            seed: request.seed,
            sampler: request.sampler.clone(),
            checks: request.checks,
        })
    }

    /// Speaks a plan, piece by piece; `false` if `hear` broke it off.
    ///
    /// # Errors
    /// [`Error::Part`] if a part fails.
    pub fn run(
        &self,
        plan: &Plan,
        hear: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        for (number, (words, symbols)) in plan.utterances.iter().enumerate() {
            let mut hear = |samples: &[f32], end: Option<End>| {
                hear(Piece {
                    words,
                    samples,
                    number,
                    of: plan.len(),
                    end,
                })
            };
            let Some((mut samples, end)) = self.utterance(plan, number, symbols, &mut hear)? else {
                return Ok(false);
            };
            samples.extend(pause(words, self.sample_rate_hz()));
            if hear(&samples, Some(end)).is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Speaks one utterance but for its last piece, which it gives back; nothing if `hear` broke it off.
    fn utterance(
        &self,
        plan: &Plan,
        number: usize,
        symbols: &[u32],
        hear: &mut Hear<'_>,
    ) -> Result<Option<(Vec<f32>, End)>, Error> {
        let parts = &self.parts;
        let config = parts.model.head.config();
        let (shape, depth) = (&config.arrangement, config.depth);
        let seed = Seed::new(plan.seed).named("speech").indexed(number as u64);
        let front = self.front(plan, symbols);
        let durations = self.durations(plan, &front.ids, symbols.len(), seed)?;
        let frames = self.frames(plan, symbols.len(), durations.as_deref());
        let layout = shape.layout(frames.most, depth);
        let head = parts.model.choosing(&layout);
        let generator = Generator {
            backbone: &parts.model.backbone,
            head: &*head,
            pyramid: None,
        };
        let given = plan.reference.as_ref().and_then(Given::in_front);
        let begun = shape.beginning(frames.given, depth);
        let prompt = match given {
            Some(ids) => shape.arrange(ids.clone()).narrow(2, 0, begun),
            None => Tensor::zeros([1, config.rows(), 0], &parts.device),
        };
        let timed = Timed {
            symbols,
            frames: durations.as_deref().unwrap_or_default(),
        };
        let condition = parts.model.condition(&[front], &parts.device);
        let start = Start {
            condition: parts.model.timed(condition, &[timed], layout.len()),
            prompt: Codes {
                ids: prompt,
                layout: layout.clone(),
            },
        };
        let earliest = match (plan.checks.end, plan.checks.shortest) {
            (false, _) => usize::MAX,
            (true, true) => shape.beginning(frames.least, depth),
            (true, false) => 0,
        };
        let mut samplers = |take: u64| -> Box<dyn Sampler> {
            let inner = plan.sampler.build(seed.indexed(take), &[0], layout.len());
            match config.end {
                Some(end) => Box::new(LateEnd {
                    inner,
                    end,
                    from: earliest,
                }),
                None => inner,
            }
        };
        let chance = plan.sampler.temperature > 0.0;
        let mut speaking = Speaking::new(parts, plan.checks, chance, frames, given)?;
        let mut stopped = None;
        let mut watch = |unit: &Unit, codes: &Codes| match speaking.next(unit, codes) {
            Ok((next, sound)) => {
                if !sound.is_empty() && hear(&sound, None).is_break() {
                    stopped = Some(Ok(None));
                    return Next::Stop;
                }
                next
            }
            Err(error) => {
                stopped = Some(Err(error));
                Next::Stop
            }
        };
        let codes = in_takes(&generator, start, &layout, &mut samplers, &mut watch)?;
        match stopped {
            Some(stopped) => stopped,
            None => speaking.finish(&codes).map(Some),
        }
    }

    /// What stands in front of an utterance: a voice that is told, or one that is shown, by itself or together with its words; a speed;
    /// symbols.
    fn front(&self, plan: &Plan, symbols: &[u32]) -> Prompt {
        let text = &self.parts.text;
        let named = |voice, symbols: &[u32]| text.ids(voice, &plan.speed, symbols);
        match &plan.reference {
            None => Prompt {
                ids: named(Some(&plan.voice), symbols),
                shown: Vec::new(),
            },
            Some(Given::InFront { symbols: first, .. }) => Prompt {
                ids: named(None, &text.joined(first, symbols)),
                shown: Vec::new(),
            },
            Some(Given::Read(codes)) => Prompt {
                ids: named(None, symbols),
                shown: codes.clone(),
            },
        }
    }

    /// How many frames each of the last symbols takes, where the model foretells that.
    fn durations(
        &self,
        plan: &Plan,
        ids: &[u32],
        symbols: usize,
        seed: Seed,
    ) -> Result<Option<Vec<u32>>, Error> {
        let Some(model) = &self.parts.model.durations else {
            return Ok(None);
        };
        let seed = seed.named("durations");
        let drawn = model.draw(ids, symbols, &plan.sampler, seed, &self.parts.device)?;
        Ok(Some(drawn))
    }

    /// How long an utterance of so many symbols may be; one whose durations are known is as long as they say.
    fn frames(&self, plan: &Plan, symbols: usize, durations: Option<&[u32]>) -> Frames {
        let (text, checks) = (&self.parts.text, &plan.checks);
        let given = plan.reference.as_ref().and_then(Given::in_front);
        let given = given.map_or(0, |ids| ids.dims()[2]);
        let known = durations.map(|all| all.iter().sum::<u32>().max(1) as usize);
        let most = match checks.longest {
            true => known.unwrap_or(text.most_frames(symbols)),
            false => text.most_frames(text.length()),
        };
        let least = known.unwrap_or(text.least_frames(symbols)).min(most);
        Frames {
            given,
            least: given + least,
            most: given + most,
            known: known.is_some() && checks.longest,
        }
    }
}

/// Hears samples of an utterance.
type Hear<'a> = dyn FnMut(&[f32], Option<End>) -> ControlFlow<()> + 'a;

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
