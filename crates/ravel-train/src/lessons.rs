//! What a next-frame generator is shown and asked: canvases of training clips with the codes that come next on them.
//!
//! From some frame on a clip's canvases are the tokenizer's own, with a share of the codes wrong, and the codes asked for are those
//! that lead from such a canvas to the true next frame. So a generator sees what its own mistakes look like, and learns to mend
//! them (the idea of Infinity's self-correction, Han et al. 2024, section 3.3).

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::{Canvas, Seed, VideoTokenizer};

use crate::clips::{Clips, Part};
use crate::{TrainError, host};

/// How a clip's canvases come about.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// Share of the clips whose canvases are always the true frames.
    pub clean: f64,
    /// The largest share of wrong codes on canvases of the tokenizer's own; each clip's is drawn evenly from zero to it.
    pub corrupt_codes: f64,
    /// The largest share of groups on canvases of the tokenizer's own whose codes are guessed rather than right.
    pub own_codes: f64,
    /// Whether the channels of a clip change places at random.
    pub recolour: bool,
}

/// What a model takes for the codes that come next on some canvases, by their features, `[batch, positions, feature_width]`; one
/// group after another.
pub type Guess<'a> = Box<dyn FnMut(Tensor<3>) -> Result<Tensor<2, Int>, TrainError> + 'a>;

/// Begins to guess for clips of these numbers.
pub type Guesser<'a> = dyn Fn(&[usize]) -> Result<Guess<'a>, TrainError> + 'a;

/// One clip as it was shown, group by group.
#[derive(Debug, Clone)]
struct Lesson {
    /// The canvas before each group, its latest frame, as bytes: `groups * 3 * size * size`.
    canvases: Vec<u8>,
    /// The ids that led to that canvas; -1 before the first group.
    ids: Vec<i32>,
    /// The ids to predict.
    targets: Vec<i32>,
}

/// A batch of lessons.
pub struct Lessons {
    /// What the canvases show, `[batch, groups * positions, feature_width]`.
    pub features: Tensor<3>,
    /// `[batch, groups * positions]`.
    pub targets: Tensor<2, Int>,
}

/// Lessons of training clips, worked out when a clip is first asked for. A clip's lesson follows from the seed and its number.
pub struct LessonBook {
    known: BTreeMap<usize, Lesson>,
    shown: Shown,
    seed: Seed,
    size: usize,
}

impl LessonBook {
    /// An empty book.
    pub fn new(shown: Shown, size: usize, seed: Seed) -> Self {
        Self {
            known: BTreeMap::new(),
            shown,
            seed,
            size,
        }
    }

    /// Lessons of `groups` groups each, from a place in the clip that `seed` draws.
    ///
    /// `guesser`: who guesses codes, if any are to be guessed; it always is the same one.
    ///
    /// # Errors
    /// [`TrainError`] if a guess fails.
    pub fn lessons(
        &mut self,
        tokenizer: &dyn VideoTokenizer,
        clips: &Clips,
        items: &[usize],
        groups: usize,
        guesser: Option<&Guesser<'_>>,
        seed: Seed,
        device: &Device,
    ) -> Result<Lessons, TrainError> {
        self.work_out(tokenizer, clips, items, guesser, device)?;
        let positions = tokenizer.video_spec().positions();
        let frame = 3 * self.size * self.size;
        let (mut canvases, mut ids, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for (row, item) in items.iter().enumerate() {
            let lesson = &self.known[item];
            let mut random = seed.indexed(row as u64).stream();
            let places = lesson.targets.len() / positions - groups + 1;
            let start = random.next_u32() as usize % places;
            let bytes = &lesson.canvases[start * frame..(start + groups) * frame];
            canvases.extend(bytes.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0));
            let span = start * positions..(start + groups) * positions;
            ids.extend(&lesson.ids[span.clone()]);
            targets.extend(&lesson.targets[span]);
        }
        let rows = items.len();
        let shape = [rows * groups, 1, 3, self.size, self.size];
        let frames = Tensor::from_data(TensorData::new::<f32, _>(canvases, shape), device);
        let features = features(tokenizer, frames, ids, device);
        let width = features.dims()[2];
        let targets = TensorData::new::<i32, _>(targets, [rows, groups * positions]);
        Ok(Lessons {
            features: features.reshape([rows, groups * positions, width]),
            targets: Tensor::from_data(targets, device),
        })
    }

