//! Signals and what turns them into codes and back.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Codes, Error, Layout, Result};

/// Pictures, RGB, channel first.
#[derive(Debug, Clone)]
pub struct Images {
    /// `[batch, 3, height, width]`, each value in `-1..=1`.
    pub pixels: Tensor<4>,
}

/// Sound.
#[derive(Debug, Clone)]
pub struct Waveform {
    /// `[batch, channel, time]`, each value in `-1..=1`.
    pub samples: Tensor<3>,
    /// Samples of one channel in a second.
    pub sample_rate_hz: u32,
}

impl Waveform {
    /// How long it lasts.
    pub fn duration_secs(&self) -> f64 {
        self.samples.dims()[2] as f64 / f64::from(self.sample_rate_hz)
    }

    /// Its first `samples`, or all if there are fewer.
    pub fn shortened(self, samples: usize) -> Self {
        let [batch, channels, time] = self.samples.dims();
        let end = samples.min(time);
        Self {
            samples: self.samples.slice([0..batch, 0..channels, 0..end]),
            ..self
        }
    }
}

/// Codes of a sound, and what they leave out.
#[derive(Debug, Clone)]
pub struct SoundCodes {
    /// The codes.
    pub codes: Codes,
    /// What each normalised chunk is multiplied by, `[batch, chunks]`, where a codec normalises loudness.
    pub gains: Option<Tensor<2>>,
    /// Samples of one channel; codes always stand for whole frames.
    pub samples: usize,
}

/// What a tokenizer's codebooks look like, whatever its signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeSpec {
    /// Ids in each codebook.
    pub codebook_size: usize,
    /// Numbers in one code vector.
    pub code_width: usize,
    /// Codebooks per position.
    pub depth: usize,
}

/// What an image tokenizer takes and gives: pictures of one size, codes of one layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// The codebooks.
    #[serde(flatten)]
    pub codes: CodeSpec,
    /// Height and width of the pictures in pixels.
    pub signal_size: (usize, usize),
    /// How the codes of one picture are arranged.
    pub layout: Layout,
}

/// What a sound tokenizer takes and gives: sound of any length, one position for every so many samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoundSpec {
    /// The codebooks.
    #[serde(flatten)]
    pub codes: CodeSpec,
    /// Samples of one channel in a second.
    pub sample_rate_hz: u32,
    /// Channels.
    pub channels: usize,
    /// Samples of one channel that a position of the finest codebook stands for.
    pub hop: usize,
}

impl SoundSpec {
    /// Positions of the finest codebook in a second.
    pub fn frames_per_second(&self) -> f64 {
        f64::from(self.sample_rate_hz) / self.hop as f64
    }

    /// Checks that sound has this rate, these channels and any samples at all.
    ///
    /// # Errors
    /// [`Error::Signal`] names what differs.
    pub fn check(&self, signal: &Waveform) -> Result<()> {
        let [_, channels, time] = signal.samples.dims();
        if (signal.sample_rate_hz, channels) == (self.sample_rate_hz, self.channels) && time > 0 {
            return Ok(());
        }
        Err(Error::Signal {
            found: format!(
                "{time} samples of {channels} channels at {} Hz",
                signal.sample_rate_hz
            ),
            expected: format!(
                "one sample at least of {} channels at {} Hz",
                self.channels, self.sample_rate_hz
            ),
        })
    }
}

/// Turns a signal into codes and back.
pub trait Tokenizer: Send {
    /// What people see or hear: [`Images`] or [`Waveform`].
    type Signal;

    /// What the codebooks look like.
    fn spec(&self) -> &CodeSpec;

    /// Codes of a batch of signals.
    ///
    /// # Errors
    /// [`crate::Error::Signal`] if its size, rate or channels are not what the tokenizer takes.
    fn encode(&self, signal: Self::Signal) -> Result<Codes>;

    /// The signals that a batch of full codes stands for.
    ///
    /// # Errors
    /// [`crate::Error::Codes`] if the layout or an id does not fit.
    fn decode(&self, codes: &Codes) -> Result<Self::Signal>;
}

/// What the products of a decoder are computed in; sums are `f32` always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecodeType {
    /// `f32`.
    #[default]
    F32,
    /// Weights and what a layer reads are rounded to `bf16` where the processor multiplies them faster; elsewhere as `F32`.
    Bf16,
}

/// A tokenizer of pictures of one size.
pub trait ImageTokenizer: Tokenizer<Signal = Images> {
    /// The size of the pictures and the layout of their codes.
    fn image_spec(&self) -> &ImageSpec;

    /// The picture that a part of the codes already shows: what stands where nothing was chosen yet is up to the
    /// tokenizer.
    ///
    /// # Errors
    /// [`crate::Error::Codes`] if too little is filled to show anything.
    fn preview(&self, codes: &Codes) -> Result<Images>;

    /// The encoder's continuous output before quantization, the features in which pictures are compared.
    ///
    /// # Shapes
    /// - returns: `[batch, code_width, rows, columns]`
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    fn latents(&self, signal: Images) -> Result<Tensor<4>>;

