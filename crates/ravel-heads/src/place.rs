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
    fn at_a_pace_prefix_and_codes_run_side_by_side() {
        let layout = Layout::Sequence { len: 5 };
        let places = Places::new(&layout, 1).at_pace(Some(2));
        let coords = |lead, leads, codes| ids(&places.coords(lead, leads, codes, &device()));
        assert_eq!(coords(4, 0..4, 0..4), [1, 3, 5, 0, 1, 2, 3, 4]);
        assert_eq!(coords(4, 0..0, 2..4), [3, 4], "however long the prefix");
    }
}
