//! SNAC (Siuzdak et al. 2024): residual codebooks of which the first see fewer frames than the last.
//!
//! Codes lie in a [`Layout::Scales`], one row of ids for each codebook, coarsest first: `sides` are `(1, frames)`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ravel_core::{
    CodeSpec, Codes, Error, Layout, Result, Seed, SoundSpec, SoundTokenizer, Tokenizer, Waveform,
};
use ravel_nn::wave::{
    NoiseSource, PadKind, SeededNoise, SnakeDecoder, SnakeEncoder, SnakeNetConfig, SnakeVariant,
    pad_time,
};
use ravel_quant::{FactorizedConfig, FactorizedQuantizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What fixes the codec. The defaults are those at 24 kHz.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SnacConfig {
    /// Samples in a second.
    pub sample_rate_hz: u32,
    /// Channels after the encoder's first convolution; each stride doubles them.
    pub encoder_width: usize,
    /// The encoder's strides.
    pub encoder_strides: Vec<usize>,
    /// Channels after the decoder's first convolution; each stride halves them.
    pub decoder_width: usize,
    /// The decoder's strides.
    pub decoder_strides: Vec<usize>,
    /// Frames of an attention window, if there is attention.
    pub attention_window: Option<usize>,
    /// Ids in each codebook.
    pub codebook_size: usize,
    /// Numbers in one row.
    pub code_width: usize,
    /// Frames that one id of each codebook stands for; the first is a multiple of all.
    pub code_strides: Vec<usize>,
    /// Whether the decoder adds noise.
    pub noise: bool,
    /// Whether wide convolutions stay within a channel.
    pub depthwise: bool,
}

impl Default for SnacConfig {
    fn default() -> Self {
        Self {
            sample_rate_hz: 24_000,
            encoder_width: 48,
            encoder_strides: vec![2, 4, 8, 8],
            decoder_width: 1024,
            decoder_strides: vec![8, 8, 4, 2],
            attention_window: None,
            codebook_size: 4096,
            code_width: 8,
            code_strides: vec![4, 2, 1],
            noise: true,
            depthwise: true,
        }
    }
}

impl SnacConfig {
    /// # Errors
    /// [`Error::Config`] names the field that no codec can be built from.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("sample-rate-hz", self.sample_rate_hz as usize),
            ("encoder-width", self.encoder_width),
            ("decoder-width", self.decoder_width),
            ("attention-window", self.attention_window.unwrap_or(1)),
            ("codebook-size", self.codebook_size),
            ("code-width", self.code_width),
        ];
        for (field, count) in counts {
            if !(1..=1 << 20).contains(&count) {
                return wrong(field, count, "1 to 1048576");
            }
        }
        for (field, ratios) in [
            ("encoder-strides", &self.encoder_strides),
            ("decoder-strides", &self.decoder_strides),
            ("code-strides", &self.code_strides),
        ] {
            let product = ratios.iter().try_fold(1usize, |p, &r| p.checked_mul(r));
            let fits = matches!(product, Some(1..=1_000_000)) && (1..=16).contains(&ratios.len());
            if !fits {
                let expected = "1 to 16 numbers of at least 1, a million at most together";
                return wrong(field, format!("{ratios:?}"), expected);
            }
        }
        let first = self.code_strides[0];
        if !self
            .code_strides
            .iter()
            .all(|&stride| first.is_multiple_of(stride))
        {
            let expected = "numbers that divide the first";
            return wrong("code-strides", format!("{:?}", self.code_strides), expected);
        }
        if self.decoder_width >> self.decoder_strides.len() == 0 {
            let expected = "enough channels to be halved at every stride";
            return wrong("decoder-width", self.decoder_width, expected);
        }
        let deepest = self.net().deepest_width();
        let attended = [
            ("encoder-width", deepest),
            ("decoder-width", self.decoder_width),
        ];
        for (field, width) in attended {
            if self.attention_window.is_some() && !width.is_multiple_of(64) {
                return wrong(
                    field,
                    width,
                    "a multiple of 64 channels where there is attention",
                );
            }
        }
        Ok(())
    }

    /// Samples of one frame.
    pub fn hop(&self) -> usize {
        self.encoder_strides.iter().product()
    }

    /// Frames that sound is filled up to a multiple of.
    fn whole(&self) -> usize {
        let (stride, window) = (self.code_strides[0], self.attention_window.unwrap_or(1));
        stride / common_divisor(stride, window) * window
    }

    fn net(&self) -> SnakeNetConfig {
        SnakeNetConfig {
            encoder_width: self.encoder_width,
            encoder_strides: self.encoder_strides.clone(),
            latent_width: self.encoder_width << self.encoder_strides.len(),
            decoder_width: self.decoder_width,
            decoder_strides: self.decoder_strides.clone(),
            variant: SnakeVariant::Snac {
                depthwise: self.depthwise,
                noise: self.noise,
                attention_window: self.attention_window,
            },
        }
    }

    /// A codec with random weights.
    pub fn init(&self, device: &Device) -> Snac {
        let net = self.net();
        let quantizer = FactorizedConfig {
            width: net.latent_width,
            codebook_size: self.codebook_size,
            code_width: self.code_width,
        };
        Snac {
            encoder: net.init_encoder(device),
            quantizers: self
                .code_strides
                .iter()
                .map(|_| quantizer.init(device))
                .collect(),
            decoder: net.init_decoder(device),
            strides: self.code_strides.clone(),
        }
    }

    /// What the codes look like.
    pub fn spec(&self) -> SoundSpec {
        SoundSpec {
            codes: CodeSpec {
                codebook_size: self.codebook_size,
                code_width: self.code_width,
                depth: 1,
            },
            sample_rate_hz: self.sample_rate_hz,
            channels: 1,
            hop: self.hop(),
        }
    }
}

