//! Published models: what each reads in front of its codes, where it ends, and the loop that they share.
//!
//! Frames go to the codec as they are chosen, where the codec can take them so. Nothing is looked after as it is with the models that
//! are trained here: what comes out is what the published code would choose.

mod csm;
mod dia;
mod fish;
mod forced;
mod musicgen;
mod split;

use std::ops::ControlFlow;

use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::{
    Backbone, Codes, Condition, Generator, Head, Sampler, Seed, Start, Unit, Waveform,
};
use ravel_decode::SamplerConfig;
use ravel_decode::method::{Next, in_takes};
use ravel_heads::Arrangement;
use ravel_pipeline::{SoundModel, SoundModelParts};

use self::forced::Forced;
use crate::checks::{Checks, Fault};
use crate::reference::{Given, Reference};
use crate::speaking::{FIRST_FRAMES, LATER_FRAMES, Mouth};
use crate::{End, Error, Hear, Piece, Plan, Request, known};

/// What a model is to say, and what was said before.
pub(crate) struct Asked<'a> {
    /// The words of this utterance.
    line: &'a str,
    /// Who says them.
    voice: &'a str,
    /// Words in the voice to speak with, and their frames, `[1, depth, n]`.
    reference: Option<(&'a str, &'a Tensor<3, Int>)>,
    /// What was said before.
    said: &'a [Said],
    /// Whether a row without the words is drawn beside, for guidance.
    guided: bool,
    /// New frames at most.
    frames: usize,
}

/// An utterance that is finished.
pub(crate) struct Said {
    line: String,
    /// All that was chosen, the end included: `[1, rows, n]`.
    ids: Tensor<3, Int>,
    /// Its frames: `[1, depth, n]`.
    frames: Tensor<3, Int>,
}

/// An utterance that can be drawn.
pub(crate) struct Utterance<'a> {
    condition: Condition,
    head: HeadOf<'a>,
    /// How frames lie along the sequence.
    shape: Arrangement,
    /// Codebooks.
    depth: usize,
    /// Frames that stand in front of the new ones, `[1, depth, n]`.
    given: Option<Tensor<3, Int>>,
    /// Frames at most, given ones included.
    most: usize,
}

/// A head that the model keeps, or one of this utterance.
pub(crate) enum HeadOf<'a> {
    Kept(&'a dyn Head),
    Own(Box<dyn Head>),
}

impl HeadOf<'_> {
    fn get(&self) -> &dyn Head {
        match self {
            Self::Kept(head) => *head,
            Self::Own(head) => &**head,
        }
    }
}

/// A published model that makes sound.
pub(crate) trait Speaker {
    /// The sequence model over frames.
    fn backbone(&self) -> &dyn Backbone;

