//! How codes move a scene.

use super::given::most_frequent;
use super::grid::{Mask, Place, around};
use super::{Scene, Step, Thing};

/// How much a code counts that says a pixel more or less.
const NEARLY: f32 = 0.4;
/// What it counts to go on as before, and nearly as before, as shares of the pixels.
const HABIT: f32 = 0.08;
const NEAR_HABIT: f32 = 0.1;
/// How much a cell counts that says what another thing was going to do, or the background.
const THEIRS: f32 = 0.05;
/// Fewest pixels by which a thing has a say; hidden ones go on as they went.
const SHOWN: usize = 8;
/// The share of a cell that a thing has to cover for the cell to have a say in whether it goes with the background.
const MUCH: f32 = 0.4;
/// The share of a cell that the background has to show to have a say there.
const BEHIND: f32 = 0.75;
/// So many cells that nothing is near are enough.
const ALONE: usize = 6;
/// How much of a new turn is believed: turns change slowly, and cells tell them roughly.
const LEARNS: f32 = 0.1;
/// The fastest turn.
const FASTEST: f32 = 0.3;

/// How far each cell moves, as the codes say.
pub struct Cells {
    pub steps: Vec<Step>,
    pub columns: usize,
    /// Pixels a side.
    pub side: i32,
    pub reach: i32,
    /// Whether no thing goes beyond the edges of the frame.
    pub walls: bool,
}

impl Cells {
    /// Pixels of a cell that are much of it.
    fn much(&self) -> usize {
        (MUCH * (self.side * self.side) as f32) as usize
    }

    /// The number of the cell that a place is in.
    fn number(&self, (row, column): Place) -> Option<usize> {
        let (row, column) = (row.div_euclid(self.side), column.div_euclid(self.side));
        let rows = (self.steps.len() / self.columns) as i32;
        let inside = (0..rows).contains(&row) && (0..self.columns as i32).contains(&column);
        inside.then_some(row as usize * self.columns + column as usize)
    }
}

impl Scene {
    /// One frame on.
    pub fn moved(&self, cells: &Cells) -> Self {
        let owners = self.owners();
        let behind = self.background_step(cells, &owners);
        let mut shown = vec![Vec::new(); self.things.len()];
        for (at, owner) in owners.iter().enumerate() {
            if let Some(number) = owner {
                shown[*number].push((at as i32 / self.width, at as i32 % self.width));
            }
        }
        let covered: Vec<Vec<usize>> = (self.things.iter())
            .map(|thing| thing.covered(cells))
            .collect();
        let things = self.things.iter().zip(&shown).enumerate();
        let things = things.map(|(number, (thing, shown))| {
            let votes = Votes {
                cells,
                weights: self.weights(number, &covered, cells, behind),
                shown,
            };
            let moved = match thing.turns {
                true => thing.turned(&votes, behind),
                false => thing.moved(&votes),
            };
            match cells.walls {
                true => moved.between_walls(self.height, self.width),
                false => moved,
            }
        });
        Self {
            background: self.background.moved(behind),
            things: things.collect(),
            ..*self
        }
    }

    /// How much each cell counts for a thing, where each thing would cover so many pixels of it going on as before.
    fn weights(
        &self,
        number: usize,
        covered: &[Vec<usize>],
        cells: &Cells,
        behind: Step,
    ) -> Vec<f32> {
        let much = cells.much();
        let large = covered[number].iter().any(|&pixels| pixels >= much);
        let expects = |number: usize, cell: usize| {
            let near = apart(cells.steps[cell], self.things[number].step) <= 1;
            near && covered[number][cell] >= SHOWN
        };
        // What says what others were going to do is theirs.
        let theirs = |cell: usize| {
            let mut others = (0..self.things.len()).filter(|&other| other != number);
            !expects(number, cell) && others.any(|other| expects(other, cell))
        };
        // What is behind has a say where it shows most.
        let behinds = |cell: usize| {
            let says = cells.steps[cell] == behind && self.things[number].step != behind;
            says && large && covered[number][cell] < much
        };
        (0..cells.steps.len())
            .map(|cell| match theirs(cell) || behinds(cell) {
                true => THEIRS,
                false => 1.0,
            })
            .collect()
    }

