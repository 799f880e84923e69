//! EnCodec (Défossez et al. 2022): SEANet around residual Euclidean codebooks.
//!
//! The 24 kHz codec is causal and streams. The 48 kHz one normalises overlapping chunks of stereo sound to equal loudness; the
//! gains that undo this are no codes and come with [`ravel_core::SoundCodes`].

mod chunks;
mod stream;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ravel_core::{
    CodeSpec, Codes, Error, Layout, Result, SoundCodes, SoundSpec, SoundTokenizer, Streaming,
    Tokenizer, Waveform,
};
use ravel_quant::{ResidualConfig, ResidualQuantizer, VectorConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{counts, turned, wrong};
use crate::{Seanet, SeanetConfig};

pub use chunks::{Chunks, EncodecChunk};

/// What fixes the codec. The defaults are those of the 24 kHz codec at 6 kbps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EncodecConfig {
    /// Samples in a second.
    pub sample_rate_hz: u32,
    /// Encoder and decoder.
    pub seanet: SeanetConfig,
    /// Ids in each codebook.
    pub codebook_size: usize,
    /// Numbers in one row; the latents' width.
    pub code_width: usize,
    /// Codebooks.
    pub depth: usize,
    /// How much encoding writes, in thousands of bits per second: decides how many codebooks it uses. All if unset.
    pub bandwidth_kbps: Option<f64>,
    /// Whether each chunk is divided by its loudness.
    pub normalize: bool,
    /// Chunks; the whole sound is one if unset.
    pub chunks: Option<Chunks>,
}

impl Default for EncodecConfig {
    fn default() -> Self {
        Self {
            sample_rate_hz: 24_000,
            seanet: SeanetConfig::default(),
            codebook_size: 1024,
            code_width: 128,
            depth: 32,
            bandwidth_kbps: Some(6.0),
            normalize: false,
            chunks: None,
        }
    }
}

impl EncodecConfig {
    /// # Errors
    /// [`Error::Config`] names the field that no codec can be built from.
    pub fn validate(&self) -> Result<()> {
        self.seanet.validate()?;
        counts(&[
            ("sample-rate-hz", self.sample_rate_hz as usize),
            ("codebook-size", self.codebook_size),
            ("code-width", self.code_width),
            ("depth", self.depth),
        ])?;
        if self.code_width != self.seanet.width {
            let expected = format!("{}, `seanet.width`", self.seanet.width);
            return wrong("code-width", self.code_width, &expected);
        }
        if let Some(rate) = self.bandwidth_kbps
            && !(rate.is_finite() && rate >= 0.0)
        {
            return wrong("bandwidth-kbps", rate, "a positive number");
        }
        match self.chunks {
            Some(chunks) => chunks.validate(),
            None => Ok(()),
        }
    }

    /// Frames in a second, rounded up.
    pub fn frame_rate(&self) -> usize {
        (self.sample_rate_hz as usize).div_ceil(self.seanet.hop())
    }

    /// Codebooks that fit into so many thousand bits per second: one at least, and all for zero.
    pub fn depth_at(&self, bandwidth_kbps: f64) -> usize {
        let per_codebook = (self.codebook_size as f64).log2() * self.frame_rate() as f64;
        match bandwidth_kbps > 0.0 {
            true => {
                ((bandwidth_kbps * 1000.0 / per_codebook).floor() as usize).clamp(1, self.depth)
            }
            false => self.depth,
        }
    }

    /// A codec with random weights.
    pub fn init(&self, device: &Device) -> Encodec {
        let quantizer = ResidualConfig {
            depth: self.depth,
            codebook: VectorConfig {
                codebook_size: self.codebook_size,
                width: self.code_width,
                l2_normalize: false,
            },
        };
        Encodec {
            encoder: self.seanet.init_encoder(device),
            quantizer: quantizer.init(device),
            decoder: self.seanet.init_decoder(device),
        }
    }

    /// What the codes look like.
    pub fn spec(&self) -> SoundSpec {
        SoundSpec {
            codes: CodeSpec {
                codebook_size: self.codebook_size,
                code_width: self.code_width,
                depth: self.depth,
            },
            sample_rate_hz: self.sample_rate_hz,
            channels: self.seanet.channels,
            hop: self.seanet.hop(),
        }
    }
}

/// The weights.
#[derive(Module, Debug)]
pub struct Encodec {
    /// Sound to latents.
    pub encoder: Seanet,
    /// From coarse to fine.
    pub quantizer: ResidualQuantizer,
    /// Latents to sound.
    pub decoder: Seanet,
}

impl Encodec {
    /// Ids by the first `depth` codebooks.
    ///
    /// # Shapes
    /// - `latents`: `[b, width, frames]`
    /// - returns: `[b, depth, frames]`
    ///
    /// # Panics
    /// If `depth` is zero or above the count of codebooks.
    pub fn ids(&self, latents: Tensor<3>, depth: usize) -> Tensor<3, Int> {
        self.quantizer.quantize(turned(latents), depth).ids
    }

    /// The sum of what ids stand for.
    ///
    /// # Shapes
    /// - `ids`: `[b, depth, frames]`
    /// - returns: `[b, width, frames]`
    pub fn vectors(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        turned(self.quantizer.vectors(ids))
    }
}

