//! Text as people write it to words as they say them: numbers, dates, times, money, abbreviations, signs.
//!
//! What comes out has letters, apostrophes, spaces and the marks `, . ? !` only.

use crate::PronounceError;
use crate::number::{cardinal, digits, of_digits, ordinal, year};

/// Abbreviations with what they stand for; the period belongs to them.
const ABBREVIATIONS: [(&str, &str); 30] = [
    ("mr.", "mister"),
    ("mrs.", "missus"),
    ("ms.", "miz"),
    ("dr.", "doctor"),
    ("prof.", "professor"),
    ("st.", "saint"),
    ("jr.", "junior"),
    ("sr.", "senior"),
    ("vs.", "versus"),
    ("etc.", "et cetera"),
    ("e.g.", "for example"),
    ("i.e.", "that is"),
    ("approx.", "approximately"),
    ("dept.", "department"),
    ("gen.", "general"),
    ("capt.", "captain"),
    ("sgt.", "sergeant"),
    ("lt.", "lieutenant"),
    ("jan.", "january"),
    ("feb.", "february"),
    ("aug.", "august"),
    ("sept.", "september"),
    ("oct.", "october"),
    ("nov.", "november"),
    ("dec.", "december"),
    ("a.m.", "a m"),
    ("p.m.", "p m"),
    ("u.s.", "u s"),
    ("u.k.", "u k"),
    ("no.", "number"),
];

/// Units behind a number: one, several.
const UNITS: [(&str, &str, &str); 17] = [
    ("km", "kilometer", "kilometers"),
    ("cm", "centimeter", "centimeters"),
    ("mm", "millimeter", "millimeters"),
    ("m", "meter", "meters"),
    ("kg", "kilogram", "kilograms"),
    ("g", "gram", "grams"),
    ("mg", "milligram", "milligrams"),
    ("lb", "pound", "pounds"),
    ("lbs", "pound", "pounds"),
    ("oz", "ounce", "ounces"),
    ("ft", "foot", "feet"),
    ("mph", "mile per hour", "miles per hour"),
    ("hz", "hertz", "hertz"),
    ("khz", "kilohertz", "kilohertz"),
    ("ms", "millisecond", "milliseconds"),
    ("kb", "kilobyte", "kilobytes"),
    ("mb", "megabyte", "megabytes"),
];

/// Signs with their words.
const SIGNS: [(char, &str); 16] = [
    ('&', "and"),
    ('%', "percent"),
    ('+', "plus"),
    ('=', "equals"),
    ('@', "at"),
    ('#', "number"),
    ('*', "times"),
    ('×', "times"),
    ('÷', "divided by"),
    ('°', "degrees"),
    ('§', "section"),
    ('©', "copyright"),
    ('<', "less than"),
    ('>', "greater than"),
    ('½', "one half"),
    ('¼', "one quarter"),
];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Letters with accents, and those without that stand for them.
const ACCENTS: [(&str, &str); 24] = [
    ("àáâãäåāă", "a"),
    ("ÀÁÂÃÄÅ", "A"),
    ("çćč", "c"),
    ("ÇĆČ", "C"),
    ("èéêëēė", "e"),
    ("ÈÉÊË", "E"),
    ("ìíîïī", "i"),
    ("ÌÍÎÏ", "I"),
    ("ñń", "n"),
    ("ÑŃ", "N"),
    ("òóôõöøō", "o"),
    ("ÒÓÔÕÖØ", "O"),
    ("ùúûüū", "u"),
    ("ÙÚÛÜ", "U"),
    ("ýÿ", "y"),
    ("Ý", "Y"),
    ("śš", "s"),
    ("ŚŠ", "S"),
    ("žźż", "z"),
    ("ŽŹŻ", "Z"),
    ("ß", "ss"),
    ("æ", "ae"),
    ("œ", "oe"),
    ("łŁ", "l"),
];

/// Text as it is said.
///
/// # Errors
/// [`PronounceError::Unsayable`] names the first character of another script.
pub fn normalise(text: &str) -> Result<String, PronounceError> {
    let plain = plain_characters(text)?;
    let tokens: Vec<&str> = plain.split_whitespace().collect();
    let mut said = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let next = tokens.get(at + 1).copied();
        let (words, used) = spoken(tokens[at], next, said.last());
        said.push(words);
        at += used;
    }
    Ok(joined(&said))
}

