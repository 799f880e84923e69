//! From a definition to built parts.

use burn::tensor::Device;
use causal_video::{CausalVideoTokenizer, PerFrame};
use multiscale_image::{BitwiseImageTokenizer, MultiscaleImageConfig, MultiscaleImageTokenizer};
use ravel_backbone::Transformer;
use ravel_core::{Backbone, Decoding, Head, ImageTokenizer, VideoTokenizer};
use ravel_decode::SamplerConfig;
use ravel_families::{FamilyError, chameleon_vq, infinity_vae, janus_vq};
use ravel_heads::{HeadConfig, PrefixConfig};
use ravel_text::Subwords;
use ravel_weights::{WeightsError, check_parts, draw, load, sha256_hex};
use vq_image::{VqImageConfig, VqImageReaderTokenizer, VqImageTokenizer};

use crate::conditioner::{Conditioner, WordConditioner};
use crate::definition::{BackbonePart, Definition};
use crate::tokenizer_part::TokenizerPart;
use crate::{PipelineError, Source, image_model};

/// Hexadecimal digits of a pipeline's fingerprint.
pub(crate) const HASH_DIGITS: usize = 16;

/// The parts of a text-to-image pipeline, ready to run.
pub struct Parts {
    /// Reads prompts and makes of them what steers a picture.
    pub conditioner: Conditioner,
    /// The sequence model.
    pub backbone: Box<dyn Backbone>,
    /// What is predicted.
    pub head: Box<dyn Head>,
    /// What turns codes into pictures.
    pub tokenizer: Box<dyn ImageTokenizer>,
    /// The loop over units.
    pub decoding: Box<dyn Decoding>,
    /// Sampling settings where a request names none.
    pub sampler: SamplerConfig,
    /// The pipeline's name.
    pub name: String,
    /// Fingerprint of the definition and all its files.
    pub hash: String,
    /// Where it runs.
    pub device: Device,
}

/// What went wrong with weights, collected from all files before anything is reported.
#[derive(Default)]
pub(crate) struct Faults(Vec<String>);

impl Faults {
    pub(crate) fn keep<T>(&mut self, result: Result<T, WeightsError>) -> Option<T> {
        result.map_err(|error| self.0.push(error.to_string())).ok()
    }

