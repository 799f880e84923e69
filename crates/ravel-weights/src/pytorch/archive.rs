//! The zip files that `torch.save` and TorchScript write: entries stored as they are, so a tensor is a span of the file.
//!
//! Names follow PKWARE's APPNOTE 6.3, sections 4.3.7 to 4.3.16.

use std::collections::BTreeMap;
use std::ops::Range;

const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
const END_BYTES: usize = 22;
const LOCATOR_BYTES: usize = 20;
const MAX_COMMENT: usize = u16::MAX as usize;
/// A 32-bit field that says "see the 64-bit one".
const SEE_64: u64 = u32::MAX as u64;

/// Where each entry's bytes lie.
pub(super) fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, String> {
    let (count, mut at) = directory(bytes).ok_or("its end is missing (half a download?)")?;
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let entry = Entry::read(bytes, at).ok_or("its directory is damaged")?;
        at = entry.next;
        if is_code(&entry.name) {
            continue;
        }
        if entry.method != 0 {
            return Err(format!(
                "entry `{}` is compressed, which torch.save never does",
                entry.name
            ));
        }
        let span = entry.span(bytes);
        let span = span.ok_or_else(|| format!("entry `{}` lies outside the file", entry.name))?;
        if entries.insert(entry.name.clone(), span).is_some() {
            return Err(format!("entry `{}` occurs twice", entry.name));
        }
    }
    Ok(entries)
}

/// Whether an entry is a program that TorchScript keeps beside the weights, compressed; it is never looked at.
fn is_code(name: &str) -> bool {
    let inside = name.split_once('/').map(|(_archive, inside)| inside);
    inside.is_some_and(|inside| inside.starts_with("code/"))
}

/// Number of entries and where the directory begins.
fn directory(bytes: &[u8]) -> Option<(u64, usize)> {
    let last = bytes.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(MAX_COMMENT);
    let fits = |at: &usize| {
        let comment = u16_at(bytes, at + 20).map(usize::from);
        u32_at(bytes, *at) == Some(END) && comment == Some(last - at)
    };
    let end = (first..=last).rev().find(fits)?;
    let locator = end.checked_sub(LOCATOR_BYTES);
    let locator = locator.filter(|&at| u32_at(bytes, at) == Some(LOCATOR_64));
    let Some(locator) = locator else {
        let start = usize::try_from(u32_at(bytes, end + 16)?).ok()?;
        return Some((u16_at(bytes, end + 10)?.into(), start));
    };
    let end = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
    (u32_at(bytes, end)? == END_64).then_some(())?;
    let start = usize::try_from(u64_at(bytes, end.checked_add(48)?)?).ok()?;
    Some((u64_at(bytes, end + 32)?, start))
}

/// One record of the directory.
struct Entry {
    name: String,
    method: u16,
    size: u64,
    local: u64,
    next: usize,
}

impl Entry {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        (u32_at(bytes, at)? == CENTRAL).then_some(())?;
        let [name_len, extra_len, comment_len] =
            [28, 30, 32].map(|field| u16_at(bytes, at + field).map(usize::from));
        let name_at = at + 46;
        let extra_at = name_at + name_len?;
        let next = extra_at + extra_len? + comment_len?;
        let name = std::str::from_utf8(bytes.get(name_at..extra_at)?).ok()?;
        let mut wide = Wide(bytes.get(extra_at..extra_at + extra_len?)?);
        let packed: u64 = u32_at(bytes, at + 20)?.into();
        let size: u64 = u32_at(bytes, at + 24)?.into();
        let local: u64 = u32_at(bytes, at + 42)?.into();
        // The 64-bit fields stand in this order, each only if its short one is full.
        wide.enter();
        let size = if size == SEE_64 { wide.next()? } else { size };
        if packed == SEE_64 {
            wide.next()?;
        }
        let local = if local == SEE_64 { wide.next()? } else { local };
        Some(Self {
            name: name.into(),
            method: u16_at(bytes, at + 10)?,
            size,
            local,
            next,
        })
    }

    /// The entry's bytes, behind its local header.
    fn span(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let local = usize::try_from(self.local).ok()?;
        (u32_at(bytes, local)? == LOCAL).then_some(())?;
        let name = usize::from(u16_at(bytes, local + 26)?);
        let extra = usize::from(u16_at(bytes, local + 28)?);
        let start = local + 30 + name + extra;
        let end = start.checked_add(usize::try_from(self.size).ok()?)?;
        (end <= bytes.len()).then_some(start..end)
    }
}

/// The 64-bit numbers of an entry's extra field.
struct Wide<'a>(&'a [u8]);

impl Wide<'_> {
    /// Goes to the field with the number 1, or to the end.
    fn enter(&mut self) {
        while let (Some(kind), Some(len)) = (u16_at(self.0, 0), u16_at(self.0, 2)) {
            let rest = self.0.get(4..).unwrap_or_default();
            let len = usize::from(len).min(rest.len());
            if kind == 1 {
                self.0 = &rest[..len];
                return;
            }
            self.0 = &rest[len..];
        }
        self.0 = &[];
    }

    fn next(&mut self) -> Option<u64> {
        let number = u64_at(self.0, 0)?;
        self.0 = &self.0[8..];
        Some(number)
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}
