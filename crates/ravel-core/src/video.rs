//! Video: frames in time, and what a tokenizer of them is asked for.

use std::any::Any;
use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::{
    CodeSpec, Codes, Condition, Error, Images, Layout, Result, StepInput, Streaming, Tokenizer,
};

/// Frames in time, RGB, channel first.
#[derive(Debug, Clone)]
pub struct Clip {
    /// `[batch, time, 3, height, width]`, each value in `-1..=1`.
    pub frames: Tensor<5>,
    /// How fast the frames follow one another.
    pub frames_per_second: f32,
}

impl Clip {
    /// Frames of each row.
    pub fn len(&self) -> usize {
        self.frames.dims()[1]
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One frame of every row.
    ///
    /// # Panics
    /// If there is no such frame.
    pub fn frame(&self, index: usize) -> Images {
        Images {
            pixels: self.frames.clone().narrow(1, index, 1).squeeze_dim(1),
        }
    }

    /// Frames `start..start + len`, which may be none.
    pub fn part(&self, start: usize, len: usize) -> Self {
        let [batch, _, channels, height, width] = self.frames.dims();
        let part = [
            0..batch,
            start..start + len,
            0..channels,
            0..height,
            0..width,
        ];
        Self {
            frames: self.frames.clone().slice(part),
            frames_per_second: self.frames_per_second,
        }
    }
}

/// What a video tokenizer takes and gives: the first frame alone, later ones in groups, one grid of codes for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoSpec {
    /// The codebooks; their size is that of the larger of the two below.
    #[serde(flatten)]
    pub codes: CodeSpec,
    /// Ids that the first frame's codes may have.
    pub first_codebook_size: usize,
    /// Ids that the codes of later groups may have: what a next-frame head predicts.
    pub later_codebook_size: usize,
    /// Levels of each number that a later code stands for, the first turning fastest; none where ids are in no order.
    pub later_levels: Vec<usize>,
    /// Height and width of a frame in pixels.
    pub signal_size: (usize, usize),
    /// Rows and columns of the codes of a group.
    pub grid: (usize, usize),
    /// Frames of every group after the first frame.
    pub group: usize,
    /// Numbers that [`VideoTokenizer::features`] gives for each position.
    pub feature_width: usize,
}

impl VideoSpec {
    /// Codes of a group.
    pub fn positions(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Groups, the first frame included, that hold so many frames; none if a group would be cut.
    pub fn groups_of(&self, frames: usize) -> Option<usize> {
        let later = frames.checked_sub(1)?;
        later
            .is_multiple_of(self.group)
            .then(|| 1 + later / self.group)
    }

    /// The same as of a tokenizer of whole clips.
    pub fn clip_spec(&self) -> ClipSpec {
        ClipSpec {
            codes: self.codes.clone(),
            signal_size: Some(self.signal_size),
            stride: self.signal_size.0 / self.grid.0.max(1),
            group: self.group,
            first_alone: true,
        }
    }
}

/// What a tokenizer of whole clips takes and gives: as many frames as groups hold, of any size that cells fill, one grid of codes for
/// each group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClipSpec {
    /// The codebooks.
    #[serde(flatten)]
    pub codes: CodeSpec,
    /// Height and width of a frame in pixels, where only one size will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_size: Option<(usize, usize)>,
    /// Pixels a side that one position stands for.
    pub stride: usize,
    /// Frames of a group.
    pub group: usize,
    /// Whether the first frame is a group by itself.
    pub first_alone: bool,
}

impl ClipSpec {
    /// Groups that hold so many frames; none if there is no frame or a group would be cut.
    pub fn groups_of(&self, frames: usize) -> Option<usize> {
        let alone = usize::from(self.first_alone);
        let rest = frames.checked_sub(alone)?;
        let groups = alone + rest / self.group;
        (rest.is_multiple_of(self.group) && groups > 0).then_some(groups)
    }

    /// Frames of so many groups.
    pub fn frames_of(&self, groups: usize) -> usize {
        match self.first_alone {
            true => 1 + groups.saturating_sub(1) * self.group,
            false => groups * self.group,
        }
    }

    /// The size nearest below `height` and `width` that cells fill, one cell at least; the only one where there is but one.
    pub fn size_near(&self, height: usize, width: usize) -> (usize, usize) {
        let side = |side: usize| (side / self.stride).max(1) * self.stride;
        self.signal_size.unwrap_or((side(height), side(width)))
    }

