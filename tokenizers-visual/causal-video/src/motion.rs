//! Following pixels from one frame to the next: where things may have come from, and moving them there.
//!
//! A frame is predicted as a sum of shifted copies of the one before, weighted at every pixel (the dynamic filters of De Brabandere
//! et al. 2016 and Finn et al. 2016, section 3, with separable weights); the encoder is shown how well each shift matches (the cost
//! volume of Sun et al. 2018, section 3). Shifts are whole pixels, so what moves by whole pixels stays as sharp as it was.
//!
//! Symbols: `b` batch, `r` reach, `s = 2 r + 1` shifts in one direction. Shift `i` looks `i - r` pixels down or right.

use burn::tensor::activation::softmax;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::{AvgPoolOptions, PadMode};
use burn::tensor::{Tensor, TensorData};

/// How sharply good matches stand out.
const SHARPNESS: f32 = 20.0;
/// Differences between frames that are taken for noise, in the range of pixels.
const NOISE: f32 = 0.015;
/// What a motion has to explain to be taken, in cells that are wholly wrong.
const WORTH: f32 = 0.2;
/// Motions of a frame at most.
const MOTIONS: usize = 6;
/// What a motion costs a cell more than none, in the range of pixels.
const EFFORT: f32 = 0.005;
/// How much the surroundings of a cell, three times its side, count beside itself.
const SURROUNDINGS: f32 = 0.7;
/// How much chroma counts beside luma.
const CHROMA: f32 = 0.5;
/// How fast the scores of other shifts fall off.
const AROUND: f32 = 2.0;

/// All shifts of a frame; its border goes on outside.
pub struct Shifts {
    around: Tensor<4>,
    reach: usize,
    size: [usize; 4],
}

impl Shifts {
    /// # Shapes
    /// - `frame`: `[b, c, h, w]`
    pub fn new(frame: Tensor<4>, reach: usize) -> Self {
        let size = frame.dims();
        let around = frame.pad((reach, reach, reach, reach), PadMode::Edge);
        Self {
            around,
            reach,
            size,
        }
    }

    fn at(&self, down: usize, right: usize) -> Tensor<4> {
        let [batch, channels, height, width] = self.size;
        self.around.clone().slice([
            0..batch,
            0..channels,
            down..down + height,
            right..right + width,
        ])
    }

    /// The frame moved: at every pixel the weighted mean of what lies around it.
    ///
    /// # Shapes
    /// - `down`, `right`: `[b, s, h, w]`, weights of each shift
    /// - returns: `[b, c, h, w]`
    pub fn moved(&self, down: &Tensor<4>, right: &Tensor<4>) -> Tensor<4> {
        if let Some(out) = ravel_kernels::shifts::moved(&self.around, down, right) {
            return out;
        }
        let steps = 2 * self.reach + 1;
        let weight = |weights: &Tensor<4>, at: usize| weights.clone().narrow(1, at, 1);
        let mut sum: Option<Tensor<4>> = None;
        for y in 0..steps {
            let row = (0..steps)
                .map(|x| self.at(y, x) * weight(right, x))
                .reduce(|a, b| a + b)
                .expect("there is a shift");
            let row = row * weight(down, y);
            sum = Some(match sum {
                None => row,
                Some(sum) => sum + row,
            });
        }
        sum.expect("there is a shift")
    }

    /// How badly each shift explains a frame, cell by cell: mean absolute differences.
    ///
    /// # Shapes
    /// - `frame`: `[b, c, h, w]`
    /// - returns: `[b, s * s, h / patch, w / patch]`, down first
    pub fn costs(&self, frame: &Tensor<4>, patch: usize) -> Tensor<4> {
        let steps = 2 * self.reach + 1;
        let fast = ravel_kernels::shifts::costs(&self.around, frame, steps, patch);
        if let Some(costs) = fast {
            return costs;
        }
        let costs = (0..steps * steps)
            .map(|at| {
                (self.at(at / steps, at % steps) - frame.clone())
                    .abs()
                    .mean_dim(1)
            })
            .collect();
        pooled(Tensor::cat(costs, 1), patch)
    }
}

/// How well each shift explains a cell: weights that add up to one over the shifts.
///
/// # Shapes
/// - `costs`: `[b, s * s, h, w]`, as [`Shifts::costs`] gives them
/// - returns: like `costs`
pub fn matches(costs: Tensor<4>) -> Tensor<4> {
    softmax(costs * -SHARPNESS, 1)
}

