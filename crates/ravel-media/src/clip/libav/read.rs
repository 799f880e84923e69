//! Frames of a video file, one after the other.

use std::path::{Path, PathBuf};

use ffmpeg_next::codec::packet::side_data::Type as SideData;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::frame::Video;
use ffmpeg_next::software::scaling::Context as Scaler;
use ffmpeg_next::{Error, Packet, Stream, codec, decoder, media};

use super::colour::{self, Meaning, Shape};
use super::place::Turn;
use super::undecodable;
use crate::clip::{FrameRate, Frames, MAX_CLIP_SIDE, TimedFrame};
use crate::{MediaError, Picture, read};

/// Broken packets in a row after which a file is at its end.
const MOST_BROKEN: usize = 1000;

/// A video file that is being read.
pub struct VideoFile {
    path: PathBuf,
    input: Input,
    decoder: decoder::Video,
    stream: usize,
    /// Seconds of a tick of the time stamps.
    tick_secs: f64,
    rate: Option<FrameRate>,
    /// Frames that the container promises; 0 where it does not.
    promised: i64,
    /// Width and height of a decoded frame with square pixels, before the turn.
    upright: (u32, u32),
    turn: Turn,
    format: String,
    scaler: Option<(Shape, Meaning, Scaler)>,
    /// Whether the decoder was told that nothing follows.
    drained: bool,
    given: u64,
    clock_secs: f64,
    broken: u64,
    notes: Vec<String>,
}

impl VideoFile {
    /// Opens the file and its best video stream, and decodes nothing yet.
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        let input = super::open(path, super::CONTAINERS)?;
        let Some(stream) = video_stream(&input) else {
            let sound = input.streams().best(media::Type::Audio).is_some();
            return Err(MediaError::Clip {
                path: path.into(),
                reason: match sound {
                    true => "it holds sound only, no video".into(),
                    false => "it holds no video".into(),
                },
            });
        };
        let wrong = |error| undecodable(path, error);
        let context = codec::Context::from_parameters(stream.parameters()).map_err(wrong)?;
        let name = decoder::find(context.id())
            .map(|codec| codec.name().to_string())
            .ok_or_else(|| MediaError::Clip {
                path: path.into(),
                reason: format!("there is no decoder for its codec {:?}", context.id()),
            })?;
        let decoder = context.decoder().video().map_err(wrong)?;
        check_size(path, decoder.width(), decoder.height())?;
        let (turn, odd_angle) = turn_of(&stream);
        let mut notes = Vec::new();
        if odd_angle {
            notes.push(
                "it is to be shown at an angle that is no quarter turn; it is left as stored"
                    .into(),
            );
        }
        let base = stream.time_base();
        let upright = squared(&decoder);
        check_size(path, upright.0, upright.1)?;
        let file = Self {
            path: path.into(),
            stream: stream.index(),
            tick_secs: f64::from(base.numerator()) / f64::from(base.denominator().max(1)),
            rate: rate_of(&stream),
            promised: stream.frames(),
            upright,
            turn,
            format: format!("{}, {name}", input.format().name()),
            decoder,
            scaler: None,
            drained: false,
            given: 0,
            clock_secs: 0.0,
            broken: 0,
            notes,
            input,
        };
        Ok(file)
    }

    /// Width and height as frames are to be seen.
    pub fn size(&self) -> (usize, usize) {
        let (width, height) = (self.upright.0 as usize, self.upright.1 as usize);
        match self.turn.swaps_sides() {
            true => (height, width),
            false => (width, height),
        }
    }

    /// The average rate.
    pub fn rate(&self) -> Option<FrameRate> {
        self.rate
    }

    /// Container and codec.
    pub fn format(&self) -> String {
        self.format.clone()
    }

    /// The next decoded frame; none at the end of the file.
    fn decoded(&mut self) -> Result<Option<Video>, MediaError> {
        loop {
            let mut frame = Video::empty();
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => return Ok(Some(frame)),
                Err(Error::Eof) => return Ok(None),
                Err(_) if self.drained => return Ok(None),
                Err(Error::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => {}
                Err(_) => self.broken += 1,
            }
            match self.packet() {
                Some(packet) => {
                    if self.decoder.send_packet(&packet).is_err() {
                        self.broken += 1;
                    }
                }
                None => {
                    self.drained = true;
                    if self.decoder.send_eof().is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The next packet of the video stream.
    fn packet(&mut self) -> Option<Packet> {
        let mut broken = 0;
        loop {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) if packet.stream() == self.stream => return Some(packet),
                Ok(()) => {}
                Err(Error::InvalidData) if broken < MOST_BROKEN => broken += 1,
                Err(_) => return None,
            }
        }
    }

    /// The frame as it is to be seen: square pixels, RGB on white, upright.
    fn picture(&mut self, frame: &Video) -> Result<Picture, MediaError> {
        check_size(&self.path, frame.width(), frame.height())?;
        let from = (frame.format(), frame.width(), frame.height());
        let target = match colour::is_transparent(from.0) {
            true => Pixel::RGBA,
            false => Pixel::RGB24,
        };
        let meaning = Meaning::of(frame);
        let known =
            |(shape, meant, _): &(Shape, Meaning, Scaler)| (*shape, *meant) == (from, meaning);
        if !self.scaler.as_ref().is_some_and(known) {
            let to = (target, self.upright.0, self.upright.1);
            let scaler = colour::to_rgb(from, meaning, to)
                .map_err(|error| undecodable(&self.path, error))?;
            if self.scaler.replace((from, meaning, scaler)).is_some() {
                self.notes.push("size or colours change inside; every frame is brought to the size of the first".into());
            }
        }
        let (_, _, scaler) = self.scaler.as_mut().expect("it was made above");
        let mut out = Video::empty();
        scaler
            .run(frame, &mut out)
            .map_err(|error| undecodable(&self.path, error))?;
        Ok(self.turn.apply(copied(&out, target)))
    }
}

impl Frames for VideoFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn next(&mut self) -> Result<Option<TimedFrame>, MediaError> {
        let Some(frame) = self.decoded()? else {
            return match self.given {
                0 => Err(MediaError::NoFrames {
                    path: self.path.clone(),
                }),
                _ => Ok(None),
            };
        };
        if let Some(stamp) = frame.timestamp() {
            self.clock_secs = stamp as f64 * self.tick_secs;
        } else if self.given > 0 {
            self.clock_secs += self.rate.map_or(0.0, |rate| 1.0 / rate.per_second());
        }
        self.given += 1;
        Ok(Some(TimedFrame {
            picture: self.picture(&frame)?,
            start_secs: self.clock_secs,
        }))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        if self.broken > 0 {
            notes.push(format!("{} packets could not be decoded", self.broken));
        }
        if self.drained && (self.given as i64) < self.promised {
            notes.push(format!(
                "the file promises {} frames, {} were found",
                self.promised, self.given
            ));
        }
        notes
    }
}

