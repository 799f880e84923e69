//! Pieces of a signal that may be empty, and how they are joined.

use burn::tensor::Tensor;

/// A piece of a signal, `[b, c, t]`; nothing stands for no samples.
pub type Piece = Option<Tensor<3>>;

/// Samples of a piece.
pub fn len_of(piece: &Piece) -> usize {
    piece.as_ref().map_or(0, |piece| piece.dims()[2])
}

/// One piece after the other.
pub fn joined(first: Piece, second: Piece) -> Piece {
    match (first, second) {
        (Some(first), Some(second)) => Some(Tensor::cat(vec![first, second], 2)),
        (first, second) => first.or(second),
    }
}

/// Samples `from..to` of a piece.
pub(crate) fn between(piece: &Tensor<3>, from: usize, to: usize) -> Piece {
    let [batch, channels, _] = piece.dims();
    (from < to).then(|| piece.clone().slice([0..batch, 0..channels, from..to]))
}

/// Two branches of a layer that give the same samples at different times.
#[derive(Debug, Clone, Default)]
pub struct Aligned {
    first: Piece,
    second: Piece,
}

impl Aligned {
    /// The sum of both branches, as far as both have come.
    pub fn sum(&mut self, first: Piece, second: Piece) -> Piece {
        self.first = joined(self.first.take(), first);
        self.second = joined(self.second.take(), second);
        let ready = len_of(&self.first).min(len_of(&self.second));
        let first = cut(&mut self.first, ready)?;
        Some(first + cut(&mut self.second, ready)?)
    }
}

/// Takes the first `len` samples off a piece.
fn cut(piece: &mut Piece, len: usize) -> Piece {
    let whole = piece.take()?;
    *piece = between(&whole, len, whole.dims()[2]);
    between(&whole, 0, len)
}
