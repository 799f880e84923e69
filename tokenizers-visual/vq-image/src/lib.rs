//! Image tokenizer with one grid of codes: a convolutional encoder and decoder around a vector quantizer.
//!
//! The VQ-GAN family (Esser et al. 2021; van den Oord et al. 2017): a picture of `size` pixels a side becomes
//! `(size / stride)²` ids of one codebook.
//!
//! Symbols: `latents` is z = E(x), `vectors` is z_q, [`VqImage::forward`] is G(z_q).

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ravel_core::{
    CodeSpec, Codes, DecodeType, Error, ImageSpec, ImageTokenizer, Images, Layout, Result,
    Tokenizer,
};
use ravel_nn::conv::{AutoencoderConfig, Decoder, Encoder, ReadyDecoder};
use ravel_nn::unit_length;
use ravel_quant::{VectorConfig, VectorQuantizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use reader::{VqImageReader, VqImageReaderTokenizer};
pub use training::TrainingOutput;

mod reader;
mod training;

/// What fixes the tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VqImageConfig {
    /// Height and width of the pictures in pixels.
    pub size: usize,
    /// Encoder and decoder.
    pub autoencoder: AutoencoderConfig,
    /// The codebook.
    pub codebook: VectorConfig,
    /// Whether the decoder reads code vectors at unit length although they are compared as they are: so does Janus in
    /// the transformers library, while its own code compares them at unit length too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unit_vectors: bool,
}

impl VqImageConfig {
    /// # Errors
    /// [`Error::Config`] names the field that no tokenizer can be built from.
    pub fn validate(&self) -> Result<()> {
        check_codebook(&self.codebook)?;
        self.autoencoder.validate(self.size)?;
        self.autoencoder.check_width(self.codebook.width)
    }

    /// A tokenizer with random weights.
    pub fn init(&self, device: &Device) -> VqImage {
        let (encoder, decoder) = self.autoencoder.init(self.codebook.width, device);
        VqImage {
            encoder,
            quantizer: self.codebook.init(device),
            decoder,
            unit_vectors: self.unit_vectors,
        }
    }

    /// The half that reads pictures, with random weights.
    pub fn init_reader(&self, device: &Device) -> VqImageReader {
        let (encoder, _) = self.autoencoder.init(self.codebook.width, device);
        VqImageReader {
            encoder,
            quantizer: self.codebook.init(device),
        }
    }

    /// What the codes look like.
    pub fn spec(&self) -> ImageSpec {
        let side = self.size / self.autoencoder.stride();
        ImageSpec {
            codes: CodeSpec {
                codebook_size: self.codebook.codebook_size,
                code_width: self.codebook.width,
                depth: 1,
            },
            signal_size: (self.size, self.size),
            layout: Layout::Grid {
                height: side,
                width: side,
            },
        }
    }
}

/// # Errors
/// [`Error::Config`] if the codebook has no ids or no width.
pub fn check_codebook(config: &VectorConfig) -> Result<()> {
    match config.codebook_size.min(config.width) {
        0 => Err(Error::Config {
            field: "codebook-size, width".into(),
            found: format!("{}, {}", config.codebook_size, config.width),
            expected: "numbers of at least 1".into(),
        }),
        _ => Ok(()),
    }
}

/// The weights.
#[derive(Module, Debug)]
pub struct VqImage {
    /// E.
    pub encoder: Encoder,
    /// The codebook.
    pub quantizer: VectorQuantizer,
    /// G.
    pub decoder: Decoder,
    /// Whether the decoder reads code vectors at unit length.
    pub unit_vectors: bool,
}

impl VqImage {
    /// What the decoder makes of ids.
    ///
    /// # Shapes
    /// - `ids`: `[b, h * w]`
    /// - returns: `[b, 3, h * stride, w * stride]`, not clamped
    pub fn decode(&self, ids: Tensor<2, Int>, height: usize, width: usize) -> Tensor<4> {
        self.decoder
            .forward(self.read_by_decoder(ids, height, width))
    }

    /// What the decoder reads of ids, `[b, d, h, w]`.
    fn read_by_decoder(&self, ids: Tensor<2, Int>, height: usize, width: usize) -> Tensor<4> {
        let vectors = self.as_decoded(self.quantizer.vectors(ids));
        grid_from_sequence(vectors, height, width)
    }

    fn as_decoded(&self, vectors: Tensor<3>) -> Tensor<3> {
        match self.unit_vectors {
            true => unit_length(vectors, 1e-12),
            false => vectors,
        }
    }

