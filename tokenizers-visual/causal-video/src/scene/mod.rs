//! A background and the things before it: what a clip shows, kept apart.
//!
//! Where each frame is only the one before with its cells moved, cells of one thing that disagree shear it, things that meet tear each other, and
//! what was lost never comes back. So the given frames are taken apart first: into a background, which goes on behind things, and things,
//! which move and turn as a whole (the layers of Wang and Adelson 1994, section 3). Codes then only say how each of them moves: every cell that
//! shows something of a thing has a vote, as large as what it shows.

mod alike;
mod fill;
mod find;
mod given;
mod grid;
mod groups;
mod open;
mod rigid;
#[cfg(test)]
mod tests;
mod vote;

pub use find::found;
pub use given::Given;
pub use grid::Raster;
pub use vote::Cells;

use grid::{Place, apart};

/// How far something moves down and to the right in one frame, in pixels.
type Step = (i32, i32);

/// What is kept of the background around the frame, in pixels on each side.
const MARGIN: i32 = 32;

/// Colours that are so far apart are others.
const OTHER: f32 = 0.1;

/// What is behind, in and around the frame.
#[derive(Debug, Clone)]
struct Background {
    /// `MARGIN` more than the frame on each side; none where it was never seen.
    pixels: Vec<Option<[f32; 3]>>,
    height: i32,
    width: i32,
    /// Where else it looks alike, the best in each direction: how what enters the frame goes on.
    alike: Vec<Step>,
}

/// Something that moves as a whole.
#[derive(Debug, Clone)]
struct Thing {
    /// What it looks like, unturned; none where it is not.
    look: Vec<Option<[f32; 3]>>,
    height: i32,
    width: i32,
    /// Its upper left corner in the frame, unturned; on whole pixels unless it turns.
    corner: (f32, f32),
    /// Its last step, and that of what turns between whole pixels.
    step: Step,
    drift: (f32, f32),
    /// Whether it was seen to turn.
    turns: bool,
    /// How far it is turned clockwise, and by how much more in each frame, radians.
    angle: f32,
    turning: f32,
}

/// A background and the things before it.
#[derive(Debug, Clone)]
pub struct Scene {
    height: i32,
    width: i32,
    background: Background,
    /// Later ones are in front.
    things: Vec<Thing>,
}

impl Scene {
    /// What it shows.
    pub fn shown(&self) -> Raster {
        let mut frame = Raster::new(self.height, self.width);
        for row in 0..self.height {
            for column in 0..self.width {
                let behind = self.background.at((row, column));
                frame.set((row, column), behind.unwrap_or_default());
            }
        }
        for thing in &self.things {
            thing.draw(&mut frame);
        }
        frame
    }
}

impl Background {
    fn new(frame: &Raster, alike: Vec<Step>) -> Self {
        let (height, width) = (frame.height, frame.width);
        let size = (height + 2 * MARGIN) * (width + 2 * MARGIN);
        let mut background = Self {
            pixels: vec![None; size as usize],
            height,
            width,
            alike,
        };
        for place in frame.places() {
            let at = background.index(place).expect("a place of the frame");
            background.pixels[at] = Some(frame.at(place));
        }
        background
    }

    fn index(&self, (row, column): Place) -> Option<usize> {
        let (row, column) = (row + MARGIN, column + MARGIN);
        let (height, width) = (self.height + 2 * MARGIN, self.width + 2 * MARGIN);
        let inside = (0..height).contains(&row) && (0..width).contains(&column);
        inside.then_some((row * width + column) as usize)
    }

    fn at(&self, place: Place) -> Option<[f32; 3]> {
        self.index(place).and_then(|at| self.pixels[at])
    }

    /// Moved; what comes into the frame and was never seen goes on as it looks elsewhere, or else as the border.
    fn moved(&self, (down, right): Step) -> Self {
        let mut moved = Self {
            pixels: vec![None; self.pixels.len()],
            alike: self.alike.clone(),
            ..*self
        };
        for (row, column) in self.places(MARGIN) {
            let at = moved.index((row, column)).expect("inside the margin");
            moved.pixels[at] = self.at((row - down, column - right));
        }
        for (row, column) in self.places(0) {
            let at = moved.index((row, column)).expect("inside the margin");
            if moved.pixels[at].is_none() {
                moved.pixels[at] = self.beyond((row - down, column - right));
            }
        }
        moved
    }

