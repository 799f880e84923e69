//! What can be wrong with data that reaches a part from outside. Our own shape bugs panic instead.

/// A result whose error is [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Outside data that a part cannot work with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A signal has the wrong size, rate or channel count.
    #[error("the signal is {found}, this tokenizer needs {expected}")]
    Signal {
        /// What was handed in, in words.
        found: String,
        /// What the tokenizer takes, in words.
        expected: String,
    },
    /// Codes have the wrong layout, depth or an id beyond the codebook.
    #[error("the codes have {found}, {expected} is expected")]
    Codes {
        /// What was handed in, in words.
        found: String,
        /// What is needed, in words.
        expected: String,
    },
    /// Scores or weights that are not numbers.
    #[error("{place} produced {what}")]
    NotFinite {
        /// Which part of the model.
        place: String,
        /// `NaN` or `infinity`, and where.
        what: String,
    },
    /// A configuration that no part can be built from.
    #[error("{field} is {found}, {expected} is expected")]
    Config {
        /// The field's name.
        field: String,
        /// Its value.
        found: String,
        /// What would do.
        expected: String,
    },
}
