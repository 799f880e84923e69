//! Files of `torch.save`: today's zip files, and the older ones that are pickles one behind the other. The pickle in them is read as a
//! description of tensors and never executed.

mod archive;
mod globals;
mod object;
mod pickle;
mod state;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use self::object::{Element, Object, TensorRef};
use self::pickle::Pickle;
use crate::Checkpoint;
use crate::bytes::Bytes;
use crate::header::one_line;
use crate::stored::Stored;
use crate::view::checked_count;

/// First bytes of a zip file.
const ZIP: &[u8] = b"PK\x03\x04";
/// The number that older files begin with, least significant byte first.
const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The older format's version.
const PROTOCOL: i64 = 1001;
/// A tensor may be larger than its storage (a row that is shown many times), but not beyond this many elements.
const MAX_EXPANDED: usize = 1 << 24;

/// Whether the bytes begin like a file of `torch.save`.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    let pickle = matches!(bytes, [0x80, 2..=5, ..]);
    // A safetensors header of 640 bytes begins like a pickle too; its text gives it away.
    bytes.starts_with(ZIP) || pickle && bytes.get(8) != Some(&b'{')
}

/// Opens such a file.
pub(crate) fn open(bytes: Bytes, shown: &str, inside: Option<&str>) -> Result<Checkpoint, String> {
    let bytes = Arc::new(bytes);
    let (pickle, spans) = match bytes.starts_with(ZIP) {
        true => zip(&bytes)?,
        false => legacy(&bytes)?,
    };
    let tensors = state::tensors(&pickle.heap, pickle.root, inside)?;
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        // A type that nobody reads (quantized numbers) is left out and then reported as missing.
        if let Some(tensor) = stored_of(tensor, &bytes, &spans)
            .map_err(|reason| format!("`{}`: {reason}", one_line(&name)))?
        {
            stored.push((name, tensor));
        }
    }
    Ok(Checkpoint::new(shown, stored, BTreeMap::new()))
}

type Spans = HashMap<String, Range<usize>>;

fn zip(bytes: &[u8]) -> Result<(Pickle, Spans), String> {
    let entries = archive::entries(bytes)?;
    let pickles = entries
        .keys()
        .filter_map(|name| name.strip_suffix("data.pkl"));
    let folder = pickles.min_by_key(|folder| folder.len());
    let folder = folder.ok_or("a zip file without `data.pkl`: not made by torch.save")?;
    let entry = |name: &str| entries.get(&format!("{folder}{name}"));
    if entry("byteorder").is_some_and(|span| bytes[span.clone()].trim_ascii() == b"big") {
        return Err("its numbers are big-endian, which is not read".into());
    }
    let pickle = pickle::read(&bytes[entries[&format!("{folder}data.pkl")].clone()])?;
    let data = format!("{folder}data/");
    let span = |(name, span): (&String, &Range<usize>)| {
        Some((name.strip_prefix(&data)?.to_string(), span.clone()))
    };
    Ok((pickle, entries.iter().filter_map(span).collect()))
}

/// Magic number, version and machine, then the description, then the keys of all storages and their numbers.
fn legacy(bytes: &[u8]) -> Result<(Pickle, Spans), String> {
    let mut at = 0;
    let mut next = || {
        let pickle = pickle::read(&bytes[at..])?;
        at += pickle.len;
        Ok::<Pickle, String>(pickle)
    };
    let magic = next()?;
    if !matches!(magic.heap.get(magic.root), Object::Long(number) if number == MAGIC) {
        return Err("a pickle, but not one that torch.save wrote".into());
    }
    let protocol = next()?;
    if !matches!(protocol.heap.get(protocol.root), Object::Int(PROTOCOL)) {
        return Err("it is of a version that torch.save never had".into());
    }
    let machine = next()?;
    if is_big_endian(&machine) {
        return Err("its numbers are big-endian, which is not read".into());
    }
    let (pickle, keys) = (next()?, next()?);
    let Object::List(keys_in_order) = keys.heap.get(keys.root) else {
        return Err("the list of its storages is damaged".into());
    };
    let sizes = element_sizes(&pickle)?;
    let mut spans = Spans::new();
    for &key in keys_in_order {
        let key = keys
            .heap
            .text(key)
            .ok_or("the list of its storages is damaged")?;
        let size = sizes.get(key).copied().unwrap_or(1);
        let broken = || format!("storage `{}` breaks off (half a download?)", one_line(key));
        let count = bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .ok_or_else(broken)?;
        let len = usize::try_from(u64::from_le_bytes(*count))
            .ok()
            .and_then(|count| count.checked_mul(size));
        let start = at + 8;
        let end = len
            .and_then(|len| start.checked_add(len))
            .filter(|&end| end <= bytes.len());
        at = end.ok_or_else(broken)?;
        spans.insert(key.into(), start..at);
    }
    Ok((pickle, spans))
}