/// The codec as the rest of Ravel sees it.
#[derive(Debug)]
pub struct EncodecTokenizer {
    module: Encodec,
    config: EncodecConfig,
    spec: SoundSpec,
    encode_depth: usize,
}

impl EncodecTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: Encodec, config: &EncodecConfig) -> Self {
        let rate = config.bandwidth_kbps;
        Self {
            module,
            spec: config.spec(),
            encode_depth: rate.map_or(config.depth, |rate| config.depth_at(rate)),
            config: config.clone(),
        }
    }

    /// The weights.
    pub fn module(&self) -> &Encodec {
        &self.module
    }

    fn waveform(&self, samples: Tensor<3>) -> Waveform {
        Waveform {
            samples,
            sample_rate_hz: self.spec.sample_rate_hz,
        }
    }
}

impl Tokenizer for EncodecTokenizer {
    type Signal = Waveform;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    fn encode(&self, signal: Waveform) -> Result<Codes> {
        Ok(self.encode_sound(signal)?.codes)
    }

    /// Chunks of a codec that normalises come out at the loudness of the normalised chunks.
    fn decode(&self, codes: &Codes) -> Result<Waveform> {
        let chunks = self.chunks_of(codes, None)?;
        Ok(self.waveform(self.decode_chunks(&chunks)))
    }
}

impl SoundTokenizer for EncodecTokenizer {
    fn sound_spec(&self) -> &SoundSpec {
        &self.spec
    }

    fn encode_sound(&self, signal: Waveform) -> Result<SoundCodes> {
        self.spec.check(&signal)?;
        let samples = signal.samples.dims()[2];
        let chunks = self.encode_chunks(signal.samples);
        let gains = chunks.iter().map(|chunk| chunk.gain.clone()).collect();
        let gains: Option<Vec<Tensor<2>>> = gains;
        Ok(SoundCodes {
            gains: gains.map(|gains| Tensor::cat(gains, 1)),
            codes: self.codes_of(chunks),
            samples,
        })
    }

    /// The last chunk is decoded without the codes that only fill it up.
    fn decode_sound(&self, sound: &SoundCodes) -> Result<Waveform> {
        let mut chunks = self.chunks_of(&sound.codes, sound.gains.as_ref())?;
        self.cut_last(&mut chunks, sound.samples);
        Ok(self
            .waveform(self.decode_chunks(&chunks))
            .shortened(sound.samples))
    }

    fn streaming(&self) -> Option<&dyn Streaming<Signal = Waveform>> {
        let whole = self.config.chunks.is_none() && !self.config.normalize;
        (whole && !self.config.seanet.time_norm).then_some(self as _)
    }
}

impl EncodecTokenizer {
    /// Chunks as codes: a sequence if there are no chunks, otherwise a frame of codes per chunk, the last filled up with zeros.
    fn codes_of(&self, chunks: Vec<EncodecChunk>) -> Codes {
        let Some(first) = chunks.first() else {
            unreachable!("sound has one chunk at least");
        };
        let [batch, depth, width] = first.ids.dims();
        let frames = chunks.len();
        let ids = chunks.into_iter().map(|chunk| {
            let missing = width - chunk.ids.dims()[2];
            match missing {
                0 => chunk.ids,
                missing => {
                    let zeros = Tensor::zeros([batch, depth, missing], &chunk.ids.device());
                    Tensor::cat(vec![chunk.ids, zeros], 2)
                }
            }
        });
        let ids = Tensor::cat(ids.collect(), 2);
        let layout = match self.config.chunks {
            None => Layout::Sequence { len: width },
            Some(_) => Layout::Frames {
                frames,
                height: 1,
                width,
            },
        };
        Codes { ids, layout }
    }

    /// The chunks that codes stand for.
    fn chunks_of(&self, codes: &Codes, gains: Option<&Tensor<2>>) -> Result<Vec<EncodecChunk>> {
        let (frames, width) = match (self.config.chunks, &codes.layout) {
            (None, &Layout::Sequence { len }) => (1, len),
            (
                Some(_),
                &Layout::Frames {
                    frames,
                    height: 1,
                    width,
                },
            ) => (frames, width),
            (chunks, layout) => {
                let expected = match chunks {
                    None => "a sequence",
                    Some(_) => "frames, one row of codes for each chunk",
                };
                return Err(Error::Codes {
                    found: layout.describe(),
                    expected: expected.into(),
                });
            }
        };
        if frames * width == 0 || codes.filled() != frames * width {
            return Err(Error::Codes {
                found: format!("{} filled positions of {frames} x {width}", codes.filled()),
                expected: "all of them, one at least".into(),
            });
        }
        codes.check_ids(1..=self.spec.codes.depth, self.spec.codes.codebook_size)?;
        if let Some(gains) = gains
            && gains.dims() != [codes.batch(), frames]
        {
            let [rows, columns] = gains.dims();
            return Err(Error::Codes {
                found: format!("gains for {rows} rows of {columns} chunks"),
                expected: format!("gains for {} of {frames}", codes.batch()),
            });
        }
        let chunk = |at: usize| EncodecChunk {
            ids: codes.ids.clone().narrow(2, at * width, width),
            gain: gains.map(|gains| gains.clone().narrow(1, at, 1)),
        };
        Ok((0..frames).map(chunk).collect())
    }
}
