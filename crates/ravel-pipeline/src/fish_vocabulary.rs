//! Fish-Speech's vocabulary: `tokenizer.tiktoken` of `fishaudio/fish-speech-1.5`, and the special tokens that its code numbers behind it.

use ravel_text::{RankedVocabulary, TextError};

/// How a text is cut into words; the reference's own expression (`fish_speech/tokenizer.py` of version 1.5.1). What looks like a
/// look-ahead in it is none there either.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{P}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(\?!\S)|\s+";
/// Special tokens in front of those that say "semantic": begin and end of a text, padding, begin and end of a message, four that stand
/// for nothing, and three kinds of messages.
const BEFORE_SEMANTIC: usize = 12;
/// Tokens that say "semantic", one for each code of the first codebook.
const SEMANTIC: usize = 1024;

/// Words as ids, and the special ids.
#[derive(Debug, Clone)]
pub struct FishVocabulary {
    words: RankedVocabulary,
}

impl FishVocabulary {
    /// Reads a `tokenizer.tiktoken`; `shown` stands for it in messages.
    ///
    /// # Errors
    /// [`TextError::File`].
    pub fn from_bytes(bytes: &[u8], shown: &str) -> Result<Self, TextError> {
        let words = RankedVocabulary::from_bytes(bytes, WORDS, shown)?;
        Ok(Self { words })
    }

    /// One more than the largest id.
    pub fn size(&self) -> usize {
        self.words.len() + BEFORE_SEMANTIC + SEMANTIC
    }

    /// Begins a message: `<|im_start|>`.
    pub fn start(&self) -> u32 {
        self.special(3)
    }

    /// Ends a message, and so speech: `<|im_end|>`.
    pub fn end(&self) -> u32 {
        self.special(4)
    }

    /// Says that speech follows: `<|voice|>`.
    pub fn voice(&self) -> u32 {
        self.special(10)
    }

    /// The token that stands for code 0 of the first codebook: `<|semantic:0|>`.
    pub fn semantic_begin(&self) -> usize {
        self.words.len() + BEFORE_SEMANTIC
    }

    /// The ids of a text, in which nothing is special.
    ///
    /// # Errors
    /// As [`RankedVocabulary::encode`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.words.encode(text)
    }

    fn special(&self, number: usize) -> u32 {
        (self.words.len() + number) as u32
    }
}