    /// Which thing each pixel shows.
    fn owners(&self) -> Vec<Option<usize>> {
        let mut owners = vec![None; (self.height * self.width) as usize];
        for (number, thing) in self.things.iter().enumerate() {
            let (rows, columns) = thing.extent();
            for row in rows.start.max(0)..rows.end.min(self.height) {
                for column in columns.start.max(0)..columns.end.min(self.width) {
                    if thing.fills((row, column)) {
                        owners[(row * self.width + column) as usize] = Some(number);
                    }
                }
            }
        }
        owners
    }

    /// What most cells say that show it, those that nothing is near before others.
    fn background_step(&self, cells: &Cells, owners: &[Option<usize>]) -> Step {
        let pixels = (cells.side * cells.side) as usize;
        let mut shares = vec![0; cells.steps.len()];
        for (at, owner) in owners.iter().enumerate() {
            let (row, column) = (at as i32 / self.width, at as i32 % self.width);
            let cell = (row / cells.side) as usize * cells.columns + (column / cells.side) as usize;
            shares[cell] += usize::from(owner.is_none());
        }
        let rows = (cells.steps.len() / cells.columns) as i32;
        let shows = Mask::new(rows, cells.columns as i32, |(row, column)| {
            shares[row as usize * cells.columns + column as usize] as f32 >= BEHIND * pixels as f32
        });
        let alone = Mask::new(rows, cells.columns as i32, |place| {
            !around(place, 1).any(|(row, column)| {
                let inside =
                    (0..rows).contains(&row) && (0..cells.columns as i32).contains(&column);
                inside && shares[row as usize * cells.columns + column as usize] < pixels
            })
        });
        let have_a_say = match alone.count() >= ALONE {
            true => alone,
            false => shows,
        };
        let say = cells.steps.iter().zip(&have_a_say.on);
        most_frequent(say.filter(|(_, has)| **has).map(|(step, _)| *step))
    }
}

/// What cells say of the pixels of a thing.
struct Votes<'a> {
    cells: &'a Cells,
    /// How much each cell counts.
    weights: Vec<f32>,
    shown: &'a [Place],
}

impl Votes<'_> {
    /// What the cell says that a pixel would come to, and how much it counts.
    fn at(&self, (row, column): Place, (down, right): Step) -> Option<(Step, f32)> {
        let cell = self.cells.number((row + down, column + right))?;
        Some((self.cells.steps[cell], self.weights[cell]))
    }
}

/// What a cell says of a pixel of a thing.
struct Said {
    /// The pixel, from the middle of the thing.
    from: (f32, f32),
    step: Step,
    weight: f32,
}

impl Thing {
    /// Pixels that it would cover of each cell, going on as before.
    fn covered(&self, cells: &Cells) -> Vec<usize> {
        let mut counts = vec![0; cells.steps.len()];
        let (rows, columns) = self.extent();
        for row in rows {
            for column in columns.clone() {
                let to = (row + self.step.0, column + self.step.1);
                if let (true, Some(cell)) = (self.fills((row, column)), cells.number(to)) {
                    counts[cell] += 1;
                }
            }
        }
        counts
    }

    /// One frame on, by what the cells say where it would come to.
    fn moved(&self, votes: &Votes<'_>) -> Self {
        let mut best = (f32::NEG_INFINITY, self.step);
        if votes.shown.len() >= SHOWN {
            for step in self.candidates(votes) {
                let sum: f32 = votes.shown.iter().map(|&at| vote(votes, at, step)).sum();
                let habit = match apart(step, self.step) {
                    0 => HABIT + NEAR_HABIT,
                    1 => NEAR_HABIT,
                    _ => 0.0,
                };
                let score = sum + habit * votes.shown.len() as f32;
                if score > best.0 {
                    best = (score, step);
                }
            }
        }
        let (_, step) = best;
        Self {
            look: self.look.clone(),
            corner: (self.corner.0 + step.0 as f32, self.corner.1 + step.1 as f32),
            step,
            ..*self
        }
    }

