//! Video: frames in time, and what a tokenizer of them is asked for.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::{CodeSpec, Images, Streaming, Tokenizer};

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
