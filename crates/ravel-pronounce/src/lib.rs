//! English text to phonemes.
//!
//! ```text
//! "Dr. Lee has 2 cats." ─normalise─► "doctor Lee has two cats." ─lexicon, else letter rules─► D AA1 K T ER0 | L IY1 | … .
//! ```
//!
//! Words are looked up in CMUdict (Copyright Carnegie Mellon University, BSD; see `assets/README.md`); words that it lacks are said by
//! letter-to-sound rules that were learned from it. Those that the rules say rightly are not in the packed lexicon.

mod letters;
mod lexicon;
mod normalise;
mod number;
mod phone;
mod utterance;

pub use letters::LetterRules;
pub use lexicon::Lexicon;
pub use normalise::normalise;
pub use phone::{PHONES, Phone};
pub use utterance::{MARKS, Pronouncer, SYMBOLS, Symbol, pieces};

/// Longest text in bytes that is taken at once.
pub const MAX_TEXT_BYTES: usize = 100_000;

/// What cannot be said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PronounceError {
    /// No word in it.
    #[error("there is no word to say in the text")]
    Empty,
    /// More than is taken at once.
    #[error("the text has {bytes} bytes, {MAX_TEXT_BYTES} at most are taken; split it")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// A word that is none.
    #[error(
        "`{word}…` is a word of {letters} letters, which cannot be said in one; put spaces into it"
    )]
    LongWord {
        /// How it begins.
        word: String,
        /// Its letters.
        letters: usize,
    },
    /// A character that is no English.
    #[error(
        "character {} of the text is `{}` (U+{:04X}), which cannot be said: English text is taken",
        at + 1, letter.escape_default(), *letter as u32
    )]
    Unsayable {
        /// The character.
        letter: char,
        /// How many characters are before it.
        at: usize,
    },
    /// A control character.
    #[error("character {} of the text is the control character U+{:04X}, which cannot be said", at + 1, *letter as u32)]
    Control {
        /// The character.
        letter: char,
        /// How many characters are before it.
        at: usize,
    },
    /// A packed lexicon that is none.
    #[error("the lexicon is damaged: {reason}")]
    Lexicon {
        /// What is wrong.
        reason: String,
    },
}
