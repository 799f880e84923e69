//! Image tokenizer with a coarse-to-fine pyramid of codes, for next-scale prediction.
//!
//! Tian et al. 2024 (VAR): a convolutional encoder and decoder around a multi-scale residual quantizer. All scales add to one
//! canvas of latents; a picture can be decoded after any of them.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ravel_core::{
    CodeSpec, Codes, DecodeType, Error, ImageSpec, ImageTokenizer, Images, Layout, Pyramid, Result,
    Tokenizer,
};
use ravel_nn::conv::{AutoencoderConfig, Decoder, Encoder, ReadyDecoder};
use ravel_quant::{MultiscaleConfig, MultiscaleQuantizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vq_image::{TrainingOutput, check_codebook, check_size};

pub use bitwise::{BitwiseImage, BitwiseImageConfig, BitwiseImageTokenizer};

mod bitwise;

/// What fixes the tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MultiscaleImageConfig {
    /// Height and width of the pictures in pixels.
    pub size: usize,
    /// Encoder and decoder.
    pub autoencoder: AutoencoderConfig,
    /// Scales and codebook.
    pub quantizer: MultiscaleConfig,
}

impl MultiscaleImageConfig {
    /// # Errors
    /// [`Error::Config`] names the field that no tokenizer can be built from.
    pub fn validate(&self) -> Result<()> {
        check_codebook(&self.quantizer.codebook)?;
        self.autoencoder.validate(self.size)?;
        self.autoencoder
            .check_width(self.quantizer.codebook.width)?;
        let side = self.size / self.autoencoder.stride();
        let sides = &self.quantizer.sides;
        if sides.last() != Some(&side) || sides.contains(&0) || !sides.is_sorted() {
            return Err(Error::Config {
                field: "quantizer.sides".into(),
                found: format!("{sides:?}"),
                expected: format!("sides from small to {side}, the encoder's own"),
            });
        }
        Ok(())
    }

    /// A tokenizer with random weights.
    pub fn init(&self, device: &Device) -> MultiscaleImage {
        let width = self.quantizer.codebook.width;
        let (encoder, decoder) = self.autoencoder.init(width, device);
        MultiscaleImage {
            encoder,
            quantizer: self.quantizer.init(device),
            decoder,
        }
    }

    /// What the codes look like.
    pub fn spec(&self) -> ImageSpec {
        ImageSpec {
            codes: CodeSpec {
                codebook_size: self.quantizer.codebook.codebook_size,
                code_width: self.quantizer.codebook.width,
                depth: 1,
            },
            signal_size: (self.size, self.size),
            layout: Layout::square_scales(&self.quantizer.sides),
        }
    }
}

/// The weights.
#[derive(Module, Debug)]
pub struct MultiscaleImage {
    /// Pictures to latents.
    pub encoder: Encoder,
    /// The scales and their codebook.
    pub quantizer: MultiscaleQuantizer,
    /// Latents to pictures.
    pub decoder: Decoder,
}

impl MultiscaleImage {
    /// Pictures there and back. Without `quantize` the latents go to the decoder as they are.
    ///
    /// # Shapes
    /// - `pixels`: `[b, 3, size, size]`
    pub fn forward(&self, pixels: Tensor<4>, quantize: bool) -> TrainingOutput {
        let latents = self.encoder.forward(pixels);
        if !quantize {
            return TrainingOutput::plain(self.decoder.forward(latents.clone()), latents);
        }
        let found = self.quantizer.quantize(latents);
        TrainingOutput {
            pixels: self.decoder.forward(found.canvas),
            commitment: Some(found.commitment),
            canvas_loss: Some(found.canvas_loss),
            groups: found.groups,
            latents: None,
        }
    }
}

/// The tokenizer as the rest of Ravel sees it.
#[derive(Debug)]
pub struct MultiscaleImageTokenizer {
    module: MultiscaleImage,
    ready: ReadyDecoder,
    spec: ImageSpec,
}

impl MultiscaleImageTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: MultiscaleImage, config: &MultiscaleImageConfig) -> Self {
        Self {
            module,
            ready: ReadyDecoder::default(),
            spec: config.spec(),
        }
    }

    /// The picture that a canvas stands for, after any scale.
    ///
    /// # Shapes
    /// - `canvas`: `[b, code_width, h, w]`
    pub fn decode_canvas(&self, canvas: Tensor<4>) -> Images {
        Images {
            pixels: (self.ready.forward(&self.module.decoder, canvas)).clamp(-1.0, 1.0),
        }
    }
}

impl Tokenizer for MultiscaleImageTokenizer {
    type Signal = Images;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    fn encode(&self, signal: Images) -> Result<Codes> {
        let ids = self.module.quantizer.ids(self.latents(signal)?);
        Ok(Codes::flat(ids, self.spec.layout.clone()))
    }

    fn decode(&self, codes: &Codes) -> Result<Images> {
        codes.check(&self.spec.layout, 1, self.spec.codes.codebook_size)?;
        self.preview(codes)
    }
}

impl ImageTokenizer for MultiscaleImageTokenizer {
    fn image_spec(&self) -> &ImageSpec {
        &self.spec
    }

    fn preview(&self, codes: &Codes) -> Result<Images> {
        let (height, width) = self.sides()[0];
        if codes.filled() < height * width {
            return Err(Error::Codes {
                found: format!("{} filled positions", codes.filled()),
                expected: "one whole scale at least".into(),
            });
        }
        let canvas = self.module.quantizer.canvases(codes.at_depth(0)).pop();
        Ok(self.decode_canvas(canvas.expect("one scale is whole")))
    }

    fn latents(&self, signal: Images) -> Result<Tensor<4>> {
        check_size(&signal, self.spec.signal_size)?;
        Ok(self.module.encoder.forward(signal.pixels))
    }

    fn codebook(&self) -> Tensor<2> {
        self.module.quantizer.vector.rows()
    }

    fn decode_in(&mut self, kind: DecodeType) -> bool {
        self.ready.decode_in(kind);
        true
    }

    fn decode_within(&mut self, bytes: usize) -> bool {
        self.ready.decode_within(bytes);
        true
    }

    fn decode_products(&self) -> Option<u64> {
        let &(height, width) = self.sides().last()?;
        let decoder = &self.module.decoder;
        Some(self.ready.products(decoder, [height, width]))
    }

    fn pyramid(&self) -> Option<&dyn Pyramid> {
        Some(self)
    }
}

impl Pyramid for MultiscaleImageTokenizer {
    fn sides(&self) -> &[(usize, usize)] {
        self.module.quantizer.sides()
    }

    fn code_width(&self) -> usize {
        self.spec.codes.code_width
    }

    fn add_scale(&self, canvas: Option<Tensor<4>>, scale: usize, ids: Tensor<3, Int>) -> Tensor<4> {
        self.module.quantizer.add_scale(canvas, scale, ids)
    }

    fn features_for(&self, canvas: &Tensor<4>, scale: usize) -> Tensor<3> {
        self.module.quantizer.features_for(canvas, scale)
    }

    fn ids_for(
        &self,
        latents: Tensor<4>,
        canvas: Option<&Tensor<4>>,
        scale: usize,
    ) -> Tensor<3, Int> {
        self.module.quantizer.ids_for(latents, canvas, scale)
    }
}
