//! SEANet, the convolutional encoder and decoder of EnCodec and Mimi (Tagliasacchi et al. 2020; Défossez et al. 2022,
//! section 3.1): residual blocks between strided convolutions, each convolution after an ELU.
//!
//! Layers lie in a list in the published order (`layers.0`, `layers.1`, …), the activations among them.

use burn::module::Module;
use burn::tensor::activation::elu;
use burn::tensor::{Device, Tensor};
use ravel_core::Result;
use ravel_nn::wave::{
    Aligned, Fit, Lstm, LstmState, PadKind, Piece, WaveConv, WaveConvConfig, WaveConvState,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{counts, ratios, wrong};

/// What fixes encoder and decoder. The defaults are EnCodec's at 24 kHz.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SeanetConfig {
    /// Channels of the sound.
    pub channels: usize,
    /// Channels of the latents.
    pub width: usize,
    /// Channels at the sound's own rate; each stride doubles them.
    pub filters: usize,
    /// Strides of the decoder, first to last; the encoder has them in reverse.
    pub ratios: Vec<usize>,
    /// Residual blocks before each stride.
    pub residual_layers: usize,
    /// Samples that the first convolution sees.
    pub kernel: usize,
    /// Samples that the last convolution sees.
    pub last_kernel: usize,
    /// Samples that the first convolution of a residual block sees.
    pub residual_kernel: usize,
    /// Dilation of a residual block over that of the one before.
    pub dilation_growth: usize,
    /// By how much residual blocks narrow their channels.
    pub compress: usize,
    /// Whether the way around a residual block is a convolution.
    pub shortcut: bool,
    /// Layers of the recurrence at the narrowest place; none if zero.
    pub lstm_layers: usize,
    /// Whether no frame depends on a later sample.
    pub causal: bool,
    /// What padding is made of.
    pub pad: PadKind,
    /// Share of the transposed convolutions' surplus that is taken off the right.
    pub trim_right_ratio: f64,
    /// Whether convolutions are normalised over channels and time.
    pub time_norm: bool,
}

impl Default for SeanetConfig {
    fn default() -> Self {
        Self {
            channels: 1,
            width: 128,
            filters: 32,
            ratios: vec![8, 5, 4, 2],
            residual_layers: 1,
            kernel: 7,
            last_kernel: 7,
            residual_kernel: 3,
            dilation_growth: 2,
            compress: 2,
            shortcut: true,
            lstm_layers: 2,
            causal: true,
            pad: PadKind::Reflect,
            trim_right_ratio: 1.0,
            time_norm: false,
        }
    }
}

impl SeanetConfig {
    /// Samples of one frame.
    pub fn hop(&self) -> usize {
        self.ratios.iter().product()
    }

    /// # Errors
    /// [`ravel_core::Error::Config`] names the field that no codec can be built from.
    pub fn validate(&self) -> Result<()> {
        counts(&[
            ("channels", self.channels),
            ("width", self.width),
            ("filters", self.filters),
            ("kernel", self.kernel),
            ("last-kernel", self.last_kernel),
            ("residual-kernel", self.residual_kernel),
            ("dilation-growth", self.dilation_growth),
            ("compress", self.compress),
        ])?;
        ratios("ratios", &self.ratios)?;
        if self.residual_layers > 16 {
            return wrong("residual-layers", self.residual_layers, "16 at most");
        }
        if self.lstm_layers > 64 {
            return wrong("lstm-layers", self.lstm_layers, "64 at most");
        }
        if self.filters < self.compress {
            return wrong("compress", self.compress, "no more than `filters`");
        }
        if self
            .dilation_growth
            .checked_pow(self.residual_layers as u32)
            .is_none_or(|d| d > 1 << 20)
        {
            return wrong(
                "dilation-growth",
                self.dilation_growth,
                "dilations below a million",
            );
        }
        if !(0.0..=1.0).contains(&self.trim_right_ratio) {
            return wrong(
                "trim-right-ratio",
                self.trim_right_ratio,
                "a number in 0..=1",
            );
        }
        if !self.causal && self.trim_right_ratio != 1.0 {
            return wrong(
                "trim-right-ratio",
                self.trim_right_ratio,
                "1 where `causal` is false",
            );
        }
        if self.causal && self.time_norm {
            return wrong("time-norm", true, "false where `causal` is true");
        }
        Ok(())
    }

