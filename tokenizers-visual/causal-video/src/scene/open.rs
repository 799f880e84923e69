//! Where in a frame there is something before the background.

use super::given::{CHANGED, Given};
use super::grid::{Mask, Place, Raster, apart, around};

/// How far around what changed a thing may go on.
const MARGIN: i32 = 3;
/// Pixels differ from what is behind them from the first of these on, beside such that do from the second on.
pub const DIFFERS: f32 = 0.12;
const DIFFERS_BESIDE: f32 = 0.06;
/// A place of which so many of the eight neighbours differ is between them.
const BETWEEN: usize = 5;

/// Where there may be things, generously: what changed, and what moved between such.
pub fn open_places(given: &[Given]) -> Mask {
    let last = given.last().expect("a last frame");
    let frame = &last.frame;
    let changed = changed(given);
    let cells = moving_cells(last, &changed);
    let side = last.side();
    let open = Mask::new(frame.height, frame.width, |(row, column)| {
        changed.at((row, column)) || cells.at((row / side, column / side))
    });
    open.grown(MARGIN)
}

/// Cells that move by themselves: those in which something changed, and those between two such in a row or a column. Cells around a thing may
/// be said to move with it though they show nothing of it.
fn moving_cells(last: &Given, changed: &Mask) -> Mask {
    let (side, columns) = (last.side(), last.columns as i32);
    let rows = last.frame.height / side;
    let moves = |(row, column): Place| last.steps[(row * columns + column) as usize] != last.went;
    let touched = Mask::new(rows, columns, |(row, column)| {
        let pixel = |at: i32| (row * side + at / side, column * side + at % side);
        moves((row, column)) && (0..side * side).any(|at| changed.at(pixel(at)))
    });
    let between = |along: &dyn Fn(i32) -> Place, at: i32, len: i32| {
        (0..at).any(|at| touched.at(along(at))) && (at + 1..len).any(|at| touched.at(along(at)))
    };
    Mask::new(rows, columns, |(row, column)| {
        let inside =
            || between(&|at| (at, column), row, rows) || between(&|at| (row, at), column, columns);
        touched.at((row, column)) || (moves((row, column)) && inside())
    })
}

/// Pixels that do not go with the background.
fn changed(given: &[Given]) -> Mask {
    let (last, earlier) = given.split_last().expect("a last frame");
    let frame = &last.coded;
    let mut went = (0, 0);
    let mut differences = vec![0.0_f32; (frame.height * frame.width) as usize];
    for (at, before) in earlier.iter().enumerate().rev() {
        let step = given[at + 1].went;
        went = (went.0 + step.0, went.1 + step.1);
        for (difference, (row, column)) in differences.iter_mut().zip(frame.places()) {
            if let Some(colour) = before.coded.get((row - went.0, column - went.1)) {
                *difference = difference.max(apart(colour, frame.at((row, column))));
            }
        }
    }
    let of = |(row, column): Place| differences[(row * frame.width + column) as usize];
    Mask::new(frame.height, frame.width, |place| {
        let near = around(place, 1).filter(|&at| frame.holds(at));
        let (sum, count) = near.fold((0.0, 0.0), |(sum, count), at| (sum + of(at), count + 1.0));
        sum / count > CHANGED
    })
}

/// Open places that differ from what is behind: clearly, or beside such. Both as they are and as frames are compared: chroma that is
/// smoothed reaches beyond a thing, and that of a pattern differs where it is copied to an odd place. Between such places, as they are is
/// enough.
pub fn differing(last: &Given, behind: &Raster, open: &Mask) -> Mask {
    let frame = &last.frame;
    let coded = behind.coded();
    let plainly = |at: Place| apart(frame.at(at), behind.at(at));
    let by = |at: Place| plainly(at).min(apart(last.coded.at(at), coded.at(at)));
    let over = |least: f32| {
        Mask::new(frame.height, frame.width, |at| {
            open.at(at) && by(at) > least
        })
    };
    let (clearly, perhaps) = (over(DIFFERS), over(DIFFERS_BESIDE));
    let beside = clearly.grown(2);
    let differs = Mask::new(frame.height, frame.width, |at| {
        clearly.at(at) || (perhaps.at(at) && beside.at(at))
    });
    Mask::new(frame.height, frame.width, |at| {
        let between = || around(at, 1).filter(|&near| differs.at(near)).count() >= BETWEEN;
        differs.at(at) || (open.at(at) && plainly(at) > DIFFERS_BESIDE && between())
    })
}
