//! Products and norms of tensors on the CPU.
//!
//! Every function answers `None` where it cannot serve: tensors on another device, of another type than f32, or such that
//! gradients flow through. Its caller goes burn's way then.

use burn::tensor::{DType, Tensor};

use crate::curve::Curve;
use crate::isa::Isa;
use crate::packed::Packed;
use crate::pool::global;
use crate::product::{self, After, Matrix};
use crate::row_norm::{RowNorm, row_norm};
use crate::tensor::{CpuTensor, of_values, on_cpu};

/// The weight of a linear layer, `[d_input, d_output]`.
#[derive(Debug, Clone)]
pub enum Weight<'a> {
    /// As it is trained.
    Plain(Tensor<2>),
    /// In panels, of any type.
    Packed(&'a Packed),
    /// The transpose of a table, `[d_output, d_input]`.
    Table(Tensor<2>),
}

impl Weight<'_> {
    /// What the products read, if it is there; `handle` keeps it.
    fn matrix<'a>(&'a self, handle: &'a mut Option<CpuTensor>) -> Option<Matrix<'a>> {
        let tensor = match self {
            Self::Packed(packed) => return Some(Matrix::Packed(packed)),
            Self::Plain(tensor) | Self::Table(tensor) => tensor,
        };
        let values = handle.insert(on_cpu(tensor)?).as_slice::<f32>()?;
        let [rows, columns] = tensor.dims();
        Some(match self {
            Self::Table(_) => Matrix::Table(values, [columns, rows]),
            _ => Matrix::Plain(values, [rows, columns]),
        })
    }
}

/// What happens to a product before it is handed back, in this order.
#[derive(Debug, Clone, Default)]
pub struct Then<'a, const D: usize> {
    /// Added, `[d_output]`.
    pub bias: Option<Tensor<1>>,
    /// What the numbers are put on.
    pub curve: Option<Curve>,
    /// Added, like the result.
    pub add: Option<&'a Tensor<D>>,
}

/// `x` times the weight.
///
/// # Shapes
/// - `x`: `[.., d_input]`
/// - returns: `[.., d_output]`
///
/// # Panics
/// If a width does not fit.
pub fn linear<const D: usize>(x: &Tensor<D>, weight: &Weight, then: &Then<D>) -> Option<Tensor<D>> {
    let mut shape = x.dims();
    let x = reals(x)?;
    let mut handle = None;
    let matrix = weight.matrix(&mut handle)?;
    let [k, n] = matrix.shape();
    assert_eq!(shape[D - 1], k, "width axis: the weight takes {k}");
    shape[D - 1] = n;
    let bias = optional(then.bias.as_ref())?;
    let add = optional(then.add)?;
    let mut out = vec![0.0; shape.iter().product()];
    let after = After {
        bias: bias.as_ref().map(slice),
        curve: then.curve,
        add: add.as_ref().map(slice),
    };
    product::product(global(), Isa::best(), slice(&x), matrix, after, &mut out);
    Some(of_values(out, shape))
}

/// `curve(x a) * (x b)`, where the weight holds the columns of `a` and then as many of `b`.
///
/// # Shapes
/// - `x`: `[.., d_input]`
/// - `bias`: `[d_output]`
/// - returns: `[.., d_output / 2]`
///
/// # Panics
/// If a width does not fit.
pub fn gated<const D: usize>(
    x: &Tensor<D>,
    weight: &Weight,
    bias: Option<Tensor<1>>,
    curve: Curve,
) -> Option<Tensor<D>> {
    let mut shape = x.dims();
    let x = reals(x)?;
    let mut handle = None;
    let matrix = weight.matrix(&mut handle)?;
    let [k, n] = matrix.shape();
    assert_eq!(shape[D - 1], k, "width axis: the weight takes {k}");
    shape[D - 1] = n / 2;
    let bias = optional(bias.as_ref())?;
    let mut out = vec![0.0; shape.iter().product()];
    let bias = bias.as_ref().map(slice);
    product::gated(
        global(),
        Isa::best(),
        slice(&x),
        matrix,
        bias,
        curve,
        &mut out,
    );
    Some(of_values(out, shape))
}

/// A norm along the last axis, in this order.
#[derive(Debug, Clone, Default)]
pub struct Norm<'a, const D: usize> {
    /// Whether the mean is taken off first.
    pub centred: bool,
    /// Added to the mean square.
    pub eps: f64,
    /// Multiplied by, `[width]`.
    pub gain: Option<Tensor<1>>,
    /// Then added, `[width]`.
    pub bias: Option<Tensor<1>>,
    /// Then multiplied by one more than the first and the second added: of the width of `x`, with one in the place of some of the axes before it, from
    /// any of them to the last.
    pub modulation: Option<[&'a Tensor<D>; 2]>,
}

/// `x` over its root mean square or its standard deviation.
///
/// # Shapes
/// - `x`: `[.., width]`
/// - returns: like `x`
///
/// # Panics
/// If what is learned is of another width.
pub fn normed<const D: usize>(x: &Tensor<D>, norm: &Norm<D>) -> Option<Tensor<D>> {
    let shape = x.dims();
    let x = reals(x)?;
    let (gain, bias) = (optional(norm.gain.as_ref())?, optional(norm.bias.as_ref())?);
    let modulation = match norm.modulation {
        None => None,
        Some(both) if both.iter().all(|more| groups(&shape, &more.dims())) => {
            Some([reals(both[0])?, reals(both[1])?])
        }
        Some(_) => return None,
    };
    let mut out = vec![0.0; shape.iter().product()];
    let norm = RowNorm {
        centred: norm.centred,
        eps: norm.eps as f32,
        gain: gain.as_ref().map(slice),
        bias: bias.as_ref().map(slice),
        modulation: modulation
            .as_ref()
            .map(|[gain, bias]| [slice(gain), slice(bias)]),
    };
    row_norm(
        global(),
        Isa::best(),
        slice(&x),
        shape[D - 1],
        &norm,
        &mut out,
    );
    Some(of_values(out, shape))
}

/// Whether what is of a shape belongs to groups of as many rows each: axes as they are, then ones, then the width.
fn groups(shape: &[usize], of: &[usize]) -> bool {
    let last = shape.len() - 1;
    let own = shape[..last].iter().zip(&of[..last]);
    let same = own.take_while(|(all, own)| all == own).count();
    shape[last] == of[last] && of[same..last].iter().all(|&places| places == 1)
}

/// The handle of a tensor of reals whose numbers lie one after the other; copied only where they did not.
pub(crate) fn reals<const D: usize>(x: &Tensor<D>) -> Option<CpuTensor> {
    let handle = on_cpu(x)?;
    if handle.dtype() != DType::F32 || x.dims().contains(&0) {
        return None;
    }
    match handle.as_slice::<f32>().is_some() {
        true => Some(handle),
        false => Some(handle.to_contiguous()),
    }
}

/// As [`reals`], of what may be absent.
pub(crate) fn optional<const D: usize>(x: Option<&Tensor<D>>) -> Option<Option<CpuTensor>> {
    match x {
        None => Some(None),
        Some(x) => reals(x).map(Some),
    }
}

/// The numbers of what [`reals`] gave.
pub(crate) fn slice(handle: &CpuTensor) -> &[f32] {
    handle.as_slice::<f32>().expect("contiguous reals")
}
