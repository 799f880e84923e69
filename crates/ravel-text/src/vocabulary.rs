//! The vocabulary of a language model: a `tokenizer.json` as it was published, or byte pairs learned from plain text.
//!
//! Where [`crate::Subwords`] reads prompts of a fixed length in which nothing is special, a language model's text may hold special
//! tokens (`<|im_start|>`), and its template may put some around it (`<s>`).

use std::ops::Range;
use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder, TokenizerImpl};

use crate::{BYTES, Inner, TextError};

/// The special token of vocabularies that are learned here: it stands between texts and ends one.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// What a text becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Ids.
    pub ids: Vec<u32>,
    /// The token of each id as the file writes it.
    pub tokens: Vec<String>,
    /// The bytes of the text that each id stands for; empty for special tokens that a template adds.
    pub bytes: Vec<Range<usize>>,
}

impl Encoded {
    /// As `bytes`, counted in characters of the text: every character of which an id has a byte.
    ///
    /// # Panics
    /// If `text` is shorter than the text that was encoded.
    pub fn characters(&self, text: &str) -> Vec<Range<usize>> {
        // Of each byte, the character that it is part of.
        let lengths = text.chars().map(char::len_utf8).enumerate();
        let of: Vec<usize> = lengths
            .flat_map(|(at, length)| std::iter::repeat_n(at, length))
            .collect();
        let range = |bytes: &Range<usize>| match bytes.is_empty() {
            true => {
                let at = of.get(bytes.start).copied();
                let at = at.unwrap_or_else(|| of.last().map_or(0, |last| last + 1));
                at..at
            }
            false => of[bytes.start]..of[bytes.end - 1] + 1,
        };
        self.bytes.iter().map(range).collect()
    }
}

/// Ids and their tokens.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    inner: Inner,
    shown: String,
}

impl Vocabulary {
    /// Learns byte pairs from plain texts, cased, within words (GPT-2's split). The one special token, [`END_OF_TEXT`], is id 0.
    /// The same texts in the same order give the same vocabulary.
    ///
    /// # Errors
    /// [`TextError::File`] if the vocabulary is too small to hold all bytes.
    pub fn train(
        texts: impl Iterator<Item = String> + Send,
        size: usize,
    ) -> Result<Self, TextError> {
        let shown = "vocabulary";
        let wrong = |reason: String| TextError::File {
            path: shown.into(),
            reason,
        };
        let least = BYTES + 1;
        if size < least {
            return Err(wrong(format!(
                "{size} ids are asked for, {least} at least are needed"
            )));
        }
        let byte_level = ByteLevel::new(false, true, true);
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let mut trainer = BpeTrainer::builder()
            .vocab_size(size)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(alphabet.into_iter().collect())
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .build();
        let mut learner: TokenizerImpl<BPE, NFC, ByteLevel, ByteLevel, ByteLevel> =
            TokenizerBuilder::new()
                .with_model(BPE::default())
                .with_normalizer(Some(NFC))
                .with_pre_tokenizer(Some(byte_level))
                .with_post_processor(Some(byte_level))
                .with_decoder(Some(byte_level))
                .build()
                .map_err(|error| wrong(error.to_string()))?;
        learner
            .train(&mut trainer, texts)
            .map_err(|error| wrong(error.to_string()))?;
        let json = learner
            .to_string(false)
            .map_err(|error| wrong(error.to_string()))?;
        Self::from_bytes(json.as_bytes(), shown)
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
        // Some files ask for texts to be cut or filled up to a length; here they keep theirs.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .expect("no truncation is always possible");
        Ok(Self {
            inner,
            shown: shown.into(),
        })
    }

    /// The vocabulary as a `tokenizer.json`.
    pub fn to_json(&self) -> String {
        self.inner
            .to_string(false)
            .expect("a vocabulary that was read can be written")
    }

    /// One more than the largest id: the rows that a model's embedding must have.
    pub fn size(&self) -> usize {
        let ids = self.inner.get_vocab(true).into_values();
        ids.max().map_or(0, |largest| largest as usize + 1)
    }

    /// The id of a token, as the file writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, as the file writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The ids of a text. Special tokens written in it are special; `around` also adds those of the file's template.
    ///
    /// # Errors
    /// [`TextError::File`] if the file's rules cannot be applied.
    pub fn encode(&self, text: &str, around: bool) -> Result<Encoded, TextError> {
        let encoding = self
            .inner
            .encode(text, around)
            .map_err(|error| self.wrong(error))?;
        let bytes = encoding.get_offsets().iter();
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            tokens: encoding.get_tokens().to_vec(),
            bytes: bytes.map(|&(start, end)| start..end).collect(),
        })
    }

    /// The text of ids. What is no whole character is shown as U+FFFD.
    ///
    /// # Errors
    /// As [`Vocabulary::encode`].
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|error| self.wrong(error))
    }

    /// Text that comes id by id.
    pub fn stream(&self, skip_special: bool) -> TextStream<'_> {
        TextStream {
            vocabulary: self,
            skip_special,
            ids: Vec::new(),
            start: 0,
            shown: 0,
            ahead: 0,
        }
    }

    fn wrong(&self, error: impl ToString) -> TextError {
        TextError::File {
            path: self.shown.clone(),
            reason: error.to_string().replace('\n', " "),
        }
    }
}

/// Turns ids into text as they come: a character whose bytes are not all there is held back.
///
/// All pieces together are the decoding of all ids.
#[derive(Debug, Clone)]
pub struct TextStream<'a> {
    vocabulary: &'a Vocabulary,
    skip_special: bool,
    ids: Vec<u32>,
    /// The first id that is decoded again: a token's text may depend on the one before it (leading spaces).
    start: usize,
    /// Ids whose whole text was handed out.
    shown: usize,
    /// Bytes of the later ids' text that were handed out too: what stands before a character that is not all there.
    ahead: usize,
}

impl TextStream<'_> {
    /// Takes one more id and gives the text that is now certain, which may be none.
    ///
    /// # Errors
    /// As [`Vocabulary::encode`].
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        self.ids.push(id);
        let new = self.pending()?;
        let certain = new.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let piece = certain.get(self.ahead..).unwrap_or_default().to_string();
        if certain.len() < new.len() {
            self.ahead = self.ahead.max(certain.len());
        } else if !new.is_empty() {
            self.all_shown();
        }
        Ok(piece)
    }

    /// What is held back at the end.
    ///
    /// # Errors
    /// As [`Vocabulary::encode`].
    pub fn finish(&mut self) -> Result<String, TextError> {
        let new = self.pending()?;
        let rest = new.get(self.ahead..).unwrap_or_default().to_string();
        self.all_shown();
        Ok(rest)
    }

    fn all_shown(&mut self) {
        self.start = self.shown;
        self.shown = self.ids.len();
        self.ahead = 0;
    }

    /// The text of the ids whose text was not handed out whole.
    fn pending(&self) -> Result<String, TextError> {
        let decode = |ids: &[u32]| self.vocabulary.decode(ids, self.skip_special);
        let before = decode(&self.ids[self.start..self.shown])?;
        let now = decode(&self.ids[self.start..])?;
        Ok(now.strip_prefix(&before).unwrap_or_default().to_string())
    }
}
