//! The coder of later groups: what changed since the canvas, seen from the canvas.
//!
//! The first two numbers of a code say where its cell comes from. They are found by search ([`motions`]), not learned. What else there is to say,
//! and how a decoder takes it all, is learned ([`ChangeEncoder`], [`ChangeDecoder`]), unless pixels are only moved ([`only_moved`]).

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::{relu, sigmoid, softmax};
use burn::tensor::{Device, Tensor};
use ravel_nn::conv::{ResidualBlock, kaiming_convolution, pixel_shuffle, pixel_unshuffle};

use crate::ChangeConfig;
use crate::entering::{entering, spread};
use crate::motion::{Shifts, as_coded, best_shifts, matches, scores_around};
use crate::moving::moved;

/// How much a fresh decoder trusts what moved, against what it paints anew.
const KEEP: f32 = 4.0;
/// The outermost shift stays a little inside the range that quantizers bound, whose end no number reaches.
const INSIDE: f32 = 0.97;
/// Painted colours of one pixel, and how much they count.
const PAINT: usize = 4;

/// What a pass of the change decoder gives.
#[derive(Debug)]
pub struct Changed {
    /// `[b, group, 3, h, w]`, not clamped.
    pub frames: Tensor<5>,
    /// Share of each pixel that was painted rather than moved, `[b, group, h, w]`.
    pub painted: Tensor<4>,
}

/// The first two numbers of all latents: each cell's best shift, down and right, in a group's last frame.
///
/// # Shapes
/// - `latest`, `frame`: `[b, 3, h, w]`
/// - returns: `[b, 2, h / stride, w / stride]`, to be bounded by tanh
pub fn motions(config: &ChangeConfig, latest: Tensor<4>, frame: Tensor<4>) -> Tensor<4> {
    let shifts = Shifts::new(as_coded(latest), config.reach);
    let costs = shifts.costs(&as_coded(frame), config.patch);
    let best = best_shifts(costs, config.reach) * INSIDE;
    // Quantizers bound by tanh; this is its inverse.
    ((best.clone() + 1.0) / (best.neg() + 1.0)).log() * 0.5
}

/// The canvas with its pixels moved as the first two numbers of the codes say, and nothing else.
///
/// # Shapes
/// - `latest`: `[b, 3, h, w]`
/// - `vectors`: `[b, levels, h / stride, w / stride]`
pub fn only_moved(config: &ChangeConfig, latest: Tensor<4>, vectors: Tensor<4>) -> Changed {
    let from = config.shifts(vectors) * config.reach as f32;
    let painted = from.clone().narrow(1, 0, 1).zeros_like();
    Changed {
        frames: moved(latest, from).unsqueeze_dim(1),
        painted,
    }
}

impl ChangeConfig {
    /// Where each pixel comes from, as shares of the reach, by the codes alone: `[b, 2, h, w]`.
    fn shifts(&self, vectors: Tensor<4>) -> Tensor<4> {
        let shares = vectors.narrow(1, 0, 2);
        match self.carries {
            true => entering(shares, self.stride(), self.reach),
            false => spread(shares, self.stride()),
        }
    }
}

/// Frames and canvas to the learned numbers of latents.
#[derive(Module, Debug)]
pub struct ChangeEncoder {
    enter: Conv2d,
    blocks: Vec<ResidualBlock>,
    deeper: Conv2d,
    deep_blocks: Vec<ResidualBlock>,
    out: Conv2d,
    #[module(skip)]
    config: ChangeConfig,
}

impl ChangeEncoder {
    /// Fresh weights.
    pub fn new(config: &ChangeConfig, device: &Device) -> Self {
        let shifts = config.steps().pow(2);
        let pixels = 3 * config.patch.pow(2);
        let from = pixels + config.group * (shifts + pixels);
        let (width, deep) = (config.width, config.deep_width);
        Self {
            enter: kaiming_convolution(from, width, 3, 1, device),
            blocks: blocks(config.blocks, width, device),
            deeper: kaiming_convolution(width, deep, 3, 2, device),
            deep_blocks: blocks(config.deep_blocks, deep, device),
            out: silent(kaiming_convolution(deep, config.levels.len(), 1, 1, device)),
            config: config.clone(),
        }
    }

