//! Fish-Speech 1.5 (Liao et al. 2024): a conversation in which the user's messages are texts and the assistant's are speech.
//!
//! `fish_speech/models/text2semantic/inference.py` of version 1.5.1, `generate_long`. A long text is said in pieces, each with what was
//! said before in front of it as far as there is room. Of the chosen frames only the one that ends a message is left out, as in version
//! 1.5.0; version 1.5.1 leaves out the first and keeps the last.

use burn::tensor::{Device, Int, Tensor};
use ravel_core::{Backbone, Codes, Condition, Sampler, Seed, Unit};
use ravel_decode::SamplerConfig;
use ravel_families::fish_dual_ar::{Config, DualAr};
use ravel_heads::Arrangement;
use ravel_pipeline::FishVocabulary;

use super::split::{cleaned, pieces};
use super::{Asked, HeadOf, Speaker, Utterance, table};
use crate::Error;

/// Bytes of one piece of a long text.
const PIECE: usize = 150;
/// Positions that what was said before may take, together with what is to be said.
const ROOM: usize = 2048;
/// Positions of them that are kept for what is to be said.
const NEW: usize = 1024;
/// What the model is told where a voice is shown to it.
const SYSTEM: &str = "Speak out the provided text.";
/// Bytes of a reference's words at most.
const WORDS: usize = 10_000;

/// The model with its vocabulary.
pub(super) struct Fish<'a> {
    pub config: &'a Config,
    pub vocabulary: &'a FishVocabulary,
    pub model: &'a DualAr,
    pub device: &'a Device,
}

impl Fish<'_> {
    fn depth(&self) -> usize {
        self.config.num_codebooks
    }

    /// Tokens as positions without codes, `[1, rows, n]`.
    fn written(&self, tokens: Vec<u32>) -> Tensor<3, Int> {
        let n = tokens.len();
        let tokens = table(&[tokens], self.device).unsqueeze_dim(1);
        let silence = Tensor::zeros([1, self.depth(), n], self.device);
        Tensor::cat(vec![tokens, silence], 1)
    }

    /// Frames as positions: the token that says "semantic" follows from the first code.
    fn spoken(&self, frames: &Tensor<3, Int>) -> Tensor<3, Int> {
        let begin = self.vocabulary.semantic_begin() as i64;
        let tokens = frames.clone().narrow(1, 0, 1) + begin;
        Tensor::cat(vec![tokens, frames.clone()], 1)
    }

    fn role(&self, role: &str) -> Result<Vec<u32>, Error> {
        let mut tokens = vec![self.vocabulary.start()];
        tokens.extend(self.vocabulary.encode(&format!("{role}\n"))?);
        Ok(tokens)
    }

    /// A whole message of text.
    fn message(&self, role: &str, text: &str) -> Result<Vec<u32>, Error> {
        let mut tokens = self.role(role)?;
        tokens.extend(self.vocabulary.encode(text)?);
        tokens.push(self.vocabulary.end());
        Ok(tokens)
    }

    /// A message of text, and the beginning of its answer in speech.
    fn asked(&self, line: &str) -> Result<Vec<u32>, Error> {
        let mut tokens = self.message("user", &cleaned(line))?;
        tokens.extend(self.role("assistant")?);
        tokens.push(self.vocabulary.voice());
        Ok(tokens)
    }

    /// What stands in front of the conversation: a voice that is shown.
    fn shown(&self, reference: Option<(&str, &Tensor<3, Int>)>) -> Result<Shown, Error> {
        let system = self.written(self.message("system", SYSTEM)?);
        let Some((words, frames)) = reference else {
            // The reference leaves room for a system message that it then leaves out.
            return Ok(Shown {
                positions: system.dims()[2],
                parts: Vec::new(),
            });
        };
        let parts = vec![
            system,
            self.written(self.asked(words)?),
            self.spoken(frames),
            self.written(vec![self.vocabulary.end()]),
        ];
        Ok(Shown {
            positions: parts.iter().map(|part| part.dims()[2]).sum(),
            parts,
        })
    }
}

/// What stands in front of a conversation, and the room that is kept for it.
struct Shown {
    positions: usize,
    parts: Vec<Tensor<3, Int>>,
}

