//! Clips as pictures: GIF, APNG, WebP, and folders of PNG.

use std::fs::File;
use std::io::{BufWriter, Error, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gif::{AnyExtension, Encoder as GifEncoder, EncodingError, Frame as GifFrame, Repeat};
use image::ExtendedColorType;
use image::codecs::webp::WebPEncoder;
use ravel_files::{WholeFile, WholeFolder};

use super::FrameRate;
use super::write::{ClipPlan, FrameSink, KEYWORD, about};
use crate::{MediaError, Picture, encode_png};

/// Colours of a GIF's frame are sought among every tenth pixel.
const GIF_SPEED: i32 = 10;
/// The chunk in which our WebP files say how they were made; readers pass over chunks that they do not know.
pub(super) const WEBP_TEXT: &[u8; 4] = b"RAVL";

/// The same bytes for the same text everywhere: keyword, program, source.
fn text_chunks(plan: &ClipPlan) -> Vec<(String, String)> {
    vec![
        (KEYWORD.to_string(), plan.text.clone()),
        (
            "Software".to_string(),
            concat!("ravel ", env!("CARGO_PKG_VERSION")).to_string(),
        ),
        ("Source".to_string(), "generated".to_string()),
    ]
}

/// An animated GIF.
pub struct GifWriter {
    path: PathBuf,
    whole: WholeFile,
    encoder: GifEncoder<BufWriter<File>>,
    rate: FrameRate,
    frames: u64,
}

impl GifWriter {
    pub fn create(path: &Path, force: bool, plan: &ClipPlan) -> Result<Self, MediaError> {
        let side = |length: usize| {
            u16::try_from(length).map_err(|_| MediaError::Clip {
                path: path.into(),
                reason: format!("{length} pixels a side; a GIF has at most {}", u16::MAX),
            })
        };
        let (width, height) = (side(plan.width)?, side(plan.height)?);
        let mut whole = WholeFile::create(path, force).map_err(about(path))?;
        let file = whole.file().try_clone().map_err(about(path))?;
        let mut encoder = GifEncoder::new(BufWriter::new(file), width, height, &[])
            .and_then(|mut encoder| encoder.set_repeat(Repeat::Infinite).map(|()| encoder))
            .map_err(|error| about(path)(gif_error(error)))?;
        // A comment extension (GIF89a, section 24).
        encoder
            .write_raw_extension(AnyExtension(0xfe), &[plan.text.as_bytes()])
            .map_err(|error| about(path)(gif_error(error)))?;
        Ok(Self {
            path: path.into(),
            whole,
            encoder,
            rate: plan.rate,
            frames: 0,
        })
    }

    /// Hundredths of a second until frame `index` begins.
    fn clock(&self, index: u64) -> u64 {
        (100.0 * index as f64 / self.rate.per_second()).round() as u64
    }
}

fn gif_error(error: EncodingError) -> Error {
    match error {
        EncodingError::Io(error) => error,
        error => Error::other(error.to_string()),
    }
}

impl FrameSink for GifWriter {
    fn push(&mut self, picture: &Picture) -> Result<(), MediaError> {
        let (width, height) = (picture.width as u16, picture.height as u16);
        let mut frame = GifFrame::from_rgb_speed(width, height, &picture.rgb, GIF_SPEED);
        let delay = self.clock(self.frames + 1) - self.clock(self.frames);
        frame.delay = delay.clamp(2, 65_535) as u16; // Browsers slow shorter delays down.
        self.frames += 1;
        self.encoder
            .write_frame(&frame)
            .map_err(|error| about(&self.path)(gif_error(error)))
    }

    fn finish(self: Box<Self>) -> Result<(), MediaError> {
        let this = *self;
        let ended = this.encoder.into_inner();
        ended
            .and_then(|mut out| Ok(out.flush()?))
            .map_err(gif_error)
            .and_then(|()| this.whole.commit())
            .map_err(about(&this.path))
    }

    fn notes(&self) -> Vec<String> {
        vec!["a GIF has 256 colours a frame; .png and .webp keep all of them".into()]
    }
}

/// An animated PNG.
pub struct ApngWriter {
    path: PathBuf,
    whole: WholeFile,
    writer: png::Writer<File>,
}

impl ApngWriter {
    pub fn create(path: &Path, force: bool, plan: &ClipPlan) -> Result<Self, MediaError> {
        let mut whole = WholeFile::create(path, force).map_err(about(path))?;
        let file = whole.file().try_clone().map_err(about(path))?;
        let begun = || {
            let mut encoder = png::Encoder::new(file, plan.width as u32, plan.height as u32);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            for (keyword, text) in text_chunks(plan) {
                encoder.add_itxt_chunk(keyword, text)?;
            }
            let (seconds, parts) = delay(plan.rate);
            encoder.set_animated(plan.frames as u32, 0)?;
            encoder.set_frame_delay(seconds, parts)?;
            encoder.write_header()
        };
        let writer = begun().map_err(|error| about(path)(error.into()))?;
        Ok(Self {
            path: path.into(),
            whole,
            writer,
        })
    }
}

/// Seconds of a frame as a fraction of 16-bit numbers.
fn delay(rate: FrameRate) -> (u16, u16) {
    let (numerator, denominator) = rate.fraction();
    match (u16::try_from(denominator), u16::try_from(numerator)) {
        (Ok(seconds), Ok(parts)) => (seconds, parts),
        _ if rate.per_second() >= 1.0 => ((60_000.0 / rate.per_second()).round() as u16, 60_000),
        _ => ((100.0 / rate.per_second()).round() as u16, 100),
    }
}

impl FrameSink for ApngWriter {
    fn push(&mut self, picture: &Picture) -> Result<(), MediaError> {
        self.writer
            .write_image_data(&picture.rgb)
            .map_err(|error| about(&self.path)(error.into()))
    }

    fn finish(self: Box<Self>) -> Result<(), MediaError> {
        let this = *self;
        let ended = this.writer.finish().map_err(Error::from);
        ended
            .and_then(|()| this.whole.commit())
            .map_err(about(&this.path))
    }
}

/// An animated WebP without loss (WebP container specification, chunks `VP8X`, `ANIM` and `ANMF`).
pub struct WebPWriter {
    path: PathBuf,
    whole: WholeFile,
    rate: FrameRate,
    text: String,
    frames: u64,
}

impl WebPWriter {
    pub fn create(path: &Path, force: bool, plan: &ClipPlan) -> Result<Self, MediaError> {
        let mut whole = WholeFile::create(path, force).map_err(about(path))?;
        let mut head = b"RIFF\0\0\0\0WEBP".to_vec();
        // Flags: animation.
        let mut features = vec![2, 0, 0, 0];
        features.extend(three(plan.width - 1));
        features.extend(three(plan.height - 1));
        chunk(&mut head, b"VP8X", &features);
        // White behind, repeated forever.
        chunk(&mut head, b"ANIM", &[255, 255, 255, 255, 0, 0]);
        whole.file().write_all(&head).map_err(about(path))?;
        Ok(Self {
            path: path.into(),
            whole,
            rate: plan.rate,
            text: plan.text.clone(),
            frames: 0,
        })
    }

    /// Milliseconds until frame `index` begins.
    fn clock(&self, index: u64) -> u64 {
        (1000.0 * index as f64 / self.rate.per_second()).round() as u64
    }
}

fn three(number: usize) -> [u8; 3] {
    let [a, b, c, ..] = (number as u32).to_le_bytes();
    [a, b, c]
}

/// A RIFF chunk: name, size, content, padded to an even length.
fn chunk(out: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    out.extend(name);
    out.extend((content.len() as u32).to_le_bytes());
    out.extend(content);
    out.extend(vec![0; content.len() % 2]);
}

impl FrameSink for WebPWriter {
    fn push(&mut self, picture: &Picture) -> Result<(), MediaError> {
        let mut still = Vec::new();
        let (width, height) = (picture.width as u32, picture.height as u32);
        WebPEncoder::new_lossless(&mut still)
            .encode(&picture.rgb, width, height, ExtendedColorType::Rgb8)
            .map_err(|error| about(&self.path)(Error::other(error.to_string())))?;
        let duration = self.clock(self.frames + 1) - self.clock(self.frames);
        self.frames += 1;
        let mut frame = [three(0), three(0)].concat();
        frame.extend(three(picture.width - 1));
        frame.extend(three(picture.height - 1));
        frame.extend(three(duration as usize));
        frame.push(2); // In place of what was there, not blended with it.
        frame.extend(&still[12..]); // The picture's own chunk, after RIFF, size and WEBP.
        let mut out = Vec::new();
        chunk(&mut out, b"ANMF", &frame);
        self.whole.file().write_all(&out).map_err(about(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<(), MediaError> {
        let mut this = *self;
        let mut tail = Vec::new();
        chunk(&mut tail, WEBP_TEXT, this.text.as_bytes());
        let file = this.whole.file();
        let mut done = || {
            file.write_all(&tail)?;
            let size = file.stream_position()? - 8;
            let size = u32::try_from(size).map_err(|_| Error::other("a WebP has at most 4 GiB"))?;
            file.seek(SeekFrom::Start(4))?;
            file.write_all(&size.to_le_bytes())
        };
        done()
            .and_then(|()| this.whole.commit())
            .map_err(about(&this.path))
    }
}

/// A folder with a PNG for each frame.
pub struct FolderWriter {
    path: PathBuf,
    whole: WholeFolder,
    text: Vec<(String, String)>,
    frames: usize,
}

impl FolderWriter {
    pub fn create(path: &Path, force: bool, plan: &ClipPlan) -> Result<Self, MediaError> {
        Ok(Self {
            path: path.into(),
            whole: WholeFolder::create(path, force).map_err(about(path))?,
            text: text_chunks(plan),
            frames: 0,
        })
    }
}

impl FrameSink for FolderWriter {
    fn push(&mut self, picture: &Picture) -> Result<(), MediaError> {
        self.frames += 1;
        let name = format!("frame-{:05}.png", self.frames);
        let png = encode_png(picture, &self.text);
        self.whole.write(&name, &png).map_err(about(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<(), MediaError> {
        let this = *self;
        this.whole.commit().map_err(about(&this.path))
    }
}
