//! The header of a safetensors file: read and checked before anything behind it is touched.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// Largest header that is believed, as in the safetensors library.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the number in front of the header.
pub(crate) const LENGTH_BYTES: usize = 8;
/// Letters of a file's own text that a message repeats.
const MAX_SHOWN: usize = 200;

/// Names that one report spells out per kind; the rest are counted.
pub(crate) const SPELLED_OUT: usize = 5;

/// Where a tensor lies in the file, and what it is.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) start: usize,
}

/// What a header says, once all of it adds up.
pub(crate) struct Header {
    pub(crate) entries: BTreeMap<String, Entry>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// The header's length, from the first bytes of a file of `size` bytes.
pub(crate) fn length(first: &[u8], size: u64) -> Result<usize, String> {
    let length = first
        .first_chunk::<LENGTH_BYTES>()
        .map(|length| u64::from_le_bytes(*length))
        .ok_or_else(|| format!("{} bytes are too few", first.len()))?;
    let room = size.saturating_sub(LENGTH_BYTES as u64);
    if length > room || length > MAX_HEADER {
        return Err(format!(
            "it announces a header of {length} bytes and {room} follow (truncated?)"
        ));
    }
    Ok(length as usize)
}

/// Reads the JSON of a header that stands in a file of `size` bytes.
pub(crate) fn parse(json: &[u8], size: u64) -> Result<Header, String> {
    let wrong = |error: serde_json::Error| one_line(&error.to_string());
    let _: Unique<IgnoredAny> = serde_json::from_slice(json).map_err(wrong)?;
    let header: Metadata = serde_json::from_slice(json).map_err(wrong)?;
    let data_start = LENGTH_BYTES + json.len();
    let described = (data_start as u64).saturating_add(header.data_len() as u64);
    if described != size {
        return Err(format!(
            "its header describes {described} bytes and it has {size}: truncated or not fully covered"
        ));
    }
    let entries = header.tensors().into_iter().map(|(name, info)| {
        let entry = Entry {
            dtype: info.dtype,
            shape: info.shape.clone(),
            start: data_start + info.data_offsets.0,
        };
        (name, entry)
    });
    Ok(Header {
        entries: entries.collect(),
        metadata: header
            .metadata()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect(),
    })
}

/// Text that a file brought, fit for a message: control characters escaped, what is too long cut.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for (at, letter) in text.chars().enumerate() {
        if at == MAX_SHOWN {
            line.push('…');
            break;
        }
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

/// A JSON object in which no name occurs twice. A map would keep the last one and say nothing.
pub(crate) struct Unique<T>(pub(crate) BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for UniqueVisitor<T> {
    type Value = Unique<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<T>, A::Error> {
        let mut seen = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, T>()? {
            if seen.contains_key(&name) {
                return Err(A::Error::custom(format!("`{name}` occurs twice")));
            }
            seen.insert(name, value);
        }
        Ok(Unique(seen))
    }
}
