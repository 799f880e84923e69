//! Published checkpoints: a catalogue of those that Ravel knows, the cache that they lie in, and pulling them into it.
//!
//! The cache has the layout of the Hugging Face hub (`models--OWNER--NAME/{blobs,refs,snapshots}`), so that what other tools have
//! fetched is found and what Ravel fetches they find. Every name that comes from outside, be it typed or sent by a server, is checked
//! before it becomes a path.

mod cache;
mod catalogue;
mod hash;
mod name;
#[cfg(feature = "pull")]
mod pull;
mod settings;
#[cfg(feature = "pull")]
mod wire;

pub use cache::{Cache, CachedFile, CachedRepo, Checked, State};
pub use catalogue::{Entry, catalogue, entry, nearest};
pub use name::{FileName, RepoName, Target};
#[cfg(feature = "pull")]
pub use pull::{Hub, Plan, Progress, Pulled};
pub use settings::Settings;

/// What keeps a checkpoint from being found, fetched or trusted.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A name that no repository or file can have, or that leads out of the cache.
    #[error("`{name}`: {reason}")]
    Name {
        /// The name, cut and escaped for a message.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The hub has no such repository, revision or file.
    #[error("{url}: not found (404)")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// The hub asks who we are: the repository is private, gated, or not there at all.
    #[error("{url}: access refused ({status})")]
    Refused {
        /// What was asked for.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// The network is switched off and the cache does not have it.
    #[error("{what} is not in the cache, and the network is switched off")]
    Offline {
        /// What was asked for.
        what: String,
    },
    /// The cache does not have it.
    #[error("{what} is not in the cache ({cache})")]
    Absent {
        /// What was asked for.
        what: String,
        /// Where it was looked for.
        cache: String,
    },
    /// The connection or the server failed.
    #[error("{url}: {reason}")]
    Network {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The server answered with something that makes no sense or leads astray.
    #[error("{url}: the server's answer cannot be trusted: {reason}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not those that the server announced. They have been deleted.
    #[error("{file}: {kind} is {found}, the server announced {expected}; the bytes were deleted")]
    Damaged {
        /// The file.
        file: String,
        /// Which sum.
        kind: &'static str,
        /// The sum of what came.
        found: String,
        /// The sum that was announced.
        expected: String,
    },
    /// A file of the cache cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The caller stopped the pull. What came so far stays for the next one.
    #[error("interrupted")]
    Interrupted,
}

/// Letters of a name from outside that a message repeats.
const MAX_SHOWN: usize = 200;

/// Text from outside, fit for a message: control characters escaped, what is too long cut.
pub(crate) fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(MAX_SHOWN)
        .flat_map(|letter| match letter.is_control() {
            true => letter.escape_default().collect::<Vec<_>>(),
            false => vec![letter],
        })
        .collect();
    if text.chars().count() > MAX_SHOWN {
        line.push('…');
    }
    line
}
