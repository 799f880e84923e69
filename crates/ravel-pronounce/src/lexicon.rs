//! Words with their phonemes, packed.
//!
//! Words are sorted; each begins with how many letters it shares with the one before (0 to 30), then come its other letters, then
//! its phonemes as bytes of 128 and more. All that is deflated.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::{Phone, PronounceError};

/// Bytes unpacked at most.
const LARGEST: u64 = 1 << 26;
/// Phonemes are written from here on.
const FIRST_PHONE: u8 = 128;
/// Letters that are shared at most.
const MOST_SHARED: usize = 30;

/// Words with their phonemes.
#[derive(Debug, Clone)]
pub struct Lexicon {
    /// Letters and phonemes of all words, one after another.
    bytes: Vec<u8>,
    /// Where each word begins, in the order of words.
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    letters: u8,
    phones: u8,
}

impl Lexicon {
    /// Unpacks [`Lexicon::pack`]'s bytes.
    ///
    /// # Errors
    /// [`PronounceError::Lexicon`] if they are something else.
    pub fn unpack(packed: &[u8]) -> Result<Self, PronounceError> {
        let mut plain = Vec::new();
        DeflateDecoder::new(packed)
            .take(LARGEST)
            .read_to_end(&mut plain)
            .map_err(|error| wrong(&error.to_string()))?;
        let mut lexicon = Self {
            bytes: Vec::with_capacity(2 * plain.len()),
            entries: Vec::new(),
        };
        let mut word: Vec<u8> = Vec::new();
        let mut rest = &plain[..];
        while let Some((&shared, after)) = rest.split_first() {
            let is_phone = |byte: &u8| *byte >= FIRST_PHONE;
            let is_next = |byte: &u8| usize::from(*byte) <= MOST_SHARED;
            let letters = after.iter().position(is_phone).unwrap_or(after.len());
            let end = after.iter().position(is_next).unwrap_or(after.len());
            if usize::from(shared) > word.len().min(MOST_SHARED) || letters > end {
                return Err(wrong("a word that does not follow the one before"));
            }
            word.truncate(shared.into());
            word.extend(&after[..letters]);
            let phones = &after[letters..end];
            let fits = phones
                .iter()
                .all(|&phone| phone >= FIRST_PHONE && Phone::new(phone - FIRST_PHONE).is_some());
            if !fits || phones.len() > 255 || word.len() > 255 || word.is_empty() {
                return Err(wrong("a phoneme that there is not"));
            }
            lexicon.entries.push(Entry {
                start: lexicon.bytes.len() as u32,
                letters: word.len() as u8,
                phones: phones.len() as u8,
            });
            lexicon.bytes.extend(&word);
            lexicon
                .bytes
                .extend(phones.iter().map(|phone| phone - FIRST_PHONE));
            rest = &after[end..];
        }
        let sorted = lexicon
            .entries
            .windows(2)
            .all(|pair| lexicon.word(pair[0]) < lexicon.word(pair[1]));
        match sorted && !lexicon.entries.is_empty() {
            true => Ok(lexicon),
            false => Err(wrong("words that are not in order")),
        }
    }

    /// Packs words of `a` to `z` and apostrophes.
    ///
    /// # Panics
    /// If the words are not sorted, or one has other letters.
    pub fn pack<'a>(words: impl IntoIterator<Item = (&'a str, &'a [Phone])>) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut before = "";
        for (word, phones) in words {
            assert!(before < word, "`{word}` comes after `{before}`");
            let taken = |byte: u8| byte.is_ascii_lowercase() || byte == b'\'';
            assert!(word.bytes().all(taken), "`{word}` has other letters");
            let shared = word
                .bytes()
                .zip(before.bytes())
                .take_while(|(a, b)| a == b)
                .count()
                .min(MOST_SHARED);
            plain.push(shared as u8);
            plain.extend(&word.as_bytes()[shared..]);
            plain.extend(phones.iter().map(|phone| FIRST_PHONE + phone.number()));
            before = word;
        }
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::best());
        deflated.write_all(&plain).expect("memory takes all bytes");
        deflated.finish().expect("memory takes all bytes")
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The phonemes of a word in lower case.
    pub fn phones(&self, word: &str) -> Option<Vec<Phone>> {
        let at = self
            .entries
            .binary_search_by(|entry| self.word(*entry).cmp(word.as_bytes()))
            .ok()?;
        let Entry {
            start,
            letters,
            phones,
        } = self.entries[at];
        let start = start as usize + usize::from(letters);
        let found = &self.bytes[start..start + usize::from(phones)];
        found.iter().map(|&number| Phone::new(number)).collect()
    }

    fn word(&self, entry: Entry) -> &[u8] {
        let start = entry.start as usize;
        &self.bytes[start..start + usize::from(entry.letters)]
    }
}

fn wrong(reason: &str) -> PronounceError {
    PronounceError::Lexicon {
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phones(text: &str) -> Vec<Phone> {
        text.split(' ').filter_map(Phone::parse).collect()
    }

    #[test]
    fn packed_words_are_found_and_others_are_not() {
        let words = [
            ("a", phones("AH0")),
            ("tea", phones("T IY1")),
            ("teapot", phones("T IY1 P AA2 T")),
            ("tee's", phones("T IY1 Z")),
        ];
        let packed = Lexicon::pack(words.iter().map(|(word, phones)| (*word, &phones[..])));
        let lexicon = Lexicon::unpack(&packed).unwrap();
        assert_eq!(lexicon.len(), 4);
        for (word, phones) in &words {
            assert_eq!(lexicon.phones(word).as_ref(), Some(phones), "{word}");
        }
        assert_eq!(lexicon.phones("te"), None);
        assert_eq!(lexicon.phones(""), None);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let phones = phones("T IY1");
        let packed = Lexicon::pack([("tea", &phones[..])]);
        assert!(Lexicon::unpack(&packed[..packed.len() - 2]).is_err());
        assert!(Lexicon::unpack(b"").is_err());
        assert!(Lexicon::unpack(b"no deflate").is_err());
    }
}
