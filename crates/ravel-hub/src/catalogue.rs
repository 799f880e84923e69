//! Checkpoints that Ravel knows by name, as data.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::HubError;
use crate::name::{RepoName, Target};

/// A published model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What people call it.
    pub name: String,
    /// The family that reads it.
    pub family: String,
    /// Its repository on the hub; none if it is published elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// The files that it needs; none for what the repository's format says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Names of other models that it needs too (a text encoder).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Where it is published if not on the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// Licence of the weights as the project states it.
    pub licence: String,
    /// Parameters, as the project states them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parameters: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: Vec<Entry>,
}

static CATALOGUE: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let file: File =
        toml::from_str(include_str!("catalogue.toml")).expect("the catalogue is tested");
    file.model
});

/// All models that Ravel knows by name.
pub fn catalogue() -> &'static [Entry] {
    &CATALOGUE
}

/// A model by name.
pub fn entry(name: &str) -> Option<&'static Entry> {
    catalogue().iter().find(|entry| entry.name == name)
}

/// Names that share the most with a name that is not there, best first.
pub fn nearest(name: &str) -> Vec<&'static str> {
    let name = name.to_ascii_lowercase();
    let shared = |other: &str| {
        let pairs = |text: &str| {
            text.as_bytes()
                .windows(2)
                .map(<[u8]>::to_vec)
                .collect::<Vec<_>>()
        };
        let theirs = pairs(other);
        let both = pairs(&name)
            .iter()
            .filter(|pair| theirs.contains(pair))
            .count();
        2 * both * 100 / (name.len() + other.len()).max(1)
    };
    let mut scored: Vec<(usize, &str)> = catalogue()
        .iter()
        .map(|entry| (shared(&entry.name), &*entry.name))
        .collect();
    scored.sort_by_key(|&(score, _)| std::cmp::Reverse(score));
    scored
        .into_iter()
        .take(3)
        .filter(|&(score, _)| score >= 40)
        .map(|(_, name)| name)
        .collect()
}

impl Entry {
    /// The files that it needs, as targets, those of other models that it needs behind them; the whole repository if it names none.
    /// Nothing if it is not on the hub.
    ///
    /// # Errors
    /// [`HubError::Name`]; the catalogue in this program has none.
    pub fn targets(&self) -> Result<Vec<Target>, HubError> {
        let mut targets = self.own_targets()?;
        for other in self.needs.iter().filter_map(|name| entry(name)) {
            targets.extend(other.own_targets()?);
        }
        Ok(targets)
    }

    fn own_targets(&self) -> Result<Vec<Target>, HubError> {
        let Some(repo) = &self.repo else {
            return Ok(Vec::new());
        };
        let repo: RepoName = repo.parse()?;
        let target = |file| Target {
            repo: repo.clone(),
            revision: crate::name::MAIN.into(),
            file,
        };
        if self.files.is_empty() {
            return Ok(vec![target(None)]);
        }
        self.files
            .iter()
            .map(|file| Ok(target(Some(file.parse()?))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_can_be_found_and_says_its_licence() {
        let names: std::collections::BTreeSet<_> =
            catalogue().iter().map(|entry| &entry.name).collect();
        assert_eq!(names.len(), catalogue().len());
        for entry in catalogue() {
            assert!(!entry.licence.is_empty(), "{}", entry.name);
            assert_eq!(
                entry.targets().unwrap().is_empty(),
                entry.repo.is_none(),
                "{}",
                entry.name
            );
            assert!(
                entry.repo.is_some() != entry.page.is_some(),
                "{}: hub or page",
                entry.name
            );
        }
        let needed = catalogue().iter().flat_map(|entry| &entry.needs);
        for name in needed {
            let needed = entry(name).expect("a model of the catalogue");
            assert!(needed.needs.is_empty() && needed.repo.is_some(), "{name}");
        }
        let last = entry("llamagen-t2i-512").unwrap().targets().unwrap().pop();
        assert_eq!(last.unwrap().to_string(), "google/flan-t5-xl");
        assert_eq!(
            entry("var-d16").unwrap().repo.as_deref(),
            Some("FoundationVision/var")
        );
    }

    #[test]
    fn near_names_are_offered() {
        assert_eq!(nearest("var-d18")[0], "var-d16");
        assert!(nearest("zzz").is_empty());
    }
}
