//! A language model as it was published: the files of a repository, in a folder or wherever a definition says.

use std::path::Path;

use burn::tensor::Device;
use ravel_decode::SamplerConfig;
use ravel_families::language::{self, LanguageConfig};
use ravel_text::Vocabulary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::language::{LanguageParts, check_vocabulary};
use crate::{Definition, PipelineError, Source, Task};

/// Where weights may lie in a folder, in the order in which they are looked for.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
const CONFIG: &str = "config.json";
const VOCABULARY: &str = "tokenizer.json";
const CHAT: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";
const GENERATION: &str = "generation_config.json";

/// The files of a published language model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Published {
    /// The model's configuration (`config.json`), which names the family.
    pub config: String,
    /// Its weights: safetensors or PyTorch, or the index of several files.
    pub weights: String,
    /// Its vocabulary (`tokenizer.json`).
    pub vocabulary: String,
    /// Chat template and special tokens (`tokenizer_config.json`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
    /// The chat template, where it is a file of its own (`chat_template.jinja`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Sampling settings and ids that end a text (`generation_config.json`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
}

impl Published {
    /// All files that it names.
    pub fn files(&self) -> Vec<&str> {
        let maybe = [&self.chat, &self.template, &self.generation];
        let maybe = maybe.into_iter().filter_map(|file| file.as_deref());
        let needed = [&self.config, &self.vocabulary, &self.weights];
        needed
            .into_iter()
            .map(String::as_str)
            .chain(maybe)
            .collect()
    }
}

impl Definition {
    /// The definition that a folder with the files of a published language model stands for.
    ///
    /// # Errors
    /// [`PipelineError::File`] names the first file that is needed and not there.
    pub fn of_folder(folder: &Path) -> Result<Self, PipelineError> {
        let there = |file: &str| folder.join(file).is_file();
        let needed = |files: &[&str]| {
            let found = files.iter().find(|file| there(file));
            found.map(|file| file.to_string()).ok_or_else(|| {
                let file = folder.join(files[0]).display().to_string();
                let reason = match files {
                    [_] => "not there; a folder with a published model has it".into(),
                    [_, others @ ..] => format!("not there, nor {}", others.join(", ")),
                    [] => String::new(),
                };
                PipelineError::File { file, reason }
            })
        };
        let maybe = |file: &str| there(file).then(|| file.to_string());
        let name = folder.canonicalize().ok();
        let name = name.as_deref().unwrap_or(folder).file_name();
        Ok(Self {
            task: Task::TextGeneration,
            name: name.unwrap_or_default().to_string_lossy().into_owned(),
            description: String::new(),
            licence: String::new(),
            weights: None,
            weights_type: crate::KeptAs::default(),
            text: None,
            decoding: Default::default(),
            filling: None,
            sampler: Default::default(),
            tokenizer: None,
            backbone: None,
            head: None,
            speech: None,
            model: None,
            sound_model: None,
            published: Some(Published {
                config: needed(&[CONFIG])?,
                vocabulary: needed(&[VOCABULARY])?,
                weights: needed(&WEIGHTS)?,
                chat: maybe(CHAT),
                template: maybe(TEMPLATE),
                generation: maybe(GENERATION),
            }),
        })
    }
}

/// What a `generation_config.json` says of sampling, and of what ends a text.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Generation {
    do_sample: bool,
    temperature: Option<f64>,
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    typical_p: Option<f64>,
    repetition_penalty: Option<f64>,
    eos_token_id: serde_json::Value,
}

impl Generation {
    /// The settings: the most likely ids where the file asks for no sampling, as the reference does.
    fn sampler(&self) -> SamplerConfig {
        let off = |value: Option<f64>| value.filter(|value| *value != 1.0);
        let penalty = off(self.repetition_penalty);
        if !self.do_sample {
            return SamplerConfig {
                temperature: 0.0,
                repetition_penalty: penalty,
                ..SamplerConfig::default()
            };
        }
        SamplerConfig {
            temperature: self.temperature.unwrap_or(1.0),
            // The reference keeps 50 where nothing is said, and all for zero.
            top_k: Some(self.top_k.unwrap_or(50)).filter(|k| *k > 0),
            top_p: off(self.top_p),
            min_p: self.min_p.filter(|p| *p > 0.0),
            typical: off(self.typical_p),
            repetition_penalty: penalty,
            ..SamplerConfig::default()
        }
    }

    fn ends(&self) -> Vec<u32> {
        let id = |value: &serde_json::Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match &self.eos_token_id {
            serde_json::Value::Array(ids) => ids.iter().filter_map(id).collect(),
            one => id(one).into_iter().collect(),
        }
    }
}

/// What a `tokenizer_config.json` says of the end.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Special {
    eos_token: serde_json::Value,
}