    /// How the codes of a clip are arranged.
    ///
    /// # Errors
    /// [`Error::Signal`] if frames, size or channels do not fit.
    pub fn layout_of(&self, clip: &Clip) -> Result<Layout> {
        let [_, frames, channels, height, width] = clip.frames.dims();
        let size = self.size_near(height, width);
        let groups = self.groups_of(frames);
        if let (Some(groups), true) = (groups, (channels, size) == (3, (height, width))) {
            return Ok(Layout::Frames {
                frames: groups,
                height: height / self.stride,
                width: width / self.stride,
            });
        }
        let first = if self.first_alone {
            "one frame and then "
        } else {
            ""
        };
        Err(Error::Signal {
            found: format!("{frames} frames of {width} x {height} pixels and {channels} channels"),
            expected: match self.signal_size {
                Some((height, width)) => format!(
                    "{first}groups of {} frames, {width} x {height} pixels of 3 channels",
                    self.group
                ),
                None => format!(
                    "{first}groups of {} frames, sides in multiples of {} pixels, 3 channels",
                    self.group, self.stride
                ),
            },
        })
    }

    /// Groups, rows and columns of codes that stand for a whole clip.
    ///
    /// # Errors
    /// [`Error::Codes`] if the layout is another, not all of it is filled, or an id is too large.
    pub fn grid_of(&self, codes: &Codes) -> Result<[usize; 3]> {
        let wrong = |found: String, expected: String| Err(Error::Codes { found, expected });
        let side = |size: fn((usize, usize)) -> usize| self.signal_size.map(size);
        let fits =
            |cells: usize, side: Option<usize>| side.is_none_or(|s| s / self.stride == cells);
        let grid = match codes.layout {
            Layout::Frames {
                frames,
                height,
                width,
            } if fits(height, side(|(height, _)| height))
                && fits(width, side(|(_, width)| width)) =>
            {
                [frames, height, width]
            }
            _ => {
                let expected = match self.signal_size {
                    Some((height, width)) => {
                        format!(
                            "frames of {} x {}",
                            height / self.stride,
                            width / self.stride
                        )
                    }
                    None => "frames".into(),
                };
                return wrong(codes.layout.describe(), expected);
            }
        };
        let len = grid
            .iter()
            .try_fold(1usize, |len, &side| len.checked_mul(side));
        let (depth, filled) = (codes.depth(), codes.filled());
        if depth != self.codes.depth || filled == 0 || len != Some(filled) {
            return wrong(
                format!("{depth} times {filled} ids"),
                format!(
                    "{} for each place of {}",
                    self.codes.depth,
                    codes.layout.describe()
                ),
            );
        }
        let largest = codes.to_host().into_iter().flatten().max().unwrap_or(0);
        match (largest as usize) < self.codes.codebook_size {
            true => Ok(grid),
            false => wrong(
                format!("id {largest}"),
                format!("an id below {}", self.codes.codebook_size),
            ),
        }
    }
}

/// A tokenizer of clips of any length. Its groups may depend on all earlier ones, so a clip is coded as a whole; what can be entered
/// anywhere is a [`VideoTokenizer`].
pub trait ClipTokenizer: Tokenizer<Signal = Clip> {
    /// Sizes and layout.
    fn clip_spec(&self) -> &ClipSpec;
}

/// Frames a second of decoded clips: codes do not say it, and who knows replaces it.
pub const UNKNOWN_RATE: f32 = 12.0;

/// What is known after some groups: the state of decoding, of one size however long the video is.
#[derive(Debug, Clone)]
pub struct Canvas {
    /// The latest group: `[batch, time, 3, height, width]`, one frame at the beginning.
    pub frames: Tensor<5>,
    /// The code vectors that say how it came about, `[batch, position, code_width]`; zero where there were none.
    pub vectors: Tensor<3>,
    /// What else the tokenizer that made it remembers, of one size as well; nobody else looks into it.
    pub memory: Option<Arc<dyn Any + Send + Sync>>,
}

impl Canvas {
    /// The latest frame.
    ///
    /// # Shapes
    /// - returns: `[batch, 3, height, width]`
    pub fn latest(&self) -> Tensor<4> {
        let time = self.frames.dims()[1];
        self.frames.clone().narrow(1, time - 1, 1).squeeze_dim(1)
    }
}

/// A tokenizer of video that only ever looks back. It can be entered anywhere: the codes of a group are those that come next on a
/// [`Canvas`], which shows either what was decoded or what was given.
pub trait VideoTokenizer: Streaming<Signal = Clip> {
    /// Sizes and layout.
    fn video_spec(&self) -> &VideoSpec;

    /// This tokenizer as one of whole clips.
    fn as_tokenizer(&self) -> &dyn Tokenizer<Signal = Clip>;

    /// Codes of a first frame.
    ///
    /// # Shapes
    /// - `frame`: `[batch, 3, height, width]`
    /// - returns: `[batch, positions]`
    fn first_ids(&self, frame: Tensor<4>) -> Tensor<2, Int>;

    /// The canvas that the codes of a first frame show.
    ///
    /// # Shapes
    /// - `ids`: `[batch, positions]`
    fn first(&self, ids: Tensor<2, Int>) -> Canvas;

    /// The canvas that shows given frames as they are, with the codes that led to them if there are any.
    ///
    /// # Shapes
    /// - `frames`: `[batch, time, 3, height, width]`
    /// - `ids`: `[batch, positions]`, of a later group
    fn anchored(&self, frames: Tensor<5>, ids: Option<Tensor<2, Int>>) -> Canvas;

