//! Video, frame by frame without end: what is remembered stays of one size, and so does the cost of a frame.
//!
//! A frame is filled in a few passes, the surest codes first (MaskGIT, Chang et al. 2022, section 3.2: the cosine schedule), or code by
//! code. Frames that leave the window are forgotten, or remembered by fewer positions (FAR, Gu et al. 2025, section 3.3).

use std::collections::VecDeque;

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData};
use ravel_core::{Backbone, Condition, Error, FrameHead, FramePlace, Result, Sampler, State, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a frame is filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FillingConfig {
    /// In so many passes; each keeps the codes that it is surest of, ever more of them.
    Refined {
        /// Passes, 1 at least.
        steps: usize,
    },
    /// Code by code, row by row: a pass for each.
    OneByOne {}, // The braces make serde refuse unknown keys.
}

impl Default for FillingConfig {
    fn default() -> Self {
        Self::Refined { steps: 4 }
    }
}

impl FillingConfig {
    /// Checks that a frame can be filled.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no pass.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Refined { steps: 0 } => Err(Error::Config {
                field: "frames.steps".into(),
                found: "0".into(),
                expected: "1 at least".into(),
            }),
            _ => Ok(()),
        }
    }

    /// Passes over a frame of `n` codes.
    fn passes(&self, n: usize) -> usize {
        match self {
            Self::Refined { steps } => (*steps).min(n),
            Self::OneByOne {} => n,
        }
    }

    /// Codes that are kept after pass `pass` of `passes`, of `n`.
    fn kept(&self, pass: usize, passes: usize, n: usize) -> usize {
        let done = (pass + 1) as f64 / passes as f64;
        match self {
            _ if pass + 1 == passes => n,
            Self::OneByOne {} => pass + 1,
            Self::Refined { .. } => {
                let left = n as f64 * (std::f64::consts::FRAC_PI_2 * done).cos();
                (n - left.floor() as usize).max(pass + 1)
            }
        }
    }
}

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
    /// [`Error::NotFinite`] if the scores are not numbers.
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
        let mut known = vec![-1_i32; batch * n];
        let passes = filling.passes(n);
        for pass in 0..passes {
            self.state.truncate(start);
            let shown = TensorData::new::<i32, _>(known.clone(), [batch, n]);
            let hidden = self.hidden(&features, Tensor::from_data(shown, &device));
            let logits = self.head.logits(hidden);
            let picked = sampler.pick(logits.clone(), &unit)?;
            let kept = filling.kept(pass, passes, n);
            let sure = match filling {
                FillingConfig::Refined { .. } if kept < n => Some(sureness(logits, &picked)),
                _ => None,
            };
            keep(&mut known, &host_ids(picked), sure.as_deref(), kept, n);
        }
        self.enter(features);
        let ids = TensorData::new::<i32, _>(known, [batch, n]);
        Ok(Tensor::from_data(ids, &device))
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

/// How probable each picked code is, position by position.
fn sureness(logits: Tensor<3>, picked: &Tensor<2, Int>) -> Vec<f32> {
    let shares = softmax(logits, 2).gather(2, picked.clone().unsqueeze_dim(2));
    let data = shares.into_data().convert::<f32>();
    data.try_into_vec().expect("shares were converted to f32")
}

fn host_ids(ids: Tensor<2, Int>) -> Vec<i32> {
    let data = ids.into_data().convert::<i32>();
    data.try_into_vec().expect("ids were converted to i32")
}

/// Fills in picked codes until `kept` of each row's `n` are known: the surest, or the first.
fn keep(known: &mut [i32], picked: &[i32], sure: Option<&[f32]>, kept: usize, n: usize) {
    for (row, known) in known.chunks_exact_mut(n).enumerate() {
        let mut open: Vec<usize> = (0..n).filter(|&at| known[at] < 0).collect();
        if let Some(sure) = sure {
            let sure = &sure[row * n..(row + 1) * n];
            open.sort_by(|&a, &b| sure[b].total_cmp(&sure[a]));
        }
        let more = kept.saturating_sub(n - open.len());
        for at in open.into_iter().take(more) {
            known[at] = picked[row * n + at];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_codes_are_kept_first_and_none_is_taken_back() {
        let mut known = vec![-1, 7, -1, -1];
        keep(&mut known, &[1, 2, 3, 4], Some(&[0.2, 0.9, 0.5, 0.4]), 2, 4);
        assert_eq!(known, [-1, 7, 3, -1]);
        keep(&mut known, &[5, 5, 5, 6], None, 4, 4);
        assert_eq!(known, [5, 7, 3, 6]);
    }

    #[test]
    fn every_pass_keeps_more_and_the_last_keeps_all() {
        for (filling, passes) in [
            (FillingConfig::Refined { steps: 1 }, 1),
            (FillingConfig::Refined { steps: 5 }, 5),
            (FillingConfig::Refined { steps: 99 }, 16),
            (FillingConfig::OneByOne {}, 16),
        ] {
            assert_eq!(filling.passes(16), passes);
            let kept: Vec<_> = (0..passes).map(|at| filling.kept(at, passes, 16)).collect();
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "{kept:?}");
            assert_eq!(kept.last(), Some(&16));
        }
    }
}