/// Without what only decorates: quotes, brackets, accents; typographic signs as plain ones.
fn plain_characters(text: &str) -> Result<String, PronounceError> {
    let mut plain = String::with_capacity(text.len());
    for (at, letter) in text.chars().enumerate() {
        match letter {
            '’' | '‘' | '`' | '´' | 'ʼ' => plain.push('\''),
            '“' | '”' | '„' | '«' | '»' | '"' | '_' | '~' | '^' | '|' | '•' | '…' => {
                let mark = if letter == '…' { ". " } else { " " };
                plain.push_str(mark);
            }
            '(' | ')' | '[' | ']' | '{' | '}' | ';' | '–' | '—' => plain.push_str(" , "),
            '\u{2010}' | '\u{2011}' | '−' => plain.push('-'),
            '\u{00ad}' | '\u{200b}'..='\u{200d}' | '\u{feff}' | '\u{fe0f}' => {}
            letter if letter.is_whitespace() => plain.push(' '),
            letter if letter.is_ascii_graphic() => plain.push(letter),
            '€' | '£' => plain.push(letter),
            letter => match replaced(letter) {
                Some(words) => plain.push_str(&words),
                None => return Err(PronounceError::Unsayable { letter, at }),
            },
        }
    }
    Ok(plain)
}

fn replaced(letter: char) -> Option<String> {
    let accent = ACCENTS.iter().find(|(with, _)| with.contains(letter));
    if let Some((_, without)) = accent {
        return Some((*without).into());
    }
    let sign = SIGNS.iter().find(|(sign, _)| *sign == letter)?;
    Some(format!(" {} ", sign.1))
}

/// What a token is said as, and how many tokens that takes.
fn spoken(token: &str, next: Option<&str>, before: Option<&String>) -> (String, usize) {
    let lower = token.to_lowercase();
    let abbreviation = ABBREVIATIONS.iter().find(|(short, _)| *short == lower);
    if let Some((short, long)) = abbreviation {
        let numbered = next.is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit()));
        if *short != "no." || numbered {
            return ((*long).into(), 1);
        }
    }
    let (core, marks) = without_marks(token);
    if core.is_empty() {
        return (marks, 1);
    }
    if let Some(month) = before.and_then(|before| month_of(before))
        && let Some(day) = day_of(core)
    {
        let _ = month;
        return (ordinal(day) + &marks, 1);
    }
    if marks.is_empty()
        && let Some(next) = next
        && let Some((words, rest)) = measured(core, next)
    {
        return (words + &rest, 2);
    }
    (said(core) + &marks, 1)
}

fn month_of(word: &str) -> Option<&'static str> {
    let lower = word.to_lowercase();
    MONTHS.iter().copied().find(|month| *month == lower)
}

fn day_of(text: &str) -> Option<u64> {
    let bare = text.trim_end_matches("st").trim_end_matches("nd");
    let bare = bare.trim_end_matches("rd").trim_end_matches("th");
    let day = bare.parse().ok()?;
    (1..=31).contains(&day).then_some(day)
}

/// A number and the unit in the token after it.
fn measured(number: &str, next: &str) -> Option<(String, String)> {
    let digits_or = |signs: &str| {
        number.starts_with(|c: char| c.is_ascii_digit())
            && number
                .chars()
                .all(|c| c.is_ascii_digit() || signs.contains(c))
    };
    let (unit, marks) = without_marks(next);
    if matches!(unit, "am" | "AM" | "pm" | "PM") && digits_or(":") {
        return time(&format!("{number}{unit}")).map(|words| (words, marks));
    }
    if !digits_or(".,") {
        return None;
    }
    // Single letters mean units only in lower case.
    let found = UNITS
        .iter()
        .find(|(short, _, _)| *short == unit || (unit.len() > 1 && *short == unit.to_lowercase()));
    let (_, one, several) = found?;
    let name = if number == "1" { one } else { several };
    Some((format!("{} {name}", quantity(number)), marks))
}

/// A token without the punctuation around it, and the marks that follow it.
fn without_marks(token: &str) -> (&str, String) {
    let core = token.trim_start_matches([',', '.', '?', '!', ':', '\'', '-', '/', '\\']);
    // ".5" is a number.
    let core = match core.starts_with(|c: char| c.is_ascii_digit()) {
        true => {
            let cut = token.len() - core.len();
            match token[..cut].ends_with(['.', '-']) {
                true => &token[cut - 1..],
                false => core,
            }
        }
        false => core,
    };
    let bare = core.trim_end_matches([',', '.', '?', '!', ':', '\'', '-', '/', '\\']);
    let tail = &core[bare.len()..];
    let head = if bare.is_empty() { token } else { tail };
    let mark = head.chars().filter_map(|mark| match mark {
        '?' | '!' | '.' | ',' => Some(mark),
        ':' => Some(','),
        _ => None,
    });
    // The strongest mark stands for all of them.
    let mark = mark.max_by_key(|mark| ",.!?".find(*mark));
    (bare, mark.map(String::from).unwrap_or_default())
}

