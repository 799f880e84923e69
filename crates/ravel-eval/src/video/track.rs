//! Where an object is: matching with what it looked like.

use super::Frame;

/// Pixels around an object that belong to its template.
const MARGIN: isize = 2;
/// An object is still there if it is matched better than this share of what a place without it would differ by.
const PRESENT: f64 = 0.5;

/// What an object looked like.
#[derive(Debug, Clone)]
pub struct Template {
    side: isize,
    pixels: Vec<[f32; 3]>,
    /// Mean absolute difference to its own border's mean colour.
    contrast: f64,
}

/// Where something was matched best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sighting {
    /// Middle, pixels from the left edge.
    pub x: f64,
    /// Middle, pixels from the upper edge.
    pub y: f64,
    /// Whether it is there at all.
    pub present: bool,
}

impl Sighting {
    /// Pixels from a place.
    pub fn distance(&self, x: f64, y: f64) -> f64 {
        (self.x - x).hypot(self.y - y)
    }
}

impl Template {
    /// The square of an object of `size` pixels a side whose middle is at a place.
    pub fn new(frame: &Frame, x: f64, y: f64, size: usize) -> Self {
        let side = size as isize + 2 * MARGIN;
        let (top, left) = corner(x, y, side);
        let pixels: Vec<[f32; 3]> = (0..side * side)
            .map(|at| frame.at(top + at / side, left + at % side))
            .collect();
        let edge = |at: &isize| {
            let (row, column) = (at / side, at % side);
            row.min(column) == 0 || row.max(column) == side - 1
        };
        let border: Vec<_> = (0..side * side).filter(edge).collect();
        let mut colour = [0.0; 3];
        for &at in &border {
            for (sum, value) in colour.iter_mut().zip(pixels[at as usize]) {
                *sum += value / border.len() as f32;
            }
        }
        let contrast = pixels
            .iter()
            .map(|&pixel| apart(pixel, colour))
            .sum::<f64>();
        Self {
            side,
            contrast: contrast / pixels.len() as f64,
            pixels,
        }
    }

    /// The best match in a frame; of equal ones the nearest to `near`.
    pub fn find(&self, frame: &Frame, near: (f64, f64)) -> Sighting {
        let half = self.side as f64 / 2.0;
        let inside = |end: usize| -MARGIN..=(end as isize - self.side + MARGIN);
        let mut best = (f64::INFINITY, f64::INFINITY, near);
        for top in inside(frame.height) {
            for left in inside(frame.width) {
                let place = (left as f64 + half, top as f64 + half);
                let distance = (place.0 - near.0).hypot(place.1 - near.1);
                let Some(cost) = self.cost(frame, top, left, best.0) else {
                    continue;
                };
                if (cost, distance) < (best.0, best.1) {
                    best = (cost, distance, place);
                }
            }
        }
        Sighting {
            x: best.2.0,
            y: best.2.1,
            present: best.0 < PRESENT * self.contrast,
        }
    }

    /// Mean absolute difference at a place, unless it is more than `most`.
    fn cost(&self, frame: &Frame, top: isize, left: isize, most: f64) -> Option<f64> {
        let limit = most * self.pixels.len() as f64;
        let mut sum = 0.0;
        for (row, pixels) in self.pixels.chunks_exact(self.side as usize).enumerate() {
            for (column, &pixel) in pixels.iter().enumerate() {
                sum += apart(pixel, frame.at(top + row as isize, left + column as isize));
            }
            if sum > limit {
                return None;
            }
        }
        Some(sum / self.pixels.len() as f64)
    }
}

fn corner(x: f64, y: f64, side: isize) -> (isize, isize) {
    let half = side as f64 / 2.0;
    ((y - half).round() as isize, (x - half).round() as isize)
}

/// Mean absolute difference of two colours.
fn apart(a: [f32; 3], b: [f32; 3]) -> f64 {
    let sum: f32 = a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum();
    f64::from(sum / 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::tests::square;

    #[test]
    fn an_object_is_found_where_it_went_and_missed_where_it_is_gone() {
        let template = Template::new(&square(10, 12), 15.0, 13.0, 6);
        let found = template.find(&square(20, 3), (15.0, 13.0));
        assert_eq!((found.x, found.y, found.present), (6.0, 23.0, true));
        assert_eq!(found.distance(6.0, 26.0), 3.0);
        let mut empty = square(0, 0);
        empty.values.fill(0.0);
        assert!(!template.find(&empty, (15.0, 13.0)).present);
    }
}
