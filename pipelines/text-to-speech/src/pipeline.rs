//! Whatever makes sound from a text: a model that was trained here, or a published one.

use std::ops::ControlFlow;

use ravel_decode::SamplerConfig;

use crate::{Error, Piece, Plan, PublishedSound, Reference, Request, TextToSpeech};

/// A pipeline that speaks or makes music.
#[allow(clippy::large_enum_variant)] // One per run.
pub enum SoundPipeline {
    /// One that says phonemes, as they are trained here.
    Trained(TextToSpeech),
    /// A published model.
    Published(PublishedSound),
}

impl SoundPipeline {
    /// Settings where a request names none.
    pub fn sampler(&self) -> &SamplerConfig {
        match self {
            Self::Trained(pipeline) => &pipeline.parts().sampler,
            Self::Published(pipeline) => &pipeline.parts().sampler,
        }
    }

    /// The fingerprint of the definition and its files.
    pub fn hash(&self) -> &str {
        match self {
            Self::Trained(pipeline) => &pipeline.parts().hash,
            Self::Published(pipeline) => &pipeline.parts().hash,
        }
    }

    /// Samples in a second.
    pub fn sample_rate_hz(&self) -> u32 {
        match self {
            Self::Trained(pipeline) => pipeline.sample_rate_hz(),
            Self::Published(pipeline) => pipeline.sample_rate_hz(),
        }
    }

    /// Whether the words of a recording are needed beside it.
    pub fn needs_words(&self) -> bool {
        match self {
            Self::Trained(pipeline) => pipeline.parts().model.reference.is_none(),
            Self::Published(_) => true,
        }
    }

    /// A voice to speak with, from a recording of one channel at the pipeline's rate and its words.
    ///
    /// # Errors
    /// As [`TextToSpeech::reference`] or [`PublishedSound::reference`].
    pub fn reference(&self, samples: &[f32], text: Option<&str>) -> Result<Reference, Error> {
        match self {
            Self::Trained(pipeline) => pipeline.reference(samples, text),
            Self::Published(pipeline) => pipeline.reference(samples, text),
        }
    }

    /// Checks a request before anything is computed.
    ///
    /// # Errors
    /// As [`TextToSpeech::plan`] or [`PublishedSound::plan`].
    pub fn plan(&self, request: &Request) -> Result<Plan, Error> {
        match self {
            Self::Trained(pipeline) => pipeline.plan(request),
            Self::Published(pipeline) => pipeline.plan(request),
        }
    }

    /// Makes the sound of a plan, piece by piece; `false` if `hear` broke it off.
    ///
    /// # Errors
    /// [`Error::Part`] if a part fails.
    pub fn run(
        &self,
        plan: &Plan,
        hear: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        match self {
            Self::Trained(pipeline) => pipeline.run(plan, hear),
            Self::Published(pipeline) => pipeline.run(plan, hear),
        }
    }
}
