//! Loops: the same codes over and over, found while they are chosen.

/// Frames of a loop, and of one code that does not change.
const LOOP: usize = 24;
const STILL: usize = 30;
/// Longest period of a loop in frames.
const PERIOD: usize = 20;

/// Looks at the first codebook's codes, frame by frame.
#[derive(Debug, Clone)]
pub struct LoopWatch {
    codes: Vec<u32>,
    /// How many of the latest codes are each the one so many frames before it.
    runs: [usize; PERIOD + 1],
}

impl Default for LoopWatch {
    fn default() -> Self {
        Self {
            codes: Vec::new(),
            runs: [0; PERIOD + 1],
        }
    }
}

impl LoopWatch {
    /// Frames so far.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The next frame's code.
    pub fn push(&mut self, code: u32) {
        let len = self.codes.len();
        for (period, run) in self.runs.iter_mut().enumerate().skip(1) {
            let before = len.checked_sub(period).map(|at| self.codes[at]);
            *run = if before == Some(code) { *run + 1 } else { 0 };
        }
        self.codes.push(code);
    }

    /// The first repeated frame of a loop that the latest frames are in: three times the same, 24 frames at least, or 30 times one code.
    pub fn found(&self) -> Option<usize> {
        let still = self.runs[1];
        let len = self.codes.len();
        if still + 1 >= STILL {
            return Some(len - still);
        }
        // A still stretch repeats with every period; it was looked at by itself.
        (2..=PERIOD)
            .find(|&period| {
                let run = self.runs[period];
                run + period >= LOOP.max(3 * period) && still + 1 < run
            })
            .map(|period| len - self.runs[period])
    }

    /// Frames in front of every repetition that is under way: no loop that is still to be found begins earlier.
    pub fn settled(&self) -> usize {
        let longest = self.runs.iter().copied().max().unwrap_or(0);
        self.codes.len() - longest
    }

    /// Forgets all but the first `len` frames.
    pub fn truncate(&mut self, len: usize) {
        let mut codes = std::mem::take(&mut self.codes);
        codes.truncate(len);
        *self = Self::default();
        for code in codes {
            self.push(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varied(len: usize) -> Vec<u32> {
        (0..len as u32).map(|at| at * at % 509).collect()
    }

    /// The first repeated frame, and how many frames it took to find the loop; what was settled before it stays in front of it.
    fn looped(codes: &[u32]) -> Option<(usize, usize)> {
        let mut watch = LoopWatch::default();
        let mut settled = 0;
        for (at, &code) in codes.iter().enumerate() {
            watch.push(code);
            if let Some(from) = watch.found() {
                assert!(settled <= from, "{settled} frames were settled, not {from}");
                return Some((from, at + 1));
            }
            assert!(watch.settled() >= settled, "what is settled stays so");
            settled = watch.settled();
        }
        None
    }

    #[test]
    fn loops_are_found_where_they_begin_and_good_codes_are_left_alone() {
        assert_eq!(looped(&varied(60)), None);
        let mut codes = varied(40);
        codes.extend([1001, 1002, 1003, 1004].repeat(9));
        assert_eq!(looped(&codes), Some((44, 64)));
        // A short silence is none, a long one is.
        let mut codes = varied(40);
        codes.extend([1007; 12]);
        codes.extend(varied(40));
        assert_eq!(looped(&codes), None);
        codes.extend([1007; 40]);
        assert_eq!(looped(&codes), Some((93, 122)));
        // Long periods take three times.
        let mut codes = varied(20);
        codes.extend((1000..1020).collect::<Vec<_>>().repeat(3));
        assert_eq!(looped(&codes), Some((40, 80)));
    }

    #[test]
    fn what_is_forgotten_leaves_no_trace() {
        let mut watch = LoopWatch::default();
        for code in [1, 2, 1, 2, 1, 2, 3] {
            watch.push(code);
        }
        watch.truncate(4);
        assert_eq!((watch.len(), watch.settled()), (4, 2));
        let mut plain = LoopWatch::default();
        for code in [1, 2, 1, 2] {
            plain.push(code);
        }
        assert_eq!(plain.runs, watch.runs);
    }
}
