//! Scenes that are painted, taken apart and moved on.

use burn::tensor::Tensor;
use ravel_testkit::{device, formula, values};

use super::grid::{Place, apart};
use super::*;

const SIZE: i32 = 48;
const SIDE: i32 = 8;
const REACH: i32 = 4;
const RED: [f32; 3] = [0.9, -0.6, -0.6];
const WHITE: [f32; 3] = [0.9, 0.9, 0.8];

/// Squares of six pixels in two blues.
fn checks((row, column): Place) -> [f32; 3] {
    match (row.div_euclid(6) + column.div_euclid(6)).rem_euclid(2) {
        0 => [-0.5, -0.3, 0.2],
        _ => [-0.7, -0.5, -0.1],
    }
}

fn plain(_: Place) -> [f32; 3] {
    [-0.5, -0.3, 0.2]
}

/// Something that moves steadily: a square with a stripe, or a disc.
#[derive(Clone, Copy)]
struct Painted {
    at: Place,
    step: Step,
    side: i32,
    colour: [f32; 3],
    disc: bool,
}

impl Painted {
    fn later(self, frames: i32) -> Self {
        Self {
            at: (
                self.at.0 + frames * self.step.0,
                self.at.1 + frames * self.step.1,
            ),
            ..self
        }
    }

    fn colour(&self, (row, column): Place) -> Option<[f32; 3]> {
        let (y, x) = (row - self.at.0, column - self.at.1);
        let inside = (0..self.side).contains(&y) && (0..self.side).contains(&x);
        let middle = self.side - 1;
        let round = (2 * y - middle).pow(2) + (2 * x - middle).pow(2) <= self.side.pow(2);
        let stripe = y == self.side / 2 && !self.disc;
        (inside && (round || !self.disc)).then_some(match stripe {
            true => [0.0; 3],
            false => self.colour,
        })
    }
}

/// A clip: what is behind goes by a step, later things are in front.
struct World {
    behind: fn(Place) -> [f32; 3],
    went: Step,
    things: Vec<Painted>,
}

impl World {
    fn frame(&self, number: i32) -> Raster {
        let mut frame = Raster::new(SIZE, SIZE);
        for (row, column) in frame.places() {
            let behind = (row - number * self.went.0, column - number * self.went.1);
            let things = self.things.iter().rev();
            let shown = things
                .map(|thing| thing.later(number))
                .find_map(|thing| thing.colour((row, column)));
            frame.set((row, column), shown.unwrap_or((self.behind)(behind)));
        }
        frame
    }

    /// What each cell shows most of, and how that came there.
    fn steps(&self, number: i32) -> Vec<Step> {
        let cells = SIZE / SIDE;
        let step = |cell: i32| {
            let (top, left) = (cell / cells * SIDE, cell % cells * SIDE);
            let inside = |thing: &&Painted| {
                let now = thing.later(number);
                let shows = |at: i32| now.colour((top + at / SIDE, left + at % SIDE)).is_some();
                (0..SIDE * SIDE).filter(|&at| shows(at)).count() >= 16
            };
            let thing = self.things.iter().rev().find(inside);
            thing.map_or(self.went, |thing| thing.step)
        };
        (0..cells * cells).map(step).collect()
    }

    fn cells(&self, number: i32) -> Cells {
        Cells {
            steps: self.steps(number),
            columns: (SIZE / SIDE) as usize,
            side: SIDE,
            reach: REACH,
            walls: false,
        }
    }

    fn given(&self, frames: i32) -> Vec<Given> {
        let mut given = vec![Given::first(self.frame(0), (SIZE / SIDE) as usize)];
        for number in 1..frames {
            let before = given.last().expect("a first frame");
            given.push(Given::after(before, self.frame(number), self.steps(number)));
        }
        given
    }

    fn scene(&self) -> Scene {
        found(&self.given(4), REACH).expect("a scene that can be told apart")
    }
}

fn square(at: Place, step: Step) -> Painted {
    Painted {
        at,
        step,
        side: 13,
        colour: RED,
        disc: false,
    }
}

