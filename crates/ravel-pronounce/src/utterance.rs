//! Utterances: pieces of text that are said in one breath, as symbols.

use crate::{LetterRules, Lexicon, MAX_TEXT_BYTES, PHONES, Phone, PronounceError, normalise};

/// The packed lexicon of English and the rules for what it lacks.
const LEXICON: &[u8] = include_bytes!("../data/english.lexicon");
const RULES: &[u8] = include_bytes!("../data/english.letters");

/// Marks between and behind words, in the order of their numbers.
const MARK_LETTERS: [char; 5] = [' ', ',', '.', '?', '!'];
/// How many marks there are.
pub const MARKS: usize = MARK_LETTERS.len();

/// Words of more letters are refused: none is that long.
const LONGEST_WORD: usize = 48;

/// What an utterance is made of: phonemes, the ends of words and marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    /// A phoneme.
    Phone(Phone),
    /// The end of a word that is not the last one, or a mark: one of ` ,.?!`.
    Mark(char),
}

/// How many symbols there are.
pub const SYMBOLS: usize = MARKS + PHONES;

impl Symbol {
    /// A number in `0..SYMBOLS`: marks, then phonemes.
    pub fn number(self) -> usize {
        match self {
            Self::Phone(phone) => MARKS + usize::from(phone.number()),
            Self::Mark(mark) => MARK_LETTERS
                .iter()
                .position(|known| *known == mark)
                .unwrap_or(0),
        }
    }

    /// As people read it: `AH0`, `|` for the end of a word, `,`.
    pub fn name(self) -> String {
        match self {
            Self::Phone(phone) => phone.name(),
            Self::Mark(' ') => "|".into(),
            Self::Mark(mark) => mark.into(),
        }
    }
}

/// Says English words.
#[derive(Debug, Clone)]
pub struct Pronouncer {
    lexicon: Lexicon,
    rules: LetterRules,
}

impl Pronouncer {
    /// The lexicon and the rules that are built in.
    ///
    /// # Panics
    /// Never: a test unpacks both.
    pub fn english() -> Self {
        Self {
            lexicon: Lexicon::unpack(LEXICON).expect("the built-in lexicon is whole"),
            rules: LetterRules::unpack(RULES).expect("the built-in rules are whole"),
        }
    }

    /// A word's phonemes: from the lexicon, else by adding the ending of a possessive to one of its words, else by the rules.
    pub fn word(&self, word: &str) -> Vec<Phone> {
        let lower = word.to_lowercase();
        let lower = lower.trim_matches('\'');
        if let Some(phones) = self.lexicon.phones(lower) {
            return phones;
        }
        if let Some(owner) = lower.strip_suffix("'s") {
            return with_s(self.word(owner));
        }
        self.rules.phones(&lower.replace('\'', ""))
    }

    /// The symbols of one piece of normalised text.
    ///
    /// # Errors
    /// [`PronounceError::Empty`] if no word in it can be said, [`PronounceError::LongWord`] if one is none.
    pub fn symbols(&self, text: &str) -> Result<Vec<Symbol>, PronounceError> {
        let mut symbols = Vec::new();
        for token in text.split_whitespace() {
            let word = token.trim_end_matches([',', '.', '?', '!']);
            if word.chars().count() > LONGEST_WORD {
                return Err(long(word));
            }
            let phones = self.token(word);
            if phones.is_empty() {
                continue;
            }
            if !symbols.is_empty() && !matches!(symbols.last(), Some(Symbol::Mark(_))) {
                symbols.push(Symbol::Mark(' '));
            }
            symbols.extend(phones.into_iter().map(Symbol::Phone));
            if let Some(mark) = token[word.len()..].chars().next_back() {
                symbols.push(Symbol::Mark(mark));
            }
        }
        match symbols.is_empty() {
            true => Err(PronounceError::Empty),
            false => Ok(symbols),
        }
    }

    /// A word, or letters that are said one by one: those in capitals that no word has.
    fn token(&self, word: &str) -> Vec<Phone> {
        let letters = word.chars().filter(char::is_ascii_alphabetic).count();
        let capitals = word.chars().filter(char::is_ascii_uppercase).count();
        let vowels = word.chars().any(|c| "AEIOUYaeiouy".contains(c));
        if letters == 1 && capitals == 1 && word != "A" {
            return self.word(word);
        }
        let short = (2..=5).contains(&letters) && capitals == letters;
        let unknown = self.lexicon.phones(&word.to_lowercase()).is_none();
        if (short && unknown) || (!vowels && unknown && letters > 1) {
            return word
                .chars()
                .filter(char::is_ascii_alphabetic)
                .flat_map(|letter| self.letter(letter))
                .collect();
        }
        self.word(word)
    }

