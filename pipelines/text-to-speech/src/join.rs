//! How utterances follow one another: without clicks, with a pause as long as their last mark asks for.

/// Milliseconds of a fade.
const FADE_MS: u32 = 5;

/// Fades the first and last few milliseconds of an utterance from and to silence.
pub fn faded(samples: &mut [f32], sample_rate_hz: u32) {
    let len = (sample_rate_hz * FADE_MS / 1000) as usize;
    let len = len.min(samples.len() / 2);
    let count = samples.len();
    for at in 0..len {
        let share = at as f32 / len as f32;
        samples[at] *= share;
        samples[count - 1 - at] *= share;
    }
}

/// Silence after an utterance that ends with these words.
pub fn pause(words: &str, sample_rate_hz: u32) -> Vec<f32> {
    let milliseconds = match words.chars().next_back() {
        Some('.' | '?' | '!') => 250,
        Some(',') => 120,
        _ => 40,
    };
    vec![0.0; (sample_rate_hz * milliseconds / 1000) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_silent_and_the_middle_stays() {
        let mut samples = vec![1.0; 1000];
        faded(&mut samples, 16_000);
        assert_eq!((samples[0], samples[999]), (0.0, 0.0));
        assert!(samples[80..920].iter().all(|sample| *sample == 1.0));
        faded(&mut [], 16_000);
        assert_eq!(pause("one,", 1000).len(), 120);
    }
}