fn disc(at: Place, step: Step) -> Painted {
    Painted {
        at,
        step,
        side: 14,
        colour: WHITE,
        disc: true,
    }
}

/// How many pixels differ clearly.
fn differences(a: &Raster, b: &Raster) -> usize {
    let differ = |&at: &Place| apart(a.at(at), b.at(at)) > 0.05;
    a.places().filter(differ).count()
}

#[test]
fn pixels_on_the_host_are_compared_as_motion_is_told() {
    let frame: Tensor<4> = formula([1, 3, 16, 24], 3, 1.0, &device());
    let raster = Raster::from_planes(&values(&frame), 16, 24);
    let coded: Vec<f32> = raster.coded().planes().collect();
    let told = values(&crate::motion::as_coded(frame));
    let far = coded.iter().zip(&told).map(|(a, b)| (a - b).abs());
    assert!(far.fold(0.0, f32::max) < 1e-5);
}

#[test]
fn things_and_what_is_behind_them_are_told_apart() {
    let world = World {
        behind: checks,
        went: (0, 0),
        things: vec![square((4, 3), (1, 2)), disc((28, 24), (-2, 1))],
    };
    let scene = world.scene();
    assert_eq!(scene.things.len(), 2);
    let steps: Vec<Step> = scene.things.iter().map(|thing| thing.step).collect();
    assert!(
        steps.contains(&(1, 2)) && steps.contains(&(-2, 1)),
        "{steps:?}"
    );
    // It shows the last given frame, and knows what was never seen: the pattern goes on in step.
    assert!(scene.shown() == world.frame(3));
    for place in world.frame(0).places() {
        assert_eq!(scene.background.at(place), Some(checks(place)), "{place:?}");
    }
}

#[test]
fn things_pass_one_another_and_stay_whole() {
    let world = World {
        behind: checks,
        went: (0, 0),
        things: vec![square((4, 3), (1, 1)), disc((4, 28), (1, -1))],
    };
    let mut scene = world.scene();
    for number in 4..24 {
        scene = scene.moved(&world.cells(number));
        let corners: Vec<Place> = (scene.things.iter())
            .map(|thing| (thing.corner.0 as i32, thing.corner.1 as i32))
            .collect();
        for thing in &world.things {
            let there = thing.later(number).at;
            assert!(
                corners.contains(&there),
                "frame {number}: {corners:?}, not {there:?}"
            );
        }
    }
    // Which of them is in front was never shown; beside that it is the true frame.
    let differ = differences(&scene.shown(), &world.frame(23));
    assert!(differ <= 13 * 14, "{differ}");
    assert_eq!(scene.things[0].look.iter().flatten().count(), 13 * 13);
}

#[test]
fn what_leaves_by_half_comes_back_whole() {
    let mut world = World {
        behind: plain,
        went: (0, 0),
        things: vec![square((16, 26), (0, 2))],
    };
    let mut scene = world.scene();
    for number in 4..9 {
        scene = scene.moved(&world.cells(number));
    }
    assert!(scene.shown() == world.frame(8));
    // Seven columns are left; it turns back.
    world.things[0] = Painted {
        at: (16, 42),
        step: (0, -2),
        ..world.things[0]
    };
    for number in 1..9 {
        scene = scene.moved(&world.cells(number));
    }
    assert!(scene.shown() == world.frame(8));
}

#[test]
fn between_walls_nothing_leaves() {
    let world = |column: i32, step: i32| World {
        behind: plain,
        went: (0, 0),
        things: vec![square((16, column), (0, step))],
    };
    let walled = |scene: &Scene, world: &World, number: i32| {
        scene.moved(&Cells {
            walls: true,
            ..world.cells(number)
        })
    };
    let out = world(26, 2);
    let mut scene = out.scene();
    for number in 4..24 {
        scene = walled(&scene, &out, number);
    }
    assert_eq!(scene.things[0].corner, (16.0, 35.0));
    let back = world(37, -2);
    for number in 1..6 {
        scene = walled(&scene, &back, number);
    }
    assert_eq!(scene.things[0].corner, (16.0, 25.0));
}