    /// Voices by name, the usual one first.
    fn voices(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether it was trained to be guided.
    fn is_guided(&self) -> bool {
        false
    }

    /// Whether it can go on from a recording.
    fn takes_references(&self) -> bool {
        true
    }

    /// A text as utterances.
    fn lines(&self, text: &str, voice: &str) -> Vec<String>;

    /// New frames of an utterance at most, where nothing is asked for.
    fn longest(&self) -> usize;

    /// Whether an utterance fits, with a reference in front of it.
    fn check(&self, asked: &Asked<'_>) -> Result<(), Error>;

    /// What is drawn for an utterance.
    fn begin(&self, asked: &Asked<'_>) -> Result<Utterance<'_>, Error>;

    /// Whether the ids of a position end an utterance.
    fn ends(&self, position: &[u32]) -> bool;

    /// Whether it goes on for as long as it is asked to.
    fn is_endless(&self) -> bool {
        false
    }

    /// What chooses; `rows` counts rows of one take.
    fn sampler(&self, config: &SamplerConfig, seed: Seed, positions: usize) -> Box<dyn Sampler> {
        config.build(seed, &[0], positions)
    }

    /// Codes that the codec has, of those that the model chose.
    fn codes(&self, ids: Tensor<3, Int>, codebook_size: usize) -> Tensor<3, Int> {
        let beyond = ids.clone().greater_equal_elem(codebook_size as i64);
        ids.mask_fill(beyond, 0)
    }
}

/// A pipeline with a published model.
pub struct PublishedSound {
    parts: SoundModelParts,
}

impl PublishedSound {
    /// The pipeline of built parts.
    pub fn new(parts: SoundModelParts) -> Self {
        Self { parts }
    }

    /// What it is made of.
    pub fn parts(&self) -> &SoundModelParts {
        &self.parts
    }

    /// Samples in a second.
    pub fn sample_rate_hz(&self) -> u32 {
        self.parts.codec.sound_spec().sample_rate_hz
    }

    fn speaker(&self) -> Box<dyn Speaker + '_> {
        let device = &self.parts.device;
        match &self.parts.model {
            SoundModel::FishSpeech {
                config,
                vocabulary,
                model,
            } => Box::new(fish::Fish {
                config,
                vocabulary,
                model,
                device,
            }),
            SoundModel::Csm {
                config,
                vocabulary,
                around,
                model,
            } => Box::new(csm::Speaking {
                config,
                vocabulary,
                around: *around,
                model,
                device,
            }),
            SoundModel::Dia { config, model } => Box::new(dia::Dialogue {
                config,
                model,
                device,
            }),
            SoundModel::Musicgen {
                config,
                vocabulary,
                model,
            } => Box::new(musicgen::Music {
                config,
                vocabulary,
                model,
                device,
            }),
        }
    }

    /// A voice to speak with, from a recording of one channel at the pipeline's rate and its words.
    ///
    /// # Errors
    /// [`Error::Reference`] if the model takes none, its words are not told, or nothing is in it.
    pub fn reference(&self, samples: &[f32], text: Option<&str>) -> Result<Reference, Error> {
        let refused = |reason: &str| Err(Error::Reference(reason.into()));
        if !self.speaker().takes_references() {
            return refused("this model speaks in no voice of a recording");
        }
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            return refused("its words are needed, which stand in front of it");
        };
        if samples.is_empty() {
            return refused("nothing is in it");
        }
        let (spec, device) = (self.parts.codec.sound_spec(), &self.parts.device);
        let one = Tensor::<1>::from_floats(samples, device).reshape([1, 1, samples.len()]);
        let codes = self.parts.codec.encode(Waveform {
            samples: one.repeat_dim(1, spec.channels),
            sample_rate_hz: spec.sample_rate_hz,
        })?;
        let frames = codes.filled().max(1);
        let rows = codes.to_host().remove(0);
        Ok(Reference {
            text: text.into(),
            codes: rows.chunks(frames).map(<[u32]>::to_vec).collect(),
        })
    }

    /// Checks a request before anything is computed.
    ///
    /// # Errors
    /// [`Error`] if the text says nothing or too much, there is no such voice, or the model does not do what is asked.
    pub fn plan(&self, request: &Request) -> Result<Plan, Error> {
        let speaker = self.speaker();
        let (parts, reference) = (&self.parts, request.reference.as_ref());
        let refused = |what: &str| {
            let model = &parts.name;
            Err(Error::Setting(format!("`{model}` {what}")))
        };
        if request.checks != Checks::default() {
            return refused("has no checks that could be left out");
        }
        if request.sampler.is_guided() && !speaker.is_guided() {
            return refused("was not trained to be guided; leave guidance out");
        }
        if reference.is_some() && !speaker.takes_references() {
            return refused("speaks in no voice of a recording");
        }
        let voice = request.voice.as_deref().filter(|_| reference.is_none());
        let voice = known(&speaker.voices(), voice.filter(|voice| !voice.is_empty()))
            .map_err(|(found, known)| Error::Voice { found, known })?;
        if let Some(found) = request.speed.clone() {
            let known = "none to choose from".into();
            return Err(Error::Speed { found, known });
        }
        request.sampler.validate()?;
        if request.text.trim().is_empty() {
            return Err(Error::Nothing);
        }
        let lines = speaker.lines(&request.text, &voice);
        if lines.is_empty() {
            return Err(Error::Nothing);
        }
        let plan = Plan {
            utterances: lines.into_iter().map(|line| (line, Vec::new())).collect(),
            voice,
            speed: String::new(),
            reference: match reference {
                Some(reference) => Some(Given::InFront {
                    symbols: Vec::new(),
                    ids: reference.ids(&parts.codec.sound_spec().codes, &parts.device)?,
                }),
                None => None,
            },
            words: reference.map(|reference| reference.text.clone()),
            frames: self.frames(request.seconds)?,
            seed: request.seed,
            sampler: request.sampler.clone(),
            checks: request.checks,
        };
        for (line, _) in &plan.utterances {
            let most = plan.frames.unwrap_or(usize::MAX).min(speaker.longest());
            speaker.check(&plan.asked(line, &[], most))?;
        }
        Ok(plan)
    }

    /// Frames that fill so many seconds.
    fn frames(&self, seconds: Option<f64>) -> Result<Option<usize>, Error> {
        let Some(seconds) = seconds else {
            return Ok(None);
        };
        let spec = self.parts.codec.sound_spec();
        let longest = self.speaker().longest() as f64 / spec.frames_per_second();
        // Several utterances may follow one another; none is longer than the model goes.
        let most = 3600f64.max(longest);
        match seconds > 0.0 && seconds <= most {
            true => Ok(Some((seconds * spec.frames_per_second()).ceil() as usize)),
            false => Err(Error::Setting(format!(
                "{seconds} seconds are asked for, more than 0 and up to {most} are possible"
            ))),
        }
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
        let speaker = self.speaker();
        let mut said: Vec<Said> = Vec::new();
        let mut left = plan.frames.unwrap_or(usize::MAX);
        for (number, (words, _)) in plan.utterances.iter().enumerate() {
            if left == 0 {
                break;
            }
            let of = plan.len();
            let mut hear = |samples: &[f32], end: Option<End>| {
                hear(Piece {
                    words,
                    samples,
                    number,
                    of,
                    end,
                })
            };
            let asked = plan.asked(words, &said, left.min(speaker.longest()));
            let drawn = self.utterance(&*speaker, plan, number, &asked, &mut hear)?;
            let Some((samples, end, latest)) = drawn else {
                return Ok(false);
            };
            if hear(&samples, Some(end)).is_break() {
                return Ok(false);
            }
            left -= latest.frames.dims()[2].min(left);
            said.push(latest);
        }
        Ok(true)
    }

    /// Speaks one utterance but for its last piece, which it gives back; nothing if `hear` broke it off.
    fn utterance(
        &self,
        speaker: &dyn Speaker,
        plan: &Plan,
        number: usize,
        asked: &Asked<'_>,
        hear: &mut Hear<'_>,
    ) -> Result<Option<(Vec<f32>, End, Said)>, Error> {
        let begun = speaker.begin(asked)?;
        let layout = begun.shape.layout(begun.most, begun.depth);
        let rows = if asked.guided { 2 } else { 1 };
        let seed = Seed::new(plan.seed).named("speech").indexed(number as u64);
        let mut samplers = |_: u64| -> Box<dyn Sampler> {
            let inner = speaker.sampler(&plan.sampler, seed, layout.len());
            match &begun.given {
                Some(given) => Box::new(Forced::new(inner, given, &begun.shape)),
                None => inner,
            }
        };
        let start = Start {
            prompt: Codes {
                ids: begun.prompt(rows, &self.parts.device),
                layout: layout.clone(),
            },
            condition: begun.condition.clone(),
        };
        let generator = Generator {
            backbone: speaker.backbone(),
            head: begun.head.get(),
            pyramid: None,
        };
        let mut drawing = Drawing::new(speaker, &begun, &self.parts)?;
        let mut stopped = None;
        let mut watch = |unit: &Unit, codes: &Codes| match drawing.next(unit, codes) {
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
        if let Some(stopped) = stopped {
            return stopped;
        }
        // What was asked for is no fault of the model's.
        let cut = plan.frames.is_some() && asked.frames < speaker.longest();
        let Finished {
            sound,
            frames,
            fault,
        } = drawing.finish(&codes)?;
        let end = End {
            retakes: 0,
            fault: fault.filter(|fault| *fault != Fault::Endless || !cut),
        };
        let latest = Said {
            line: asked.line.into(),
            ids: codes.rows(0, 1).ids,
            frames,
        };
        Ok(Some((sound, end, latest)))
    }
}

impl Plan {
    fn asked<'a>(&'a self, line: &'a str, said: &'a [Said], frames: usize) -> Asked<'a> {
        let given = self.reference.as_ref().and_then(Given::in_front);
        let reference = self.words.as_deref().zip(given);
        Asked {
            line,
            voice: &self.voice,
            reference,
            said,
            guided: self.sampler.is_guided(),
            frames,
        }
    }
}