    fn work_out(
        &mut self,
        tokenizer: &dyn VideoTokenizer,
        clips: &Clips,
        items: &[usize],
        guesser: Option<&Guesser<'_>>,
        device: &Device,
    ) -> Result<(), TrainError> {
        let new: Vec<usize> = items
            .iter()
            .copied()
            .filter(|item| !self.known.contains_key(item))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let parts: Vec<_> = new
            .iter()
            .map(|&item| Part::beginning(&clips.train[item]))
            .collect();
        // As many of every clip, so that a lesson does not depend on what is worked out beside it.
        let frames = clips.train.iter().map(|item| item.row.frames).min();
        let frames = frames.expect("there is a clip");
        let mut clip = clips.tensor(&parts, frames, device);
        if self.shown.recolour {
            clip = self.recoloured(clip, &new);
        }
        let guess = guesser.map(|guesser| guesser(&new)).transpose()?;
        let lessons = self.taught(tokenizer, &new, clip, guess)?;
        self.known.extend(new.into_iter().zip(lessons));
        Ok(())
    }

    /// Each clip with its channels in an order that its number draws: before its codes are found, since how a thing moves is told by luma first.
    ///
    /// `clip`: `[items, frames, 3, size, size]`.
    fn recoloured(&self, clip: Tensor<5>, items: &[usize]) -> Tensor<5> {
        let rows = items.iter().enumerate().map(|(row, &item)| {
            let seed = self.seed.indexed(item as u64).named("colours");
            let order = CHANNELS[seed.stream().next_u32() as usize % CHANNELS.len()];
            let row = clip.clone().narrow(0, row, 1);
            let channels = order.map(|channel| row.clone().narrow(2, channel, 1));
            Tensor::cat(channels.to_vec(), 2)
        });
        Tensor::cat(rows.collect(), 0)
    }

    /// `clip`: `[items, frames, 3, size, size]`.
    fn taught(
        &self,
        tokenizer: &dyn VideoTokenizer,
        items: &[usize],
        clip: Tensor<5>,
        mut guess: Option<Guess<'_>>,
    ) -> Result<Vec<Lesson>, TrainError> {
        let spec = tokenizer.video_spec();
        let frames = clip.dims()[1];
        let groups = (frames - 1) / spec.group;
        let plans: Vec<Plan> = items.iter().map(|&item| self.plan(item, groups)).collect();
        let empty = Lesson {
            canvases: Vec::new(),
            ids: Vec::new(),
            targets: Vec::new(),
        };
        let mut lessons = vec![empty; items.len()];
        let mut canvas = tokenizer.anchored(clip.clone().narrow(1, 0, 1), None);
        let mut led = vec![-1; items.len() * spec.positions()];
        for group in 0..groups {
            let next = clip.clone().narrow(1, 1 + group * spec.group, spec.group);
            let targets = tokenizer.later_ids(&canvas, next.clone());
            let right = host_ids(targets);
            let latest = bytes_of(canvas.latest());
            let each = latest.len() / items.len();
            for (row, lesson) in lessons.iter_mut().enumerate() {
                let span = row * spec.positions()..(row + 1) * spec.positions();
                lesson
                    .canvases
                    .extend(&latest[row * each..(row + 1) * each]);
                lesson.ids.extend(&led[span.clone()]);
                lesson.targets.extend(&right[span]);
            }
            let mut ids = right;
            if let Some(guess) = &mut guess {
                let guessed = host_ids(guess(tokenizer.features(&canvas))?);
                let guessed = guessed.chunks_exact(spec.positions());
                let right = ids.chunks_exact_mut(spec.positions());
                for ((plan, ids), guessed) in plans.iter().zip(right).zip(guessed) {
                    plan.take(ids, guessed, group);
                }
            }
            (canvas, led) = self.next_canvas(tokenizer, &canvas, next, ids, &plans, group);
        }
        Ok(lessons)
    }

