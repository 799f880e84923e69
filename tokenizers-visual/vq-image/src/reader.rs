//! The half of a tokenizer that reads pictures: for checkpoints that were published without a decoder (Chameleon).

use burn::module::Module;
use burn::tensor::Tensor;
use ravel_core::{CodeSpec, Codes, Error, ImageSpec, ImageTokenizer, Images, Result, Tokenizer};
use ravel_nn::conv::Encoder;
use ravel_quant::VectorQuantizer;

use crate::{VqImageConfig, check_size, sequence_from_grid};

/// The weights.
#[derive(Module, Debug)]
pub struct VqImageReader {
    /// E.
    pub encoder: Encoder,
    /// The codebook.
    pub quantizer: VectorQuantizer,
}

/// Pictures to codes; there is no way back.
#[derive(Debug)]
pub struct VqImageReaderTokenizer {
    module: VqImageReader,
    spec: ImageSpec,
}

impl VqImageReaderTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: VqImageReader, config: &VqImageConfig) -> Self {
        Self {
            module,
            spec: config.spec(),
        }
    }

    fn no_decoder() -> Error {
        Error::Codes {
            found: "no decoder: this checkpoint was published without one".into(),
            expected: "a tokenizer that also makes pictures".into(),
        }
    }
}

impl Tokenizer for VqImageReaderTokenizer {
    type Signal = Images;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    fn encode(&self, signal: Images) -> Result<Codes> {
        let latents = sequence_from_grid(self.latents(signal)?);
        let ids = self.module.quantizer.ids(latents);
        Ok(Codes::flat(ids, self.spec.layout.clone()))
    }

    /// # Errors
    /// Always: there is no decoder.
    fn decode(&self, _codes: &Codes) -> Result<Images> {
        Err(Self::no_decoder())
    }
}

impl ImageTokenizer for VqImageReaderTokenizer {
    fn image_spec(&self) -> &ImageSpec {
        &self.spec
    }

    /// # Errors
    /// Always: there is no decoder.
    fn preview(&self, _codes: &Codes) -> Result<Images> {
        Err(Self::no_decoder())
    }

    fn latents(&self, signal: Images) -> Result<Tensor<4>> {
        check_size(&signal, self.spec.signal_size)?;
        Ok(self.module.encoder.forward(signal.pixels))
    }

    fn codebook(&self) -> Tensor<2> {
        self.module.quantizer.rows()
    }
}