#[test]
fn cells_that_disagree_shear_nothing() {
    let world = World {
        behind: plain,
        went: (0, 0),
        things: vec![square((8, 8), (1, 1))],
    };
    let mut scene = world.scene();
    for number in 4..10 {
        let mut cells = world.cells(number);
        let shows = cells.steps.iter().position(|&step| step == (1, 1));
        cells.steps[shows.expect("a cell of the square")] = (-3, 4);
        scene = scene.moved(&cells);
    }
    assert!(scene.shown() == world.frame(9));
}

#[test]
fn a_pattern_that_scrolls_goes_on_beyond_what_was_seen() {
    let world = World {
        behind: checks,
        went: (1, -2),
        things: vec![square((16, 16), (0, 1))],
    };
    let mut scene = world.scene();
    for number in 4..20 {
        scene = scene.moved(&world.cells(number));
    }
    assert_eq!(differences(&scene.shown(), &world.frame(19)), 0);
}

#[test]
fn what_was_seen_of_a_background_is_there_when_it_comes_back() {
    /// Nothing in it looks like anything else.
    fn noise((row, column): Place) -> [f32; 3] {
        let mixed = (row as u32).wrapping_mul(2_654_435_761) ^ (column as u32).wrapping_mul(40_503);
        let mixed = mixed.wrapping_mul(0x9e37_79b1);
        [8, 16, 24].map(|shift| f32::from((mixed >> shift) as u8) / 128.0 - 1.0)
    }
    let world = World {
        behind: noise,
        went: (0, 3),
        things: Vec::new(),
    };
    let mut scene = world.scene();
    assert_eq!(scene.things.len(), 0);
    let go = |scene: &Scene, step: Step| {
        let mut cells = world.cells(0);
        cells.steps.fill(step);
        scene.moved(&cells)
    };
    for _ in 0..9 {
        scene = go(&scene, (0, 3));
    }
    assert!(differences(&scene.shown(), &world.frame(3)) > 1000);
    for _ in 0..9 {
        scene = go(&scene, (0, -3));
    }
    assert!(scene.shown() == world.frame(3));
}

#[test]
fn what_turns_goes_on_turning() {
    let turn = 0.12_f32;
    /// A plank of two colours around the middle of the frame.
    fn plank(angle: f32) -> Raster {
        let mut frame = Raster::new(SIZE, SIZE);
        let (sin, cos) = angle.sin_cos();
        for (row, column) in frame.places() {
            let (y, x) = (row as f32 - 23.5, column as f32 - 23.5);
            let (v, u) = (cos * y - sin * x, sin * y + cos * x);
            let colour = match (v.abs() < 5.0 && u.abs() < 12.0, u > 0.0) {
                (true, true) => RED,
                (true, false) => WHITE,
                _ => plain((row, column)),
            };
            frame.set((row, column), colour);
        }
        frame
    }
    /// What each cell around the middle does: its own part of the turn.
    fn steps(turn: f32) -> Vec<Step> {
        let cells = SIZE / SIDE;
        let step = |cell: i32| {
            let middle = |at: i32| (at * SIDE) as f32 + 3.5 - 23.5;
            let (y, x) = (middle(cell / cells), middle(cell % cells));
            match y.abs().max(x.abs()) < 16.0 {
                true => ((turn * x).round() as i32, (-turn * y).round() as i32),
                false => (0, 0),
            }
        };
        (0..cells * cells).map(step).collect()
    }
    let mut given = vec![Given::first(plank(0.0), (SIZE / SIDE) as usize)];
    for number in 1..4 {
        let frame = plank(turn * number as f32);
        let before = given.last().expect("a first frame");
        given.push(Given::after(before, frame, steps(turn)));
    }
    let mut scene = found(&given, REACH).expect("a scene that can be told apart");
    assert_eq!(scene.things.len(), 1);
    assert!(scene.things[0].turns);
    for _ in 0..8 {
        scene = scene.moved(&Cells {
            steps: steps(turn),
            columns: (SIZE / SIDE) as usize,
            side: SIDE,
            reach: REACH,
            walls: false,
        });
    }
    let thing = &scene.things[0];
    assert!((thing.turning - turn).abs() < 0.05, "{}", thing.turning);
    let (shown, copied) = (
        differences(&scene.shown(), &plank(11.0 * turn)),
        differences(&plank(3.0 * turn), &plank(11.0 * turn)),
    );
    assert!(
        shown < copied / 2,
        "{shown} pixels differ, {copied} if it had stopped"
    );
}

