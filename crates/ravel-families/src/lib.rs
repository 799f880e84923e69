//! Published model families: each has a reader of the configuration that it was published with, a table of its weights' names,
//! and a function that builds the shared parts from both. No layer and no model is written here.
//!
//! A reader takes every key that the reference reads and leaves alone what it does not know: published files carry much that no
//! computation depends on.

pub mod chameleon_vq;
pub mod cosmos_dv;
pub mod csm;
pub mod dia;
pub mod emu3_vq;
pub mod fish_dual_ar;
pub mod infinity_bsq;
pub mod janus_vq;
pub mod llamagen_vq;
pub mod musicgen;

mod hub;

use serde::de::DeserializeOwned;

/// What keeps a published model from being built.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// The configuration cannot be read.
    #[error("{family}: the configuration cannot be read: {reason}")]
    Config {
        /// The family.
        family: &'static str,
        /// Key and place.
        reason: String,
    },
    /// The configuration asks for what the family does not have.
    #[error("{family}: {source}")]
    Part {
        /// The family.
        family: &'static str,
        /// Field, value and what would do.
        source: ravel_core::Error,
    },
    /// The weights do not fit.
    #[error(transparent)]
    Weights(#[from] ravel_weights::WeightsError),
}

/// Reads a configuration.
///
/// # Errors
/// [`FamilyError::Config`].
pub fn read_config<T: DeserializeOwned>(
    family: &'static str,
    json: &str,
) -> Result<T, FamilyError> {
    serde_json::from_str(json).map_err(|error| FamilyError::Config {
        family,
        reason: error.to_string(),
    })
}

/// A configuration that asks for what the reference does not do.
fn refused(family: &'static str, field: &str, found: &str, expected: &str) -> FamilyError {
    FamilyError::Part {
        family,
        source: ravel_core::Error::Config {
            field: field.into(),
            found: found.into(),
            expected: expected.into(),
        },
    }
}
