//! MusicGen (Copet et al. 2023): music of a given length from a description.
//!
//! `MusicgenForConditionalGeneration` and `MusicgenMelodyForConditionalGeneration` of the transformers library, without a recording in
//! front and without a tune.

use burn::tensor::Device;
use ravel_core::Backbone;
use ravel_families::musicgen::{Whole, WholeMusicGen};
use ravel_text::Vocabulary;

use super::{Asked, HeadOf, Speaker, Utterance, table};
use crate::Error;

/// Frames that the models were trained on: 30 seconds.
const LONGEST: usize = 1500;
/// Ids of a description at most.
const IDS: usize = 512;

/// The model with its vocabulary.
pub(super) struct Music<'a> {
    pub config: &'a Whole,
    pub vocabulary: &'a Vocabulary,
    pub model: &'a WholeMusicGen,
    pub device: &'a Device,
}

impl Music<'_> {
    /// A description's ids and the one that ends it.
    fn ids(&self, line: &str) -> Result<Vec<u32>, Error> {
        let mut ids = self.vocabulary.encode(line, false)?.ids;
        ids.push(self.config.text_encoder.eos_token_id as u32);
        Ok(ids)
    }
}

impl Speaker for Music<'_> {
    fn backbone(&self) -> &dyn Backbone {
        &self.model.decoder.backbone
    }

    fn is_guided(&self) -> bool {
        true
    }

    fn takes_references(&self) -> bool {
        false
    }

    fn lines(&self, text: &str, _voice: &str) -> Vec<String> {
        vec![text.into()]
    }

    fn longest(&self) -> usize {
        LONGEST
    }

    fn check(&self, asked: &Asked<'_>) -> Result<(), Error> {
        let found = self.ids(asked.line)?.len();
        match found <= IDS {
            true => Ok(()),
            false => Err(Error::Long {
                what: "the description",
                found,
                unit: "ids",
                most: IDS,
            }),
        }
    }

    fn begin(&self, asked: &Asked<'_>) -> Result<Utterance<'_>, Error> {
        let ids = table(&[self.ids(asked.line)?], self.device);
        let decoder = &self.config.decoder;
        let (shape, depth) = (decoder.arrangement(), decoder.num_codebooks);
        let head = self.model.decoder.head.clone();
        Ok(Utterance {
            condition: self.model.condition(ids, asked.guided),
            head: HeadOf::Own(Box::new(
                head.with_layout(&shape.layout(asked.frames, depth)),
            )),
            shape,
            depth,
            given: None,
            most: asked.frames,
        })
    }

    fn ends(&self, _position: &[u32]) -> bool {
        false
    }

    fn is_endless(&self) -> bool {
        true
    }
}
