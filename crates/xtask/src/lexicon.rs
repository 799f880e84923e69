//! The lexicon and letter-to-sound rules of `ravel-pronounce`, from CMUdict.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ravel_pronounce::{LetterRules, Lexicon, Phone};

/// One word in this many is kept from learning and told of.
const HELD_OUT_ONE_IN: usize = 20;

/// Flags of `cargo xtask lexicon`.
#[derive(clap::Args)]
pub struct Options {
    /// CMUdict's `cmudict.dict`, as the Python package cmudict brings it.
    #[arg(long)]
    cmudict: PathBuf,
    /// The folder that is written: `english.lexicon` and `english.letters`.
    #[arg(long, default_value = "crates/ravel-pronounce/data")]
    out: PathBuf,
    /// Letters of the lexicon that a rule must mend.
    #[arg(long, default_value_t = 3)]
    gain: usize,
}

/// Learns the rules and packs what they say wrongly.
pub fn build(options: &Options) -> Result<()> {
    let text = fs::read_to_string(&options.cmudict)
        .with_context(|| options.cmudict.display().to_string())?;
    let mut words = parsed(&text);
    words.sort();
    words.dedup_by(|later, first| later.0 == first.0);
    ensure!(words.len() > 1000, "{} words are no lexicon", words.len());
    let (seen, new): (Vec<_>, Vec<_>) = words
        .iter()
        .cloned()
        .enumerate()
        .partition(|(at, _)| at % HELD_OUT_ONE_IN != 0);
    let plain = |list: Vec<(usize, (String, Vec<Phone>))>| -> Vec<_> {
        list.into_iter().map(|(_, word)| word).collect()
    };
    let (seen, new) = (plain(seen), plain(new));
    let measured = LetterRules::learn(&seen, options.gain);
    let (right, near) = score(&measured, &new);
    println!(
        "of {} words held out, the rules say {right:.1} % rightly, {near:.1} % but for stress",
        new.len()
    );
    let rules = LetterRules::learn(&words, options.gain);
    let rest = words
        .iter()
        .filter(|(word, phones)| word.contains('\'') || rules.phones(word) != *phones);
    let rest: Vec<_> = rest
        .map(|(word, phones)| (&word[..], &phones[..]))
        .collect();
    let lexicon = Lexicon::pack(rest.iter().copied());
    let letters = rules.pack();
    for (name, bytes) in [("english.lexicon", &lexicon), ("english.letters", &letters)] {
        let path = options.out.join(name);
        ravel_files::write_whole(&path, bytes, true).with_context(|| path.display().to_string())?;
    }
    println!(
        "{} of {} words in {} bytes, {} rules in {} bytes",
        rest.len(),
        words.len(),
        lexicon.len(),
        rules.len(),
        letters.len()
    );
    Ok(())
}

/// First pronunciations of words of letters and apostrophes.
fn parsed(text: &str) -> Vec<(String, Vec<Phone>)> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?;
            let (word, phones) = line.split_once(' ')?;
            let taken = |letter: char| letter.is_ascii_lowercase() || letter == '\'';
            let inside = !word.starts_with('\'') && word.len() <= 30;
            (inside && word.chars().all(taken)).then_some(())?;
            let phones: Option<Vec<Phone>> = phones.split_whitespace().map(Phone::parse).collect();
            Some((word.to_string(), phones?))
        })
        .collect()
}

/// Percent of words that the rules say rightly, and rightly but for stress.
fn score(rules: &LetterRules, words: &[(String, Vec<Phone>)]) -> (f64, f64) {
    let bare =
        |phones: &[Phone]| -> Vec<Phone> { phones.iter().map(|phone| phone.stressed(0)).collect() };
    let (mut right, mut near) = (0, 0);
    for (word, phones) in words {
        let found = rules.phones(word);
        right += usize::from(found == *phones);
        near += usize::from(bare(&found) == bare(phones));
    }
    let percent = |count: usize| 100.0 * count as f64 / words.len().max(1) as f64;
    (percent(right), percent(near))
}
