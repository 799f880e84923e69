//! Where an object is: matching with what it looked like.

use super::Frame;

/// Pixels around an object that belong to its template.
const MARGIN: isize = 2;
/// An object is still there if it is matched better than this share of what a place without it would differ by.
const PRESENT: f64 = 0.5;

/// Angles at which an object that turns is looked for.
const ANGLES: usize = 24;

/// What an object looked like.
#[derive(Debug, Clone)]
pub struct Template {
    side: isize,
    /// The same square, turned in several ways; what does not count is absent.
    looks: Vec<Vec<Option<[f32; 3]>>>,
    /// Mean colour of the square's border.
    border: [f32; 3],
    /// Mean absolute difference to it of what counts.
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
        let look: Vec<_> = pixels.into_iter().map(Some).collect();
        Self {
            side,
            border: colour,
            contrast: contrast(&look, colour),
            looks: vec![look],
        }
    }

    /// The same for an object that turns around its middle: the disc in its square, at 24 angles.
    pub fn turning(self) -> Self {
        let middle = (self.side as f64 - 1.0) / 2.0;
        let square = &self.looks[0];
        let pixel = |row: f64, column: f64| {
            let inside = |at: f64| at.clamp(0.0, self.side as f64 - 1.0) as usize;
            square[inside(row) * self.side as usize + inside(column)].unwrap_or_default()
        };
        // Bilinear, between pixel centres.
        let sampled = |row: f64, column: f64| {
            let mut sum = [0.0f32; 3];
            for (down, right) in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)] {
                let (near_row, near_column) = (row.floor() + down, column.floor() + right);
                let weight = (1.0 - (row - near_row).abs()) * (1.0 - (column - near_column).abs());
                for (sum, value) in sum.iter_mut().zip(pixel(near_row, near_column)) {
                    *sum += weight as f32 * value;
                }
            }
            sum
        };
        let look = |at: usize| -> Vec<Option<[f32; 3]>> {
            let angle = at as f64 / ANGLES as f64 * std::f64::consts::TAU;
            let (sin, cos) = angle.sin_cos();
            let turned = |at: isize| {
                let down = (at / self.side) as f64 - middle;
                let right = (at % self.side) as f64 - middle;
                (down.hypot(right) <= middle).then(|| {
                    sampled(
                        middle + cos * down - sin * right,
                        middle + sin * down + cos * right,
                    )
                })
            };
            (0..self.side * self.side).map(turned).collect()
        };
        let looks: Vec<_> = (0..ANGLES).map(look).collect();
        Self {
            contrast: contrast(&looks[0], self.border),
            looks,
            ..self
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

    /// The least mean absolute difference of its looks at a place, unless it is more than `most`.
    fn cost(&self, frame: &Frame, top: isize, left: isize, most: f64) -> Option<f64> {
        let mut least = most;
        let mut found = None;
        for look in &self.looks {
            if let Some(cost) = self.cost_of(look, frame, (top, left), least) {
                least = cost;
                found = Some(cost);
            }
        }
        found
    }

    fn cost_of(
        &self,
        look: &[Option<[f32; 3]>],
        frame: &Frame,
        (top, left): (isize, isize),
        most: f64,
    ) -> Option<f64> {
        let counted = look.iter().flatten().count() as f64;
        let limit = most * counted;
        let mut sum = 0.0;
        for (row, pixels) in look.chunks_exact(self.side as usize).enumerate() {
            for (column, pixel) in pixels.iter().enumerate() {
                if let Some(pixel) = *pixel {
                    sum += apart(pixel, frame.at(top + row as isize, left + column as isize));
                }
            }
            if sum > limit {
                return None;
            }
        }
        Some(sum / counted)
    }
}

/// Mean absolute difference to a colour of what counts.
fn contrast(look: &[Option<[f32; 3]>], colour: [f32; 3]) -> f64 {
    let counted = look.iter().flatten();
    let sum: f64 = counted.clone().map(|&pixel| apart(pixel, colour)).sum();
    sum / counted.count() as f64
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

    #[test]
    fn an_object_that_turned_is_found_at_its_place() {
        let upright = square(10, 12);
        let mut turned = square(0, 0);
        turned.values.fill(0.0);
        // The square of the object around its middle (15, 13), a quarter turn on, around (20, 9).
        for down in -5..=4isize {
            for right in -5..=4isize {
                let rgb = upright.at(13 + down, 15 + right);
                turned.set((9 + right) as usize, (20 - 1 - down) as usize, rgb);
            }
        }
        let template = Template::new(&upright, 15.0, 13.0, 6);
        let found = template.clone().turning().find(&turned, (15.0, 13.0));
        assert_eq!((found.x, found.y, found.present), (20.0, 9.0, true));
        let still = template.turning().find(&upright, (15.0, 13.0));
        assert_eq!((still.x, still.y), (15.0, 13.0));
    }
}
