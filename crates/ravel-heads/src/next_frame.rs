//! One frame of video after the other, each frame in parallel or code by code.
//!
//! A frame is predicted by as many positions as it has codes. Each is fed what the canvas before the frame shows at its place, and the
//! code of its place where that is known already: none in a first pass, some when a frame is filled in several passes (MaskGIT,
//! Chang et al. 2022, section 3). Frames see earlier frames and all of themselves; how far back, and how earlier frames are
//! remembered, follows FAR (Gu et al. 2025, section 3.3): a window of near frames, beyond it far frames of fewer positions, and scores that
//! decay over time.
//!
//! Symbols: `b` batch, `t` frames, `n` positions of a frame, `m` positions of a far frame.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::module::embedding;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::{
    Attend, Condition, Error, FarFrames, FrameHead, FramePlace, FrameSight, Result, StepInput,
    VideoSpec,
};
use ravel_nn::{Narrowable, Project, init};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::positive;

/// Most frames of a window: room for all of them is taken at the start.
const LONGEST: usize = 4096;

/// What fixes a next-frame head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NextFrameConfig {
    /// Ids that can be predicted.
    pub codebook_size: usize,
    /// Numbers that the tokenizer shows of each place.
    pub feature_width: usize,
    /// Near frames in view, the one that is predicted included.
    pub window: usize,
    /// How frames that left the window are remembered, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub far: Option<FarConfig>,
    /// What each frame of distance takes off an attention score: zero, or more so that longer videos than those of the
    /// training are no surprise.
    #[serde(default)]
    pub decay: f64,
}

/// Frames that left the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FarConfig {
    /// Most frames that are remembered.
    pub frames: usize,
    /// Places a side that become one position.
    pub pool: usize,
}

impl NextFrameConfig {
    /// Checks that a head can be built.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        positive("codebook-size", self.codebook_size)?;
        positive("feature-width", self.feature_width)?;
        positive("window", self.window)?;
        if self.window > LONGEST {
            return Err(Error::Config {
                field: "window".into(),
                found: self.window.to_string(),
                expected: format!("{LONGEST} frames at most"),
            });
        }
        if let Some(far) = &self.far {
            positive("far.frames", far.frames)?;
            positive("far.pool", far.pool)?;
        }
        match self.decay.is_finite() && self.decay >= 0.0 {
            true => Ok(()),
            false => Err(Error::Config {
                field: "decay".into(),
                found: self.decay.to_string(),
                expected: "zero or a positive number".into(),
            }),
        }
    }

    /// Checks that a head can be built for this tokenizer and a backbone with so many rotary axes.
    ///
    /// # Errors
    /// [`Error::Config`] names what does not fit.
    pub fn validate_for(&self, spec: &VideoSpec, axes: usize) -> Result<()> {
        self.validate()?;
        let agree = |field: &str, found: usize, expected: usize, why: &str| match found == expected
        {
            true => Ok(()),
            false => Err(Error::Config {
                field: field.into(),
                found: found.to_string(),
                expected: format!("{expected}, {why}"),
            }),
        };
        let own = "the tokenizer's own";
        agree(
            "head.codebook-size",
            self.codebook_size,
            spec.later_codebook_size,
            own,
        )?;
        agree(
            "head.feature-width",
            self.feature_width,
            spec.feature_width,
            own,
        )?;
        agree("backbone.rotary.axes", axes, 3, "for frame, row and column")?;
        let (rows, columns) = spec.grid;
        match self.far {
            Some(far) if !rows.is_multiple_of(far.pool) || !columns.is_multiple_of(far.pool) => {
                Err(Error::Config {
                    field: "head.far.pool".into(),
                    found: far.pool.to_string(),
                    expected: format!("a divisor of {rows} and {columns}"),
                })
            }
            _ => Ok(()),
        }
    }

    /// A fresh head for frames of `grid` codes and a backbone of `d_model` with three rotary axes.
    ///
    /// # Panics
    /// If [`NextFrameConfig::validate`] would report an error.
    pub fn init(&self, d_model: usize, grid: (usize, usize), device: &Device) -> NextFrame {
        self.validate().expect("a configuration that was checked");
        let table = |rows| init::normal([rows, d_model], init::STD, device);
        let std = (self.feature_width as f64).powf(-0.5);
        NextFrame {
            features: init::linear(self.feature_width, d_model, true, std, device),
            code_embedding: table(self.codebook_size + 1),
            positions: table(grid.0 * grid.1),
            far_embedding: self.far.map(|_| table(1)),
            scores: init::linear(d_model, self.codebook_size, true, init::STD, device),
            config: self.clone(),
            grid,
        }
    }
}

