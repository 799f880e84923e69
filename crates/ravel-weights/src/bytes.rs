//! The bytes of a file: mapped, so that nothing is read before it is used, or already in memory.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};

use memmap2::Mmap;

/// Spans below this stay where they are once read: giving them back would cost more than they take.
pub(crate) const WORTH_RELEASING: usize = 1 << 20;

/// Bytes that any number of tensors lie in.
pub(crate) enum Bytes {
    Memory(Cow<'static, [u8]>),
    Mapped(Mmap),
}

impl Bytes {
    /// Maps a file. Like every program that maps files, this one ends with a bus error if somebody cuts the file short
    /// while it is in use; Ravel itself replaces files by renaming and never writes into one.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self::Memory(Cow::Borrowed(&[])));
        }
        // SAFETY: the map is private and only read; a file that others cut short is the documented limit above.
        unsafe { Mmap::map(file) }.map(Self::Mapped)
    }

    /// Lets the system take a span's pages back once it has been read. They come from the file again if they are needed.
    pub(crate) fn release(&self, span: Range<usize>) {
        let Self::Mapped(map) = self else { return };
        if span.len() < WORTH_RELEASING {
            return;
        }
        #[cfg(unix)]
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the pages belong to a map of a file that is never written through, so dropping them loses nothing.
            // A refusal only means that the pages stay.
            let _ = unsafe { map.unchecked_advise_range(advice, span.start, span.len()) };
        }
        #[cfg(not(unix))]
        let _ = map;
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Bytes({})", self.len())
    }
}
