//! The Descript audio codec (Kumar et al. 2023): snake activations, and codebooks that are searched in narrow projections.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ravel_core::{CodeSpec, Codes, Layout, Result, SoundSpec, SoundTokenizer, Tokenizer, Waveform};
use ravel_nn::wave::{GivenNoise, SnakeDecoder, SnakeEncoder, SnakeNetConfig, SnakeVariant};
use ravel_quant::{FactorizedConfig, FactorizedQuantizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{counts, filled_up, ratios, sequence, turned, wrong};

/// What fixes the codec. The defaults are those at 44.1 kHz and 8 kbps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DacConfig {
    /// Samples in a second.
    pub sample_rate_hz: u32,
    /// Channels after the encoder's first convolution; each stride doubles them.
    pub encoder_width: usize,
    /// The encoder's strides.
    pub encoder_strides: Vec<usize>,
    /// Channels of the latents.
    pub latent_width: usize,
    /// Channels after the decoder's first convolution; each stride halves them.
    pub decoder_width: usize,
    /// The decoder's strides.
    pub decoder_strides: Vec<usize>,
    /// Codebooks.
    pub depth: usize,
    /// Ids in each.
    pub codebook_size: usize,
    /// Numbers in one row.
    pub code_width: usize,
    /// Codebooks that encoding uses; all if unset.
    pub encode_depth: Option<usize>,
}

impl Default for DacConfig {
    fn default() -> Self {
        Self {
            sample_rate_hz: 44_100,
            encoder_width: 64,
            encoder_strides: vec![2, 4, 8, 8],
            latent_width: 1024,
            decoder_width: 1536,
            decoder_strides: vec![8, 8, 4, 2],
            depth: 9,
            codebook_size: 1024,
            code_width: 8,
            encode_depth: None,
        }
    }
}

impl DacConfig {
    /// # Errors
    /// [`ravel_core::Error::Config`] names the field that no codec can be built from.
    pub fn validate(&self) -> Result<()> {
        counts(&[
            ("sample-rate-hz", self.sample_rate_hz as usize),
            ("encoder-width", self.encoder_width),
            ("latent-width", self.latent_width),
            ("decoder-width", self.decoder_width),
            ("depth", self.depth),
            ("codebook-size", self.codebook_size),
            ("code-width", self.code_width),
        ])?;
        ratios("encoder-strides", &self.encoder_strides)?;
        ratios("decoder-strides", &self.decoder_strides)?;
        if self.decoder_width >> self.decoder_strides.len() == 0 {
            return wrong(
                "decoder-width",
                self.decoder_width,
                "enough channels to be halved at every stride",
            );
        }
        if self
            .encode_depth
            .is_some_and(|depth| !(1..=self.depth).contains(&depth))
        {
            let found = self.encode_depth.unwrap_or_default();
            return wrong("encode-depth", found, &format!("1 to {}", self.depth));
        }
        Ok(())
    }

    /// Samples of one frame.
    pub fn hop(&self) -> usize {
        self.encoder_strides.iter().product()
    }

    /// A codec with random weights.
    pub fn init(&self, device: &Device) -> Dac {
        let net = SnakeNetConfig {
            encoder_width: self.encoder_width,
            encoder_strides: self.encoder_strides.clone(),
            latent_width: self.latent_width,
            decoder_width: self.decoder_width,
            decoder_strides: self.decoder_strides.clone(),
            variant: SnakeVariant::Dac,
        };
        let quantizer = FactorizedConfig {
            width: self.latent_width,
            codebook_size: self.codebook_size,
            code_width: self.code_width,
        };
        Dac {
            encoder: net.init_encoder(device),
            quantizers: (0..self.depth).map(|_| quantizer.init(device)).collect(),
            decoder: net.init_decoder(device),
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
            channels: 1,
            hop: self.hop(),
        }
    }
}

/// The weights.
#[derive(Module, Debug)]
pub struct Dac {
    /// Sound to latents.
    pub encoder: SnakeEncoder,
    /// From coarse to fine.
    pub quantizers: Vec<FactorizedQuantizer>,
    /// Latents to sound.
    pub decoder: SnakeDecoder,
}