/// Predicts one frame after the other.
#[derive(Module, Debug)]
pub struct NextFrame {
    /// `[feature_width, d_model]`: what the canvas shows.
    pub features: Linear,
    /// `[codebook_size + 1, d_model]`: known codes; the last row stands for one that is to come.
    pub code_embedding: Param<Tensor<2>>,
    /// `[n, d_model]`.
    pub positions: Param<Tensor<2>>,
    /// `[1, d_model]`: marks far frames, where they are remembered.
    pub far_embedding: Option<Param<Tensor<2>>>,
    /// `[d_model, codebook_size]`.
    pub scores: Linear,
    #[module(skip)]
    config: NextFrameConfig,
    #[module(skip)]
    grid: (usize, usize),
}

impl NextFrame {
    /// What it was built from.
    pub fn config(&self) -> &NextFrameConfig {
        &self.config
    }

    /// The teacher-forced pass over some frames: what all the steps together are fed.
    ///
    /// With far frames remembered, all frames stand before the near ones a second time, as far frames; who sees which follows from
    /// the window.
    ///
    /// # Shapes
    /// - `features`: `[b, t * n, feature_width]`, of the canvas before each frame
    /// - `known`: `[b, t * n]`, ids of the frames, -1 where they are to be predicted
    /// - `StepInput::embedded`: `[b, lead + t * (m + n), d_model]`
    pub fn inputs(
        &self,
        features: Tensor<3>,
        known: Tensor<2, Int>,
        condition: &Condition,
    ) -> StepInput {
        let device = features.device();
        let frames = features.dims()[1] / self.positions();
        let lead = condition.prefix_len();
        let far_frames = self.config.far.map_or(0, |_| frames);
        let mut parts: Vec<_> = condition.prefix.clone().into_iter().collect();
        let mut coords = lead_coords(lead);
        if let Some(far) = self.far() {
            parts.push(self.far_embedded(features.clone()));
            for frame in 0..frames {
                coords.extend(self.coords(frame as i32, far.len));
            }
        }
        parts.push(self.near_embedded(features, known));
        for frame in 0..frames {
            coords.extend(self.coords(frame as i32, self.positions()));
        }
        StepInput {
            embedded: Tensor::cat(parts, 1),
            coords: coords_tensor(coords, &device),
            attend: Attend::Frames(self.sight(lead, far_frames, 0)),
        }
    }

    /// Scores of all codes from the hidden states of [`NextFrame::inputs`].
    ///
    /// # Shapes
    /// - `hidden`: `[b, lead + t * (m + n), d_model]`
    /// - returns: `[b, t * n, codebook_size]`
    pub fn logits_of(&self, hidden: Tensor<3>, frames: usize) -> Tensor<3> {
        let len = frames * self.positions();
        let total = hidden.dims()[1];
        self.scores.project(hidden.narrow(1, total - len, len))
    }

    fn sight(&self, lead: usize, far_frames: usize, near_start: usize) -> FrameSight {
        FrameSight {
            lead,
            far_frames,
            far_len: self.far().map_or(1, |far| far.len),
            near_start,
            near_len: self.positions(),
            window: self.config.window,
            decay: self.config.decay,
        }
    }

