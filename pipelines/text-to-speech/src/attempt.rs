//! What can go wrong with an utterance, as its codes show it.

/// Frames of a loop, and of one code that does not change.
const LOOP: usize = 24;
const STILL: usize = 30;
/// Longest period of a loop in frames.
const PERIOD: usize = 20;
/// Frames that a symbol takes at least, on average.
const LEAST: f64 = 0.9;

/// A fault, the least one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Too few frames for its symbols: words are missing.
    Short,
    /// The same frames over and over.
    Loop,
    /// The model did not end it.
    Endless,
}

/// What is wrong with an utterance of so many symbols, if anything is.
pub fn fault(codes: &[u32], ended: bool, symbols: usize) -> Option<Fault> {
    if !ended {
        return Some(Fault::Endless);
    }
    let still = (STILL..=codes.len()).any(|end| {
        codes[end - STILL..end]
            .iter()
            .all(|code| *code == codes[end - 1])
    });
    if still || (2..=PERIOD).any(|period| repeats(codes, period)) {
        return Some(Fault::Loop);
    }
    ((codes.len() as f64) < LEAST * symbols as f64).then_some(Fault::Short)
}

/// Whether some stretch is nothing but repetitions, three at least.
fn repeats(codes: &[u32], period: usize) -> bool {
    let needed = LOOP.max(3 * period) - period;
    let mut run = 0;
    for at in period..codes.len() {
        run = if codes[at] == codes[at - period] {
            run + 1
        } else {
            0
        };
        let stretch = &codes[at + 1 - run.min(at + 1)..=at];
        // A still stretch repeats with every period; it is looked at by itself.
        if run >= needed && stretch.iter().any(|code| *code != stretch[0]) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varied(len: usize) -> Vec<u32> {
        (0..len as u32).map(|at| at * at % 509).collect()
    }

    #[test]
    fn faults_are_seen_and_good_codes_are_left_alone() {
        assert_eq!(fault(&varied(60), true, 30), None);
        assert_eq!(fault(&varied(60), false, 30), Some(Fault::Endless));
        assert_eq!(fault(&varied(20), true, 30), Some(Fault::Short));
        let mut codes = varied(40);
        codes.extend([1, 2, 3, 4].repeat(9));
        assert_eq!(fault(&codes, true, 30), Some(Fault::Loop));
        // A short silence is none.
        let mut codes = varied(40);
        codes.extend([7; 12]);
        assert_eq!(fault(&codes, true, 30), None);
        codes.extend([7; 30]);
        assert_eq!(fault(&codes, true, 30), Some(Fault::Loop));
    }
}