    /// Sound to latents.
    pub fn init_encoder(&self, device: &Device) -> Seanet {
        let mut width = self.filters;
        let mut layers = vec![self.conv(self.channels, width, self.kernel, device)];
        for &ratio in self.ratios.iter().rev() {
            layers.extend(self.residuals(width, device));
            layers.push(SeanetLayer::Elu(Elu));
            layers.push(SeanetLayer::Conv(
                self.resampling(width, ratio, false, device),
            ));
            width *= 2;
        }
        layers.extend(self.lstm(width, device));
        layers.push(SeanetLayer::Elu(Elu));
        layers.push(self.conv(width, self.width, self.last_kernel, device));
        Seanet { layers }
    }

    /// Latents to sound.
    pub fn init_decoder(&self, device: &Device) -> Seanet {
        let mut width = self.filters << self.ratios.len();
        let mut layers = vec![self.conv(self.width, width, self.kernel, device)];
        layers.extend(self.lstm(width, device));
        for &ratio in &self.ratios {
            layers.push(SeanetLayer::Elu(Elu));
            layers.push(SeanetLayer::Conv(
                self.resampling(width, ratio, true, device),
            ));
            width /= 2;
            layers.extend(self.residuals(width, device));
        }
        layers.push(SeanetLayer::Elu(Elu));
        layers.push(self.conv(width, self.channels, self.last_kernel, device));
        Seanet { layers }
    }

    /// How convolutions of this codec treat their ends.
    pub fn fit(&self) -> Fit {
        match self.causal {
            true => Fit::Causal(self.pad),
            false => Fit::Centered(self.pad),
        }
    }

    /// How transposed convolutions do.
    pub fn transposed_fit(&self, kernel: usize, stride: usize) -> Fit {
        match self.causal {
            true => Fit::causal_transposed(kernel, stride, self.trim_right_ratio),
            false => Fit::centered_transposed(kernel, stride),
        }
    }

    fn conv(&self, from: usize, to: usize, kernel: usize, device: &Device) -> SeanetLayer {
        SeanetLayer::Conv(self.plain(from, to, kernel, 1, device))
    }

    fn plain(
        &self,
        from: usize,
        to: usize,
        kernel: usize,
        dilation: usize,
        device: &Device,
    ) -> WaveConv {
        WaveConvConfig {
            dilation,
            norm: self.time_norm,
            ..WaveConvConfig::new(from, to, kernel, self.fit())
        }
        .init(device)
    }

    fn resampling(&self, width: usize, ratio: usize, up: bool, device: &Device) -> WaveConv {
        let kernel = 2 * ratio;
        let (to, fit) = match up {
            true => (width / 2, self.transposed_fit(kernel, ratio)),
            false => (2 * width, self.fit()),
        };
        WaveConvConfig {
            stride: ratio,
            norm: self.time_norm,
            ..WaveConvConfig::new(width, to, kernel, fit)
        }
        .init(device)
    }

    fn residuals(&self, width: usize, device: &Device) -> Vec<SeanetLayer> {
        let narrow = width / self.compress;
        let block = |at: usize| {
            let dilation = self.dilation_growth.pow(at as u32);
            SeanetLayer::Residual(ResidualBlock {
                first: self.plain(width, narrow, self.residual_kernel, dilation, device),
                second: self.plain(narrow, width, 1, 1, device),
                shortcut: self
                    .shortcut
                    .then(|| self.plain(width, width, 1, 1, device)),
            })
        };
        (0..self.residual_layers).map(block).collect()
    }

    fn lstm(&self, width: usize, device: &Device) -> Option<SeanetLayer> {
        let layers = self.lstm_layers;
        (layers > 0).then(|| SeanetLayer::Lstm(Lstm::new(width, layers, device)))
    }
}

/// An encoder or a decoder.
#[derive(Module, Debug)]
pub struct Seanet {
    /// In the published order.
    pub layers: Vec<SeanetLayer>,
}

