//! TOML for people: one line per error, with file, line, column and the key that was probably meant.

use serde::de::DeserializeOwned;

/// What is wrong with a definition, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{line}:{column}: {reason}")]
pub struct DefinitionError {
    /// The file.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// From 1, in letters.
    pub column: usize,
    /// What was found and what was expected.
    pub reason: String,
}

/// Reads TOML; `path` stands for it in messages.
///
/// # Errors
/// [`DefinitionError`] points at the key, also where serde knows only its table.
pub fn parse_toml<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, DefinitionError> {
    toml::from_str(text).map_err(|error| {
        let message = error.message().trim().replace('\n', " ");
        let start = error.span().map_or(0, |span| span.start);
        let start = unknown_key(&message)
            .and_then(|key| place_of_key(text, key, start))
            .unwrap_or(start);
        let (line, column) = line_and_column(text, start);
        DefinitionError {
            path: path.into(),
            line,
            column,
            reason: with_hint(message),
        }
    })
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .chars()
        .rev()
        .take_while(|&letter| letter != '\n')
        .count()
        + 1;
    (line, column)
}

/// The key of a message such as "unknown field `guidence`, expected …".
fn unknown_key(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown field `")?;
    rest.split('`').next()
}

/// Where a key stands, looked for from the table that the error points at, then from the beginning.
fn place_of_key(text: &str, key: &str, from: usize) -> Option<usize> {
    let stands_in = |start: usize| {
        text.get(start..)?.match_indices(key).find_map(|(at, _)| {
            let at = start + at;
            let before = text[..at].chars().next_back();
            let after = text[at + key.len()..]
                .trim_start_matches(['"', '\''])
                .trim_start();
            let begins = before
                .is_none_or(|letter| !letter.is_alphanumeric() && letter != '-' && letter != '_');
            (begins && after.starts_with(['=', ']', '.'])).then_some(at)
        })
    };
    stands_in(from).or_else(|| stands_in(0))
}

/// Adds the expected word that is nearest to the unknown one.
fn with_hint(message: String) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown ");
    let Some(found) = quoted.next().filter(|_| unknown) else {
        return message;
    };
    let nearest = quoted
        .map(|expected| (strsim::damerau_levenshtein(found, expected), expected))
        .min();
    match nearest {
        Some((distance, expected)) if distance <= 1 + found.len() / 3 => {
            format!("{message}; did you mean `{expected}`?")
        }
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    #[allow(dead_code)] // Only reading is tested.
    struct Outer {
        inner: Inner,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(tag = "kind", deny_unknown_fields, rename_all = "kebab-case")]
    #[allow(dead_code)] // Only reading is tested.
    enum Inner {
        Plain { guidance: f64 },
    }

    fn check(text: &str, line: usize, column: usize, hint: &str) {
        let error = parse_toml::<Outer>("a.toml", text).unwrap_err();
        assert_eq!((error.line, error.column), (line, column), "{error}");
        assert!(error.reason.contains(hint), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }

    #[test]
    fn errors_point_at_the_key_and_guess_what_was_meant() {
        check(
            "[inner]\nkind = \"plain\"\nguidence = 1.0\n",
            3,
            1,
            "did you mean `guidance`?",
        );
        check(
            "[inner]\nkind = \"plane\"\nguidance = 1.0\n",
            2,
            8,
            "did you mean `plain`?",
        );
        check(
            "inner = { kind = \"plain\", guidance = 1.0 }\nother = 2\n",
            2,
            1,
            "unknown field `other`",
        );
        check("[inner]\nkind = \n", 2, 8, "expected");
    }
}
