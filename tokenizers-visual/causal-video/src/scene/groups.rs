//! Pixels that move as one.

use super::given::Given;
use super::grid::{Place, Raster, apart};
use super::rigid::Rigid;

/// Fewest pixels of a thing.
pub const SMALLEST: usize = 10;
/// The share of a group of pixels that one motion has to explain to be all of it.
const ALL: f32 = 0.85;
/// The same of a turn, which is told less exactly.
const ALL_TURNED: f32 = 0.5;
/// The share of them that a motion has to explain for none to be looked for in less time.
const MUCH: f32 = 0.4;
/// And the least share of all of them to be a part of it.
const PART: f32 = 0.12;
/// A thing has to be explained so much better by its own motion than by that of the background.
const OWN_MOTION: f32 = 0.8;
/// So much farther away, in pixels squared, is as near.
const NEAR: i32 = 4;
/// A motion explains a pixel clearly best if by so much.
const CLEARLY: f32 = 0.03;
/// How much farther away a pixel of quite another colour is.
const COLOUR: f32 = 20.0;
/// Pixels that are explained worse than this by their group's motion, and by that of the background to this share of it, are left to it.
const LEAVES: f32 = 0.05;
const LEAVES_FOR: f32 = 0.5;

/// Pixels of the last given frame that moved as one.
pub struct Group {
    pub places: Vec<Place>,
    pub motion: Rigid,
    /// The number of the given frame from which on it moved so.
    pub since: usize,
}

/// Given frames, where motions are looked for.
pub struct Seen<'a> {
    pub given: &'a [Given],
    /// The farthest that anything goes in one frame.
    pub reach: i32,
}

