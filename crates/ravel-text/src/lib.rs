//! Text in: subword files, their training on captions, prompts of a fixed length, names of classes, and the vocabularies of language
//! models.
//!
//! Subwords are byte-level byte pairs (Sennrich et al. 2016; Radford et al. 2019) through the `tokenizers` library, so any Unicode
//! text has ids. Text is composed (NFC) and brought to lower case first, by a normalizer that the file carries.

mod classes;
mod ranks;
mod vocabulary;

use std::path::Path;

use serde::{Deserialize, Serialize};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::{Lowercase, NFC, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder, TokenizerImpl};

pub use classes::Classes;
pub use ranks::RankedVocabulary;
pub use vocabulary::{END_OF_TEXT, Encoded, TextStream, Vocabulary};

/// Fills a prompt up to its length.
pub const PAD: u32 = 0;
/// Stands for a prompt that says nothing, the unconditional row of guidance.
pub const EMPTY: u32 = 1;
/// Closes a prompt.
pub const END: u32 = 2;

const SPECIALS: [&str; 3] = ["<pad>", "<empty>", "<end>"];

/// Longest prompt in bytes that is looked at.
pub const MAX_PROMPT_BYTES: usize = 10_000;

/// Ids that single bytes take, beside the special ones.
const BYTES: usize = 256;

/// What is wrong with a text or a subword file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing but space.
    #[error("the prompt is empty; say what the picture shows, for example \"a red heart\"")]
    Empty,
    /// More subwords than the model reads.
    #[error("the prompt has {found} subwords, this model reads {limit} at most; shorten it")]
    TooLong {
        /// Subwords in the prompt.
        found: usize,
        /// Most that fit.
        limit: usize,
    },
    /// More bytes than any model reads.
    #[error("the prompt has {bytes} bytes, {limit} at most are taken; shorten it")]
    TooLarge {
        /// Bytes in the prompt.
        bytes: usize,
        /// Most that are looked at.
        limit: usize,
    },
    /// A name that no class has.
    #[error("no class is called `{name}`{}", near_names(.near))]
    NoClass {
        /// What was said.
        name: String,
        /// Names that are like it, with their numbers.
        near: Vec<String>,
    },
    /// A name that several classes have.
    #[error("several classes are called `{name}`: {}; say the number", .numbers.join(", "))]
    SeveralClasses {
        /// What was said.
        name: String,
        /// Their numbers, with all their names.
        numbers: Vec<String>,
    },
    /// A number that no class has.
    #[error("there is no class {number}; this model has 0 to {last}")]
    NoClassNumber {
        /// What was said.
        number: String,
        /// The largest number.
        last: usize,
    },
    /// A file that is no list of classes.
    #[error("{path}: not a list of classes: {reason}")]
    Classes {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A file that is no subword file.
    #[error("{path}: not a subword file (tokenizer.json): {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl TextError {
    /// Whether what was said is no class, or not one alone.
    pub fn is_of_classes(&self) -> bool {
        matches!(
            self,
            Self::NoClass { .. } | Self::NoClassNumber { .. } | Self::SeveralClasses { .. }
        )
    }
}

fn near_names(near: &[String]) -> String {
    match near {
        [] => String::new(),
        near => format!("; near names: {}", near.join(", ")),
    }
}

type Inner = tokenizers::Tokenizer;

/// A vocabulary of subwords.
#[derive(Debug, Clone)]
pub struct Subwords {
    inner: Inner,
}

/// How far a subword may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Within a word (GPT-2's split).
    Words,
    /// Over several words: phrases that many texts share become one subword.
    Phrases,
}

/// A part of the text that is written differently before it is read, in texts that are learned from and in prompts alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rewrite {
    /// What is looked for in the composed lower-case text: a regular expression (that of the `fancy-regex` library).
    pub pattern: String,
    /// What stands in its place.
    pub with: String,
}

