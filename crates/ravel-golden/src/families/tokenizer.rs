//! Vocabularies of the `tokenizers` library, byte pairs and unigrams: ids, tokens, places and both decodings of each text, and a text
//! that comes id by id.

use ravel_text::{TextError, Vocabulary};
use serde::Deserialize;

use crate::{Case, CaseReport, GoldenError};

/// `cases.json`.
#[derive(Deserialize)]
struct Cases {
    cases: Vec<Text>,
    stream_prefix_case: Stream,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    tokens: Vec<String>,
    /// In characters.
    offsets: Vec<[usize; 2]>,
    ids_without_special: Vec<u32>,
    decoded: String,
    decoded_skip_special: String,
}

#[derive(Deserialize)]
struct Stream {
    text_index: usize,
    decoded_prefixes: Vec<String>,
}

/// Runs a case.
///
/// # Errors
/// [`GoldenError::Input`] if a file cannot be read.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    let failed = |error: TextError| case.input(error);
    let vocabulary =
        Vocabulary::from_bytes(case.text("tokenizer.json")?.as_bytes(), "tokenizer.json");
    let vocabulary = vocabulary.map_err(failed)?;
    let cases: Cases = case.json("cases.json")?;
    let mut wrong = [0; 6];
    for text in &cases.cases {
        let found = vocabulary.encode(&text.text, true).map_err(failed)?;
        let plain = vocabulary.encode(&text.text, false).map_err(failed)?;
        let characters = found.characters(&text.text).into_iter();
        let places: Vec<[usize; 2]> = characters.map(|range| [range.start, range.end]).collect();
        let decoded = |skip| vocabulary.decode(&text.ids, skip).map_err(failed);
        let agrees = [
            found.ids == text.ids,
            found.tokens == text.tokens,
            places == text.offsets,
            plain.ids == text.ids_without_special,
            decoded(false)? == text.decoded,
            decoded(true)? == text.decoded_skip_special,
        ];
        for (wrong, agrees) in wrong.iter_mut().zip(agrees) {
            *wrong += usize::from(!agrees);
        }
    }
    let names = [
        "ids",
        "tokens",
        "offsets",
        "ids_without_special",
        "decoded",
        "decoded_skip_special",
    ];
    let texts = format!("{} texts", cases.cases.len());
    for (name, wrong) in names.into_iter().zip(wrong) {
        report.count(name, &texts, wrong);
    }
    stream(case, report, &vocabulary, &cases)
}

/// What has come of a text after each id is the decoding of the ids so far without the character that is not all there.
fn stream(
    case: &Case,
    report: &mut CaseReport<'_>,
    vocabulary: &Vocabulary,
    cases: &Cases,
) -> Result<(), GoldenError> {
    let failed = |error: TextError| case.input(error);
    let Stream {
        text_index,
        decoded_prefixes,
    } = &cases.stream_prefix_case;
    let text = cases
        .cases
        .get(*text_index)
        .ok_or_else(|| case.input("stream_prefix_case: no such text"))?;
    let mut stream = vocabulary.stream(true);
    let mut come = String::new();
    let mut wrong = text.ids.len().abs_diff(decoded_prefixes.len());
    for (&id, expected) in text.ids.iter().zip(decoded_prefixes) {
        come += &stream.push(id).map_err(failed)?;
        let whole = expected.trim_end_matches(char::REPLACEMENT_CHARACTER);
        wrong += usize::from(come != whole);
    }
    come += &stream.finish().map_err(failed)?;
    wrong += usize::from(Some(&come) != decoded_prefixes.last());
    report.count("stream_prefix_case", "id by id", wrong);
    Ok(())
}
