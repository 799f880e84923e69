//! Letters to sounds: what a letter stands for, told by the letters around it.
//!
//! Learned from a lexicon: letters and phonemes are aligned by hard expectation maximisation, each letter giving none to three
//! phonemes (Damper et al. 2004 compare such aligners); then a rule is kept for every context, from short to long, that foretells
//! something else than the shorter contexts within it. The longest rule that fits decides.

use std::collections::HashMap;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::{Phone, PronounceError};

/// Letters looked at on the left and on the right, from short contexts to long ones.
const CONTEXTS: [(usize, usize); 8] = [
    (0, 0),
    (0, 1),
    (1, 1),
    (1, 2),
    (2, 2),
    (2, 3),
    (3, 3),
    (3, 4),
];
/// What stands around a word.
const EDGE: u8 = b'#';
/// Phonemes of one letter at most.
const MOST: usize = 3;
/// Passes of the aligner.
const PASSES: usize = 8;
/// Phonemes are written from here on.
const FIRST_PHONE: u8 = 128;
/// Longest unpacked table in bytes.
const LARGEST: u64 = 1 << 24;

/// Rules by context: left letters, the letter, right letters.
#[derive(Debug, Clone, Default)]
pub struct LetterRules {
    rules: HashMap<Vec<u8>, Vec<Phone>>,
}

impl LetterRules {
    /// Learns rules. A rule is kept if it mends at least `gain` letters of the lexicon.
    pub fn learn(words: &[(String, Vec<Phone>)], gain: usize) -> Self {
        let aligned = align(words);
        let mut learned = Self::default();
        for context in CONTEXTS {
            let mut seen: HashMap<Vec<u8>, HashMap<&[Phone], usize>> = HashMap::new();
            for (word, groups) in &aligned {
                let padded = padded(word);
                for (at, group) in groups.iter().enumerate() {
                    let key = key(&padded, at, context);
                    *seen.entry(key).or_default().entry(group).or_default() += 1;
                }
            }
            let mut kept = Vec::new();
            for (key, counts) in seen {
                let most = counts
                    .iter()
                    .max_by_key(|(group, count)| (**count, std::cmp::Reverse(**group)))
                    .map(|(group, count)| (group.to_vec(), *count));
                let Some((group, count)) = most else {
                    continue;
                };
                let now = learned.within(&key, context);
                let right = now.and_then(|now| counts.get(&now[..]).copied());
                if now != Some(&group) && count >= right.unwrap_or(0) + gain {
                    kept.push((key, group));
                }
            }
            learned.rules.extend(kept);
        }
        learned
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The phonemes of a word in lower case, with one main stress. Characters without a rule say nothing.
    pub fn phones(&self, word: &str) -> Vec<Phone> {
        let padded = padded(word.as_bytes());
        let mut phones = Vec::new();
        for at in 0..word.len() {
            let longest = CONTEXTS.iter().rev();
            let rule = longest.copied().find_map(|context| {
                let key = key(&padded, at, context);
                self.rules.get(&key)
            });
            phones.extend(rule.into_iter().flatten());
        }
        one_stress(&mut phones);
        phones
    }

    /// What the shorter contexts within one foretell.
    fn within(&self, key: &[u8], context: (usize, usize)) -> Option<&Vec<Phone>> {
        let shorter = CONTEXTS.iter().rev().filter(|shorter| **shorter < context);
        shorter.copied().find_map(|shorter| {
            let from = context.0 - shorter.0;
            // The letter itself is marked by the position of the left context's end.
            let letters = &key[1..];
            let part = &letters[from..from + shorter.0 + 1 + shorter.1];
            self.rules.get(&marked(part, shorter))
        })
    }

    /// The rules as bytes.
    pub fn pack(&self) -> Vec<u8> {
        let mut sorted: Vec<_> = self.rules.iter().collect();
        sorted.sort();
        let mut plain = Vec::new();
        for (key, phones) in sorted {
            plain.extend(key);
            plain.extend(phones.iter().map(|phone| FIRST_PHONE + phone.number()));
            plain.push(b'\n');
        }
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::best());
        deflated.write_all(&plain).expect("memory takes all bytes");
        deflated.finish().expect("memory takes all bytes")
    }

    /// Takes [`LetterRules::pack`]'s bytes back.
    ///
    /// # Errors
    /// [`PronounceError::Lexicon`] if they are something else.
    pub fn unpack(packed: &[u8]) -> Result<Self, PronounceError> {
        let wrong = |reason: String| PronounceError::Lexicon { reason };
        let mut plain = Vec::new();
        DeflateDecoder::new(packed)
            .take(LARGEST)
            .read_to_end(&mut plain)
            .map_err(|error| wrong(error.to_string()))?;
        let mut rules = HashMap::new();
        for line in plain
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let end = line.iter().position(|byte| *byte >= FIRST_PHONE);
            let (key, phones) = line.split_at(end.unwrap_or(line.len()));
            let phones = phones
                .iter()
                .map(|byte| Phone::new(byte.checked_sub(FIRST_PHONE)?))
                .collect::<Option<Vec<_>>>();
            let phones = phones.ok_or_else(|| wrong("a rule without phonemes".into()))?;
            rules.insert(key.to_vec(), phones);
        }
        match rules.is_empty() {
            true => Err(wrong("there is no rule".into())),
            false => Ok(Self { rules }),
        }
    }
}

/// The word with edges around it.
fn padded(word: &[u8]) -> Vec<u8> {
    let edge = [EDGE; 4];
    [&edge[..], word, &edge[..]].concat()
}

