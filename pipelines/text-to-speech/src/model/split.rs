//! A long text in pieces that are said one after the other, as Fish-Speech cuts it (`fish_speech/text/spliter.py` of version 1.5.1).

/// Marks that end a sentence.
const SENTENCE: &[char] = &['.', '!', '?', '。', '！', '？'];
/// Marks within one.
const CLAUSE: &[char] = &[',', '，'];
/// What a number with a point counts more while sentences are looked for: the reference spells it out.
const SPELLED: usize = 4;

/// A text without what cannot be said: plain apostrophes, no pictures, no runs of commas.
pub(crate) fn cleaned(text: &str) -> String {
    let picture = |letter: &char| matches!(letter, '\u{1f300}'..='\u{1f64f}' | '\u{1f680}'..='\u{1f6ff}' | '\u{1f1e0}'..='\u{1f1ff}');
    let letters = text.trim().chars().filter(|letter| !picture(letter));
    let mut clean = String::with_capacity(text.len());
    for letter in letters {
        match letter {
            '‘' | '’' => clean.push('\''),
            ',' if clean.ends_with(',') => {}
            letter => clean.push(letter),
        }
    }
    clean
}

/// The text in pieces of `length` bytes at most, where possible at the ends of sentences, then of clauses, then of words.
pub(crate) fn pieces(text: &str, length: usize) -> Vec<String> {
    let all = sentences(&cleaned(text), length);
    let all = broken(all, length, CLAUSE);
    let all = broken(all, length, &[' ']);
    let all = all.into_iter().flat_map(|piece| by_length(piece, length));
    let mut joined: Vec<String> = vec![String::new()];
    for piece in all {
        let latest = joined.last_mut().expect("there is always one");
        match latest.len() + piece.len() <= length {
            true => latest.push_str(&piece),
            false => joined.push(piece),
        }
    }
    let silent = |letter: char| letter.is_whitespace() || letter.is_ascii_punctuation();
    let joined = joined.iter().map(|piece| piece.trim());
    let said = joined.filter(|piece| !piece.chars().all(silent));
    said.map(String::from).collect()
}

/// Sentences, if the text is longer than `length`. The point of a number ends none.
fn sentences(text: &str, length: usize) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let points = points(&letters);
    if text.len() + SPELLED * points.len() <= length {
        return vec![text.into()];
    }
    let ends = |at: usize| SENTENCE.contains(&letters[at]) && !points.contains(&at);
    let mut all = vec![String::new()];
    for (at, &letter) in letters.iter().enumerate() {
        all.last_mut().expect("there is always one").push(letter);
        if ends(at) {
            all.push(String::new());
        }
    }
    all.retain(|piece| !piece.is_empty());
    all
}

/// Places of points between digits.
fn points(letters: &[char]) -> Vec<usize> {
    let digit = |at: usize| letters.get(at).is_some_and(|letter| letter.is_numeric());
    let mut found = Vec::new();
    // A number with a point ends with the digits behind it: of `1.2.3` only the first point is one.
    let mut from = 0;
    for at in 0..letters.len() {
        if letters[at] == '.' && at > from && digit(at - 1) && digit(at + 1) {
            found.push(at);
            from = (at + 1..).find(|&at| !digit(at)).unwrap_or(letters.len());
        }
    }
    found
}

/// Pieces that are too long, cut behind each of some marks.
fn broken(pieces: Vec<String>, length: usize, marks: &[char]) -> Vec<String> {
    let cut = |piece: String| match piece.len() <= length {
        true => vec![piece],
        false => piece.split_inclusive(marks).map(String::from).collect(),
    };
    pieces.into_iter().flat_map(cut).collect()
}

/// A piece that is too long, cut wherever it has reached `length`.
fn by_length(piece: String, length: usize) -> Vec<String> {
    if piece.len() <= length {
        return vec![piece];
    }
    let mut all = vec![String::new()];
    for letter in piece.chars() {
        let latest = all.last_mut().expect("there is always one");
        latest.push(letter);
        if latest.len() >= length {
            all.push(String::new());
        }
    }
    all.retain(|piece| !piece.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_as_in_the_reference() {
        let check = |text: &str, length: usize, expected: &[&str]| {
            assert_eq!(pieces(text, length), expected, "{text}");
        };
        // The reference's own examples.
        check(
            "This is a test sentence. This is another test sentence. And a third one.",
            50,
            &[
                "This is a test sentence.",
                "This is another test sentence. And a third one.",
            ],
        );
        check("a,aaaaaa3.14", 10, &["a,", "aaaaaa3.14"]);
        check("   ", 10, &[]);
        check("a", 10, &["a"]);
        check(
            "This is a test sentence with only commas, and no dots, and no exclamation marks, and no question marks, and no newlines.",
            50,
            &[
                "This is a test sentence with only commas,",
                "and no dots, and no exclamation marks,",
                "and no question marks, and no newlines.",
            ],
        );
        check(
            "This is a test sentence This is a test sentence This is a test sentence. This is a test sentence, This is a test sentence, This is a test sentence.",
            50,
            &[
                "This is a test sentence This is a test sentence",
                "This is a test sentence. This is a test sentence,",
                "This is a test sentence, This is a test sentence.",
            ],
        );
        check("3.14 and 2.72. So on.", 14, &["3.14 and 2.72.", "So on."]);
        check("... !", 10, &[]);
    }

    #[test]
    fn texts_are_cleaned() {
        assert_eq!(cleaned("  Tom’s,,, cat\u{1f600}. "), "Tom's, cat.");
    }

    #[test]
    fn no_piece_is_longer_and_no_word_is_lost() {
        let text = "Ωmega 語語語語 words,,, and a verylongwordwithoutanyspaceinit. 1.5! ".repeat(9);
        for length in [12, 30, 77] {
            let all = pieces(&text, length);
            // A letter may cross the border by its own bytes.
            assert!(all.iter().all(|piece| piece.len() < length + 4));
            let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
            let said: usize = all.iter().map(|piece| letters(piece)).sum();
            assert_eq!(said, letters(&cleaned(&text)));
        }
    }
}
