//! `ravel tokenizer` for clips: frames to codes and back.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use ravel_core::{Clip, ClipTokenizer, Codes, Images, Layout};
use ravel_eval::{psnr, ssim};
use ravel_media::{
    ClipPlan, ClipReader, ClipTarget, ClipWriter, FrameRate, MediaError, Picture,
    images_from_pictures,
};
use ravel_pipeline::{Definition, Source, build_clip_tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::arguments::DeviceName;
use crate::failure::Failure;
use crate::progress::{note, say};
use crate::tokenizer::{ids_of_books, put};
use crate::video::{fraction, pictures, usual_rate};
use crate::{interrupt, tokenizer};

/// Most frames of a clip: it is coded as a whole.
const MOST: usize = 4096;
/// The smallest side on which SSIM's window has a place.
const SSIM_SIDE: usize = 11;

/// A tokenizer of clips with the name of its definition.
pub struct Codec {
    tokenizer: Box<dyn ClipTokenizer>,
    name: String,
    device: Device,
}

/// Codes of a clip in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ClipFile {
    /// The definition's name, which codes of another tokenizer do not have.
    tokenizer: String,
    frames_per_second: String,
    /// Frames of the clip; the last group may stand for more.
    frames: usize,
    layout: Layout,
    /// Of each codebook.
    ids: Vec<Vec<u32>>,
}

/// A clip as the tokenizer takes it.
struct Given {
    clip: Clip,
    rate: FrameRate,
    /// Frames that the file has.
    frames: usize,
}

impl Codec {
    /// Builds the tokenizer of a definition.
    pub fn open(
        definition: &Definition,
        source: &Source,
        device: DeviceName,
    ) -> Result<Self, Failure> {
        definition.check(source)?;
        let device = device.open()?;
        Ok(Self {
            tokenizer: build_clip_tokenizer(definition.tokenizer_part()?, source, &device)?,
            name: definition.name.clone(),
            device,
        })
    }

    /// The frames of a file in a size that cells fill, the last one repeated until its group is full; says what was changed.
    fn read(&self, path: &Path) -> Result<Given, Failure> {
        let spec = self.tokenizer.clip_spec();
        let mut reader = ClipReader::open(path, None)?;
        let (found_width, found_height) = (reader.info().width, reader.info().height);
        let (height, width) = spec.size_near(found_height, found_width);
        let shown = path.display();
        let mut frames: Vec<Picture> = Vec::new();
        for frame in reader.by_ref() {
            if interrupt::asked() {
                return Err(Failure::Interrupted);
            }
            if frames.len() == MOST {
                return Err(Failure::input_with(
                    format!("{shown}: more than {MOST} frames, which is the most of a clip"),
                    "give a part of it",
                ));
            }
            frames.push(frame?.resized(width, height));
        }
        if (found_height, found_width) != (height, width) {
            note(&format!(
                "{shown}: frames of {found_width} x {found_height} are resized to {width} x {height}"
            ));
        }
        reader.notes().iter().for_each(|line| note(line));
        let count = frames.len();
        let last = frames.last().cloned();
        let last = last.ok_or(MediaError::NoFrames { path: path.into() })?;
        while spec.groups_of(frames.len()).is_none() {
            frames.push(last.clone());
        }
        if frames.len() > count {
            note(&format!(
                "{shown}: the last of {count} frames stands for {} more, so that groups are full",
                frames.len() - count
            ));
        }
        let rate = reader.info().rate.unwrap_or_else(usual_rate);
        Ok(Given {
            clip: Clip {
                frames: images_from_pictures(&frames, &self.device)
                    .pixels
                    .unsqueeze(),
                frames_per_second: rate.per_second() as f32,
            },
            rate,
            frames: count,
        })
    }
}

