//! Parts of pipelines that speak.

use burn::tensor::Device;
use ravel_core::SoundTokenizer;
use ravel_decode::SamplerConfig;
use ravel_heads::{HeadConfig, NextTokensConfig, PrefixConfig};
use ravel_nn::WeightsType;
use ravel_pronounce::{MARKS, PronounceError, Pronouncer, SYMBOLS, Symbol};
use ravel_weights::{draw, load};
use rvq_codec::SpectralTokenizer;

use crate::build::{Faults, fingerprint};
use crate::sound::build_sound_tokenizer;
use crate::tokenizer_part::TokenizerPart;
use crate::{
    BackbonePart, Costs, Definition, PipelineError, Source, SpeechModel, SpeechPart, SpeechShape,
    TextPart,
};

/// Frames that an utterance may have beside those of its symbols.
const SPARE_FRAMES: usize = 25;
/// Frames of a symbol at most.
const FRAMES_PER_SYMBOL: usize = 4;
/// Frames that a symbol takes at least, on average.
const LEAST_PER_SYMBOL: f64 = 0.9;

/// Text as the ids in front of the codes: a voice, a speed, then symbols.
///
/// Ids: padding, a voice that is not told, the voices, the speeds, the symbols of [`ravel_pronounce`].
#[derive(Debug, Clone)]
pub struct SpeechText {
    pronouncer: Pronouncer,
    voices: Vec<String>,
    speeds: Vec<String>,
    length: usize,
}

impl SpeechText {
    /// Fills up short texts.
    pub const PADDING: u32 = 0;
    /// Stands where no voice is told.
    const UNNAMED: u32 = 1;
    /// Stands for the first voice; the others follow.
    pub const FIRST_VOICE: u32 = 2;

    /// English, for some voices and speeds; an utterance has `length` symbols at most.
    pub fn new(voices: Vec<String>, speeds: Vec<String>, length: usize) -> Self {
        Self {
            pronouncer: Pronouncer::english(),
            voices,
            speeds,
            length,
        }
    }

    /// Voices by name.
    pub fn voices(&self) -> &[String] {
        &self.voices
    }

    /// Speeds by name, in the order of their ids.
    pub fn speeds(&self) -> &[String] {
        &self.speeds
    }

    /// Symbols of an utterance at most.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The table that embeds the ids.
    pub fn prefix_config(&self) -> PrefixConfig {
        PrefixConfig {
            vocabulary_size: 2 + self.voices.len() + self.speeds.len() + SYMBOLS,
            len: 2 + 2 * self.length,
            positions: false,
            ..PrefixConfig::default()
        }
    }

    /// Symbols that the prefix has room for, a reference's included.
    pub fn most_symbols(&self) -> usize {
        self.prefix_config().len - 2
    }

    /// Frames that so many symbols may take: more is a loop.
    pub fn most_frames(&self, symbols: usize) -> usize {
        SPARE_FRAMES + FRAMES_PER_SYMBOL * symbols
    }

    /// Frames that so many symbols take at least: fewer leave words out.
    pub fn least_frames(&self, symbols: usize) -> usize {
        (LEAST_PER_SYMBOL * symbols as f64) as usize
    }

    /// Whether an id is a mark: the end of a word, or punctuation.
    pub fn is_mark(&self, id: u32) -> bool {
        let first = self.numbers(&[Symbol::Mark(' ')])[0];
        (first..first + MARKS as u32).contains(&id)
    }

    /// Symbols that are said one after the other: a period stands between them where the first ones end without a mark.
    pub fn joined(&self, first: &[u32], then: &[u32]) -> Vec<u32> {
        let period = self.numbers(&[Symbol::Mark('.')])[0];
        let marked = first.last().is_none_or(|&last| self.is_mark(last));
        let between = (!marked).then_some(period);
        first
            .iter()
            .copied()
            .chain(between)
            .chain(then.iter().copied())
            .collect()
    }