    /// Pictures there and back. Without `quantize` the latents go to the decoder as they are.
    ///
    /// # Shapes
    /// - `pixels`: `[b, 3, size, size]`
    pub fn forward(&self, pixels: Tensor<4>, quantize: bool) -> TrainingOutput {
        let latents = self.encoder.forward(pixels);
        if !quantize {
            return TrainingOutput::plain(self.decoder.forward(latents.clone()), latents);
        }
        let [_, _, height, width] = latents.dims();
        let flat = sequence_from_grid(latents);
        let found = self.quantizer.quantize(flat.clone());
        let vectors = grid_from_sequence(self.as_decoded(found.vectors), height, width);
        let looked_up = flat.detach();
        let looked_up = if looked_up.is_autodiff() {
            looked_up.inner()
        } else {
            looked_up
        };
        TrainingOutput {
            pixels: self.decoder.forward(vectors),
            commitment: Some(found.commitment),
            canvas_loss: None,
            groups: vec![(looked_up.flatten(0, 1), found.ids.clone().flatten(0, 1))],
            latents: None,
        }
    }
}

/// `[b, d, h, w]` to `[b, h * w, d]`.
pub fn sequence_from_grid(grid: Tensor<4>) -> Tensor<3> {
    let [batch, depth, height, width] = grid.dims();
    grid.reshape([batch, depth, height * width]).swap_dims(1, 2)
}

/// `[b, h * w, d]` to `[b, d, h, w]`.
pub fn grid_from_sequence(sequence: Tensor<3>, height: usize, width: usize) -> Tensor<4> {
    let [batch, _, depth] = sequence.dims();
    sequence
        .swap_dims(1, 2)
        .reshape([batch, depth, height, width])
}

/// Checks a batch of pictures against the size that a tokenizer takes.
///
/// # Errors
/// [`Error::Signal`] names both sizes.
pub fn check_size(signal: &Images, (height, width): (usize, usize)) -> Result<()> {
    let [_, channels, found_height, found_width] = signal.pixels.dims();
    if (channels, found_height, found_width) == (3, height, width) {
        return Ok(());
    }
    Err(Error::Signal {
        found: format!("{found_width} x {found_height} pixels of {channels} channels"),
        expected: format!("{width} x {height} pixels of 3 channels"),
    })
}

/// The tokenizer as the rest of Ravel sees it.
#[derive(Debug)]
pub struct VqImageTokenizer {
    module: VqImage,
    ready: ReadyDecoder,
    spec: ImageSpec,
}

impl VqImageTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: VqImage, config: &VqImageConfig) -> Self {
        Self {
            module,
            ready: ReadyDecoder::default(),
            spec: config.spec(),
        }
    }

    fn pixels(&self, grid: Tensor<4>) -> Images {
        let pixels = self.ready.forward(&self.module.decoder, grid);
        Images {
            pixels: pixels.clamp(-1.0, 1.0),
        }
    }
}

impl Tokenizer for VqImageTokenizer {
    type Signal = Images;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    fn encode(&self, signal: Images) -> Result<Codes> {
        let latents = sequence_from_grid(self.latents(signal)?);
        let ids = self.module.quantizer.ids(latents);
        Ok(Codes::flat(ids, self.spec.layout.clone()))
    }

    fn decode(&self, codes: &Codes) -> Result<Images> {
        codes.check(&self.spec.layout, 1, self.spec.codes.codebook_size)?;
        let Layout::Grid { height, width } = self.spec.layout else {
            unreachable!("this tokenizer's layout is a grid");
        };
        let ids = codes.at_depth(0);
        Ok(self.pixels(self.module.read_by_decoder(ids, height, width)))
    }
}

impl ImageTokenizer for VqImageTokenizer {
    fn image_spec(&self) -> &ImageSpec {
        &self.spec
    }

    /// Cells without an id yet hold the codebook's mean.
    fn preview(&self, codes: &Codes) -> Result<Images> {
        if codes.filled() >= self.spec.layout.len() {
            return self.decode(codes);
        }
        let Layout::Grid { height, width } = self.spec.layout else {
            unreachable!("this tokenizer's layout is a grid");
        };
        let rows = self.module.quantizer.rows();
        let missing = [
            codes.batch(),
            height * width - codes.filled(),
            self.spec.codes.code_width,
        ];
        let mean = rows.mean_dim(0).unsqueeze_dim::<3>(0).expand(missing);
        let vectors = match codes.filled() {
            0 => mean,
            _ => Tensor::cat(
                vec![self.module.quantizer.vectors(codes.at_depth(0)), mean],
                1,
            ),
        };
        let grid = grid_from_sequence(self.module.as_decoded(vectors), height, width);
        Ok(self.pixels(grid))
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
        let Layout::Grid { height, width } = self.spec.layout else {
            unreachable!("this tokenizer's layout is a grid");
        };
        let decoder = &self.module.decoder;
        Some(self.ready.products(decoder, [height, width]))
    }

    fn latents(&self, signal: Images) -> Result<Tensor<4>> {
        check_size(&signal, self.spec.signal_size)?;
        Ok(self.module.encoder.forward(signal.pixels))
    }

    fn codebook(&self) -> Tensor<2> {
        self.module.quantizer.rows()
    }
}