/// A frame as motion is told by: its luma, and half of its chroma (BT.601) smoothed over three by three pixels.
///
/// Codecs keep chroma at half the resolution (4:2:0). In plain colours the edges of a thing that moved by an odd number of pixels therefore
/// never fit as well as those of one that moved by an even number, and things of strong colours would seem to move by even numbers only.
///
/// # Shapes
/// - `frame`: `[b, 3, h, w]`, red, green and blue
/// - returns: the same; grey differences stay what they are when costs are taken
pub fn as_coded(frame: Tensor<4>) -> Tensor<4> {
    let [red, green, blue] = [0, 1, 2].map(|channel| frame.clone().narrow(1, channel, 1));
    let luma = red.clone() * 0.299 + green * 0.587 + blue.clone() * 0.114;
    let chroma = Tensor::cat(
        vec![(blue - luma.clone()) * 0.564, (red - luma.clone()) * 0.713],
        1,
    );
    let smooth = AvgPoolOptions::new([3, 3])
        .with_stride([1, 1])
        .with_padding([1, 1])
        .with_count_include_pad(false);
    let chroma = avg_pool2d(chroma, smooth) * CHROMA;
    // Costs are means over three channels.
    Tensor::cat(vec![luma, chroma], 1) * 3.0
}

/// The shift that explains each cell of twice the size best, as a share of the reach: down, then right.
///
/// Few motions explain a frame (the layers of Wang and Adelson 1994): beginning with none, the shift that explains most of what is left is
/// taken, until that is not worth it. Each cell then has the best of these, its surroundings counted with it. So a thing moves as one and
/// takes the empty cells before it along, though an edge by itself looks alike under many shifts, and noise moves nothing.
///
/// # Shapes
/// - `costs`: `[b, s * s, h, w]`, as [`Shifts::costs`] gives them; read to the host
/// - returns: `[b, 2, h / 2, w / 2]` in `-1..=1`
pub fn best_shifts(costs: Tensor<4>, reach: usize) -> Tensor<4> {
    let device = costs.device();
    let [batch, shifts, height, width] = costs.dims();
    let data = costs.into_data().convert::<f32>();
    let all: Vec<f32> = data.try_into_vec().expect("costs were converted to f32");
    let rows = all.chunks_exact(shifts * height * width);
    let best = rows.flat_map(|costs| best_of_row(costs, reach, [height, width]));
    let shape = [batch, 2, height / 2, width / 2];
    Tensor::from_data(TensorData::new::<f32, _>(best.collect(), shape), &device)
}

/// [`best_shifts`] of one row: all shares down, then all to the right.
fn best_of_row(costs: &[f32], reach: usize, [height, width]: [usize; 2]) -> Vec<f32> {
    let steps = 2 * reach + 1;
    let of = |shift: usize| &costs[shift * height * width..(shift + 1) * height * width];
    let taken = motions(&of, reach);
    let mut found = vec![0.0; 2 * (height / 2) * (width / 2)];
    for cell in 0..(height / 2) * (width / 2) {
        let (row, column) = (cell / (width / 2), cell % (width / 2));
        let mean = |shift: usize, margin: usize| {
            let rows = (2 * row).saturating_sub(margin)..(2 * row + 2 + margin).min(height);
            let columns = (2 * column).saturating_sub(margin)..(2 * column + 2 + margin).min(width);
            let count = rows.len() * columns.len();
            let sum: f32 = rows
                .map(|row| {
                    of(shift)[row * width..][columns.clone()]
                        .iter()
                        .sum::<f32>()
                })
                .sum();
            sum / count as f32
        };
        let cost = |shift: usize| {
            let moves = if shift == taken[0] { 0.0 } else { EFFORT };
            mean(shift, 0) + SURROUNDINGS * mean(shift, 2) + moves
        };
        let costs = taken.iter().map(|&shift| (shift, cost(shift)));
        let (best, _) = costs
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
            .expect("no shift is always taken");
        let share = |at: usize| at as f32 / reach as f32 - 1.0;
        found[cell] = share(best / steps);
        found[(height / 2) * (width / 2) + cell] = share(best % steps);
    }
    found
}

/// The few shifts that explain a frame, none first.
fn motions<'a>(of: &impl Fn(usize) -> &'a [f32], reach: usize) -> Vec<usize> {
    let steps = 2 * reach + 1;
    let none = reach * steps + reach;
    let mut taken = vec![none];
    let mut left = of(none).to_vec();
    while taken.len() <= MOTIONS {
        let gain = |shift: usize| -> f32 {
            let pairs = left.iter().zip(of(shift));
            pairs
                .map(|(left, cost)| (left - cost - NOISE).max(0.0))
                .sum()
        };
        let gains = (0..steps * steps).map(|shift| (shift, gain(shift)));
        // Of equal ones the first.
        let best = gains.fold(
            (none, 0.0),
            |best, new| if new.1 > best.1 { new } else { best },
        );
        if best.1 < WORTH {
            break;
        }
        taken.push(best.0);
        for (left, cost) in left.iter_mut().zip(of(best.0)) {
            *left = left.min(*cost);
        }
    }
    taken
}