impl Speaker for Fish<'_> {
    fn backbone(&self) -> &dyn Backbone {
        &self.model.backbone
    }

    fn lines(&self, text: &str, _voice: &str) -> Vec<String> {
        pieces(text, PIECE)
    }

    fn longest(&self) -> usize {
        NEW
    }

    fn check(&self, asked: &Asked<'_>) -> Result<(), Error> {
        if let Some((words, _)) = asked.reference
            && words.len() > WORDS
        {
            return Err(Error::Long {
                what: "the text of the reference",
                found: words.len(),
                unit: "bytes",
                most: WORDS,
            });
        }
        let shown = self.shown(asked.reference)?;
        let before = shown.parts.iter().map(|part| part.dims()[2]).sum::<usize>();
        let found = before + self.asked(asked.line)?.len();
        let most = self.config.max_seq_len.saturating_sub(NEW);
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
        let shown = self.shown(asked.reference)?;
        let mut history = Vec::new();
        for said in asked.said {
            history.push(self.written(self.asked(&said.line)?));
            history.push(said.ids.clone());
        }
        history.push(self.written(self.asked(asked.line)?));
        let lengths: Vec<usize> = history.iter().map(|part| part.dims()[2]).collect();
        let room = (ROOM - NEW).saturating_sub(shown.positions);
        let mut parts = shown.parts;
        parts.extend(
            kept(&lengths, room)
                .into_iter()
                .map(|at| history[at].clone()),
        );
        let prompt = Tensor::cat(parts, 2);
        let left = self.config.max_seq_len.saturating_sub(prompt.dims()[2]);
        Ok(Utterance {
            condition: Condition {
                prefix: Some(self.model.head.frame.embedded(prompt, 0)),
                ..Condition::default()
            },
            head: HeadOf::Kept(&self.model.head),
            shape: Arrangement::Parallel {},
            depth: self.depth(),
            given: None,
            most: asked.frames.min(left).max(1),
        })
    }

    fn ends(&self, position: &[u32]) -> bool {
        position.first() == Some(&self.vocabulary.end())
    }

    fn sampler(&self, config: &SamplerConfig, seed: Seed, positions: usize) -> Box<dyn Sampler> {
        let unpenalised = SamplerConfig {
            repetition_penalty: None,
            ..config.clone()
        };
        Box::new(FirstFree {
            first: unpenalised.build(seed, &[0], positions),
            later: config.build(seed, &[0], positions),
        })
    }

    /// The codec's levels go round: of 1024 ids that can be chosen it has 1000.
    fn codes(&self, ids: Tensor<3, Int>, codebook_size: usize) -> Tensor<3, Int> {
        ids.remainder_scalar(codebook_size as i64)
    }
}

/// Which parts of a conversation stay in view: the latest ones that there is room for, and always the first text and its speech.
/// Texts and speech take turns, a text comes last.
fn kept(lengths: &[usize], room: usize) -> Vec<usize> {
    let n = lengths.len();
    let (mut count, mut latest) = (0, 0);
    for (at, length) in lengths.iter().rev().enumerate() {
        latest = at;
        count += length;
        if count + length > room {
            break;
        }
    }
    if latest != 0 && latest.is_multiple_of(2) {
        latest -= 1;
    }
    match latest + 2 < n {
        true => (0..2).chain(n - latest.max(1)..n).collect(),
        false => (0..n).collect(),
    }
}

/// The first position is chosen without a repetition penalty, and no later one is compared with it.
struct FirstFree {
    first: Box<dyn Sampler>,
    later: Box<dyn Sampler>,
}

impl FirstFree {
    fn of(&mut self, unit: &Unit) -> &mut dyn Sampler {
        match unit.index {
            0 => &mut *self.first,
            _ => &mut *self.later,
        }
    }
}

impl Sampler for FirstFree {
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> ravel_core::Result<Tensor<2, Int>> {
        self.of(unit).pick(logits, unit)
    }

    fn given(&mut self, prompt: &Codes) {
        self.later.given(prompt);
    }

    fn settled(&mut self, ids: &Tensor<2, Int>, unit: &Unit) {
        self.of(unit).settled(ids, unit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_stays_in_view_as_far_as_there_is_room() {
        // Text, speech, text, speech, text.
        assert_eq!(kept(&[30], 1000), [0]);
        assert_eq!(kept(&[30, 60, 30], 1000), [0, 1, 2]);
        assert_eq!(kept(&[30, 60, 30, 60, 30], 1000), [0, 1, 2, 3, 4]);
        // The second text's speech is too long for both to be seen: the first pair and the latest text stay.
        assert_eq!(kept(&[30, 60, 30, 600, 30], 600), [0, 1, 4]);
        // Room for the latest pair and the text after it, but in whole turns.
        assert_eq!(kept(&[30, 90, 30, 90, 30, 90, 30], 250), [0, 1, 4, 5, 6]);
        assert_eq!(kept(&[500, 60, 900], 600), [0, 1, 2]);
    }
}
