//! Byte pairs by rank, as `tiktoken` keeps them (`tokenizer.tiktoken`): a line for each token, its bytes in base64 and its rank, which is
//! its id. Of neighbouring parts of a word those are joined first whose bytes have the lowest rank.

use std::collections::HashMap;

use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
};

use crate::TextError;

/// Ids and the bytes that they stand for. Nothing is special: special tokens follow behind the last rank, and whose they are is up to the
/// model.
#[derive(Debug, Clone)]
pub struct RankedVocabulary {
    ranks: HashMap<Vec<u8>, u32>,
    words: Split,
    shown: String,
}

impl RankedVocabulary {
    /// Reads a file; `words` is the expression that cuts a text into words, `shown` stands for the file in messages.
    ///
    /// # Errors
    /// [`TextError::File`] with the line that is none of a token and its rank, for ranks that are not those from 0 on, and if a
    /// byte has no token of its own.
    pub fn from_bytes(bytes: &[u8], words: &str, shown: &str) -> Result<Self, TextError> {
        let wrong = |reason: String| TextError::File {
            path: shown.into(),
            reason,
        };
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|_| wrong("not a text of tokens and ranks".into()))?;
        let mut ranks = HashMap::new();
        let lines = text.lines().enumerate();
        for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let (token, rank) = entry(line).ok_or_else(|| {
                let expected = "a token in base64, a space and its rank are expected";
                wrong(format!("line {}: {expected}", at + 1))
            })?;
            if ranks.insert(token, rank).is_some() {
                return Err(wrong(format!("line {}: the token is there twice", at + 1)));
            }
        }
        let mut seen: Vec<u32> = ranks.values().copied().collect();
        seen.sort_unstable();
        if !seen.iter().copied().eq(0..seen.len() as u32) {
            let reason = format!("the ranks of {} tokens are not those from 0 on", seen.len());
            return Err(wrong(reason));
        }
        if let Some(byte) = (0..=u8::MAX).find(|byte| !ranks.contains_key(&[*byte][..])) {
            return Err(wrong(format!("no token is the byte {byte} alone")));
        }
        let pattern = SplitPattern::Regex(words.into());
        let words = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            ranks,
            words,
            shown: shown.into(),
        })
    }

    /// Tokens: the id of the first special one.
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    /// Whether there is none; there never is.
    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// The ids of a text, in which nothing is special.
    ///
    /// # Errors
    /// [`TextError::File`] if the text cannot be cut into words.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut cut = PreTokenizedString::from(text);
        self.words
            .pre_tokenize(&mut cut)
            .map_err(|error| TextError::File {
                path: self.shown.clone(),
                reason: error.to_string(),
            })?;
        let words = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let ids = words
            .into_iter()
            .flat_map(|(word, _, _)| self.word(word.as_bytes()));
        Ok(ids.collect())
    }

    /// The ids of a word.
    fn word(&self, word: &[u8]) -> Vec<u32> {
        if let Some(&id) = self.ranks.get(word) {
            return vec![id];
        }
        // Where the parts begin, and where the word ends.
        let mut parts: Vec<usize> = (0..=word.len()).collect();
        loop {
            let joined = parts.windows(3).enumerate().filter_map(|(at, ends)| {
                let rank = self.ranks.get(&word[ends[0]..ends[2]])?;
                Some((*rank, at))
            });
            match joined.min() {
                Some((_, at)) => parts.remove(at + 1),
                None => break,
            };
        }
        let ids = parts
            .windows(2)
            .map(|ends| self.ranks[&word[ends[0]..ends[1]]]);
        ids.collect()
    }
}

/// A token and its rank.
fn entry(line: &str) -> Option<(Vec<u8>, u32)> {
    let (token, rank) = line.trim().split_once(' ')?;
    let token = from_base64(token)?;
    match token.is_empty() {
        true => None,
        false => Some((token, rank.parse().ok()?)),
    }
}

/// The bytes of base64 with padding (RFC 4648, section 4).
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let kept = text.trim_end_matches('=');
    if text.len() - kept.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(kept.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for letter in kept.bytes() {
        bits = bits << 6 | u32::from(value(letter)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base64(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let group = |three: &[u8]| {
            let bits = (0..3).fold(0u32, |bits, at| {
                bits << 8 | u32::from(three.get(at).copied().unwrap_or(0))
            });
            let letter = |at: usize| match at <= three.len() {
                true => char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]),
                false => '=',
            };
            (0..4).map(letter).collect::<String>()
        };
        bytes.chunks(3).map(group).collect()
    }

    /// All bytes, then some tokens.
    fn file(tokens: &[&str]) -> String {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let all = bytes.chain(tokens.iter().map(|token| token.as_bytes().to_vec()));
        let lines = all
            .enumerate()
            .map(|(rank, token)| format!("{} {rank}\n", base64(&token)));
        lines.collect()
    }

    const WORDS: &str = r"\p{L}+|\s+|[^\s\p{L}]+";

    fn read(text: &str) -> Result<RankedVocabulary, TextError> {
        RankedVocabulary::from_bytes(text.as_bytes(), WORDS, "t.tiktoken")
    }

    #[test]
    fn the_lowest_rank_is_joined_first() {
        // `bc` comes before `ab`: a, bc, d; and `abc` cannot be reached by way of `ab`.
        let vocabulary = read(&file(&["bc", "ab", "cd", "abc"])).unwrap();
        assert_eq!(vocabulary.len(), 260);
        assert_eq!(vocabulary.encode("abcd").unwrap(), [259, u32::from(b'd')]);
        assert_eq!(vocabulary.encode("abd").unwrap(), [257, u32::from(b'd')]);
        // Words are never joined with each other, and a word that is a token is that token.
        assert_eq!(vocabulary.encode("ab cd").unwrap(), [257, 32, 258]);
        assert_eq!(vocabulary.encode("abc").unwrap(), [259]);
        assert_eq!(vocabulary.encode("é").unwrap(), [0xC3, 0xA9]);
        assert_eq!(vocabulary.encode("").unwrap(), [0u32; 0]);
    }

    #[test]
    fn files_that_are_none_are_refused_with_the_line() {
        let good = file(&["ab"]);
        for (text, expected) in [
            ("{\"model\": 1}".to_string(), "line 1: a token in base64"),
            (good.replacen("AQ== 1\n", "AQ= 1\n", 1), "line 2"),
            (good.replacen("AQ== 1\n", "", 1), "ranks"),
            (
                format!("{good}AQ== 257\n"),
                "line 258: the token is there twice",
            ),
            (good.replacen(" 256", " 300", 1), "ranks"),
            (good.replacen("AQ== 1\n", "YWJj 1\n", 1), "the byte 1"),
            (String::new(), "the byte 0"),
        ] {
            let line = read(&text).expect_err(expected).to_string();
            assert!(line.contains(expected), "{line}");
        }
        assert!(RankedVocabulary::from_bytes(b"\xff\xfe", WORDS, "x").is_err());
    }

    #[test]
    fn base64_is_read_whole_or_not_at_all() {
        for bytes in [&b""[..], b"a", b"ab", b"abc", b"\x00\xff\x10\x83"] {
            assert_eq!(from_base64(&base64(bytes)).unwrap(), bytes);
        }
        for wrong in ["a", "ab", "abc", "====", "a===", "a b=", "YQ==YQ=="] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
    }
}
