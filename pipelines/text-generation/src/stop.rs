//! Stop strings in text that comes in pieces: nothing is shown that could still become one.

/// Looks for stop strings across pieces.
#[derive(Debug, Clone)]
pub struct StopScan {
    stops: Vec<String>,
    /// What was not shown, since a stop string may begin in it.
    held: String,
}

impl StopScan {
    /// Looks for any of these strings; empty ones are never found.
    pub fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes one more piece: the text that is certain, and the stop string that follows it, if one came. The one that ends first
    /// counts, of those the longest, however the text is cut.
    pub fn push(&mut self, piece: &str) -> (String, Option<String>) {
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| {
            let at = self.held.find(stop.as_str())?;
            Some((at + stop.len(), at, stop))
        });
        if let Some((_, at, stop)) = found.min() {
            let (certain, stop) = (self.held[..at].to_string(), stop.clone());
            self.held.clear();
            return (certain, Some(stop));
        }
        let certain = self.held.len() - self.undecided();
        let rest = self.held.split_off(certain);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// What is held back when no more comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end with which a stop string may begin.
    fn undecided(&self) -> usize {
        let begins = |stop: &String| {
            let longest = (stop.len() - 1).min(self.held.len());
            (1..=longest)
                .rev()
                .find(|&len| self.held.as_bytes().ends_with(&stop.as_bytes()[..len]))
                .unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text shown and the stop string, whichever way the text is cut.
    fn check(stops: &[&str], text: &str, expected: (&str, Option<&str>)) {
        let letters: Vec<char> = text.chars().collect();
        for size in 1..=letters.len() {
            let mut scan = StopScan::new(stops.iter().map(|stop| stop.to_string()).collect());
            let mut shown = String::new();
            let mut stopped = None;
            for piece in letters.chunks(size) {
                let piece: String = piece.iter().collect();
                let (certain, stop) = scan.push(&piece);
                shown += &certain;
                if stop.is_some() {
                    stopped = stop;
                    break;
                }
            }
            if stopped.is_none() {
                shown += &scan.finish();
            }
            assert_eq!((&*shown, stopped.as_deref()), expected, "pieces of {size}");
        }
    }

    #[test]
    fn a_stop_string_is_found_across_pieces_and_never_shown() {
        check(&["END"], "some EENDs", ("some E", Some("END")));
        check(&["END"], "some EN", ("some EN", None));
        check(&["\n\n"], "a\nb\n\nc", ("a\nb", Some("\n\n")));
        check(&["é!"], "caféé!é", ("café", Some("é!")));
        check(&[], "text", ("text", None));
        check(&["b", "abc"], "xabc", ("xa", Some("b")));
        check(&["aab"], "aaab", ("a", Some("aab")));
    }
}
