//! What is asked for, and what is wrong with it.

use ravel_core::Clip;
use ravel_decode::{FillingConfig, SamplerConfig};
use ravel_text::TextError;
use serde::{Deserialize, Serialize};

use crate::VideoContinuation;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The given frames, `[batch, time, 3, height, width]` of the pipeline's size.
    pub context: Clip,
    /// How many of the last given frames are used; as many as are in view if unset.
    pub keep: Option<usize>,
    /// Whether all given frames are taken in, one after another, rather than only the last.
    pub extend_all: bool,
    /// New frames.
    pub frames: usize,
    /// The source of all randomness.
    pub seed: u64,
    /// How ids are drawn.
    pub sampler: SamplerConfig,
    /// How a frame is filled; the pipeline's own way if unset.
    pub filling: Option<FillingConfig>,
    /// What the video is about, for pipelines that listen to words.
    pub prompt: Option<String>,
    /// Whether all that is in view is computed again for every frame: slower, for comparison.
    pub recompute: bool,
}

impl Request {
    /// A request with the pipeline's own settings.
    pub fn new(pipeline: &VideoContinuation, context: Clip, frames: usize, seed: u64) -> Self {
        Self {
            context,
            keep: None,
            extend_all: false,
            frames,
            seed,
            sampler: pipeline.parts().sampler.clone(),
            filling: None,
            prompt: None,
            recompute: false,
        }
    }

    /// The given frames that are taken in: a first one and whole groups.
    pub(crate) fn used(&self, pipeline: &VideoContinuation) -> Result<Clip, Error> {
        let found = self.context.len();
        if self.frames == 0 {
            return Err(Error::Nothing);
        }
        self.sampler.validate()?;
        if self.sampler.is_guided() {
            return Err(Error::Guidance);
        }
        if let Some(filling) = &self.filling {
            filling.validate()?;
        }
        let (least, most) = (pipeline.least_context(), pipeline.most_context());
        let asked = self.keep.unwrap_or(match self.extend_all {
            true => found,
            false => found.min(most),
        });
        if asked > most && !self.extend_all {
            return Err(Error::Long { asked, most });
        }
        if asked > found {
            return Err(Error::Few { found, asked });
        }
        if asked < least {
            return Err(Error::Short {
                found: asked,
                least,
            });
        }
        let group = pipeline.parts().tokenizer.video_spec().group;
        let used = 1 + (asked - 1) / group * group;
        let clip = self.context.part(found - used, used);
        let (height, width) = pipeline.frame_size();
        let [_, _, channels, rows, columns] = clip.frames.dims();
        if (channels, rows, columns) != (3, height, width) {
            return Err(Error::Part(ravel_core::Error::Signal {
                found: format!("frames of {columns} x {rows} pixels"),
                expected: format!("{width} x {height}"),
            }));
        }
        Ok(clip)
    }
}

/// What is wrong with a request, or what the parts report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No new frame is asked for.
    #[error("no new frame is asked for; at least one is needed")]
    Nothing,
    /// Too few frames to see a motion.
    #[error("{found} given frames are used, at least {least} are needed to see a motion")]
    Short {
        /// Frames that would be used.
        found: usize,
        /// What is needed.
        least: usize,
    },
    /// More frames than are given.
    #[error("the last {asked} frames are to be used, only {found} are given")]
    Few {
        /// Frames given.
        found: usize,
        /// Frames asked for.
        asked: usize,
    },
    /// More frames than are in view.
    #[error(
        "the last {asked} frames are to be used, {most} are in view; extending from all frames takes in more"
    )]
    Long {
        /// Frames asked for.
        asked: usize,
        /// Frames in view.
        most: usize,
    },
    /// A prompt where none is read.
    #[error("{name} reads no prompt")]
    Prompt {
        /// The pipeline.
        name: String,
    },
    /// Guidance where there is none.
    #[error("video is not guided: `guidance` must be zero")]
    Guidance,
    /// A prompt that cannot be used.
    #[error(transparent)]
    Text(#[from] TextError),
    /// What the parts report.
    #[error(transparent)]
    Part(#[from] ravel_core::Error),
}

/// What a continuation was made from; with the given clip it is enough to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metadata {
    /// New frames.
    pub frames: usize,
    /// Given frames that were used.
    pub context: usize,
    /// Whether all given frames were taken in.
    pub extend_all: bool,
    /// The request's seed.
    pub seed: u64,
    /// The pipeline's name, or the path of its definition.
    pub pipeline: String,
    /// The pipeline's fingerprint.
    pub hash: String,
    /// How ids were drawn.
    pub sampler: SamplerConfig,
    /// How frames were filled.
    pub filling: FillingConfig,
    /// What the video is about, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The program's version.
    pub version: String,
}
