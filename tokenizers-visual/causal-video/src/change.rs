//! The coder of later groups: what changed since the canvas, seen from the canvas.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::{relu, sigmoid, softmax};
use burn::tensor::{Device, Tensor};
use ravel_nn::conv::{ResidualBlock, kaiming_convolution, pixel_shuffle, pixel_unshuffle};

use crate::ChangeConfig;
use crate::motion::Shifts;

/// How much more likely a fresh decoder finds that nothing moves than each single movement.
const STILL: f32 = 3.0;
/// How much a fresh decoder trusts what moved, against what it paints anew.
const KEEP: f32 = 3.0;
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

/// Frames and canvas to latents.
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
            out: kaiming_convolution(deep, config.levels.len(), 1, 1, device),
            config: config.clone(),
        }
    }

    /// # Shapes
    /// - `latest`: `[b, 3, h, w]`
    /// - `frames`: `[b, group, 3, h, w]`
    /// - returns: `[b, levels, h / stride, w / stride]`
    pub fn forward(&self, latest: Tensor<4>, frames: Tensor<5>) -> Tensor<4> {
        let patch = self.config.patch;
        let shifts = Shifts::new(latest.clone(), self.config.reach);
        let mut parts = vec![pixel_unshuffle(latest, patch)];
        for at in 0..self.config.group {
            let frame: Tensor<4> = frames.clone().narrow(1, at, 1).squeeze_dim(1);
            parts.push(shifts.matches(&frame, patch));
            parts.push(pixel_unshuffle(frame, patch));
        }
        let grid = self.enter.forward(Tensor::cat(parts, 1));
        let grid = self.deeper.forward(through(&self.blocks, grid));
        self.out.forward(relu(through(&self.deep_blocks, grid)))
    }
}

/// Code vectors and canvas to frames.
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
            out: kaiming_convolution(width, numbers * patch * patch, 3, 1, device),
            config: config.clone(),
        }
    }

    /// # Shapes
    /// - `latest`: `[b, 3, h, w]`
    /// - `vectors`: `[b, levels, h / stride, w / stride]`
    pub fn forward(&self, latest: Tensor<4>, vectors: Tensor<4>) -> Changed {
        let patch = self.config.patch;
        let grid = through(&self.deep_blocks, self.enter.forward(vectors));
        let grid = pixel_shuffle(self.grow.forward(relu(grid)), 2);
        let seen = pixel_unshuffle(latest.clone(), patch);
        let grid = self.join.forward(Tensor::cat(vec![grid, seen], 1));
        let grid = through(&self.blocks, grid);
        let numbers = pixel_shuffle(self.out.forward(relu(grid)), patch);
        let shifts = Shifts::new(latest, self.config.reach);
        let each = 2 * self.config.steps() + PAINT;
        let (frames, painted) = (0..self.config.group)
            .map(|at| self.frame(&shifts, numbers.clone().narrow(1, at * each, each)))
            .unzip();
        Changed {
            frames: Tensor::stack(frames, 1),
            painted: Tensor::cat(painted, 1),
        }
    }

    /// One frame, `[b, 3, h, w]`, and the painted share, `[b, 1, h, w]`.
    fn frame(&self, shifts: &Shifts, numbers: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let steps = self.config.steps();
        let weights = |start: usize| {
            let scores = numbers.clone().narrow(1, start, steps);
            softmax(scores + self.still(&numbers.device()), 1)
        };
        let moved = shifts.moved(&weights(0), &weights(steps));
        let colours = numbers.clone().narrow(1, 2 * steps, 3);
        let painted = sigmoid(numbers.narrow(1, 2 * steps + 3, 1) - KEEP);
        let frame = moved.clone() + (colours - moved) * painted.clone();
        (frame, painted)
    }

    /// `[1, s, 1, 1]`: what favours no movement.
    fn still(&self, device: &Device) -> Tensor<4> {
        let middle = self.config.reach;
        let scores: Vec<f32> = (0..self.config.steps())
            .map(|at| if at == middle { STILL } else { 0.0 })
            .collect();
        Tensor::<1>::from_floats(&scores[..], device).reshape([1, self.config.steps(), 1, 1])
    }
}

fn blocks(count: usize, width: usize, device: &Device) -> Vec<ResidualBlock> {
    (0..count)
        .map(|_| ResidualBlock::new(width, device))
        .collect()
}

fn through(blocks: &[ResidualBlock], grid: Tensor<4>) -> Tensor<4> {
    blocks.iter().fold(grid, |grid, block| block.forward(grid))
}
