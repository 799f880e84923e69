//! Blocks of 32 numbers that share a scale: weights to 8 or 4 bits, activations to 8.
//!
//! Symmetric: a number is its level times the scale. Scales are bfloat16, which has the range of f32; levels are rounded against
//! the scale as it is stored. Quantizing what was quantized before gives the same levels and scales.

use half::bf16;

/// Numbers that share a scale, along the axis that is summed over.
pub const BLOCK: usize = 32;

/// Levels between -127 and 127 of the numbers, and their scale. What is kept in memory and in files has blocks of [`BLOCK`].
pub fn to_8_bits<const N: usize>(numbers: &[f32; N]) -> ([i8; N], bf16) {
    let largest = numbers.iter().fold(0f32, |most, x| most.max(x.abs()));
    let scale = bf16::from_f32(largest / 127.0);
    let levels = levels(numbers, scale, -127.0, 127.0);
    (levels, scale)
}

/// Levels between -8 and 7 of the numbers, and their scale: of some scales by the number that is farthest from zero, the one
/// with the smallest squared error.
pub fn to_4_bits<const N: usize>(numbers: &[f32; N]) -> ([i8; N], bf16) {
    // Where the farthest number lands: on the lowest or highest level, or a little beyond.
    const LANDINGS: [f32; 8] = [-8.0, 7.0, -7.0, -8.5, -9.0, -7.5, 7.5, 8.0];
    let farthest = numbers
        .iter()
        .fold(0f32, |most, &x| if x.abs() > most.abs() { x } else { most });
    let mut best = ([0; N], bf16::ZERO, f32::INFINITY);
    for landing in LANDINGS {
        let scale = bf16::from_f32(farthest / landing);
        let levels = levels(numbers, scale, -8.0, 7.0);
        let error = error(numbers, &levels, scale);
        if error < best.2 {
            best = (levels, scale, error);
        }
    }
    (best.0, best.1)
}

fn levels<const N: usize>(numbers: &[f32; N], scale: bf16, least: f32, most: f32) -> [i8; N] {
    let scale = scale.to_f32();
    let per = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    // A scale below the normal numbers may have no inverse: then all levels are zero.
    let per = if per.is_finite() { per } else { 0.0 };
    numbers.map(|x| rounded((x * per).clamp(least, most)))
}

fn error<const N: usize>(numbers: &[f32; N], levels: &[i8; N], scale: bf16) -> f32 {
    let scale = scale.to_f32();
    let far = |(x, level): (&f32, &i8)| x - f32::from(*level) * scale;
    numbers.iter().zip(levels).map(far).map(|by| by * by).sum()
}

/// The nearest whole number of one between -127 and 127, ties to the even one.
#[inline(always)]
fn rounded(x: f32) -> i8 {
    // Adding 1.5 * 2^23 leaves the whole number in the low bits.
    (x + 12_582_912.0).to_bits() as i8
}

/// Rows of activations as levels with a scale per block.
pub(crate) struct Activations {
    /// `[rows, blocks * 32]`, zeros behind the end of a row.
    pub(crate) levels: Vec<i8>,
    /// `[rows, blocks]`.
    pub(crate) scales: Vec<f32>,
    /// Sums of the levels of a block, `[rows, blocks]`.
    pub(crate) sums: Vec<i32>,
    /// Blocks in a row.
    pub(crate) blocks: usize,
}

impl Activations {
    /// Of rows of `width` numbers.
    pub(crate) fn of(x: &[f32], width: usize) -> Self {
        let (rows, blocks) = (x.len() / width, width.div_ceil(BLOCK));
        let mut all = Self {
            levels: vec![0; rows * blocks * BLOCK],
            scales: vec![0.0; rows * blocks],
            sums: vec![0; rows * blocks],
            blocks,
        };
        for (row, x) in x.chunks_exact(width).enumerate() {
            for (block, x) in x.chunks(BLOCK).enumerate() {
                let at = row * blocks + block;
                let mut padded = [0.0; BLOCK];
                padded[..x.len()].copy_from_slice(x);
                let levels = &mut all.levels[at * BLOCK..(at + 1) * BLOCK];
                (all.scales[at], all.sums[at]) = quantized(&padded, levels);
            }
        }
        all
    }
}

