//! What stands in where no GPU is compiled in.

use std::convert::Infallible;

use burn::tensor::{Device, Tensor};

use crate::packed::Packed;

/// Weights of eight or four bits on a GPU: none, in a build without the feature `gpu`.
#[derive(Debug, Clone)]
pub struct Blocks(Infallible);

impl Blocks {
    /// Whether a device multiplies by such weights.
    pub fn serves(_device: &Device) -> bool {
        false
    }

    /// No weights.
    pub fn new(_packed: &Packed, _device: &Device) -> Option<Self> {
        None
    }

    /// Never called.
    pub fn product<const D: usize>(&self, _x: Tensor<D>) -> Tensor<D> {
        match self.0 {}
    }

    /// Never called.
    pub fn unpacked(&self) -> Tensor<2> {
        match self.0 {}
    }
}