    /// `[b, t * n, d_model]`.
    fn near_embedded(&self, features: Tensor<3>, known: Tensor<2, Int>) -> Tensor<3> {
        let [batch, len, _] = features.dims();
        let missing = known.clone().lower_elem(0);
        let known = known.mask_fill(missing, self.config.codebook_size as i64);
        let codes = embedding(self.code_embedding.val(), known);
        let places = self.positions.val();
        let [n, width] = places.dims();
        let x = self.features.project(features) + codes;
        (x.reshape([batch, len / n, n, width]) + places.reshape([1, 1, n, width]))
            .reshape([batch, len, width])
    }

    /// `[b, t * m, d_model]`: the means of neighbouring places.
    fn far_embedded(&self, features: Tensor<3>) -> Tensor<3> {
        let pool = self.config.far.expect("far frames are remembered").pool;
        let mark = self.far_embedding.as_ref().expect("made for far frames");
        let places = self.positions.val();
        let (rows, columns) = self.grid;
        let [n, width] = places.dims();
        let [batch, len, _] = features.dims();
        let frames = len / n;
        let x = self
            .features
            .project(features)
            .reshape([batch, frames, n, width])
            + places.reshape([1, 1, n, width]);
        let cells = x.reshape([
            batch * frames,
            rows / pool,
            pool,
            columns / pool,
            pool,
            width,
        ]);
        let means: Tensor<6> = cells.mean_dim(4).mean_dim(2);
        let far = means.reshape([batch, frames * n / (pool * pool), width]);
        far + mark.val().unsqueeze()
    }

    /// Frame, row and column of each position of a frame of `len` positions.
    fn coords(&self, frame: i32, len: usize) -> Vec<i32> {
        let pool = match len == self.positions() {
            true => 1,
            false => self.config.far.map_or(1, |far| far.pool),
        };
        let columns = self.grid.1 / pool;
        (0..len)
            .flat_map(|at| {
                let place = |at: usize| (at * pool) as i32;
                [frame, place(at / columns), place(at % columns)]
            })
            .collect()
    }
}

/// The prompt runs up to the first frame, the same on every axis.
fn lead_coords(lead: usize) -> Vec<i32> {
    (0..lead)
        .flat_map(|at| [at as i32 - lead as i32; 3])
        .collect()
}

fn coords_tensor(coords: Vec<i32>, device: &Device) -> Tensor<2, Int> {
    let len = coords.len() / 3;
    Tensor::from_data(TensorData::new(coords, [len, 3]), device)
}

impl Narrowable for NextFrame {}

impl FrameHead for NextFrame {
    fn window(&self) -> usize {
        self.config.window
    }

    fn positions(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    fn far(&self) -> Option<FarFrames> {
        let far = self.config.far?;
        Some(FarFrames {
            frames: far.frames,
            len: self.positions() / (far.pool * far.pool),
        })
    }

    fn prefill(&self, condition: &Condition) -> Option<StepInput> {
        let embedded = condition.prefix.clone()?;
        let lead = embedded.dims()[1];
        Some(StepInput {
            coords: coords_tensor(lead_coords(lead), &embedded.device()),
            attend: Attend::Frames(self.sight(lead, 0, 0)),
            embedded,
        })
    }

    fn near_step(
        &self,
        features: Tensor<3>,
        known: Tensor<2, Int>,
        place: FramePlace,
    ) -> StepInput {
        let device = features.device();
        let coords = self.coords(place.near_frames as i32, self.positions());
        StepInput {
            embedded: self.near_embedded(features, known),
            coords: coords_tensor(coords, &device),
            attend: Attend::Frames(self.sight(place.lead, place.far_frames, place.far_frames)),
        }
    }

    fn far_step(&self, features: Tensor<3>, place: FramePlace) -> StepInput {
        let device = features.device();
        let len = self.far().expect("far frames are remembered").len;
        // It was the first of the near frames.
        let coords = self.coords(0, len);
        StepInput {
            embedded: self.far_embedded(features),
            coords: coords_tensor(coords, &device),
            attend: Attend::Frames(self.sight(place.lead, place.far_frames, place.far_frames)),
        }
    }

    fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        self.scores.project(hidden)
    }
}