/// A token without punctuation around it.
fn said(token: &str) -> String {
    let has_digit = token.chars().any(|letter| letter.is_ascii_digit());
    if has_digit {
        return with_digits(token);
    }
    if let Some(sign) = SIGNS.iter().find(|(sign, _)| token == sign.to_string()) {
        return sign.1.into();
    }
    let letters: Vec<char> = token
        .chars()
        .filter(|letter| letter.is_alphabetic())
        .collect();
    let dotted = token.contains('.') && token.split('.').all(|part| part.chars().count() <= 1);
    if dotted {
        return spelled(&letters);
    }
    let mut words = String::new();
    for letter in token.chars() {
        match letter {
            'a'..='z' | 'A'..='Z' | '\'' => words.push(letter),
            '.' => words.push_str(" dot "),
            '-' | '/' | '\\' => words.push(' '),
            '$' => words.push_str(" dollar "),
            '€' => words.push_str(" euro "),
            '£' => words.push_str(" pound "),
            ',' | '?' | '!' | ':' => words.push_str(", "),
            sign => {
                let known = SIGNS.iter().find(|(known, _)| *known == sign);
                words.push(' ');
                words.push_str(known.map_or("", |known| known.1));
                words.push(' ');
            }
        }
    }
    words
}

fn spelled(letters: &[char]) -> String {
    let letters: Vec<String> = letters
        .iter()
        .map(|letter| letter.to_uppercase().collect())
        .collect();
    letters.join(" ")
}

/// A token that has digits.
fn with_digits(token: &str) -> String {
    if let Some(words) = date(token).or_else(|| time(token)).or_else(|| money(token)) {
        return words;
    }
    if let Some(number) = token.strip_suffix('%') {
        return with_digits(number) + " percent";
    }
    for suffix in ["st", "nd", "rd", "th"] {
        let number = token
            .strip_suffix(suffix)
            .map(|number| number.replace(',', ""));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            return ordinal(number);
        }
    }
    if let Some(decade) = token.strip_suffix('s').or_else(|| token.strip_suffix("'s"))
        && decade.len() == 4
        && let Ok(number) = decade.parse::<u64>()
        && number % 10 == 0
    {
        let words = year(number);
        return match words.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => words + "s",
        };
    }
    if is_quantity(token) {
        return quantity(token);
    }
    // Mixed: runs of digits and of others one after the other.
    let mut words = String::new();
    let mut rest = token;
    while !rest.is_empty() {
        let digit = rest.starts_with(|c: char| c.is_ascii_digit());
        let end = rest.find(|c: char| c.is_ascii_digit() != digit);
        let (run, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(' ');
        words += &match (digit, run) {
            (true, run) => of_digits(run),
            (false, "-" | "/" | ",") => String::new(),
            (false, ".") => "point".into(),
            (false, run) => said(run),
        };
        rest = after;
    }
    words
}

fn is_quantity(token: &str) -> bool {
    let bare = token.strip_prefix('-').unwrap_or(token);
    let (whole, part) = bare.split_once('.').unwrap_or((bare, "0"));
    let grouped = whole.replace(',', "");
    let all_digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    all_digits(&grouped) && all_digits(part) && !part.is_empty()
}

/// "-3.25", "1,000", "1999".
fn quantity(token: &str) -> String {
    if let Some(number) = token.strip_prefix('-') {
        return "minus ".to_string() + &quantity(number);
    }
    let (whole, part) = match token.split_once('.') {
        Some((whole, part)) => (whole, Some(part)),
        None => (token, None),
    };
    let whole_digits = whole.replace(',', "");
    let is_year = part.is_none() && whole.len() == 4 && !whole.starts_with('0');
    let words = match whole_digits.parse::<u64>() {
        Ok(number) if is_year && (1100..2100).contains(&number) => year(number),
        _ if whole_digits.is_empty() => "zero".into(),
        _ => of_digits(&whole_digits),
    };
    match part {
        Some(part) => format!("{words} point {}", digits(part)),
        None => words,
    }
}

/// 2024-05-31 and 5/31/2024.
fn date(token: &str) -> Option<String> {
    let numbers = |sign: char| -> Option<Vec<u64>> {
        let parts: Vec<&str> = token.split(sign).collect();
        let fits = parts.len() == 3 && parts.iter().all(|part| part.len() <= 4);
        fits.then_some(())?;
        parts.iter().map(|part| part.parse().ok()).collect()
    };
    let (y, m, d) = match (numbers('-'), numbers('/')) {
        (Some(n), _) if n[0] > 999 => (n[0], n[1], n[2]),
        (_, Some(n)) if n[2] > 999 => (n[2], n[0], n[1]),
        _ => return None,
    };
    let month = MONTHS.get((m as usize).checked_sub(1)?)?;
    (1..=31)
        .contains(&d)
        .then(|| format!("{month} {} {}", ordinal(d), year(y)))
}