    /// The ids of a voice (none: it is not told), a speed and symbols; unknown names count as not told and as the first speed.
    pub fn ids(&self, voice: Option<&str>, speed: &str, symbols: &[u32]) -> Vec<u32> {
        let place = |names: &[String], name: &str| names.iter().position(|known| known == name);
        let voice = voice.and_then(|voice| place(&self.voices, voice));
        let speed = place(&self.speeds, speed).unwrap_or(0);
        let mut ids = vec![
            voice.map_or(Self::UNNAMED, |at| Self::FIRST_VOICE + at as u32),
            Self::FIRST_VOICE + (self.voices.len() + speed) as u32,
        ];
        ids.truncate(if self.speeds.is_empty() { 1 } else { 2 });
        ids.extend(symbols);
        ids
    }

    /// Text as utterances: the words of each, normalised, and its ids.
    ///
    /// # Errors
    /// [`PronounceError`] if the text cannot be said.
    pub fn utterances(&self, text: &str) -> Result<Vec<(String, Vec<u32>)>, PronounceError> {
        let all = self.pronouncer.utterances(text, self.length)?;
        Ok(all
            .into_iter()
            .map(|(words, symbols)| (words, self.numbers(&symbols)))
            .collect())
    }

    /// Text as one utterance, however long.
    ///
    /// # Errors
    /// As [`SpeechText::utterances`].
    pub fn whole(&self, text: &str) -> Result<Vec<u32>, PronounceError> {
        let all = self.pronouncer.utterances(text, usize::MAX)?;
        Ok(all
            .iter()
            .flat_map(|(_, symbols)| self.numbers(symbols))
            .collect())
    }

    fn numbers(&self, symbols: &[Symbol]) -> Vec<u32> {
        let first = 2 + self.voices.len() + self.speeds.len();
        let ids = symbols.iter().map(|symbol| first + symbol.number());
        ids.map(|id| id as u32).collect()
    }
}

/// Everything that speech is made with.
pub struct SpeechParts {
    /// Text to ids.
    pub text: SpeechText,
    /// Ids to codes.
    pub model: SpeechModel,
    /// Codes to sound.
    pub codec: Box<dyn SoundTokenizer>,
    /// Settings where a request names none.
    pub sampler: SamplerConfig,
    /// The definition's name.
    pub name: String,
    /// A fingerprint of the definition and its files.
    pub hash: String,
    /// Where the weights are.
    pub device: Device,
}

/// Builds all parts of a definition that speaks.
///
/// # Errors
/// [`PipelineError`]; missing, unused and misshapen tensors are reported together.
pub fn build_speech(
    definition: &Definition,
    source: &Source,
    device: &Device,
) -> Result<SpeechParts, PipelineError> {
    definition.check(source)?;
    let (text, backbone, head) = definition.speech_parts()?;
    let weights = definition.weights.as_deref().unwrap_or_default();
    let tokenizer_part = definition.tokenizer_part()?;
    let BackbonePart::Transformer { config } = backbone;
    let codec = build_sound_tokenizer(tokenizer_part, source, device)?;
    let mut faults = Faults::default();
    let part = definition.speech.clone().unwrap_or_default();
    let shape = SpeechShape {
        text: &text,
        backbone: config,
        head,
        part: &part,
    };
    let fresh = shape.init(device);
    let model = faults
        .keep(source.weights(weights)?)
        .and_then(|checkpoint| faults.keep(load(fresh, &checkpoint, "")));
    let Some(model) = model else {
        return Err(faults.report());
    };
    Ok(SpeechParts {
        text,
        model: SpeechModel {
            backbone: definition.weights_type.kept(model.backbone),
            head: definition.weights_type.kept(model.head),
            ..model
        },
        codec,
        sampler: definition.sampler.clone(),
        name: definition.name.clone(),
        hash: fingerprint(definition, source)?,
        device: device.clone(),
    })
}

