//! Where everything stands: rotary coordinates of the prefix and of the codes.
//!
//! On one axis positions are counted through, prefix first. On two or three axes codes stand where their
//! layout says (row, column; or scale, row, column) and the prefix runs up to them from minus its length
//! to minus one, the same on every axis, so that no prefix position is mistaken for a code's.
//!
//! At a pace, prefix and codes run side by side on the one axis: prefix position `j` stands where about `j · pace` codes have
//! gone by, so that a symbol and the sound that it becomes are near each other from the first step of training on (the
//! idea of length-aware rotary positions, Kim et al. 2025).

use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::Layout;

/// Coordinates for one layout.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Of each code, `axes` numbers; `None` on one axis, where they are counted.
    codes: Option<Vec<Vec<usize>>>,
    axes: usize,
    /// Codes that go by while one prefix position does, where both run side by side.
    pace: Option<usize>,
}

impl Places {
    /// # Panics
    /// If the layout has fewer axes than are asked for (and more than one is).
    pub fn new(layout: &Layout, axes: usize) -> Self {
        let codes = (axes > 1).then(|| {
            let coords = layout.coords();
            let known = coords.first().map_or(axes, Vec::len);
            assert!(
                known >= axes,
                "coordinate axis: {} has {known} axes, {axes} are asked for",
                layout.describe()
            );
            // What is left out first is the scale or the frame.
            let kept = |coord: &Vec<usize>| coord[known - axes..].to_vec();
            coords.iter().map(kept).collect()
        });
        Self {
            codes,
            axes,
            pace: None,
        }
    }

    /// Coordinates for scales on two axes: the places of each are spread out on a grid of this height and width, to the nearest whole
    /// row and column (Infinity's `rope2d_normalized_by_hw`).
    ///
    /// # Panics
    /// As [`Places::new`]; if the axes are not two or the layout is none of scales.
    pub fn spread(layout: &Layout, axes: usize, [height, width]: [usize; 2]) -> Self {
        let Layout::Scales { sides } = layout else {
            panic!("coordinate axis: {} has no scales", layout.describe());
        };
        assert_eq!(axes, 2, "coordinate axis: a grid has two");
        // Step by step in 32 bits, halves to the even neighbour, as in the reference.
        let place = |at: usize, side: usize, full: usize| {
            (at as f32 * (full as f64 / side as f64) as f32).round_ties_even() as usize
        };
        let codes = sides.iter().flat_map(|&(rows, columns)| {
            (0..rows * columns).map(move |at| {
                let (row, column) = (at / columns, at % columns);
                vec![place(row, rows, height), place(column, columns, width)]
            })
        });
        Self {
            codes: Some(codes.collect()),
            ..Self::new(layout, axes)
        }
    }

    /// The same with prefix and codes side by side; `None` leaves the prefix in front. The last lead position must not be the
    /// prefix's.
    ///
    /// # Panics
    /// If there are several axes.
    pub fn at_pace(mut self, pace: Option<usize>) -> Self {
        assert!(
            pace.is_none() || self.axes == 1,
            "coordinate axis: a pace needs one axis, there are {}",
            self.axes
        );
        self.pace = pace;
        self
    }

    /// Numbers that make a position.
    pub fn axes(&self) -> usize {
        self.axes
    }

    /// Coordinates of lead positions `lead_range` of `lead`, then of the codes in `codes`.
    pub fn coords(
        &self,
        lead: usize,
        lead_range: std::ops::Range<usize>,
        codes: std::ops::Range<usize>,
        device: &Device,
    ) -> Tensor<2, Int> {
        let n = lead_range.len() + codes.len();
        let flat: Vec<i32> = match (&self.codes, self.pace) {
            (None, Some(pace)) => {
                // The opening stands at 0, one before the first code and the first prefix position.
                let before = lead_range.map(|at| if at + 1 == lead { 0 } else { 1 + at * pace });
                let all = before.chain(codes.map(|code| 1 + code));
                all.map(|at| at as i32).collect()
            }
            (None, None) => lead_range
                .chain(codes.map(|code| lead + code))
                .map(|at| at as i32)
                .collect(),
            (Some(known), _) => {
                let before = lead_range.map(|at| vec![at as i32 - lead as i32; self.axes]);
                let placed = known[codes]
                    .iter()
                    .map(|coord| coord.iter().map(|&at| at as i32).collect());
                before.chain(placed).flatten().collect()
            }
        };
        Tensor::from_data(TensorData::new(flat, [n, self.axes]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{device, ids};

    #[test]
    fn the_prefix_runs_up_to_the_codes() {
        let layout = Layout::square_scales(&[1, 2]);
        let coords = |axes| ids(&Places::new(&layout, axes).coords(2, 1..2, 0..3, &device()));
        assert_eq!(coords(1), [1, 2, 3, 4]);
        assert_eq!(coords(2), [-1, -1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(coords(3), [-1, -1, -1, 0, 0, 0, 1, 0, 0, 1, 0, 1]);
    }

    #[test]
    fn the_places_of_all_scales_are_spread_on_one_grid() {
        let layout = Layout::Scales {
            sides: vec![(1, 1), (2, 2), (3, 1)],
        };
        let places = Places::spread(&layout, 2, [5, 4]);
        let found = ids(&places.coords(0, 0..0, 0..8, &device()));
        // Rows of the last scale stand at 0, 5/3 and 10/3; 2.5 goes to the even neighbour.
        let expected = [
            [0, 0],
            [0, 0],
            [0, 2],
            [2, 0],
            [2, 2],
            [0, 0],
            [2, 0],
            [3, 0],
        ];
        assert_eq!(found, expected.concat());
    }

    #[test]
    fn at_a_pace_prefix_and_codes_run_side_by_side() {
        let layout = Layout::Sequence { len: 5 };
        let places = Places::new(&layout, 1).at_pace(Some(2));
        let coords = |lead, leads, codes| ids(&places.coords(lead, leads, codes, &device()));
        assert_eq!(coords(4, 0..4, 0..4), [1, 3, 5, 0, 1, 2, 3, 4]);
        assert_eq!(coords(4, 0..0, 2..4), [3, 4], "however long the prefix");
    }
}
