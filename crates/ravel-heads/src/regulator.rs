//! Which symbol every frame belongs to, once it is known how long each is said: the length regulator of Ren et al. 2019
//! (FastSpeech, section 3.2), added to what predicts the codes.
//!
//! RALL-E (Xin et al. 2024, sections 3.2 and 3.3) predicts durations first and lets codes see little but the symbols around their own; here
//! a frame is told its symbol, the next one, and how long its own still lasts.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData, module::embedding};
use ravel_nn::init;

use crate::Arrangement;

/// Frames that a symbol lasts at most.
const MOST_LEFT: usize = 16;

/// Embeddings of symbols along frames.
#[derive(Module, Debug)]
pub struct Regulator {
    /// Of the symbol that is said, `[ids, d_model]`.
    pub now_embedding: Param<Tensor<2>>,
    /// Of the symbol that is said next, `[ids, d_model]`.
    pub next_embedding: Param<Tensor<2>>,
    /// Of the frames that the symbol still lasts, `[17, d_model]`.
    pub left_embedding: Param<Tensor<2>>,
}

/// Symbols of an utterance with how many frames each lasts.
#[derive(Debug, Clone, Copy)]
pub struct Timed<'a> {
    /// Ids of symbols, none of them 0.
    pub symbols: &'a [u32],
    /// Frames of each, zero where a symbol is not heard.
    pub frames: &'a [u32],
}

impl Timed<'_> {
    /// Frames of all symbols.
    pub fn len(&self) -> usize {
        self.frames.iter().map(|&frames| frames as usize).sum()
    }

    /// Whether no symbol lasts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For every frame: its symbol, the next one that is heard (0 for none), and how many frames its own still lasts.
    fn along(&self) -> Vec<[usize; 3]> {
        let heard: Vec<(u32, u32)> = self
            .symbols
            .iter()
            .copied()
            .zip(self.frames.iter().copied())
            .filter(|&(_, frames)| frames > 0)
            .collect();
        let each = heard
            .iter()
            .enumerate()
            .flat_map(|(at, &(symbol, frames))| {
                let next = heard.get(at + 1).map_or(0, |&(next, _)| next);
                let left = (1..=frames as usize).rev();
                left.map(move |left| [symbol as usize, next as usize, left.min(MOST_LEFT)])
            });
        each.collect()
    }
}

impl Regulator {
    /// Fresh embeddings of so many ids.
    pub fn init(ids: usize, d_model: usize, device: &Device) -> Self {
        let table = |rows| init::normal([rows, d_model], init::STD, device);
        Self {
            now_embedding: table(ids),
            next_embedding: table(ids),
            left_embedding: table(MOST_LEFT + 1),
        }
    }

    /// What is added to `positions` positions of each utterance. Id 0 stands behind its last frame.
    ///
    /// # Shapes
    /// - returns: `[rows, positions, d_model]`
    ///
    /// # Panics
    /// If a symbol has no embedding.
    pub fn beside(
        &self,
        rows: &[Timed<'_>],
        arrangement: &Arrangement,
        depth: usize,
        positions: usize,
    ) -> Tensor<3> {
        let device = self.now_embedding.val().device();
        let mut ids = [(); 3].map(|()| Vec::with_capacity(rows.len() * positions));
        for row in rows {
            let along = row.along();
            for position in 0..positions {
                let frame = arrangement.frame_at(position, depth);
                let told = along.get(frame).copied().unwrap_or_default();
                for (all, id) in ids.iter_mut().zip(told) {
                    all.push(id as i32);
                }
            }
        }
        let shape = [rows.len(), positions];
        let [now, next, left] =
            ids.map(|ids| Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device));
        embedding(self.now_embedding.val(), now)
            + embedding(self.next_embedding.val(), next)
            + embedding(self.left_embedding.val(), left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{assert_close, device};

    #[test]
    fn frames_know_their_symbol_the_next_one_and_what_is_left() {
        let timed = Timed {
            symbols: &[5, 6, 7, 8],
            frames: &[2, 0, 20, 1],
        };
        let along = timed.along();
        assert_eq!((timed.len(), along.len()), (23, 23));
        assert_eq!(along[..3], [[5, 7, 2], [5, 7, 1], [7, 8, 16]]);
        assert_eq!(along[20..], [[7, 8, 2], [7, 8, 1], [8, 0, 1]]);
    }

    #[test]
    fn codes_of_one_frame_are_told_the_same() {
        let regulator = Regulator::init(9, 4, &device());
        let timed = Timed {
            symbols: &[3, 4],
            frames: &[1, 2],
        };
        let of = |arrangement: &Arrangement, positions| {
            regulator.beside(&[timed, timed], arrangement, 2, positions)
        };
        let frames = of(&Arrangement::Parallel {}, 4);
        assert_eq!(frames.dims(), [2, 4, 4]);
        let flat = of(&Arrangement::Flattened {}, 8);
        let delayed = of(
            &Arrangement::Delayed {
                steps: vec![0, 1],
                before: 0,
                after: 0,
            },
            5,
        );
        for frame in 0..4 {
            let expected = frames.clone().narrow(1, frame, 1);
            for found in [
                flat.clone().narrow(1, 2 * frame, 1),
                flat.clone().narrow(1, 2 * frame + 1, 1),
                delayed.clone().narrow(1, frame, 1),
            ] {
                assert_close("frame", &found, &expected, 0.0);
            }
        }
    }
}
