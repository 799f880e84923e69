//! Taking given frames apart.

use super::alike::alike;
use super::fill::filled;
use super::given::Given;
use super::grid::{Mask, Place, Raster, apart};
use super::groups::{Group, SMALLEST, Seen};
use super::open::{DIFFERS, differing, open_places};
use super::{Background, Scene, Thing};

/// The largest share of a frame that may be open, and that things may be, for there to be a background.
const MOST_OPEN: f32 = 0.8;
const MOST_THINGS: f32 = 0.5;
/// The largest share of the difference between the first and the last given frame that motions may leave unexplained.
const RECALLS: f32 = 0.75;
/// How far from what is seen of a thing it may go on hidden, in pixels.
const NEAR: i32 = 12;

/// What the last of some given frames shows, told by how it came about.
///
/// `None` if there is no telling: a single frame, or one in which nearly everything moves in its own way.
pub fn found(given: &[Given], reach: i32) -> Option<Scene> {
    let (last, earlier) = given.split_last()?;
    if earlier.is_empty() {
        return None;
    }
    let frame = &last.frame;
    let open = open_places(given);
    if open.share() > MOST_OPEN {
        return None;
    }
    let behind = filled(frame, &open)?;
    let differs = differing(last, &behind, &open);
    let seen = Seen { given, reach };
    let groups: Vec<Group> = differs
        .grown(1)
        .parts()
        .into_iter()
        .map(|part| part.into_iter().filter(|&at| differs.at(at)).collect())
        .filter(|part: &Vec<Place>| part.len() >= SMALLEST)
        .flat_map(|part| seen.groups(part))
        .collect();
    let places: Vec<Place> = (groups.iter().flat_map(|group| &group.places))
        .copied()
        .collect();
    if Mask::of(frame, &places).share() > MOST_THINGS {
        return None;
    }
    let mut background = frame.clone();
    for &place in &places {
        background.set(place, behind.at(place));
    }
    let hidden: Vec<Vec<(Place, [f32; 3])>> = (0..groups.len())
        .map(|number| hidden(&seen, &groups, number, &background))
        .collect();
    // What is hidden is behind what hides it.
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&number| std::cmp::Reverse(hidden[number].len()));
    let things = order.into_iter().map(|number| {
        let shown = groups[number].places.iter().map(|&at| (at, frame.at(at)));
        let pixels: Vec<_> = shown.chain(hidden[number].iter().copied()).collect();
        Thing::new(&pixels, &groups[number], seen.frames(groups[number].since))
    });
    let scene = Scene {
        height: frame.height,
        width: frame.width,
        things: things.collect(),
        background: Background::new(&background, alike(&background)),
    };
    recalls(&scene, &seen).then_some(scene)
}

/// Whether a scene, taken back in time, shows what the first given frame did, and much better so than without its things' motions.
fn recalls(scene: &Scene, seen: &Seen<'_>) -> bool {
    if scene.things.is_empty() {
        return true;
    }
    let truth = &seen.given[0].frame;
    let (down, right) = seen.went(0);
    let back = (-down, -right);
    let frames = seen.frames(0);
    let stood = Scene {
        things: Vec::new(),
        background: Background::new(&scene.shown(), scene.background.alike.clone()).moved(back),
        ..*scene
    };
    let moved = Scene {
        things: scene
            .things
            .iter()
            .map(|thing| thing.before(frames))
            .collect(),
        background: scene.background.moved(back),
        ..*scene
    };
    let differs = |scene: Scene| -> f32 {
        let shown = scene.shown();
        truth
            .places()
            .map(|at| apart(shown.at(at), truth.at(at)))
            .sum()
    };
    differs(moved) < RECALLS * differs(stood)
}

/// What other groups hide of a group in the last frame and an earlier one shows of it.
fn hidden(
    seen: &Seen<'_>,
    groups: &[Group],
    number: usize,
    background: &Raster,
) -> Vec<(Place, [f32; 3])> {
    let group = &groups[number];
    if group.motion.angle != 0.0 {
        return Vec::new();
    }
    let before = &seen.given[group.since];
    let others = groups.iter().enumerate().filter(|(at, _)| *at != number);
    let (mut hide, mut were) = (Vec::new(), Vec::new());
    for (_, other) in others {
        hide.extend(&other.places);
        were.extend(seen.were(other, group.since));
    }
    let hide = Mask::of(background, &hide);
    let were: Vec<Place> = were
        .into_iter()
        .filter(|&at| background.holds(at))
        .collect();
    let were = Mask::of(background, &were).grown(1);
    let went = seen.went(group.since);
    let (down, right) = group.motion.step;
    let near = Mask::of(background, &group.places).grown(NEAR);
    let shown = hide.places().into_iter().filter_map(|place| {
        let from = (place.0 - down, place.1 - right);
        let colour = before.frame.get(from)?;
        let behind = background.get((from.0 + went.0, from.1 + went.1))?;
        let own = near.at(place) && !were.at(from) && apart(colour, behind) > DIFFERS;
        own.then_some((place, colour))
    });
    shown.collect()
}

impl Thing {
    /// As it was so many frames ago, if it moved steadily.
    fn before(&self, frames: i32) -> Self {
        let ago = |at: f32, drift: f32| at - drift * frames as f32;
        let corner = (
            ago(self.corner.0, self.drift.0),
            ago(self.corner.1, self.drift.1),
        );
        Self {
            look: self.look.clone(),
            corner: match self.turns {
                true => corner,
                false => (corner.0.round(), corner.1.round()),
            },
            angle: ago(self.angle, self.turning),
            ..*self
        }
    }

    /// Of these pixels in the last given frame, which moved as the group did in so many frames.
    fn new(pixels: &[(Place, [f32; 3])], group: &Group, frames: i32) -> Self {
        let bounds = |of: fn(&Place) -> i32| {
            let values = || pixels.iter().map(|(at, _)| of(at));
            let (low, high) = (values().min(), values().max());
            (low.expect("a place"), high.expect("a place"))
        };
        let (top, bottom) = bounds(|at| at.0);
        let (left, right) = bounds(|at| at.1);
        let (height, width) = (bottom - top + 1, right - left + 1);
        let mut look = vec![None; (height * width) as usize];
        for &((row, column), colour) in pixels {
            look[((row - top) * width + column - left) as usize] = Some(colour);
        }
        let share = |whole: i32| whole as f32 / frames as f32;
        let drift = (share(group.motion.step.0), share(group.motion.step.1));
        Self {
            look,
            height,
            width,
            corner: (top as f32, left as f32),
            step: (drift.0.round() as i32, drift.1.round() as i32),
            drift,
            turns: group.motion.angle != 0.0,
            angle: 0.0,
            turning: group.motion.angle / frames as f32,
        }
    }
}