    /// True frames for clips that are not yet on their own, the tokenizer's for the others.
    fn next_canvas(
        &self,
        tokenizer: &dyn VideoTokenizer,
        canvas: &Canvas,
        next: Tensor<5>,
        mut ids: Vec<i32>,
        plans: &[Plan],
        group: usize,
    ) -> (Canvas, Vec<i32>) {
        let positions = tokenizer.video_spec().positions();
        let levels = &tokenizer.video_spec().later_levels;
        let device = next.device();
        let alone = |plan: &Plan| group >= plan.alone_from;
        for (plan, ids) in plans.iter().zip(ids.chunks_exact_mut(positions)) {
            if alone(plan) {
                plan.corrupt(ids, levels, group);
            }
        }
        let as_tensor = |ids: &[i32]| -> Tensor<2, Int> {
            let data = TensorData::new::<i32, _>(ids.to_vec(), [plans.len(), positions]);
            Tensor::from_data(data, &device)
        };
        if !plans.iter().any(alone) {
            return (tokenizer.anchored(next, Some(as_tensor(&ids))), ids);
        }
        let own = tokenizer.later(canvas, as_tensor(&ids));
        let shares: Vec<f32> = plans
            .iter()
            .map(|plan| if alone(plan) { 1.0 } else { 0.0 })
            .collect();
        let share =
            Tensor::<1>::from_floats(&shares[..], &device).reshape([plans.len(), 1, 1, 1, 1]);
        let frames = next.clone() + (own.frames - next) * share;
        (tokenizer.anchored(frames, Some(as_tensor(&ids))), ids)
    }

    fn plan(&self, item: usize, groups: usize) -> Plan {
        let seed = self.seed.indexed(item as u64);
        let mut random = seed.stream();
        let mut chance = || f64::from(random.next_u32()) / f64::from(u32::MAX);
        let alone_from = match chance() < self.shown.clean {
            true => groups,
            false => 1 + (chance() * groups as f64 * 0.75) as usize,
        };
        Plan {
            alone_from,
            share: chance() * self.shown.corrupt_codes,
            own: chance() * self.shown.own_codes,
            seed,
        }
    }
}

/// From where on a clip's canvases are the tokenizer's own, and how many of their codes are wrong.
struct Plan {
    alone_from: usize,
    share: f64,
    own: f64,
    seed: Seed,
}

impl Plan {
    /// Puts guesses in the place of the right codes of some groups, once the clip is on its own: of all or none of a group, since a thing
    /// half of which moves rightly is torn, and a model's own mistakes are seldom of that kind.
    fn take(&self, ids: &mut [i32], guessed: &[i32], group: usize) {
        let mut random = self.seed.named("guessed").indexed(group as u64).stream();
        let chance = f64::from(random.next_u32()) / f64::from(u32::MAX);
        if group >= self.alone_from && chance < self.own {
            ids.copy_from_slice(guessed);
        }
    }

    /// Wrong codes are those of another place or, where they are numbers of `levels`, as often those that are one level off in one number.
    fn corrupt(&self, ids: &mut [i32], levels: &[usize], group: usize) {
        let mut random = self.seed.named("wrong").indexed(group as u64).stream();
        let right = ids.to_vec();
        for id in ids.iter_mut() {
            if f64::from(random.next_u32()) / f64::from(u32::MAX) >= self.share {
                continue;
            }
            let draw = random.next_u32() as usize;
            *id = match draw % 2 {
                1 if !levels.is_empty() => beside(*id, levels, draw / 2),
                _ => right[draw / 2 % right.len()],
            };
        }
    }
}

