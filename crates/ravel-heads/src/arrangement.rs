//! How several codebooks per frame lie along the sequence: together, each later than the one before, or one after the other.
//!
//! Copet et al. 2023 (MusicGen), section 2.2 and figure 1: the parallel, delay and flattening patterns. A frame is what
//! a tokenizer gives for one moment, `depth` codes; a position is what the backbone sees.

use burn::tensor::{Device, Int, Tensor};
use ravel_core::{Error, Layout, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How frames of several codes become positions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Arrangement {
    /// A position holds all codes of a frame.
    Parallel {}, // The braces make serde refuse unknown keys, which it lets pass in a bare variant.
    /// A position holds one code of each codebook, from frames that lie `steps` apart.
    Delayed {
        /// By how many positions each codebook comes late, one number per codebook.
        steps: Vec<usize>,
        /// The id that stands where a codebook has not begun.
        before: usize,
        /// The id that stands where a codebook has ended.
        after: usize,
    },
    /// A position holds one code: a frame takes as many positions as there are codebooks.
    Flattened {},
}

impl Default for Arrangement {
    fn default() -> Self {
        Self::Parallel {}
    }
}

impl Arrangement {
    /// Checks that frames of `depth` codes below `codebook_size` can be arranged.
    ///
    /// # Errors
    /// [`Error::Config`] names what does not fit.
    pub fn validate(&self, depth: usize, codebook_size: usize) -> Result<()> {
        let Self::Delayed {
            steps,
            before,
            after,
        } = self
        else {
            return Ok(());
        };
        let wrong = |field: &str, found: String, expected: String| {
            Err(Error::Config {
                field: format!("arrangement.{field}"),
                found,
                expected,
            })
        };
        if steps.len() != depth {
            let found = format!("{} numbers", steps.len());
            return wrong("steps", found, format!("one for each of {depth} codebooks"));
        }
        if let Some(most) = steps.iter().find(|&&step| step > 1 << 16) {
            return wrong("steps", most.to_string(), "at most 65536".into());
        }
        for (field, id) in [("before", before), ("after", after)] {
            if *id >= codebook_size {
                let expected = format!("an id below {codebook_size}");
                return wrong(field, id.to_string(), expected);
            }
        }
        Ok(())
    }

    /// Codes in one position of [`ravel_core::Codes`].
    pub fn rows(&self, depth: usize) -> usize {
        match self {
            Self::Flattened {} => 1,
            _ => depth,
        }
    }

    /// The positions that `frames` frames take.
    pub fn layout(&self, frames: usize, depth: usize) -> Layout {
        let len = match self {
            Self::Parallel {} => frames,
            Self::Delayed { steps, .. } => frames + longest(steps),
            Self::Flattened {} => frames * depth,
        };
        Layout::Sequence { len }
    }

    /// Frames as positions.
    ///
    /// # Shapes
    /// - `frames`: `[batch, depth, n]`
    /// - returns: `[batch, rows, positions of n frames]`
    ///
    /// # Panics
    /// If a delay has another depth.
    pub fn arrange(&self, frames: Tensor<3, Int>) -> Tensor<3, Int> {
        let [batch, depth, n] = frames.dims();
        match self {
            Self::Parallel {} => frames,
            Self::Flattened {} => frames.swap_dims(1, 2).reshape([batch, 1, depth * n]),
            Self::Delayed {
                steps,
                before,
                after,
            } => {
                assert_depth(steps, depth);
                let device = frames.device();
                let rows = steps.iter().enumerate().map(|(codebook, &step)| {
                    let early = filler(batch, step, *before, &device);
                    let late = filler(batch, longest(steps) - step, *after, &device);
                    let row = frames.clone().narrow(1, codebook, 1);
                    let parts = [early, Some(row), late].into_iter().flatten();
                    Tensor::cat(parts.collect(), 2)
                });
                Tensor::cat(rows.collect(), 1)
            }
        }
    }

    /// The frames that lie whole in these positions: the inverse of [`Arrangement::arrange`]. Positions of a generation that was
    /// stopped early give as many frames as are complete.
    ///
    /// # Shapes
    /// - `positions`: `[batch, rows, any]`
    /// - returns: `[batch, depth, n]`
    ///
    /// # Panics
    /// If the number of rows is another one.
    pub fn undo(&self, positions: Tensor<3, Int>, depth: usize) -> Tensor<3, Int> {
        let [batch, rows, len] = positions.dims();
        assert_eq!(
            rows,
            self.rows(depth),
            "depth axis: not the rows of this arrangement"
        );
        match self {
            Self::Parallel {} => positions,
            Self::Flattened {} => {
                let n = len / depth;
                if n == 0 {
                    return Tensor::zeros([batch, depth, 0], &positions.device());
                }
                let whole = positions.slice([0..batch, 0..1, 0..n * depth]);
                whole.reshape([batch, n, depth]).swap_dims(1, 2)
            }
            Self::Delayed { steps, .. } => {
                assert_depth(steps, depth);
                let n = len.saturating_sub(longest(steps));
                let rows = steps.iter().enumerate().map(|(codebook, &step)| {
                    let span = step.min(len)..(step + n).min(len);
                    positions
                        .clone()
                        .slice([0..batch, codebook..codebook + 1, span])
                });
                Tensor::cat(rows.collect(), 1)
            }
        }
    }

    /// Frames that lie whole in so many positions.
    pub fn whole_frames(&self, positions: usize, depth: usize) -> usize {
        match self {
            Self::Parallel {} => positions,
            Self::Delayed { steps, .. } => positions.saturating_sub(longest(steps)),
            Self::Flattened {} => positions / depth,
        }
    }

    /// The beginning in which no frame stands but the first so many, in positions.
    pub fn beginning(&self, frames: usize, depth: usize) -> usize {
        match self {
            Self::Parallel {} => frames,
            Self::Delayed { steps, .. } => frames + steps.iter().copied().min().unwrap_or(0),
            Self::Flattened {} => frames * depth,
        }
    }

    /// The frame whose first code stands at a position, if one does.
    pub fn begun_at(&self, position: usize, depth: usize) -> Option<usize> {
        match self {
            Self::Parallel {} => Some(position),
            Self::Delayed { steps, .. } => position.checked_sub(steps[0]),
            Self::Flattened {} => position.is_multiple_of(depth).then(|| position / depth),
        }
    }

    /// The frame that the first code at a position belongs to, or that its code belongs to where there is one.
    pub fn frame_at(&self, position: usize, depth: usize) -> usize {
        match self {
            Self::Parallel {} => position,
            Self::Delayed { steps, .. } => position.saturating_sub(steps[0]),
            Self::Flattened {} => position / depth,
        }
    }

    /// The id that must stand at a position of a codebook, whatever the frames are; `len` positions in all.
    pub fn fixed(&self, codebook: usize, position: usize, len: usize) -> Option<usize> {
        let Self::Delayed {
            steps,
            before,
            after,
        } = self
        else {
            return None;
        };
        let step = steps[codebook];
        if position < step {
            return Some(*before);
        }
        (position + longest(steps) >= len + step).then_some(*after)
    }
}

fn longest(steps: &[usize]) -> usize {
    steps.iter().copied().max().unwrap_or(0)
}

fn assert_depth(steps: &[usize], depth: usize) {
    assert_eq!(
        steps.len(),
        depth,
        "depth axis: not as many codebooks as delays"
    );
}

fn filler(batch: usize, len: usize, id: usize, device: &Device) -> Option<Tensor<3, Int>> {
    (len > 0).then(|| Tensor::full([batch, 1, len], id as i64, device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{device, formula_ids, ids};

    fn delayed(steps: &[usize]) -> Arrangement {
        Arrangement::Delayed {
            steps: steps.to_vec(),
            before: 90,
            after: 91,
        }
    }

    #[test]
    fn undoing_gives_the_frames_back() {
        let arrangements = [
            Arrangement::Parallel {},
            Arrangement::Flattened {},
            delayed(&[0, 1, 2]),
            delayed(&[0, 8, 3]),
            delayed(&[0, 0, 0]),
            delayed(&[2, 0, 1]),
        ];
        for arrangement in arrangements {
            for n in [1, 2, 7] {
                let frames = formula_ids([2, 3, n], 5, 80, &device());
                let positions = arrangement.arrange(frames.clone());
                let [_, rows, len] = positions.dims();
                assert_eq!(rows, arrangement.rows(3));
                assert_eq!(arrangement.layout(n, 3), Layout::Sequence { len });
                let back = arrangement.undo(positions, 3);
                assert_eq!(ids(&back), ids(&frames), "{arrangement:?}");
            }
        }
    }

    #[test]
    fn delayed_codebooks_start_and_end_late() {
        let frames = Tensor::from_data([[[1, 2], [3, 4], [5, 6]]], &device());
        let positions = delayed(&[0, 1, 3]).arrange(frames);
        let rows = ids(&positions);
        assert_eq!(rows[..5], [1, 2, 91, 91, 91]);
        assert_eq!(rows[5..10], [90, 3, 4, 91, 91]);
        assert_eq!(rows[10..], [90, 90, 90, 5, 6]);
    }

    #[test]
    fn what_is_fixed_is_what_is_no_frame() {
        let arrangement = delayed(&[0, 1, 3]);
        let frames = formula_ids([1, 3, 4], 6, 80, &device());
        let positions = arrangement.arrange(frames);
        let len = positions.dims()[2];
        for (at, id) in ids(&positions).into_iter().enumerate() {
            let fixed = arrangement.fixed(at / len, at % len, len);
            assert_eq!(fixed, (id >= 90).then_some(id as usize));
        }
    }

    #[test]
    fn what_was_stopped_early_gives_whole_frames_only() {
        let frames = Tensor::from_data([[[1, 2, 3], [4, 5, 6]]], &device());
        for (arrangement, seen, expected) in [
            (delayed(&[0, 2]), 4, vec![1, 2, 4, 5]),
            (delayed(&[0, 2]), 1, vec![]),
            (Arrangement::Flattened {}, 5, vec![1, 2, 4, 5]),
            (Arrangement::Flattened {}, 1, vec![]),
            (Arrangement::Parallel {}, 1, vec![1, 4]),
        ] {
            let positions = arrangement.arrange(frames.clone());
            let rows = positions.dims()[1];
            let some = positions.slice([0..1, 0..rows, 0..seen]);
            assert_eq!(ids(&arrangement.undo(some, 2)), expected, "{arrangement:?}");
        }
    }

    #[test]
    fn places_of_frames_are_where_they_were_put() {
        let n = 6;
        for arrangement in [
            Arrangement::Parallel {},
            Arrangement::Flattened {},
            delayed(&[0, 1, 2]),
            delayed(&[2, 1, 4]),
        ] {
            // A frame's codes are its number.
            let frames = Tensor::<1, Int>::arange(0..n, &device()).reshape([1, 1, n as i32]);
            let positions = arrangement.arrange(frames.repeat_dim(1, 3));
            let [_, rows, len] = positions.dims();
            let all = ids(&positions);
            let at = |row: usize, position: usize| all[row * len + position];
            for position in 0..len {
                let begun = arrangement.begun_at(position, 3);
                let stands = at(0, position);
                let flat = rows == 1 && position % 3 > 0;
                assert_eq!(
                    begun.filter(|&frame| frame < n as usize).is_some(),
                    stands < 80 && !flat
                );
                if let Some(frame) = begun.filter(|&frame| frame < n as usize) {
                    assert_eq!(frame as i64, stands, "{arrangement:?}");
                }
                let seen = positions.clone().narrow(2, 0, position + 1);
                let whole = arrangement.undo(seen, 3).dims()[2];
                assert_eq!(arrangement.whole_frames(position + 1, 3), whole);
            }
            for frames in 0..n as usize {
                let first = arrangement.beginning(frames, 3);
                let before = (0..rows).flat_map(|row| (0..first).map(move |at| (row, at)));
                let mut found = before.map(|(row, position)| at(row, position));
                assert!(
                    found.all(|id| id >= 80 || id < frames as i64),
                    "{arrangement:?}"
                );
            }
        }
    }

    #[test]
    fn delays_that_do_not_fit_are_named() {
        let line = |arrangement: Arrangement, depth| {
            let wrong = arrangement.validate(depth, 92).expect_err("does not fit");
            wrong.to_string()
        };
        assert!(line(delayed(&[0, 1]), 3).starts_with("arrangement.steps is 2 numbers"));
        let high = Arrangement::Delayed {
            steps: vec![0],
            before: 92,
            after: 0,
        };
        assert!(line(high, 1).starts_with("arrangement.before is 92"));
        let typo = serde_json::from_str::<Arrangement>(r#"{"kind": "flattened", "steps": [1]}"#);
        assert!(typo.expect_err("a typo").to_string().contains("steps"));
    }
}