impl Utterance<'_> {
    fn given_frames(&self) -> usize {
        self.given.as_ref().map_or(0, |given| given.dims()[2])
    }

    /// The positions in front of the first new one, `[rows, depth, n]`.
    fn prompt(&self, rows: usize, device: &Device) -> Tensor<3, Int> {
        match &self.given {
            Some(given) => {
                let begun = self.shape.beginning(given.dims()[2], self.depth);
                let ids = self.shape.arrange(given.clone()).narrow(2, 0, begun);
                ids.repeat_dim(0, rows)
            }
            None => Tensor::zeros([rows, self.depth, 0], device),
        }
    }
}

/// The end of an utterance.
struct Finished {
    /// Sound that was not heard yet.
    sound: Vec<f32>,
    /// All new frames, `[1, depth, n]`.
    frames: Tensor<3, Int>,
    /// What is wrong with it.
    fault: Option<Fault>,
}

/// An utterance that is being chosen.
struct Drawing<'a> {
    speaker: &'a dyn Speaker,
    shape: &'a Arrangement,
    depth: usize,
    given: usize,
    most: usize,
    codebook_size: usize,
    /// Frames that it has, given ones included, once the model ended it.
    ended: Option<usize>,
    /// Frames that went to the codec, given ones included.
    released: usize,
    mouth: Mouth<'a>,
}

