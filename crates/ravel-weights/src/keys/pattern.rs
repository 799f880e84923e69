//! Names with holes: `layers.{i}.attention.{name}.{rest*}`, matched against a name and filled in again.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// What the holes of a name were filled with.
pub(crate) type Captures = BTreeMap<String, String>;
/// Numbers that a table may name: widths and counts of the configuration.
pub(crate) type Variables = BTreeMap<String, usize>;

/// Names longer than this match nothing; no published parameter comes near.
const MAX_NAME: usize = 4096;

/// A name with holes.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    /// `{i}`, `{i+1}`, `{2*i}`, `{last-i}`: digits.
    Number(Sum),
    /// `{name}`: something in one part of the path.
    Name(String),
    /// `{rest*}`: anything, dots too, or nothing.
    Rest(String),
}

/// A number written as a sum: `2*i + 1`, `q + 2*kv`. One-letter names are holes where there are holes; words are variables.
#[derive(Debug, Clone)]
pub(crate) struct Sum(Vec<(i64, Option<String>)>);

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let unclosed = || format!("`{text}`: a brace that is not closed");
            let (hole, after) = after.split_once('}').ok_or_else(unclosed)?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            pieces.push(
                Piece::hole(hole).ok_or_else(|| format!("`{text}`: `{{{hole}}}` is no hole"))?,
            );
            rest = after;
        }
        if rest.contains('}') || text.is_empty() {
            return Err(format!("`{text}` is no name with holes"));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        let text = text.into();
        Ok(Self { text, pieces })
    }

    /// Names of all holes, and the variables that its numbers use.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().flat_map(|piece| match piece {
            Piece::Text(_) => Vec::new(),
            Piece::Name(name) | Piece::Rest(name) => vec![name.as_str()],
            Piece::Number(sum) => sum.names().collect(),
        })
    }

    /// Whether a hole, not a number, has that name.
    pub(crate) fn has_hole(&self, name: &str) -> bool {
        let hole =
            |piece: &Piece| matches!(piece, Piece::Name(hole) | Piece::Rest(hole) if hole == name);
        self.pieces.iter().any(hole)
    }

    /// Words in its numbers: what a caller must give.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.names()
            .filter(|name| name.len() > 1 && !self.has_hole(name))
    }

    /// What the name has before its first hole.
    pub(crate) fn begins_with(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// What the holes must be filled with to give `name`.
    pub(crate) fn matches(&self, name: &str, variables: &Variables) -> Option<Captures> {
        let fits = name.len() <= MAX_NAME;
        fits.then(|| fit(&self.pieces, name, Captures::new(), variables))?
    }

    /// The name with its holes filled in.
    pub(crate) fn fill(
        &self,
        captures: &Captures,
        variables: &Variables,
    ) -> Result<String, String> {
        let captured = |name: &String| {
            let unknown = || format!("`{self}`: nothing fills `{{{name}}}`");
            captures.get(name).cloned().ok_or_else(unknown)
        };
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Ok(text.clone()),
                Piece::Name(name) | Piece::Rest(name) => captured(name),
                Piece::Number(sum) => {
                    let number = sum.value(captures, variables);
                    number
                        .map(|n| n.to_string())
                        .map_err(|reason| format!("`{self}`: {reason}"))
                }
            })
            .collect()
    }
}

impl Piece {
    fn hole(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(name) = text.strip_suffix('*') {
            return is_name(name).then(|| Self::Rest(name.into()));
        }
        if is_name(text) && text.chars().count() > 1 {
            return Some(Self::Name(text.into()));
        }
        Sum::parse(text).map(Self::Number)
    }
}

fn is_name(text: &str) -> bool {
    let begins = text.starts_with(|letter: char| letter.is_ascii_alphabetic());
    begins
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// The first way to fill the holes, longest fillings first.
fn fit(
    pieces: &[Piece],
    name: &str,
    captures: Captures,
    variables: &Variables,
) -> Option<Captures> {
    let Some((piece, rest)) = pieces.split_first() else {
        return name.is_empty().then_some(captures);
    };
    let (hole, longest) = match piece {
        Piece::Text(text) => {
            return fit(rest, name.strip_prefix(text.as_str())?, captures, variables);
        }
        Piece::Number(sum) => {
            let digits = name
                .find(|letter: char| !letter.is_ascii_digit())
                .unwrap_or(name.len());
            let captures = sum.solve(&name[..digits], captures, variables)?;
            return fit(rest, &name[digits..], captures, variables);
        }
        Piece::Name(hole) => (hole, name.find('.').unwrap_or(name.len())),
        Piece::Rest(hole) => (hole, name.len()),
    };
    let shortest = usize::from(matches!(piece, Piece::Name(_)));
    (shortest..=longest)
        .rev()
        .filter(|&end| name.is_char_boundary(end))
        .find_map(|end| {
            let captures = captured(captures.clone(), hole, &name[..end])?;
            fit(rest, &name[end..], captures, variables)
        })
}

/// The captures with one more, unless the hole was already filled with something else.
fn captured(mut captures: Captures, hole: &str, text: &str) -> Option<Captures> {
    match captures.get(hole) {
        Some(before) => (before == text).then_some(captures),
        None => {
            captures.insert(hole.into(), text.into());
            Some(captures)
        }
    }
}

impl Sum {
    /// Reads `2*i + 1`. Nothing if it is no such sum.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut letters = text.chars().peekable();
        let mut terms = Vec::new();
        loop {
            let sign = match letters.next_if(|&letter| letter == '-' || letter == '+') {
                Some('-') => -1,
                Some(_) if terms.is_empty() => return None,
                _ => 1,
            };
            terms.push(term(&mut letters, sign)?);
            match letters.peek() {
                None => return Some(Self(terms)),
                Some('+' | '-') => {}
                Some(_) => return None,
            }
        }
    }

    /// A plain number.
    pub(crate) fn number(number: u32) -> Self {
        Self(vec![(number.into(), None)])
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|(_, name)| name.as_deref())
    }

    /// The number, if every name is known and the sum is not negative.
    pub(crate) fn value(
        &self,
        captures: &Captures,
        variables: &Variables,
    ) -> Result<usize, String> {
        let sum = self.0.iter().try_fold(0i64, |sum, (factor, name)| {
            let value = match name {
                None => 1,
                Some(name) => known(name, captures, variables)
                    .ok_or_else(|| format!("`{name}` is no variable that was given"))?,
            };
            let term = factor
                .checked_mul(value)
                .and_then(|term| sum.checked_add(term));
            term.ok_or_else(|| "a sum is beyond all numbers".to_string())
        })?;
        usize::try_from(sum).map_err(|_| format!("a sum gives {sum}"))
    }

    /// Fills the one hole that is still open so that the sum equals `digits`.
    fn solve(&self, digits: &str, captures: Captures, variables: &Variables) -> Option<Captures> {
        if digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        let mut left: i64 = digits.parse().ok()?;
        let mut open = None;
        for (factor, name) in &self.0 {
            let value = name
                .as_ref()
                .map_or(Some(1), |name| known(name, &captures, variables));
            match (value, name) {
                (Some(value), _) => left = left.checked_sub(factor.checked_mul(value)?)?,
                (None, Some(name)) if open.is_none() => open = Some((*factor, name)),
                _ => return None,
            }
        }
        let Some((factor, name)) = open else {
            return (left == 0).then_some(captures);
        };
        let whole = factor != 0 && left % factor == 0 && left / factor >= 0;
        whole.then(|| captured(captures, name, &(left / factor).to_string()))?
    }
}

