//! Files of weights in fewer bits: safetensors in which levels and scales stand for a matrix.
//!
//! The metadata `ravel.quantized` is a JSON object with an entry per matrix, `{"type": "q8" | "q4", "shape": [a, b], "axis": 0 | 1}`. Each
//! 32 numbers along the axis (the one that products sum over; the last ones may be fewer) share a scale: a number is its level times
//! the scale.
//!
//! - q8: the tensor of the matrix's name is I8 of its shape, levels from -127 to 127.
//! - q4: it is U8 with the axis halved (rounded up): the low four bits are the level of an even place, the high ones of the odd place
//!   behind it, each with 8 added.
//! - The tensor `NAME.scales` is BF16 with the axis divided by 32 (rounded up).
//!
//! Reading gives f32 again, exactly levels times scales, so whatever reads a checkpoint reads these.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use half::{bf16, f16};
use ravel_kernels::WeightsType;
use ravel_kernels::blocks::{BLOCK, to_4_bits, to_8_bits};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::header::one_line;
use crate::stored::Stored;
use crate::view::View;
use crate::write::{self, Written};
use crate::{Checkpoint, WeightsError};

const KEY: &str = "ravel.quantized";
const SCALES: &str = ".scales";

/// Matrices with fewer numbers stay as they are.
const SMALL: usize = 1 << 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bits {
    Q8,
    Q4,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    r#type: Bits,
    shape: [usize; 2],
    axis: usize,
}

/// A matrix in a file as levels and scales.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    bits: Bits,
    axis: usize,
    levels: Stored,
    pub(crate) scales: Stored,
}

impl Blocks {
    fn new(entry: &Entry, levels: &Stored, scales: &Stored) -> Result<Self, String> {
        let along = |by: usize| {
            let mut shape = entry.shape;
            let side = shape
                .get_mut(entry.axis)
                .ok_or("its axis is neither 0 nor 1")?;
            *side = side.div_ceil(by);
            Ok::<_, String>(shape)
        };
        let (dtype, per) = match entry.r#type {
            Bits::Q8 => (Dtype::I8, 1),
            Bits::Q4 => (Dtype::U8, 2),
        };
        let expected = [(dtype, along(per)?), (Dtype::BF16, along(BLOCK)?)];
        for (what, found, (dtype, shape)) in [
            ("levels", levels, expected[0]),
            ("scales", scales, expected[1]),
        ] {
            if found.dtype != dtype || found.shape != shape || !found.is_in_one_piece() {
                return Err(format!(
                    "its {what} are {:?} of {:?}, {dtype:?} of {shape:?} are needed",
                    found.dtype, found.shape
                ));
            }
        }
        Ok(Self {
            bits: entry.r#type,
            axis: entry.axis,
            levels: levels.clone(),
            scales: scales.clone(),
        })
    }

    /// The matrix; what goes beyond f32 becomes its greatest number, and what has no finite scale NaN.
    pub(crate) fn read(&self, shape: &[usize]) -> Result<Vec<f32>, Dtype> {
        let (rows, columns) = (shape[0], shape[1]);
        let scales: Vec<f32> = self.scales.read()?;
        let levels: Vec<i64> = self.levels.read()?;
        // Places of the stored tensors' rows, and what is left of an index along the axis.
        let side = if self.axis == 0 {
            columns
        } else {
            columns.div_ceil(BLOCK)
        };
        let packed = if self.axis == 0 {
            columns
        } else {
            columns.div_ceil(2)
        };
        let number = |at: usize| {
            let (row, column) = (at / columns.max(1), at % columns.max(1));
            let (along, scale) = match self.axis {
                0 => (row, row / BLOCK * side + column),
                _ => (column, row * side + column / BLOCK),
            };
            let level = match (self.bits, self.axis) {
                (Bits::Q8, _) => levels[at],
                (Bits::Q4, 0) => nibble(levels[row / 2 * packed + column], along),
                (Bits::Q4, _) => nibble(levels[row * packed + column / 2], along),
            };
            let scale = scales[scale];
            match scale.is_finite() {
                true => (level as f32 * scale).clamp(f32::MIN, f32::MAX),
                false => f32::NAN,
            }
        };
        Ok((0..rows * columns).map(number).collect())
    }
}

fn nibble(byte: i64, along: usize) -> i64 {
    (byte >> (4 * (along % 2)) & 15) - 8
}

