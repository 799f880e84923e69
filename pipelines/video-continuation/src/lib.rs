//! Video continuation: frames in, the frames that come next out.
//!
//! What is given is never coded for display: the canvas shows the given frames as they are, so a continuation begins at the clip's own
//! pixels. Frames come one group at a time, and what is remembered has one size however long the video gets.

mod request;
mod stream;

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor, TensorData};
use ravel_core::{Clip, Condition};
use ravel_pipeline::VideoParts;

pub use request::{Error, Metadata, Request};
pub use stream::Continuation;

/// What is told after every group of frames.
pub struct Progress<'a> {
    /// The frames that came, `[1, time, 3, height, width]`, cut to what was asked for.
    pub new: &'a Clip,
    /// Frames that are done.
    pub done: usize,
    /// Frames in all.
    pub frames: usize,
}

/// A video-continuation pipeline.
pub struct VideoContinuation {
    parts: VideoParts,
}

impl VideoContinuation {
    /// A pipeline of built parts.
    pub fn new(parts: VideoParts) -> Self {
        Self { parts }
    }

    /// The parts.
    pub fn parts(&self) -> &VideoParts {
        &self.parts
    }

    /// Height and width of the frames that it takes.
    pub fn frame_size(&self) -> (usize, usize) {
        self.parts.tokenizer.video_spec().signal_size
    }

    /// Fewest frames that show a motion.
    pub fn least_context(&self) -> usize {
        1 + self.parts.tokenizer.video_spec().group
    }

    /// Most given frames that are in view of the first new one; older ones only count with [`Request::extend_all`].
    pub fn most_context(&self) -> usize {
        let head = &self.parts.head;
        let far = head.far().map_or(0, |far| far.frames);
        let groups = (head.window() - 1 + far).max(1);
        1 + groups * self.parts.tokenizer.video_spec().group
    }

    /// The frames that come next, all at the end. `watch` is told after every group and may stop the run, which then gives what is
    /// done so far.
    ///
    /// # Errors
    /// [`Error`] before anything is predicted if the request makes no sense.
    pub fn run(
        &self,
        request: &Request,
        watch: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Clip, Error> {
        let mut stream = self.begin(request)?;
        let mut frames = Vec::new();
        let mut done = 0;
        while done < request.frames {
            let mut new = stream.next_group()?;
            let left = request.frames - done;
            if new.len() > left {
                new = new.part(0, left);
            }
            done += new.len();
            frames.push(new.frames.clone());
            let progress = Progress {
                new: &new,
                done,
                frames: request.frames,
            };
            if watch(&progress).is_break() {
                break;
            }
        }
        Ok(Clip {
            frames: Tensor::cat(frames, 1),
            frames_per_second: request.context.frames_per_second,
        })
    }

    /// Takes in the request's context; [`Continuation::next_group`] then goes on for as long as it is asked to.
    ///
    /// # Errors
    /// As [`VideoContinuation::run`].
    pub fn begin(&self, request: &Request) -> Result<Continuation<'_>, Error> {
        let used = request.used(self)?;
        let condition = self.condition(request.prompt.as_deref(), used.frames.dims()[0])?;
        Ok(Continuation::new(&self.parts, request, &used, condition))
    }

    fn condition(&self, prompt: Option<&str>, rows: usize) -> Result<Condition, Error> {
        let Some(text) = &self.parts.text else {
            return match prompt {
                None => Ok(Condition::default()),
                Some(_) => Err(Error::Prompt {
                    name: self.parts.name.clone(),
                }),
            };
        };
        let ids = match prompt {
            Some(prompt) => text.subwords.prompt(prompt, text.length)?,
            None => text.subwords.empty_prompt(text.length),
        };
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        let data = TensorData::new::<i32, _>(ids.repeat(rows), [rows, text.length]);
        let ids: Tensor<2, Int> = Tensor::from_data(data, &self.parts.device);
        Ok(text.prefix.condition(ids))
    }
}