/// Writes the codes of a clip.
pub fn encode(
    codec: &Codec,
    path: &Path,
    (output, force): (Option<&Path>, bool),
) -> Result<(), Failure> {
    let given = codec.read(path)?;
    let codes = codec.tokenizer.encode(given.clip)?;
    go_on()?;
    let filled = codes.filled().max(1);
    let file = ClipFile {
        tokenizer: codec.name.clone(),
        frames_per_second: fraction(given.rate),
        frames: given.frames,
        layout: codes.layout.clone(),
        ids: codes
            .to_host()
            .remove(0)
            .chunks(filled)
            .map(<[u32]>::to_vec)
            .collect(),
    };
    put((json!(file).to_string() + "\n").as_bytes(), output, force)
}

/// Writes the clip of codes.
pub fn decode(codec: &Codec, path: &Path, (output, force): (&Path, bool)) -> Result<(), Failure> {
    let target = ClipTarget::of(output, force)?;
    let (codes, file) = read_codes(codec, path)?;
    let wrong = |line: String| Failure::input(format!("{}: {line}", path.display()));
    let rate: FrameRate = file.frames_per_second.parse().map_err(|_| {
        wrong(format!(
            "a rate of `{}` frames a second",
            file.frames_per_second
        ))
    })?;
    let clip = codec.tokenizer.decode(&codes)?;
    go_on()?;
    let most = clip.len();
    if !(1..=most).contains(&file.frames) {
        return Err(wrong(format!(
            "{} frames are to be written, 1 to {most} can be of these codes",
            file.frames
        )));
    }
    let frames = pictures(&clip.part(0, file.frames).frames);
    let plan = ClipPlan {
        width: frames[0].width,
        height: frames[0].height,
        rate,
        frames: frames.len(),
        text: json!({
            "generated-by": concat!("ravel ", env!("CARGO_PKG_VERSION")),
            "tokenizer": codec.name,
        })
        .to_string(),
    };
    let mut writer = ClipWriter::create(&target, &plan)?;
    writer.notes().iter().for_each(|line| note(line));
    for frame in &frames {
        go_on()?;
        writer.push(frame)?;
    }
    Ok(writer.finish()?)
}

/// Ends the command where that was asked for; nothing is written then.
fn go_on() -> Result<(), Failure> {
    match interrupt::asked() {
        true => Err(Failure::Interrupted),
        false => Ok(()),
    }
}

fn read_codes(codec: &Codec, path: &Path) -> Result<(Codes, ClipFile), Failure> {
    let shown = path.display();
    let wrong = |line: String| Failure::input(format!("{shown}: {line}"));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let file: ClipFile = serde_json::from_str(&text).map_err(|error| {
        wrong(format!(
            "no codes of a clip by `ravel tokenizer encode`: {error}"
        ))
    })?;
    if file.tokenizer != codec.name {
        return Err(Failure::input_with(
            format!(
                "{shown}: codes of {}, {} is asked to read them",
                file.tokenizer, codec.name
            ),
            format!("--pipeline {}", file.tokenizer),
        ));
    }
    let ids = ids_of_books(&file.ids, &codec.device).map_err(wrong)?;
    let codes = Codes {
        ids,
        layout: file.layout.clone(),
    };
    Ok((codes, file))
}

/// Says what a definition's tokenizer takes and gives; its weights need not be there.
pub fn inspect(definition: &Definition, json: bool) -> Result<(), Failure> {
    let spec = definition.tokenizer_part()?.clip_spec()?;
    if json {
        say(&json!({ "tokenizer": definition.name, "spec": spec }).to_string());
        return Ok(());
    }
    let size = match spec.signal_size {
        Some((height, width)) => format!("{width} x {height}"),
        None => format!("any size in multiples of {} pixels", spec.stride),
    };
    let first = if spec.first_alone {
        "a first frame, then "
    } else {
        ""
    };
    say(&format!(
        "clips     {size}, {first}{} frames at a time",
        spec.group
    ));
    say(&format!(
        "codes     a grid each time, {} pixels a side for each place",
        spec.stride
    ));
    say(&format!(
        "codebook  {} ids of {} numbers, {} per place",
        spec.codes.codebook_size, spec.codes.code_width, spec.codes.depth
    ));
    Ok(())
}