#[test]
fn hidden_parts_are_known_from_when_they_were_seen() {
    let world = World {
        behind: plain,
        went: (0, 0),
        things: vec![square((16, 10), (0, 0)), disc((16, 34), (0, -4))],
    };
    // The square moves by one column; in the last frame the disc hides some of it.
    let mut world = world;
    world.things[0].step = (0, 1);
    let mut scene = world.scene();
    let square = |scene: &Scene| {
        let things = scene.things.iter();
        let count = |thing: &Thing| {
            thing
                .look
                .iter()
                .flatten()
                .filter(|&&at| at != WHITE)
                .count()
        };
        things.map(count).max()
    };
    assert_eq!(square(&scene), Some(13 * 13));
    for number in 4..10 {
        scene = scene.moved(&world.cells(number));
    }
    assert_eq!(differences(&scene.shown(), &world.frame(9)), 0);
}

#[test]
fn where_there_is_no_telling_nothing_is_taken_apart() {
    let world = World {
        behind: plain,
        went: (0, 0),
        things: vec![square((8, 8), (1, 1))],
    };
    assert!(found(&world.given(1), REACH).is_none());
    // Every frame is another noise.
    let noise = |salt: u32| {
        let mut frame = Raster::new(SIZE, SIZE);
        for (row, column) in frame.places() {
            let mixed = (row as u32 * 48 + column as u32 + salt).wrapping_mul(2_654_435_761);
            frame.set(
                (row, column),
                [f32::from((mixed >> 24) as u8) / 128.0 - 1.0; 3],
            );
        }
        frame
    };
    let mut given = vec![Given::first(noise(0), 6)];
    for salt in 1..4 {
        let before = given.last().expect("a first frame");
        given.push(Given::after(before, noise(salt * 7919), vec![(0, 0); 36]));
    }
    assert!(found(&given, REACH).is_none());
}

#[test]
fn what_stands_still_is_not_copied_behind_what_moves() {
    let world = World {
        behind: plain,
        went: (0, 0),
        things: vec![disc((6, 30), (0, 0)), square((24, 4), (0, 2))],
    };
    let mut scene = world.scene();
    assert_eq!(scene.things.len(), 1);
    for number in 4..10 {
        scene = scene.moved(&world.cells(number));
    }
    assert!(scene.shown() == world.frame(9));
}

#[test]
fn plain_things_that_touch_are_not_torn() {
    let world = World {
        behind: plain,
        went: (0, 0),
        things: vec![square((16, 4), (0, 2)), disc((16, 29), (0, -2))],
    };
    let mut scene = world.scene();
    let whole = |scene: &Scene| {
        let sizes = scene.things.iter();
        let mut sizes: Vec<usize> = sizes
            .map(|thing| thing.look.iter().flatten().count())
            .collect();
        sizes.sort_unstable();
        sizes
    };
    let round = (0..14 * 14).filter(|at| disc((0, 0), (0, 0)).colour((at / 14, at % 14)).is_some());
    assert_eq!(whole(&scene), [round.count(), 13 * 13]);
    for number in 4..16 {
        scene = scene.moved(&world.cells(number));
    }
    let corners: Vec<(f32, f32)> = scene.things.iter().map(|thing| thing.corner).collect();
    assert!(
        corners.contains(&(16.0, 34.0)) && corners.contains(&(16.0, -1.0)),
        "{corners:?}"
    );
}

#[test]
fn what_stands_still_has_no_things() {
    let world = World {
        behind: checks,
        went: (0, 0),
        things: vec![square((8, 8), (0, 0))],
    };
    let scene = world.scene();
    assert_eq!(scene.things.len(), 0);
    assert!(scene.moved(&world.cells(4)).shown() == world.frame(0));
}
