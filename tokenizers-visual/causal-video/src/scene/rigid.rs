//! How a group of pixels moved as a whole between two frames.

use super::Step;
use super::grid::{Mask, Place, Raster, apart, around};

/// Differences beyond this count no more: something else is in front there.
const MOST: f32 = 0.4;
/// What it counts that a pixel came from outside the frame.
const OUTSIDE: f32 = 0.2;
/// Turns are looked for where moving alone explains no better than this.
const TURN_IF: f32 = 0.05;
/// Turns that are tried, in either direction, radians per frame, and how far apart.
const MOST_TURN: f32 = 0.24;
const TURN_STEP: f32 = 0.04;
/// A turn has to explain so much more.
const TURN_WORTH: f32 = 0.8;
/// Half the side of the square in which a pixel's neighbours tell with it whether it belongs.
const AROUND: i32 = 1;
/// A pixel belongs if it is explained as well as this.
const BELONGS: f32 = 0.12;
/// What turns is between pixels, and by angles between those that are tried.
const BELONGS_TURNED: f32 = 0.25;
/// Fewest pixels by which a turn can be told.
const FEWEST: usize = 40;
/// Pixels that a motion is found by at most.
const SAMPLES: usize = 160;

/// A motion between two frames: it turns around a middle, clockwise in radians, and then moves.
#[derive(Debug, Clone, Copy)]
pub struct Rigid {
    pub step: Step,
    pub angle: f32,
    pub middle: (f32, f32),
    pub cost: f32,
}

impl Rigid {
    /// The motion that brought these places of `now` from `before`, up to `reach` pixels away in each direction. It may turn if it is said
    /// how many frames it took.
    pub fn found(
        before: &Raster,
        now: &Raster,
        places: &[Place],
        reach: i32,
        turns: Option<i32>,
    ) -> Self {
        let few = places.len() < FEWEST;
        let places = sampled(places);
        let best = |angle: f32| Self::best_step(before, now, &places, reach, angle);
        let still = best(0.0);
        let Some(frames) = turns.filter(|_| !few && still.cost >= TURN_IF) else {
            return still;
        };
        let turns = (MOST_TURN / TURN_STEP).round() as i32;
        let angles = (-turns..=turns).filter(|&turn| turn != 0);
        let turned = angles
            .map(|turn| best(turn as f32 * TURN_STEP * frames as f32))
            .min_by(|a, b| a.cost.total_cmp(&b.cost))
            .expect("some turn is tried");
        match turned.cost < TURN_WORTH * still.cost {
            true => turned,
            false => still,
        }
    }

    /// Whether some pixels came from `before` by this turn rather than by none.
    pub fn turns(before: &Raster, now: &Raster, places: &[Place], reach: i32, angle: f32) -> bool {
        let places = sampled(places);
        let cost = |angle: f32| Self::best_step(before, now, &places, reach, angle).cost;
        cost(angle) < cost(0.0)
    }

    fn best_step(before: &Raster, now: &Raster, places: &[Place], reach: i32, angle: f32) -> Self {
        let middle = middle_of(places);
        let steps =
            (-reach..=reach).flat_map(|down| (-reach..=reach).map(move |right| (down, right)));
        let rigid = |step: Step| Self {
            step,
            angle,
            middle,
            cost: 0.0,
        };
        let cost = |step: Step| {
            let moved = rigid(step);
            let sum: f32 = places
                .iter()
                .map(|&place| moved.difference(before, now, place))
                .sum();
            // Of nearly equal ones, the nearest.
            sum / places.len() as f32 + 1e-4 * (step.0.abs() + step.1.abs()) as f32
        };
        let costs = steps.map(|step| (cost(step), step));
        let (cost, step) = costs
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .expect("there is a step");
        Self {
            cost,
            ..rigid(step)
        }
    }

    /// Where a place came from.
    fn source(&self, (row, column): Place) -> (f32, f32) {
        let (row, column) = (row - self.step.0, column - self.step.1);
        if self.angle == 0.0 {
            return (row as f32, column as f32);
        }
        let (sin, cos) = self.angle.sin_cos();
        // The middle is where the places are now; before, it was a step away.
        let (middle_row, middle_column) = (
            self.middle.0 - self.step.0 as f32,
            self.middle.1 - self.step.1 as f32,
        );
        let (y, x) = (row as f32 - middle_row, column as f32 - middle_column);
        (
            middle_row + cos * y - sin * x,
            middle_column + sin * y + cos * x,
        )
    }

    /// How badly it explains a pixel. What came from outside is not explained, nor does it speak much against it.
    pub fn difference(&self, before: &Raster, now: &Raster, place: Place) -> f32 {
        let (row, column) = self.source(place);
        let from = (row.round() as i32, column.round() as i32);
        match before.get(from) {
            Some(colour) => apart(colour, now.at(place)).min(MOST),
            None => OUTSIDE,
        }
    }

    /// Which of these places it explains, their neighbours among them considered.
    pub fn explained(&self, before: &Raster, now: &Raster, places: &[Place]) -> Vec<bool> {
        let costs = self.near_costs(before, now, places);
        let belongs = match self.angle == 0.0 {
            true => BELONGS,
            false => BELONGS_TURNED,
        };
        costs.into_iter().map(|cost| cost < belongs).collect()
    }

    /// How badly it explains each place with its neighbours among them.
    pub fn near_costs(&self, before: &Raster, now: &Raster, places: &[Place]) -> Vec<f32> {
        let among = Mask::of(now, places);
        let mut costs = vec![0.0; (now.height * now.width) as usize];
        let index = |(row, column): Place| (row * now.width + column) as usize;
        for &place in places {
            costs[index(place)] = self.difference(before, now, place);
        }
        let mean = |&place: &Place| {
            let near = around(place, AROUND).filter(|&near| among.at(near));
            let (sum, count) = near.fold((0.0, 0.0), |(sum, count), near| {
                (sum + costs[index(near)], count + 1.0)
            });
            sum / count
        };
        places.iter().map(mean).collect()
    }
}

/// So many of them, evenly.
fn sampled(places: &[Place]) -> Vec<Place> {
    let every = places.len().div_ceil(SAMPLES).max(1);
    places.iter().copied().step_by(every).collect()
}

fn middle_of(places: &[Place]) -> (f32, f32) {
    let range = |of: fn(&Place) -> i32| {
        let values = || places.iter().map(of);
        (values().min().unwrap_or(0) + values().max().unwrap_or(0)) as f32 / 2.0
    };
    (range(|at| at.0), range(|at| at.1))
}
