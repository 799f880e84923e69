//! Settings that stand in a README's table, in the reference's own words: `generate(cfg_scale=4.0, top_k=20)`.

use std::collections::BTreeMap;

use crate::{Case, GoldenError};

/// A call with its named arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What is called.
    pub name: String,
    arguments: BTreeMap<String, String>,
}

impl Settings {
    /// Reads the first call in the table's words about a tensor.
    ///
    /// # Errors
    /// [`GoldenError::Input`] if the table does not name the tensor, or there is no call.
    pub fn of(case: &Case, tensor: &str) -> Result<Self, GoldenError> {
        let words = case.meaning(tensor)?;
        Self::parse(words)
            .ok_or_else(|| case.input(format!("`{tensor}`: no call is named in `{words}`")))
    }

    /// Reads the first call in some words.
    pub fn parse(words: &str) -> Option<Self> {
        let (before, rest) = words.split_once('(')?;
        let inside = &rest[..rest.find(')')?];
        let mut depth = 0i32;
        let parts = inside.split(|letter| {
            depth += i32::from(letter == '[') - i32::from(letter == ']');
            letter == ',' && depth == 0
        });
        let arguments = parts.filter_map(|part| part.split_once('='));
        Some(Self {
            name: before.split_whitespace().last().unwrap_or_default().into(),
            arguments: arguments
                .map(|(key, value)| (key.trim().into(), value.trim().into()))
                .collect(),
        })
    }

    /// A number by name.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.arguments.get(key)?.parse().ok()
    }

    /// Whether a switch is on.
    pub fn is_on(&self, key: &str) -> bool {
        self.arguments.get(key).is_some_and(|value| value == "True")
    }

    /// Whole numbers in brackets; none if there are none.
    pub fn list(&self, key: &str) -> Vec<usize> {
        let list = self.arguments.get(key).map_or("", String::as_str);
        let list = list.trim_matches(['[', ']']).split(',');
        list.filter_map(|number| number.trim().parse().ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_from_words() {
        let words = "made by FSQ(levels=[8, 5, 5], dim=10, preserve_symmetry=True), image layout";
        let settings = Settings::parse(words).expect("a call");
        assert_eq!(settings.name, "FSQ");
        assert_eq!(settings.list("levels"), [8, 5, 5]);
        assert_eq!(settings.number("dim"), Some(10.0));
        assert!(settings.is_on("preserve_symmetry") && !settings.is_on("spherical"));
        let settings = Settings::parse("generate(cfg_interval=-1, top_p=0.9)").expect("a call");
        assert_eq!(settings.number("cfg_interval"), Some(-1.0));
        assert!(Settings::parse("no call").is_none());
    }
}
