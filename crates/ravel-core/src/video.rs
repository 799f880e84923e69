//! Video: frames in time, and what a tokenizer of them is asked for.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::{CodeSpec, Condition, Images, StepInput, Streaming, Tokenizer};

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
}

/// What is known after some groups: the state of decoding, of one size however long the video is.
#[derive(Debug, Clone)]
pub struct Canvas {
    /// The latest group: `[batch, time, 3, height, width]`, one frame at the beginning.
    pub frames: Tensor<5>,
    /// The code vectors that led to it, `[batch, position, code_width]`; zero where there were none.
    pub vectors: Tensor<3>,
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