fn is_big_endian(machine: &Pickle) -> bool {
    let Object::Dict(pairs) = machine.heap.get(machine.root) else {
        return false;
    };
    pairs.iter().any(|&(key, value)| {
        machine.heap.text(key) == Some("little_endian")
            && matches!(machine.heap.get(value), Object::Bool(false))
    })
}

/// Bytes of an element of each storage.
fn element_sizes(pickle: &Pickle) -> Result<HashMap<String, usize>, String> {
    let mut sizes = HashMap::new();
    for object in pickle.heap.all() {
        if let Object::Storage(storage) = object {
            let size = match &storage.element {
                Element::Known(dtype) => dtype.bitsize() / 8,
                Element::Untyped => 1,
                Element::Foreign(name) => {
                    return Err(format!(
                        "its storages are of type `{}`, which is not read",
                        one_line(name)
                    ));
                }
            };
            sizes.insert(storage.key.clone(), size);
        }
    }
    Ok(sizes)
}

/// The tensor in the file, if it lies inside its storage and its type is read here.
fn stored_of(
    tensor: &TensorRef,
    bytes: &Arc<Bytes>,
    spans: &Spans,
) -> Result<Option<Stored>, String> {
    let Element::Known(dtype) = tensor.element else {
        return Ok(None);
    };
    let key = &tensor.storage.key;
    let span = spans
        .get(key)
        .ok_or_else(|| format!("storage `{}` is not in the file", one_line(key)))?;
    let size = dtype.bitsize() / 8;
    let announced = match &tensor.storage.element {
        Element::Known(stored) => tensor.storage.count.checked_mul(stored.bitsize() / 8),
        _ => Some(tensor.storage.count),
    };
    if announced.is_none_or(|announced| announced > span.len()) {
        return Err(format!(
            "storage `{}` should hold {} elements and has {} bytes (half a download?)",
            one_line(key),
            tensor.storage.count,
            span.len()
        ));
    }
    let room = span.len() / size;
    let count = checked_count(&tensor.shape)?;
    let shown = || one_line(&format!("{:?}", tensor.shape));
    if count > room.max(MAX_EXPANDED) {
        return Err(format!(
            "a shape of {} on a storage of {room} elements",
            shown()
        ));
    }
    let last = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(tensor.offset, |last, (&side, &stride)| {
            last.checked_add(side.saturating_sub(1).checked_mul(stride)?)
        });
    if count > 0 && last.is_none_or(|last| last >= room) {
        return Err(format!(
            "a shape of {} leads out of its storage of {room} elements",
            shown()
        ));
    }
    let start = if count > 0 {
        span.start + tensor.offset * size
    } else {
        span.start
    };
    Ok(Some(Stored {
        bytes: bytes.clone(),
        dtype,
        shape: tensor.shape.clone(),
        strides: (!in_one_piece(tensor)).then(|| tensor.strides.clone()),
        start,
    }))
}

/// Whether elements follow each other as the shape reads.
fn in_one_piece(tensor: &TensorRef) -> bool {
    let mut expected = 1;
    let fits = |(&side, &stride): (&usize, &usize)| {
        let fits = side == 1 || stride == expected;
        expected *= side;
        fits
    };
    tensor.shape.contains(&0) || tensor.shape.iter().zip(&tensor.strides).rev().all(fits)
}
