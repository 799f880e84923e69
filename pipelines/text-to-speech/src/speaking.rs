//! One utterance on its way from codes to sound: frames go to the codec as soon as nothing can change them any more.

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, DecodeChunks, Layout, SoundTokenizer, Unit, Waveform};
use ravel_decode::method::Next;
use ravel_heads::NextTokensConfig;
use ravel_pipeline::SpeechParts;

use crate::checks::{Checks, Fault};
use crate::join::Fader;
use crate::loops::LoopWatch;
use crate::{End, Error};

/// Times that a loop is taken back in one utterance.
const RETAKES: u64 = 4;
/// Frames that are decoded together: few at first, so that sound begins soon.
pub(crate) const FIRST_FRAMES: usize = 2;
pub(crate) const LATER_FRAMES: usize = 8;
/// Frames of a reference that the codec hears before the first frame after it.
const HEARD_BEFORE: usize = 16;

/// How many frames an utterance has, those of a reference in front of it included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frames {
    /// Those of the reference.
    pub given: usize,
    /// All, if it is as short as may be.
    pub least: usize,
    /// All, if it is as long as may be.
    pub most: usize,
    /// Whether it ends there in any case.
    pub known: bool,
}

/// An utterance that is being chosen.
pub(crate) struct Speaking<'a> {
    head: &'a NextTokensConfig,
    checks: Checks,
    frames: Frames,
    loops: LoopWatch,
    /// Whether another take can differ.
    chance: bool,
    /// Frames that it has, once that is known.
    ended: Option<usize>,
    /// Frames that went to the codec.
    released: usize,
    mouth: Mouth<'a>,
    retakes: u64,
    fault: Option<Fault>,
}

impl<'a> Speaking<'a> {
    /// Nothing is chosen yet; `given` are the codes of a reference, `[1, depth, frames]`.
    pub fn new(
        parts: &'a SpeechParts,
        checks: Checks,
        chance: bool,
        frames: Frames,
        given: Option<&Tensor<3, Int>>,
    ) -> Result<Self, Error> {
        Ok(Self {
            head: parts.model.head.config(),
            checks,
            frames,
            loops: LoopWatch::default(),
            chance,
            ended: None,
            released: frames.given,
            mouth: Mouth::new(&*parts.codec, given)?,
            retakes: 0,
            fault: None,
        })
    }

    /// What follows a chosen position, and the sound that can be heard by now.
    pub fn next(&mut self, unit: &Unit, codes: &Codes) -> Result<(Next, Vec<f32>), Error> {
        if self.ended.is_none()
            && let Some(back) = self.noted(unit, codes)
        {
            return Ok((back, Vec::new()));
        }
        let (shape, depth) = (&self.head.arrangement, self.head.depth);
        let whole = shape.whole_frames(codes.filled(), depth);
        let (sure, next) = match self.ended {
            Some(end) if whole >= end => (end, Next::Stop),
            Some(end) => (whole.min(end), Next::On),
            None => {
                let settled = match self.checks.loops {
                    true => self.loops.settled(),
                    false => self.loops.len(),
                };
                // A retake keeps the codes in front of it, not all of the frames that they begin.
                let kept = shape.beginning(self.frames.given + settled, depth);
                (whole.min(shape.whole_frames(kept, depth)), Next::On)
            }
        };
        let together = match self.released == self.frames.given {
            true => FIRST_FRAMES,
            false => LATER_FRAMES,
        };
        let sound = match sure >= self.released + together {
            true => self.release(codes, sure)?,
            false => Vec::new(),
        };
        Ok((next, sound))
    }

    /// Takes note of a frame that begins; says where to go back to if it is one frame too many of a loop.
    fn noted(&mut self, unit: &Unit, codes: &Codes) -> Option<Next> {
        let (shape, depth) = (&self.head.arrangement, self.head.depth);
        let frame = shape.begun_at(unit.span.start, depth)?;
        if frame < self.frames.given {
            return None;
        }
        if frame >= self.frames.most {
            self.ended = Some(self.frames.most);
            self.fault = self.endless();
            return None;
        }
        let row = codes.of_unit(unit).into_data();
        let code = row.iter::<u32>().next().expect("a position has a code");
        if self.head.end.is_some_and(|end| code as usize >= end) {
            self.ended = Some(frame);
            return None;
        }
        self.loops.push(code);
        let from = self.loops.found().filter(|_| self.checks.loops)?;
        let all = self.frames.given + from;
        if !self.chance || self.retakes == RETAKES {
            self.ended = Some(all);
            self.fault = Some(Fault::Loop);
            return None;
        }
        self.retakes += 1;
        let kept = shape.beginning(all, depth);
        let begun = (0..kept).filter_map(|at| shape.begun_at(at, depth)).count();
        self.loops.truncate(begun.saturating_sub(self.frames.given));
        Some(Next::Back(kept))
    }

