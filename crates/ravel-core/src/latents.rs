//! Latents that are filled in as they are, without codes: positions in any order, several at a time.

use burn::tensor::Tensor;

use crate::Result;

/// One position of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The row of the batch.
    pub row: usize,
    /// The position within it.
    pub position: usize,
}

/// Where normal numbers come from.
pub trait Noise {
    /// Standard normal numbers, `width` for each place, row after row. `step` counts the draws for the same places.
    fn draw(&mut self, places: &[Place], step: usize, width: usize) -> Vec<f32>;
}

/// One round of filling in.
#[derive(Debug, Clone)]
pub struct Filling<'a> {
    /// `[batch, positions, width]`; what is not known is not looked at.
    pub latents: Tensor<3>,
    /// Known positions of each row, ascending, as many in each.
    pub known: &'a [Vec<usize>],
    /// Positions to be filled in, likewise.
    pub chosen: &'a [Vec<usize>],
    /// How far to go beyond the condition, away from no condition; zero for not at all.
    pub guidance: f64,
    /// Factor on the noise.
    pub temperature: f64,
}

/// A model that fills in latents from those that are known.
pub trait Masked {
    /// Positions of a row.
    fn positions(&self) -> usize;

    /// Latents of a batch in which nothing is known.
    ///
    /// # Shapes
    /// - returns: `[batch, positions, width]`
    fn empty(&self) -> Tensor<3>;

    /// The latents of the chosen positions.
    ///
    /// # Shapes
    /// - returns: `[batch, chosen, width]`
    ///
    /// # Errors
    /// [`crate::Error::NotFinite`] if the model gives no numbers.
    fn fill(&self, filling: Filling<'_>, noise: &mut dyn Noise) -> Result<Tensor<3>>;
}
