//! How many frames each symbol of a recording takes, found from recordings and symbols alone.
//!
//! A hidden Markov model (Rabiner 1989, section III): symbols are its states, in the order of the text, and the codes of the first codebooks
//! what they emit. A symbol may be passed over, as the ends of words are. Beginning with symbols of equal length, the best path of
//! every recording is found and the probabilities are counted along it, a few times over (Viterbi training).

use crate::speech_lesson::Utterance;

/// Codebooks that count.
const BOOKS: usize = 2;
/// Times that probabilities are counted.
const ROUNDS: usize = 8;
/// Symbols that may be passed over in a row.
const PASSED: usize = 3;
/// Weight of the codes of all symbols together in those of one.
const COMMON: f64 = 4.0;

/// Finds the durations of all utterances, learning from the first list alone; `is_mark` tells symbols that are no sound of their own.
pub(crate) fn aligned(
    learned: &mut [Utterance],
    others: &mut [Utterance],
    is_mark: impl Fn(u32) -> bool,
) {
    for one in learned.iter_mut() {
        one.durations = even(one, &is_mark);
    }
    for round in 0..=ROUNDS {
        let Some(counts) = Counts::of(learned, &is_mark) else {
            break;
        };
        let model = counts.model();
        let last = round == ROUNDS;
        let rest: &mut [Utterance] = if last { others } else { &mut [] };
        for one in learned.iter_mut().chain(rest) {
            one.durations = model.path(one).unwrap_or_else(|| even(one, &is_mark));
        }
    }
}

/// Frames spread evenly over the symbols that are sounds; the last mark is the silence at the end.
fn even(one: &Utterance, is_mark: impl Fn(u32) -> bool) -> Vec<u32> {
    let count = one.symbols.len();
    let heard: Vec<usize> = (0..count)
        .filter(|&at| at + 1 == count || !is_mark(one.symbols[at]))
        .collect();
    let mut frames = vec![0; count];
    for (place, &at) in heard.iter().enumerate() {
        let edge = |place: usize| (place * one.frames / heard.len()) as u32;
        frames[at] = edge(place + 1) - edge(place);
    }
    frames
}

/// How often what was seen.
struct Counts {
    /// Of each symbol, codebook and code.
    codes: Vec<f64>,
    symbols: usize,
    books: usize,
    size: usize,
    /// Of each symbol: how often it stands in a text, how often it is passed over, frames.
    seen: Vec<[f64; 3]>,
}

impl Counts {
    /// None if there is nothing to count.
    fn of(all: &[Utterance], is_mark: impl Fn(u32) -> bool) -> Option<Self> {
        let most = |ids: &mut dyn Iterator<Item = u32>| ids.max().map(|id| id as usize + 1);
        let symbols = most(&mut all.iter().flat_map(|one| one.symbols.iter().copied()))?;
        let size = most(&mut all.iter().flat_map(|one| one.codes.iter().copied()))?;
        let books = all.iter().map(|one| one.books().count()).min()?.min(BOOKS);
        let prior = |symbol: usize| match is_mark(symbol as u32) {
            true => [4.0, 3.0, 4.0],
            false => [4.0, 0.1, 8.0],
        };
        let mut counts = Self {
            codes: vec![0.0; symbols * books * size],
            symbols,
            books,
            size,
            seen: (0..symbols).map(prior).collect(),
        };
        for one in all {
            counts.add(one);
        }
        Some(counts)
    }

    fn add(&mut self, one: &Utterance) {
        let mut frame = 0;
        for (&symbol, &frames) in one.symbols.iter().zip(&one.durations) {
            let symbol = symbol as usize;
            let seen = &mut self.seen[symbol];
            seen[0] += 1.0;
            seen[1] += f64::from(u8::from(frames == 0));
            seen[2] += f64::from(frames);
            for (book, codes) in one.books().take(self.books).enumerate() {
                for &code in &codes[frame..frame + frames as usize] {
                    self.codes[(symbol * self.books + book) * self.size + code as usize] += 1.0;
                }
            }
            frame += frames as usize;
        }
    }

