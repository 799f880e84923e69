//! Dia (Nari Labs 2025): a dialogue of two speakers as bytes beside delayed frames.
//!
//! `dia/model.py` of its published code. A recording stands in front of the new frames, and its words in front of the text.

use burn::tensor::{Device, Int, Tensor};
use ravel_core::{Backbone, Condition};
use ravel_families::dia::{Config, Dia, text_ids};

use super::{Asked, HeadOf, Speaker, Utterance, table};
use crate::Error;

/// What stands in front of a speaker's words.
const SPEAKERS: [&str; 2] = ["S1", "S2"];

/// The model.
pub(super) struct Dialogue<'a> {
    pub config: &'a Config,
    pub model: &'a Dia,
    pub device: &'a Device,
}

impl Dialogue<'_> {
    fn ids(&self, asked: &Asked<'_>) -> Vec<u32> {
        match asked.reference {
            Some((words, _)) => text_ids(&format!("{} {}", marked(words, SPEAKERS[0]), asked.line)),
            None => text_ids(asked.line),
        }
    }

    /// Positions that the last codebook comes late.
    fn longest_delay(&self) -> usize {
        self.config.delay_pattern.iter().copied().max().unwrap_or(0)
    }
}

impl Speaker for Dialogue<'_> {
    fn backbone(&self) -> &dyn Backbone {
        &self.model.backbone
    }

    fn voices(&self) -> Vec<String> {
        SPEAKERS.map(String::from).to_vec()
    }

    fn is_guided(&self) -> bool {
        true
    }

    /// A dialogue is one utterance: what is said before is heard in what is said after.
    fn lines(&self, text: &str, voice: &str) -> Vec<String> {
        vec![marked(text, voice)]
    }

    fn longest(&self) -> usize {
        let positions = self.config.decoder_config.max_position_embeddings;
        positions.saturating_sub(self.longest_delay() + 1).max(1)
    }

    fn check(&self, asked: &Asked<'_>) -> Result<(), Error> {
        let (found, most) = (
            self.ids(asked).len(),
            self.config.encoder_config.max_position_embeddings,
        );
        if found > most {
            return Err(Error::Long {
                what: "the text with the reference's words",
                found,
                unit: "bytes",
                most,
            });
        }
        let given = asked.reference.map_or(0, |(_, frames)| frames.dims()[2]);
        match given < self.longest() {
            true => Ok(()),
            false => Err(Error::Long {
                what: "the reference",
                found: given,
                unit: "frames",
                most: self.longest() - 1,
            }),
        }
    }

    fn begin(&self, asked: &Asked<'_>) -> Result<Utterance<'_>, Error> {
        let ids = table(&[self.ids(asked)], self.device);
        let said = self.model.condition(ids.clone(), None);
        let condition: Condition = match asked.guided {
            true => said.stack(self.model.condition(ids.zeros_like(), None)),
            false => said,
        };
        let given = asked.reference.map(|(_, frames)| frames.clone());
        let before = given
            .as_ref()
            .map_or(0, |given: &Tensor<3, Int>| given.dims()[2]);
        let most = (before + asked.frames).min(self.longest());
        let shape = self.config.arrangement();
        let depth = self.config.decoder_config.num_channels;
        let head = self.model.head.clone();
        Ok(Utterance {
            condition,
            head: HeadOf::Own(Box::new(head.with_layout(&shape.layout(most, depth)))),
            shape,
            depth,
            given,
            most,
        })
    }

    fn ends(&self, position: &[u32]) -> bool {
        position.first() == Some(&(self.config.eos_token_id as u32))
    }
}

/// A text that says who begins.
fn marked(text: &str, voice: &str) -> String {
    let text = text.trim();
    let says = |speaker: &&str| text.starts_with(&format!("[{speaker}]"));
    match SPEAKERS.iter().any(says) {
        true => text.into(),
        false => format!("[{voice}] {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_who_begins() {
        assert_eq!(marked(" Hello. [S2] Hi.", "S1"), "[S1] Hello. [S2] Hi.");
        assert_eq!(marked("Hello.", "S2"), "[S2] Hello.");
        assert_eq!(marked("[S2] Hello.", "S1"), "[S2] Hello.");
    }
}
