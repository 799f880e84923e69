//! A tensor as it lies in a file: element type, shape, strides, and where it begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use ravel_kernels::pool::{self, Parts};
use safetensors::Dtype;

use crate::bytes::{Bytes, WORTH_RELEASING};

/// Bytes of a mapped file that a thread reads before their pages are given back, a multiple of every element's size: what reading takes
/// beside the numbers that it makes.
const PIECE: usize = 4 << 20;

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
pub(crate) trait Number: Copy + Default + Send + Sync {
    /// Reads one number, or says that the type is of the other kind.
    fn reader(dtype: Dtype) -> Result<fn(&[u8]) -> Self, Dtype>;

    /// Reads as many elements that lie one behind the other.
    fn fill(values: &mut [Self], bytes: &[u8], dtype: Dtype) -> Result<(), Dtype> {
        let (read, size) = (Self::reader(dtype)?, dtype.bitsize() / 8);
        put(values, bytes.chunks_exact(size).map(read));
        Ok(())
    }

    fn plus(self, other: f64) -> Self;
    fn times(self, other: f64) -> Self;
    /// What a computed real number becomes; the kinds never mix.
    fn from_real(value: f32) -> Result<Self, Dtype>;
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a whole element")
}

fn elements<const N: usize>(bytes: &[u8]) -> impl ExactSizeIterator<Item = [u8; N]> {
    bytes.chunks_exact(N).map(first)
}

