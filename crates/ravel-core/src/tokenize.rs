//! Signals and what turns them into codes and back.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Codes, Layout, Result};

/// Pictures, RGB, channel first.
#[derive(Debug, Clone)]
pub struct Images {
    /// `[batch, 3, height, width]`, each value in `-1..=1`.
    pub pixels: Tensor<4>,
}

/// What a tokenizer's codes look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeSpec {
    /// Ids in each codebook.
    pub codebook_size: usize,
    /// Numbers in one code vector.
    pub code_width: usize,
    /// Codebooks per position.
    pub depth: usize,
    /// Height and width of the signal in pixels.
    pub signal_size: (usize, usize),
    /// How the codes of one signal are arranged.
    pub layout: Layout,
}

/// Turns a signal into codes and back.
pub trait Tokenizer: Send {
    /// What people see or hear: [`Images`].
    type Signal;

    /// What the codes look like.
    fn spec(&self) -> &CodeSpec;

    /// Codes of a batch of signals.
    ///
    /// # Errors
    /// [`crate::Error::Signal`] if the size is not what [`Tokenizer::spec`] says.
    fn encode(&self, signal: Self::Signal) -> Result<Codes>;

    /// The signals that a batch of full codes stands for.
    ///
    /// # Errors
    /// [`crate::Error::Codes`] if the layout or an id does not fit.
    fn decode(&self, codes: &Codes) -> Result<Self::Signal>;

    /// The signal that a part of the codes already shows: what stands where nothing was chosen yet is up to the
    /// tokenizer.
    ///
    /// # Errors
    /// [`crate::Error::Codes`] if too little is filled to show anything.
    fn preview(&self, codes: &Codes) -> Result<Self::Signal>;

    /// The encoder's continuous output before quantization, the features in which pictures are compared.
    ///
    /// # Shapes
    /// - returns: `[batch, code_width, rows, columns]`
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    fn latents(&self, signal: Self::Signal) -> Result<Tensor<4>>;

    /// Code vectors, one per id.
    ///
    /// # Shapes
    /// - returns: `[codebook_size, code_width]`
    fn codebook(&self) -> Tensor<2>;

    /// The coarse-to-fine view of the codes, where the tokenizer has one.
    fn pyramid(&self) -> Option<&dyn Pyramid> {
        None
    }
}

/// What a next-scale head asks of a tokenizer with a pyramid of codes.
///
/// The *canvas* is the sum so far of all scales' contributions at the finest size
/// (`f_hat` in VAR, `[batch, code_width, height, width]`).
pub trait Pyramid: Send {
    /// Sides of the scales, coarsest first.
    fn sides(&self) -> &[(usize, usize)];

    /// Numbers in one code vector.
    fn code_width(&self) -> usize;

    /// The canvas after the ids of one more scale.
    ///
    /// # Shapes
    /// - `canvas`: `[batch, code_width, height, width]`, or `None` before the first scale
    /// - `ids`: `[batch, positions of the scale]`
    /// - returns: like `canvas`
    fn add_scale(&self, canvas: Option<Tensor<4>>, scale: usize, ids: Tensor<2, Int>) -> Tensor<4>;

    /// What the head is shown before it predicts `scale`: the canvas brought down to that scale's size.
    ///
    /// # Shapes
    /// - returns: `[batch, positions of the scale, code_width]`
    fn features_for(&self, canvas: &Tensor<4>, scale: usize) -> Tensor<3>;

    /// The ids of `scale` that come nearest to what earlier scales left of some latents.
    ///
    /// # Shapes
    /// - `rest`: `[batch, code_width, height, width]`, latents less canvas
    /// - returns: `[batch, positions of the scale]`
    fn ids_for(&self, rest: Tensor<4>, scale: usize) -> Tensor<2, Int>;
}