impl Special {
    fn end(&self, vocabulary: &Vocabulary) -> Option<u32> {
        let token = match &self.eos_token {
            serde_json::Value::String(token) => token,
            other => other.get("content")?.as_str()?,
        };
        vocabulary.id(token)
    }
}

/// Builds a published model.
pub(crate) fn build(
    definition: &Definition,
    published: &Published,
    source: &Source,
    device: &Device,
) -> Result<LanguageParts, PipelineError> {
    let config = language::read(&text(source, &published.config)?)?;
    config.validate()?;
    let vocabulary = source.read(&published.vocabulary)?;
    let vocabulary = Vocabulary::from_bytes(&vocabulary, &published.vocabulary)?;
    check_ids(&vocabulary, &config, published)?;
    let maybe = |file: &Option<String>| file.as_ref().map(|file| text(source, file)).transpose();
    let chat = maybe(&published.chat)?;
    let generation: Generation = match &published.generation {
        Some(file) => json(source, file)?,
        None => Generation::default(),
    };
    let mut ends = generation.ends();
    if ends.is_empty() {
        ends.clone_from(&config.ends);
    }
    if let Some(file) = &published.chat {
        ends.extend(json::<Special>(source, file)?.end(&vocabulary));
    }
    let model = config.build(source.checkpoint(&published.weights)?, device)?;
    Ok(LanguageParts {
        vocabulary,
        backbone: definition.weights_type.kept(model.backbone),
        head: definition.weights_type.kept(model.head),
        context: config.context,
        ends,
        chat,
        template: maybe(&published.template)?,
        decoding: definition.decoding.clone(),
        sampler: match definition.sampler == SamplerConfig::default() {
            true => generation.sampler(),
            false => definition.sampler.clone(),
        },
        name: definition.name.clone(),
        device: device.clone(),
    })
}

/// Checks all that can be known without building.
pub(crate) fn check(published: &Published, source: &Source) -> Result<(), PipelineError> {
    for file in published.files() {
        source.check(file)?;
    }
    let config = language::read(&text(source, &published.config)?)?;
    config.validate()?;
    let bytes = source.read(&published.vocabulary)?;
    let vocabulary = Vocabulary::from_bytes(&bytes, &published.vocabulary)?;
    check_ids(&vocabulary, &config, published)
}

/// Whether the vocabulary is the model's, as far as numbers tell: a row for each id, and an id for each that the configuration names.
fn check_ids(
    vocabulary: &Vocabulary,
    config: &LanguageConfig,
    published: &Published,
) -> Result<(), PipelineError> {
    check_vocabulary(vocabulary, config.head.codebook_size, &published.vocabulary)?;
    let named = config.begin.iter().chain(&config.ends);
    let unknown = named.copied().find(|&id| id as usize >= vocabulary.size());
    unknown.map_or(Ok(()), |id| {
        Err(PipelineError::Foreign {
            file: published.vocabulary.clone(),
            id,
            config: published.config.clone(),
        })
    })
}

fn text(source: &Source, file: &str) -> Result<String, PipelineError> {
    let bytes = source.read(file)?.into_owned();
    String::from_utf8(bytes).map_err(|_| PipelineError::File {
        file: file.into(),
        reason: "not UTF-8".into(),
    })
}

fn json<T: serde::de::DeserializeOwned>(source: &Source, file: &str) -> Result<T, PipelineError> {
    serde_json::from_str(&text(source, file)?).map_err(|error| PipelineError::File {
        file: file.into(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_of_the_reference() {
        let read = |json: &str| serde_json::from_str::<Generation>(json).unwrap();
        let greedy = read(r#"{"eos_token_id": 5, "temperature": 0.7}"#);
        assert_eq!(
            (greedy.sampler().temperature, greedy.ends()),
            (0.0, vec![5])
        );
        let sampled =
            read(r#"{"do_sample": true, "top_p": 0.9, "eos_token_id": [1, 2], "top_k": 0}"#);
        let sampler = sampled.sampler();
        assert_eq!((sampler.top_k, sampler.top_p), (None, Some(0.9)));
        assert_eq!(sampled.ends(), [1, 2]);
        assert_eq!(read(r#"{"do_sample": true}"#).sampler().top_k, Some(50));
    }

    #[test]
    fn a_folder_without_the_files_names_the_one_that_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let error = |file: &str| {
            let error = Definition::of_folder(folder.path())
                .unwrap_err()
                .to_string();
            assert!(error.contains(file), "{error}");
        };
        error(CONFIG);
        std::fs::write(folder.path().join(CONFIG), "{}").unwrap();
        error(VOCABULARY);
        std::fs::write(folder.path().join(VOCABULARY), "{}").unwrap();
        error("pytorch_model.bin");
        std::fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
        let definition = Definition::of_folder(folder.path()).unwrap();
        assert_eq!(definition.published.unwrap().weights, "pytorch_model.bin");
    }
}
