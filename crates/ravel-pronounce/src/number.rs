//! Numbers as words.

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
const SCALES: [(u64, &str); 4] = [
    (1_000_000_000_000, "trillion"),
    (1_000_000_000, "billion"),
    (1_000_000, "million"),
    (1000, "thousand"),
];

/// Numbers of more digits than this are read digit by digit.
const MOST_DIGITS: usize = 15;

/// "twelve", "one hundred five", "two thousand".
pub fn cardinal(number: u64) -> String {
    let mut words = Vec::new();
    let mut rest = number;
    for (scale, name) in SCALES {
        if rest >= scale {
            words.push(cardinal(rest / scale));
            words.push(name.into());
            rest %= scale;
        }
    }
    if rest >= 100 {
        words.push(ONES[(rest / 100) as usize].into());
        words.push("hundred".into());
        rest %= 100;
    }
    if rest >= 20 {
        words.push(TENS[(rest / 10) as usize].into());
        rest %= 10;
    }
    if rest > 0 || words.is_empty() {
        words.push(ONES[rest as usize].into());
    }
    words.join(" ")
}

/// "third", "twenty first".
pub fn ordinal(number: u64) -> String {
    let cardinal = cardinal(number);
    let (before, last) = match cardinal.rsplit_once(' ') {
        Some((before, last)) => (format!("{before} "), last),
        None => (String::new(), &cardinal[..]),
    };
    let last = match last {
        "one" => "first".into(),
        "two" => "second".into(),
        "three" => "third".into(),
        "five" => "fifth".into(),
        "eight" => "eighth".into(),
        "nine" => "ninth".into(),
        "twelve" => "twelfth".into(),
        last => match last.strip_suffix('y') {
            Some(stem) => format!("{stem}ieth"),
            None => format!("{last}th"),
        },
    };
    before + &last
}

/// Four digits as a year: "nineteen eighty four", "two thousand five", "nineteen oh six".
pub fn year(number: u64) -> String {
    let (century, rest) = (number / 100, number % 100);
    match (century % 10, rest) {
        (0, 0..10) => cardinal(number),
        (_, 0) => cardinal(century) + " hundred",
        (_, 1..10) => cardinal(century) + " oh " + &cardinal(rest),
        _ => cardinal(century) + " " + &cardinal(rest),
    }
}

/// One digit after the other; other characters are passed over.
pub fn digits(text: &str) -> String {
    let words = text.chars().filter_map(|digit| digit.to_digit(10));
    let words: Vec<&str> = words.map(|digit| ONES[digit as usize]).collect();
    words.join(" ")
}

/// A run of digits as a number, or digit by digit where it is too long or begins with a zero.
pub fn of_digits(text: &str) -> String {
    let leading = text.len() > 1 && text.starts_with('0');
    match text.parse() {
        Ok(number) if text.len() <= MOST_DIGITS && !leading => cardinal(number),
        _ => digits(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_words() {
        for (number, words) in [
            (0, "zero"),
            (13, "thirteen"),
            (40, "forty"),
            (105, "one hundred five"),
            (2024, "two thousand twenty four"),
            (1_000_001, "one million one"),
            (
                12_345_678,
                "twelve million three hundred forty five thousand six hundred seventy eight",
            ),
        ] {
            assert_eq!(cardinal(number), words);
        }
        for (number, words) in [
            (1, "first"),
            (12, "twelfth"),
            (20, "twentieth"),
            (22, "twenty second"),
            (100, "one hundredth"),
        ] {
            assert_eq!(ordinal(number), words);
        }
        for (number, words) in [
            (1984, "nineteen eighty four"),
            (1906, "nineteen oh six"),
            (1900, "nineteen hundred"),
            (2005, "two thousand five"),
            (2024, "twenty twenty four"),
        ] {
            assert_eq!(year(number), words);
        }
        assert_eq!(of_digits("007"), "zero zero seven");
        assert_eq!(of_digits("1234567890123456").split(' ').count(), 16);
    }
}