fn common_divisor(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        b => common_divisor(b, a % b),
    }
}

fn wrong<T>(field: &str, found: impl ToString, expected: &str) -> Result<T> {
    Err(Error::Config {
        field: field.into(),
        found: found.to_string(),
        expected: expected.into(),
    })
}

/// The weights.
#[derive(Module, Debug)]
pub struct Snac {
    /// Sound to latents.
    pub encoder: SnakeEncoder,
    /// From few frames to all.
    pub quantizers: Vec<FactorizedQuantizer>,
    /// Latents to sound.
    pub decoder: SnakeDecoder,
    #[module(skip)]
    strides: Vec<usize>,
}

/// What quantizing latents gives.
#[derive(Debug, Clone)]
pub struct SnacQuantized {
    /// `[b, frames / stride]` for each codebook.
    pub ids: Vec<Tensor<2, Int>>,
    /// The sum of what the ids stand for, `[b, width, frames]`.
    pub vectors: Tensor<3>,
}

impl Snac {
    /// Quantizes: each codebook sees means over its stride of what the ones before left over.
    ///
    /// # Shapes
    /// - `latents`: `[b, width, frames]`
    ///
    /// # Panics
    /// If the frames are no multiple of the first stride.
    pub fn quantize(&self, latents: Tensor<3>) -> SnacQuantized {
        let [_, _, frames] = latents.dims();
        assert!(
            frames.is_multiple_of(self.strides[0]),
            "time axis: {frames} frames are no multiple of {}",
            self.strides[0]
        );
        let mut residual = latents;
        let mut ids = Vec::new();
        let mut sum: Option<Tensor<3>> = None;
        for (quantizer, &stride) in self.quantizers.iter().zip(&self.strides) {
            let seen = averaged(residual.clone(), stride).swap_dims(1, 2);
            let found = quantizer.ids(quantizer.projected(seen));
            let vectors = repeated(quantizer.vectors(found.clone()).swap_dims(1, 2), stride);
            residual = residual - vectors.clone();
            sum = Some(sum.map_or(vectors.clone(), |sum| sum + vectors));
            ids.push(found);
        }
        SnacQuantized {
            ids,
            vectors: sum.expect("there is one codebook at least"),
        }
    }

    /// What ids stand for.
    ///
    /// # Shapes
    /// - `ids`: `[b, frames / stride]` for each codebook
    /// - returns: `[b, width, frames]`
    pub fn vectors(&self, ids: &[Tensor<2, Int>]) -> Tensor<3> {
        let rows = ids.iter().zip(&self.quantizers).zip(&self.strides);
        let each = rows.map(|((ids, quantizer), &stride)| {
            repeated(quantizer.vectors(ids.clone()).swap_dims(1, 2), stride)
        });
        each.reduce(|sum, vectors| sum + vectors)
            .expect("there is one codebook at least")
    }
}