impl Seen<'_> {
    /// The things of a connected part, told apart by their motions (one after the other, as in sequential RANSAC: the motion that explains
    /// most of what is left takes what it explains).
    pub fn groups(&self, part: Vec<Place>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let least = PART * part.len() as f32;
        let mut left = part;
        while left.len() >= SMALLEST {
            let (motion, since) = self.motion(&left);
            let explained = motion.explained(self.at(since), self.now(), &left);
            let count = count(&explained) as f32;
            if count < least && !groups.is_empty() {
                break;
            }
            let enough = match motion.angle == 0.0 {
                true => ALL,
                false => ALL_TURNED,
            };
            let all = count < least || count >= enough * left.len() as f32;
            let (places, others) = split(left, |at| all || explained[at]);
            left = others;
            groups.push(Group {
                places,
                motion,
                since,
            });
        }
        for place in left {
            self.join_nearest(&mut groups, place);
        }
        if groups.len() > 1 {
            self.share_out(&mut groups);
        }
        for group in &mut groups {
            self.leave_background(group);
        }
        groups.retain(|group| group.places.len() >= SMALLEST && self.moves_itself(group));
        groups
    }

    /// Gives each pixel to the motion that explains it clearly best. One that several explain, as the inside of a plain thing, goes with the
    /// nearest of its colour that only one explains.
    fn share_out(&self, groups: &mut [Group]) {
        let places: Vec<Place> = groups
            .iter_mut()
            .flat_map(|group| group.places.drain(..))
            .collect();
        let costs: Vec<Vec<f32>> = groups
            .iter()
            .map(|group| {
                group
                    .motion
                    .near_costs(self.at(group.since), self.now(), &places)
            })
            .collect();
        let clear = |at: usize| -> Option<usize> {
            let mut order: Vec<usize> = (0..groups.len()).collect();
            order.sort_by(|&a, &b| costs[a][at].total_cmp(&costs[b][at]));
            (costs[order[1]][at] - costs[order[0]][at] > CLEARLY).then_some(order[0])
        };
        let owners: Vec<Option<usize>> = (0..places.len()).map(clear).collect();
        let colour = |place: Place| self.given[self.given.len() - 1].frame.at(place);
        for (at, &place) in places.iter().enumerate() {
            let far = |other: usize| {
                let (down, right) = (places[other].0 - place.0, places[other].1 - place.1);
                let alike = 1.0 + COLOUR * apart(colour(places[other]), colour(place));
                (down.pow(2) + right.pow(2)) as f32 * alike
            };
            let known = (0..places.len()).filter(|&other| owners[other].is_some());
            let nearest = || known.min_by(|&a, &b| far(a).total_cmp(&far(b)));
            let owner = owners[at].or_else(|| nearest().and_then(|other| owners[other]));
            groups[owner.unwrap_or(0)].places.push(place);
        }
    }

    /// Adds a pixel to the group that is nearest; of several that are near, to the one whose motion explains it best.
    fn join_nearest(&self, groups: &mut [Group], place: Place) {
        let far = |group: &Group| {
            let apart = |at: &Place| (at.0 - place.0).pow(2) + (at.1 - place.1).pow(2);
            group.places.iter().map(apart).min().unwrap_or(i32::MAX)
        };
        let distances: Vec<i32> = groups.iter().map(far).collect();
        let nearest = distances.iter().min().copied().unwrap_or_default();
        let near = groups.iter_mut().zip(distances);
        let near = near.filter(|(_, far)| *far <= nearest.saturating_add(NEAR));
        let cost = |group: &Group| {
            let before = self.at(group.since);
            group.motion.difference(before, self.now(), place)
        };
        if let Some((group, _)) = near.min_by(|(a, _), (b, _)| cost(a).total_cmp(&cost(b))) {
            group.places.push(place);
        }
    }

    /// Frames between a given one and the last.
    pub fn frames(&self, since: usize) -> i32 {
        (self.given.len() - 1 - since) as i32
    }

    /// How the background moved from a given frame to the last.
    pub fn went(&self, since: usize) -> (i32, i32) {
        let steps = self.given[since + 1..].iter().map(|given| given.went);
        steps.fold((0, 0), |sum, step| (sum.0 + step.0, sum.1 + step.1))
    }

    /// Where the pixels of a group were in a given frame, if it moved steadily and did not turn.
    pub fn were(&self, group: &Group, number: usize) -> Vec<Place> {
        let share = self.frames(number) as f32 / self.frames(group.since) as f32;
        let part = |whole: i32| (whole as f32 * share).round() as i32;
        let (down, right) = (part(group.motion.step.0), part(group.motion.step.1));
        let places = group.places.iter();
        places.map(|at| (at.0 - down, at.1 - right)).collect()
    }

    fn at(&self, number: usize) -> &Raster {
        &self.given[number].coded
    }

    fn now(&self) -> &Raster {
        self.at(self.given.len() - 1)
    }

    /// The motion that explains most of some pixels, and the given frame from which on it does: the first from which on they move by themselves
    /// and it explains much of them. The longer it takes, the better motions are told apart; but what is seen now may be hidden then.
    fn motion(&self, places: &[Place]) -> (Rigid, usize) {
        let mut best: Option<((bool, usize), Rigid, usize)> = None;
        for since in 0..self.given.len() - 1 {
            let before = self.at(since);
            let motion = self.steady(places, since);
            let own = motion.angle != 0.0 || motion.step != self.went(since);
            let count = count(&motion.explained(before, self.now(), places));
            if best.as_ref().is_none_or(|(most, ..)| (own, count) > *most) {
                best = Some(((own, count), motion, since));
            }
            if own && count as f32 >= MUCH * places.len() as f32 {
                break;
            }
        }
        let (_, motion, since) = best.expect("two given frames");
        (motion, since)
    }

    /// The motion that brought some pixels from a given frame. It is a turn if from the next frame on they turned as well, so much less.
    fn steady(&self, places: &[Place], since: usize) -> Rigid {
        let found = |since: usize, may_turn: bool| {
            let frames = self.frames(since);
            let turns = may_turn.then_some(frames);
            Rigid::found(
                self.at(since),
                self.now(),
                places,
                self.reach * frames,
                turns,
            )
        };
        let motion = found(since, true);
        let later = since + 1;
        if motion.angle == 0.0 || later == self.given.len() - 1 {
            return motion;
        }
        let frames = self.frames(later);
        let angle = motion.angle * frames as f32 / self.frames(since) as f32;
        let reach = self.reach * frames;
        match Rigid::turns(self.at(later), self.now(), places, reach, angle) {
            true => motion,
            false => found(since, false),
        }
    }

    /// The motion of the background in the time of a group's.
    fn behind(&self, group: &Group) -> Rigid {
        Rigid {
            step: self.went(group.since),
            angle: 0.0,
            ..group.motion
        }
    }

    /// Without the pixels that the motion of the background explains, since any of the frames of its own, and its own does not.
    fn leave_background(&self, group: &mut Group) {
        let own = group
            .motion
            .near_costs(self.at(group.since), self.now(), &group.places);
        let mut behind = vec![f32::INFINITY; own.len()];
        for since in group.since..self.given.len() - 1 {
            let motion = Rigid {
                step: self.went(since),
                angle: 0.0,
                ..group.motion
            };
            let costs = motion.near_costs(self.at(since), self.now(), &group.places);
            for (least, cost) in behind.iter_mut().zip(costs) {
                *least = least.min(cost);
            }
        }
        let stays = |at: usize| own[at] > LEAVES && behind[at] < LEAVES_FOR * own[at];
        let places = std::mem::take(&mut group.places);
        group.places = split(places, |at| !stays(at)).0;
    }

    /// Whether a group is more than a part of the background.
    fn moves_itself(&self, group: &Group) -> bool {
        let (before, now) = (self.at(group.since), self.now());
        let behind = self.behind(group);
        if group.motion.angle == 0.0 && group.motion.step == behind.step {
            return false;
        }
        let mean = |motion: &Rigid| {
            let places = group.places.iter();
            let sum: f32 = places.map(|&at| motion.difference(before, now, at)).sum();
            sum / group.places.len() as f32
        };
        mean(&group.motion) < OWN_MOTION * mean(&behind)
    }
}

fn count(explained: &[bool]) -> usize {
    explained.iter().filter(|one| **one).count()
}

fn split(places: Vec<Place>, goes: impl Fn(usize) -> bool) -> (Vec<Place>, Vec<Place>) {
    let (taken, left): (Vec<_>, Vec<_>) = places
        .into_iter()
        .enumerate()
        .partition(|(at, _)| goes(*at));
    let of = |pairs: Vec<(usize, Place)>| pairs.into_iter().map(|(_, place)| place).collect();
    (of(taken), of(left))
}
