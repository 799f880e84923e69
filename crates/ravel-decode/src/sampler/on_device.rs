//! Choosing where the scores are: what a [`Chain`](super::Chain) does row by row on the host, as operations on tensors, so that a
//! device is asked for ids alone.
//!
//! The host computes in f64, a device in f32: a random number within about 1e-5 of the border between two ids may fall on the other
//! side of it, and what lies at the edge of a cut within rounding stays. So all ids stay that tie at the edge of top-p, where the host
//! keeps the earlier ones. What is less than e⁻⁸⁰ times as likely as the likeliest is never drawn here.
//!
//! Shapes: `b` rows, `n` positions.

use burn::tensor::{Bool, FloatDType, Int, Tensor};

use super::filter::Filter;

/// What a filter does, where it can be done to a tensor of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cut {
    /// As [`Temperature`](super::Temperature).
    Temperature(f64),
    /// As [`TopK`](super::TopK).
    TopK(usize),
    /// As [`TopP`](super::TopP) that keeps one id at least.
    TopP(f64),
    /// As [`MinP`](super::MinP).
    MinP(f64),
}

/// Scores this far below the largest one weigh nothing.
const FAR: f64 = 80.0;

/// So many largest scores are sought one by one; for more the least of them is found by trying.
const FEW: usize = 16;

/// Scores that are compared with 15 thresholds at once take 60 MiB at the most.
const LARGE: usize = 1 << 20;

/// The largest f32 below 1.
pub(super) const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;

/// What all filters do, in their order; nothing if one of them needs the host. Scores are not scaled after some were removed, since cuts do not
/// look at what is far below the largest score.
pub(super) fn cuts(filters: &[Box<dyn Filter>]) -> Option<Vec<Cut>> {
    let cuts: Option<Vec<Cut>> = filters.iter().map(|filter| filter.cut()).collect();
    let is_scale = |cut: &Cut| matches!(cut, Cut::Temperature(_));
    cuts.filter(|cuts| !cuts.iter().skip(1).any(is_scale))
}

/// Of the ids that the cuts leave, those with the largest scores, or those at which the cumulative probability first exceeds a number.
///
/// # Shapes
/// - `scores`: `[b, n, ids]`
/// - `uniforms`: `[b, n]`, at least 0 and at most [`BELOW_ONE`]; none for the largest scores
/// - returns: `[b, n]`, -1 where the scores hold NaN or infinity, or no finite number
pub(super) fn chosen(
    scores: Tensor<3>,
    cuts: &[Cut],
    uniforms: Option<Tensor<2>>,
) -> Tensor<2, Int> {
    let mut scores = scores.cast(FloatDType::F32);
    if let Some(Cut::Temperature(temperature)) = cuts.first() {
        scores = scores / *temperature;
    }
    let largest = scores.clone().max_dim(2);
    let unsound = unsound(&scores, &largest);
    let left = cuts
        .iter()
        .fold(scores - largest, |scores, cut| cut.applied(scores));
    let ids = match uniforms {
        None => left.argmax(2),
        Some(uniforms) => first_beyond(weights(&left), uniforms),
    };
    ids.mask_fill(unsound, -1).squeeze_dim(2)
}

/// Where there is nothing that could be chosen: `[b, n, 1]`.
fn unsound(scores: &Tensor<3>, largest: &Tensor<3>) -> Tensor<3, Bool> {
    let no_number = scores.clone().is_nan().any_dim(2);
    no_number.bool_or(largest.clone().is_inf())
}

impl Cut {
    /// Scores of which the largest one is zero, with those minus infinity that are taken out.
    fn applied(self, scores: Tensor<3>) -> Tensor<3> {
        let [.., ids] = scores.dims();
        let least = match self {
            Self::TopK(k) if k < ids => least_of_largest(&scores, k.max(1)),
            Self::TopP(p) if p < 1.0 => least_of_mass(&scores, p),
            Self::MinP(p) if p > 0.0 => {
                let out = scores.clone().lower_elem(p.ln());
                return scores.mask_fill(out, f32::NEG_INFINITY);
            }
            Self::Temperature(_) | Self::TopK(_) | Self::TopP(_) | Self::MinP(_) => return scores,
        };
        let out = scores.clone().lower(least);
        scores.mask_fill(out, f32::NEG_INFINITY)
    }
}

