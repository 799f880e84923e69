//! What enters a cell: the contents of its neighbours, moved as their codes say.
//!
//! A code says where a cell comes from. Read so alone, a thing that moves loses its edge in every cell before it whose code says that
//! nothing moves, and a generator that misses one such code in ten has worn the thing away in a few frames. Here a code also says where what is
//! in the cell goes (forward warping, the splatting of Niklaus and Liu 2020, for whole pixels): what a moving neighbour brings comes in.

use burn::tensor::ops::PadMode;
use burn::tensor::{Tensor, TensorData};

/// Where each pixel comes from, as shares of the reach: down, then right.
///
/// It is what the cell's own code says, unless that code moves nothing, or brings nothing of the cell itself to the pixel, and the
/// code of a neighbour moves something of the neighbour there. Of several such neighbours the one beside it counts before one across the
/// corner.
///
/// # Shapes
/// - `shares`: `[b, 2, h, w]` of cells, in `-1..=1`
/// - `side`: pixels a side of a cell, `reach` at least, so that only the eight neighbours bring anything
/// - returns: `[b, 2, h * side, w * side]`
pub fn entering(shares: Tensor<4>, side: usize, reach: usize) -> Tensor<4> {
    let own = spread(shares.clone(), side);
    let within = Within::new(own.dims(), side, reach, &own.device());
    let settled = within.comes_from(&own, 0, 0) * moving(&own, reach);
    let open = settled.lower_elem(0.5);
    NEIGHBOURS.iter().fold(own, |found, &(down, right)| {
        let theirs = spread(neighbours(shares.clone(), down, right), side);
        let brought = within.comes_from(&theirs, down, right) * moving(&theirs, reach);
        let taken = brought.greater_elem(0.5).bool_and(open.clone());
        let taken = taken.expand(found.dims());
        found.mask_where(taken, theirs)
    })
}

/// Those across the corners first, so that those beside, which come later, count before them.
const NEIGHBOURS: [(isize, isize); 8] = [
    (-1, -1),
    (-1, 1),
    (1, -1),
    (1, 1),
    (-1, 0),
    (1, 0),
    (0, -1),
    (0, 1),
];

/// Each pixel's place within its cell.
struct Within {
    down: Tensor<4>,
    right: Tensor<4>,
    side: usize,
    reach: usize,
}

impl Within {
    fn new(
        [_, _, height, width]: [usize; 4],
        side: usize,
        reach: usize,
        device: &burn::tensor::Device,
    ) -> Self {
        let places =
            |count: usize| -> Vec<f32> { (0..count).map(|at| (at % side) as f32).collect() };
        let line = |count: usize, shape: [usize; 4]| {
            Tensor::from_data(TensorData::new(places(count), shape), device)
        };
        Self {
            down: line(height, [1, 1, height, 1]),
            right: line(width, [1, 1, 1, width]),
            side,
            reach,
        }
    }

    /// One where a pixel moved by `shares` comes from the cell so many cells down and right of its own, else zero: `[b, 1, h, w]`.
    fn comes_from(&self, shares: &Tensor<4>, down: isize, right: isize) -> Tensor<4> {
        let inside = |place: &Tensor<4>, axis: usize, cell: isize| {
            let from = place.clone() + shares.clone().narrow(1, axis, 1) * self.reach as f32;
            // Half a pixel of room: shares of whole pixels may be rounded.
            let low = (cell * self.side as isize) as f32 - 0.5;
            let high = low + self.side as f32;
            from.clone().greater_equal_elem(low).float() * from.lower_elem(high).float()
        };
        inside(&self.down, 0, down) * inside(&self.right, 1, right)
    }
}

/// One where a pixel moves, else zero: `[b, 1, h, w]`.
fn moving(shares: &Tensor<4>, reach: usize) -> Tensor<4> {
    let far = shares.clone().abs().sum_dim(1) * reach as f32;
    far.greater_elem(0.5).float()
}

/// The shares of the cells so many cells down and right; beyond the frame nothing moves.
fn neighbours(shares: Tensor<4>, down: isize, right: isize) -> Tensor<4> {
    let [_, _, rows, columns] = shares.dims();
    let around = shares.pad((1, 1, 1, 1), PadMode::Constant(0.0));
    let around = around.narrow(2, (1 + down) as usize, rows);
    around.narrow(3, (1 + right) as usize, columns)
}

/// Each cell as a square of `side` by `side` pixels.
pub fn spread(grid: Tensor<4>, side: usize) -> Tensor<4> {
    let [batch, channels, rows, columns] = grid.dims();
    grid.reshape([batch, channels, rows, 1, columns, 1])
        .expand([batch, channels, rows, side, columns, side])
        .reshape([batch, channels, rows * side, columns * side])
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{device, values};

    use super::*;

    const SIDE: usize = 4;
    const REACH: usize = 2;

    /// Where the pixels of the middle row of the middle cell of three by three come from, down and right, when some cells of `(row, column,
    /// down, right)` move.
    fn middle(cells: &[(usize, usize, f32, f32)]) -> Vec<(f32, f32)> {
        let mut shares = vec![0.0_f32; 18];
        for &(row, column, down, right) in cells {
            shares[row * 3 + column] = down / REACH as f32;
            shares[9 + row * 3 + column] = right / REACH as f32;
        }
        let data = TensorData::new(shares, [1, 2, 3, 3]);
        let found = entering(Tensor::from_data(data, &device()), SIDE, REACH);
        let found = values(&(found * REACH as f32));
        let place = |at: usize| (SIDE + 1) * 3 * SIDE + SIDE + at;
        (0..SIDE)
            .map(|at| (found[place(at)], found[9 * SIDE * SIDE + place(at)]))
            .collect()
    }

    #[test]
    fn what_a_neighbour_moves_comes_into_a_still_cell_and_no_farther() {
        // The left neighbour moves to the right by two: its pixels come from two to the left.
        let (moved, still) = ((0.0, -2.0), (0.0, 0.0));
        assert_eq!(middle(&[(1, 0, 0.0, -2.0)]), [moved, moved, still, still]);
        // The right one does, too, and nothing of it comes here.
        assert_eq!(middle(&[(1, 2, 0.0, -2.0)]), [still; 4]);
    }

    #[test]
    fn a_cell_that_moves_keeps_what_it_has_and_takes_in_what_comes() {
        // It moves down by one; the left one moves to the right by two.
        let own = (-1.0, 0.0);
        let cells = [(1, 1, -1.0, 0.0), (1, 0, 0.0, -2.0)];
        assert_eq!(middle(&cells), [own; 4]);
        // Its own motion leaves the two left pixels to the one that comes in, and without that one brings what is there.
        let cells = [(1, 1, 0.0, -2.0), (1, 0, 1.0, -1.0)];
        let own = (0.0, -2.0);
        assert_eq!(middle(&cells), [(1.0, -1.0), own, own, own]);
        assert_eq!(middle(&cells[..1]), [own; 4]);
    }

    #[test]
    fn still_cells_stay() {
        assert_eq!(middle(&[]), [(0.0, 0.0); 4]);
    }
}
