//! Pixels that move as one.

use super::given::Given;
use super::grid::{Place, Raster};
use super::rigid::Rigid;

/// Fewest pixels of a thing.
pub const SMALLEST: usize = 10;
/// The share of a group of pixels that one motion has to explain to be all of it.
const ALL: f32 = 0.85;
/// The share of them that a motion has to explain for none to be looked for in less time.
const MUCH: f32 = 0.4;
/// And the least share of all of them to be a part of it.
const PART: f32 = 0.12;
/// A thing has to be explained so much better by its own motion than by that of the background.
const OWN_MOTION: f32 = 0.8;
/// So much farther away, in pixels squared, is as near.
const NEAR: i32 = 4;
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
            let all = count < least || count >= ALL * left.len() as f32;
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
        for group in &mut groups {
            self.leave_background(group);
        }
        groups.retain(|group| group.places.len() >= SMALLEST && self.moves_itself(group));
        groups
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
            let frames = self.frames(since);
            let before = self.at(since);
            let motion = Rigid::found(before, self.now(), places, self.reach * frames, frames);
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

    /// The motion of the background in the time of a group's.
    fn behind(&self, group: &Group) -> Rigid {
        Rigid {
            step: self.went(group.since),
            angle: 0.0,
            ..group.motion
        }
    }

    /// Without the pixels that the motion of the background explains and its own does not.
    fn leave_background(&self, group: &mut Group) {
        let (before, now) = (self.at(group.since), self.now());
        let behind = self.behind(group).near_costs(before, now, &group.places);
        let own = group.motion.near_costs(before, now, &group.places);
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
