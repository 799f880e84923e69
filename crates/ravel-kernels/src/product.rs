//! Products of a few rows with a matrix: what decoding spends its time on.
//!
//! The matrix is read once, however many rows there are, so a second row costs little while memory is what limits. Each number
//! that comes out is one sum over `k` in ascending order (quantized: over blocks of 32, whose sums are exact integers), so it
//! depends neither on the other rows nor on who computes it.
//!
//! Quantized products round the rows to eight bits with a scale per 32 numbers, as llama.cpp does.

use crate::curve::Curve;
use crate::isa::{Isa, Set};
use crate::packed::{Packed, WeightsType};
use crate::pool::{Parts, Pool};
use crate::stream::{Cut, Input, Sums};

/// A matrix `[k, n]` to multiply with.
#[derive(Debug, Clone, Copy)]
pub enum Matrix<'a> {
    /// f32, rows one after the other.
    Plain(&'a [f32], [usize; 2]),
    /// f32, columns one after the other: the transpose of a table `[n, k]`.
    Table(&'a [f32], [usize; 2]),
    /// Of any type, in panels.
    Packed(&'a Packed),
}

impl Matrix<'_> {
    /// `[k, n]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Plain(_, shape) | Self::Table(_, shape) => *shape,
            Self::Packed(packed) => packed.shape(),
        }
    }

    /// Columns that lie together.
    pub(crate) fn panel(&self) -> usize {
        match self {
            Self::Plain(..) | Self::Table(..) => 1,
            Self::Packed(packed) => packed.kind().panel(),
        }
    }

    pub(crate) fn kind(&self) -> WeightsType {
        match self {
            Self::Plain(..) | Self::Table(..) => WeightsType::F32,
            Self::Packed(packed) => packed.kind(),
        }
    }
}

/// What is done with a product before it is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct After<'a> {
    /// Added, `[n]`.
    pub bias: Option<&'a [f32]>,
    /// Then put on a curve.
    pub curve: Option<Curve>,
    /// Then added, `[rows, n]`.
    pub add: Option<&'a [f32]>,
}

/// Below so many bytes of weights other threads are not worth waking.
const SHORT: usize = 32 << 10;

/// `x` times the matrix.
///
/// # Shapes
/// - `x`: `[rows, k]`
/// - `out`: `[rows, n]`
///
/// # Panics
/// If a length does not fit.
pub fn product(pool: &Pool, isa: Isa, x: &[f32], matrix: Matrix, after: After, out: &mut [f32]) {
    let [_, n] = matrix.shape();
    let input = Input::new(x, matrix);
    assert_eq!(out.len(), input.rows * n, "row axis: out does not fit");
    assert!(after.bias.is_none_or(|bias| bias.len() == n));
    assert!(after.add.is_none_or(|add| add.len() == out.len()));
    let out = Parts::new(out);
    let cut = Cut::of(input.rows);
    let size = piece(pool, matrix, n, cut);
    pool.run_ranges(n, size, &|columns| {
        let mut sums = Sums::new(cut);
        for rows in input.chunks(cut) {
            sums.fill(isa, &input, rows.clone(), matrix, columns.clone());
            for (at, row) in rows.enumerate() {
                let sums = &mut sums.row(at)[..columns.len()];
                if let Some(bias) = after.bias {
                    add(sums, &bias[columns.clone()]);
                }
                if let Some(curve) = after.curve {
                    on_curve(isa, curve, sums);
                }
                let place = row * n + columns.start..row * n + columns.end;
                if let Some(more) = after.add {
                    add(sums, &more[place.clone()]);
                }
                // SAFETY: each piece has columns of its own.
                unsafe { out.part(place) }.copy_from_slice(sums);
            }
        }
    });
}

