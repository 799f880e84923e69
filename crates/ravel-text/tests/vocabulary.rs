//! Vocabularies of language models: what is learned, what comes back, and text that comes id by id.

use ravel_text::{END_OF_TEXT, TextError, Vocabulary};

fn learned() -> Vocabulary {
    let texts = [
        "Die Straße ist naß. Café, naïve, 東京 🙂!",
        "the cat sat on the mat",
    ];
    let texts = texts.iter().cycle().take(8).map(|text| text.to_string());
    Vocabulary::train(texts, 300).unwrap()
}

const TEXTS: [&str; 6] = [
    "the cat",
    "  two  spaces and\n\nlines\t",
    "Zoë said: 東京 is far 🙂🙃",
    "x",
    "\u{fffd} is a character",
    "e\u{301}",
];

#[test]
fn any_text_comes_back_composed() {
    let vocabulary = learned();
    for text in TEXTS {
        let encoded = vocabulary.encode(text, true).unwrap();
        let composed = text.replace("e\u{301}", "é");
        assert_eq!(vocabulary.decode(&encoded.ids, true).unwrap(), composed);
        assert_eq!(encoded.tokens.len(), encoded.ids.len());
    }
}

#[test]
fn each_id_names_its_bytes() {
    let vocabulary = learned();
    let text = "the mat, 東京";
    let encoded = vocabulary.encode(text, false).unwrap();
    let mut end = 0;
    for bytes in &encoded.bytes {
        // The space in front of a word belongs to its id, but not to the bytes that stand for the word.
        let between = text.get(end..bytes.start).unwrap_or_default();
        assert!(between.trim().is_empty(), "{bytes:?} after {end}");
        assert!(bytes.end >= end, "{bytes:?} after {end}");
        end = bytes.end;
    }
    assert_eq!(end, text.len());
}

#[test]
fn text_that_comes_id_by_id_is_the_whole_text_and_never_half_a_character() {
    let vocabulary = learned();
    for text in TEXTS {
        let ids = vocabulary.encode(text, false).unwrap().ids;
        let mut stream = vocabulary.stream(true);
        let mut all = String::new();
        for &id in &ids {
            let piece = stream.push(id).unwrap();
            if !text.contains('\u{fffd}') {
                assert!(!piece.contains('\u{fffd}'), "{text}: {piece:?}");
            }
            all += &piece;
        }
        all += &stream.finish().unwrap();
        assert_eq!(all, vocabulary.decode(&ids, true).unwrap());
    }
}

#[test]
fn a_cut_character_is_shown_as_such_at_the_end_only() {
    let vocabulary = learned();
    let ids = vocabulary.encode("a🙃", false).unwrap().ids;
    let mut stream = vocabulary.stream(true);
    let cut = &ids[..ids.len() - 1];
    let pieces: Vec<String> = cut.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(pieces.concat(), "a");
    assert!(stream.finish().unwrap().contains('\u{fffd}'));
}

#[test]
fn the_end_token_is_special() {
    let vocabulary = learned();
    assert_eq!(vocabulary.id(END_OF_TEXT), Some(0));
    assert_eq!(vocabulary.token(0).as_deref(), Some(END_OF_TEXT));
    let ids = vocabulary
        .encode(&format!("the{END_OF_TEXT}"), false)
        .unwrap()
        .ids;
    assert_eq!(ids.last(), Some(&0));
    assert_eq!(vocabulary.decode(&ids, true).unwrap(), "the");
    assert_eq!(vocabulary.size(), 300);
}

#[test]
fn files_that_are_none_and_sizes_that_hold_no_bytes_are_refused() {
    let wrong = |bytes: &[u8]| Vocabulary::from_bytes(bytes, "a.json").unwrap_err();
    for bytes in [&b""[..], b"{}", b"[1]", b"\xff"] {
        let error = wrong(bytes);
        assert!(matches!(error, TextError::File { .. }));
        let line = error.to_string();
        assert!(
            line.starts_with("a.json") && line.lines().count() == 1,
            "{line}"
        );
    }
    let error = Vocabulary::train(["a".to_string()].into_iter(), 256).unwrap_err();
    assert!(error.to_string().contains("257 at least"), "{error}");
}
