//! Clips with what is known of them, held in memory as bytes.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::Seed;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{DataConfig, TrainError};

/// One clip.
#[derive(Debug, Clone)]
pub struct ClipItem {
    /// RGB bytes, frame by frame, channel first: `frames * 3 * size * size`.
    pub bytes: Vec<u8>,
    /// What the data says of it.
    pub row: ClipRow,
}

/// A row of the data: a file of JSON lines, files relative to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClipRow {
    /// A picture of all frames from top to bottom.
    pub file: String,
    /// Number of frames.
    pub frames: usize,
    /// How fast they follow one another.
    #[serde(default = "twelve")]
    pub frames_per_second: f32,
    /// `train` or `held-out`.
    #[serde(default = "train")]
    pub split: String,
    /// What kind of motion it shows.
    #[serde(default)]
    pub kind: String,
    /// What it shows, in words; its kind without it.
    #[serde(default)]
    pub caption: Option<String>,
    /// What moves, if that is known.
    #[serde(default)]
    pub objects: Vec<ClipObject>,
}

impl ClipRow {
    /// What it shows, in words.
    pub fn caption(&self) -> &str {
        self.caption.as_deref().unwrap_or(&self.kind)
    }

    fn is_held_out(&self) -> bool {
        self.split == "held-out"
    }

