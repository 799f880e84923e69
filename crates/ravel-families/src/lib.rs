//! Published model families: each has a reader of the configuration that it was published with, a table of its weights' names,
//! and a function that builds the shared parts from both. No layer and no model is written here.
//!
//! A reader takes every key that the reference reads and leaves alone what it does not know: published files carry much that no
//! computation depends on.

pub mod chameleon_vq;
pub mod cosmos_dv;
pub mod csm;
pub mod dac;
pub mod dia;
pub mod emu3_vq;
pub mod encodec;
pub mod firefly;
pub mod fish_dual_ar;
pub mod infinity;
pub mod infinity_bsq;
pub mod infinity_vae;
pub mod janus_vq;
pub mod kl_vae;
pub mod language;
pub mod llamagen_gpt;
pub mod llamagen_vq;
pub mod mar;
pub mod mimi;
pub mod musicgen;
pub mod snac;
pub mod t5;
pub mod var;

mod hub;
mod whole;

use std::collections::BTreeMap;

use ravel_weights::{Checkpoint, KeyTable};
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

/// The family's checkpoint under our names.
///
/// `keys` are the name and the text of its key table, `variables` the numbers that the table's sums name.
///
/// # Errors
/// [`FamilyError::Weights`] if two tensors would get one name, or one has a shape that a rule cannot work on.
pub fn renamed(
    keys: (&str, &str),
    checkpoint: Checkpoint,
    variables: &[(&str, usize)],
) -> Result<Checkpoint, FamilyError> {
    let variables: BTreeMap<_, _> = variables
        .iter()
        .map(|&(name, number)| (name.to_string(), number))
        .collect();
    let table = KeyTable::parse(keys.0, keys.1)?;
    Ok(table.apply(checkpoint, &variables)?)
}

/// The tensors below a name, where a file holds several models and has any there; all of the file otherwise.
fn within(checkpoint: Checkpoint, prefix: &str) -> Checkpoint {
    let holds = checkpoint.names().any(|name| name.starts_with(prefix));
    match holds {
        true => checkpoint.under(prefix),
        false => checkpoint,
    }
}

/// An error of a part, with the family's name.
fn of_family(family: &'static str) -> impl Fn(ravel_core::Error) -> FamilyError {
    move |source| FamilyError::Part { family, source }
}