/// One layer.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // A dozen per model.
pub enum SeanetLayer {
    /// A convolution in either direction.
    Conv(WaveConv),
    /// A residual block.
    Residual(ResidualBlock),
    /// The recurrence.
    Lstm(Lstm),
    /// The activation.
    Elu(Elu),
}

/// `x` for positive numbers, `exp(x) - 1` for others.
#[derive(Module, Debug, Default)]
pub struct Elu;

/// Two convolutions, each after an ELU, added to their input.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// The one that sees more than one sample.
    pub first: WaveConv,
    /// Back to all channels.
    pub second: WaveConv,
    /// The way around.
    pub shortcut: Option<WaveConv>,
}

/// What the layers remember between pieces.
#[derive(Debug, Clone)]
pub struct SeanetState(Vec<LayerState>);

#[derive(Debug, Clone)]
enum LayerState {
    Conv(Box<WaveConvState>),
    Residual(Box<ResidualState>),
    Lstm(LstmState),
    Elu,
}

#[derive(Debug, Clone)]
struct ResidualState {
    first: WaveConvState,
    second: WaveConvState,
    shortcut: Option<WaveConvState>,
    branches: Aligned,
}

impl Seanet {
    /// # Shapes
    /// - `x`: `[b, channels, t]`, latents `[b, width, frames]` for a decoder
    /// - returns: the other of the two
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.layers.iter().fold(x, |x, layer| layer.forward(x))
    }

    /// The state before the first piece.
    ///
    /// # Panics
    /// If the layers are normalised over time.
    pub fn start(&self) -> SeanetState {
        SeanetState(self.layers.iter().map(SeanetLayer::start).collect())
    }

    /// What this piece decides; with `last`, all that is left.
    ///
    /// # Shapes
    /// - `piece`: as [`Seanet::forward`]'s `x`, of any length
    pub fn step(&self, piece: Piece, last: bool, state: &mut SeanetState) -> Piece {
        let layers = self.layers.iter().zip(&mut state.0);
        layers.fold(piece, |piece, (layer, state)| {
            layer.step(piece, last, state)
        })
    }
}

impl SeanetLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Residual(block) => block.forward(x),
            Self::Lstm(lstm) => lstm.forward(x),
            Self::Elu(_) => elu(x, 1.0),
        }
    }

    fn start(&self) -> LayerState {
        match self {
            Self::Conv(conv) => LayerState::Conv(Box::new(conv.start())),
            Self::Residual(block) => LayerState::Residual(Box::new(ResidualState {
                first: block.first.start(),
                second: block.second.start(),
                shortcut: block.shortcut.as_ref().map(WaveConv::start),
                branches: Aligned::default(),
            })),
            Self::Lstm(_) => LayerState::Lstm(LstmState::default()),
            Self::Elu(_) => LayerState::Elu,
        }
    }

    fn step(&self, piece: Piece, last: bool, state: &mut LayerState) -> Piece {
        match (self, state) {
            (Self::Conv(conv), LayerState::Conv(state)) => conv.step(piece, last, state),
            (Self::Residual(block), LayerState::Residual(state)) => block.step(piece, last, state),
            (Self::Lstm(lstm), LayerState::Lstm(state)) => lstm.step(piece, state),
            (Self::Elu(_), LayerState::Elu) => piece.map(|x| elu(x, 1.0)),
            _ => unreachable!("a state belongs to the layers that it was started for"),
        }
    }
}

impl ResidualBlock {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let inner = self.first.forward(elu(x.clone(), 1.0));
        let inner = self.second.forward(elu(inner, 1.0));
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x) + inner,
            None => x + inner,
        }
    }

    fn step(&self, piece: Piece, last: bool, state: &mut ResidualState) -> Piece {
        let active = |piece: Piece| piece.map(|x| elu(x, 1.0));
        let inner = self
            .first
            .step(active(piece.clone()), last, &mut state.first);
        let inner = self.second.step(active(inner), last, &mut state.second);
        let around = match (&self.shortcut, &mut state.shortcut) {
            (Some(shortcut), Some(state)) => shortcut.step(piece, last, state),
            _ => piece,
        };
        state.branches.sum(around, inner)
    }
}
