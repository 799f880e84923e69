//! How good speech sounds, by a model of the ear: wideband PESQ (ITU-T P.862.2), as the crate `pesq` computes it.

/// The rate that [`pesq()`] hears at.
pub const PESQ_RATE_HZ: u32 = 16_000;

/// The mean opinion that listeners would have of decoded speech beside the original, from 1 (bad) to 4.64 (none could be better); none for sound
/// that is shorter than a quarter of a second or in which no speech is found.
///
/// # Shapes
/// - `found`, `original`: samples in `-1..=1` at [`PESQ_RATE_HZ`]
pub fn pesq(found: &[f32], original: &[f32]) -> Option<f64> {
    let integers = |samples: &[f32]| -> Vec<i16> {
        let scaled = samples.iter().map(|sample| sample * 32_767.0);
        scaled.map(|sample| sample.round() as i16).collect()
    };
    let (found, original) = (integers(found), integers(original));
    if original.iter().all(|sample| *sample == 0) {
        return None; // The model of the ear finds silence like anything.
    }
    let opinion = pesq::pesq_wb(&original, &found).ok()?;
    opinion.is_finite().then_some(f64::from(opinion))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two seconds of a buzz that comes in syllables, with so much noise.
    fn speech(noise: f32) -> Vec<f32> {
        let mut state = 1u32;
        (0..2 * PESQ_RATE_HZ)
            .map(|at| {
                let time = at as f32 / PESQ_RATE_HZ as f32;
                let syllable = (time * 4.0 * std::f32::consts::TAU).sin().max(0.0);
                let buzz: f32 = (1..20)
                    .map(|wave| {
                        (time * 120.0 * wave as f32 * std::f32::consts::TAU).sin() / wave as f32
                    })
                    .sum();
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let random = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
                0.2 * syllable * buzz + noise * random
            })
            .collect()
    }

    #[test]
    fn equal_speech_is_the_best_and_noise_makes_it_worse() {
        let clean = speech(0.0);
        let heard = |noise| pesq(&speech(noise), &clean).unwrap();
        let (same, little, much) = (heard(0.0), heard(0.003), heard(0.1));
        assert!(same > 4.6 && same <= 4.65, "{same}");
        assert!(
            same > little && little > much && much >= 1.0,
            "{same} {little} {much}"
        );
    }

    #[test]
    fn silence_and_a_moment_have_no_quality() {
        assert_eq!(pesq(&[0.0; 16_000], &[0.0; 16_000]), None);
        assert_eq!(pesq(&speech(0.1), &[0.0; 32_000]), None);
        assert_eq!(pesq(&[0.1; 100], &[0.1; 100]), None);
        assert_eq!(pesq(&[], &[]), None);
    }
}
