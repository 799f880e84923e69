//! CSM (Sesame 2025): turns of a conversation, each a text that begins with its speaker's number, and then its frames.
//!
//! `generator.py` of its published code. What was said before stands in front of what is to be said, the oldest left out where there is
//! no room; each turn of speech ends with a frame of zeros, and so does what is chosen.

use burn::tensor::{Device, Int, Tensor};
use ravel_core::{Backbone, Condition};
use ravel_families::csm::{Config, Csm};
use ravel_heads::Arrangement;
use ravel_text::Vocabulary;

use super::split::pieces;
use super::{Asked, HeadOf, Speaker, Utterance, table};
use crate::Error;

/// Frames of one turn at most: 90 seconds, which the published code keeps free.
const LONGEST: usize = 1125;
/// Bytes of one piece of a longer text.
const PIECE: usize = 500;
/// Speakers that can be named.
const SPEAKERS: u32 = 10;

/// The model with its vocabulary.
pub(super) struct Speaking<'a> {
    pub config: &'a Config,
    pub vocabulary: &'a Vocabulary,
    /// What begins and what ends a text.
    pub around: [u32; 2],
    pub model: &'a Csm,
    pub device: &'a Device,
}

impl Speaking<'_> {
    /// A text's ids, its speaker in front.
    fn ids(&self, voice: &str, line: &str) -> Result<Vec<u32>, Error> {
        let [begin, end] = self.around;
        let mut ids = vec![begin];
        ids.extend(
            self.vocabulary
                .encode(&format!("[{voice}]{line}"), false)?
                .ids,
        );
        ids.push(end);
        Ok(ids)
    }

    fn written(&self, ids: Vec<u32>) -> Tensor<3> {
        self.model.text.embedded(table(&[ids], self.device))
    }

    /// Frames and the one that ends them.
    fn spoken(&self, frames: &Tensor<3, Int>) -> Tensor<3> {
        let end = self.config.codebook_eos_token_id as i64;
        let end = Tensor::full([1, self.config.num_codebooks, 1], end, self.device);
        let all = Tensor::cat(vec![frames.clone(), end], 2);
        self.model.head.frame.embedded(all, 0)
    }

    /// Positions that there are for what stands in front of `frames` new ones.
    fn room(&self, frames: usize) -> usize {
        self.config.max_position_embeddings.saturating_sub(frames)
    }
}

impl Speaker for Speaking<'_> {
    fn backbone(&self) -> &dyn Backbone {
        &self.model.backbone
    }

    fn voices(&self) -> Vec<String> {
        (0..SPEAKERS).map(|speaker| speaker.to_string()).collect()
    }

    fn lines(&self, text: &str, _voice: &str) -> Vec<String> {
        match text.len() <= PIECE {
            true => vec![text.into()],
            false => pieces(text, PIECE),
        }
    }

    /// Nearly half of all positions stay free for what stands in front, as in the published model.
    fn longest(&self) -> usize {
        LONGEST
            .min(self.config.max_position_embeddings * 11 / 20)
            .max(1)
    }

    fn check(&self, asked: &Asked<'_>) -> Result<(), Error> {
        let mut found = self.ids(asked.voice, asked.line)?.len();
        if let Some((words, frames)) = asked.reference {
            found += self.ids(asked.voice, words)?.len() + frames.dims()[2] + 1;
        }
        let most = self.room(asked.frames).saturating_sub(1);
        match found <= most {
            true => Ok(()),
            false => Err(Error::Long {
                what: "the text with the reference",
                found,
                unit: "positions",
                most,
            }),
        }
    }

    fn begin(&self, asked: &Asked<'_>) -> Result<Utterance<'_>, Error> {
        let turn = |line: &str, frames: &Tensor<3, Int>| {
            let text = self.written(self.ids(asked.voice, line)?);
            Ok::<_, Error>(Tensor::cat(vec![text, self.spoken(frames)], 1))
        };
        let latest = self.written(self.ids(asked.voice, asked.line)?);
        let reference = asked.reference.map(|(words, frames)| turn(words, frames));
        let reference = reference.transpose()?;
        let len = |part: &Tensor<3>| part.dims()[1];
        let fixed = len(&latest) + reference.as_ref().map_or(0, len);
        let mut room = self.room(asked.frames).saturating_sub(fixed + 1);
        let mut before = Vec::new();
        for said in asked.said.iter().rev() {
            let said = turn(&said.line, &said.frames)?;
            match room.checked_sub(len(&said)) {
                Some(left) => room = left,
                None => break,
            }
            before.push(said);
        }
        before.extend(reference);
        before.reverse();
        before.push(latest);
        Ok(Utterance {
            condition: Condition {
                prefix: Some(Tensor::cat(before, 1)),
                ..Condition::default()
            },
            head: HeadOf::Kept(&self.model.head),
            shape: Arrangement::Parallel {},
            depth: self.config.num_codebooks,
            given: None,
            most: asked.frames,
        })
    }

    /// All codes but the last say so.
    fn ends(&self, position: &[u32]) -> bool {
        let end = self.config.codebook_eos_token_id as u32;
        let but_last = position.split_last().map_or(&[][..], |(_, before)| before);
        !position.is_empty() && but_last.iter().all(|&id| id == end)
    }
}