/// An id with one of its numbers one level up or down, as `draw` says; at the end of its levels it stays.
fn beside(id: i32, levels: &[usize], draw: usize) -> i32 {
    let (number, up) = (draw / 2 % levels.len(), draw % 2 == 1);
    let stride: usize = levels[..number].iter().product();
    let level = id as usize / stride % levels[number];
    match up {
        true if level + 1 < levels[number] => id + stride as i32,
        false if level > 0 => id - stride as i32,
        _ => id,
    }
}

const CHANNELS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [1, 2, 0],
    [2, 0, 1],
    [0, 2, 1],
    [2, 1, 0],
    [1, 0, 2],
];

/// Features of canvases with the ids that led to them, none where they are negative.
fn features(
    tokenizer: &dyn VideoTokenizer,
    frames: Tensor<5>,
    ids: Vec<i32>,
    device: &Device,
) -> Tensor<3> {
    let rows = frames.dims()[0];
    let positions = tokenizer.video_spec().positions();
    let none: Vec<f32> = ids
        .chunks_exact(positions)
        .map(|ids| if ids[0] < 0 { 0.0 } else { 1.0 })
        .collect();
    let ids: Vec<i32> = ids.into_iter().map(|id| id.max(0)).collect();
    let ids = TensorData::new::<i32, _>(ids, [rows, positions]);
    let mut canvas = tokenizer.anchored(frames, Some(Tensor::from_data(ids, device)));
    let known = Tensor::<1>::from_floats(&none[..], device).reshape([rows, 1, 1]);
    canvas.vectors = canvas.vectors * known;
    tokenizer.features(&canvas)
}

fn host_ids(ids: Tensor<2, Int>) -> Vec<i32> {
    let data = ids.into_data().convert::<i32>();
    data.try_into_vec().expect("ids were converted to i32")
}

/// Pixels to the nearest byte.
fn bytes_of(pixels: Tensor<4>) -> Vec<u8> {
    host(pixels)
        .into_iter()
        .map(|value| ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(own: f64) -> Plan {
        Plan {
            alone_from: 2,
            share: 0.0,
            own,
            seed: Seed::new(5),
        }
    }

    /// Codes after guesses were taken, where all right ones are 1 and all guesses 7.
    fn taken(own: f64, group: usize) -> Vec<i32> {
        let mut ids = vec![1; 400];
        plan(own).take(&mut ids, &[7; 400], group);
        ids
    }

    #[test]
    fn an_id_beside_another_is_a_level_away_in_one_number() {
        let levels = [3, 4];
        for id in 0..12 {
            for draw in 0..4 {
                let found = beside(id, &levels, draw);
                assert!((0..12).contains(&found));
                let apart = [found % 3 - id % 3, found / 3 - id / 3].map(i32::abs);
                assert!(apart[0] + apart[1] <= 1, "{id} to {found}");
            }
        }
        assert_eq!(
            [0, 1, 2, 3].map(|draw| beside(4, &levels, draw)),
            [3, 5, 1, 7]
        );
        assert_eq!(beside(2, &levels, 1), 2);
    }

    #[test]
    fn guesses_are_taken_group_by_group_once_a_clip_is_on_its_own() {
        assert_eq!(taken(1.0, 1), vec![1; 400]);
        assert_eq!(taken(0.0, 2), vec![1; 400]);
        assert_eq!(taken(1.0, 2), vec![7; 400]);
        let groups: Vec<Vec<i32>> = (2..202).map(|group| taken(0.3, group)).collect();
        assert!(
            groups
                .iter()
                .all(|ids| *ids == [1; 400] || *ids == [7; 400])
        );
        let some = groups.iter().filter(|ids| ids[0] == 7).count();
        assert!((30..90).contains(&some), "{some}");
        assert_eq!(taken(0.3, 2), taken(0.3, 2));
    }
}
