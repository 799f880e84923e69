//! Where a frame looks like itself.

use super::Step;
use super::grid::{Mask, Raster, apart};

/// How differences are counted.
#[derive(Debug, Clone, Copy)]
pub struct Counting {
    /// Differences beyond this count no more: something is in front there.
    pub most: f32,
    /// What it counts that there is nothing to compare with.
    pub outside: f32,
}

/// Where things are in holes that nothing is known of.
pub const IN_HOLES: Counting = Counting {
    most: 0.2,
    outside: 0.04,
};
/// Where things may be part of what is compared, as those that go with a background.
const IN_VIEW: Counting = Counting {
    most: 0.06,
    outside: 0.05,
};
/// The least share of a frame that has to be compared.
const LEAST: f32 = 0.1;
/// The nearest and the farthest that what comes in from outside is looked for, in pixels.
const NEAREST: i32 = 6;
const FARTHEST: i32 = 32;
/// Steps in each direction: near a corner some of them lead outside again, and others to something in front.
const EACH: usize = 6;
/// So much less alike is as good.
const NEARLY: f32 = 0.004;

/// After which steps a frame looks how much like itself, all within `reach` but none at all, the most alike first: mean differences of every
/// second pixel.
pub fn likenesses(
    coded: &Raster,
    holes: &Mask,
    reach: i32,
    counting: Counting,
) -> Vec<(f32, Step)> {
    let places: Vec<_> = (coded.places())
        .filter(|at| (at.0 + at.1) % 2 == 0 && !holes.at(*at))
        .collect();
    let cost = |(down, right): Step| {
        let (mut sum, mut count) = (0.0, 0.0);
        for &(row, column) in &places {
            let other = (row + down, column + right);
            let other = coded.get(other).filter(|_| !holes.at(other));
            if let Some(other) = other {
                sum += apart(other, coded.at((row, column))).min(counting.most);
                count += 1.0;
            }
        }
        let all = places.len() as f32;
        (count >= LEAST * all && count > 0.0)
            .then(|| (sum + counting.outside * (all - count)) / all)
    };
    // The other way around is the same.
    let half = (0..=reach).flat_map(|down| (-reach..=reach).map(move |right| (down, right)));
    let half = half.filter(|&(down, right)| down > 0 || right > 0);
    let mut found: Vec<(f32, Step)> = half
        .filter_map(|step| Some((cost(step)?, step)))
        .flat_map(|(cost, (down, right))| [(cost, (down, right)), (cost, (-down, -right))])
        .collect();
    found.sort_by(|(a, one), (b, other)| {
        let far = |step: &Step| step.0.abs() + step.1.abs();
        a.total_cmp(b).then(far(one).cmp(&far(other)))
    });
    found
}

/// Steps in each of the four directions after which a background looks most like itself, the best first: how it goes on outside.
pub fn alike(background: &Raster) -> Vec<Step> {
    let none = Mask::new(background.height, background.width, |_| false);
    let all = likenesses(&background.coded(), &none, FARTHEST, IN_VIEW);
    let directions: [fn(Step) -> i32; 4] =
        [|step| step.0, |step| -step.0, |step| step.1, |step| -step.1];
    let best = directions.iter().flat_map(|along| {
        let mut steps = all.iter().filter(|(_, step)| along(*step) >= NEAREST);
        let first = steps.next();
        let least = first.map_or(0.0, |(cost, _)| *cost);
        let others = steps.take_while(move |(cost, _)| *cost < least + NEARLY);
        first.into_iter().chain(others.take(EACH - 1))
    });
    let mut best: Vec<&(f32, Step)> = best.collect();
    best.sort_by(|(a, one), (b, other)| a.total_cmp(b).then(one.cmp(other)));
    best.dedup();
    best.into_iter().map(|(_, step)| *step).collect()
}