/// 7:45 and 12:00.
fn time(token: &str) -> Option<String> {
    let lower = token.to_lowercase();
    let (clock, half) = match lower.strip_suffix("am") {
        Some(clock) => (clock, " a m"),
        None => match lower.strip_suffix("pm") {
            Some(clock) => (clock, " p m"),
            None => (&lower[..], ""),
        },
    };
    let Some((hours, minutes)) = clock.split_once(':') else {
        let hour: u64 = clock.parse().ok()?;
        return (!half.is_empty() && hour <= 12).then(|| cardinal(hour) + half);
    };
    let (h, m): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    if h > 24 || m > 59 || minutes.len() != 2 {
        return None;
    }
    let minutes = match m {
        0 if half.is_empty() && h <= 12 => " o'clock".into(),
        0 => String::new(),
        1..10 => format!(" oh {}", cardinal(m)),
        _ => format!(" {}", cardinal(m)),
    };
    Some(cardinal(h) + &minutes + half)
}

/// $5, $3.50, €20, £1.
fn money(token: &str) -> Option<String> {
    let mut letters = token.chars();
    let (one, several, part) = match letters.next()? {
        '$' => ("dollar", "dollars", "cents"),
        '€' => ("euro", "euros", "cents"),
        '£' => ("pound", "pounds", "pence"),
        _ => return None,
    };
    let amount = letters.as_str();
    if !is_quantity(amount) || amount.starts_with('-') {
        return None;
    }
    let (whole, cents) = amount.split_once('.').unwrap_or((amount, ""));
    let whole = whole.replace(',', "");
    let name = if whole == "1" { one } else { several };
    let words = format!("{} {name}", of_digits(&whole));
    match (cents.len(), cents.parse::<u64>()) {
        (2, Ok(0)) | (0, _) => Some(words),
        (2, Ok(count)) => Some(format!("{words} and {} {part}", cardinal(count))),
        _ => Some(format!("{} {several}", quantity(amount))),
    }
}

/// Tokens with single spaces; marks stand directly behind a word.
fn joined(said: &[String]) -> String {
    let mut text = String::new();
    for part in said.iter().flat_map(|part| part.split_whitespace()) {
        let is_mark = part.chars().all(|mark| ",.?!".contains(mark));
        let marked = text.ends_with([',', '.', '?', '!']);
        match (is_mark, text.is_empty()) {
            (true, true) => {}
            (true, false) if marked => {}
            (true, false) => text.push_str(&part[..1]),
            (false, true) => text.push_str(part),
            (false, false) => {
                text.push(' ');
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(normalise(text).as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn words_and_marks_stay() {
        check("Hello, world!", "Hello, world!");
        check("  “It’s me…”  ", "It's me.");
        check("well-known (or not)", "well known, or not,");
        check("What?!", "What?");
        check("café naïve", "cafe naive");
        check("...", "");
    }

    #[test]
    fn numbers_are_read() {
        check("I have 12 cats.", "I have twelve cats.");
        check(
            "1,250 and 3.14",
            "one thousand two hundred fifty and three point one four",
        );
        check(
            "In 1984 and 2024.",
            "In nineteen eighty four and twenty twenty four.",
        );
        check("the 3rd, 21st", "the third, twenty first");
        check("50% of -4", "fifty percent of minus four");
        check("the 1990s", "the nineteen nineties");
        check("A4 and B52", "A four and B fifty two");
    }

    #[test]
    fn dates_times_and_money_are_read() {
        check("on 2024-05-31", "on may thirty first twenty twenty four");
        check("5/1/1999", "may first nineteen ninety nine");
        check("May 5, 2020", "May fifth, twenty twenty");
        check(
            "at 7:45 and 12:00",
            "at seven forty five and twelve o'clock",
        );
        check("3:05 pm", "three oh five p m");
        check("$3.50 or £1", "three dollars and fifty cents or one pound");
    }

    #[test]
    fn abbreviations_units_and_signs_are_read() {
        check(
            "Dr. Smith vs. Mr. Jones",
            "doctor Smith versus mister Jones",
        );
        check("5 km, 1 kg", "five kilometers, one kilogram");
        check("salt & pepper @ home", "salt and pepper at home");
        check("the U.S.A.", "the U S A.");
        check("No. 5, but no.", "number five, but no.");
    }

    #[test]
    fn other_scripts_are_named() {
        for (text, letter, at) in [("a я", 'я', 2), ("你好", '你', 0), ("ok 🙂", '🙂', 3)]
        {
            assert_eq!(
                normalise(text),
                Err(PronounceError::Unsayable { letter, at }),
                "{text}"
            );
        }
    }
}
