//! From prompts to what steers a picture.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::Condition;
use ravel_heads::PrefixEmbedding;
use ravel_text::{Classes, Subwords, TextError};

use crate::caption::{CaptionConditioner, DescriptionConditioner};

/// How prompts are read and what they become.
#[allow(clippy::large_enum_variant)] // One per pipeline.
pub enum Conditioner {
    /// Subwords, embedded in front of the codes.
    Words(WordConditioner),
    /// The class of a name or number.
    Class(ClassConditioner),
    /// The features that a text encoder makes of a caption.
    Caption(CaptionConditioner),
    /// The features that a text encoder makes of a description, and one vector of them.
    Description(DescriptionConditioner),
}

/// Subwords of a fixed number, embedded.
pub struct WordConditioner {
    /// Splits prompts.
    pub subwords: Subwords,
    /// Positions of every prompt.
    pub length: usize,
    /// Embeds them.
    pub prefix: PrefixEmbedding,
}

/// Classes, embedded. The one after the last stands for none.
pub struct ClassConditioner {
    /// The classes by name.
    pub classes: Classes,
    /// Embeds them.
    pub prefix: PrefixEmbedding,
}

impl Conditioner {
    /// The ids that a prompt stands for: of subwords, or of one class.
    ///
    /// # Errors
    /// [`TextError`] if the prompt says nothing, or more than fits, or what no class is called.
    pub fn read(&self, prompt: &str) -> Result<Vec<u32>, TextError> {
        match self {
            Self::Words(words) => words.subwords.prompt(prompt, words.length),
            Self::Class(class) => Ok(vec![class.classes.find(prompt)? as u32]),
            Self::Caption(caption) => caption.read(prompt),
            Self::Description(description) => description.read(prompt),
        }
    }

    /// The condition that prompts stand for, a row each; with guidance as many rows for no prompt below them.
    ///
    /// # Panics
    /// If a row is none that [`Conditioner::read`] gave.
    pub fn condition(&self, rows: &[Vec<u32>], guided: bool, device: &Device) -> Condition {
        let embedded = |prefix: &PrefixEmbedding, none: Vec<u32>| {
            let given = prefix.condition(table(rows, device));
            match guided {
                false => given,
                true => {
                    let none = vec![none; rows.len()];
                    given.stack(prefix.condition(table(&none, device)))
                }
            }
        };
        match self {
            Self::Words(words) => {
                embedded(&words.prefix, words.subwords.empty_prompt(words.length))
            }
            Self::Class(class) => embedded(&class.prefix, vec![class.classes.len() as u32]),
            Self::Caption(caption) => caption.condition(rows, guided, device),
            Self::Description(description) => description.condition(rows, guided, device),
        }
    }
}

/// Rows of equal length as a tensor, `[rows, ids]`.
pub(crate) fn table(rows: &[Vec<u32>], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = rows.iter().flatten().map(|&id| id as i32).collect();
    let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
    Tensor::from_data(TensorData::new::<i32, _>(ids, shape), device)
}
