//! What a continuation must beat: the last frame again, and every block going on as it went.

use super::{Frame, Template};

/// Pixels a side of a block.
const BLOCK: usize = 8;
/// The farthest that a block is followed from one frame to the next, in each direction.
const REACH: isize = 4;

/// The last frame, `count` times.
pub fn copy_last(given: &[Frame], count: usize) -> Vec<Frame> {
    let last = given.last().expect("a given frame");
    vec![last.clone(); count]
}

/// Every block of the last frame goes on by its displacement since the frame before; what no block covers stays as it was, and blocks
/// that move cover those that do not.
///
/// # Panics
/// If fewer than two frames are given.
pub fn extrapolated_blocks(given: &[Frame], count: usize) -> Vec<Frame> {
    let [.., before, last] = given else {
        panic!("time axis: two frames show a displacement");
    };
    let corners = |end: usize| (0..end).step_by(BLOCK);
    let mut blocks: Vec<_> = corners(last.height)
        .flat_map(|top| corners(last.width).map(move |left| (top, left)))
        .map(|(top, left)| (displacement(before, last, top, left), top, left))
        .collect();
    blocks.sort_by_key(|((down, right), ..)| down.abs() + right.abs());
    (1..=count as isize)
        .map(|steps| {
            let mut frame = last.clone();
            for &((down, right), top, left) in &blocks {
                if (down, right) != (0, 0) {
                    lay(&mut frame, last, (top, left), (steps * down, steps * right));
                }
            }
            frame
        })
        .collect()
}

fn lay(frame: &mut Frame, from: &Frame, (top, left): (usize, usize), by: (isize, isize)) {
    for row in top..(top + BLOCK).min(from.height) {
        for column in left..(left + BLOCK).min(from.width) {
            let (to_row, to_column) = (row as isize + by.0, column as isize + by.1);
            let inside = |at: isize, end: usize| at >= 0 && at < end as isize;
            if inside(to_row, from.height) && inside(to_column, from.width) {
                let rgb = from.at(row as isize, column as isize);
                frame.set(to_row as usize, to_column as usize, rgb);
            }
        }
    }
}

/// How far a block came since the frame before: the least mean absolute difference, the shortest way of equal ones.
fn displacement(before: &Frame, last: &Frame, top: usize, left: usize) -> (isize, isize) {
    let mut best = (f32::INFINITY, (0, 0));
    let mut ways: Vec<_> = (-REACH..=REACH)
        .flat_map(|down| (-REACH..=REACH).map(move |right| (down, right)))
        .collect();
    ways.sort_by_key(|(down, right)| down.abs() + right.abs());
    for (down, right) in ways {
        let mut sum = 0.0;
        for row in top..(top + BLOCK).min(last.height) {
            for column in left..(left + BLOCK).min(last.width) {
                let now = last.at(row as isize, column as isize);
                let then = before.at(row as isize - down, column as isize - right);
                let apart: f32 = now.iter().zip(then).map(|(a, b)| (a - b).abs()).sum();
                sum += apart;
            }
        }
        // Noise of the codec is no motion: a way must be clearly better than a shorter one.
        if sum < 0.95 * best.0 {
            best = (sum, (down, right));
        }
    }
    best.1
}

/// Where an object would be if it went on as it did over the given frames: its square is followed back through them, and its mean
/// displacement goes on, up to the frame's edge. This is block matching with the object as the block, the strongest form of
/// linear extrapolation here.
///
/// - `template`: what it looks like in the last given frame
/// - `place`: its middle there, and its size
pub fn extrapolated_places(
    template: &Template,
    given: &[Frame],
    place: (f64, f64, usize),
    count: usize,
) -> Vec<(f64, f64)> {
    let (x, y, size) = place;
    let last = given.last().expect("a given frame");
    let mut at = (x, y);
    for frame in given.iter().rev().skip(1) {
        let found = template.find(frame, at);
        at = (found.x, found.y);
    }
    let steps = (given.len() - 1).max(1) as f64;
    let (right, down) = ((x - at.0) / steps, (y - at.1) / steps);
    let half = size as f64 / 2.0;
    let held = |value: f64, end: usize| value.clamp(half, (end as f64 - half).max(half));
    (1..=count)
        .map(|step| {
            (
                held(x + right * step as f64, last.width),
                held(y + down * step as f64, last.height),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::tests::square;

    #[test]
    fn what_moves_goes_on_and_stops_at_the_edge() {
        let given = [square(8, 8), square(8, 10), square(8, 12)];
        let template = Template::new(&given[2], 15.0, 11.0, 6);
        let places = extrapolated_places(&template, &given, (15.0, 11.0, 6), 9);
        assert_eq!(places[0], (17.0, 11.0));
        assert_eq!(places[8], (29.0, 11.0));
    }

    #[test]
    fn blocks_go_on_and_the_rest_stays() {
        let given = [square(8, 6), square(8, 8)];
        let found = extrapolated_blocks(&given, 2);
        assert_eq!(found[1].at(9, 14), given[1].at(9, 10));
        assert_eq!(found[1].at(30, 30), given[1].at(30, 30));
        assert_eq!(copy_last(&given, 2)[1], given[1]);
    }
}
