//! A small model that drafts for a large one.

use std::cell::Cell;

use ravel_core::{Generator, Seed};
use ravel_decode::Speculative;
use ravel_decode::method::Tally;
use ravel_pipeline::LanguageParts;

use crate::{Error, TextGeneration, condition};

/// The small model and how far it runs ahead.
pub(crate) struct Draft {
    parts: LanguageParts,
    ahead: usize,
}

impl TextGeneration {
    /// Lets another model draft `ahead` ids at a time (1 to 64), which this one judges together. Texts are distributed as without it.
    ///
    /// # Errors
    /// [`Error::Draft`] if the two read different ids, [`Error::Part`] if `ahead` makes no sense.
    pub fn with_draft(self, parts: LanguageParts, ahead: usize) -> Result<Self, Error> {
        if !(1..=64).contains(&ahead) {
            return Err(Error::Part(ravel_core::Error::Config {
                field: "draft tokens".into(),
                found: ahead.to_string(),
                expected: "1 to 64".into(),
            }));
        }
        let reason = difference(&self.parts, &parts);
        if let Some(reason) = reason {
            return Err(Error::Draft {
                draft: parts.name,
                model: self.parts.name,
                reason,
            });
        }
        Ok(Self {
            draft: Some(Draft { parts, ahead }),
            ..self
        })
    }

    /// Positions that all models see at once.
    pub(crate) fn context(&self) -> usize {
        let draft = self.draft.as_ref().map(|draft| draft.parts.context);
        draft.map_or(self.parts.context, |draft| draft.min(self.parts.context))
    }
}

/// How two models' ids differ, if they do.
fn difference(model: &LanguageParts, draft: &LanguageParts) -> Option<String> {
    let rows = [model, draft].map(|parts| parts.head.config().codebook_size);
    if rows[0] != rows[1] {
        return Some(format!("it has {} ids, {} are expected", rows[1], rows[0]));
    }
    let (ours, theirs) = (&model.vocabulary, &draft.vocabulary);
    let most = ours.size().max(theirs.size()) as u32;
    let id = (0..most).find(|&id| ours.token(id) != theirs.token(id))?;
    let shown =
        |token: Option<String>| token.map_or("no token".into(), |token| format!("{token:?}"));
    Some(format!(
        "its id {id} is {}, {} is expected",
        shown(theirs.token(id)),
        shown(ours.token(id))
    ))
}

impl Draft {
    /// The method for a prompt.
    pub(crate) fn method(&self, prompt: &[u32], seed: Seed) -> Speculative<'_> {
        Speculative {
            draft: Generator {
                backbone: &self.parts.backbone,
                head: &self.parts.head,
                pyramid: None,
            },
            condition: condition(&self.parts, prompt),
            ahead: self.ahead,
            seed: seed.named("speculative"),
            tally: Cell::new(Tally::default()),
        }
    }
}