/// The best stream that moves; a cover picture does not.
fn video_stream(input: &Input) -> Option<Stream<'_>> {
    let moves = |stream: &Stream<'_>| !stream.disposition().contains(Disposition::ATTACHED_PIC);
    let best = input.streams().best(media::Type::Video).filter(moves);
    best.or_else(|| {
        input
            .streams()
            .find(|stream| stream.parameters().medium() == media::Type::Video && moves(stream))
    })
}

fn check_size(path: &Path, width: u32, height: u32) -> Result<(), MediaError> {
    let sides = 1..=MAX_CLIP_SIDE;
    match sides.contains(&width) && sides.contains(&height) {
        true => Ok(()),
        false => Err(MediaError::FrameSize {
            path: path.into(),
            width: width as usize,
            height: height as usize,
        }),
    }
}

/// The size with square pixels: the width follows the pixels' proportions.
fn squared(decoder: &decoder::Video) -> (u32, u32) {
    let aspect = decoder.aspect_ratio();
    let (width, height) = (decoder.width(), decoder.height());
    let ratio = f64::from(aspect.numerator()) / f64::from(aspect.denominator().max(1));
    match (0.1..=10.0).contains(&ratio) {
        true => (((f64::from(width) * ratio).round() as u32).max(1), height),
        false => (width, height),
    }
}

fn turn_of(stream: &Stream<'_>) -> (Turn, bool) {
    let matrix = stream
        .side_data()
        .find(|data| data.kind() == SideData::DisplayMatrix);
    match matrix.map(|matrix| Turn::of_matrix(matrix.data())) {
        None => (Turn::NONE, false),
        Some(Some(turn)) => (turn, false),
        Some(None) => (Turn::NONE, true),
    }
}

/// The average rate; the nominal one where the file does not tell it.
fn rate_of(stream: &Stream<'_>) -> Option<FrameRate> {
    let near = |rate: ffmpeg_next::Rational| match rate.denominator() {
        0 => None,
        _ => FrameRate::near(f64::from(rate.numerator()) / f64::from(rate.denominator())),
    };
    let (average, nominal) = (near(stream.avg_frame_rate()), near(stream.rate()));
    match (average, nominal) {
        // The average of few frames is off by the length of the last one.
        (Some(average), Some(nominal))
            if (average.per_second() / nominal.per_second() - 1.0).abs() < 0.01 =>
        {
            Some(nominal)
        }
        (average, nominal) => average.or(nominal),
    }
}

/// Bytes of a converted frame without the padding at the end of its rows.
fn copied(frame: &Video, format: Pixel) -> Picture {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let bytes = if format == Pixel::RGBA { 4 } else { 3 };
    let rows = frame.data(0).chunks(frame.stride(0)).take(height);
    let packed: Vec<u8> = rows
        .flat_map(|row| row[..bytes * width].iter().copied())
        .collect();
    if bytes == 3 {
        return Picture {
            width,
            height,
            rgb: packed,
        };
    }
    let image = image::RgbaImage::from_raw(width as u32, height as u32, packed)
        .expect("byte axis: four bytes a pixel");
    read::on_white(&image.into())
}
