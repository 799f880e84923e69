//! Captions through a text encoder, as LlamaGen's models from captions take them (Sun et al. 2024, section 2.2), and descriptions, as
//! Infinity takes them (Han et al. 2024, section 3.1).

use burn::tensor::{Bool, Device, Tensor, TensorData};
use ravel_backbone::TextEncoder;
use ravel_core::Condition;
use ravel_families::{FamilyError, read_config, t5};
use ravel_heads::{CaptionEmbedding, DescriptionEmbedding};
use ravel_text::{MAX_PROMPT_BYTES, TextError, Vocabulary};

use crate::build::Faults;
use crate::conditioner::table;
use crate::definition::TextPart;
use crate::{PipelineError, Source, check_vocabulary};

/// Features of captions, embedded.
pub struct CaptionConditioner {
    reader: TextReader,
    prefix: CaptionEmbedding,
}

/// A text encoder with its vocabulary.
pub(crate) struct TextReader {
    vocabulary: Vocabulary,
    encoder: TextEncoder,
    /// Positions of the longest text, its end included.
    pub(crate) length: usize,
    /// Closes a text.
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

    /// The reader, with the encoder's weights.
    pub(crate) fn reader(
        &self,
        source: &Source,
        device: &Device,
    ) -> Result<TextReader, PipelineError> {
        let config = self.config(source)?;
        let vocabulary = self.vocabulary(&config, source)?;
        let mut faults = Faults::default();
        let checkpoint = source.checkpoint(self.weights)?;
        let encoder = faults
            .keep_family(config.load(checkpoint, device))?
            .ok_or_else(|| faults.report())?;
        Ok(TextReader {
            vocabulary,
            encoder,
            length: self.length,
            end: config.eos_token_id as u32,
        })
    }
}

impl TextReader {
    /// The ids of a text as `written` makes it, and its end.
    ///
    /// # Errors
    /// [`TextError::Empty`], [`TextError::TooLong`] or [`TextError::TooLarge`].
    pub(crate) fn ids(
        &self,
        text: &str,
        written: impl Fn(&str) -> String,
    ) -> Result<Vec<u32>, TextError> {
        if text.len() > MAX_PROMPT_BYTES {
            return Err(TextError::TooLarge {
                bytes: text.len(),
                limit: MAX_PROMPT_BYTES,
            });
        }
        let text = written(text);
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

    /// `[1, n, width]`: a text's features. The encoder sees no padding: what it makes of a text is the same with hidden positions
    /// behind it.
    pub(crate) fn features(&self, ids: &[u32], device: &Device) -> Tensor<3> {
        self.encoder.forward(table(&[ids.to_vec()], device), None)
    }

    /// The features with zeros up to the longest text's length, behind them or before them.
    pub(crate) fn padded(&self, ids: &[u32], before: bool, device: &Device) -> Tensor<3> {
        let text = self.features(ids, device);
        let [_, n, width] = text.dims();
        if n == self.length {
            return text;
        }
        let zeros = Tensor::zeros([1, self.length - n, width], device);
        match before {
            true => Tensor::cat(vec![zeros, text], 1),
            false => Tensor::cat(vec![text, zeros], 1),
        }
    }

    /// `[rows, length]`: which positions [`TextReader::padded`] fills up.
    pub(crate) fn hidden(
        &self,
        rows: &[Vec<u32>],
        before: bool,
        device: &Device,
    ) -> Tensor<2, Bool> {
        let length = self.length;
        let row = |ids: &Vec<u32>| {
            let n = ids.len();
            (0..length).map(move |at| match before {
                true => at + n < length,
                false => at >= n,
            })
        };
        let hidden: Vec<bool> = rows.iter().flat_map(row).collect();
        Tensor::from_data(TensorData::new(hidden, [rows.len(), length]), device)
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
    pub(crate) fn new(reader: TextReader, prefix: CaptionEmbedding) -> Self {
        Self { reader, prefix }
    }

    /// The ids of a caption and its end.
    ///
    /// # Errors
    /// As [`TextReader::ids`].
    pub(crate) fn read(&self, caption: &str) -> Result<Vec<u32>, TextError> {
        self.reader.ids(caption, cleaned)
    }

    /// Features at the end of the positions, nothing visible before them; with guidance rows of no caption that hide the same.
    pub(crate) fn condition(&self, rows: &[Vec<u32>], guided: bool, device: &Device) -> Condition {
        // Row by row, so that a caption's features do not depend on what stands beside it.
        let features = rows.iter().map(|ids| self.reader.padded(ids, true, device));
        let features = Tensor::cat(features.collect(), 0);
        let hidden = self.reader.hidden(rows, true, device);
        let given = self.prefix.condition(features, Some(hidden.clone()));
        match guided {
            false => given,
            true => given.stack(self.prefix.without(rows.len(), Some(hidden))),
        }
    }
}

/// Features of descriptions, as Infinity's transformer reads them.
pub struct DescriptionConditioner {
    reader: TextReader,
    prefix: DescriptionEmbedding,
}

impl DescriptionConditioner {
    pub(crate) fn new(reader: TextReader, prefix: DescriptionEmbedding) -> Self {
        Self { reader, prefix }
    }

    /// The ids of a description, as it is written, and its end.
    ///
    /// # Errors
    /// As [`TextReader::ids`].
    pub(crate) fn read(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.reader.ids(text, |text| text.trim().into())
    }

    /// Features from the first position on, nothing visible behind them; with guidance rows of no description of the same lengths.
    pub(crate) fn condition(&self, rows: &[Vec<u32>], guided: bool, device: &Device) -> Condition {
        let features = rows
            .iter()
            .map(|ids| self.reader.padded(ids, false, device));
        let features = Tensor::cat(features.collect(), 0);
        let hidden = self.reader.hidden(rows, false, device);
        let given = self.prefix.condition(features, hidden.clone());
        match guided {
            false => given,
            true => given.stack(self.prefix.without(hidden)),
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