/// Puts matrices in the place of the levels and scales that a file's metadata tells of.
pub(crate) fn undo(checkpoint: &mut Checkpoint) -> Result<(), String> {
    let Some(text) = checkpoint.metadata.get(KEY) else {
        return Ok(());
    };
    let entries: BTreeMap<String, Entry> = serde_json::from_str(text)
        .map_err(|error| format!("metadata `{KEY}`: {}", one_line(&error.to_string())))?;
    for (name, entry) in entries {
        let shown = one_line(&name);
        let scales_name = format!("{name}{SCALES}");
        let (levels, scales) = (
            checkpoint.views.remove(&name),
            checkpoint.views.remove(&scales_name),
        );
        let stored =
            |view: &Option<Arc<View>>| view.as_ref().and_then(|view| view.as_stored().cloned());
        let (Some(levels), Some(scales)) = (stored(&levels), stored(&scales)) else {
            return Err(format!(
                "metadata `{KEY}`: `{shown}` or its scales are not there"
            ));
        };
        let blocks = Blocks::new(&entry, &levels, &scales)
            .map_err(|reason| format!("metadata `{KEY}`: `{shown}`: {reason}"))?;
        let view = View::blocks(&shown, entry.shape.to_vec(), blocks)?;
        checkpoint.views.insert(name, Arc::new(view));
    }
    Ok(())
}

/// What became of a checkpoint's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantized {
    /// Matrices that are of the asked type now.
    pub changed: usize,
    /// Tensors that stayed as they were.
    pub kept: usize,
}

/// Writes a checkpoint with its matrices in another type, whole or not at all.
///
/// Half precision and bfloat16: all real tensors with two axes or more. Eight and four bits: the weights of linear layers (matrices
/// whose names end with `weight`, of 4,096 numbers or more, that embed nothing), in blocks of 32 along the axis that products sum
/// over; the rest stays as it is. That axis is the first one in files that Ravel wrote and the last one in published ones.
///
/// # Errors
/// [`WeightsError`] if the file's weights are in blocks already; if a tensor cannot be read, is not finite, or becomes infinite; if no tensor changes; or if the file cannot be
/// written.
pub fn quantize(
    checkpoint: &Checkpoint,
    path: &Path,
    to: WeightsType,
) -> Result<Quantized, WeightsError> {
    if checkpoint.metadata().contains_key(KEY) {
        return Err(checkpoint.wrong(
            "its weights are in blocks of few bits already, and rounding them again would lose more; quantize the file that it was made from".into(),
        ));
    }
    let axis = axis_of_inputs(checkpoint);
    let mut written = BTreeMap::new();
    let mut entries = BTreeMap::new();
    let mut told = Quantized {
        changed: 0,
        kept: 0,
    };
    for (name, view) in &checkpoint.views {
        let is_real = !matches!(
            view.dtype(),
            Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8 | Dtype::BOOL
        );
        let narrow = match to {
            WeightsType::F16 | WeightsType::Bf16 => is_real && view.shape.len() >= 2,
            WeightsType::Q8 | WeightsType::Q4 => is_real && is_weight(name, &view.shape),
            WeightsType::F32 => false,
        };
        if !narrow {
            told.kept += 1;
            let data = if is_real {
                checkpoint.real(name)?
            } else {
                checkpoint.whole(name)?
            };
            written.insert(name.clone(), kept(view, data));
            continue;
        }
        told.changed += 1;
        let data = checkpoint.real(name)?;
        let values = data.as_slice::<f32>().unwrap_or_default();
        if !values.iter().all(|x| x.is_finite()) {
            return Err(WeightsError::NotFinite {
                path: checkpoint.path().into(),
                tensor: view.published.clone(),
            });
        }
        match to {
            WeightsType::Q8 | WeightsType::Q4 => {
                let bits = if to == WeightsType::Q8 {
                    Bits::Q8
                } else {
                    Bits::Q4
                };
                let shape = [view.shape[0], view.shape[1]];
                let [levels, scales] = blocks(values, shape, axis, bits);
                written.insert(name.clone(), levels);
                written.insert(format!("{name}{SCALES}"), scales);
                let entry = Entry {
                    r#type: bits,
                    shape,
                    axis,
                };
                entries.insert(name.clone(), entry);
            }
            _ => {
                written.insert(name.clone(), halves(values, view.shape.clone(), to));
            }
        }
    }
    if told.changed == 0 {
        return Err(checkpoint.wrong(format!(
            "no tensor here becomes {to}: no weights of linear layers, or `{to}` is what they are"
        )));
    }
    let mut metadata = checkpoint.metadata().clone();
    if !entries.is_empty() {
        let text = serde_json::to_string(&entries).expect("names and numbers");
        metadata.insert(KEY.into(), text);
    }
    write::write(path, &written, &metadata)?;
    Ok(told)
}