fn known(name: &str, captures: &Captures, variables: &Variables) -> Option<i64> {
    match captures.get(name) {
        Some(text) => text.parse().ok(),
        None => variables
            .get(name)
            .and_then(|&number| i64::try_from(number).ok()),
    }
}

/// `3`, `i` or `3*i`.
fn term(letters: &mut Peekable<Chars<'_>>, sign: i64) -> Option<(i64, Option<String>)> {
    let first = word(letters);
    let Ok(number) = first.parse::<i64>() else {
        return is_name(&first).then_some((sign, Some(first)));
    };
    let number = sign.checked_mul(number)?;
    if letters.next_if_eq(&'*').is_none() {
        return Some((number, None));
    }
    let name = word(letters);
    is_name(&name).then_some((number, Some(name)))
}

fn word(letters: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::new();
    while letters.next_if_eq(&' ').is_some() {}
    while let Some(letter) = letters.next_if(|l| l.is_ascii_alphanumeric() || *l == '_') {
        word.push(letter);
    }
    while letters.next_if_eq(&' ').is_some() {}
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expected: Option<&[(&str, &str)]>) {
        let variables = Variables::from([("last".to_string(), 3)]);
        let found = Pattern::parse(pattern).unwrap().matches(name, &variables);
        let text = |&(hole, text): &(&str, &str)| (hole.to_string(), text.to_string());
        let expected = expected.map(|holes| holes.iter().map(text).collect::<Captures>());
        assert_eq!(found, expected, "{pattern} on {name}");
    }

    #[test]
    fn holes_take_digits_parts_and_anything() {
        check("layers.{i}.w", "layers.12.w", Some(&[("i", "12")]));
        check("layers.{i}.w", "layers.x.w", None);
        check("layers.{i}.w", "layers.01.w", None);
        check("{name}.weight", "norm.weight", Some(&[("name", "norm")]));
        check("{name}.weight", "a.norm.weight", None);
        check(
            "w_{name}_{kind}",
            "w_a_b_c",
            Some(&[("name", "a_b"), ("kind", "c")]),
        );
        check("a.{rest*}", "a.b.c", Some(&[("rest", "b.c")]));
        check("a{rest*}", "a", Some(&[("rest", "")]));
        check("{i}.{i}", "1.1", Some(&[("i", "1")]));
        check("{i}.{i}", "1.2", None);
        check("ü.{name}", "ü.ßx", Some(&[("name", "ßx")]));
    }

    #[test]
    fn numbers_are_solved_for_the_hole() {
        check("model.{3*i+1}.conv", "model.7.conv", Some(&[("i", "2")]));
        check("model.{3*i+1}.conv", "model.8.conv", None);
        check("model.{3*i+1}.conv", "model.0.conv", None);
        check("up.{last-i}", "up.1", Some(&[("i", "2")]));
        check("up.{last-i}", "up.4", None);
        check("up.{i}", "up.99999999999999999999", None);
    }

    #[test]
    fn filling_is_the_way_back() {
        let variables = Variables::from([("last".to_string(), 3)]);
        let captures = Captures::from([("i".to_string(), "2".to_string())]);
        let fill = |pattern: &str| Pattern::parse(pattern).unwrap().fill(&captures, &variables);
        assert_eq!(fill("a.{2*i + 1}.b").unwrap(), "a.5.b");
        assert_eq!(fill("a.{last-i}").unwrap(), "a.1");
        assert!(fill("a.{i-3}").unwrap_err().contains("-1"));
        assert!(fill("a.{name}").unwrap_err().contains("{name}"));
        assert!(fill("a.{width+1}").unwrap_err().contains("width"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "", "a.{i", "a.i}", "a.{}", "a.{i+}", "a.{+i}", "a.{2*}", "a.{i j}", "a.{*}",
        ] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
