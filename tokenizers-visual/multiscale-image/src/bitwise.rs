//! Image tokenizer with a pyramid of bits.
//!
//! Han et al. 2024 (Infinity), section 3.2: every scale is coded by the signs of what the earlier ones left, so a position holds
//! `bits` bits rather than one id. As [`Codes`] a bit is a depth: two ids, `bits` deep.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ravel_core::{
    CodeSpec, Codes, DecodeType, Error, ImageSpec, ImageTokenizer, Images, Layout, Pyramid, Result,
    Tokenizer,
};
use ravel_nn::conv::{AutoencoderConfig, Decoder, Encoder, ReadyDecoder, pixel_unshuffle};
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
    /// Cells a side that make one position of codes (Infinity's `apply_spatial_patchify`: 2).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub patch: usize,
}

fn one() -> usize {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_one(patch: &usize) -> bool {
    *patch == 1
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
        let whole = |[_, rows, columns]: &[usize; 3]| {
            rows.is_multiple_of(self.patch) && columns.is_multiple_of(self.patch)
        };
        if self.patch == 0 || !scales.iter().all(whole) {
            return Err(Error::Config {
                field: "patch".into(),
                found: self.patch.to_string(),
                expected: "a number that divides the sides of all scales".into(),
            });
        }
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
        let patch = self.patch;
        let sides = self.quantizer.scales.iter();
        let sides = sides.map(|[_, rows, columns]| (rows / patch, columns / patch));
        ImageSpec {
            codes: CodeSpec {
                codebook_size: 2,
                code_width: 1,
                depth: self.quantizer.bits * patch * patch,
            },
            signal_size: self.size.into(),
            layout: Layout::Scales {
                sides: sides.collect(),
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
    /// Cells a side of a position.
    patch: usize,
}

impl BitwiseImageTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: BitwiseImage, config: &BitwiseImageConfig) -> Self {
        Self {
            module,
            ready: ReadyDecoder::default(),
            spec: config.spec(),
            patch: config.patch,
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
        let filled = ids.dims()[2];
        let mut start = 0;
        let mut scales = Vec::new();
        for &(rows, columns) in self.sides() {
            let end = start + rows * columns;
            if end > filled {
                break;
            }
            let part = ids.clone().narrow(2, start, end - start);
            scales.push(self.bits_of(part, (rows, columns)));
            start = end;
        }
        scales
    }

    /// The bits of one scale's ids: `[b, depth, n]` to `[b, 1, h_k, w_k, bits]`. A position holds the bits of its cells, bit by bit.
    fn bits_of(&self, ids: Tensor<3, Int>, (rows, columns): (usize, usize)) -> Tensor<5, Int> {
        let [batch, depth, _] = ids.dims();
        let patch = self.patch;
        let bits = depth / (patch * patch);
        ids.reshape([batch, bits, patch, patch, rows, columns])
            .permute([0, 4, 2, 5, 3, 1])
            .reshape([batch, 1, rows * patch, columns * patch, bits])
    }

    /// The inverse of [`BitwiseImageTokenizer::bits_of`].
    fn ids_of(&self, bits: Tensor<5, Int>) -> Tensor<3, Int> {
        let [batch, _, height, width, depth] = bits.dims();
        let patch = self.patch;
        let (rows, columns) = (height / patch, width / patch);
        bits.reshape([batch, rows, patch, columns, patch, depth])
            .permute([0, 5, 2, 4, 1, 3])
            .reshape([batch, depth * patch * patch, rows * columns])
    }

    /// Height and width of the canvas.
    fn canvas_size(&self) -> (usize, usize) {
        let (rows, columns) = *self.sides().last().expect("there is a scale");
        (rows * self.patch, columns * self.patch)
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
        let flat = bits.into_iter().map(|bits| self.ids_of(bits));
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

impl Pyramid for BitwiseImageTokenizer {
    fn sides(&self) -> &[(usize, usize)] {
        Self::sides(self)
    }

    fn code_width(&self) -> usize {
        self.spec.codes.depth * self.spec.codes.code_width
    }

    fn add_scale(&self, canvas: Option<Tensor<4>>, scale: usize, ids: Tensor<3, Int>) -> Tensor<4> {
        let bits = self.bits_of(ids, self.sides()[scale]);
        let canvas = canvas.map(|canvas| canvas.unsqueeze_dim(2));
        let added = self.module.quantizer.add_scale(canvas, scale, bits);
        added.squeeze_dim(2)
    }

    fn features_for(&self, canvas: &Tensor<4>, scale: usize) -> Tensor<3> {
        let canvas = canvas.clone().unsqueeze_dim(2);
        let shown = self.module.quantizer.interpolated_for(canvas, scale);
        let cells = pixel_unshuffle(shown.squeeze_dim(2), self.patch);
        let [batch, width, rows, columns] = cells.dims();
        cells
            .reshape([batch, width, rows * columns])
            .swap_dims(1, 2)
    }

    fn ids_for(
        &self,
        latents: Tensor<4>,
        canvas: Option<&Tensor<4>>,
        scale: usize,
    ) -> Tensor<3, Int> {
        let canvas = canvas.map(|canvas| canvas.clone().unsqueeze_dim(2));
        let latents = latents.unsqueeze_dim(2);
        self.ids_of(self.module.quantizer.bits_for(latents, canvas, scale))
    }
}

impl ImageTokenizer for BitwiseImageTokenizer {
    fn image_spec(&self) -> &ImageSpec {
        &self.spec
    }

    fn preview(&self, codes: &Codes) -> Result<Images> {
        let (height, width) = self.canvas_size();
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

    fn decode_within(&mut self, bytes: usize) -> bool {
        self.ready.decode_within(bytes);
        true
    }

    /// What a bit stands for.
    fn codebook(&self) -> Tensor<2> {
        let bits = self.spec.codes.depth / (self.patch * self.patch);
        let reach = 1.0 / (bits as f32).sqrt();
        Tensor::from_floats([[-reach], [reach]], &self.module.devices()[0])
    }

    fn pyramid(&self) -> Option<&dyn Pyramid> {
        Some(self)
    }
}
