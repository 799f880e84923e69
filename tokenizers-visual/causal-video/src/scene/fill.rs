//! What is behind: the surroundings of a hole go on in it.

use super::Step;
use super::alike::{IN_HOLES, likenesses};
use super::grid::{Mask, Place, Raster, apart};

/// How far around a hole its surroundings count.
const RING: i32 = 2;
/// Copies that a hole is put together from at most.
const COPIES: usize = 12;
/// How far away a copy is looked for, in pixels in each direction.
const FARTHEST: i32 = 96;
/// The least share of a hole that a copy has to fill.
const SHARE: f32 = 0.05;
/// The least share of its surroundings that has to be compared.
const SEEN: f32 = 0.1;
/// What it costs to leave all of a hole open, in differences of its surroundings.
const OPEN: f32 = 0.03;

/// What differences within a copy cost: of several copies, the one with nothing in it.
const ROUGH: f32 = 0.3;

/// The frame with its holes filled: each by another part of the frame, as large as the hole itself, so that a pattern goes on in step. It is
/// the one whose surroundings are most alike (exemplars as in Criminisi et al. 2004, section 3), a step away after which the whole frame looks
/// most like itself (the offsets of He and Sun 2012, section 3). What that part does not have is filled in the same way, then.
///
/// `None` if there is nothing to take from.
pub fn filled(frame: &Raster, holes: &Mask) -> Option<Raster> {
    let mut known = Known {
        coded: frame.coded(),
        whole: frame.clone(),
        holes: holes.clone(),
        likenesses: Vec::new(),
    };
    let reach = (frame.height.max(frame.width) - 1).min(FARTHEST);
    known.likenesses = likenesses(&known.coded, holes, reach, IN_HOLES);
    for hole in holes.parts() {
        let mut left = hole;
        for _ in 0..COPIES {
            if left.is_empty() {
                break;
            }
            let Some((down, right)) = known.best_copy(&left) else {
                break;
            };
            // What was copied does not count before all is.
            let source = known.holes.clone();
            left.retain(|&place| {
                let from = (place.0 + down, place.1 + right);
                let has = frame.holds(from) && !source.at(from);
                if has {
                    known.copy(place, from);
                }
                !has
            });
        }
        for place in left {
            let nearest = frame.places().filter(|&at| !holes.at(at));
            let near = |at: &Place| (at.0 - place.0).pow(2) + (at.1 - place.1).pow(2);
            let nearest = nearest.min_by_key(near)?;
            known.copy(place, nearest);
        }
    }
    Some(known.whole)
}

/// What is known of what is behind.
struct Known {
    /// As frames are compared.
    coded: Raster,
    whole: Raster,
    /// Where nothing is known.
    holes: Mask,
    /// How much the frame looks like itself after each step, the most first.
    likenesses: Vec<(f32, Step)>,
}

impl Known {
    fn copy(&mut self, to: Place, from: Place) {
        self.whole.set(to, self.whole.at(from));
        self.coded.set(to, self.coded.at(from));
        self.holes.clear(to);
    }

    /// From how far below and right a hole is filled best.
    fn best_copy(&self, hole: &[Place]) -> Option<Step> {
        let inside = Mask::of(&self.whole, hole);
        let ring = inside.grown(RING).places().into_iter();
        let ring: Vec<Place> = ring.filter(|&at| !self.holes.at(at)).collect();
        let mut best: Option<(f32, Step)> = None;
        for &(unlike, step) in &self.likenesses {
            let most = best.map_or(f32::INFINITY, |(least, _)| least);
            if unlike >= most {
                break;
            }
            if let Some(cost) = self.cost(hole, &ring, step, most - unlike) {
                best = Some((cost + unlike, step));
            }
        }
        best.map(|(_, step)| step)
    }

    /// What a copy costs, if it is less than the most that it may.
    fn cost(&self, hole: &[Place], ring: &[Place], (down, right): Step, most: f32) -> Option<f32> {
        let known = |&(row, column): &Place| {
            let from = (row + down, column + right);
            self.coded.get(from).filter(|_| !self.holes.at(from))
        };
        let (mut sum, mut count) = (0.0, 0.0);
        for place in ring {
            if let Some(colour) = known(place) {
                sum += apart(colour, self.coded.at(*place));
                count += 1.0;
            }
            if sum > most * ring.len() as f32 {
                return None;
            }
        }
        if count < SEEN * ring.len() as f32 || count == 0.0 || sum / count > most {
            return None;
        }
        let (mut filled, mut rough) = (0.0, 0.0);
        for place in hole {
            let Some(colour) = known(place) else {
                continue;
            };
            filled += 1.0;
            let beside = known(&(place.0, place.1 + 1));
            rough += beside.map_or(0.0, |beside| apart(colour, beside));
        }
        let share = filled / hole.len() as f32;
        let cost = sum / count + OPEN * (1.0 - share) + ROUGH * rough / f32::max(filled, 1.0);
        (share >= SHARE && cost < most).then_some(cost)
    }
}