    /// A letter's name.
    fn letter(&self, letter: char) -> Vec<Phone> {
        match letter.to_ascii_lowercase() {
            'a' => Phone::parse("EY1").into_iter().collect(),
            letter => self.word(&letter.to_string()),
        }
    }

    /// Text as utterances, each with its normalised words and its symbols.
    ///
    /// # Errors
    /// [`PronounceError`] if the text is empty, too large or has characters that cannot be said.
    pub fn utterances(
        &self,
        text: &str,
        most_symbols: usize,
    ) -> Result<Vec<(String, Vec<Symbol>)>, PronounceError> {
        let mut said = Vec::new();
        for piece in pieces(&checked(text)?) {
            match self.symbols(&piece) {
                Ok(symbols) => self.fitted(piece, symbols, most_symbols, &mut said)?,
                Err(PronounceError::Empty) => {}
                Err(error) => return Err(error),
            }
        }
        match said.is_empty() {
            true => Err(PronounceError::Empty),
            false => Ok(said),
        }
    }

    /// A piece as it is, or halved at its middle mark or word until every part fits.
    fn fitted(
        &self,
        piece: String,
        symbols: Vec<Symbol>,
        most: usize,
        said: &mut Vec<(String, Vec<Symbol>)>,
    ) -> Result<(), PronounceError> {
        let words: Vec<&str> = piece.split_whitespace().collect();
        if symbols.len() <= most {
            said.push((piece, symbols));
            return Ok(());
        }
        if words.len() < 2 {
            return Err(long(&piece));
        }
        let middle = words.len() as f64 / 2.0;
        let cost = |at: usize| {
            let marked = words[at - 1].ends_with([',', '.', '?', '!']);
            let away = (at as f64 - middle).abs() / middle;
            away - if marked { 0.6 } else { 0.0 }
        };
        let cut = (1..words.len())
            .min_by(|a, b| cost(*a).total_cmp(&cost(*b)))
            .expect("two words have a place between them");
        for part in [words[..cut].join(" "), words[cut..].join(" ")] {
            if let Ok(symbols) = self.symbols(&part) {
                self.fitted(part, symbols, most, said)?;
            }
        }
        Ok(())
    }
}

fn long(word: &str) -> PronounceError {
    PronounceError::LongWord {
        word: word.chars().take(12).collect(),
        letters: word.chars().count(),
    }
}

fn checked(text: &str) -> Result<String, PronounceError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(PronounceError::TooLarge { bytes: text.len() });
    }
    let control = |letter: char| letter.is_control() && !letter.is_whitespace();
    if let Some((at, letter)) = text
        .chars()
        .enumerate()
        .find(|(_, letter)| control(*letter))
    {
        return Err(PronounceError::Control { letter, at });
    }
    // An empty line ends a sentence as a period does.
    let paragraphs: Vec<&str> = text
        .split("\n\n")
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    let ended = paragraphs.iter().map(|paragraph| {
        let end = if paragraph.ends_with(['.', '?', '!', ':', ',']) {
            ""
        } else {
            " ."
        };
        format!("{paragraph}{end}")
    });
    let text = match paragraphs.len() {
        0 | 1 => text.trim().to_string(),
        _ => ended.collect::<Vec<_>>().join(" "),
    };
    normalise(&text)
}

/// Normalised text cut behind `.`, `?` and `!`.
pub fn pieces(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for token in text.split_whitespace() {
        let last = all.last_mut().expect("there is a piece");
        if !last.is_empty() {
            last.push(' ');
        }
        last.push_str(token);
        if token.ends_with(['.', '?', '!']) {
            all.push(String::new());
        }
    }
    all.retain(|piece| !piece.is_empty());
    all
}

/// The ending of plurals and possessives.
fn with_s(mut phones: Vec<Phone>) -> Vec<Phone> {
    let phone = |name| Phone::parse(name).expect("a phoneme of the list");
    let (voiceless, hissing) = phones.last().map_or((false, false), |last| last.before_s());
    if hissing {
        phones.push(phone("IH0"));
    }
    phones.push(phone(if voiceless { "S" } else { "Z" }));
    phones
}