    /// What is wrong with an utterance that did not end by itself.
    fn endless(&self) -> Option<Fault> {
        (self.checks.end && !self.frames.known).then_some(Fault::Endless)
    }

    /// Sound of all frames before `until` that were not heard yet.
    fn release(&mut self, codes: &Codes, until: usize) -> Result<Vec<f32>, Error> {
        let shape = &self.head.arrangement;
        let frames = shape.undo(codes.ids.clone(), self.head.depth);
        let new = frames.narrow(2, self.released, until - self.released);
        self.released = until;
        Ok(self.mouth.say(new)?)
    }

    /// The sound that is left once everything was chosen, and how it went.
    pub fn finish(mut self, codes: &Codes) -> Result<(Vec<f32>, End), Error> {
        let whole = self
            .head
            .arrangement
            .whole_frames(codes.filled(), self.head.depth);
        let until = match self.ended {
            Some(end) => end,
            None => {
                self.fault = self.endless();
                whole.min(self.frames.most)
            }
        };
        let mut sound = match until > self.released {
            true => self.release(codes, until)?,
            false => Vec::new(),
        };
        sound.extend(self.mouth.finish()?);
        if self.fault.is_none() && until < self.frames.least {
            self.fault = Some(Fault::Short);
        }
        let end = End {
            retakes: self.retakes,
            fault: self.fault,
        };
        Ok((sound, end))
    }
}

/// Codes to sound, as they come where the codec can do that, and at the end otherwise.
pub(crate) struct Mouth<'a> {
    codec: &'a dyn SoundTokenizer,
    stream: Option<Box<dyn DecodeChunks<Signal = Waveform> + 'a>>,
    /// Codes for a codec that needs them all.
    kept: Vec<Tensor<3, Int>>,
    /// Samples of a reference that are not to be heard again.
    unheard: usize,
    /// Takes the clicks off both ends, where nothing else is to stay as it was decoded.
    fader: Option<Fader>,
}

impl<'a> Mouth<'a> {
    /// Sound as the codec makes it.
    pub fn plain(codec: &'a dyn SoundTokenizer) -> Self {
        let depth = codec.sound_spec().codes.depth;
        let stream = codec.streaming();
        Self {
            codec,
            stream: stream.map(|stream| stream.begin_decode(1, depth)),
            kept: Vec::new(),
            unheard: 0,
            fader: None,
        }
    }

    fn new(codec: &'a dyn SoundTokenizer, given: Option<&Tensor<3, Int>>) -> Result<Self, Error> {
        let spec = codec.sound_spec();
        let mut mouth = Self {
            fader: Some(Fader::new(spec.sample_rate_hz)),
            ..Self::plain(codec)
        };
        if let Some(given) = given {
            let frames = given.dims()[2];
            let heard = frames.min(HEARD_BEFORE);
            mouth.unheard = heard * spec.hop;
            mouth.say(given.clone().narrow(2, frames - heard, heard))?;
        }
        Ok(mouth)
    }

    pub fn say(&mut self, ids: Tensor<3, Int>) -> ravel_core::Result<Vec<f32>> {
        let Some(stream) = &mut self.stream else {
            self.kept.push(ids);
            return Ok(Vec::new());
        };
        let layout = Layout::Sequence { len: ids.dims()[2] };
        let sound = stream.push(&Codes { ids, layout })?;
        Ok(self.heard(&sound))
    }

    pub fn finish(mut self) -> ravel_core::Result<Vec<f32>> {
        let sound = match (self.stream.take(), self.kept.is_empty()) {
            (Some(stream), _) => Some(stream.finish()?),
            (None, true) => None,
            (None, false) => {
                let ids = Tensor::cat(std::mem::take(&mut self.kept), 2);
                let layout = Layout::Sequence { len: ids.dims()[2] };
                Some(self.codec.decode(&Codes { ids, layout })?)
            }
        };
        let mut samples = sound.map_or(Vec::new(), |sound| self.heard(&sound));
        samples.extend(self.fader.map_or(Vec::new(), Fader::finish));
        Ok(samples)
    }

    /// The first channel, faded, without what belongs to the reference. Waits for the device.
    fn heard(&mut self, sound: &Waveform) -> Vec<f32> {
        let [_, _, time] = sound.samples.dims();
        let samples: Vec<f32> = sound.samples.to_data().iter::<f32>().take(time).collect();
        let skipped = self.unheard.min(samples.len());
        self.unheard -= skipped;
        match &mut self.fader {
            Some(fader) => fader.push(&samples[skipped..]),
            None => samples[skipped..].to_vec(),
        }
    }
}