/// Writes the levels of a block of activations; its scale (unlike that of weights, of 32 bits) and the levels' sum. The
/// scale of a block with NaN is NaN, and one with infinity has levels of zero beside an infinite scale: all products with either are
/// NaN.
#[inline(always)]
fn quantized(x: &[f32; BLOCK], levels: &mut [i8]) -> (f32, i32) {
    // The bits of sizes are in the order of the sizes, and NaN, which a greatest float would pass over, is the greatest of all. The
    // greatest of 16 lanes first, so that the loops become vectors.
    let mut lanes = [0i32; 16];
    for half in x.chunks_exact(16) {
        for (lane, x) in lanes.iter_mut().zip(half) {
            *lane = (*lane).max(x.abs().to_bits() as i32);
        }
    }
    let largest = f32::from_bits(lanes.into_iter().fold(0, i32::max) as u32);
    let per = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let per = if per.is_finite() { per } else { 0.0 };
    let mut sum = 0;
    for (level, x) in levels.iter_mut().zip(x) {
        *level = rounded(x * per);
        sum += i32::from(*level);
    }
    (largest / 127.0, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn block(random: &mut Random, size: f32) -> [f32; BLOCK] {
        std::array::from_fn(|_| size * random.normal())
    }

    #[test]
    fn eight_bits_are_within_half_a_level() {
        let mut random = Random::new(1);
        for size in [1e-30, 1e-6, 1.0, 1e20] {
            let numbers = block(&mut random, size);
            let (levels, scale) = to_8_bits(&numbers);
            for (x, level) in numbers.iter().zip(levels) {
                // The scale is rounded by up to 1/512, which moves the highest level by up to a quarter.
                let error = (x - f32::from(level) * scale.to_f32()).abs();
                assert!(error <= 0.76 * scale.to_f32(), "{x} {level} {scale}");
            }
        }
    }

    #[test]
    fn four_bits_choose_no_worse_a_scale_than_the_plain_one() {
        let mut random = Random::new(2);
        for _ in 0..200 {
            let numbers = block(&mut random, 0.02);
            let (found, scale) = to_4_bits(&numbers);
            let far = |a: &f32, b: &f32| a.abs().total_cmp(&b.abs());
            let farthest = numbers.iter().copied().max_by(|a, b| far(a, b)).unwrap();
            let plain = bf16::from_f32(farthest / -8.0);
            let expected = error(&numbers, &levels(&numbers, plain, -8.0, 7.0), plain);
            assert!(error(&numbers, &found, scale) <= expected);
        }
    }

    #[test]
    fn what_was_quantized_stays_as_it_is() {
        let mut random = Random::new(3);
        for round in 0..2000 {
            let numbers = block(&mut random, [1e-6, 0.02, 3.0][round % 3]);
            for quantize in [to_8_bits::<BLOCK>, to_4_bits::<BLOCK>] {
                let (levels, scale) = quantize(&numbers);
                let back = levels.map(|level| f32::from(level) * scale.to_f32());
                let (again, scale_again) = quantize(&back);
                let twice = again.map(|level| f32::from(level) * scale_again.to_f32());
                assert_eq!(back, twice);
            }
        }
    }

    #[test]
    fn zeros_and_tiny_numbers_are_no_trouble() {
        for x in [0.0, f32::MIN_POSITIVE, 1e-45] {
            assert_eq!(to_8_bits(&[x; BLOCK]).0.len(), BLOCK);
            let (levels, scale) = to_4_bits(&[x; BLOCK]);
            assert!((f32::from(levels[0]) * scale.to_f32()).is_finite());
            let a = Activations::of(&[x; 40], 40);
            assert!(a.scales.iter().all(|scale| scale.is_finite()));
        }
    }

    #[test]
    fn a_block_with_nan_or_infinity_has_no_finite_scale_and_the_others_keep_theirs() {
        let mut random = Random::new(12);
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let good = random.normals(3 * BLOCK);
            let expected = Activations::of(&good, good.len());
            for at in 0..good.len() {
                let mut x = good.clone();
                x[at] = bad;
                let found = Activations::of(&x, x.len());
                for (block, (found, expected)) in
                    found.scales.iter().zip(&expected.scales).enumerate()
                {
                    match block == at / BLOCK {
                        true => assert!(!found.is_finite(), "{bad} at {at}"),
                        false => assert_eq!(found, expected, "{bad} at {at}"),
                    }
                }
            }
        }
    }
}
