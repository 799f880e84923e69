//! Captions through a text encoder, as LlamaGen's models from captions take them (Sun et al. 2024, section 2.2).

use burn::tensor::{Bool, Device, Tensor, TensorData};
use ravel_backbone::TextEncoder;
use ravel_core::Condition;
use ravel_families::{FamilyError, read_config, t5};
use ravel_heads::CaptionEmbedding;
use ravel_text::{MAX_PROMPT_BYTES, TextError, Vocabulary};

use crate::build::Faults;
use crate::conditioner::table;
use crate::definition::TextPart;
use crate::{PipelineError, Source, check_vocabulary};

/// Features of captions, embedded.
pub struct CaptionConditioner {
    vocabulary: Vocabulary,
    encoder: TextEncoder,
    prefix: CaptionEmbedding,
    length: usize,
    /// Closes a caption.
    end: u32,
}

/// What a definition says of captions.
pub(crate) struct CaptionSpec<'a> {
    vocabulary: &'a str,
    config: &'a str,
    weights: &'a str,
    pub(crate) length: usize,
}

impl<'a> CaptionSpec<'a> {
    pub(crate) fn of(text: &'a TextPart) -> Option<Self> {
        match text {
            TextPart::Caption {
                vocabulary,
                config,
                weights,
                length,
            } => Some(Self {
                vocabulary,
                config,
                weights,
                length: *length,
            }),
            _ => None,
        }
    }

    /// The encoder's configuration.
    pub(crate) fn config(&self, source: &Source) -> Result<t5::Config, PipelineError> {
        let bytes = source.read(self.config)?;
        let config = read_config(t5::NAME, &String::from_utf8_lossy(&bytes));
        config.map_err(|error: FamilyError| PipelineError::File {
            file: self.config.into(),
            reason: error.to_string(),
        })
    }

    /// The vocabulary, which must be the encoder's.
    pub(crate) fn vocabulary(
        &self,
        config: &t5::Config,
        source: &Source,
    ) -> Result<Vocabulary, PipelineError> {
        let vocabulary = Vocabulary::from_bytes(&source.read(self.vocabulary)?, self.vocabulary)?;
        check_vocabulary(&vocabulary, config.vocab_size, self.vocabulary)?;
        for (token, id) in [
            (t5::PADDING, config.pad_token_id),
            (t5::END, config.eos_token_id),
        ] {
            let found = vocabulary.id(token);
            if found != Some(id as u32) {
                return Err(PipelineError::File {
                    file: self.vocabulary.into(),
                    reason: format!(
                        "`{token}` is {}, {id} in the text encoder: the file belongs to another model",
                        found.map_or("no token".into(), |id| format!("id {id}"))
                    ),
                });
            }
        }
        Ok(vocabulary)
    }

    /// The conditioner, with the encoder's weights.
    pub(crate) fn build(
        &self,
        prefix: CaptionEmbedding,
        source: &Source,
        device: &Device,
    ) -> Result<CaptionConditioner, PipelineError> {
        let config = self.config(source)?;
        let vocabulary = self.vocabulary(&config, source)?;
        let mut faults = Faults::default();
        let checkpoint = source.checkpoint(self.weights)?;
        let encoder = faults
            .keep_family(config.load(checkpoint, device))?
            .ok_or_else(|| faults.report())?;
        Ok(CaptionConditioner {
            vocabulary,
            encoder,
            prefix,
            length: self.length,
            end: config.eos_token_id as u32,
        })
    }
}

/// Signs that captions are cleaned of, as those of the training were.
const SIGNS: &str = "#®•©™&@·º½¾¿¡§~()[]{}|\\/*";

/// A caption as those of the training were written: in lower case, without signs, with plain dashes and quotes and single spaces.
///
/// What else the published code removes is not looked for: addresses, HTML, file names, numbers of articles.
fn cleaned(caption: &str) -> String {
    let plain = |letter: char| match letter {
        '\u{2010}'..='\u{2015}' | '\u{301c}' | '\u{3030}' | '\u{fe58}' | '\u{ff0d}' => '-',
        '`' | '´' | '«' | '»' | '“' | '”' | '¨' => '"',
        '‘' | '’' => '\'',
        sign if SIGNS.contains(sign) => ' ',
        letter => letter,
    };
    let letters: String = caption.to_lowercase().chars().map(plain).collect();
    letters.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl CaptionConditioner {
    /// The ids of a caption and its end.
    ///
    /// # Errors
    /// [`TextError::Empty`], [`TextError::TooLong`] or [`TextError::TooLarge`].
    pub(crate) fn read(&self, caption: &str) -> Result<Vec<u32>, TextError> {
        if caption.len() > MAX_PROMPT_BYTES {
            return Err(TextError::TooLarge {
                bytes: caption.len(),
                limit: MAX_PROMPT_BYTES,
            });
        }
        let text = cleaned(caption);
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        let mut ids = self.vocabulary.encode(&text, false)?.ids;
        if ids.len() + 1 > self.length {
            return Err(TextError::TooLong {
                found: ids.len(),
                limit: self.length - 1,
            });
        }
        ids.push(self.end);
        Ok(ids)
    }

    /// Features at the end of the positions, nothing visible before them; with guidance rows of no caption that hide the same.
    pub(crate) fn condition(&self, rows: &[Vec<u32>], guided: bool, device: &Device) -> Condition {
        // Row by row, so that a caption's features do not depend on what stands beside it.
        let features = rows.iter().map(|ids| self.features(ids, device));
        let features = Tensor::cat(features.collect(), 0);
        let before = |ids: &Vec<u32>| {
            let empty = self.length - ids.len();
            (0..self.length).map(move |position| position < empty)
        };
        let hidden: Vec<bool> = rows.iter().flat_map(before).collect();
        let hidden = TensorData::new(hidden, [rows.len(), self.length]);
        let hidden: Tensor<2, Bool> = Tensor::from_data(hidden, device);
        let given = self.prefix.condition(features, Some(hidden.clone()));
        match guided {
            false => given,
            true => given.stack(self.prefix.without(rows.len(), Some(hidden))),
        }
    }

    /// `[1, length, width]`: the caption's features behind zeros. The encoder sees no padding: what it makes of a text is the same with
    /// hidden positions behind it.
    fn features(&self, ids: &[u32], device: &Device) -> Tensor<3> {
        let text = self.encoder.forward(table(&[ids.to_vec()], device), None);
        let [_, n, width] = text.dims();
        match self.length - n {
            0 => text,
            empty => Tensor::cat(vec![Tensor::zeros([1, empty, width], device), text], 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_cleaned_as_in_training() {
        assert_eq!(cleaned(" A  RED\tboat. "), "a red boat.");
        assert_eq!(
            cleaned("“Tom’s” boat — (red/blue) #1 & more*"),
            "\"tom's\" boat - red blue 1 more"
        );
        assert_eq!(cleaned("[*]"), "");
    }
}
