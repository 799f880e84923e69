//! All measures of continued clips, gathered clip by clip.

use std::collections::BTreeMap;

use ravel_core::{Clip, Images, VideoTokenizer};
use serde::Serialize;

use super::{
    FeatureStatistics, Frame, Sighting, Template, copy_last, drift, extrapolated_blocks,
    extrapolated_places, frames_of, frechet_distance,
};
use crate::{psnr, ssim};

/// The kind of motion in which objects turn around themselves.
const TURNING: &str = "spin";

/// An object whose places are known: middle in each frame of the clip, pixels.
#[derive(Debug, Clone)]
pub struct KnownObject {
    /// Height and width in pixels.
    pub size: usize,
    /// From the left edge.
    pub x: Vec<f64>,
    /// From the upper edge.
    pub y: Vec<f64>,
}

/// One measure of the three methods.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Compared {
    /// The pipeline.
    pub ours: f64,
    /// The last given frame again.
    pub copy: f64,
    /// Every block goes on as it did between the last two given frames.
    pub linear: f64,
}

/// Means of what one new frame gives.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FrameRow {
    /// Number of the new frame, from 1.
    pub frame: usize,
    /// Decibels; absent where no true frame is known.
    pub psnr: Option<Compared>,
    /// Structural similarity.
    pub ssim: Option<Compared>,
    /// Distance of objects from where they are, pixels.
    pub position: Option<Compared>,
    /// The same where each object is followed through all given frames as one block and goes on straight: the strongest linear
    /// extrapolation, which no picture is made of.
    pub position_tracked: Option<f64>,
    /// The same in the true frames coded and decoded on the tokenizer's own canvas after the given frames: what the codes could have
    /// reached, whatever a tokenizer makes of given frames included.
    pub position_coded: Option<f64>,
    /// The same in the true frames themselves: the measure's own error.
    pub position_true: Option<f64>,
    /// Share of the objects that are found at all.
    pub present: f64,
    /// The same in the true frames, where things cover one another.
    pub present_true: Option<f64>,
    /// Distance to the given frames' statistics, in steps of a byte.
    pub drift: f64,
    /// Wall time of the frame.
    pub milliseconds: f64,
}

/// What a pipeline reaches on clips that go on.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ContinuationReport {
    /// Clips measured.
    pub clips: usize,
    /// Objects followed.
    pub objects: usize,
    /// Frame by frame.
    pub frames: Vec<FrameRow>,
    /// Position errors over frames with known places, by kind of motion.
    pub kinds: BTreeMap<String, KindRow>,
    /// Fréchet distance of the tokenizer's features to those of the true frames. It is no FVD.
    pub tokenizer_frechet: Compared,
}

/// Mean position errors of one kind of motion, pixels.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KindRow {
    /// Found in the frames of each method.
    pub position: Compared,
    /// As [`FrameRow::position_tracked`].
    pub tracked: f64,
    /// As [`FrameRow::position_coded`].
    pub coded: f64,
    /// As [`FrameRow::position_true`].
    pub truth: f64,
}

#[derive(Default, Clone)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    fn value(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }
}

#[derive(Default, Clone)]
struct Three([Mean; 3]);

impl Three {
    fn add(&mut self, values: [f64; 3]) {
        for (mean, value) in self.0.iter_mut().zip(values) {
            mean.add(value);
        }
    }

    fn compared(&self) -> Option<Compared> {
        let [ours, copy, linear] = [0, 1, 2].map(|at| self.0[at].value());
        (self.0[0].count > 0.0).then_some(Compared { ours, copy, linear })
    }
}

/// Position errors.
#[derive(Default, Clone)]
struct Places {
    found: Three,
    tracked: Mean,
    coded: Mean,
    truth: Mean,
}

impl Places {
    fn known(&self, mean: &Mean) -> Option<f64> {
        (self.tracked.count > 0.0).then(|| mean.value())
    }

    fn row(&self) -> Option<KindRow> {
        Some(KindRow {
            position: self.found.compared()?,
            tracked: self.tracked.value(),
            coded: self.coded.value(),
            truth: self.truth.value(),
        })
    }
}

#[derive(Default, Clone)]
struct Row {
    psnr: Three,
    ssim: Three,
    places: Places,
    present: Mean,
    present_true: Mean,
    drift: Mean,
    milliseconds: Mean,
}

/// One clip as each method has it, frame by frame.
struct Seen<'a> {
    given: &'a [Frame],
    new: &'a [Frame],
    blocks: &'a [Frame],
    coded: &'a [Frame],
    truth: &'a [Frame],
}

/// Gathers the report.
pub struct ContinuationMeasure {
    rows: Vec<Row>,
    kinds: BTreeMap<String, Places>,
    features: [FeatureStatistics; 4],
    clips: usize,
    objects: usize,
}

/// A clip that went on.
pub struct Continued<'a> {
    /// Kind of motion.
    pub kind: &'a str,
    /// The whole true clip, one row; the given frames come first.
    pub truth: &'a Clip,
    /// How many frames were given.
    pub given: usize,
    /// What the pipeline made, one row.
    pub new: &'a Clip,
    /// The true frames that were not given, as many as `new` has or fewer, after coding and decoding, one row.
    pub coded: &'a Clip,
    /// Wall time of each new frame.
    pub milliseconds: &'a [f64],
    /// What moves.
    pub objects: &'a [KnownObject],
}

