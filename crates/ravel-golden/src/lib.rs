//! Case folders of published reference code, run against Ravel.
//!
//! A case is a folder with a `README.md` (what was run, a table of tensors, how far each moves by rounding), a `config.json`,
//! weights under the reference's own names and `io.safetensors`, inputs and outputs. Its family is the folder's name up to an
//! optional suffix. [`run_all`] runs every case below some paths and reports each tensor's largest error beside its bound.
//!
//! To add a family: a file in `families/` with a function of the type [`Run`], and a line in [`FAMILIES`].

mod case;
mod families;
mod readme;
mod report;
mod run;
mod sampling;
mod settings;

pub use case::Case;
pub use families::{FAMILIES, Family, Run, family_of};
pub use readme::Readme;
pub use report::{CaseReport, Row, Verdict};
pub use run::{Outcome, run_all};

/// What keeps a case from being compared.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The case folder or an argument cannot be used: nothing is said about Ravel.
    #[error("{0}")]
    Input(String),
    /// The configuration or the weights do not become a model.
    #[error(transparent)]
    Family(#[from] ravel_families::FamilyError),
    /// The weights do not fit.
    #[error(transparent)]
    Weights(#[from] ravel_weights::WeightsError),
    /// What a part reports.
    #[error(transparent)]
    Part(#[from] ravel_core::Error),
}
