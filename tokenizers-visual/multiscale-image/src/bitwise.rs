//! Image tokenizer with a pyramid of bits.
//!
//! Han et al. 2024 (Infinity), section 3.2: every scale is coded by the signs of what the earlier ones left, so a position holds
//! `bits` bits rather than one id. As [`Codes`] a bit is a depth: two ids, `bits` deep.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ravel_core::{
    CodeSpec, Codes, DecodeType, Error, ImageSpec, ImageTokenizer, Images, Layout, Result,
    Tokenizer,
};
use ravel_nn::conv::{AutoencoderConfig, Decoder, Encoder, ReadyDecoder};
use ravel_quant::{MultiscaleBinaryConfig, MultiscaleBinaryQuantizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vq_image::check_size;

/// What fixes the tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BitwiseImageConfig {
    /// Height and width of the pictures in pixels.
    pub size: [usize; 2],
    /// Encoder and decoder.
    pub autoencoder: AutoencoderConfig,
    /// Scales and bits.
    pub quantizer: MultiscaleBinaryConfig,
}

impl BitwiseImageConfig {
    /// # Errors
    /// [`Error::Config`] names the field that no tokenizer can be built from.
    pub fn validate(&self) -> Result<()> {
        let MultiscaleBinaryConfig { width, bits, .. } = self.quantizer;
        if width == 0 || bits == 0 {
            return Err(Error::Config {
                field: "quantizer.width, quantizer.bits".into(),
                found: format!("{width}, {bits}"),
                expected: "numbers of at least 1".into(),
            });
        }
        for side in self.size {
            self.autoencoder.validate(side)?;
        }
        self.autoencoder.check_width(width)?;
        let scales = &self.quantizer.scales;
        let [height, columns] = self.grid();
        let flat = scales
            .iter()
            .all(|[time, rows, columns]| *time == 1 && rows * columns > 0);
        if !flat || scales.last() != Some(&[1, height, columns]) {
            return Err(Error::Config {
                field: "quantizer.scales".into(),
                found: format!("{scales:?}"),
                expected: format!(
                    "scales of one frame up to {height} x {columns}, the encoder's own"
                ),
            });
        }
        Ok(())
    }

    fn grid(&self) -> [usize; 2] {
        self.size.map(|side| side / self.autoencoder.stride())
    }

    /// A tokenizer with random weights.
    pub fn init(&self, device: &Device) -> BitwiseImage {
        let (encoder, decoder) = self.autoencoder.init(self.quantizer.width, device);
        BitwiseImage {
            encoder,
            quantizer: self.quantizer.init(device),
            decoder,
        }
    }

    /// What the codes look like.
    pub fn spec(&self) -> ImageSpec {
        let sides = self.quantizer.scales.iter();
        ImageSpec {
            codes: CodeSpec {
                codebook_size: 2,
                code_width: 1,
                depth: self.quantizer.bits,
            },
            signal_size: self.size.into(),
            layout: Layout::Scales {
                sides: sides.map(|[_, rows, columns]| (*rows, *columns)).collect(),
            },
        }
    }
}

/// The weights.
#[derive(Module, Debug)]
pub struct BitwiseImage {
    /// Pictures to latents.
    pub encoder: Encoder,
    /// The scales and their bits.
    pub quantizer: MultiscaleBinaryQuantizer,
    /// Latents to pictures.
    pub decoder: Decoder,
}

impl BitwiseImage {
    /// The picture that a canvas stands for, not clamped.
    ///
    /// # Shapes
    /// - `canvas`: `[b, bits, 1, h, w]`
    /// - returns: `[b, 3, height, width]`
    pub fn picture(&self, canvas: Tensor<5>) -> Tensor<4> {
        self.decoder
            .forward(self.quantizer.latents(canvas).squeeze_dim(2))
    }
}

/// The tokenizer as the rest of Ravel sees it.
#[derive(Debug)]
pub struct BitwiseImageTokenizer {
    module: BitwiseImage,
    ready: ReadyDecoder,
    spec: ImageSpec,
}

impl BitwiseImageTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: BitwiseImage, config: &BitwiseImageConfig) -> Self {
        Self {
            module,
            ready: ReadyDecoder::default(),
            spec: config.spec(),
        }
    }

    fn sides(&self) -> &[(usize, usize)] {
        match &self.spec.layout {
            Layout::Scales { sides } => sides,
            _ => unreachable!("this tokenizer's layout is scales"),
        }
    }

    /// The whole scales in `ids`, `[b, 1, h_k, w_k, bits]` each.
    fn scales(&self, ids: &Tensor<3, Int>) -> Vec<Tensor<5, Int>> {
        let [batch, depth, filled] = ids.dims();
        let mut start = 0;
        let mut scales = Vec::new();
        for &(rows, columns) in self.sides() {
            let end = start + rows * columns;
            if end > filled {
                break;
            }
            let part = ids.clone().narrow(2, start, end - start);
            let bits = part
                .swap_dims(1, 2)
                .reshape([batch, 1, rows, columns, depth]);
            scales.push(bits);
            start = end;
        }
        scales
    }
}

impl Tokenizer for BitwiseImageTokenizer {
    type Signal = Images;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    fn encode(&self, signal: Images) -> Result<Codes> {
        let latents = self.latents(signal)?.unsqueeze_dim(2);
        let bits = self.module.quantizer.quantize(latents).bits;
        let flat = bits.into_iter().map(|bits| {
            let [batch, _, rows, columns, depth] = bits.dims();
            bits.reshape([batch, rows * columns, depth]).swap_dims(1, 2)
        });
        Ok(Codes {
            ids: Tensor::cat(flat.collect(), 2),
            layout: self.spec.layout.clone(),
        })
    }

    fn decode(&self, codes: &Codes) -> Result<Images> {
        codes.check(&self.spec.layout, self.spec.codes.depth, 2)?;
        self.preview(codes)
    }
}

impl ImageTokenizer for BitwiseImageTokenizer {
    fn image_spec(&self) -> &ImageSpec {
        &self.spec
    }

    fn preview(&self, codes: &Codes) -> Result<Images> {
        let (height, width) = *self.sides().last().expect("there is a scale");
        let scales = self.scales(&codes.ids);
        let canvases = self.module.quantizer.canvases(&scales, [1, height, width]);
        let Some(canvas) = canvases.last() else {
            return Err(Error::Codes {
                found: format!("{} filled positions", codes.filled()),
                expected: "one whole scale at least".into(),
            });
        };
        let latents = self.module.quantizer.latents(canvas.clone());
        let pixels = (self.ready).forward(&self.module.decoder, latents.squeeze_dim(2));
        Ok(Images {
            pixels: pixels.clamp(-1.0, 1.0),
        })
    }

    fn latents(&self, signal: Images) -> Result<Tensor<4>> {
        check_size(&signal, self.spec.signal_size)?;
        Ok(self.module.encoder.forward(signal.pixels))
    }

    fn decode_in(&mut self, kind: DecodeType) -> bool {
        self.ready.decode_in(kind);
        true
    }

    /// What a bit stands for.
    fn codebook(&self) -> Tensor<2> {
        let reach = 1.0 / (self.spec.codes.depth as f32).sqrt();
        Tensor::from_floats([[-reach], [reach]], &self.module.devices()[0])
    }
}
