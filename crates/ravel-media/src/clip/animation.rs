//! Animated pictures: GIF, APNG and WebP, through the `image` crate, one frame at a time.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use image::codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageError, Limits};

use super::{FrameRate, Frames, MAX_CLIP_SIDE, MAX_FRAMES, TimedFrame};
use crate::{MediaError, read};

/// Most pixels of all frames together: 512 frames of a megapixel.
const MAX_PIXELS: u64 = 1 << 29;
/// Shorter delays in a GIF mean a tenth of a second to every browser, in milliseconds.
const SHORTEST_GIF: f64 = 20.0;

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// GIF.
    Gif,
    /// PNG, animated or not.
    Png,
    /// WebP, animated or not.
    WebP,
}

/// Frames of an animated picture.
pub struct Animation {
    path: PathBuf,
    frames: image::Frames<'static>,
    kind: Kind,
    size: (usize, usize),
    rate: Option<FrameRate>,
    /// Frames that can be read.
    left: usize,
    clock_secs: f64,
    notes: Vec<String>,
}

impl Animation {
    /// Reads all delays, and makes sure of the size of everything, before the first frame is given.
    pub fn open(path: &Path, kind: Kind) -> Result<Self, MediaError> {
        let (mut frames, size) = decoder(path, kind)?;
        let mut delays: Vec<f64> = Vec::new();
        let mut notes = Vec::new();
        for frame in &mut frames {
            match frame {
                Ok(frame) => delays.push(delay_ms(kind, &frame)),
                Err(error) if delays.is_empty() => return Err(broken(path, &error)),
                Err(error) => {
                    let line = error.to_string().replace('\n', " ");
                    let count = delays.len();
                    notes.push(format!("it ends early, after {count} frames: {line}"));
                    break;
                }
            }
            check_total(path, delays.len() as u64, size)?;
        }
        if delays.is_empty() {
            return Err(MediaError::NoFrames { path: path.into() });
        }
        Ok(Self {
            path: path.into(),
            frames: decoder(path, kind)?.0,
            kind,
            size,
            left: delays.len(),
            rate: typical(&mut delays),
            clock_secs: 0.0,
            notes,
        })
    }

    /// Width and height of every frame.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// The rate of the typical frame, if there are several frames with delays.
    pub fn rate(&self) -> Option<FrameRate> {
        self.rate
    }
}

impl Frames for Animation {
    fn path(&self) -> &Path {
        &self.path
    }

    fn next(&mut self) -> Result<Option<TimedFrame>, MediaError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let Some(frame) = self.frames.next() else {
            return Ok(None); // The file was cut between the two readings.
        };
        let frame = frame.map_err(|error| broken(&self.path, &error))?;
        let start_secs = self.clock_secs;
        self.clock_secs += delay_ms(self.kind, &frame) / 1000.0;
        let picture = read::on_white(&frame.into_buffer().into());
        Ok(Some(TimedFrame {
            picture,
            start_secs,
        }))
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

/// All frames of a file as a lazy sequence, its size checked.
fn decoder(
    path: &Path,
    kind: Kind,
) -> Result<(image::Frames<'static>, (usize, usize)), MediaError> {
    let wrong = |error: ImageError| broken(path, &error);
    let file = File::open(path).map_err(|source| MediaError::File {
        path: path.into(),
        source,
    })?;
    let file = BufReader::new(file);
    let checked = |(width, height): (u32, u32)| {
        let sides = 1..=MAX_CLIP_SIDE;
        match sides.contains(&width) && sides.contains(&height) {
            true => Ok((width as usize, height as usize)),
            false => Err(MediaError::FrameSize {
                path: path.into(),
                width: width as usize,
                height: height as usize,
            }),
        }
    };
    match kind {
        Kind::Gif => {
            let mut decoder = GifDecoder::new(file).map_err(wrong)?;
            let size = checked(decoder.dimensions())?;
            decoder.set_limits(limits()).map_err(wrong)?;
            Ok((decoder.into_frames(), size))
        }
        Kind::Png => {
            let decoder = PngDecoder::with_limits(file, limits()).map_err(wrong)?;
            let size = checked(decoder.dimensions())?;
            if decoder.is_apng().map_err(wrong)? {
                return Ok((decoder.apng().map_err(wrong)?.into_frames(), size));
            }
            Ok((still(decoder).map_err(wrong)?, size))
        }
        Kind::WebP => {
            let mut decoder = WebPDecoder::new(file).map_err(wrong)?;
            let size = checked(decoder.dimensions())?;
            decoder.set_limits(limits()).map_err(wrong)?;
            if decoder.has_animation() {
                return Ok((decoder.into_frames(), size));
            }
            Ok((still(decoder).map_err(wrong)?, size))
        }
    }
}

/// A picture that does not move, as its one frame.
fn still(decoder: impl ImageDecoder) -> Result<image::Frames<'static>, ImageError> {
    let picture = DynamicImage::from_decoder(decoder)?.to_rgba8();
    let frames = std::iter::once(Ok(image::Frame::new(picture)));
    Ok(image::Frames::new(Box::new(frames)))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(1 << 29);
    limits
}

fn check_total(path: &Path, frames: u64, size: (usize, usize)) -> Result<(), MediaError> {
    let pixels = frames * (size.0 * size.1) as u64;
    if frames <= MAX_FRAMES && pixels <= MAX_PIXELS {
        return Ok(());
    }
    Err(MediaError::Clip {
        path: path.into(),
        reason: format!(
            "more than {} frames of {} x {} pixels; at most {MAX_FRAMES} frames and {} million pixels in all are read",
            frames - 1,
            size.0,
            size.1,
            MAX_PIXELS / 1_000_000
        ),
    })
}

fn delay_ms(kind: Kind, frame: &image::Frame) -> f64 {
    let (numerator, denominator) = frame.delay().numer_denom_ms();
    let delay = f64::from(numerator) / f64::from(denominator.max(1));
    match kind {
        Kind::Gif if delay < SHORTEST_GIF => 100.0,
        _ => delay,
    }
}

/// The rate of the middle one of all delays but the last, which is often a pause before the loop.
fn typical(delays: &mut [f64]) -> Option<FrameRate> {
    let moving = match delays.len() {
        0 | 1 => return None,
        count => &mut delays[..count - 1],
    };
    moving.sort_by(f64::total_cmp);
    FrameRate::near(1000.0 / moving[moving.len() / 2])
}

fn broken(path: &Path, error: &ImageError) -> MediaError {
    MediaError::Clip {
        path: path.into(),
        reason: format!("it cannot be decoded: {error}").replace('\n', " "),
    }
}