    /// Checks what it says of a clip whose frames are `side` pixels a side, in words for people.
    fn validate(&self, side: usize) -> Result<(), String> {
        if !(self.frames_per_second.is_finite() && self.frames_per_second > 0.0) {
            let found = self.frames_per_second;
            return Err(format!(
                "{found} frames per second, expected more than zero"
            ));
        }
        for object in &self.objects {
            let what = &object.what;
            if !(1..=side).contains(&object.size) {
                let found = object.size;
                return Err(format!(
                    "{what} is {found} pixels large, expected 1 to {side}"
                ));
            }
            for (axis, places) in [("x", &object.x), ("y", &object.y)] {
                if places.len() < self.frames {
                    let (found, frames) = (places.len(), self.frames);
                    return Err(format!(
                        "{what} has {found} places {axis}, expected one for each of {frames} frames"
                    ));
                }
                // As far outside as a frame is wide, nobody looks for it.
                let near = |place: &f64| place.abs() <= 2.0 * side as f64;
                if let Some(found) = places.iter().find(|place| !near(place)) {
                    return Err(format!(
                        "{what} is at {axis} = {found}, far outside the frame"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The rows of a file with the numbers of their lines, from one.
fn rows(config: &DataConfig) -> Result<Vec<(usize, ClipRow)>, TrainError> {
    let text = std::fs::read_to_string(&config.rows).map_err(|error| {
        wrong(
            config,
            format!("{error} (`make data-video` builds the default clips)"),
        )
    })?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| match serde_json::from_str(line) {
            Ok(row) => Ok((at + 1, row)),
            Err(error) => Err(wrong(config, format!("line {}: {error}", at + 1))),
        })
        .collect()
}

fn wrong(config: &DataConfig, reason: String) -> TrainError {
    TrainError::Data {
        path: config.rows.clone(),
        reason,
    }
}

/// Where an object is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClipObject {
    /// What it is.
    pub what: String,
    /// Height and width in pixels.
    pub size: usize,
    /// Middle in each frame, pixels from the left edge.
    pub x: Vec<f64>,
    /// Middle in each frame, pixels from the upper edge.
    pub y: Vec<f64>,
}

fn twelve() -> f32 {
    12.0
}

fn train() -> String {
    "train".into()
}

/// All clips of a recipe, split.
#[derive(Debug, Clone)]
pub struct Clips {
    /// Height and width.
    pub size: usize,
    /// What the model learns from.
    pub train: Vec<ClipItem>,
    /// What it never sees.
    pub held_out: Vec<ClipItem>,
}

impl Clips {
    /// Reads all rows.
    ///
    /// # Errors
    /// [`TrainError::Data`] names the file and line of the first row that cannot be used.
    pub fn read(config: &DataConfig) -> Result<Self, TrainError> {
        let clips = Self::of(config, rows(config)?)?;
        match clips.train.is_empty() {
            true => Err(wrong(config, "no training clip in it".into())),
            false => Ok(clips),
        }
    }

    /// Reads what is held out alone, or all where nothing is.
    ///
    /// # Errors
    /// As [`Clips::read`], of the rows that are read.
    pub fn read_held_out(config: &DataConfig) -> Result<Self, TrainError> {
        let mut rows = rows(config)?;
        if rows.iter().any(|(_, row)| row.is_held_out()) {
            rows.retain(|(_, row)| row.is_held_out());
        }
        Self::of(config, rows)
    }

    fn of(config: &DataConfig, rows: Vec<(usize, ClipRow)>) -> Result<Self, TrainError> {
        let folder = config.rows.parent().unwrap_or(Path::new("."));
        let read: Vec<Result<ClipItem, TrainError>> = rows
            .into_par_iter()
            .map(|(line, row)| {
                let place = |reason: String| wrong(config, format!("line {line}: {reason}"));
                row.validate(config.size).map_err(place)?;
                read_clip(folder, row, config.size).map_err(place)
            })
            .collect();
        let all: Result<Vec<ClipItem>, TrainError> = read.into_iter().collect();
        let (held_out, train) = all?.into_iter().partition(|item| item.row.is_held_out());
        Ok(Self {
            size: config.size,
            train,
            held_out,
        })
    }

    /// Some frames of some clips.
    ///
    /// # Shapes
    /// - returns: `[parts, len, 3, size, size]` in `-1..=1`
    ///
    /// # Panics
    /// If a part goes beyond its clip.
    pub fn tensor(&self, parts: &[Part<'_>], len: usize, device: &Device) -> Tensor<5> {
        let frame = 3 * self.size * self.size;
        let mut values = Vec::with_capacity(parts.len() * len * frame);
        for part in parts {
            let bytes = &part.item.bytes[part.start * frame..(part.start + len) * frame];
            for row in bytes.chunks_exact(self.size) {
                let value = |&byte: &u8| f32::from(byte) / 127.5 - 1.0;
                match part.mirror {
                    true => values.extend(row.iter().rev().map(value)),
                    false => values.extend(row.iter().map(value)),
                }
            }
        }
        let shape = [parts.len(), len, 3, self.size, self.size];
        Tensor::from_data(TensorData::new::<f32, _>(values, shape), device)
    }

    /// A part of `len` frames of each of some training clips, drawn from a seed.
    ///
    /// # Panics
    /// If a clip is shorter than that; [`Clips::check_length`] says so beforehand.
    pub fn drawn(&self, items: &[usize], len: usize, flip: bool, seed: Seed) -> Vec<Part<'_>> {
        let draw = |(row, &item): (usize, &usize)| {
            let item = &self.train[item];
            let mut random = seed.indexed(row as u64).stream();
            let places = item.row.frames - len + 1;
            Part {
                start: random.next_u32() as usize % places,
                mirror: flip && random.next_u32() % 2 == 1,
                item,
            }
        };
        items.iter().enumerate().map(draw).collect()
    }

    /// Checks that every clip has `len` frames at least.
    ///
    /// # Errors
    /// [`TrainError::Data`] names the first that is shorter.
    pub fn check_length(&self, len: usize) -> Result<(), TrainError> {
        let all = self.train.iter().chain(&self.held_out);
        match all.into_iter().find(|item| item.row.frames < len) {
            None => Ok(()),
            Some(item) => Err(TrainError::Data {
                path: item.row.file.clone().into(),
                reason: format!("it has {} frames, {len} are needed", item.row.frames),
            }),
        }
    }
}

/// Where some frames are taken from.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The clip.
    pub item: &'a ClipItem,
    /// The first frame.
    pub start: usize,
    /// Whether left and right are swapped.
    pub mirror: bool,
}

impl<'a> Part<'a> {
    /// A clip from its beginning.
    pub fn beginning(item: &'a ClipItem) -> Self {
        Self {
            item,
            start: 0,
            mirror: false,
        }
    }
}

fn read_clip(folder: &Path, row: ClipRow, size: usize) -> Result<ClipItem, String> {
    let picture =
        ravel_media::read_image(&folder.join(&row.file)).map_err(|error| error.to_string())?;
    if (picture.width, picture.height) != (size, row.frames * size) || row.frames == 0 {
        return Err(format!(
            "{} is {} x {} pixels, {} frames of {size} x {size} are {size} x {}",
            row.file,
            picture.width,
            picture.height,
            row.frames,
            row.frames * size
        ));
    }
    let plane = size * size;
    let mut bytes = vec![0; picture.rgb.len()];
    for (at, rgb) in picture.rgb.chunks_exact(3).enumerate() {
        let (frame, place) = (at / plane, at % plane);
        for (channel, &value) in rgb.iter().enumerate() {
            bytes[(3 * frame + channel) * plane + place] = value;
        }
    }
    Ok(ClipItem { bytes, row })
}
