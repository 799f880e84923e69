//! Frames that are given, and how their background moves.

use std::collections::BTreeMap;

use super::Step;
use super::grid::{Raster, apart};

/// Differences that are more than a codec's noise, in the range of pixels, which is two.
pub const CHANGED: f32 = 0.06;
/// The share of the cells along each side of the frame that have to change where a background moves.
const SIDE: f32 = 0.25;
/// Pixels of a cell that may differ all the same.
const SPECKS: usize = 2;

/// A frame that was given, with the codes that led to it.
#[derive(Debug, Clone)]
pub struct Given {
    pub frame: Raster,
    /// As frames are compared.
    pub coded: Raster,
    /// How far each cell moved from the frame before, row by row; none for a first frame.
    pub steps: Vec<Step>,
    /// How the background moved.
    pub went: Step,
    /// Cells in a row.
    pub columns: usize,
}

impl Given {
    /// A first frame.
    pub fn first(frame: Raster, columns: usize) -> Self {
        Self {
            coded: frame.coded(),
            frame,
            steps: Vec::new(),
            went: (0, 0),
            columns,
        }
    }

    /// The frame after another one.
    pub fn after(before: &Self, frame: Raster, steps: Vec<Step>) -> Self {
        let mut given = Self::first(frame, before.columns);
        given.went = given.background(before, &steps);
        given.steps = steps;
        given
    }

    /// Pixels a side of a cell.
    pub fn side(&self) -> i32 {
        self.frame.width / self.columns as i32
    }

    /// How the background moved: not at all unless something changed along every side of the frame, else as the code says that explains most.
    fn background(&self, before: &Self, steps: &[Step]) -> Step {
        let explained = |step: Step| -> Vec<bool> {
            (0..steps.len())
                .map(|cell| self.explains(before, cell, step))
                .collect()
        };
        if !changes_everywhere(&explained((0, 0)), self.columns) {
            return (0, 0);
        }
        let mut said = steps.to_vec();
        said.sort_unstable_by_key(|step| (step.0.abs() + step.1.abs(), *step));
        said.dedup();
        let count = |step: Step| explained(step).into_iter().filter(|one| *one).count();
        // Of equal ones the smallest.
        let best = said.into_iter().rev().max_by_key(|&step| count(step));
        best.unwrap_or_default()
    }

    /// Whether a step brings all of a cell from the frame before, but for noise.
    fn explains(&self, before: &Self, cell: usize, (down, right): Step) -> bool {
        let side = self.side();
        let (row, column) = (
            (cell / self.columns) as i32 * side,
            (cell % self.columns) as i32 * side,
        );
        let differs = |at: i32| {
            let place = (row + at / side, column + at % side);
            let from = before.coded.get((place.0 - down, place.1 - right));
            from.is_some_and(|from| apart(from, self.coded.at(place)) > CHANGED)
        };
        (0..side * side).filter(|&at| differs(at)).count() <= SPECKS
    }
}

/// Whether enough cells along each side of the frame are not what they were.
fn changes_everywhere(still: &[bool], columns: usize) -> bool {
    let rows = still.len() / columns;
    let (row, column) = (
        |row: usize| (0..columns).map(move |at| row * columns + at),
        |column: usize| (0..rows).map(move |at| at * columns + column),
    );
    let enough = |changed: usize, of: usize| changed as f32 >= SIDE * of as f32;
    let changed = |cells: &mut dyn Iterator<Item = usize>| cells.filter(|&at| !still[at]).count();
    enough(changed(&mut row(0)), columns)
        && enough(changed(&mut row(rows - 1)), columns)
        && enough(changed(&mut column(0)), rows)
        && enough(changed(&mut column(columns - 1)), rows)
}

/// The most frequent step, the smallest of equal ones; none at all is no motion.
pub fn most_frequent(steps: impl Iterator<Item = Step>) -> Step {
    let mut counts: BTreeMap<(i32, Step), usize> = BTreeMap::new();
    for step in steps {
        *counts
            .entry((step.0.abs() + step.1.abs(), step))
            .or_default() += 1;
    }
    let most = counts.iter().rev().max_by_key(|(_, count)| **count);
    most.map_or((0, 0), |(&(_, step), _)| step)
}
