//! Video, frame by frame without end: what is remembered stays of one size, and so does the cost of a frame.
//!
//! A frame is filled in a few passes, or code by code (`FillingConfig`). Frames that leave the window are forgotten, or remembered by fewer positions (FAR, Gu et al. 2025, section 3.3).

use std::collections::VecDeque;

use burn::tensor::{Int, Tensor};
use ravel_core::{Backbone, Condition, FrameHead, FramePlace, Result, Sampler, State, Unit};

use super::filling::{Filled, FillingConfig};

/// A video under way.
pub struct FrameStream<'a> {
    backbone: &'a dyn Backbone,
    head: &'a dyn FrameHead,
    condition: Condition,
    state: State,
    lead: usize,
    far_frames: usize,
    /// What the canvas showed before each near frame, oldest first.
    near: VecDeque<Tensor<3>>,
    /// Frames so far.
    frames: usize,
}

impl<'a> FrameStream<'a> {
    /// A stream that has seen nothing but the condition.
    pub fn new(
        backbone: &'a dyn Backbone,
        head: &'a dyn FrameHead,
        condition: Condition,
        batch: usize,
    ) -> Self {
        let prefill = head.prefill(&condition);
        let lead = prefill.as_ref().map_or(0, |step| step.embedded.dims()[1]);
        let far = head.far().map_or(0, |far| far.frames * far.len);
        let room = lead + far + head.window() * head.positions();
        let mut state = backbone.start(batch, room);
        if let Some(prefill) = prefill {
            backbone.step(prefill, &condition, &mut state);
        }
        Self {
            backbone,
            head,
            condition,
            state,
            lead,
            far_frames: 0,
            near: VecDeque::new(),
            frames: 0,
        }
    }

    /// Frames that were seen or predicted.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Positions that are remembered; never more than a bound that does not depend on the video's length.
    pub fn remembered(&self) -> usize {
        self.state.len
    }

    /// Takes note of a frame that is given: `features` are of the canvas before it.
    ///
    /// # Shapes
    /// - `features`: `[batch, positions, feature_width]`
    pub fn see(&mut self, features: Tensor<3>) {
        self.make_room();
        let [batch, ..] = features.dims();
        let none = Tensor::full([batch, self.head.positions()], -1, &features.device());
        self.hidden(&features, none);
        self.enter(features);
    }

    /// Predicts the frame after a canvas.
    ///
    /// # Shapes
    /// - `features`: `[batch, positions, feature_width]`, of the canvas
    /// - returns: `[batch, positions]`
    ///
    /// # Errors
    /// [`ravel_core::Error::NotFinite`] if the scores are not numbers.
    pub fn predict(
        &mut self,
        features: Tensor<3>,
        filling: &FillingConfig,
        sampler: &mut dyn Sampler,
    ) -> Result<Tensor<2, Int>> {
        self.make_room();
        let start = self.state.len;
        let n = self.head.positions();
        let [batch, ..] = features.dims();
        let device = features.device();
        let unit = Unit {
            index: self.frames,
            span: self.frames * n..(self.frames + 1) * n,
        };
        let mut filled = Filled::new(filling, self.frames, batch, n);
        while !filled.is_whole() {
            self.state.truncate(start);
            let hidden = self.hidden(&features, filled.shown(&device));
            let logits = self.head.logits(hidden);
            let picked = sampler.pick(logits.clone(), &unit)?;
            filled.keep(logits, picked);
        }
        self.enter(features);
        Ok(filled.ids(&device))
    }

    fn hidden(&mut self, features: &Tensor<3>, known: Tensor<2, Int>) -> Tensor<3> {
        let input = self.head.near_step(features.clone(), known, self.place());
        self.backbone.step(input, &self.condition, &mut self.state)
    }

    fn place(&self) -> FramePlace {
        FramePlace {
            lead: self.lead,
            far_frames: self.far_frames,
            near_frames: self.near.len(),
        }
    }

    fn enter(&mut self, features: Tensor<3>) {
        self.near.push_back(features);
        self.frames += 1;
    }

    /// Lets the oldest near frame go once the window is full. What stays moves back by a frame, so that coordinates stay
    /// below the window.
    fn make_room(&mut self) {
        if self.near.len() < self.head.window() {
            return;
        }
        let oldest = self.near.pop_front().expect("a window has a frame");
        let n = self.head.positions();
        let far_len = self.head.far().map_or(0, |far| far.len);
        let far_end = self.lead + self.far_frames * far_len;
        self.state.remove(far_end..far_end + n);
        if let Some(far) = self.head.far() {
            let near = self.state.split_off(far_end);
            if self.far_frames == far.frames {
                self.state.remove(self.lead..self.lead + far.len);
                self.far_frames -= 1;
            }
            self.far_frames += 1;
            let input = self.head.far_step(oldest, self.place());
            self.backbone.step(input, &self.condition, &mut self.state);
            self.state.append(&near);
        }
        let moved = self.lead..self.state.len;
        self.backbone.shift(&mut self.state, moved, &[-1, 0, 0]);
    }
}