    /// Steps that cells around it speak of, in order.
    fn candidates(&self, votes: &Votes<'_>) -> Vec<Step> {
        let reach = votes.cells.reach;
        let corners = [(-1, -1), (-1, 1), (1, -1), (1, 1), (0, 0)];
        let mut steps: Vec<Step> = votes
            .shown
            .iter()
            .flat_map(|&place| corners.map(|(down, right)| (place, (reach * down, reach * right))))
            .filter_map(|(place, step)| votes.at(place, step))
            .map(|(step, _)| step)
            .collect();
        steps.push(self.step);
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// One frame on for what turns: the motion that is nearest to what all cells say of it, each of its own part.
    fn turned(&self, votes: &Votes<'_>, behind: Step) -> Self {
        let (middle_row, middle_column) = self.middle();
        let middle = (self.corner.0 + middle_row, self.corner.1 + middle_column);
        let mut said: Vec<Said> = votes
            .shown
            .iter()
            .filter_map(|&place| {
                let (step, weight) = votes.at(place, self.step)?;
                let from = (place.0 as f32 - middle.0, place.1 as f32 - middle.1);
                Some(Said { from, step, weight })
            })
            .collect();
        // Cells that hold little of it say what is behind; if most do, it goes with that.
        let moving = said.iter().filter(|one| one.step != behind).count();
        if 2 * moving >= said.len() {
            said.retain(|one| one.step != behind);
        }
        let total: f32 = said.iter().map(|one| one.weight).sum();
        let (mut drift, mut turning) = (self.drift, self.turning);
        if votes.shown.len() >= SHOWN && total > 0.0 {
            let mean = |of: &dyn Fn(&Said) -> f32| {
                said.iter().map(|one| one.weight * of(one)).sum::<f32>() / total
            };
            let (y, x) = (mean(&|one| one.from.0), mean(&|one| one.from.1));
            let (down, right) = (
                mean(&|one| one.step.0 as f32),
                mean(&|one| one.step.1 as f32),
            );
            // Clockwise: what is on the right goes down, what is below goes left.
            let along = mean(&|one| {
                (one.from.1 - x) * (one.step.0 as f32 - down)
                    - (one.from.0 - y) * (one.step.1 as f32 - right)
            });
            let spread = mean(&|one| (one.from.0 - y).powi(2) + (one.from.1 - x).powi(2));
            turning += LEARNS * (along / spread.max(1.0) - turning);
            turning = turning.clamp(-FASTEST, FASTEST);
            // Where its middle goes, though the cells may be on one side of it.
            drift = (down - turning * x, right + turning * y);
        }
        Self {
            look: self.look.clone(),
            corner: (self.corner.0 + drift.0, self.corner.1 + drift.1),
            step: (drift.0.round() as i32, drift.1.round() as i32),
            drift,
            turning,
            angle: self.angle + turning,
            ..*self
        }
    }
}

impl Thing {
    /// Not beyond the edges of the frame: its step ended there. What is larger than the frame stays at the upper and the left one.
    fn between_walls(self, height: i32, width: i32) -> Self {
        let (tall, wide) = self.reaches();
        let within = |corner: f32, own: i32, reaches: f32, room: i32| {
            let margin = (own as f32 - reaches) / 2.0;
            (corner + margin).clamp(0.0, (room as f32 - reaches).max(0.0)) - margin
        };
        let corner = (
            within(self.corner.0, self.height, tall, height),
            within(self.corner.1, self.width, wide, width),
        );
        let back = (corner.0 - self.corner.0, corner.1 - self.corner.1);
        let drift = (self.drift.0 + back.0, self.drift.1 + back.1);
        Self {
            corner,
            step: (
                self.step.0 + back.0.round() as i32,
                self.step.1 + back.1.round() as i32,
            ),
            drift,
            ..self
        }
    }

    /// How high and how wide it is: if it turns, as a disc of as many pixels.
    fn reaches(&self) -> (f32, f32) {
        if !self.turns {
            return (self.height as f32, self.width as f32);
        }
        let pixels = self.look.iter().flatten().count() as f32;
        let across = 2.0 * (pixels / std::f32::consts::PI).sqrt();
        (across, across)
    }
}

/// How well a step agrees with what the cell says that a pixel would come to.
fn vote(votes: &Votes<'_>, place: Place, step: Step) -> f32 {
    match votes.at(place, step) {
        Some((said, weight)) => match apart(said, step) {
            0 => weight,
            1 => NEARLY * weight,
            _ => 0.0,
        },
        None => 0.0,
    }
}

/// Pixels between two steps, in the direction in which it is more.
fn apart(a: Step, b: Step) -> i32 {
    (a.0 - b.0).abs().max((a.1 - b.1).abs())
}
