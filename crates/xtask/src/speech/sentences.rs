//! Sentences: templates filled in with words of classes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::random::Random;

/// The class whose words come from the word list.
const ANY: &str = "word";
/// Draws before a template is given up.
const TRIES: usize = 1000;

/// What sentences are made of.
pub struct Sentences {
    classes: BTreeMap<String, Vec<String>>,
    templates: Vec<String>,
    /// Words and sentences that may not be drawn.
    held_out: BTreeSet<String>,
}

impl Sentences {
    /// Reads classes and templates; `words` are the words of `{word}`.
    pub fn read(path: &Path, words: Vec<String>) -> Result<Self> {
        let lines = read_lines(path)?;
        let shown = path.display();
        let mut parts = lines.split(|line| line == "---");
        let (Some(classes), Some(templates), None) = (parts.next(), parts.next(), parts.next())
        else {
            bail!("{shown}: classes, a line `---` and templates are expected");
        };
        let mut known = BTreeMap::from([(ANY.to_string(), words)]);
        for line in classes {
            let (name, words) = line
                .split_once(':')
                .with_context(|| format!("{shown}: `{line}` is not `class: words`"))?;
            let words = words.split_whitespace().map(|word| word.replace('-', " "));
            known.insert(name.into(), words.collect());
        }
        let all = Self {
            classes: known,
            templates: templates.to_vec(),
            held_out: BTreeSet::new(),
        };
        ensure!(!all.templates.is_empty(), "{shown}: there is no template");
        for template in &all.templates {
            all.filled(template, &mut Random::named(template))
                .with_context(|| format!("{shown}: `{template}`"))?;
        }
        Ok(all)
    }

    /// Without sentences that have one of these words or are one of these sentences.
    pub fn without(self, words: &[String], sentences: &[String]) -> Self {
        let held_out = words.iter().chain(sentences).cloned().collect();
        Self { held_out, ..self }
    }

    /// A sentence of the template with this number.
    pub fn draw(&self, number: usize, random: &mut Random) -> Result<String> {
        let template = &self.templates[number % self.templates.len()];
        for _ in 0..TRIES {
            let sentence = self.filled(template, random)?;
            let known = |text: &str| self.held_out.contains(text);
            if !known(&sentence) && !words_of(&sentence).iter().any(|word| known(word)) {
                return Ok(sentence);
            }
        }
        bail!("`{template}` gives nothing but held-out words");
    }

    fn filled(&self, template: &str, random: &mut Random) -> Result<String> {
        let mut sentence = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (class, after) = after
                .split_once('}')
                .context("a brace that is not closed")?;
            let words = self
                .classes
                .get(class)
                .filter(|words| !words.is_empty())
                .with_context(|| format!("there is no word of class `{class}`"))?;
            sentence += before;
            sentence += &words[random.below(words.len())];
            rest = after;
        }
        sentence += rest;
        let first = sentence.chars().next().map(|first| first.to_uppercase());
        let tail: String = sentence.chars().skip(1).collect();
        Ok(first.into_iter().flatten().collect::<String>() + &tail)
    }
}

/// The words of a sentence in lower case.
pub fn words_of(sentence: &str) -> Vec<String> {
    let lower = sentence.to_lowercase();
    let words = lower.split(|letter: char| !letter.is_alphabetic() && letter != '\'');
    words
        .filter(|word| !word.is_empty())
        .map(String::from)
        .collect()
}

/// The lines of a list; remarks begin with `#`.
pub fn read_lines(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(text: &str) -> Result<Sentences> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("templates.txt");
        fs::write(&path, text)?;
        Sentences::read(&path, vec!["tea".into(), "sea".into()])
    }

    #[test]
    fn held_out_words_are_never_drawn() {
        let all = sentences("# remark\nwhere: at-home at-sea\n---\nthe {word} is {where}.\n")
            .unwrap()
            .without(&["sea".into()], &[]);
        for seed in 0..20 {
            let random = &mut Random::named(&seed.to_string());
            assert_eq!(all.draw(0, random).unwrap(), "The tea is at home.");
        }
    }

    #[test]
    fn what_is_no_template_is_named() {
        for (text, expected) in [
            ("---\n{verb}.\n", "`{verb}.`"),
            ("---\n{word\n", "`{word`"),
            ("no class\n---\nx\n", "`no class`"),
            ("a: b\n", "---"),
        ] {
            let error = format!("{:#}", sentences(text).err().expect(text));
            assert!(error.contains(expected), "{error}");
        }
    }
}
