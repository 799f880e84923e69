//! The codes of all training pictures, computed once.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::{ImageTokenizer, Images, Seed};

use crate::{Item, Pictures, TrainError};

/// Pictures whose codes are computed at a time.
pub const ENCODE_BATCH: usize = 64;

/// How far a neighbour in the table may be.
const NEAR: usize = 6;

/// Codes of some pictures, `positions` each, row after row.
pub struct CodeTable {
    ids: Vec<i32>,
    positions: usize,
}

impl CodeTable {
    /// The codes of `items`.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn encode(
        tokenizer: &dyn ImageTokenizer,
        pictures: &Pictures,
        items: &[Item],
        device: &Device,
    ) -> Result<Self, TrainError> {
        let mut ids = Vec::new();
        for chunk in items.chunks(ENCODE_BATCH) {
            let pixels = pictures.tensor(chunk, device);
            let codes = tokenizer.encode(Images { pixels })?;
            ids.extend(codes.to_host().into_iter().flatten().map(|id| id as i32));
        }
        Ok(Self {
            ids,
            positions: tokenizer.image_spec().layout.len(),
        })
    }

    /// `[items, positions]`, where each row has some codes of the row before it: at most `share` of them, at random.
    pub fn corrupted_rows(
        &self,
        items: &[usize],
        share: f64,
        seed: Seed,
        device: &Device,
    ) -> Tensor<2, Int> {
        let mut values = Vec::with_capacity(items.len() * self.positions);
        for (row, &item) in items.iter().enumerate() {
            let other = items[(row + items.len() - 1) % items.len()];
            let mut stream = seed.indexed(row as u64).stream();
            let mut chance = || f64::from(stream.next_u32()) / f64::from(u32::MAX);
            let share = share * chance();
            for at in 0..self.positions {
                let from = if chance() < share { other } else { item };
                values.push(self.ids[from * self.positions + at]);
            }
        }
        let shape = [items.len(), self.positions];
        Tensor::from_data(TensorData::new::<i32, _>(values, shape), device)
    }

    /// Wrong codes for a share of the positions, drawn per row evenly from zero to `share`; -1 where the right one stays.
    /// They are those of the row before or of a neighbour in the table, each half of the time.
    ///
    /// # Shapes
    /// - returns: `[items, positions]`
    pub fn mistakes(
        &self,
        items: &[usize],
        share: f64,
        seed: Seed,
        device: &Device,
    ) -> Tensor<2, Int> {
        let last = self.ids.len() / self.positions - 1;
        let mut values = Vec::with_capacity(items.len() * self.positions);
        for (row, &item) in items.iter().enumerate() {
            let mut stream = seed.indexed(row as u64).stream();
            let before = items[(row + items.len() - 1) % items.len()];
            let offset = stream.next_u32() as usize % (2 * NEAR + 1);
            let near = (item + offset).saturating_sub(NEAR).min(last);
            let mut chance = || f64::from(stream.next_u32()) / f64::from(u32::MAX);
            let share = share * chance();
            let other = if chance() < 0.5 { before } else { near };
            values.extend((0..self.positions).map(|at| match chance() < share {
                true => self.ids[other * self.positions + at],
                false => -1,
            }));
        }
        let shape = [items.len(), self.positions];
        Tensor::from_data(TensorData::new::<i32, _>(values, shape), device)
    }

    /// `[items, positions]`.
    pub fn rows(&self, items: &[usize], device: &Device) -> Tensor<2, Int> {
        let values: Vec<i32> = items
            .iter()
            .flat_map(|item| &self.ids[item * self.positions..(item + 1) * self.positions])
            .copied()
            .collect();
        let shape = [items.len(), self.positions];
        Tensor::from_data(TensorData::new::<i32, _>(values, shape), device)
    }
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{device, ids};

    use super::*;

    fn table() -> CodeTable {
        CodeTable {
            ids: (0..3).flat_map(|row| vec![row; 100]).collect(),
            positions: 100,
        }
    }

    #[test]
    fn mistakes_are_codes_of_others_and_at_most_a_share() {
        let (table, device) = (table(), device());
        let drawn = |share, seed| ids(&table.mistakes(&[2, 0, 1], share, Seed::new(seed), &device));
        assert!(drawn(0.0, 1).iter().all(|&id| id == -1));
        assert_eq!(drawn(0.5, 1), drawn(0.5, 1));
        assert_ne!(drawn(0.5, 1), drawn(0.5, 2));
        let all: Vec<_> = (0..20).flat_map(|seed| drawn(0.5, seed)).collect();
        let wrong = all.iter().filter(|&&id| id >= 0).count();
        assert!(
            (1_000..2_000).contains(&wrong),
            "a quarter: {wrong} of 6000"
        );
        assert!(all.iter().all(|id| (-1..3).contains(id)));
    }

    #[test]
    fn corrupted_codes_are_those_of_the_row_before_and_at_most_a_share() {
        let (table, device) = (table(), device());
        let items = [2, 0, 1];
        let clean = ids(&table.rows(&items, &device));
        let shown =
            |share, seed| ids(&table.corrupted_rows(&items, share, Seed::new(seed), &device));
        assert_eq!(shown(0.0, 1), clean);
        assert_eq!(shown(0.5, 1), shown(0.5, 1));
        assert_ne!(shown(0.5, 1), shown(0.5, 2));
        for seed in 0..20 {
            let shown = shown(0.5, seed);
            for (row, before) in [(0, 1), (1, 2), (2, 0)] {
                let row = &shown[row * 100..][..100];
                let clean = clean[before * 100];
                let wrong = row.iter().filter(|&&id| id == clean).count();
                assert!(wrong <= 70, "half at most, give or take chance: {wrong}");
            }
        }
        let all: usize = (0..20)
            .map(|seed| {
                shown(0.5, seed)
                    .iter()
                    .zip(&clean)
                    .filter(|(a, b)| a != b)
                    .count()
            })
            .sum();
        assert!(
            (1_000..2_000).contains(&all),
            "a quarter on average: {all} of 6000"
        );
    }
}