    /// Code vectors, one per id.
    ///
    /// # Shapes
    /// - returns: `[codebook_size, code_width]`
    fn codebook(&self) -> Tensor<2>;

    /// Sets what decoding on the CPU multiplies in, `f32` at first. False if this tokenizer has no choice.
    fn decode_in(&mut self, _kind: DecodeType) -> bool {
        false
    }

    /// Sets how many bytes the decoder's layers may hold at once on the CPU beside weights and picture; where a picture needs more,
    /// they work on strips of it, which takes longer and changes no number. False if this tokenizer has no choice.
    fn decode_within(&mut self, _bytes: usize) -> bool {
        false
    }

    /// Products of numbers that decoding one picture takes by the formula of its layers, where that is known.
    fn decode_products(&self) -> Option<u64> {
        None
    }

    /// The coarse-to-fine view of the codes, where the tokenizer has one.
    fn pyramid(&self) -> Option<&dyn Pyramid> {
        None
    }
}

/// A tokenizer of sound of any length.
pub trait SoundTokenizer: Tokenizer<Signal = Waveform> {
    /// Rate, channels and samples per position.
    fn sound_spec(&self) -> &SoundSpec;

    /// Codes with what else is needed to get the sound back at its length and loudness.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    fn encode_sound(&self, signal: Waveform) -> Result<SoundCodes> {
        let samples = signal.samples.dims()[2];
        Ok(SoundCodes {
            codes: self.encode(signal)?,
            gains: None,
            samples,
        })
    }

    /// The sound of [`SoundTokenizer::encode_sound`]'s codes, at most as long as it was.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    fn decode_sound(&self, sound: &SoundCodes) -> Result<Waveform> {
        Ok(self.decode(&sound.codes)?.shortened(sound.samples))
    }

    /// The codec in pieces, where it looks at no sample that is still to come.
    fn streaming(&self) -> Option<&dyn Streaming<Signal = Waveform>> {
        None
    }
}

/// A tokenizer that works while the signal is still arriving: pieces give the same codes, and the same signal, as
/// the whole.
pub trait Streaming: Tokenizer {
    /// Begins a signal of `batch` rows.
    fn begin_encode(&self, batch: usize) -> Box<dyn EncodeChunks<Signal = Self::Signal> + '_>;

    /// Begins the codes of `batch` rows, of the first `depth` codebooks.
    fn begin_decode(
        &self,
        batch: usize,
        depth: usize,
    ) -> Box<dyn DecodeChunks<Signal = Self::Signal> + '_>;
}

/// A signal that arrives in pieces of any length.
pub trait EncodeChunks {
    /// What arrives.
    type Signal;

    /// Codes that the signal so far decides and earlier pieces did not: perhaps none.
    ///
    /// # Errors
    /// [`crate::Error::Signal`] as [`Tokenizer::encode`] has it; an empty piece is fine.
    fn push(&mut self, chunk: Self::Signal) -> Result<Codes>;

    /// The codes that are left once the signal has ended.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    fn finish(self: Box<Self>) -> Result<Codes>;
}

/// Codes that arrive in pieces of any length.
pub trait DecodeChunks {
    /// What they stand for.
    type Signal;

    /// The signal that these codes decide.
    ///
    /// # Errors
    /// [`crate::Error::Codes`] as [`Tokenizer::decode`] has it.
    fn push(&mut self, codes: &Codes) -> Result<Self::Signal>;

    /// The signal that is left once the codes have ended: perhaps none.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    fn finish(self: Box<Self>) -> Result<Self::Signal>;
}

/// What a next-scale head asks of a tokenizer with a pyramid of codes.
///
/// The *canvas* is the sum so far of all scales' contributions at the finest size
/// (`f_hat` in VAR, `[batch, channels, height, width]`).
pub trait Pyramid: Send {
    /// Sides of the scales, coarsest first.
    fn sides(&self) -> &[(usize, usize)];

    /// Numbers that a head is shown of a position.
    fn code_width(&self) -> usize;

    /// The canvas after the ids of one more scale.
    ///
    /// # Shapes
    /// - `canvas`: `[batch, channels, height, width]`, or `None` before the first scale
    /// - `ids`: `[batch, depth, positions of the scale]`
    /// - returns: like `canvas`
    fn add_scale(&self, canvas: Option<Tensor<4>>, scale: usize, ids: Tensor<3, Int>) -> Tensor<4>;

    /// What the head is shown before it predicts `scale`: the canvas brought down to that scale's size.
    ///
    /// # Shapes
    /// - returns: `[batch, positions of the scale, code_width]`
    fn features_for(&self, canvas: &Tensor<4>, scale: usize) -> Tensor<3>;

    /// The ids of `scale` that code some latents best, given what the scales before it made of them.
    ///
    /// # Shapes
    /// - `latents`: `[batch, code_width, height, width]`
    /// - `canvas`: like `latents`, or `None` before the first scale
    /// - returns: `[batch, depth, positions of the scale]`
    fn ids_for(
        &self,
        latents: Tensor<4>,
        canvas: Option<&Tensor<4>>,
        scale: usize,
    ) -> Tensor<3, Int>;
}