    /// The canvas that shows the given frames that follow another one, with the codes that lead from it to them. A tokenizer may remember
    /// more of it than [`VideoTokenizer::anchored`] does: how what is shown came about.
    ///
    /// # Shapes
    /// - `frames`: `[batch, group, 3, height, width]`
    /// - `ids`: `[batch, positions]`
    fn following(&self, _before: &Canvas, frames: Tensor<5>, ids: Tensor<2, Int>) -> Canvas {
        self.anchored(frames, Some(ids))
    }

    /// Codes of the group that follows the canvas.
    ///
    /// # Shapes
    /// - `frames`: `[batch, group, 3, height, width]`
    /// - returns: `[batch, positions]`
    fn later_ids(&self, canvas: &Canvas, frames: Tensor<5>) -> Tensor<2, Int>;

    /// The canvas after the codes of one more group.
    ///
    /// # Shapes
    /// - `ids`: `[batch, positions]`
    fn later(&self, canvas: &Canvas, ids: Tensor<2, Int>) -> Canvas;

    /// What a next-frame head is shown of a canvas.
    ///
    /// # Shapes
    /// - returns: `[batch, positions, feature_width]`
    fn features(&self, canvas: &Canvas) -> Tensor<3>;

    /// The encoder's continuous output for single frames before quantization, the features in which frames are compared.
    ///
    /// # Shapes
    /// - `frames`: `[batch, 3, height, width]`
    /// - returns: `[batch, width, rows, columns]`
    fn latents(&self, frames: Tensor<4>) -> Tensor<4>;
}

/// How frames that left the window are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FarFrames {
    /// Most frames that are remembered.
    pub frames: usize,
    /// Positions of each.
    pub len: usize,
}

/// Where a frame stands among what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    /// Positions of the prompt.
    pub lead: usize,
    /// Far frames that are remembered, itself included if it is one.
    pub far_frames: usize,
    /// Near frames before it.
    pub near_frames: usize,
}

/// What is predicted of video: the codes of a frame group at once, or bit by bit, from what the canvas before it shows.
///
/// A frame is fed to the backbone as the features of the canvas before it together with the codes of it that are already known.
pub trait FrameHead: Send {
    /// Near frames in view, the one that is predicted included.
    fn window(&self) -> usize;

    /// Codes of a frame.
    fn positions(&self) -> usize;

    /// How frames that left the window are remembered, if they are.
    fn far(&self) -> Option<FarFrames>;

    /// What the backbone reads before the first frame, if the condition has a prefix.
    fn prefill(&self, condition: &Condition) -> Option<StepInput>;

    /// What the backbone is fed for a frame.
    ///
    /// # Shapes
    /// - `features`: `[batch, positions, feature_width]`, of the canvas before the frame
    /// - `known`: `[batch, positions]`, ids of the frame, -1 where they are still to come
    /// - `StepInput::embedded`: `[batch, positions, d_model]`
    fn near_step(&self, features: Tensor<3>, known: Tensor<2, Int>, place: FramePlace)
    -> StepInput;

    /// What the backbone is fed for a frame that left the window.
    ///
    /// # Shapes
    /// - `features`: as [`FrameHead::near_step`] had them
    /// - `StepInput::embedded`: `[batch, FarFrames::len, d_model]`
    ///
    /// # Panics
    /// If far frames are not remembered.
    fn far_step(&self, features: Tensor<3>, place: FramePlace) -> StepInput;

    /// Unnormalised scores of a frame's codes.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, positions, d_model]`
    /// - returns: `[batch, positions, later_codebook_size]`
    fn logits(&self, hidden: Tensor<3>) -> Tensor<3>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(first_alone: bool) -> ClipSpec {
        ClipSpec {
            codes: CodeSpec {
                codebook_size: 8,
                code_width: 4,
                depth: 1,
            },
            signal_size: None,
            stride: 8,
            group: 4,
            first_alone,
        }
    }

    #[test]
    fn groups_and_frames_are_two_ways_to_count() {
        for spec in [spec(true), spec(false)] {
            for groups in 1..5 {
                assert_eq!(spec.groups_of(spec.frames_of(groups)), Some(groups));
            }
            assert_eq!(spec.groups_of(0), None);
        }
        assert_eq!((spec(true).frames_of(3), spec(false).frames_of(3)), (9, 12));
        assert_eq!(
            (spec(true).groups_of(8), spec(false).groups_of(9)),
            (None, None)
        );
    }

    #[test]
    fn sizes_are_filled_by_cells() {
        assert_eq!(spec(true).size_near(23, 3), (16, 8));
        let only = ClipSpec {
            signal_size: Some((32, 48)),
            ..spec(true)
        };
        assert_eq!(only.size_near(100, 100), (32, 48));
    }
}
