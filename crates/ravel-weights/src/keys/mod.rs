//! Key tables: which published tensor becomes which of ours, as data.

mod apply;
mod op;
mod pattern;
mod table;

pub(crate) use apply::Naming;
pub use table::KeyTable;
