//! Tokenizers of sound.

use burn::tensor::Device;
use multirate_codec::SnacTokenizer;
use ravel_core::{Error, SoundSpec, SoundTokenizer};
use ravel_families::{FamilyError, dac, encodec, firefly, mimi, snac};
use rvq_codec::{
    DacTokenizer, EncodecTokenizer, FireflyTokenizer, MimiTokenizer, SpectralTokenizer,
};

use crate::definition::Definition;
use crate::tokenizer_part::TokenizerPart;
use crate::{PipelineError, Source};

impl TokenizerPart {
    /// Whether it codes sound.
    pub fn is_sound(&self) -> bool {
        matches!(
            self,
            Self::Encodec { .. }
                | Self::Dac { .. }
                | Self::Snac { .. }
                | Self::Mimi { .. }
                | Self::Firefly { .. }
                | Self::SpectralCodec { .. }
        )
    }

    /// What the codes of sound look like.
    ///
    /// # Errors
    /// [`Error::Config`] names the field that no sound tokenizer can be built from.
    pub fn sound_spec(&self) -> ravel_core::Result<SoundSpec> {
        match self {
            Self::Encodec { config, .. } => config.validate().map(|()| config.spec()),
            Self::Dac { config, .. } => config.validate().map(|()| config.spec()),
            Self::Snac { config, .. } => config.validate().map(|()| config.spec()),
            Self::Mimi { config, .. } => config.validate().map(|()| config.spec()),
            Self::Firefly { config, .. } => config.validate().map(|()| config.spec()),
            Self::SpectralCodec { config, .. } => config.validate().map(|()| config.spec()),
            other => Err(Error::Config {
                field: "tokenizer.kind".into(),
                found: other.kind().into(),
                expected: "a tokenizer of sound".into(),
            }),
        }
    }
}

impl Definition {
    /// Checks all that can be known of a tokenizer of sound without building it.
    pub(crate) fn check_sound(&self, source: &Source) -> Result<(), PipelineError> {
        let tokenizer = self.tokenizer_part()?;
        tokenizer
            .sound_spec()
            .map_err(|source| PipelineError::Part {
                name: self.name.clone(),
                source,
            })?;
        let checked = source.check(tokenizer.weights());
        checked.map_err(|error| error.of(&self.name))
    }
}

/// Builds the tokenizer of sound of a definition.
///
/// # Errors
/// [`PipelineError`] if a size is impossible or the weights do not fit.
pub fn build_sound_tokenizer(
    part: &TokenizerPart,
    source: &Source,
    device: &Device,
) -> Result<Box<dyn SoundTokenizer>, PipelineError> {
    part.sound_spec().map_err(|source| PipelineError::Part {
        name: "tokenizer".into(),
        source,
    })?;
    let checkpoint = source.checkpoint(part.weights())?;
    let built: Result<Box<dyn SoundTokenizer>, FamilyError> = match part {
        TokenizerPart::Encodec { config, .. } => encodec::module(config, checkpoint, device)
            .map(|module| Box::new(EncodecTokenizer::new(module, config)) as _),
        TokenizerPart::Dac { config, .. } => dac::module(config, checkpoint, device)
            .map(|module| Box::new(DacTokenizer::new(module, config)) as _),
        TokenizerPart::Snac { config, .. } => snac::module(config, checkpoint, device)
            .map(|module| Box::new(SnacTokenizer::new(module, config)) as _),
        TokenizerPart::Mimi { config, .. } => mimi::module(config, checkpoint, device)
            .map(|module| Box::new(MimiTokenizer::new(module, config)) as _),
        TokenizerPart::Firefly { config, .. } => firefly::module(config, checkpoint, device)
            .map(|module| Box::new(FireflyTokenizer::new(module, config, device)) as _),
        TokenizerPart::SpectralCodec { config, .. } => {
            ravel_weights::load(config.init(device), &checkpoint, "")
                .map(|module| Box::new(SpectralTokenizer::new(module, config, device)) as _)
                .map_err(FamilyError::Weights)
        }
        _ => unreachable!("its sound_spec() is an error"),
    };
    built.map_err(|error| match error {
        FamilyError::Weights(error) => PipelineError::Weights(error.to_string()),
        other => other.into(),
    })
}
