//! The decoder: HiFi-GAN's generator (Kong et al. 2020, section 2.2) with causal convolutions.

use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use ravel_core::Result;
use ravel_nn::wave::{Fit, WaveConv, WaveConvConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backbone::CAUSAL;
use crate::check::{counts, ratios, wrong};

/// What fixes the head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FireflyHeadConfig {
    /// Channels of the features.
    pub channels: usize,
    /// Strides, first to last.
    pub strides: Vec<usize>,
    /// Samples that each stride's transposed convolution writes.
    pub kernels: Vec<usize>,
    /// Samples that the residual blocks' convolutions see, one for each block.
    pub residual_kernels: Vec<usize>,
    /// Their dilations.
    pub residual_dilations: Vec<Vec<usize>>,
    /// Channels before the first stride; each halves them.
    pub width: usize,
    /// Frames that the first convolution sees.
    pub first_kernel: usize,
    /// Samples that the last convolution sees.
    pub last_kernel: usize,
}

impl Default for FireflyHeadConfig {
    fn default() -> Self {
        Self {
            channels: 512,
            strides: vec![8, 8, 2, 2, 2],
            kernels: vec![16, 16, 4, 4, 4],
            residual_kernels: vec![3, 7, 11],
            residual_dilations: vec![vec![1, 3, 5]; 3],
            width: 512,
            first_kernel: 13,
            last_kernel: 13,
        }
    }
}

impl FireflyHeadConfig {
    /// Samples of one frame.
    pub fn hop(&self) -> usize {
        self.strides.iter().product()
    }

    pub(super) fn validate(&self) -> Result<()> {
        counts(&[
            ("head.channels", self.channels),
            ("head.width", self.width),
            ("head.first-kernel", self.first_kernel),
            ("head.last-kernel", self.last_kernel),
        ])?;
        ratios("head.strides", &self.strides)?;
        let strides = self.strides.len();
        let short = |(kernel, stride): (&usize, &usize)| kernel < stride;
        if self.kernels.len() != strides || self.kernels.iter().zip(&self.strides).any(short) {
            let expected = format!("{strides} numbers, none below its stride");
            return wrong("head.kernels", format!("{:?}", self.kernels), &expected);
        }
        let blocks = self.residual_kernels.len();
        if blocks == 0 || self.residual_dilations.len() != blocks {
            let found = format!("a list of {}", self.residual_dilations.len());
            let expected = format!("a list of {blocks}, as `head.residual-kernels`");
            return wrong("head.residual-dilations", found, &expected);
        }
        let numbers = self.residual_kernels.iter();
        for &number in numbers.chain(self.residual_dilations.iter().flatten()) {
            counts(&[("head.residual-kernels, residual-dilations", number)])?;
        }
        if self.width >> strides == 0 {
            return wrong(
                "head.width",
                self.width,
                "enough channels to be halved at every stride",
            );
        }
        Ok(())
    }

    /// A fresh head.
    pub fn init(&self, device: &Device) -> FireflyHead {
        let mut width = self.width;
        let (mut ups, mut residuals) = (Vec::new(), Vec::new());
        for (&stride, &kernel) in self.strides.iter().zip(&self.kernels) {
            let up = WaveConvConfig {
                stride,
                ..WaveConvConfig::new(
                    width,
                    width / 2,
                    kernel,
                    Fit::causal_transposed(kernel, stride, 1.0),
                )
            };
            width /= 2;
            ups.push(up.init(device));
            residuals.push(self.parallel(width, device));
        }
        FireflyHead {
            first: WaveConvConfig::new(self.channels, self.width, self.first_kernel, CAUSAL)
                .init(device),
            ups,
            residuals,
            last: WaveConvConfig::new(width, 1, self.last_kernel, CAUSAL).init(device),
        }
    }

    fn parallel(&self, width: usize, device: &Device) -> Parallel {
        let blocks = self.residual_kernels.iter().zip(&self.residual_dilations);
        let block = |(&kernel, dilations): (&usize, &Vec<usize>)| {
            let conv = |&dilation: &usize| {
                WaveConvConfig {
                    dilation,
                    ..WaveConvConfig::new(width, width, kernel, CAUSAL)
                }
                .init(device)
            };
            Residual {
                first: dilations.iter().map(conv).collect(),
                second: dilations.iter().map(conv).collect(),
            }
        };
        Parallel {
            blocks: blocks.map(block).collect(),
        }
    }
}

/// Features to sound.
#[derive(Module, Debug)]
pub struct FireflyHead {
    /// From the features' channels.
    pub first: WaveConv,
    /// One for each stride.
    pub ups: Vec<WaveConv>,
    /// After each.
    pub residuals: Vec<Parallel>,
    /// To one channel.
    pub last: WaveConv,
}

/// Residual blocks side by side; their mean goes on.
#[derive(Module, Debug)]
pub struct Parallel {
    /// One for each kernel.
    pub blocks: Vec<Residual>,
}

/// Pairs of convolutions of the same dilation, each pair added to its input.
#[derive(Module, Debug)]
pub struct Residual {
    /// The first of each pair.
    pub first: Vec<WaveConv>,
    /// The second of each pair.
    pub second: Vec<WaveConv>,
}

impl FireflyHead {
    /// # Shapes
    /// - `features`: `[b, channels, frames]`
    /// - returns: `[b, 1, frames * hop]`, in `-1..1`
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let mut x = self.first.forward(features);
        for (up, residual) in self.ups.iter().zip(&self.residuals) {
            x = residual.forward(up.forward(silu(x)));
        }
        self.last.forward(silu(x)).tanh()
    }
}

impl Parallel {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let count = self.blocks.len() as f64;
        let all = self.blocks.iter().map(|block| block.forward(x.clone()));
        let sum = all.reduce(|sum, one| sum + one);
        sum.expect("there is one block at least") / count
    }
}

impl Residual {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let pairs = self.first.iter().zip(&self.second);
        pairs.fold(x, |x, (first, second)| {
            let inner = first.forward(silu(x.clone()));
            second.forward(silu(inner)) + x
        })
    }
}
