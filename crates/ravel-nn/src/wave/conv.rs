//! One layer for convolutions over time in both directions: fewer frames out (a convolution) or more (a transposed one).

use burn::module::{Initializer, Module, Param};
use burn::tensor::module::{conv_transpose1d, conv1d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{Device, Tensor};

use super::pad::{PadKind, pad_time};
use super::time_norm::TimeNorm;

/// How a layer treats the ends of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// A convolution that sees no later frame: all padding on the left, and on the right only what makes the last frame whole.
    Causal(PadKind),
    /// A convolution in the middle of what it sees; an odd rest of padding goes to the left, and what makes the last frame
    /// whole to the right.
    Centered(PadKind),
    /// A convolution with as many zeros on each side; samples that fill no frame are dropped.
    Even(usize),
    /// A transposed convolution of whose result so many samples are taken off the left and the right.
    Transposed {
        /// Off the left.
        left: usize,
        /// Off the right.
        right: usize,
    },
}

impl Fit {
    /// A transposed convolution that shows nothing before its time: of the `kernel - stride` samples too many the share
    /// `right_ratio` is taken off the right, rounded up, the rest off the left (EnCodec's `trim_right_ratio`).
    pub fn causal_transposed(kernel: usize, stride: usize, right_ratio: f64) -> Self {
        let surplus = kernel.saturating_sub(stride);
        let right = ((surplus as f64 * right_ratio).ceil() as usize).min(surplus);
        Self::Transposed {
            left: surplus - right,
            right,
        }
    }

    /// A transposed convolution in the middle of what it writes; an odd rest is taken off the left.
    pub fn centered_transposed(kernel: usize, stride: usize) -> Self {
        let surplus = kernel.saturating_sub(stride);
        Self::Transposed {
            left: surplus - surplus / 2,
            right: surplus / 2,
        }
    }

    /// PyTorch's `padding` and `output_padding` of a transposed convolution.
    ///
    /// # Panics
    /// If more is added than was taken off.
    pub fn padded_transposed(padding: usize, output_padding: usize) -> Self {
        assert!(
            output_padding <= padding,
            "time axis: output padding {output_padding} beyond padding {padding}"
        );
        Self::Transposed {
            left: padding,
            right: padding - output_padding,
        }
    }
}

/// What fixes a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct WaveConvConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Samples that one frame sees or writes, before dilation.
    pub kernel: usize,
    /// Samples from one frame to the next.
    pub stride: usize,
    /// Distance of the kernel's samples.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// The ends.
    pub fit: Fit,
    /// Whether the result is normalised over all its channels and time together ([`TimeNorm`]).
    pub norm: bool,
}

impl WaveConvConfig {
    /// A layer of stride one with a bias and nothing special.
    pub fn new(from: usize, to: usize, kernel: usize, fit: Fit) -> Self {
        Self {
            channels: [from, to],
            kernel,
            stride: 1,
            dilation: 1,
            groups: 1,
            bias: true,
            fit,
            norm: false,
        }
    }

    /// A fresh layer.
    ///
    /// # Panics
    /// If the groups do not divide the channels.
    pub fn init(&self, device: &Device) -> WaveConv {
        let [from, to] = self.channels;
        let Self { groups, kernel, .. } = *self;
        assert!(
            groups > 0 && from.is_multiple_of(groups) && to.is_multiple_of(groups),
            "channel axis: {groups} groups do not divide {from} and {to} channels"
        );
        let shape = match self.fit {
            Fit::Transposed { .. } => [from, to / groups, kernel],
            _ => [to, from / groups, kernel],
        };
        let fan_in = shape[1] * kernel;
        let fresh = Initializer::KaimingUniform {
            gain: 3f64.sqrt().recip(),
            fan_out_only: false,
        };
        WaveConv {
            weight: fresh.init_with(shape, Some(fan_in), None, device),
            bias: self
                .bias
                .then(|| fresh.init_with([to], Some(fan_in), None, device)),
            norm: self.norm.then(|| TimeNorm::new(to, device)),
            kernel,
            stride: self.stride,
            dilation: self.dilation,
            groups,
            fit: self.fit,
        }
    }
}

/// A convolution or transposed convolution over time.
#[derive(Module, Debug)]
pub struct WaveConv {
    /// `[to, from / groups, kernel]`, transposed `[from, to / groups, kernel]`.
    pub weight: Param<Tensor<3>>,
    /// `[to]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Over channels and time.
    pub norm: Option<TimeNorm>,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    groups: usize,
    #[module(skip)]
    pub(super) fit: Fit,
}

impl WaveConv {
    /// # Shapes
    /// - `x`: `[b, from, t]`
    /// - returns: `[b, to, frames]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        if let Fit::Transposed { left, right } = self.fit {
            let bias = self.bias.as_ref().map(Param::val);
            let spread = self.normed(self.spread(x, bias));
            let [batch, channels, time] = spread.dims();
            return spread.slice([0..batch, 0..channels, left..time - right]);
        }
        let (left, right, kind) = self.ends(x.dims()[2]);
        self.normed(self.gathered(pad_time(x, left, right, kind)))
    }

    /// Samples that one frame sees.
    pub(super) fn reach(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }

    /// Padding on both ends of a signal of `time` samples.
    pub(super) fn ends(&self, time: usize) -> (usize, usize, PadKind) {
        let surplus = self.reach().saturating_sub(self.stride);
        let whole = time.div_ceil(self.stride) * self.stride - time;
        match self.fit {
            Fit::Causal(kind) => (surplus, whole, kind),
            Fit::Centered(kind) => (surplus - surplus / 2, surplus / 2 + whole, kind),
            Fit::Even(zeros) => (zeros, zeros, PadKind::Zero),
            Fit::Transposed { .. } => unreachable!("a transposed convolution is not padded"),
        }
    }

    /// The convolution alone, without padding.
    pub(super) fn gathered(&self, padded: Tensor<3>) -> Tensor<3> {
        let bias = self.bias.as_ref().map(Param::val);
        let options = ConvOptions::new([self.stride], [0], [self.dilation], self.groups);
        conv1d(padded, self.weight.val(), bias, options)
    }

    /// The transposed convolution alone, nothing taken off: `(t - 1) stride + kernel` samples.
    pub(super) fn spread(&self, x: Tensor<3>, bias: Option<Tensor<1>>) -> Tensor<3> {
        let options =
            ConvTransposeOptions::new([self.stride], [0], [0], [self.dilation], self.groups);
        conv_transpose1d(x, self.weight.val(), bias, options)
    }

    fn normed(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}
