//! Sound out of a compressed file.

use std::path::Path;

use ffmpeg_next::format::sample::Sample;
use ffmpeg_next::frame::{Audio, audio};
use ffmpeg_next::{Error, Packet, codec, decoder, media};

use crate::sound::{SAMPLE_RATES, Sound, by_channel};
use crate::{MAX_SOUND_SAMPLES, MediaError};

/// Containers of sound that are read.
const SOUNDS: &str = "flac,mp3,ogg";
/// Most channels that are taken.
const MAX_CHANNELS: usize = 64;
/// Seconds by which a file may be shorter than it says.
const SLACK_SECS: f64 = 0.3;
/// Broken packets in a row after which a file is no sound.
const MOST_BROKEN: usize = 1000;

/// All of a file's first stream of sound.
///
/// # Errors
/// [`MediaError::File`] or [`MediaError::Compressed`].
pub fn sound(path: &Path) -> Result<Sound, MediaError> {
    let wrong = |reason: String| MediaError::Compressed {
        path: path.into(),
        reason,
    };
    let undecodable = |error: Error| wrong(format!("it cannot be decoded: {error}"));
    let mut input = super::open(path, SOUNDS).map_err(|error| match error {
        MediaError::Clip { .. } => wrong("it is none of these, or a broken one".into()),
        error => error,
    })?;
    let (index, promised_secs, context) = {
        let stream = input
            .streams()
            .best(media::Type::Audio)
            .ok_or_else(|| wrong("there is no sound in it".into()))?;
        let context = codec::Context::from_parameters(stream.parameters());
        let tick = f64::from(stream.time_base());
        let promised_secs = stream.duration().max(0) as f64 * tick;
        (stream.index(), promised_secs, context.map_err(undecodable)?)
    };
    let mut decoder = context.decoder().audio().map_err(undecodable)?;
    let mut heard = Heard::default();
    let mut broken = 0;
    loop {
        let mut packet = Packet::empty();
        match packet.read(&mut input) {
            Ok(()) if packet.stream() != index => continue,
            Ok(()) => {}
            Err(Error::Eof) => break,
            Err(Error::InvalidData) if broken < MOST_BROKEN => {
                broken += 1;
                continue;
            }
            Err(error) => return Err(undecodable(error)),
        }
        decoder.send_packet(&packet).map_err(undecodable)?;
        heard.drain(&mut decoder).map_err(wrong)?;
    }
    decoder.send_eof().map_err(undecodable)?;
    heard.drain(&mut decoder).map_err(wrong)?;
    let sound = heard.sound().map_err(wrong)?;
    let secs = sound.duration_secs();
    match secs + SLACK_SECS < promised_secs {
        true => Err(wrong(format!(
            "it ends after {secs:.1} of {promised_secs:.1} seconds"
        ))),
        false => Ok(sound),
    }
}

/// What was decoded so far.
#[derive(Default)]
struct Heard {
    /// Interleaved.
    samples: Vec<f32>,
    /// Channels and rate of the first frame.
    shape: Option<(usize, u32)>,
}

impl Heard {
    fn drain(&mut self, decoder: &mut decoder::Audio) -> Result<(), String> {
        let mut frame = Audio::empty();
        while decoder.receive_frame(&mut frame).is_ok() {
            let shape = (usize::from(frame.channels()), frame.rate());
            if *self.shape.get_or_insert(shape) != shape {
                return Err("its rate or its channels change inside".into());
            }
            if !(1..=MAX_CHANNELS).contains(&shape.0) || !SAMPLE_RATES.contains(&shape.1) {
                let (low, high) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
                return Err(format!(
                    "it has {} channels of {} samples a second, 1 to {MAX_CHANNELS} of {low} to {high} are taken",
                    shape.0, shape.1
                ));
            }
            let more = frame.samples() * shape.0;
            if self.samples.len() + more > MAX_SOUND_SAMPLES {
                return Err(format!(
                    "there are more than {MAX_SOUND_SAMPLES} samples in it"
                ));
            }
            self.take(&frame)?;
        }
        Ok(())
    }

    fn take(&mut self, frame: &Audio) -> Result<(), String> {
        match frame.format() {
            Sample::U8(_) => self.scaled(frame, |sample: u8| (f32::from(sample) - 128.0) / 128.0),
            Sample::I16(_) => self.scaled(frame, |sample: i16| f32::from(sample) / 32_768.0),
            Sample::I32(_) => self.scaled(frame, |sample: i32| sample as f32 / 2_147_483_648.0),
            Sample::F32(_) => self.scaled(frame, |sample: f32| sample),
            Sample::F64(_) => self.scaled(frame, |sample: f64| sample as f32),
            other => return Err(format!("samples of kind {other:?} are not taken")),
        }
        Ok(())
    }

    fn scaled<T: audio::Sample + Copy>(&mut self, frame: &Audio, to: impl Fn(T) -> f32) {
        let in_range = |sample: T| to(sample).clamp(-1.0, 1.0);
        if frame.planes() == 0 {
            return;
        }
        if frame.is_packed() {
            let all = frame.plane::<T>(0).iter();
            return self.samples.extend(all.map(|&sample| in_range(sample)));
        }
        let planes: Vec<&[T]> = (0..frame.planes()).map(|at| frame.plane::<T>(at)).collect();
        for at in 0..frame.samples() {
            let moment = planes.iter().map(|plane| in_range(plane[at]));
            self.samples.extend(moment);
        }
    }

    fn sound(self) -> Result<Sound, String> {
        let (channels, sample_rate_hz) = self.shape.unwrap_or((0, 0));
        if self.samples.is_empty() {
            return Err("there is no sample in it".into());
        }
        if let Some(at) = self.samples.iter().position(|sample| !sample.is_finite()) {
            return Err(format!("sample {at} is no number"));
        }
        Ok(Sound {
            channels: by_channel(&self.samples, channels),
            sample_rate_hz,
        })
    }
}