/// The key of a context: its number, then its letters.
fn key(padded: &[u8], at: usize, context: (usize, usize)) -> Vec<u8> {
    let middle = at + 4;
    marked(&padded[middle - context.0..=middle + context.1], context)
}

fn marked(letters: &[u8], context: (usize, usize)) -> Vec<u8> {
    let number = CONTEXTS.iter().position(|known| *known == context);
    let number = number.expect("a context of the list") as u8;
    let mut key = vec![b'0' + number];
    key.extend(letters);
    key
}

/// Letters, and the phonemes of each.
type Aligned<'a> = (&'a [u8], Vec<Vec<Phone>>);

/// Words with the phonemes of each letter. Words that cannot be aligned are left out.
fn align(words: &[(String, Vec<Phone>)]) -> Vec<Aligned<'_>> {
    let mut costs: HashMap<(u8, Vec<Phone>), f64> = HashMap::new();
    let mut aligned = Vec::new();
    for pass in 0..PASSES {
        aligned = words
            .iter()
            .filter_map(|(word, phones)| {
                let groups = best_split(word.as_bytes(), phones, &costs, pass == 0)?;
                Some((word.as_bytes(), groups))
            })
            .collect();
        let mut counts: HashMap<(u8, Vec<Phone>), f64> = HashMap::new();
        let mut totals: HashMap<u8, f64> = HashMap::new();
        for (word, groups) in &aligned {
            for (&letter, group) in word.iter().zip(groups) {
                *counts.entry((letter, group.clone())).or_default() += 1.0;
                *totals.entry(letter).or_default() += 1.0;
            }
        }
        costs = counts
            .into_iter()
            .map(|((letter, group), count)| {
                let cost = -((count + 0.1) / (totals[&letter] + 10.0)).ln();
                ((letter, group), cost)
            })
            .collect();
    }
    aligned
}

/// The cheapest way to give every letter none to three of the phonemes, in order.
fn best_split(
    word: &[u8],
    phones: &[Phone],
    costs: &HashMap<(u8, Vec<Phone>), f64>,
    first: bool,
) -> Option<Vec<Vec<Phone>>> {
    let cost = |letter: u8, group: &[Phone]| {
        if first {
            // Before anything is known: one phoneme a letter, with a word's place on both sides as alike as can be.
            return match group.len() {
                0 => 1.5,
                1 => 0.5,
                more => 2.0 * more as f64,
            };
        }
        let known = costs.get(&(letter, group.to_vec())).copied();
        known.unwrap_or(12.0 + group.len() as f64)
    };
    let (n, m) = (word.len(), phones.len());
    let mut best = vec![vec![(f64::INFINITY, 0usize); m + 1]; n + 1];
    best[0][0].0 = 0.0;
    for at in 0..n {
        for done in 0..=m {
            let so_far = best[at][done].0;
            if so_far.is_infinite() {
                continue;
            }
            for take in 0..=MOST.min(m - done) {
                let total = so_far + cost(word[at], &phones[done..done + take]);
                if total < best[at + 1][done + take].0 {
                    best[at + 1][done + take] = (total, take);
                }
            }
        }
    }
    if best[n][m].0.is_infinite() {
        return None;
    }
    let mut groups = Vec::with_capacity(n);
    let mut done = m;
    for at in (0..n).rev() {
        let take = best[at + 1][done].1;
        groups.push(phones[done - take..done].to_vec());
        done -= take;
    }
    groups.reverse();
    Some(groups)
}

/// The first main stress stays, others become lesser ones; a word without any gets one on its first vowel.
fn one_stress(phones: &mut [Phone]) {
    let mut seen = false;
    for phone in phones.iter_mut() {
        if phone.stress() == Some(1) {
            if seen {
                *phone = phone.stressed(2);
            }
            seen = true;
        }
    }
    if !seen && let Some(first) = phones.iter_mut().find(|phone| phone.stress().is_some()) {
        *first = first.stressed(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Vec<(String, Vec<Phone>)> {
        [
            ("cat", "K AE1 T"),
            ("cap", "K AE1 P"),
            ("tap", "T AE1 P"),
            ("cent", "S EH1 N T"),
            ("cell", "S EH1 L"),
            ("tent", "T EH1 N T"),
            ("tell", "T EH1 L"),
            ("pact", "P AE1 K T"),
        ]
        .into_iter()
        .map(|(word, phones)| {
            let phones = phones.split(' ').filter_map(Phone::parse).collect();
            (word.to_string(), phones)
        })
        .collect()
    }

    fn said(rules: &LetterRules, word: &str) -> String {
        let names: Vec<_> = rules
            .phones(word)
            .iter()
            .map(|phone| phone.name())
            .collect();
        names.join(" ")
    }

    #[test]
    fn neighbours_decide_what_a_letter_says() {
        let rules = LetterRules::learn(&words(), 1);
        assert_eq!(said(&rules, "cat"), "K AE1 T");
        assert_eq!(said(&rules, "cell"), "S EH1 L");
        // A word that was not learned.
        assert_eq!(said(&rules, "pat"), "P AE1 T");
        assert_eq!(said(&rules, "?!"), "");
    }

    #[test]
    fn packed_rules_say_the_same() {
        let rules = LetterRules::learn(&words(), 1);
        let again = LetterRules::unpack(&rules.pack()).unwrap();
        assert_eq!(again.len(), rules.len());
        assert_eq!(said(&again, "accent"), said(&rules, "accent"));
        assert!(LetterRules::unpack(b"no").is_err());
    }
}