/// Builds all parts of a definition that speaks with random weights, which follow from the device's seed, and what the sequence model
/// and its head cost. No file of weights is looked for.
///
/// # Errors
/// [`PipelineError`] if a part is missing or a size is impossible, or the tokenizer is of another kind than `spectral-codec`.
pub fn build_random_speech(
    definition: &Definition,
    device: &Device,
) -> Result<(SpeechParts, Costs), PipelineError> {
    let wrong = |source| PipelineError::Part {
        name: definition.name.clone(),
        source,
    };
    let (text, backbone, head) = definition.speech_parts()?;
    let BackbonePart::Transformer { config } = backbone;
    let part = definition.speech.clone().unwrap_or_default();
    part.validate_for(config, head).map_err(wrong)?;
    let tokenizer = definition.tokenizer_part()?;
    tokenizer.sound_spec().map_err(wrong)?;
    let TokenizerPart::SpectralCodec { config: codec, .. } = tokenizer else {
        return Err(wrong(ravel_core::Error::Config {
            field: "tokenizer.kind".into(),
            found: tokenizer.kind().into(),
            expected: "spectral-codec".into(),
        }));
    };
    let module = codec.init(device);
    draw(&module);
    let shape = SpeechShape {
        text: &text,
        backbone: config,
        head,
        part: &part,
    };
    let model = shape.init(device);
    draw(&model);
    let kind = definition.weights_type.fixed().unwrap_or(WeightsType::F32);
    let costs = Costs::of(&model.backbone, &model.head, kind);
    let parts = SpeechParts {
        text,
        model: SpeechModel {
            backbone: definition.weights_type.kept(model.backbone),
            head: definition.weights_type.kept(model.head),
            ..model
        },
        codec: Box::new(SpectralTokenizer::new(module, codec, device)),
        sampler: definition.sampler.clone(),
        name: definition.name.clone(),
        hash: "random".into(),
        device: device.clone(),
    };
    Ok((parts, costs))
}

impl Definition {
    /// The parts of a definition that speaks.
    pub(crate) fn speech_parts(
        &self,
    ) -> Result<(SpeechText, &BackbonePart, &NextTokensConfig), PipelineError> {
        let (text, backbone, head) = self.generator_parts()?;
        let TextPart::Phonemes {
            voices,
            speeds,
            length,
        } = text
        else {
            return Err(self.lacks("text of kind \"phonemes\""));
        };
        let HeadConfig::NextTokens(head) = head else {
            return Err(self.lacks("head of kind \"next-tokens\""));
        };
        let text = SpeechText::new(voices.clone(), speeds.clone(), *length);
        Ok((text, backbone, head))
    }

    /// Checks sizes that must agree, and files.
    pub(crate) fn check_speech(&self, source: &Source) -> Result<(), PipelineError> {
        let part = |source| PipelineError::Part {
            name: self.name.clone(),
            source,
        };
        let tokenizer = self.tokenizer_part()?;
        let spec = tokenizer.sound_spec().map_err(part)?;
        for file in self.files() {
            source.check(file).map_err(|error| error.of(&self.name))?;
        }
        let (text, backbone, head) = self.speech_parts()?;
        let BackbonePart::Transformer { config } = backbone;
        let beside = self.speech.clone().unwrap_or_default();
        SpeechPart::validate_for(&beside, config, head).map_err(part)?;
        self.sampler.validate().map_err(part)?;
        let agree = |field: &str, found: Option<usize>, expected: usize| match found {
            Some(found) if found == expected => Ok(()),
            found => Err(part(ravel_core::Error::Config {
                field: field.into(),
                found: found.map_or("unset".into(), |found| found.to_string()),
                expected: expected.to_string(),
            })),
        };
        agree("head.depth", Some(head.depth), spec.codes.depth)?;
        agree("head.end", head.end, spec.codes.codebook_size)?;
        let ending = self.sampler.ending.as_ref();
        agree(
            "sampler.ending.end",
            ending.map(|ending| ending.end),
            spec.codes.codebook_size,
        )?;
        if !(8..=4096).contains(&text.length()) {
            return Err(part(ravel_core::Error::Config {
                field: "text.length".into(),
                found: text.length().to_string(),
                expected: "8 to 4096 symbols".into(),
            }));
        }
        Ok(())
    }
}
