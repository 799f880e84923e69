//! Weights in blocks on a GPU, and burn's way to the kernels.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, DispatchDevice, backend_extension};
use burn::tensor::{DType, Device, Int, Tensor, TensorData, module};
use burn_cubecl::CubeBackend;

use super::kernel;
use crate::blocks::BLOCK;
use crate::packed::{Packed, WeightsType};
use crate::pool;

/// A matrix `[k, n]` of eight or four bits on a GPU, with the levels and scales that [`Packed`] has on the CPU. What it is multiplied with is not
/// rounded, unlike there.
///
/// A column's levels lie one after the other, from the first row to the last, four or eight to a word, and so do its scales, two to a word: the units of
/// a GPU that share a column read runs of memory.
#[derive(Debug, Clone)]
pub struct Blocks {
    /// `[n, k / (32 / bits)]`, `k` filled up to whole blocks.
    levels: Tensor<2, Int>,
    /// `[n, blocks / 2]`, rounded up.
    scales: Tensor<2, Int>,
    bits: usize,
    k: usize,
}

/// From this many rows on, a product with numbers of full width costs less than reading the blocks again for every few rows.
const MANY_ROWS: usize = 32;

impl Blocks {
    /// Whether a device multiplies by such weights: any that runs CubeCL.
    pub fn serves(device: &Device) -> bool {
        matches!(device.as_dispatch(), DispatchDevice::Cube(_))
    }

    /// The weights on a device; none if it does not serve, or they are real numbers.
    pub fn new(packed: &Packed, device: &Device) -> Option<Self> {
        let bits = match packed.kind() {
            WeightsType::Q8 => 8,
            WeightsType::Q4 => 4,
            WeightsType::F32 | WeightsType::F16 | WeightsType::Bf16 => return None,
        };
        if !Self::serves(device) {
            return None;
        }
        let [k, n] = packed.shape();
        let (levels, scales) = packed.words(pool::global());
        let on_device = |words: Vec<u32>| {
            let width = words.len() / n;
            Tensor::from_data(TensorData::new(words, [n, width]), (device, DType::U32))
        };
        Some(Self {
            levels: on_device(levels),
            scales: on_device(scales),
            bits,
            k,
        })
    }

    /// `x` times the weights.
    ///
    /// # Shapes
    /// - `x`: `[.., k]`
    /// - returns: `[.., n]`
    ///
    /// # Panics
    /// If the width does not fit.
    pub fn product<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mut shape = x.dims();
        let k = self.k;
        assert_eq!(shape[D - 1], k, "width axis: the weight takes {k}");
        let rows = shape[..D - 1].iter().product::<usize>();
        if rows >= MANY_ROWS {
            return module::linear(x, self.unpacked(), None);
        }
        let x = x.reshape([rows, k]);
        let filled = k.next_multiple_of(BLOCK);
        let x = match filled - k {
            0 => x,
            more => {
                let zeros = Tensor::zeros([rows, more], &x.device());
                Tensor::cat(vec![x, zeros], 1)
            }
        };
        let out = Tensor::<2>::from_dispatch(Dispatch::block_product(
            x.into_dispatch(),
            self.levels.clone().into_dispatch(),
            self.scales.clone().into_dispatch(),
            self.bits,
        ));
        shape[D - 1] = self.levels.dims()[0];
        out.reshape(shape)
    }

    /// The numbers that products see, `[k, n]`.
    pub fn unpacked(&self) -> Tensor<2> {
        let columns = Tensor::<2>::from_dispatch(Dispatch::block_numbers(
            self.levels.clone().into_dispatch(),
            self.scales.clone().into_dispatch(),
            self.bits,
        ));
        columns.narrow(1, 0, self.k).transpose()
    }
}

/// What a backend does with blocks. Levels are `[n, words]` and scales `[n, words]`, of `u32`.
#[backend_extension(Cube)]
pub(super) trait BlockProducts: Backend {
    /// `x`, `[rows, k]` in f32 with `k` of whole blocks, times the weights: `[rows, n]`.
    fn block_product(
        x: FloatTensor<Self>,
        levels: IntTensor<Self>,
        scales: IntTensor<Self>,
        bits: usize,
    ) -> FloatTensor<Self>;

    /// The numbers of all columns, `[n, k]` with `k` of whole blocks, in f32.
    fn block_numbers(
        levels: IntTensor<Self>,
        scales: IntTensor<Self>,
        bits: usize,
    ) -> FloatTensor<Self>;
}

impl BlockProducts for CubeBackend {
    fn block_product(
        x: FloatTensor<Self>,
        levels: IntTensor<Self>,
        scales: IntTensor<Self>,
        bits: usize,
    ) -> FloatTensor<Self> {
        kernel::product(x, levels, scales, bits)
    }

    fn block_numbers(
        levels: IntTensor<Self>,
        scales: IntTensor<Self>,
        bits: usize,
    ) -> FloatTensor<Self> {
        kernel::numbers(levels, scales, bits)
    }
}