/// Probabilities relative to the largest one, from scores of which the largest one is zero.
fn weights(scores: &Tensor<3>) -> Tensor<3> {
    let far = scores.clone().lower_elem(-FAR);
    scores.clone().exp().mask_fill(far, 0.0)
}

/// The `k`-th largest score: `[b, n, 1]`.
fn least_of_largest(scores: &Tensor<3>, k: usize) -> Tensor<3> {
    if k <= FEW {
        return scores.clone().topk(k, 2).min_dim(2);
    }
    let [rows, n, _] = scores.dims();
    let wanted = Tensor::full([rows, n, 1, 1], k as f32, &scores.device());
    threshold(scores, None, wanted)
}

/// The largest score down to which probabilities reach `p`: `[b, n, 1]`.
fn least_of_mass(scores: &Tensor<3>, p: f64) -> Tensor<3> {
    let weights = weights(scores);
    let wanted = weights.clone().sum_dim(2).unsqueeze_dim(3) * p;
    threshold(scores, Some(weights), wanted)
}

/// The largest threshold at which the scores that are not below it still reach `wanted`, in number or in worth, by ever finer steps
/// down to 3e-7; `-FAR` if none does.
///
/// # Shapes
/// - `scores` and `worth`: `[b, n, ids]`
/// - `wanted`: `[b, n, 1, 1]`
/// - returns: `[b, n, 1]`
fn threshold(scores: &Tensor<3>, worth: Option<Tensor<3>>, wanted: Tensor<4>) -> Tensor<3> {
    let [rows, n, ids] = scores.dims();
    let device = scores.device();
    let (ways, rounds) = if rows * n * ids <= LARGE {
        (16, 7)
    } else {
        (2, 28)
    };
    let steps = Tensor::<1, Int>::arange(1..ways, &device).float();
    let steps = steps.reshape([1, 1, ways - 1, 1]);
    let scores: Tensor<4> = scores.clone().unsqueeze_dim(2);
    let worth: Option<Tensor<4>> = worth.map(|worth| worth.unsqueeze_dim(2));
    let mut least = Tensor::<4>::full([rows, n, 1, 1], -FAR, &device);
    let mut step = FAR + 1.0;
    for _ in 0..rounds {
        step /= ways as f64;
        let tried = least.clone() + steps.clone() * step;
        let kept = scores.clone().greater_equal(tried).float();
        let sums = match &worth {
            Some(worth) => kept * worth.clone(),
            None => kept,
        };
        // The sums fall from step to step, so those that reach it are the first ones.
        let reached = sums.sum_dim(3).greater_equal(wanted.clone());
        least = least + reached.float().sum_dim(2) * step;
    }
    least.squeeze_dim(3)
}