    /// As [`Faults::keep`]; what is no matter of weights is an error at once.
    pub(crate) fn keep_family<T>(
        &mut self,
        result: Result<T, FamilyError>,
    ) -> Result<Option<T>, PipelineError> {
        match result {
            Err(FamilyError::Weights(error)) => Ok(self.keep(Err(error))),
            other => Ok(Some(other?)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn report(self) -> PipelineError {
        PipelineError::Weights(self.0.join("; "))
    }
}

/// Builds the tokenizer of a definition.
///
/// # Errors
/// [`PipelineError`] if a size is impossible or the weights do not fit.
pub fn build_tokenizer(
    part: &TokenizerPart,
    source: &Source,
    device: &Device,
) -> Result<Box<dyn ImageTokenizer>, PipelineError> {
    let mut faults = Faults::default();
    tokenizer(part, source, device, &mut faults)?.ok_or_else(|| faults.report())
}

pub(crate) fn tokenizer(
    part: &TokenizerPart,
    source: &Source,
    device: &Device,
    faults: &mut Faults,
) -> Result<Option<Box<dyn ImageTokenizer>>, PipelineError> {
    part.spec().map_err(|source| PipelineError::Part {
        name: "tokenizer".into(),
        source,
    })?;
    let Some(checkpoint) = faults.keep(source.weights(part.weights())?) else {
        return Ok(None);
    };
    Ok(match part {
        TokenizerPart::VqImage { config, .. } => faults
            .keep(load(config.init(device), &checkpoint, ""))
            .map(|module| Box::new(VqImageTokenizer::new(module, config)) as _),
        TokenizerPart::MultiscaleImage { config, .. } => faults
            .keep(load(config.init(device), &checkpoint, ""))
            .map(|module| Box::new(MultiscaleImageTokenizer::new(module, config)) as _),
        TokenizerPart::LlamagenVq { config, size, .. } => faults
            .keep_family(config.0.load(checkpoint, device))?
            .map(|module| Box::new(VqImageTokenizer::new(module, &config.0.tokenizer(*size))) as _),
        TokenizerPart::VarVqvae { config, .. } => faults
            .keep_family(config.0.load(checkpoint, device))?
            .map(|module| {
                let config = config.0.tokenizer();
                Box::new(MultiscaleImageTokenizer::new(module, &config)) as _
            }),
        TokenizerPart::JanusVq { config, .. } => {
            let sizes = config.0.tokenizer()?;
            faults
                .keep_family(janus_vq::build(&config.0, checkpoint, device))?
                .map(|module| Box::new(VqImageTokenizer::new(module, &sizes)) as _)
        }
        TokenizerPart::ChameleonVq { config, .. } => {
            let sizes = config.0.tokenizer()?;
            faults
                .keep_family(chameleon_vq::build(&config.0, checkpoint, device))?
                .map(|module| Box::new(VqImageReaderTokenizer::new(module, &sizes)) as _)
        }
        TokenizerPart::InfinityVae { config, .. } => {
            let sizes = config.0.tokenizer()?;
            faults
                .keep_family(infinity_vae::build(&config.0, checkpoint, device))?
                .map(|module| Box::new(BitwiseImageTokenizer::new(module, &sizes)) as _)
        }
        _ => unreachable!("its spec() is an error"),
    })
}

/// The tokenizer of an image model with random weights, which follow from the device's seed. No file of weights is looked for.
///
/// # Errors
/// [`PipelineError`] if a size is impossible, or the tokenizer is none that a generator of pictures has.
pub fn fresh_tokenizer(
    part: &TokenizerPart,
    device: &Device,
) -> Result<Box<dyn ImageTokenizer>, PipelineError> {
    part.spec().map_err(|source| PipelineError::Part {
        name: "tokenizer".into(),
        source,
    })?;
    let grid = |config: &VqImageConfig| -> Box<dyn ImageTokenizer> {
        let module = config.init(device);
        draw(&module);
        Box::new(VqImageTokenizer::new(module, config))
    };
    let pyramid = |config: &MultiscaleImageConfig| -> Box<dyn ImageTokenizer> {
        let module = config.init(device);
        draw(&module);
        Box::new(MultiscaleImageTokenizer::new(module, config))
    };
    Ok(match part {
        TokenizerPart::VqImage { config, .. } => grid(config),
        TokenizerPart::LlamagenVq { config, size, .. } => grid(&config.0.tokenizer(*size)),
        TokenizerPart::MultiscaleImage { config, .. } => pyramid(config),
        TokenizerPart::VarVqvae { config, .. } => pyramid(&config.0.tokenizer()),
        TokenizerPart::JanusVq { config, .. } => grid(&config.0.tokenizer()?),
        other => {
            return Err(PipelineError::Part {
                name: "tokenizer".into(),
                source: ravel_core::Error::Config {
                    field: "tokenizer.kind".into(),
                    found: other.kind().into(),
                    expected: "one that makes the pictures of a generator".into(),
                },
            });
        }
    })
}

/// Builds the video tokenizer of a definition. An image tokenizer with one grid of codes stands in for one, frame by frame.
///
/// # Errors
/// [`PipelineError`] if a size is impossible or the weights do not fit.
pub fn build_video_tokenizer(
    part: &TokenizerPart,
    source: &Source,
    device: &Device,
) -> Result<Box<dyn VideoTokenizer>, PipelineError> {
    let wrong = |source| PipelineError::Part {
        name: "tokenizer".into(),
        source,
    };
    let TokenizerPart::CausalVideo { config, weights } = part else {
        let image = build_tokenizer(part, source, device)?;
        return Ok(Box::new(PerFrame::new(image).map_err(wrong)?));
    };
    config.validate().map_err(wrong)?;
    let mut faults = Faults::default();
    faults
        .keep(source.weights(weights)?)
        .and_then(|checkpoint| faults.keep(load(config.init(device), &checkpoint, "")))
        .map(|module| Box::new(CausalVideoTokenizer::new(module, config)) as _)
        .ok_or_else(|| faults.report())
}

/// Builds all parts of a text-to-image definition.
///
/// # Errors
/// [`PipelineError`]; missing, unused and misshapen tensors of all weight files are reported together.
pub fn build(
    definition: &Definition,
    source: &Source,
    device: &Device,
) -> Result<Parts, PipelineError> {
    definition.check(source)?;
    if let Some(model) = &definition.model {
        return image_model::build(definition, model, source, device);
    }
    let (text, backbone, head) = definition.generator_parts()?;
    let (file, length) = definition.subwords(text)?;
    let BackbonePart::Transformer { config } = backbone;
    let weights = definition.weights.as_deref().unwrap_or_default();
    let text_bytes = source.read(file)?;
    let subwords = Subwords::from_bytes(&text_bytes, file)?;
    let prefix = PrefixConfig {
        vocabulary_size: subwords.vocabulary_size(),
        len: length,
        ..PrefixConfig::default()
    };
    let mut faults = Faults::default();
    let tokenizer_part = definition.tokenizer_part()?;
    let tokenizer = tokenizer(tokenizer_part, source, device, &mut faults)?;
    let checkpoint = source.weights(weights)?;
    let spec = tokenizer_part
        .spec()
        .map_err(|source| PipelineError::Part {
            name: definition.name.clone(),
            source,
        })?;
    let width = config.d_model;
    let mut prefix_embedding = None;
    let mut transformer: Option<Transformer> = None;
    let mut built_head: Option<Box<dyn Head>> = None;
    if let Some(checkpoint) = faults.keep(checkpoint) {
        prefix_embedding = faults.keep(load(prefix.init(width, device), &checkpoint, "prefix"));
        transformer = faults.keep(load(config.init(device), &checkpoint, "backbone"));
        faults.keep(check_parts(&checkpoint, &["prefix", "backbone", "head"]));
        let (axes, layout) = (config.axes(), &spec.layout);
        built_head = match head {
            HeadConfig::NextToken(head) => faults
                .keep(load(
                    head.init(width, axes, layout, device),
                    &checkpoint,
                    "head",
                ))
                .map(|head| Box::new(definition.weights_type.kept(head)) as _),
            HeadConfig::NextScale(head) => faults
                .keep(load(
                    head.init(width, axes, layout, device),
                    &checkpoint,
                    "head",
                ))
                .map(|head| Box::new(definition.weights_type.kept(head)) as _),
            HeadConfig::NextFrame(_) | HeadConfig::NextTokens(_) => {
                unreachable!("the definition was checked")
            }
        };
    }
    let (Some(tokenizer), Some(prefix), Some(backbone), Some(head), true) = (
        tokenizer,
        prefix_embedding,
        transformer,
        built_head,
        faults.is_empty(),
    ) else {
        return Err(faults.report());
    };
    Ok(Parts {
        conditioner: Conditioner::Words(WordConditioner {
            subwords,
            length,
            prefix,
        }),
        backbone: Box::new(definition.weights_type.kept(backbone)),
        head,
        tokenizer,
        decoding: definition.decoding.build(&[]),
        sampler: definition.sampler.clone(),
        name: definition.name.clone(),
        hash: fingerprint(definition, source)?,
        device: device.clone(),
    })
}

/// A fingerprint of a definition and its files.
pub(crate) fn fingerprint(
    definition: &Definition,
    source: &Source,
) -> Result<String, PipelineError> {
    let mut all = definition.to_toml().into_bytes();
    for file in definition.files() {
        all.extend(source.sha256(file)?.bytes());
    }
    Ok(sha256_hex(&all)[..HASH_DIGITS].to_string())
}
