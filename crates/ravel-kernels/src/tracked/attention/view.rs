//! Who sees whom, laid out for blocks of scores.

use std::sync::Arc;

use crate::tiles::ROWS;

/// What is added to the score of a place that is not there.
const FAR: f32 = -1e9;
/// Scores that are put below this are of no weight.
const HIDDEN: f32 = -1e8;

/// Who sees whom.
#[derive(Clone)]
pub(super) struct View {
    /// `[batch, heads, keys, queries]`, keys and queries rounded up to blocks; empty if all see all.
    pub(super) values: Arc<Vec<f32>>,
    batch: usize,
    heads: usize,
    /// Blocks of keys that a block of queries sees, for each of the above.
    pub(super) seen: Arc<Vec<Vec<usize>>>,
}

impl View {
    pub(super) fn new(n: usize, mask: Option<(&[f32], [usize; 4])>) -> Self {
        let blocks = n.div_ceil(ROWS);
        let padded = blocks * ROWS;
        let (batch, heads) = mask.map_or((1, 1), |(_, [batch, heads, ..])| (batch, heads));
        if mask.is_none() && padded == n {
            return Self {
                values: Arc::default(),
                batch,
                heads,
                seen: Arc::new(vec![(0..blocks).collect(); blocks]),
            };
        }
        let mut values = vec![FAR; batch * heads * padded * padded];
        let mut seen = Vec::with_capacity(batch * heads * blocks);
        for (at, plane) in values.chunks_exact_mut(padded * padded).enumerate() {
            for (key, row) in plane.chunks_exact_mut(padded).take(n).enumerate() {
                for (query, to) in row.iter_mut().enumerate() {
                    *to = match mask {
                        Some((mask, [_, _, rows, keys])) if query < n => {
                            assert_eq!(keys, n, "the mask has other keys");
                            mask[(at * rows + query % rows) * n + key]
                        }
                        _ => 0.0,
                    };
                }
            }
            for queries in 0..blocks {
                let sees = |keys: &usize| {
                    (0..ROWS).any(|key| {
                        let start = (keys * ROWS + key) * padded + queries * ROWS;
                        plane[start..start + ROWS].iter().any(|x| *x > HIDDEN)
                    })
                };
                let some: Vec<usize> = (0..blocks).filter(sees).collect();
                seen.push(match some.is_empty() {
                    true => (0..blocks).collect(),
                    false => some,
                });
            }
        }
        Self {
            values: Arc::new(values),
            batch,
            heads,
            seen: Arc::new(seen),
        }
    }

    /// Which of the planes a head of a row reads.
    pub(super) fn plane(&self, row: usize, head: usize) -> usize {
        row % self.batch * self.heads + head % self.heads
    }
}
