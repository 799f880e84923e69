//! A continuation under way.

use std::collections::VecDeque;

use burn::tensor::Tensor;
use ravel_core::{Canvas, Clip, Condition, Sampler, Seed};
use ravel_decode::{FillingConfig, FrameStream};
use ravel_pipeline::VideoParts;

use crate::{Error, Request};

/// Gives group after group, without end; what it holds does not grow.
pub struct Continuation<'a> {
    parts: &'a VideoParts,
    stream: FrameStream<'a>,
    canvas: Canvas,
    filling: FillingConfig,
    sampler: Box<dyn Sampler>,
    frames_per_second: f32,
    condition: Condition,
    /// What earlier canvases in view showed, kept only where everything is computed again.
    again: Option<VecDeque<Tensor<3>>>,
}

impl<'a> Continuation<'a> {
    /// Takes in the context: one frame and whole groups.
    pub(crate) fn new(
        parts: &'a VideoParts,
        request: &Request,
        context: &Clip,
        condition: Condition,
    ) -> Self {
        let rows = context.frames.dims()[0];
        let group = parts.tokenizer.video_spec().group;
        let numbers: Vec<u64> = (0..rows as u64).collect();
        let seed = Seed::new(request.seed).named("video-continuation");
        let tokenizer = &parts.tokenizer;
        let mut continuation = Self {
            stream: FrameStream::new(&*parts.backbone, &*parts.head, condition.clone(), rows),
            canvas: tokenizer.anchored(context.part(0, 1).frames, None),
            filling: request
                .filling
                .clone()
                .unwrap_or_else(|| parts.filling.clone()),
            sampler: request.sampler.build(seed, &numbers, request.frames),
            frames_per_second: context.frames_per_second,
            again: request.recompute.then(VecDeque::new),
            parts,
            condition,
        };
        for start in (1..context.len()).step_by(group) {
            let frames = context.part(start, group).frames;
            let features = tokenizer.features(&continuation.canvas);
            let ids = tokenizer.later_ids(&continuation.canvas, frames.clone());
            continuation.stream.see(features.clone());
            continuation.remember(features);
            continuation.canvas = tokenizer.following(&continuation.canvas, frames, ids);
        }
        continuation
    }

    /// The next group of frames.
    ///
    /// # Shapes
    /// - returns: `[batch, group, 3, height, width]`
    ///
    /// # Errors
    /// [`Error::Part`] if the scores are not numbers.
    pub fn next_group(&mut self) -> Result<Clip, Error> {
        let features = self.parts.tokenizer.features(&self.canvas);
        if let Some(again) = &self.again {
            let rows = features.dims()[0];
            let (backbone, head) = (&*self.parts.backbone, &*self.parts.head);
            self.stream = FrameStream::new(backbone, head, self.condition.clone(), rows);
            for earlier in again {
                self.stream.see(earlier.clone());
            }
        }
        let ids = self
            .stream
            .predict(features.clone(), &self.filling, &mut *self.sampler)?;
        self.remember(features);
        self.canvas = self.parts.tokenizer.later(&self.canvas, ids);
        Ok(Clip {
            frames: self.canvas.frames.clone(),
            frames_per_second: self.frames_per_second,
        })
    }

    /// Positions that the sequence model remembers; bounded by the window.
    pub fn remembered(&self) -> usize {
        self.stream.remembered()
    }

    fn remember(&mut self, features: Tensor<3>) {
        let window = self.parts.head.window();
        if let Some(again) = &mut self.again {
            again.push_back(features);
            while again.len() >= window.max(2) {
                again.pop_front();
            }
        }
    }
}
