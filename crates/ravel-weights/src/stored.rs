//! A tensor as it lies in a file: element type, shape, strides, and where it begins.

use std::sync::Arc;

use half::{bf16, f16};
use safetensors::Dtype;

use crate::bytes::Bytes;

/// Numbers of a tensor in a file, still of the type that the file has them in.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) bytes: Arc<Bytes>,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Steps between neighbours along each axis, in elements; none if the tensor lies in one piece.
    pub(crate) strides: Option<Vec<usize>>,
    /// First byte. Whoever makes a `Stored` has checked that all elements lie inside `bytes`.
    pub(crate) start: usize,
}

/// What the numbers become: f32 for real ones, i64 for whole ones.
pub(crate) trait Number: Copy {
    /// Reads one number, or says that the type is of the other kind.
    fn reader(dtype: Dtype) -> Result<fn(&[u8]) -> Self, Dtype>;
    fn plus(self, other: f64) -> Self;
    fn times(self, other: f64) -> Self;
    /// What a computed real number becomes; the kinds never mix.
    fn from_real(value: f32) -> Result<Self, Dtype>;
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a whole element")
}

impl Number for f32 {
    fn reader(dtype: Dtype) -> Result<fn(&[u8]) -> f32, Dtype> {
        Ok(match dtype {
            Dtype::F32 => |bytes| f32::from_le_bytes(first(bytes)),
            Dtype::F16 => |bytes| f16::from_le_bytes(first(bytes)).to_f32(),
            Dtype::BF16 => |bytes| bf16::from_le_bytes(first(bytes)).to_f32(),
            Dtype::F64 => |bytes| f64::from_le_bytes(first(bytes)) as f32,
            other => return Err(other),
        })
    }

    fn plus(self, other: f64) -> f32 {
        self + other as f32
    }

    fn times(self, other: f64) -> f32 {
        self * other as f32
    }

    fn from_real(value: f32) -> Result<f32, Dtype> {
        Ok(value)
    }
}

impl Number for i64 {
    fn reader(dtype: Dtype) -> Result<fn(&[u8]) -> i64, Dtype> {
        Ok(match dtype {
            Dtype::I64 => |bytes| i64::from_le_bytes(first(bytes)),
            Dtype::I32 => |bytes| i32::from_le_bytes(first(bytes)).into(),
            Dtype::I16 => |bytes| i16::from_le_bytes(first(bytes)).into(),
            Dtype::I8 => |bytes| i8::from_le_bytes(first(bytes)).into(),
            Dtype::U8 => |bytes| bytes[0].into(),
            Dtype::BOOL => |bytes| (bytes[0] != 0).into(),
            other => return Err(other),
        })
    }

    fn plus(self, other: f64) -> i64 {
        self.saturating_add(other as i64)
    }

    fn times(self, other: f64) -> i64 {
        self.saturating_mul(other as i64)
    }

    fn from_real(_value: f32) -> Result<i64, Dtype> {
        Err(Dtype::F32)
    }
}

impl Stored {
    /// All numbers in the order of the shape. Pages of a mapped file are given back afterwards.
    pub(crate) fn read<T: Number>(&self) -> Result<Vec<T>, Dtype> {
        let read = T::reader(self.dtype)?;
        let size = self.dtype.bitsize() / 8;
        let count: usize = self.shape.iter().product();
        let bytes = &self.bytes[self.start..];
        let Some(strides) = &self.strides else {
            let span = &bytes[..count * size];
            let values = span.chunks_exact(size).map(read).collect();
            self.bytes.release(self.start..self.start + span.len());
            return Ok(values);
        };
        let mut values = Vec::with_capacity(count);
        let mut place = vec![0; self.shape.len()];
        for _ in 0..count {
            let at: usize = place
                .iter()
                .zip(strides)
                .map(|(p, stride)| p * stride)
                .sum();
            values.push(read(&bytes[at * size..]));
            advance(&mut place, &self.shape);
        }
        Ok(values)
    }
}

/// The next place in row-major order; back to the first after the last.
pub(crate) fn advance(place: &mut [usize], shape: &[usize]) {
    for (at, &side) in place.iter_mut().zip(shape).rev() {
        *at += 1;
        if *at < side {
            return;
        }
        *at = 0;
    }
}