/// What was measured on one clip.
struct Measured {
    path: PathBuf,
    frames: usize,
    /// Means over frames.
    psnr: f64,
    ssim: Option<f64>,
    codes: usize,
    bits_per_pixel: f64,
    encode_seconds: f64,
    decode_seconds: f64,
}

impl Measured {
    fn of(codec: &Codec, path: PathBuf) -> Result<Self, Failure> {
        let given = codec.read(&path)?;
        let [_, frames, _, height, width] = given.clip.frames.dims();
        let begin = Instant::now();
        let codes = codec.tokenizer.encode(given.clip.clone())?;
        // Reading the codes waits for the device.
        let _ = codes.to_host();
        let encode_seconds = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let found = images(&codec.tokenizer.decode(&codes)?, given.frames);
        // Reading a number waits for the device.
        let _ = found.pixels.clone().sum().to_data();
        let decode_seconds = begin.elapsed().as_secs_f64();
        let wanted = images(&given.clip, given.frames);
        let psnr = mean(&psnr(&found, &wanted));
        let spec = codec.tokenizer.spec();
        let ids = codes.depth() * codes.filled();
        let bits = ids as f64 * (spec.codebook_size as f64).log2();
        Ok(Self {
            path,
            frames: given.frames,
            psnr,
            ssim: (height.min(width) >= SSIM_SIDE).then(|| mean(&ssim(&found, &wanted))),
            codes: ids,
            bits_per_pixel: bits / (frames * height * width) as f64,
            encode_seconds,
            decode_seconds,
        })
    }

    fn json(&self) -> Value {
        json!({
            "file": self.path,
            "frames": self.frames,
            "psnr": self.psnr,
            "ssim": self.ssim,
            "codes": self.codes,
            "bits-per-pixel": self.bits_per_pixel,
            "encode-seconds": self.encode_seconds,
            "decode-seconds": self.decode_seconds,
        })
    }

    fn line(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        let ssim = self.ssim.map_or("-".into(), |ssim| format!("{ssim:.4}"));
        format!(
            "{:24} {:7} {:9.2} {ssim:>7} {:9} {:10.4} {:8.2} {:8.2}",
            name.to_string_lossy(),
            self.frames,
            self.psnr,
            self.codes,
            self.bits_per_pixel,
            self.encode_seconds,
            self.decode_seconds
        )
    }
}

/// The first frames as pictures.
fn images(clip: &Clip, frames: usize) -> Images {
    Images {
        pixels: clip.part(0, frames).frames.squeeze_dim(0),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Measures what is lost on the way to codes and back, clip by clip.
pub fn eval(codec: &Codec, data: &[PathBuf], json: bool) -> Result<(), Failure> {
    if data.is_empty() {
        return Err(Failure::input_with(
            "no clip is named",
            "name clips or folders of frames with --data",
        ));
    }
    let mut all = Vec::new();
    for path in data {
        if interrupt::asked() {
            return Err(Failure::Interrupted);
        }
        all.push(Measured::of(codec, path.clone())?);
    }
    if json {
        let clips: Vec<Value> = all.iter().map(Measured::json).collect();
        say(&json!({ "tokenizer": codec.name, "clips": clips }).to_string());
        return Ok(());
    }
    say(
        "clip                      frames   PSNR dB    SSIM     codes  bits/pixel encode s decode s",
    );
    all.iter().for_each(|measured| say(&measured.line()));
    Ok(())
}

/// The definition that is asked for, where its tokenizer is one of clips.
pub fn definition(name: &str) -> Result<Option<(Definition, Source)>, Failure> {
    tokenizer::definition_of(name, |part| part.is_clip())
}