impl ContinuationMeasure {
    /// Nothing yet, of continuations by `frames` frames, with features of `width` numbers.
    pub fn new(frames: usize, width: usize) -> Self {
        Self {
            rows: vec![Row::default(); frames],
            kinds: BTreeMap::new(),
            features: std::array::from_fn(|_| FeatureStatistics::new(width)),
            clips: 0,
            objects: 0,
        }
    }

    /// Adds a clip.
    pub fn add(&mut self, continued: &Continued<'_>, tokenizer: &dyn VideoTokenizer) {
        let truth = &frames_of(continued.truth)[0];
        let new = &frames_of(continued.new)[0];
        let (given, rest) = truth.split_at(continued.given);
        let known = rest.len().min(new.len());
        let copied = copy_last(given, new.len());
        let blocks = extrapolated_blocks(given, known);
        let device = continued.new.frames.device();
        let clip = |frames: &[Frame]| images_of(frames, &device);
        let wanted = clip(&rest[..known]);
        let sets = [&new[..known], &copied[..known], &blocks[..]].map(clip);
        let decibels = sets.clone().map(|set| psnr(&set, &wanted));
        let alike = sets.clone().map(|set| ssim(&set, &wanted));
        for at in 0..known {
            // Equal frames would count for infinity.
            let of = |values: &[Vec<f64>; 3]| [0, 1, 2].map(|set| values[set][at].min(60.0));
            self.rows[at].psnr.add(of(&decibels));
            self.rows[at].ssim.add(of(&alike));
        }
        let [ours, copy, linear] = sets;
        for (statistics, images) in self.features.iter_mut().zip([ours, copy, linear, wanted]) {
            statistics.add(tokenizer.latents(images.pixels));
        }
        for (row, value) in self.rows.iter_mut().zip(drift(given, new)) {
            row.drift.add(value);
        }
        for (row, &value) in self.rows.iter_mut().zip(continued.milliseconds) {
            row.milliseconds.add(value);
        }
        let seen = Seen {
            given,
            new,
            blocks: &blocks,
            coded: &frames_of(continued.coded)[0],
            truth: &rest[..known],
        };
        for object in continued.objects {
            self.follow(continued.kind, object, &seen);
        }
        self.clips += 1;
    }

    fn follow(&mut self, kind: &str, object: &KnownObject, seen: &Seen<'_>) {
        let last = seen.given.len() - 1;
        let known = seen.blocks.len();
        let start = (object.x[last], object.y[last]);
        let shown = &seen.given[last];
        let template = Template::new(shown, start.0, start.1, object.size);
        let template = match kind {
            TURNING => template.turning(),
            _ => template,
        };
        let place = (start.0, start.1, object.size);
        let tracked = extrapolated_places(&template, seen.given, place, known);
        let still = template.find(shown, start);
        let followed = |frames: &[Frame]| -> Vec<Sighting> {
            let mut near = start;
            let follow = |frame: &Frame| {
                let found = template.find(frame, near);
                near = (found.x, found.y);
                found
            };
            frames.iter().map(follow).collect()
        };
        let new = followed(seen.new);
        for (row, found) in self.rows.iter_mut().zip(&new) {
            row.present.add(f64::from(u8::from(found.present)));
        }
        let [blocks, coded, truth] = [seen.blocks, seen.coded, seen.truth].map(followed);
        for (row, found) in self.rows.iter_mut().zip(&truth) {
            row.present_true.add(f64::from(u8::from(found.present)));
        }
        for at in 0..known {
            let (x, y) = (object.x[last + 1 + at], object.y[last + 1 + at]);
            let of_kind = self.kinds.entry(kind.to_string()).or_default();
            for places in [&mut self.rows[at].places, of_kind] {
                places
                    .found
                    .add([new[at], still, blocks[at]].map(|found| found.distance(x, y)));
                places
                    .tracked
                    .add((tracked[at].0 - x).hypot(tracked[at].1 - y));
                if let Some(coded) = coded.get(at) {
                    places.coded.add(coded.distance(x, y));
                }
                places.truth.add(truth[at].distance(x, y));
            }
        }
        self.objects += 1;
    }

    /// All means.
    pub fn report(&self) -> ContinuationReport {
        let [ours, copy, linear, wanted] = &self.features;
        let frames = self.rows.iter().enumerate().map(|(at, row)| FrameRow {
            frame: at + 1,
            psnr: row.psnr.compared(),
            ssim: row.ssim.compared(),
            position: row.places.found.compared(),
            position_tracked: row.places.known(&row.places.tracked),
            position_coded: row.places.known(&row.places.coded),
            position_true: row.places.known(&row.places.truth),
            present: row.present.value(),
            present_true: row.places.known(&row.present_true),
            drift: row.drift.value(),
            milliseconds: row.milliseconds.value(),
        });
        let kinds = self.kinds.iter();
        let kinds = kinds.filter_map(|(kind, places)| Some((kind.clone(), places.row()?)));
        ContinuationReport {
            clips: self.clips,
            objects: self.objects,
            frames: frames.collect(),
            kinds: kinds.collect(),
            tokenizer_frechet: Compared {
                ours: frechet_distance(ours, wanted),
                copy: frechet_distance(copy, wanted),
                linear: frechet_distance(linear, wanted),
            },
        }
    }
}

fn images_of(frames: &[Frame], device: &burn::tensor::Device) -> Images {
    let (height, width) = (frames[0].height, frames[0].width);
    let values: Vec<f32> = frames
        .iter()
        .flat_map(|f| f.values.iter().copied())
        .collect();
    let shape = [frames.len(), 3, height, width];
    let data = burn::tensor::TensorData::new::<f32, _>(values, shape);
    Images {
        pixels: burn::tensor::Tensor::from_data(data, device),
    }
}