/// `curve(x a) * (x b)`, where the matrix holds the columns of `a` and then as many of `b`.
///
/// # Shapes
/// - `x`: `[rows, k]`
/// - `bias`: `[n]`
/// - `out`: `[rows, n / 2]`
///
/// # Panics
/// If a length does not fit.
pub fn gated(
    pool: &Pool,
    isa: Isa,
    x: &[f32],
    matrix: Matrix,
    bias: Option<&[f32]>,
    curve: Curve,
    out: &mut [f32],
) {
    let [_, n] = matrix.shape();
    let half = n / 2;
    let input = Input::new(x, matrix);
    assert!(n.is_multiple_of(2) && bias.is_none_or(|bias| bias.len() == n));
    assert_eq!(out.len(), input.rows * half, "row axis: out does not fit");
    if !half.is_multiple_of(matrix.panel()) {
        return gated_in_two(pool, isa, x, matrix, bias, curve, out);
    }
    let out = Parts::new(out);
    let cut = Cut::of(input.rows);
    let size = piece(pool, matrix, half, cut);
    pool.run_ranges(half, size, &|columns| {
        let (mut gates, mut values) = (Sums::new(cut), Sums::new(cut));
        let second = columns.start + half..columns.end + half;
        for rows in input.chunks(cut) {
            gates.fill(isa, &input, rows.clone(), matrix, columns.clone());
            values.fill(isa, &input, rows.clone(), matrix, second.clone());
            for (at, row) in rows.enumerate() {
                let gates = &mut gates.row(at)[..columns.len()];
                let values = &mut values.row(at)[..columns.len()];
                if let Some(bias) = bias {
                    add(gates, &bias[columns.clone()]);
                    add(values, &bias[second.clone()]);
                }
                on_curve(isa, curve, gates);
                let place = row * half + columns.start..row * half + columns.end;
                // SAFETY: each piece has columns of its own.
                let out = unsafe { out.part(place) };
                for ((out, gate), value) in out.iter_mut().zip(gates).zip(values) {
                    *out = *gate * *value;
                }
            }
        }
    });
}

/// As [`gated`], where a panel would hold columns of both halves.
fn gated_in_two(
    pool: &Pool,
    isa: Isa,
    x: &[f32],
    matrix: Matrix,
    bias: Option<&[f32]>,
    curve: Curve,
    out: &mut [f32],
) {
    let [k, n] = matrix.shape();
    let mut both = vec![0.0; x.len() / k * n];
    let after = After {
        bias,
        ..After::default()
    };
    product(pool, isa, x, matrix, after, &mut both);
    for (out, both) in out.chunks_exact_mut(n / 2).zip(both.chunks_exact_mut(n)) {
        let (gates, values) = both.split_at_mut(n / 2);
        on_curve(isa, curve, gates);
        for ((out, gate), value) in out.iter_mut().zip(gates).zip(values) {
            *out = *gate * *value;
        }
    }
}

/// Columns of a piece: several per thread, whole panels, none too wide for the first cache.
fn piece(pool: &Pool, matrix: Matrix, columns: usize, cut: Cut) -> usize {
    let [k, n] = matrix.shape();
    let grain = matrix.panel().max(64);
    if pool.threads() == 1 || matrix.kind().bytes(k, n) < SHORT {
        return cut.columns;
    }
    let share = columns.div_ceil(4 * pool.threads());
    share.next_multiple_of(grain).min(cut.columns)
}

fn add(to: &mut [f32], more: &[f32]) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
}

fn on_curve(isa: Isa, curve: Curve, numbers: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        // Without fused products: these loops round alike whatever vectors they become.
        #[target_feature(enable = "avx512f,avx512bw")]
        unsafe fn on_avx512(curve: Curve, numbers: &mut [f32]) {
            curve.apply(numbers);
        }
        #[target_feature(enable = "avx2")]
        unsafe fn on_avx2(curve: Curve, numbers: &mut [f32]) {
            curve.apply(numbers);
        }
        // SAFETY: the machine has the set of an `Isa`.
        unsafe {
            match isa.set() {
                Set::Avx512 => return on_avx512(curve, numbers),
                Set::Avx2 => return on_avx2(curve, numbers),
                _ => {}
            }
        }
    }
    let _ = isa;
    curve.apply(numbers);
}

#[cfg(test)]
mod tests;