impl<'a> Drawing<'a> {
    fn new(
        speaker: &'a dyn Speaker,
        begun: &'a Utterance<'_>,
        parts: &'a SoundModelParts,
    ) -> Result<Self, Error> {
        let given = begun.given_frames();
        Ok(Self {
            speaker,
            shape: &begun.shape,
            depth: begun.depth,
            given,
            most: begun.most,
            codebook_size: parts.codec.sound_spec().codes.codebook_size,
            ended: None,
            released: given,
            mouth: Mouth::plain(&*parts.codec),
        })
    }

    fn next(&mut self, unit: &Unit, codes: &Codes) -> Result<(Next, Vec<f32>), Error> {
        let begun = self.shape.begun_at(unit.span.start, self.depth);
        if let (None, Some(frame)) = (self.ended, begun)
            && frame >= self.given
            && self.speaker.ends(&position(codes, unit))
        {
            self.ended = Some(frame);
        }
        let whole = self.shape.whole_frames(codes.filled(), self.depth);
        let (sure, next) = match self.ended {
            Some(end) if whole >= end => (end, Next::Stop),
            Some(end) => (whole.min(end), Next::On),
            None => (whole.min(self.most), Next::On),
        };
        let together = match self.released == self.given {
            true => FIRST_FRAMES,
            false => LATER_FRAMES,
        };
        let sound = match sure >= self.released + together {
            true => self.release(codes, sure)?,
            false => Vec::new(),
        };
        Ok((next, sound))
    }

    /// Frames of the codec among those that were chosen, `[1, depth, n]`.
    fn frames(&self, codes: &Codes, from: usize, until: usize) -> Tensor<3, Int> {
        let ids = codes.rows(0, 1).ids;
        let rows = ids.dims()[1];
        // A row of tokens stands in front of the codes.
        let ids = ids.narrow(1, rows - self.depth, self.depth);
        let frames = self.shape.undo(ids, self.depth);
        let frames = frames.slice([0..1, 0..self.depth, from..until]);
        self.speaker.codes(frames, self.codebook_size)
    }

    fn release(&mut self, codes: &Codes, until: usize) -> Result<Vec<f32>, Error> {
        let new = self.frames(codes, self.released, until);
        self.released = until;
        Ok(self.mouth.say(new)?)
    }

    /// The sound that is left, all new frames, and what is wrong with them.
    fn finish(mut self, codes: &Codes) -> Result<Finished, Error> {
        let whole = self.shape.whole_frames(codes.filled(), self.depth);
        let until = self.ended.unwrap_or(whole.min(self.most)).max(self.given);
        let mut sound = match until > self.released {
            true => self.release(codes, until)?,
            false => Vec::new(),
        };
        let frames = self.frames(codes, self.given.min(until), until);
        let fault = match self.ended {
            _ if until == self.given => Some(Fault::Short),
            None if !self.speaker.is_endless() => Some(Fault::Endless),
            _ => None,
        };
        sound.extend(self.mouth.finish()?);
        Ok(Finished {
            sound,
            frames,
            fault,
        })
    }
}

/// The ids of the first row at a position.
fn position(codes: &Codes, unit: &Unit) -> Vec<u32> {
    codes
        .rows(0, 1)
        .of_unit(unit)
        .into_data()
        .iter::<u32>()
        .collect()
}

/// Ids of text or frames on the device, row by row.
fn table(rows: &[Vec<u32>], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = rows.iter().flatten().map(|&id| id as i32).collect();
    let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
    Tensor::from_data(TensorData::new::<i32, _>(ids, shape), device)
}