    /// Places of the frame and so many around it, row by row.
    fn places(&self, margin: i32) -> impl Iterator<Item = Place> + use<> {
        let (rows, columns) = (-margin..self.height + margin, -margin..self.width + margin);
        rows.flat_map(move |row| columns.clone().map(move |column| (row, column)))
    }

    /// How it goes on at a place that was never seen. Where it looks alike in several places, it is what most of these agree in: in one of
    /// them something else may be in front.
    fn beyond(&self, (row, column): Place) -> Option<[f32; 3]> {
        let inside = |&(row, column): &Place| {
            (0..self.height).contains(&row) && (0..self.width).contains(&column)
        };
        let places = self.alike.iter().map(|by| (row + by.0, column + by.1));
        let colours: Vec<[f32; 3]> = places.filter(inside).filter_map(|at| self.at(at)).collect();
        let disagrees = |colour: [f32; 3]| -> f32 {
            let others = colours.iter();
            others.map(|&other| apart(colour, other).min(OTHER)).sum()
        };
        let border = (
            row.clamp(0, self.height - 1),
            column.clamp(0, self.width - 1),
        );
        let agreed = colours
            .iter()
            .copied()
            .min_by(|&a, &b| disagrees(a).total_cmp(&disagrees(b)));
        agreed.or_else(|| self.at(border))
    }
}

impl Thing {
    /// The look at a place that is counted from its corner, unturned.
    fn look_at(&self, (row, column): Place) -> Option<[f32; 3]> {
        let inside = (0..self.height).contains(&row) && (0..self.width).contains(&column);
        inside
            .then(|| self.look[(row * self.width + column) as usize])
            .flatten()
    }

    /// Where it turns around, from its corner.
    fn middle(&self) -> (f32, f32) {
        (
            (self.height - 1) as f32 / 2.0,
            (self.width - 1) as f32 / 2.0,
        )
    }

    /// Its colour at a place of the frame, and how much of the place it covers.
    fn covers(&self, (row, column): Place) -> Option<([f32; 3], f32)> {
        let (y, x) = (row as f32 - self.corner.0, column as f32 - self.corner.1);
        if !self.turns {
            let look = self.look_at((y as i32, x as i32));
            return look.map(|colour| (colour, 1.0));
        }
        let (middle_row, middle_column) = self.middle();
        let (sin, cos) = self.angle.sin_cos();
        let (y, x) = (y - middle_row, x - middle_column);
        let (row, column) = (
            middle_row + cos * y - sin * x,
            middle_column + sin * y + cos * x,
        );
        let (top, left) = (row.floor(), column.floor());
        let mut sum = [0.0; 3];
        let mut covered = 0.0;
        for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let share = (1.0 - (row - top - down as f32).abs())
                * (1.0 - (column - left - right as f32).abs());
            let place = (top as i32 + down, left as i32 + right);
            if let Some(colour) = self.look_at(place) {
                covered += share;
                for (sum, value) in sum.iter_mut().zip(colour) {
                    *sum += share * value;
                }
            }
        }
        (covered > 0.0).then(|| (sum.map(|value| value / covered), covered))
    }

    /// Whether it covers more than half of a place.
    fn fills(&self, place: Place) -> bool {
        self.covers(place).is_some_and(|(_, covered)| covered > 0.5)
    }

    /// Rows and columns of the frame that it may cover.
    fn extent(&self) -> (std::ops::Range<i32>, std::ops::Range<i32>) {
        let margin = match self.turns {
            false => 0,
            // A square that is turned is longer by its diagonal.
            true => self.height.max(self.width) / 2 + 1,
        };
        let (row, column) = (self.corner.0.floor() as i32, self.corner.1.floor() as i32);
        (
            row - margin..row + self.height + margin,
            column - margin..column + self.width + margin,
        )
    }

    fn draw(&self, frame: &mut Raster) {
        let (rows, columns) = self.extent();
        for row in rows.start.max(0)..rows.end.min(frame.height) {
            for column in columns.start.max(0)..columns.end.min(frame.width) {
                let Some((colour, covered)) = self.covers((row, column)) else {
                    continue;
                };
                let behind = frame.at((row, column));
                let mixed = |at: usize| behind[at] + (colour[at] - behind[at]) * covered;
                let shown = match covered < 1.0 {
                    true => std::array::from_fn(mixed),
                    false => colour,
                };
                frame.set((row, column), shown);
            }
        }
    }
}