fn put<T>(values: &mut [T], numbers: impl ExactSizeIterator<Item = T>) {
    assert_eq!(
        values.len(),
        numbers.len(),
        "as many numbers as there is room for"
    );
    for (value, number) in values.iter_mut().zip(numbers) {
        *value = number;
    }
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

    /// The same numbers as the reader's, many at a time.
    fn fill(values: &mut [f32], bytes: &[u8], dtype: Dtype) -> Result<(), Dtype> {
        match dtype {
            Dtype::F32 => put(values, elements(bytes).map(f32::from_le_bytes)),
            Dtype::BF16 => put(
                values,
                elements(bytes).map(|b| bf16::from_le_bytes(b).to_f32()),
            ),
            Dtype::F16 => {
                let halves: Vec<f16> = elements(bytes).map(f16::from_le_bytes).collect();
                halves.convert_to_f32_slice(values);
            }
            Dtype::F64 => put(
                values,
                elements(bytes).map(|b| f64::from_le_bytes(b) as f32),
            ),
            other => return Err(other),
        }
        Ok(())
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
    /// Whether the numbers lie one behind the other in the order of the shape.
    pub(crate) fn is_in_one_piece(&self) -> bool {
        self.strides.is_none()
    }

    /// Where it lies, as long as the bytes are there: what no other stored tensor of the same numbers differs in.
    pub(crate) fn place(&self) -> [usize; 3] {
        let count = self.shape.iter().product();
        [self.bytes.as_ptr() as usize, self.start, count]
    }

    /// Hands over the bytes of a tensor in one piece on all threads, so many elements at a time or a multiple of it, with the number of the first element,
    /// and gives the pages of a mapped file back in between.
    fn pieces(&self, multiple: usize, each: impl Fn(usize, &[u8]) + Sync) {
        let size = self.dtype.bitsize() / 8;
        let count: usize = self.shape.iter().product();
        let span = &self.bytes[self.start..][..count * size];
        let multiple = (multiple * size).max(1);
        let pool = pool::global();
        let fair = span.len().div_ceil(pool.threads());
        let most = fair.clamp(WORTH_RELEASING, PIECE);
        let piece = most.div_ceil(multiple).max(1) * multiple;
        pool.run_ranges(span.len(), piece, &|range| {
            each(range.start / size, &span[range.clone()]);
            self.bytes
                .release(self.start + range.start..self.start + range.end);
        });
    }

    /// Whether all numbers are real ones that f32 can hold: none NaN, none infinite. Reads the file and keeps nothing of it.
    pub(crate) fn is_finite(&self) -> bool {
        if self.strides.is_some() || f32::reader(self.dtype).is_err() {
            return false;
        }
        let finite = AtomicBool::new(true);
        // Without a way out in between, so that many elements are looked at in one step.
        let all = |exponent: u16, bytes: &[u8]| {
            let bits = elements(bytes).map(u16::from_le_bytes);
            bits.fold(true, |all, bits| all & (bits & exponent != exponent))
        };
        self.pieces(1, |_, bytes| {
            let here = match self.dtype {
                Dtype::F32 => elements(bytes)
                    .map(u32::from_le_bytes)
                    .fold(true, |all, bits| all & (bits & 0x7f80_0000 != 0x7f80_0000)),
                Dtype::F16 => all(0x7c00, bytes),
                Dtype::BF16 => all(0x7f80, bytes),
                Dtype::F64 => elements(bytes).all(|b| (f64::from_le_bytes(b) as f32).is_finite()),
                _ => false,
            };
            finite.fetch_and(here, Relaxed);
        });
        finite.into_inner()
    }

    /// All numbers in the order of the shape. Pages of a mapped file are given back as soon as they are read.
    pub(crate) fn read<T: Number>(&self) -> Result<Vec<T>, Dtype> {
        let read = T::reader(self.dtype)?;
        let count: usize = self.shape.iter().product();
        let Some(strides) = &self.strides else {
            let mut values = vec![T::default(); count];
            let parts = Parts::new(&mut values);
            let size = self.dtype.bitsize() / 8;
            self.pieces(1, |first, bytes| {
                // SAFETY: each piece has the elements of its own bytes.
                let values = unsafe { parts.part(first..first + bytes.len() / size) };
                T::fill(values, bytes, self.dtype).expect("the type that a reader was found for");
            });
            return Ok(values);
        };
        let mut values = Vec::with_capacity(count);
        let size = self.dtype.bitsize() / 8;
        let bytes = &self.bytes[self.start..];
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

    /// A matrix in one piece with its axes exchanged: a few rows of the file at a time become columns, so that it never lies here twice.
    pub(crate) fn read_turned<T: Number>(&self) -> Result<Vec<T>, Dtype> {
        T::reader(self.dtype)?;
        let (rows, columns) = (self.shape[0], self.shape[1]);
        let mut turned = vec![T::default(); rows * columns];
        let parts = Parts::new(&mut turned);
        let size = self.dtype.bitsize() / 8;
        self.pieces(columns, |first, bytes| {
            let mut few = vec![T::default(); ROWS_AT_ONCE * columns];
            // Of a few rows each, so that the lines which are written to stay at hand.
            let bands = bytes.chunks(ROWS_AT_ONCE * columns.max(1) * size);
            for (band, bytes) in bands.enumerate() {
                let few = &mut few[..bytes.len() / size];
                T::fill(few, bytes, self.dtype).expect("the type that a reader was found for");
                let start = first / columns + band * ROWS_AT_ONCE;
                let here = few.len() / columns;
                for column in 0..columns {
                    let to = column * rows + start;
                    // SAFETY: each piece has the rows of its own bytes, which are columns here, and each column a run of its own.
                    let to = unsafe { parts.part(to..to + here) };
                    for (row, to) in to.iter_mut().enumerate() {
                        *to = few[row * columns + column];
                    }
                }
            }
        });
        Ok(turned)
    }
}

/// Rows that are turned together: a cache line's worth of f32.
const ROWS_AT_ONCE: usize = 16;

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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn stored(dtype: Dtype, bytes: Vec<u8>, shape: &[usize]) -> Stored {
        Stored {
            bytes: Arc::new(Bytes::Memory(Cow::Owned(bytes))),
            dtype,
            shape: shape.into(),
            strides: None,
            start: 0,
        }
    }

    /// Every kind of number, each as its type has it.
    fn of(dtype: Dtype, numbers: &[f32]) -> Vec<u8> {
        let bytes = |number: &f32| match dtype {
            Dtype::F16 => f16::from_f32(*number).to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::from_f32(*number).to_le_bytes().to_vec(),
            Dtype::F64 => f64::from(*number).to_le_bytes().to_vec(),
            _ => number.to_le_bytes().to_vec(),
        };
        numbers.iter().flat_map(bytes).collect()
    }

    const REAL: [Dtype; 4] = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64];

    #[test]
    fn many_at_a_time_are_what_one_by_one_gives() {
        // Every pattern of sixteen bits but those that are no numbers.
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for dtype in [Dtype::F16, Dtype::BF16] {
            let read = f32::reader(dtype).unwrap();
            let found: Vec<f32> = stored(dtype, all.clone(), &[1 << 16]).read().unwrap();
            for (found, pattern) in found.iter().zip(all.chunks_exact(2)) {
                let one = read(pattern);
                assert!(found.to_bits() == one.to_bits() || one.is_nan());
            }
        }
    }

    #[test]
    fn a_turned_matrix_is_the_matrix_turned() {
        // Longer than two pieces, and of no round size.
        let (rows, columns) = (2 * PIECE / 2 / 1001 + 5, 1001);
        let numbers: Vec<f32> = (0..rows * columns).map(|at| (at % 251) as f32).collect();
        for dtype in REAL {
            let matrix = stored(dtype, of(dtype, &numbers), &[rows, columns]);
            let turned: Vec<f32> = matrix.read_turned().unwrap();
            for (row, column) in [(0, 0), (1, 3), (rows - 1, 1000), (rows / 2, 500)] {
                assert_eq!(turned[column * rows + row], numbers[row * columns + column]);
            }
            let sum = |all: &[f32]| all.iter().map(|&number| f64::from(number)).sum::<f64>();
            assert_eq!(sum(&turned), sum(&numbers));
        }
        let none = stored(Dtype::F32, Vec::new(), &[3, 0]);
        assert!(none.read_turned::<f32>().unwrap().is_empty());
    }

    #[test]
    fn what_is_no_number_is_seen_wherever_it_lies() {
        let count = PIECE / 2 + 3;
        for dtype in REAL {
            let mut numbers = vec![1.5f32; count];
            assert!(stored(dtype, of(dtype, &numbers), &[count]).is_finite());
            for (at, wrong) in [
                (0, f32::NAN),
                (count - 1, f32::INFINITY),
                (count / 2, f32::NEG_INFINITY),
            ] {
                let right = std::mem::replace(&mut numbers[at], wrong);
                assert!(!stored(dtype, of(dtype, &numbers), &[count]).is_finite());
                numbers[at] = right;
            }
        }
        // Finite, but not as f32.
        let large = stored(Dtype::F64, 1e300f64.to_le_bytes().into(), &[1]);
        assert!(!large.is_finite());
        for other in [Dtype::I64, Dtype::F4, Dtype::F6_E2M3] {
            assert!(!stored(other, vec![0; 8], &[1]).is_finite());
            assert!(!stored(other, Vec::new(), &[0]).is_finite());
        }
    }
}
