//! How utterances follow one another: without clicks, with a pause as long as their last mark asks for.

/// Milliseconds of a fade.
const FADE_MS: u32 = 5;

/// Fades the first and last few milliseconds of an utterance that comes in pieces from and to silence.
#[derive(Debug)]
pub struct Fader {
    len: usize,
    /// Samples so far.
    seen: usize,
    /// The latest ones, which may be the last.
    kept: Vec<f32>,
}

impl Fader {
    /// Nothing has come yet.
    pub fn new(sample_rate_hz: u32) -> Self {
        Self {
            len: (sample_rate_hz * FADE_MS / 1000) as usize,
            seen: 0,
            kept: Vec::new(),
        }
    }

    /// What these samples decide: all but the last few milliseconds.
    pub fn push(&mut self, samples: &[f32]) -> Vec<f32> {
        for &sample in samples {
            let share = (self.seen as f32 / self.len.max(1) as f32).min(1.0);
            self.kept.push(sample * share);
            self.seen += 1;
        }
        let ready = self.kept.len().saturating_sub(self.len);
        self.kept.drain(..ready).collect()
    }

    /// The last samples.
    pub fn finish(self) -> Vec<f32> {
        let len = self.len.max(1) as f32;
        let last = self.kept.iter().rev().enumerate();
        let mut faded: Vec<f32> = last
            .map(|(at, sample)| sample * (at as f32 / len))
            .collect();
        faded.reverse();
        faded
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

    fn faded(pieces: &[&[f32]]) -> Vec<f32> {
        let mut fader = Fader::new(16_000);
        let mut all: Vec<f32> = pieces.iter().flat_map(|piece| fader.push(piece)).collect();
        all.extend(fader.finish());
        all
    }

    #[test]
    fn ends_are_silent_and_the_middle_stays() {
        let samples = faded(&[&[1.0; 1000]]);
        assert_eq!(samples.len(), 1000);
        assert_eq!((samples[0], samples[999]), (0.0, 0.0));
        assert_eq!((samples[40], samples[959]), (0.5, 0.5));
        assert!(samples[80..920].iter().all(|sample| *sample == 1.0));
        assert_eq!(faded(&[]), Vec::<f32>::new());
        assert_eq!(pause("one,", 1000).len(), 120);
    }

    #[test]
    fn pieces_fade_as_the_whole_does() {
        let whole = faded(&[&[1.0; 500]]);
        assert_eq!(faded(&[&[1.0; 3], &[1.0; 90], &[], &[1.0; 407]]), whole);
    }
}
