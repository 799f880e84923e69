//! Checkpoints in and out: safetensors and PyTorch files read with every size checked and no pickle executed, renamed by key tables, laid
//! into a module by parameter path with one report of everything that does not fit, and written so that a kill leaves the old file or
//! the new one.

mod bytes;
mod checkpoint;
mod header;
mod index;
mod keys;
mod module;
mod pytorch;
mod quantized;
mod stored;
mod view;
mod write;

pub use checkpoint::Checkpoint;
pub use keys::KeyTable;
pub use module::{check_parts, draw, load, parameters, tensors_of};
pub use quantized::{Quantized, quantize};
pub use write::{Dtype, atomic_write, save, sha256_file, sha256_hex};

/// What is wrong with a checkpoint or with writing one.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be opened, read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bytes are no safetensors file, or one that lies about its sizes.
    #[error("{path}: not a safetensors file that can be trusted: {reason}")]
    Format {
        /// The file, or a word for bytes in memory.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The bytes are no file of `torch.save`, one that is cut off or lies, or one whose pickle asks for something that no weights need.
    #[error("{path}: not a PyTorch file that can be trusted: {reason}")]
    Pytorch {
        /// The file, or a word for bytes in memory.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The index of a sharded checkpoint does not add up.
    #[error("{path}: not an index of weight files that can be trusted: {reason}")]
    Index {
        /// The index.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor that is not there, of another kind, or of a shape that a key table cannot work on.
    #[error("{path}: {reason}")]
    Tensor {
        /// The file.
        path: String,
        /// What is wrong, with the tensor's name.
        reason: String,
    },
    /// A key table that cannot be used.
    #[error("{table}: {reason}")]
    Keys {
        /// The table.
        table: String,
        /// What is wrong, with the line or the rule.
        reason: String,
    },
    /// Tensors that the module and the file do not share, or that have other shapes: all of them.
    #[error("{path}: {report}")]
    Mismatch {
        /// The file.
        path: String,
        /// Missing, unused and misshapen tensors in one line.
        report: String,
    },
    /// A weight that is not a number.
    #[error("{path}: `{tensor}` holds NaN or infinity")]
    NotFinite {
        /// The file.
        path: String,
        /// The tensor.
        tensor: String,
    },
}
