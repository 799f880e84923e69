//! What a next-frame generator is told of a clip in words: captions as prompts, some left out.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::Seed;
use ravel_heads::PrefixConfig;
use ravel_text::{Span, Subwords};

use crate::TrainError;
use crate::clips::{ClipItem, Clips};
use crate::recipe::ClipTextConfig;

/// Captions of clips as ids of subwords that were learned from them.
pub(crate) struct ClipCaptions {
    pub(crate) subwords: Subwords,
    config: ClipTextConfig,
    /// Prompts of the training clips.
    prompts: Vec<Vec<u32>>,
    seed: Seed,
}

impl ClipCaptions {
    /// Learns the subwords from the training clips' captions.
    ///
    /// # Errors
    /// [`TrainError`] if a caption is longer than the prefix.
    pub(crate) fn new(
        config: &ClipTextConfig,
        clips: &Clips,
        seed: Seed,
    ) -> Result<Self, TrainError> {
        let captions = clips
            .train
            .iter()
            .map(|item| item.row.caption().to_string());
        let subwords = Subwords::train(captions, config.vocabulary_size, Span::Words, &[])?;
        let prompt = |item: &ClipItem| subwords.prompt(item.row.caption(), config.length);
        let prompts = clips.train.iter().map(prompt).collect::<Result<_, _>>()?;
        Ok(Self {
            subwords,
            config: config.clone(),
            prompts,
            seed,
        })
    }

    /// Sizes of the embedding.
    pub(crate) fn prefix(&self) -> PrefixConfig {
        PrefixConfig {
            vocabulary_size: self.subwords.vocabulary_size(),
            len: self.config.length,
            ..PrefixConfig::default()
        }
    }

    /// Prompts of a step's clips, some of them empty: `[items, length]`.
    pub(crate) fn of_step(&self, step: usize, items: &[usize], device: &Device) -> Tensor<2, Int> {
        let seed = self.seed.indexed(step as u64);
        let prompt = |(row, &item): (usize, &usize)| {
            let draw = seed.indexed(row as u64).stream().next_u32();
            match f64::from(draw) / f64::from(u32::MAX) < self.config.drop {
                true => self.subwords.empty_prompt(self.config.length),
                false => self.prompts[item].clone(),
            }
        };
        let ids = items.iter().enumerate().flat_map(prompt).collect();
        self.tensor(ids, items.len(), device)
    }

    /// Prompts of some clips, none left out: `[clips, length]`.
    ///
    /// # Errors
    /// [`TrainError`] if a caption is longer than the prefix.
    pub(crate) fn of(
        &self,
        items: &[&ClipItem],
        device: &Device,
    ) -> Result<Tensor<2, Int>, TrainError> {
        let mut ids = Vec::new();
        for item in items {
            ids.extend(
                self.subwords
                    .prompt(item.row.caption(), self.config.length)?,
            );
        }
        Ok(self.tensor(ids, items.len(), device))
    }

    fn tensor(&self, ids: Vec<u32>, rows: usize, device: &Device) -> Tensor<2, Int> {
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        let data = TensorData::new::<i32, _>(ids, [rows, self.config.length]);
        Tensor::from_data(data, device)
    }
}
