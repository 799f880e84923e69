//! Pictures with captions, from a folder of rows (JSON lines) or a tar of pairs, held in memory as bytes.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::Seed;
use ravel_media::Picture;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Where the pictures are and how they are varied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataConfig {
    /// A file of JSON lines (`{"file": …, "caption": …, "split": "train" | "held-out"}`, files relative to it), or
    /// a `.tar` in which `name.png` and `name.txt` (or `name.json`, a row) make a pair.
    pub rows: PathBuf,
    /// Height and width to which every picture is brought.
    pub size: usize,
    /// Largest shift of a picture in pixels, in each direction; what enters is white.
    #[serde(default)]
    pub shift: usize,
    /// Whether pictures are mirrored half of the time.
    #[serde(default)]
    pub flip: bool,
}

/// One picture with what is said about it.
#[derive(Debug, Clone)]
pub struct Item {
    /// RGB bytes, channel first: `3 * size * size`.
    pub pixels: Vec<u8>,
    /// Its caption.
    pub caption: String,
    /// Other ways to say it.
    pub alternates: Vec<String>,
}

/// All pictures of a recipe, split.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// Height and width.
    pub size: usize,
    /// What the model learns from.
    pub train: Vec<Item>,
    /// What it never sees.
    pub held_out: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Row {
    #[serde(default)]
    file: PathBuf,
    caption: String,
    #[serde(default)]
    split: Split,
    #[serde(default)]
    alternates: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Split {
    #[default]
    Train,
    HeldOut,
}

impl Pictures {
    /// Reads all rows.
    ///
    /// # Errors
    /// [`TrainError::Data`] names the file and line of the first row that cannot be used.
    pub fn read(config: &DataConfig) -> Result<Self, TrainError> {
        let mut pictures = Self {
            size: config.size,
            train: Vec::new(),
            held_out: Vec::new(),
        };
        if config.rows.extension().is_some_and(|kind| kind == "tar") {
            pictures.read_tar(&config.rows)?;
        } else {
            pictures.read_rows(&config.rows)?;
        }
        if pictures.train.is_empty() {
            return Err(TrainError::Data {
                path: config.rows.clone(),
                reason: "no training picture in it".into(),
            });
        }
        Ok(pictures)
    }

    fn read_rows(&mut self, path: &Path) -> Result<(), TrainError> {
        let text = std::fs::read_to_string(path).map_err(|error| TrainError::Data {
            path: path.into(),
            reason: format!("{error} (`make data` builds the default data)"),
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for (at, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let row: Row = serde_json::from_str(line).map_err(|error| TrainError::Data {
                path: path.into(),
                reason: format!("line {}: {error}", at + 1),
            })?;
            let picture = ravel_media::read_image(&folder.join(&row.file))?;
            self.push(picture, row);
        }
        Ok(())
    }

    fn read_tar(&mut self, path: &Path) -> Result<(), TrainError> {
        let wrong = |reason: String| TrainError::Data {
            path: path.into(),
            reason,
        };
        let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
        let mut pictures = BTreeMap::new();
        let mut rows = BTreeMap::new();
        let mut archive = tar::Archive::new(file);
        for entry in archive
            .entries()
            .map_err(|error| wrong(error.to_string()))?
        {
            let mut entry = entry.map_err(|error| wrong(error.to_string()))?;
            let name = entry
                .path()
                .map_err(|error| wrong(error.to_string()))?
                .into_owned();
            let mut bytes = Vec::new();
            entry
                .read_to_end(&mut bytes)
                .map_err(|error| wrong(format!("{}: {error}", name.display())))?;
            let stem = name.with_extension("");
            match name.extension().and_then(|kind| kind.to_str()) {
                Some("txt") => {
                    let caption = String::from_utf8_lossy(&bytes).trim().to_string();
                    let row = Row {
                        file: name,
                        caption,
                        split: Split::Train,
                        alternates: Vec::new(),
                    };
                    rows.insert(stem, row);
                }
                Some("json") => {
                    let row = serde_json::from_slice(&bytes)
                        .map_err(|error| wrong(format!("{}: {error}", name.display())))?;
                    rows.insert(stem, row);
                }
                Some("png" | "jpg" | "jpeg" | "webp") => {
                    pictures.insert(stem, ravel_media::decode_image(&bytes, &name)?);
                }
                _ => {}
            }
        }
        for (stem, picture) in pictures {
            let row = rows
                .remove(&stem)
                .ok_or_else(|| wrong(format!("{} has no caption beside it", stem.display())))?;
            self.push(picture, row);
        }
        Ok(())
    }

    fn push(&mut self, picture: Picture, row: Row) {
        let picture = if (picture.width, picture.height) == (self.size, self.size) {
            picture
        } else {
            picture.resized(self.size, self.size)
        };
        let plane = self.size * self.size;
        let mut pixels = vec![0; 3 * plane];
        for (at, rgb) in picture.rgb.chunks_exact(3).enumerate() {
            for channel in 0..3 {
                pixels[channel * plane + at] = rgb[channel];
            }
        }
        let item = Item {
            pixels,
            caption: row.caption,
            alternates: row.alternates,
        };
        match row.split {
            Split::Train => self.train.push(item),
            Split::HeldOut => self.held_out.push(item),
        }
    }

    /// Pixels of some items, unvaried.
    ///
    /// # Shapes
    /// - returns: `[items, 3, size, size]` in `-1..=1`
    pub fn tensor<'a>(
        &self,
        items: impl IntoIterator<Item = &'a Item>,
        device: &Device,
    ) -> Tensor<4> {
        let rows: Vec<&[u8]> = items.into_iter().map(|item| &item.pixels[..]).collect();
        pixels_tensor(&rows, self.size, device)
    }

    /// Pixels of some training items, shifted and mirrored as `config` says.
    ///
    /// # Shapes
    /// - returns: `[items, 3, size, size]` in `-1..=1`
    pub fn varied(
        &self,
        config: &DataConfig,
        items: &[usize],
        seed: Seed,
        device: &Device,
    ) -> Tensor<4> {
        let rows: Vec<Vec<u8>> = items
            .iter()
            .enumerate()
            .map(|(row, &item)| {
                let mut random = seed.indexed(row as u64).stream();
                let span = 2 * config.shift as u32 + 1;
                let mut offset = || (random.next_u32() % span) as isize - config.shift as isize;
                let (down, right) = (offset(), offset());
                let mirror = config.flip && random.next_u32() % 2 == 1;
                moved(&self.train[item].pixels, self.size, down, right, mirror)
            })
            .collect();
        let rows: Vec<&[u8]> = rows.iter().map(|row| &row[..]).collect();
        pixels_tensor(&rows, self.size, device)
    }
}

fn pixels_tensor(rows: &[&[u8]], size: usize, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = rows
        .iter()
        .flat_map(|row| row.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0))
        .collect();
    let shape = [rows.len(), 3, size, size];
    Tensor::from_data(TensorData::new::<f32, _>(values, shape), device)
}

/// The picture moved `down` and `right`, mirrored first if asked; white where nothing was.
fn moved(pixels: &[u8], size: usize, down: isize, right: isize, mirror: bool) -> Vec<u8> {
    let mut out = vec![255; pixels.len()];
    let inside = |at: isize| (0..size as isize).contains(&at).then_some(at as usize);
    for channel in 0..3 {
        for row in 0..size {
            let Some(to_row) = inside(row as isize + down) else {
                continue;
            };
            for column in 0..size {
                let Some(to_column) = inside(column as isize + right) else {
                    continue;
                };
                let from = if mirror { size - 1 - column } else { column };
                out[(channel * size + to_row) * size + to_column] =
                    pixels[(channel * size + row) * size + from];
            }
        }
    }
    out
}

/// The order in which items are seen: a new shuffle each epoch, all from one seed.
#[derive(Debug, Clone)]
pub struct Batches {
    seed: Seed,
    items: usize,
    batch: usize,
    epoch: usize,
    order: Vec<usize>,
}

impl Batches {
    /// Batches of `batch` out of `items`.
    ///
    /// # Panics
    /// If either is zero.
    pub fn new(seed: Seed, items: usize, batch: usize) -> Self {
        assert!(items > 0 && batch > 0, "batch axis: nothing to draw from");
        Self {
            seed,
            items,
            batch,
            epoch: 0,
            order: shuffled(seed.indexed(0), items),
        }
    }

    /// The items of a step. Any step may be asked for at any time.
    pub fn at(&mut self, step: usize) -> Vec<usize> {
        (step * self.batch..(step + 1) * self.batch)
            .map(|drawn| {
                let epoch = drawn / self.items;
                if epoch != self.epoch {
                    self.epoch = epoch;
                    self.order = shuffled(self.seed.indexed(epoch as u64), self.items);
                }
                self.order[drawn % self.items]
            })
            .collect()
    }
}

/// Batches of items of like length, put together anew each epoch.
#[derive(Debug, Clone)]
pub struct LikeLengths {
    groups: Batches,
    seed: Seed,
    lengths: Vec<usize>,
    batch: usize,
    epoch: usize,
    order: Vec<usize>,
}

impl LikeLengths {
    /// How far lengths in a batch may lie apart by being moved before they are sorted: this share of them, up or down.
    const SPREAD: f64 = 0.1;

    /// Batches of at most `batch` of the items that have these lengths.
    ///
    /// # Panics
    /// If there is no item, or `batch` is zero.
    pub fn new(seed: Seed, lengths: Vec<usize>, batch: usize) -> Self {
        assert!(batch > 0, "batch axis: nothing to draw");
        let groups = Batches::new(seed.named("groups"), lengths.len().div_ceil(batch), 1);
        Self {
            order: Self::sorted(seed.indexed(0), &lengths),
            groups,
            seed,
            lengths,
            batch,
            epoch: 0,
        }
    }

    /// The items of a step. Any step may be asked for at any time.
    pub fn at(&mut self, step: usize) -> Vec<usize> {
        let epoch = step / self.groups.items;
        if epoch != self.epoch {
            self.epoch = epoch;
            self.order = Self::sorted(self.seed.indexed(epoch as u64), &self.lengths);
        }
        let from = self.groups.at(step)[0] * self.batch;
        let end = (from + self.batch).min(self.order.len());
        self.order[from..end].to_vec()
    }

    fn sorted(seed: Seed, lengths: &[usize]) -> Vec<usize> {
        let mut random = seed.stream();
        let mut even = || f64::from(random.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0;
        let moved: Vec<f64> = lengths
            .iter()
            .map(|&length| length as f64 * (1.0 + Self::SPREAD * even()))
            .collect();
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by(|&a, &b| moved[a].total_cmp(&moved[b]));
        order
    }
}

fn shuffled(seed: Seed, items: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..items).collect();
    let mut random = seed.stream();
    for last in (1..items).rev() {
        order.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_sees_every_item_once_and_any_step_can_be_asked_for() {
        let mut batches = Batches::new(Seed::new(1), 10, 5);
        let mut first: Vec<usize> = (0..2).flat_map(|step| batches.at(step)).collect();
        let later = batches.at(7);
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
        assert_eq!(Batches::new(Seed::new(1), 10, 5).at(7), later);
        assert_ne!(batches.at(0), batches.at(2));
    }

    #[test]
    fn batches_of_like_lengths_change_from_epoch_to_epoch() {
        let lengths: Vec<usize> = (0..100).map(|at| 50 + at % 50).collect();
        let mut batches = LikeLengths::new(Seed::new(1), lengths.clone(), 8);
        let epochs: Vec<Vec<Vec<usize>>> = (0..2)
            .map(|epoch| (0..13).map(|step| batches.at(13 * epoch + step)).collect())
            .collect();
        for epoch in &epochs {
            let mut all: Vec<usize> = epoch.iter().flatten().copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<_>>());
            for batch in epoch {
                let of = batch.iter().map(|&item| lengths[item]);
                let (least, most) = (of.clone().min().unwrap(), of.max().unwrap());
                assert!(most as f64 <= least as f64 * 1.4, "{least}..{most}");
            }
        }
        assert_ne!(epochs[0], epochs[1]);
        let again = LikeLengths::new(Seed::new(1), lengths, 8).at(17);
        assert_eq!(again, epochs[1][4]);
    }

    #[test]
    fn a_moved_picture_leaves_white_behind() {
        let pixels: Vec<u8> = (0..12).collect();
        let out = moved(&pixels, 2, 1, 0, false);
        assert_eq!(out[..4], [255, 255, 0, 1]);
        let out = moved(&pixels, 2, 0, 0, true);
        assert_eq!(out[..4], [1, 0, 3, 2]);
    }
}