    /// Logarithms of shares; a symbol that was hardly seen has the codes of all.
    fn model(&self) -> Model {
        let row = self.books * self.size;
        let mut common = vec![0.0; row];
        for counts in self.codes.chunks(row) {
            for (sum, count) in common.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        let frames: f64 = common[..self.size].iter().sum();
        let background = |at: usize| (common[at] + 0.5) / (frames + 0.5 * self.size as f64);
        let mut codes = Vec::with_capacity(self.codes.len());
        for counts in self.codes.chunks(row) {
            let total: f64 = counts[..self.size].iter().sum();
            codes.extend(counts.iter().enumerate().map(|(at, count)| {
                let share = (count + COMMON * background(at)) / (total + COMMON);
                share.ln() as f32
            }));
        }
        let steps = self.seen.iter().map(|&[texts, passed, frames]| {
            let skip = passed / texts;
            // A visit of so many frames on average is left with this chance after each.
            let leave = ((texts - passed) / frames).clamp(0.05, 0.95);
            [skip, 1.0 - skip, 1.0 - leave, leave].map(|share| share.max(1e-6).ln() as f32)
        });
        Model {
            codes,
            steps: steps.collect(),
            symbols: self.symbols,
            books: self.books,
            size: self.size,
        }
    }
}

/// Logarithms of what was counted.
struct Model {
    codes: Vec<f32>,
    /// Of each symbol: to be passed over, to be said, to go on, to be left.
    steps: Vec<[f32; 4]>,
    symbols: usize,
    books: usize,
    size: usize,
}

impl Model {
    /// Durations along the best path; none if there is no path, or a symbol or code was never counted.
    fn path(&self, one: &Utterance) -> Option<Vec<u32>> {
        let (states, frames) = (one.symbols.len(), one.frames);
        let unknown = |ids: &[u32], size: usize| ids.iter().any(|&id| id as usize >= size);
        if frames == 0 || unknown(&one.symbols, self.symbols) || unknown(&one.codes, self.size) {
            return None;
        }
        let steps: Vec<[f32; 4]> = one
            .symbols
            .iter()
            .map(|&symbol| self.steps[symbol as usize])
            .collect();
        // Passing over the symbols of a range.
        let over =
            |range: std::ops::Range<usize>| -> f32 { steps[range].iter().map(|s| s[0]).sum() };
        let mut scores = vec![f32::NEG_INFINITY; states];
        let mut from = vec![0u8; states * frames];
        for (state, score) in scores.iter_mut().enumerate().take(PASSED + 1) {
            *score = over(0..state) + steps[state][1] + self.emits(one, state, 0);
        }
        for frame in 1..frames {
            let before = scores.clone();
            for state in 0..states {
                let mut best = (before[state] + steps[state][2], 0u8);
                for back in 1..=(PASSED + 1).min(state) {
                    let left = state - back;
                    let score =
                        before[left] + steps[left][3] + over(left + 1..state) + steps[state][1];
                    if score > best.0 {
                        best = (score, back as u8);
                    }
                }
                from[frame * states + state] = best.1;
                scores[state] = best.0 + self.emits(one, state, frame);
            }
        }
        let last = states.saturating_sub(PASSED + 1)..states;
        let end = last.max_by(|&a, &b| {
            let ended = |state: usize| scores[state] + over(state + 1..states);
            ended(a).total_cmp(&ended(b))
        })?;
        if !scores[end].is_finite() {
            return None;
        }
        let mut durations = vec![0; states];
        let mut state = end;
        for frame in (0..frames).rev() {
            durations[state] += 1;
            if frame > 0 {
                state -= usize::from(from[frame * states + state]);
            }
        }
        Some(durations)
    }

    fn emits(&self, one: &Utterance, state: usize, frame: usize) -> f32 {
        let symbol = one.symbols[state] as usize;
        let books = one.books().take(self.books).enumerate();
        books
            .map(|(book, codes)| {
                self.codes[(symbol * self.books + book) * self.size + codes[frame] as usize]
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::Rng;
    use ravel_core::Seed;

    /// Utterances in which a symbol has codes of its own, some of them wrong, with the durations that made them.
    fn spoken(count: usize) -> (Vec<Utterance>, Vec<Vec<u32>>) {
        let mut random = Seed::new(3).stream();
        let mut below = |count: u32| random.next_u32() % count;
        let mut made = || {
            let words = 2 + below(3);
            let mut symbols = Vec::new();
            let mut durations = Vec::new();
            for word in 0..words {
                for _ in 0..2 + below(3) {
                    symbols.push(10 + below(12));
                    durations.push(1 + below(4));
                }
                let end = word + 1 == words;
                symbols.push(if end { 6 } else { 5 });
                durations.push(if end { 2 } else { 0 });
            }
            let mut first = Vec::new();
            for (&symbol, &frames) in symbols.iter().zip(&durations) {
                for _ in 0..frames {
                    let wrong = below(12) == 0;
                    first.push(if wrong {
                        below(70)
                    } else {
                        3 * symbol + below(3)
                    });
                }
            }
            let second: Vec<u32> = first.iter().map(|_| below(70)).collect();
            let utterance = Utterance {
                voice: String::new(),
                speed: String::new(),
                symbols,
                frames: first.len(),
                codes: [first, second].concat(),
                durations: Vec::new(),
            };
            (utterance, durations)
        };
        (0..count).map(|_| made()).unzip()
    }

    #[test]
    fn durations_are_found_from_codes_and_symbols_alone() {
        let (mut all, made) = spoken(300);
        let mut others = all.split_off(280);
        aligned(&mut all, &mut others, |id| id < 10);
        let found = all.iter().chain(&others).map(|one| &one.durations);
        let (mut right, mut count) = (0, 0);
        for (found, made) in found.zip(&made) {
            assert_eq!(found.iter().sum::<u32>(), made.iter().sum::<u32>());
            right += found.iter().zip(made).filter(|(a, b)| a == b).count();
            count += made.len();
        }
        // Where codes at an edge are wrong nobody can tell; lengths that are equal are right a third of the time.
        assert!(right as f64 > 0.8 * count as f64, "{right} of {count}");
    }

    #[test]
    fn what_has_no_path_is_spread_evenly() {
        let (mut all, _) = spoken(20);
        let one = &mut all[0];
        one.frames = 1;
        one.codes = vec![1, 1];
        aligned(&mut all, &mut [], |id| id < 10);
        assert!(
            all.iter()
                .all(|one| one.durations.iter().sum::<u32>() as usize == one.frames)
        );
    }
}
