//! Training, round trips and files that are none.

use ravel_text::{EMPTY, END, MAX_PROMPT_BYTES, PAD, Rewrite, Span, Subwords, TextError};

fn trained() -> Subwords {
    let captions = [
        "red heart",
        "red apple",
        "woman: dark skin tone",
        "man: dark skin tone",
    ];
    let captions = captions.iter().cycle().take(40).map(ToString::to_string);
    Subwords::train(captions, 300, Span::Words, &[]).unwrap()
}

#[test]
fn the_same_captions_give_the_same_vocabulary() {
    assert_eq!(trained().to_json(), trained().to_json());
    assert!(trained().vocabulary_size() <= 300);
}

#[test]
fn any_text_comes_back_in_lower_case() {
    let subwords = trained();
    for text in ["red heart", "ein ❤ für 猫", "tab\tand\u{7}bell", "émoji"] {
        let ids = subwords.encode(text).unwrap();
        assert_eq!(subwords.decode(&ids).unwrap().trim(), text);
    }
    assert_eq!(
        subwords.encode("Red HEART").unwrap(),
        subwords.encode("red heart").unwrap()
    );
    assert!(subwords.encode("dark skin tone").unwrap().len() < 6);
}

#[test]
fn prompts_have_one_length() {
    let subwords = trained();
    let ids = subwords.prompt("  red   heart ", 12).unwrap();
    assert_eq!(ids.len(), 12);
    let text = subwords.encode("red heart").unwrap();
    assert_eq!(ids[..text.len()], text[..]);
    assert_eq!(ids[text.len()], END);
    assert_eq!(*ids.last().unwrap(), PAD);
    assert_eq!(subwords.empty_prompt(4), [EMPTY, END, PAD, PAD]);
    assert!(
        !subwords.encode("<pad>").unwrap().contains(&PAD),
        "typed text is only text"
    );
}

#[test]
fn prompts_that_cannot_be_used_say_why() {
    let subwords = trained();
    assert_eq!(subwords.prompt(" \n ", 12), Err(TextError::Empty));
    let long = subwords.prompt("a b c d e f g h i j k l m n o p", 12);
    assert!(
        matches!(long, Err(TextError::TooLong { limit: 11, .. })),
        "{long:?}"
    );
    let huge = subwords.prompt(&"x".repeat(100_000), 12);
    let limit = MAX_PROMPT_BYTES;
    assert_eq!(
        huge,
        Err(TextError::TooLarge {
            bytes: 100_000,
            limit
        })
    );
}

#[test]
fn a_broken_file_is_refused_in_one_line() {
    let json = trained().to_json();
    for bytes in ["", "{}", "[1, 2", &json[..json.len() / 2]] {
        let line = Subwords::from_bytes(bytes.as_bytes(), "text.json")
            .unwrap_err()
            .to_string();
        assert!(line.starts_with("text.json: not a subword file"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}

#[test]
fn phrases_that_many_texts_share_are_one_subword() {
    let names = ["cook", "judge", "pilot", "guard", "singer"];
    let tones = ["light", "medium-light", "dark"];
    let captions = || {
        let pairs = names
            .iter()
            .flat_map(|name| tones.iter().map(move |tone| (name, tone)));
        pairs.map(|(name, tone)| format!("{name}: {tone} skin tone"))
    };
    let length = |span| {
        let text = Subwords::train(captions(), 400, span, &[]).unwrap();
        let typed = "a cook: dark skin tone";
        let back = text.decode(&text.encode(typed).unwrap()).unwrap();
        assert_eq!(back.trim(), typed);
        text.encode("judge: medium-light skin tone").unwrap().len()
    };
    assert!(length(Span::Phrases) <= 3);
    assert!(length(Span::Phrases) < length(Span::Words));
}

#[test]
fn rewrites_hold_for_prompts_and_travel_with_the_file() {
    let rewrite = |pattern: &str, with: &str| Rewrite {
        pattern: pattern.into(),
        with: with.into(),
    };
    let train = |rewrites: &[Rewrite]| {
        let captions = ["guide dog", "a button", "man’s shoe"];
        let captions = captions.iter().cycle().take(9).map(ToString::to_string);
        Subwords::train(captions, 300, Span::Phrases, rewrites)
    };
    let rewrites = [rewrite("^(a|an|the) (?!button)", ""), rewrite("'", "’")];
    let trained = train(&rewrites).unwrap();
    let text = Subwords::from_bytes(trained.to_json().as_bytes(), "text.json").unwrap();
    let same = |a: &str, b: &str| text.encode(a).unwrap() == text.encode(b).unwrap();
    assert!(same("A guide dog", "guide dog"));
    assert!(same("the man's shoe", "man’s shoe"));
    assert!(!same("a button", "button"));
    assert!(!same("a", ""), "an article alone is a word");
    assert!(!same("another dog", "other dog"));
    let error = train(&[rewrite("(", "")]).unwrap_err().to_string();
    assert!(
        error.contains("\"(\"") && error.lines().count() == 1,
        "{error}"
    );
}
