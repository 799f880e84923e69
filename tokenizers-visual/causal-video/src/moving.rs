//! Frames that are the ones before with their pixels moved, and nothing else.
//!
//! Where a pixel would come from outside the frame, and its cell does not go with the background, it shows the background beside it: what
//! comes off a wall leaves nothing of itself there. With a border that goes on outside, as where the background itself moves, the edge of a
//! thing would be drawn out into a band, and a generator goes on with the band.

use std::collections::BTreeMap;

use burn::tensor::{Int, Tensor, TensorData};

/// The frame with each pixel taken from where `from` says.
///
/// # Shapes
/// - `frame`: `[b, c, h, w]`
/// - `from`: `[b, 2, h, w]`, how many pixels down and to the right each comes from, whole numbers but for rounding; read to the host
/// - returns: like `frame`
pub fn moved(frame: Tensor<4>, from: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = frame.dims();
    let device = frame.device();
    let data = from.into_data().convert::<f32>();
    let from: Vec<f32> = data.try_into_vec().expect("shifts were converted to f32");
    let places = height * width;
    let sources = from.chunks_exact(2 * places).flat_map(|row| {
        let (down, right) = row.split_at(places);
        let whole = |share: &f32| share.round() as i32;
        let shifts: Vec<Shift> = down
            .iter()
            .map(whole)
            .zip(right.iter().map(whole))
            .collect();
        Sources::new(shifts, height, width).all()
    });
    let sources = TensorData::new::<i32, _>(sources.collect(), [batch, 1, places]);
    let sources = Tensor::<3, Int>::from_data(sources, &device).expand([batch, channels, places]);
    frame
        .reshape([batch, channels, places])
        .gather(2, sources)
        .reshape([batch, channels, height, width])
}

/// How far down and to the right a pixel comes from.
type Shift = (i32, i32);

/// Where the pixels of one frame come from.
struct Sources {
    shifts: Vec<Shift>,
    height: usize,
    width: usize,
    /// The shift that most pixels have, the smallest of equal ones.
    background: Shift,
}

impl Sources {
    fn new(shifts: Vec<Shift>, height: usize, width: usize) -> Self {
        let mut counts: BTreeMap<Shift, usize> = BTreeMap::new();
        for &shift in &shifts {
            *counts.entry(shift).or_default() += 1;
        }
        let most = counts.iter().rev().max_by_key(|(_, count)| **count);
        let background = *most.expect("a frame has pixels").0;
        Self {
            shifts,
            height,
            width,
            background,
        }
    }

    fn all(&self) -> Vec<i32> {
        let places = (0..self.height).flat_map(|row| (0..self.width).map(move |at| (row, at)));
        places
            .map(|(row, column)| self.of(row, column) as i32)
            .collect()
    }

    /// The place that a pixel comes from, row by row.
    fn of(&self, row: usize, column: usize) -> usize {
        let (down, right) = self.shifts[row * self.width + column];
        let outside = |at: usize, by: i32, size: usize| {
            let from = at as i32 + by;
            from < 0 || from >= size as i32
        };
        let above = outside(row, down, self.height);
        let beside = outside(column, right, self.width);
        if (down, right) == self.background || !(above || beside) {
            return self.within(row, column);
        }
        // Along the wall that it comes off.
        let found = above.then(|| self.background_in_row(row, column)).flatten();
        let found = found.or_else(|| {
            beside
                .then(|| self.background_in_column(row, column))
                .flatten()
        });
        let (row, column) = found.unwrap_or((row, column));
        self.within(row, column)
    }

    /// As its shift says; the border goes on outside.
    fn within(&self, row: usize, column: usize) -> usize {
        let (down, right) = self.shifts[row * self.width + column];
        let inside =
            |at: usize, by: i32, size: usize| (at as i32 + by).clamp(0, size as i32 - 1) as usize;
        inside(row, down, self.height) * self.width + inside(column, right, self.width)
    }

    /// The nearest place of the background in this row, the one to the left of two.
    fn background_in_row(&self, row: usize, column: usize) -> Option<(usize, usize)> {
        let goes = |&at: &usize| self.shifts[row * self.width + at] == self.background;
        let nearest = (0..self.width)
            .filter(goes)
            .min_by_key(|at| at.abs_diff(column));
        nearest.map(|at| (row, at))
    }

    /// The nearest place of the background in this column, the upper one of two.
    fn background_in_column(&self, row: usize, column: usize) -> Option<(usize, usize)> {
        let goes = |&at: &usize| self.shifts[at * self.width + column] == self.background;
        let nearest = (0..self.height)
            .filter(goes)
            .min_by_key(|at| at.abs_diff(row));
        nearest.map(|at| (at, column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 6;
    const HEIGHT: usize = 4;

    /// Sources of a frame whose pixels in some columns move, the others as `rest` says.
    fn sources(columns: std::ops::Range<usize>, moves: Shift, rest: Shift) -> Vec<i32> {
        let shift = |at: usize| match columns.contains(&(at % WIDTH)) {
            true => moves,
            false => rest,
        };
        Sources::new((0..HEIGHT * WIDTH).map(shift).collect(), HEIGHT, WIDTH).all()
    }

    fn at(row: usize, column: usize) -> i32 {
        (row * WIDTH + column) as i32
    }

    #[test]
    fn what_comes_off_a_wall_leaves_the_background_there() {
        // Two columns go up by one: what they show comes from one below.
        let found = sources(2..4, (1, 0), (0, 0));
        assert_eq!(found[at(0, 2) as usize], at(1, 2));
        assert_eq!(found[at(2, 3) as usize], at(3, 3));
        // Below them is the floor; beside them, nothing moves.
        assert_eq!(found[at(3, 2) as usize], at(3, 1));
        assert_eq!(found[at(3, 3) as usize], at(3, 4));
        assert_eq!(found[at(3, 5) as usize], at(3, 5));
        // Off the left wall: along it there is no background, so the border goes on.
        let found = sources(0..2, (0, -1), (0, 0));
        assert_eq!(found[at(1, 0) as usize], at(1, 0));
        assert_eq!(found[at(1, 1) as usize], at(1, 0));
    }

    #[test]
    fn a_background_that_moves_goes_on_at_its_border() {
        let found = sources(2..4, (1, 0), (0, 2));
        assert_eq!(found[at(1, 0) as usize], at(1, 2));
        assert_eq!(found[at(1, 5) as usize], at(1, 5));
        // What is in front shows, off the floor, what the background beside it shows.
        assert_eq!(found[at(3, 2) as usize], at(3, 3));
    }
}