/// Scores of all shifts in one direction around a shift that is given as a share of the reach.
///
/// # Shapes
/// - `share`: `[b, 1, h, w]`
/// - returns: `[b, s, h, w]`
pub fn scores_around(share: Tensor<4>, reach: usize) -> Tensor<4> {
    let scores = (0..2 * reach + 1)
        .map(|at| (share.clone() * reach as f32 - (at as f32 - reach as f32)).square() * -AROUND)
        .collect();
    Tensor::cat(scores, 1)
}

/// Means of cells.
fn pooled(grid: Tensor<4>, side: usize) -> Tensor<4> {
    avg_pool2d(
        grid,
        AvgPoolOptions::new([side, side]).with_stride([side, side]),
    )
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{assert_close, device, formula, values};

    use super::*;

    /// Weights of one shift everywhere.
    fn only(at: usize, steps: usize, side: usize) -> Tensor<4> {
        let device = device();
        let one: Tensor<4> = Tensor::ones([1, 1, side, side], &device);
        Tensor::cat(
            (0..steps)
                .map(|step| one.clone() * if step == at { 1.0 } else { 0.0 })
                .collect(),
            1,
        )
    }

    #[test]
    fn a_shift_moves_the_picture_and_its_border_goes_on() {
        let frame: Tensor<4> = formula([1, 2, 8, 8], 1, 1.0, &device());
        let shifts = Shifts::new(frame.clone(), 2);
        let still = shifts.moved(&only(2, 5, 8), &only(2, 5, 8));
        assert_close("still", &still, &frame, 0.0);
        // Looking one row down and two columns right.
        let moved = shifts.moved(&only(3, 5, 8), &only(4, 5, 8));
        let inner = moved.clone().slice([0..1, 0..2, 0..7, 0..6]);
        let from = frame.clone().slice([0..1, 0..2, 1..8, 2..8]);
        assert_close("inner", &inner, &from, 0.0);
        let corner = moved.slice([0..1, 0..1, 7..8, 7..8]);
        assert_close(
            "corner",
            &corner,
            &frame.slice([0..1, 0..1, 7..8, 7..8]),
            0.0,
        );
    }

    #[test]
    fn the_kernels_and_the_plain_way_agree() {
        let device = device();
        let frame: Tensor<4> = formula([2, 3, 12, 16], 1, 1.0, &device);
        let next: Tensor<4> = formula([2, 3, 12, 16], 2, 1.0, &device);
        let weights = |seed| softmax(formula([2, 5, 12, 16], seed, 1.0, &device), 1);
        let (down, right) = (weights(3), weights(4));
        let fast = Shifts::new(frame.clone(), 2);
        // Where gradients may flow, burn's operations are used.
        let lift = |x: &Tensor<4>| Tensor::from_inner(x.clone());
        let plain = Shifts::new(lift(&frame), 2);
        let moved = plain.moved(&lift(&down), &lift(&right)).inner();
        assert_close("moved", &fast.moved(&down, &right), &moved, 1e-6);
        let costs = plain.costs(&lift(&next), 4).inner();
        assert_close("costs", &fast.costs(&next, 4), &costs, 1e-6);
    }

    /// A square of one colour at a place of a plain frame.
    fn square(row: usize, column: usize) -> Tensor<4> {
        let mut values = vec![-0.2_f32; 3 * 48 * 48];
        for at in 0..3 * 10 * 10 {
            let (channel, y, x) = (at / 100, at / 10 % 10, at % 10);
            values[channel * 48 * 48 + (row + y) * 48 + column + x] = 0.6;
        }
        let data = TensorData::new::<f32, _>(values, [1, 3, 48, 48]);
        Tensor::from_data(data, &device())
    }

    #[test]
    fn a_plain_thing_moves_as_one_and_the_rest_stays() {
        // One up and two to the right: it comes from below and from the left. Its edges by themselves do not tell.
        let costs = Shifts::new(square(11, 9), 4).costs(&square(10, 11), 4);
        let best = values(&best_shifts(costs, 4));
        let (down, right) = best.split_at(36);
        for cell in 0..36 {
            let (row, column) = (cell / 6, cell % 6);
            let covered = (1..3).contains(&row) && (1..3).contains(&column);
            let far = row > 3 || column > 3;
            let found = (down[cell], right[cell]);
            let allowed = [(0.25, -0.5), (0.0, 0.0)];
            assert!(allowed.contains(&found), "cell {cell}: {found:?}");
            assert!(!covered || found == allowed[0], "cell {cell}: {found:?}");
            assert!(!far || found == allowed[1], "cell {cell}: {found:?}");
        }
    }

    /// A frame after a codec: its luma, and one chroma for two by two pixels.
    fn subsampled(frame: Tensor<4>) -> Tensor<4> {
        let [red, green, blue] = [0, 1, 2].map(|channel| frame.clone().narrow(1, channel, 1));
        let luma = red.clone() * 0.299 + green * 0.587 + blue.clone() * 0.114;
        let half = |chroma| crate::entering::spread(pooled(chroma, 2), 2);
        let (red, blue) = (half(red - luma.clone()), half(blue - luma.clone()));
        let green = (red.clone() * 0.299 + blue.clone() * 0.114) / -0.587;
        Tensor::cat(
            [red, green, blue].map(|part| part + luma.clone()).to_vec(),
            1,
        )
    }

    #[test]
    fn chroma_at_half_the_resolution_hides_no_odd_motion() {
        let mut values = vec![0.0_f32; 3 * 48 * 48];
        for at in 0..12 * 12 {
            let (y, x) = (at / 12, at % 12);
            // Red on black: nearly all of it is chroma.
            values[(18 + y) * 48 + 21 + x] = 0.9;
        }
        let frame = Tensor::from_data(TensorData::new(values, [1, 3, 48, 48]), &device());
        // What is shown came from one above and three to the left.
        let next = Shifts::new(frame.clone(), 4).moved(&only(3, 9, 48), &only(1, 9, 48));
        let [frame, next] = [frame, next].map(subsampled);
        let middle = |costs| {
            let best = values_of_middle(&best_shifts(costs, 4));
            best.map(|share| share * 4.0)
        };
        let told = Shifts::new(as_coded(frame.clone()), 4).costs(&as_coded(next.clone()), 4);
        assert_eq!(middle(told), [-1.0, -3.0]);
        // Why frames are not compared as they are.
        let plain = middle(Shifts::new(frame, 4).costs(&next, 4));
        assert!(plain != [-1.0, -3.0], "{plain:?}");
    }

    /// Down and right of the cell in the middle of six by six.
    fn values_of_middle(best: &Tensor<4>) -> [f32; 2] {
        let best = values(best);
        [best[3 * 6 + 3], best[36 + 3 * 6 + 3]]
    }

    #[test]
    fn grey_differences_cost_what_they_are() {
        let frame: Tensor<4> = formula([1, 1, 16, 16], 1, 1.0, &device()).expand([1, 3, 16, 16]);
        let seen = as_coded(frame.clone());
        assert_close(
            "luma",
            &(seen.clone().narrow(1, 0, 1) / 3.0),
            &frame.narrow(1, 0, 1),
            1e-6,
        );
        let chroma = seen.narrow(1, 1, 2);
        assert_close("chroma", &chroma, &chroma.zeros_like(), 1e-6);
    }

    #[test]
    fn noise_moves_nothing() {
        let noise: Tensor<4> = formula([1, 3, 32, 32], 4, 0.01, &device());
        let slope: Tensor<4> = Tensor::<1>::from_floats(
            &(0..32).map(|row| row as f32 / 80.0).collect::<Vec<_>>()[..],
            &device(),
        )
        .reshape([1, 1, 32, 1])
        .expand([1, 3, 32, 32]);
        let costs = Shifts::new(slope.clone(), 4).costs(&(slope + noise), 4);
        assert!(
            values(&best_shifts(costs, 4))
                .iter()
                .all(|&share| share == 0.0)
        );
    }

    #[test]
    fn the_true_shift_matches_best() {
        let frame: Tensor<4> = formula([1, 3, 16, 16], 2, 1.0, &device());
        let shifts = Shifts::new(frame, 2);
        let next = shifts.moved(&only(1, 5, 16), &only(4, 5, 16));
        let costs = shifts.costs(&next, 8);
        let best = values(&best_shifts(costs.clone(), 2));
        assert!(
            (best[0] + 0.5).abs() < 0.01 && (best[1] - 1.0).abs() < 0.01,
            "{best:?}"
        );
        let found = values(&matches(costs).narrow(2, 0, 1).narrow(3, 0, 1));
        let best = (0..25).max_by(|&a, &b| found[a].total_cmp(&found[b]));
        assert_eq!(best, Some(5 + 4));
        assert!((found.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
