//! From a definition to the built parts of a video pipeline.

use burn::tensor::Device;
use ravel_core::{Backbone, FrameHead, VideoTokenizer};
use ravel_decode::{FillingConfig, SamplerConfig};
use ravel_heads::{PrefixConfig, PrefixEmbedding};
use ravel_text::Subwords;
use ravel_weights::{check_parts, load};

use crate::build::{Faults, build_video_tokenizer, fingerprint};
use crate::definition::Definition;
use crate::{PipelineError, Source};

/// The parts of a video pipeline, ready to run.
pub struct VideoParts {
    /// What turns codes into frames.
    pub tokenizer: Box<dyn VideoTokenizer>,
    /// The sequence model.
    pub backbone: Box<dyn Backbone>,
    /// What is predicted.
    pub head: Box<dyn FrameHead>,
    /// How a prompt conditions it, where it does.
    pub text: Option<TextParts>,
    /// How a frame is filled where a request does not say.
    pub filling: FillingConfig,
    /// Sampling settings where a request names none.
    pub sampler: SamplerConfig,
    /// The pipeline's name.
    pub name: String,
    /// Fingerprint of the definition and all its files.
    pub hash: String,
    /// Where it runs.
    pub device: Device,
}

/// How prompts become positions in front of the frames.
pub struct TextParts {
    /// Splits prompts.
    pub subwords: Subwords,
    /// Positions of every prompt.
    pub length: usize,
    /// Embeds prompts.
    pub prefix: PrefixEmbedding,
}

/// Builds all parts of a video-continuation definition.
///
/// # Errors
/// [`PipelineError`]; missing, unused and misshapen tensors of the generator's weights are reported together.
pub fn build_video(
    definition: &Definition,
    source: &Source,
    device: &Device,
) -> Result<VideoParts, PipelineError> {
    definition.check(source)?;
    let (config, head) = definition.video_parts()?;
    let tokenizer = build_video_tokenizer(definition.tokenizer_part()?, source, device)?;
    let weights = definition.weights.as_deref().unwrap_or_default();
    let mut faults = Faults::default();
    let checkpoint = source.weights(weights)?;
    let Some(checkpoint) = faults.keep(checkpoint) else {
        return Err(faults.report());
    };
    faults.keep(check_parts(&checkpoint, &["prefix", "backbone", "head"]));
    let text = match &definition.text {
        None => None,
        Some(text) => {
            let (file, length) = definition.subwords(text)?;
            let subwords = Subwords::from_bytes(&source.read(file)?, file)?;
            let prefix = PrefixConfig {
                vocabulary_size: subwords.vocabulary_size(),
                len: length,
                ..PrefixConfig::default()
            };
            let prefix = prefix.init(config.d_model, device);
            faults
                .keep(load(prefix, &checkpoint, "prefix"))
                .map(|prefix| TextParts {
                    subwords,
                    length,
                    prefix,
                })
        }
    };
    let backbone = faults.keep(load(config.init(device), &checkpoint, "backbone"));
    let grid = tokenizer.video_spec().grid;
    let head = head.init(config.d_model, grid, device);
    let head = faults.keep(load(head, &checkpoint, "head"));
    let (Some(backbone), Some(head), true) = (backbone, head, faults.is_empty()) else {
        return Err(faults.report());
    };
    Ok(VideoParts {
        tokenizer,
        backbone: Box::new(definition.weights_type.kept(backbone)),
        head: Box::new(definition.weights_type.kept(head)),
        text,
        filling: definition.filling.clone().unwrap_or_default(),
        sampler: definition.sampler.clone(),
        name: definition.name.clone(),
        hash: fingerprint(definition, source)?,
        device: device.clone(),
    })
}
