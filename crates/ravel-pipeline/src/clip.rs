//! Tokenizers of whole clips.

use burn::tensor::Device;
use causal_video::CausalVideoTokenizer;
use ravel_core::{ClipSpec, ClipTokenizer, Error};
use ravel_families::{FamilyError, cosmos_dv, emu3_vq};
use vq_video::VqVideoTokenizer;
use wavelet_video::WaveletVideoTokenizer;

use crate::tokenizer_part::{TokenizerPart, of_part};
use crate::{PipelineError, Source};

impl TokenizerPart {
    /// Whether it codes clips, each as a whole.
    pub fn is_clip(&self) -> bool {
        matches!(
            self,
            Self::CausalVideo { .. } | Self::Emu3Vq { .. } | Self::CosmosDv { .. }
        )
    }

    /// What the codes of clips look like.
    ///
    /// # Errors
    /// [`Error::Config`] names the field that no tokenizer of clips can be built from.
    pub fn clip_spec(&self) -> ravel_core::Result<ClipSpec> {
        match self {
            Self::CausalVideo { config, .. } => {
                config.validate().map(|()| config.spec().clip_spec())
            }
            Self::Emu3Vq { config, .. } => {
                let sizes = of_part(config.0.tokenizer())?;
                in_colour(sizes.in_channels, sizes.out_channels).map(|()| sizes.clip_spec())
            }
            Self::CosmosDv { config, .. } => {
                let sizes = of_part(config.0.tokenizer())?;
                in_colour(sizes.in_channels, sizes.out_channels).map(|()| sizes.clip_spec())
            }
            other => Err(Error::Config {
                field: "tokenizer.kind".into(),
                found: other.kind().into(),
                expected: "a tokenizer of clips".into(),
            }),
        }
    }
}

/// Clips have red, green and blue.
fn in_colour(read: usize, made: usize) -> ravel_core::Result<()> {
    match (read, made) {
        (3, 3) => Ok(()),
        (read, made) => Err(Error::Config {
            field: "tokenizer.config.in_channels, out_channels".into(),
            found: format!("{read}, {made}"),
            expected: "3 for both".into(),
        }),
    }
}

/// Builds the tokenizer of clips of a definition.
///
/// # Errors
/// [`PipelineError`] if a size is impossible or the weights do not fit.
pub fn build_clip_tokenizer(
    part: &TokenizerPart,
    source: &Source,
    device: &Device,
) -> Result<Box<dyn ClipTokenizer>, PipelineError> {
    part.clip_spec().map_err(|source| PipelineError::Part {
        name: "tokenizer".into(),
        source,
    })?;
    let checkpoint = source.checkpoint(part.weights())?;
    let built: Result<Box<dyn ClipTokenizer>, FamilyError> = match part {
        TokenizerPart::CausalVideo { config, .. } => {
            ravel_weights::load(config.init(device), &checkpoint, "")
                .map(|module| Box::new(CausalVideoTokenizer::new(module, config)) as _)
                .map_err(FamilyError::Weights)
        }
        TokenizerPart::Emu3Vq { config, .. } => emu3_vq::build(&config.0, checkpoint, device)
            .map(|module| Box::new(VqVideoTokenizer::new(module)) as _),
        TokenizerPart::CosmosDv { config, .. } => cosmos_dv::build(&config.0, checkpoint, device)
            .map(|module| Box::new(WaveletVideoTokenizer::new(module)) as _),
        _ => unreachable!("its clip_spec() is an error"),
    };
    built.map_err(|error| match error {
        FamilyError::Weights(error) => PipelineError::Weights(error.to_string()),
        other => other.into(),
    })
}