    /// # Shapes
    /// - `latest`: `[b, 3, h, w]`
    /// - `frames`: `[b, group, 3, h, w]`
    /// - returns: `[b, levels - 2, h / stride, w / stride]`; none if two numbers are all
    pub fn forward(&self, latest: Tensor<4>, frames: Tensor<5>) -> Option<Tensor<4>> {
        let numbers = self.config.levels.len() - 2;
        if numbers == 0 {
            return None;
        }
        let patch = self.config.patch;
        let shifts = Shifts::new(latest.clone(), self.config.reach);
        let mut parts = vec![pixel_unshuffle(latest, patch)];
        for at in 0..self.config.group {
            let frame: Tensor<4> = frames.clone().narrow(1, at, 1).squeeze_dim(1);
            parts.push(matches(shifts.costs(&frame, patch)));
            parts.push(pixel_unshuffle(frame, patch));
        }
        let grid = self.enter.forward(Tensor::cat(parts, 1));
        let grid = self.deeper.forward(through(&self.blocks, grid));
        let latents = self.out.forward(relu(through(&self.deep_blocks, grid)));
        Some(latents.narrow(1, 2, numbers))
    }
}

/// Code vectors and canvas to frames. It begins by moving each cell as the first two numbers of its code say.
#[derive(Module, Debug)]
pub struct ChangeDecoder {
    enter: Conv2d,
    deep_blocks: Vec<ResidualBlock>,
    grow: Conv2d,
    join: Conv2d,
    blocks: Vec<ResidualBlock>,
    out: Conv2d,
    #[module(skip)]
    config: ChangeConfig,
}

impl ChangeDecoder {
    /// Fresh weights.
    pub fn new(config: &ChangeConfig, device: &Device) -> Self {
        let (width, deep, patch) = (config.width, config.deep_width, config.patch);
        let numbers = config.group * (2 * config.steps() + PAINT);
        Self {
            enter: kaiming_convolution(config.levels.len(), deep, 3, 1, device),
            deep_blocks: blocks(config.deep_blocks, deep, device),
            grow: kaiming_convolution(deep, 4 * width, 1, 1, device),
            join: kaiming_convolution(width + 3 * patch * patch, width, 3, 1, device),
            blocks: blocks(config.blocks, width, device),
            out: silent(kaiming_convolution(
                width,
                numbers * patch * patch,
                3,
                1,
                device,
            )),
            config: config.clone(),
        }
    }

    /// # Shapes
    /// - `latest`: `[b, 3, h, w]`
    /// - `vectors`: `[b, levels, h / stride, w / stride]`
    pub fn forward(&self, latest: Tensor<4>, vectors: Tensor<4>) -> Changed {
        let patch = self.config.patch;
        let shifts = self.config.shifts(vectors.clone());
        let [down, right] =
            [0, 1].map(|at| scores_around(shifts.clone().narrow(1, at, 1), self.config.reach));
        let around = Tensor::cat(vec![down, right], 1);
        let grid = through(&self.deep_blocks, self.enter.forward(vectors));
        let grid = pixel_shuffle(self.grow.forward(relu(grid)), 2);
        let seen = pixel_unshuffle(latest.clone(), patch);
        let grid = self.join.forward(Tensor::cat(vec![grid, seen], 1));
        let grid = through(&self.blocks, grid);
        let numbers = pixel_shuffle(self.out.forward(relu(grid)), patch);
        let shifts = Shifts::new(latest, self.config.reach);
        let each = 2 * self.config.steps() + PAINT;
        let (frames, painted) = (0..self.config.group)
            .map(|at| self.frame(&shifts, &around, numbers.clone().narrow(1, at * each, each)))
            .unzip();
        Changed {
            frames: Tensor::stack(frames, 1),
            painted: Tensor::cat(painted, 1),
        }
    }

    /// One frame, `[b, 3, h, w]`, and the painted share, `[b, 1, h, w]`.
    fn frame(
        &self,
        shifts: &Shifts,
        around: &Tensor<4>,
        numbers: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        let steps = self.config.steps();
        let weights = |start: usize| {
            let scores = numbers.clone().narrow(1, start, steps);
            let scores = scores + around.clone().narrow(1, start, steps);
            softmax(scores * self.config.sharpness, 1)
        };
        let moved = shifts.moved(&weights(0), &weights(steps));
        let colours = numbers.clone().narrow(1, 2 * steps, 3);
        let painted = sigmoid(numbers.narrow(1, 2 * steps + 3, 1) - KEEP);
        let frame = moved.clone() + (colours - moved) * painted.clone();
        (frame, painted)
    }
}

/// The convolution with all weights at zero.
fn silent(mut convolution: Conv2d) -> Conv2d {
    convolution.weight = convolution.weight.map(|weight| weight.zeros_like());
    convolution.bias = convolution
        .bias
        .map(|bias| bias.map(|bias| bias.zeros_like()));
    convolution
}

fn blocks(count: usize, width: usize, device: &Device) -> Vec<ResidualBlock> {
    (0..count)
        .map(|_| ResidualBlock::new(width, device))
        .collect()
}

fn through(blocks: &[ResidualBlock], grid: Tensor<4>) -> Tensor<4> {
    blocks.iter().fold(grid, |grid, block| block.forward(grid))
}