/// What quantizing latents gives.
#[derive(Debug, Clone)]
pub struct DacQuantized {
    /// `[b, depth, frames]`.
    pub ids: Tensor<3, Int>,
    /// The sum of what the ids stand for, `[b, width, frames]`.
    pub vectors: Tensor<3>,
    /// What each codebook was searched for, one after another, `[b, depth * code_width, frames]`.
    pub projected: Tensor<3>,
}

impl Dac {
    /// Quantizes by the first `depth` codebooks.
    ///
    /// # Shapes
    /// - `latents`: `[b, width, frames]`
    ///
    /// # Panics
    /// If `depth` is zero or above the count of codebooks.
    pub fn quantize(&self, latents: Tensor<3>, depth: usize) -> DacQuantized {
        let mut residual = turned(latents);
        let (mut ids, mut projected) = (Vec::new(), Vec::new());
        let mut sum: Option<Tensor<3>> = None;
        for quantizer in &self.quantizers[..depth] {
            let narrow = quantizer.projected(residual.clone());
            let found = quantizer.ids(narrow.clone());
            let vectors = quantizer.vectors(found.clone());
            residual = residual - vectors.clone();
            sum = Some(sum.map_or(vectors.clone(), |sum| sum + vectors));
            ids.push(found.unsqueeze_dim::<3>(1));
            projected.push(turned(narrow));
        }
        DacQuantized {
            ids: Tensor::cat(ids, 1),
            vectors: turned(sum.expect("depth axis: no codebook is used")),
            projected: Tensor::cat(projected, 1),
        }
    }

    /// What ids stand for; fewer rows than codebooks give a coarser sum.
    ///
    /// # Shapes
    /// - `ids`: `[b, depth, frames]`
    /// - returns: `[b, width, frames]`
    ///
    /// # Panics
    /// If there are no ids.
    pub fn vectors(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        let depth = ids.dims()[1];
        let rows = self.quantizers.iter().take(depth).enumerate();
        let sum = rows
            .map(|(at, quantizer)| quantizer.vectors(ids.clone().narrow(1, at, 1).squeeze_dim(1)))
            .reduce(|sum, vectors| sum + vectors);
        turned(sum.expect("depth axis: there are no ids"))
    }

    /// The sound of latents, `[b, 1, t]`.
    ///
    /// # Shapes
    /// - `latents`: `[b, width, frames]`
    pub fn decode(&self, latents: Tensor<3>) -> Tensor<3> {
        self.decoder
            .forward(latents, &mut GivenNoise::new(Vec::new()))
    }
}

/// The codec as the rest of Ravel sees it.
#[derive(Debug)]
pub struct DacTokenizer {
    module: Dac,
    spec: SoundSpec,
    encode_depth: usize,
}

impl DacTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: Dac, config: &DacConfig) -> Self {
        Self {
            module,
            spec: config.spec(),
            encode_depth: config.encode_depth.unwrap_or(config.depth),
        }
    }

    /// The weights.
    pub fn module(&self) -> &Dac {
        &self.module
    }
}

impl Tokenizer for DacTokenizer {
    type Signal = Waveform;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    /// Sound is filled up with zeros to whole frames.
    fn encode(&self, signal: Waveform) -> Result<Codes> {
        self.spec.check(&signal)?;
        let samples = filled_up(signal.samples, self.spec.hop);
        let latents = self.module.encoder.forward(samples);
        let ids = self.module.quantize(latents, self.encode_depth).ids;
        let layout = Layout::Sequence { len: ids.dims()[2] };
        Ok(Codes { ids, layout })
    }

    /// Odd strides of the decoder give fewer samples than the frames stand for, as in the published code.
    fn decode(&self, codes: &Codes) -> Result<Waveform> {
        sequence(codes, &self.spec)?;
        let latents = self.module.vectors(codes.ids.clone());
        Ok(Waveform {
            samples: self.module.decode(latents),
            sample_rate_hz: self.spec.sample_rate_hz,
        })
    }
}

impl SoundTokenizer for DacTokenizer {
    fn sound_spec(&self) -> &SoundSpec {
        &self.spec
    }
}