/// Ravel's own files have `[inputs, outputs]`, PyTorch's `[outputs, inputs]`.
fn axis_of_inputs(checkpoint: &Checkpoint) -> usize {
    let ours = ["prefix.", "backbone.", "head."];
    let mut names = checkpoint.names();
    let is_ours = names.all(|name| ours.iter().any(|start| name.starts_with(start)));
    usize::from(!is_ours)
}

fn is_weight(name: &str, shape: &[usize]) -> bool {
    let embeds = ["embed", "wte", "wpe", "positions"];
    shape.len() == 2
        && shape.iter().product::<usize>() >= SMALL
        && (name == "weight" || name.ends_with(".weight"))
        && !embeds.iter().any(|part| name.contains(part))
}

/// A tensor that stays of its type.
fn kept(view: &View, data: burn::tensor::TensorData) -> Written {
    match view.dtype() {
        Dtype::F16 => halves(
            data.as_slice().unwrap_or_default(),
            view.shape.clone(),
            WeightsType::F16,
        ),
        Dtype::BF16 => halves(
            data.as_slice().unwrap_or_default(),
            view.shape.clone(),
            WeightsType::Bf16,
        ),
        _ => Written::new(data, write::Dtype::Keep),
    }
}

fn halves(values: &[f32], shape: Vec<usize>, to: WeightsType) -> Written {
    let bits = |x: &f32| match to {
        WeightsType::F16 => f16::from_f32(*x).to_bits(),
        _ => bf16::from_f32(*x).to_bits(),
    };
    let infinite = |x: &f32| to == WeightsType::F16 && f16::from_f32(*x).is_infinite();
    Written {
        dtype: if to == WeightsType::F16 {
            Dtype::F16
        } else {
            Dtype::BF16
        },
        shape,
        overflows: values.iter().any(infinite),
        bytes: values.iter().flat_map(|x| bits(x).to_le_bytes()).collect(),
    }
}

/// Levels and scales of a matrix.
fn blocks(values: &[f32], shape: [usize; 2], axis: usize, bits: Bits) -> [Written; 2] {
    let (side, other) = (shape[axis], shape[1 - axis]);
    let count = side.div_ceil(BLOCK);
    // Places in a tensor of which the axis has so many places.
    let place = |along: usize, across: usize, places: usize| match axis {
        0 => along * other + across,
        _ => across * places + along,
    };
    let packed = match bits {
        Bits::Q8 => side,
        Bits::Q4 => side.div_ceil(2),
    };
    let mut levels = vec![if bits == Bits::Q8 { 0u8 } else { 0x88 }; packed * other];
    let mut scales = vec![0u16; count * other];
    for across in 0..other {
        for block in 0..count {
            let start = block * BLOCK;
            let len = BLOCK.min(side - start);
            let mut numbers = [0.0; BLOCK];
            for (at, number) in numbers[..len].iter_mut().enumerate() {
                *number = values[place(start + at, across, side)];
            }
            let (found, scale) = match bits {
                Bits::Q8 => to_8_bits(&numbers),
                Bits::Q4 => to_4_bits(&numbers),
            };
            scales[place(block, across, count)] = scale.to_bits();
            for (at, level) in found[..len].iter().enumerate() {
                let along = start + at;
                match bits {
                    Bits::Q8 => levels[place(along, across, side)] = *level as u8,
                    Bits::Q4 => {
                        let byte = &mut levels[place(along / 2, across, packed)];
                        let (shift, keep) = if along.is_multiple_of(2) {
                            (0, 0xf0)
                        } else {
                            (4, 0x0f)
                        };
                        *byte = *byte & keep | ((level + 8) as u8) << shift;
                    }
                }
            }
        }
    }
    let along = |places: usize| match axis {
        0 => vec![places, other],
        _ => vec![other, places],
    };
    let dtype = if bits == Bits::Q8 {
        Dtype::I8
    } else {
        Dtype::U8
    };
    [
        Written {
            dtype,
            shape: along(packed),
            bytes: levels,
            overflows: false,
        },
        Written {
            dtype: Dtype::BF16,
            shape: along(count),
            bytes: scales.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
            overflows: false,
        },
    ]
}
