//! Methods of Python's strings and dictionaries that chat templates call.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// What a method gives that Jinja itself does not know.
pub(crate) fn method(
    _state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return of_text(text, name, arguments);
    }
    match value.kind() {
        ValueKind::Map => of_map(value, name, arguments),
        _ => Err(unknown(name)),
    }
}

fn of_text(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let none = |given: Value| {
        let () = from_args(arguments)?;
        Ok(given)
    };
    match name {
        "strip" | "lstrip" | "rstrip" => strip(text, name, arguments),
        "startswith" | "endswith" => {
            let (affix,): (Value,) = from_args(arguments)?;
            let fits = |affix: &str| match name {
                "startswith" => text.starts_with(affix),
                _ => text.ends_with(affix),
            };
            match affix.as_str() {
                Some(affix) => Ok(fits(affix).into()),
                None => {
                    let mut any = affix.try_iter()?;
                    Ok(any.any(|affix| affix.as_str().is_some_and(fits)).into())
                }
            }
        }
        "split" => split(text, arguments),
        "splitlines" => none(text.lines().map(Value::from).collect()),
        "replace" => {
            let (from, to): (&str, &str) = from_args(arguments)?;
            Ok(text.replace(from, to).into())
        }
        "join" => {
            let (parts,): (Value,) = from_args(arguments)?;
            let parts: Vec<String> = parts.try_iter()?.map(|part| part.to_string()).collect();
            Ok(parts.join(text).into())
        }
        "find" => {
            let (what,): (&str,) = from_args(arguments)?;
            let at = text.find(what).map(|at| text[..at].chars().count() as i64);
            Ok(at.unwrap_or(-1).into())
        }
        "count" => {
            let (what,): (&str,) = from_args(arguments)?;
            Ok(text.matches(what).count().into())
        }
        "upper" => none(text.to_uppercase().into()),
        "lower" => none(text.to_lowercase().into()),
        "capitalize" => none(capitalized(text).into()),
        "title" => {
            let words: Vec<String> = text.split(' ').map(capitalized).collect();
            none(words.join(" ").into())
        }
        "isdigit" => none((!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())).into()),
        _ => Err(unknown(name)),
    }
}

/// Off the ends: white space, or any of the given letters.
fn strip(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (letters,): (Option<&str>,) = from_args(arguments)?;
    let goes = |letter: char| match letters {
        Some(letters) => letters.contains(letter),
        None => letter.is_whitespace(),
    };
    let text = match name {
        "lstrip" => text.trim_start_matches(goes),
        "rstrip" => text.trim_end_matches(goes),
        _ => text.trim_matches(goes),
    };
    Ok(text.into())
}

fn split(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (at, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
    let most = most.filter(|most| *most >= 0).map(|most| most as usize + 1);
    Ok(match (at, most) {
        (Some(""), _) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "split at an empty text",
            ));
        }
        (Some(at), Some(most)) => text.splitn(most, at).map(Value::from).collect(),
        (Some(at), None) => text.split(at).map(Value::from).collect(),
        (None, _) => text.split_whitespace().map(Value::from).collect(),
    })
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + &letters.as_str().to_lowercase()
}

fn of_map(map: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    match name {
        "get" => {
            let (key, other): (Value, Option<Value>) = from_args(arguments)?;
            let found = map
                .get_item(&key)
                .ok()
                .filter(|found| !found.is_undefined());
            Ok(found.or(other).unwrap_or_else(|| Value::from(())))
        }
        "keys" => Ok(map.try_iter()?.collect()),
        "values" => map.try_iter()?.map(|key| map.get_item(&key)).collect(),
        "items" => {
            let pairs = map.try_iter()?.map(|key| {
                let value = map.get_item(&key)?;
                Ok(Value::from(vec![key, value]))
            });
            pairs.collect()
        }
        _ => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::UnknownMethod, format!("no method `{name}`"))
}