/// Means over `stride` frames.
fn averaged(x: Tensor<3>, stride: usize) -> Tensor<3> {
    let [batch, width, frames] = x.dims();
    x.reshape([batch, width, frames / stride, stride])
        .mean_dim(3)
        .squeeze_dim(3)
}

/// Every frame `stride` times.
fn repeated(x: Tensor<3>, stride: usize) -> Tensor<3> {
    let [batch, width, frames] = x.dims();
    x.unsqueeze_dim::<4>(3)
        .expand([batch, width, frames, stride])
        .reshape([batch, width, frames * stride])
}

/// The codec as the rest of Ravel sees it.
#[derive(Debug)]
pub struct SnacTokenizer {
    module: Snac,
    spec: SoundSpec,
    whole: usize,
}

impl SnacTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: Snac, config: &SnacConfig) -> Self {
        Self {
            module,
            spec: config.spec(),
            whole: config.whole(),
        }
    }

    /// The weights.
    pub fn module(&self) -> &Snac {
        &self.module
    }

    /// Sound filled up with zeros to whole frames of the coarsest codebook and whole attention windows.
    ///
    /// # Shapes
    /// - `samples`: `[b, 1, t]`
    pub fn filled_up(&self, samples: Tensor<3>) -> Tensor<3> {
        let time = samples.dims()[2];
        let whole = time.next_multiple_of(self.spec.hop * self.whole);
        pad_time(samples, 0, whole - time, PadKind::Zero)
    }

    /// The ids of each codebook in codes, [`Tokenizer::decode`]'s checks included.
    ///
    /// # Errors
    /// [`Error::Codes`] if the layout is not this codec's, or an id is beyond its codebook.
    pub fn rows(&self, codes: &Codes) -> Result<Vec<Tensor<2, Int>>> {
        let strides = &self.module.strides;
        let Layout::Scales { sides } = &codes.layout else {
            return Err(Error::Codes {
                found: codes.layout.describe(),
                expected: format!("{} rows of codes", strides.len()),
            });
        };
        let frames = sides.first().map_or(0, |side| side.1 * strides[0]);
        let own = self.layout(frames);
        if frames == 0 || !frames.is_multiple_of(self.whole) {
            return Err(Error::Codes {
                found: format!("{frames} frames"),
                expected: format!("a multiple of {}", self.whole),
            });
        }
        codes.check(&own, 1, self.spec.codes.codebook_size)?;
        let ids = codes.at_depth(0);
        let spans = own.blocks().into_iter();
        Ok(spans
            .map(|unit| ids.clone().narrow(1, unit.span.start, unit.len()))
            .collect())
    }

    fn layout(&self, frames: usize) -> Layout {
        let strides = self.module.strides.iter();
        Layout::Scales {
            sides: strides.map(|stride| (1, frames / stride)).collect(),
        }
    }

    /// The sound of latents.
    ///
    /// # Shapes
    /// - `latents`: `[b, width, frames]`
    /// - returns: `[b, 1, t]`
    pub fn decode_latents(&self, latents: Tensor<3>, noise: &mut dyn NoiseSource) -> Tensor<3> {
        self.module.decoder.forward(latents, noise)
    }
}

impl Tokenizer for SnacTokenizer {
    type Signal = Waveform;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    fn encode(&self, signal: Waveform) -> Result<Codes> {
        self.spec.check(&signal)?;
        let latents = self.module.encoder.forward(self.filled_up(signal.samples));
        let layout = self.layout(latents.dims()[2]);
        let ids = self.module.quantize(latents).ids;
        Ok(Codes::flat(Tensor::cat(ids, 1), layout))
    }

    /// Noise is always the same, so that the same codes give the same sound.
    fn decode(&self, codes: &Codes) -> Result<Waveform> {
        let latents = self.module.vectors(&self.rows(codes)?);
        let mut noise = SeededNoise::new(Seed::new(0).named("snac noise"));
        Ok(Waveform {
            samples: self.decode_latents(latents, &mut noise),
            sample_rate_hz: self.spec.sample_rate_hz,
        })
    }
}

impl SoundTokenizer for SnacTokenizer {
    fn sound_spec(&self) -> &SoundSpec {
        &self.spec
    }
}