/// How many ids come before the one at which the cumulative weight first exceeds `uniforms` times all of it: `[b, n, 1]`.
///
/// Sums within pieces come first, then those over pieces: a device sums up anew for every id. Equal sums stay equal that way, so what weighs nothing is never the
/// first one beyond.
fn first_beyond(weights: Tensor<3>, uniforms: Tensor<2>) -> Tensor<3, Int> {
    let [rows, n, ids] = weights.dims();
    let piece = (ids as f64).sqrt().ceil() as usize;
    let pieces = ids.div_ceil(piece);
    let device = weights.device();
    let weights = match pieces * piece - ids {
        0 => weights,
        missing => Tensor::cat(vec![weights, Tensor::zeros([rows, n, missing], &device)], 2),
    };
    let within = weights.reshape([rows, n, pieces, piece]).cumsum(3);
    let upto = within.clone().narrow(3, piece - 1, 1).cumsum(2);
    let all = upto.clone().narrow(2, pieces - 1, 1).squeeze_dim::<3>(3);
    let none = Tensor::zeros([rows, n, 1, 1], &device);
    let before = Tensor::cat(vec![none, upto], 2).narrow(2, 0, pieces);
    let cumulative = (within + before).reshape([rows, n, pieces * piece]);
    let beyond = all * uniforms.unsqueeze_dim(2);
    cumulative.lower_equal(beyond).int().sum_dim(2)
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use ravel_testkit::{device, formula, ids, noise, values};

    use super::super::{
        MinP, RepetitionPenalty, Temperature, TopK, TopP, greedy_choice, inverse_cdf_choice,
        weights,
    };
    use super::*;

    type Filters = Vec<Box<dyn Filter>>;

    fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), &device())
    }

    fn of_rows(rows: &[&[f32]]) -> Tensor<3> {
        tensor(rows.concat(), [1, rows.len(), rows[0].len()])
    }

    fn filtered(scores: &[f32], filters: &Filters) -> Vec<f32> {
        let mut scores = scores.to_vec();
        filters
            .iter()
            .for_each(|filter| filter.apply(&mut scores, &[]));
        scores
    }

    /// How near a number is to the border between two ids.
    fn to_border(scores: &[f32], uniform: f64) -> f64 {
        let weights = weights(scores);
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let borders = weights.iter().map(|weight| {
            sum += weight;
            (sum / total - uniform).abs()
        });
        borders.fold(uniform, f64::min)
    }

    fn many_filters() -> Vec<Filters> {
        let top_k = |k| Box::new(TopK { k }) as Box<dyn Filter>;
        let top_p = |p| Box::new(TopP { p, keep: 1 }) as Box<dyn Filter>;
        let scale = |by| Box::new(Temperature(by)) as Box<dyn Filter>;
        vec![
            vec![],
            vec![scale(0.7)],
            vec![top_k(1)],
            vec![top_k(5)],
            vec![top_k(40)],
            vec![top_k(700)],
            vec![top_k(1_000_000)],
            vec![top_p(0.001)],
            vec![top_p(0.5)],
            vec![top_p(0.96)],
            vec![top_p(1.0)],
            vec![Box::new(MinP(0.05))],
            vec![Box::new(MinP(0.0))],
            vec![
                scale(1.3),
                top_k(90),
                top_p(0.9),
                Box::new(MinP(0.02)) as Box<dyn Filter>,
            ],
        ]
    }

    #[test]
    fn draws_are_the_host_s_away_from_borders() {
        let (rows, n) = (2, 3);
        let mut at_borders = 0;
        for (case, size) in [1, 6, 33, 1000, 4500].into_iter().enumerate() {
            let scores = formula::<3>([rows, n, size], case as u32, 8.0, &device());
            let host = values(&scores);
            for (number, filters) in many_filters().iter().enumerate() {
                let salt = (100 * case + number) as u32;
                let uniforms: Vec<f32> = (0..rows * n)
                    .map(|at| (noise(at as u32, salt) + 1.0) / 2.0)
                    .map(|uniform| uniform.min(BELOW_ONE))
                    .collect();
                let cuts = cuts(filters).unwrap();
                let drawn = tensor(uniforms.clone(), [rows, n]);
                let drawn = ids(&chosen(scores.clone(), &cuts, Some(drawn)));
                for (at, id) in drawn.into_iter().enumerate() {
                    let uniform = f64::from(uniforms[at]);
                    let left = filtered(&host[at * size..][..size], filters);
                    let expected = i64::from(inverse_cdf_choice(&left, uniform));
                    if to_border(&left, uniform) < 1e-5 {
                        at_borders += 1;
                    } else {
                        assert_eq!(id, expected, "{size} ids, {cuts:?}, place {at}, {uniform}");
                    }
                }
            }
        }
        assert!(at_borders < 30, "{at_borders} of 420 say nothing");
    }

    #[test]
    fn the_largest_are_the_host_s_and_the_first_of_equal_ones() {
        for (case, size) in [1, 7, 1000].into_iter().enumerate() {
            // Rounded, so that many are equal.
            let scores = formula::<3>([2, 3, size], case as u32, 3.0, &device()).round();
            let host = values(&scores);
            for filters in many_filters() {
                let cuts = cuts(&filters).unwrap();
                let found = ids(&chosen(scores.clone(), &cuts, None));
                for (row, id) in host.chunks_exact(size).zip(found) {
                    assert_eq!(id, i64::from(greedy_choice(&filtered(row, &filters))));
                }
            }
        }
    }

    #[test]
    fn rows_without_a_choice_are_told_and_disturb_no_others() {
        let (no, far) = (f32::NAN, f32::NEG_INFINITY);
        let scores = of_rows(&[
            &[0.0, 1.0, 0.5],
            &[0.0, no, 0.5],
            &[0.0, f32::INFINITY, 0.5],
            &[far, far, far],
            &[far, -3e38, far],
            &[no, no, no],
        ]);
        let halves = || Some(tensor(vec![0.5; 6], [1, 6]));
        for uniforms in [None, halves()] {
            let cuts = [Cut::Temperature(1.0), Cut::TopK(2), Cut::TopP(0.99)];
            let found = ids(&chosen(scores.clone(), &cuts, uniforms));
            assert_eq!(found, [1, -1, -1, -1, 1, -1]);
        }
    }

    #[test]
    fn what_weighs_nothing_is_never_drawn() {
        let far = f32::NEG_INFINITY;
        let row: Vec<f32> = (0..300)
            .map(|id| match id {
                100..200 => noise(id, 1),
                200..250 => -200.0,
                _ => far,
            })
            .collect();
        for uniform in [0.0, 1e-7, 0.3, 0.999_999, BELOW_ONE] {
            let uniforms = tensor(vec![uniform], [1, 1]);
            let found = ids(&chosen(of_rows(&[&row]), &[], Some(uniforms)))[0];
            assert!((100..200).contains(&found), "{uniform}: {found}");
            let host = inverse_cdf_choice(&row, f64::from(uniform));
            assert!(found.abs_diff(i64::from(host)) <= 1, "{uniform}: {found}");
        }
    }

    #[test]
    fn what_ties_with_the_last_that_is_kept_stays() {
        let left = |scores: &[f32], cut: Cut| -> Vec<usize> {
            let left = values(&cut.applied(of_rows(&[scores])));
            let is_left = |(id, score): (usize, &f32)| score.is_finite().then_some(id);
            left.iter().enumerate().filter_map(is_left).collect()
        };
        let scores = [-1.0, 0.0, -1.0, -2.0, -1.0];
        assert_eq!(left(&scores, Cut::TopK(2)), [0, 1, 2, 4]);
        assert_eq!(left(&scores, Cut::TopK(1)), [1]);
        assert_eq!(left(&scores, Cut::TopP(0.5)), [0, 1, 2, 4]);
        assert_eq!(left(&scores, Cut::MinP(0.3)), [0, 1, 2, 4]);
        let many: Vec<f32> = (0..60).map(|id| -((id / 20) as f32)).collect();
        for k in [20usize, 21, 40] {
            let kept = 20 * k.div_ceil(20);
            let expected: Vec<usize> = (0..kept).collect();
            assert_eq!(left(&many, Cut::TopK(k)), expected, "{k}");
        }
    }

    /// Rows that are too many for fifteen thresholds at once.
    #[test]
    fn large_scores_are_cut_as_small_ones() {
        let size = 4096;
        let row = formula::<3>([1, 1, size], 3, 8.0, &device());
        let rows = row.clone().repeat_dim(1, LARGE / size + 1);
        for cut in [Cut::TopK(50), Cut::TopP(0.9)] {
            let shifted = |rows: Tensor<3>| rows.clone() - rows.max_dim(2);
            let kept = |rows: &Tensor<3>| values(rows).iter().filter(|s| s.is_finite()).count();
            let one = kept(&cut.applied(shifted(row.clone())));
            let last = cut
                .applied(shifted(rows.clone()))
                .narrow(1, LARGE / size, 1);
            assert_eq!(kept(&last), one, "{cut:?}");
        }
    }

    #[test]
    fn what_looks_back_or_scales_late_is_left_to_the_host() {
        let scale = || Box::new(Temperature(2.0)) as Box<dyn Filter>;
        let top_k = || Box::new(TopK { k: 2 }) as Box<dyn Filter>;
        let penalty = Box::new(RepetitionPenalty(1.1)) as Box<dyn Filter>;
        let expected = vec![Cut::Temperature(2.0), Cut::TopK(2)];
        assert_eq!(cuts(&[scale(), top_k()]), Some(expected));
        assert_eq!(cuts(&[]), Some(vec![]));
        assert_eq!(cuts(&[top_k(), scale()]), None);
        assert_eq!(cuts(&[penalty, top_k()]), None);
    }
}