impl Subwords {
    /// Learns a vocabulary from texts. The same texts in the same order give the same vocabulary.
    ///
    /// # Errors
    /// [`TextError::File`] if the vocabulary is too small to hold all bytes or a rewrite's pattern cannot be read.
    pub fn train(
        texts: impl Iterator<Item = String> + Send,
        vocabulary_size: usize,
        span: Span,
        rewrites: &[Rewrite],
    ) -> Result<Self, TextError> {
        let wrong = |reason: String| TextError::File {
            path: "vocabulary".into(),
            reason,
        };
        let least = BYTES + SPECIALS.len();
        if vocabulary_size < least {
            return Err(wrong(format!(
                "{vocabulary_size} ids are asked for, {least} at least are needed"
            )));
        }
        let mut normalizers = vec![NFC.into(), Lowercase.into()];
        for rewrite in rewrites {
            let pattern = ReplacePattern::Regex(rewrite.pattern.clone());
            let replace = Replace::new(pattern, rewrite.with.as_str()).map_err(|error| {
                let reason = error.to_string().replace('\n', " ");
                wrong(format!("pattern {:?}: {reason}", rewrite.pattern))
            })?;
            normalizers.push(replace.into());
        }
        let byte_level = ByteLevel::new(true, true, span == Span::Words);
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let mut trainer = BpeTrainer::builder()
            .vocab_size(vocabulary_size)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(alphabet.into_iter().collect())
            .special_tokens(SPECIALS.map(|name| AddedToken::from(name, true)).to_vec())
            .build();
        let mut tokenizer: TokenizerImpl<BPE, NormalizerSequence, ByteLevel, ByteLevel, ByteLevel> =
            TokenizerBuilder::new()
                .with_model(BPE::default())
                .with_normalizer(Some(NormalizerSequence::new(normalizers)))
                .with_pre_tokenizer(Some(byte_level))
                .with_post_processor(Some(byte_level))
                .with_decoder(Some(byte_level))
                .build()
                .map_err(|error| wrong(error.to_string()))?;
        tokenizer
            .train(&mut trainer, texts)
            .map_err(|error| wrong(error.to_string()))?;
        let json = tokenizer
            .to_string(false)
            .map_err(|error| wrong(error.to_string()))?;
        Self::from_bytes(json.as_bytes(), "vocabulary")
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TextError::File`].
    pub fn open(path: &Path) -> Result<Self, TextError> {
        let shown = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| TextError::File {
            path: shown.clone(),
            reason: error.to_string(),
        })?;
        Self::from_bytes(&bytes, &shown)
    }

    /// Reads the bytes of a `tokenizer.json`; `shown` stands for them in messages.
    ///
    /// # Errors
    /// [`TextError::File`].
    pub fn from_bytes(bytes: &[u8], shown: &str) -> Result<Self, TextError> {
        let mut inner = Inner::from_bytes(bytes).map_err(|error| TextError::File {
            path: shown.into(),
            reason: error.to_string().replace('\n', " "),
        })?;
        // What looks like a special id in a prompt is only text.
        inner.set_encode_special_tokens(true);
        Ok(Self { inner })
    }

    /// The vocabulary as a `tokenizer.json`.
    pub fn to_json(&self) -> String {
        self.inner
            .to_string(false)
            .expect("a vocabulary that was read can be written")
    }

    /// Writes a `tokenizer.json`, whole or not at all.
    ///
    /// # Errors
    /// [`TextError::File`].
    pub fn save(&self, path: &Path) -> Result<(), TextError> {
        let json = self.to_json();
        ravel_files::write_whole(path, json.as_bytes(), true).map_err(|error| TextError::File {
            path: path.display().to_string(),
            reason: error.to_string(),
        })
    }

    /// Ids in the vocabulary, special ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The ids of a text, without special ones. Any text has ids.
    ///
    /// # Errors
    /// [`TextError::File`] if the file's rules cannot be applied (a published file may need other parts).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|error| TextError::File {
                path: "vocabulary".into(),
                reason: error.to_string(),
            })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids.
    ///
    /// # Errors
    /// As [`Subwords::encode`].
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.inner
            .decode(ids, true)
            .map_err(|error| TextError::File {
                path: "vocabulary".into(),
                reason: error.to_string(),
            })
    }

    /// A prompt of exactly `length` ids: the text, [`END`], then [`PAD`].
    ///
    /// # Errors
    /// [`TextError::Empty`], [`TextError::TooLong`] or [`TextError::TooLarge`].
    pub fn prompt(&self, text: &str, length: usize) -> Result<Vec<u32>, TextError> {
        if text.len() > MAX_PROMPT_BYTES {
            return Err(TextError::TooLarge {
                bytes: text.len(),
                limit: MAX_PROMPT_BYTES,
            });
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        let mut ids = self.encode(&text)?;
        if ids.len() + 1 > length {
            return Err(TextError::TooLong {
                found: ids.len(),
                limit: length.saturating_sub(1),
            });
        }
        ids.push(END);
        ids.resize(length, PAD);
        Ok(ids)
    }

    /// The prompt that says nothing.
    pub fn empty_prompt(&self, length: usize) -> Vec<u32> {
        let mut ids = vec![EMPTY, END];
        ids.resize(length.max(2), PAD);
        ids.truncate(length);
        ids
    }
}
