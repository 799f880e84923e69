//! The built-in lexicon and rules on real words and texts.

use ravel_pronounce::{MAX_TEXT_BYTES, PronounceError, Pronouncer, SYMBOLS, Symbol};

fn said(symbols: &[Symbol]) -> String {
    let names: Vec<String> = symbols.iter().map(|symbol| symbol.name()).collect();
    names.join(" ")
}

#[test]
fn words_are_said() {
    let english = Pronouncer::english();
    for (word, expected) in [
        ("cat", "K AE1 T"),
        ("Hello", "HH AH0 L OW1"),
        ("it's", "IH1 T S"),
        ("dog's", "D AO1 G Z"),
        ("teacher's", "T IY1 CH ER0 Z"),
        ("blick's", "B L IH1 K S"),
    ] {
        let names: Vec<String> = english.word(word).iter().map(|p| p.name()).collect();
        assert_eq!(names.join(" "), expected, "{word}");
    }
}

#[test]
fn words_that_nobody_knows_are_said_by_rule() {
    let english = Pronouncer::english();
    for (word, expected) in [("blick", "B L IH1 K"), ("nabbing", "N AE1 B IH0 NG")] {
        let names: Vec<String> = english.word(word).iter().map(|p| p.name()).collect();
        assert_eq!(names.join(" "), expected, "{word}");
    }
}

#[test]
fn sentences_become_utterances() {
    let english = Pronouncer::english();
    let found = english
        .utterances("Dr. Lee has 2 cats. Really?", 80)
        .unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].0, "doctor Lee has two cats.");
    assert_eq!(
        said(&found[0].1),
        "D AA1 K T ER0 | L IY1 | HH AE1 Z | T UW1 | K AE1 T S ."
    );
    assert_eq!(said(&found[1].1), "R IH1 L IY0 ?");
    let numbers = found[0].1.iter().map(|symbol| symbol.number());
    assert!(numbers.into_iter().all(|number| number < SYMBOLS));
}

#[test]
fn letters_in_capitals_are_named() {
    let english = Pronouncer::english();
    let symbols = english.symbols("the KQZ and X").unwrap();
    assert_eq!(
        said(&symbols),
        "DH AH0 | K EY1 K Y UW1 Z IY1 | AH0 N D | EH1 K S"
    );
}

#[test]
fn long_sentences_are_cut_at_words_and_rather_at_commas() {
    let english = Pronouncer::english();
    let text = "one two three four, five six seven eight nine ten eleven twelve";
    let found = english.utterances(text, 24).unwrap();
    assert!(found.iter().all(|(_, symbols)| symbols.len() <= 24));
    let words: Vec<&str> = found.iter().map(|(words, _)| words.as_str()).collect();
    assert_eq!(words.join(" "), text);
    assert!(
        words.iter().any(|words| words.ends_with("four,")),
        "{words:?}"
    );
}

#[test]
fn what_cannot_be_said_is_refused() {
    let english = Pronouncer::english();
    let check = |text: &str, expected: &str| {
        let error = english.utterances(text, 80).unwrap_err();
        assert!(error.to_string().contains(expected), "{text}: {error}");
    };
    check("", "no word");
    check(" ... !! ", "no word");
    check("a\u{7}b", "U+0007");
    check("Привет", "U+041F");
    check(&"a ".repeat(MAX_TEXT_BYTES), "200000 bytes");
    assert_eq!(
        english.utterances("\0", 80).unwrap_err(),
        PronounceError::Control {
            letter: '\0',
            at: 0
        }
    );
}
