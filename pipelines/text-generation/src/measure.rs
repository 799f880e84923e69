//! How well a model foretells a text: bits per byte, so that models with other vocabularies can be compared.

use std::ops::ControlFlow;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use ravel_core::{Attend, Condition, StepInput};

use crate::{Error, TextGeneration};

/// Positions scored at a time; longer contexts are cut to it.
const LONGEST: usize = 1024;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// Ids that were foretold.
    pub tokens: usize,
    /// Bytes that they stand for.
    pub bytes: usize,
    /// Mean surprise of an id, in nats.
    pub nats_per_token: f64,
    /// Its exponential.
    pub perplexity: f64,
    /// Bits that an arithmetic coder would spend on a byte.
    pub bits_per_byte: f64,
}

/// What keeps a text from being measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// Fewer than two ids.
    #[error("the text has {0} tokens, 2 at least are needed")]
    Short(usize),
    /// What the parts report.
    #[error(transparent)]
    Generation(#[from] Error),
}

impl TextGeneration {
    /// Foretells every id of a text but the first from those before it. The text is cut into stretches of the model's context (1,024
    /// ids at most); the first id of each is foretold from the last of the one before. `watch` hears of the share that is done.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn measure(
        &self,
        text: &str,
        watch: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Option<Measure>, MeasureError> {
        let ids = self
            .parts
            .vocabulary
            .encode(text, false)
            .map_err(Error::from)?
            .ids;
        if ids.len() < 2 {
            return Err(MeasureError::Short(ids.len()));
        }
        let stretch = self.parts.context.min(LONGEST);
        let mut nats = 0.0;
        let mut start = 0;
        while start + 1 < ids.len() {
            let end = (start + stretch + 1).min(ids.len());
            nats += self.surprise(&ids[start..end]);
            start = end - 1;
            if watch(start as f64 / ids.len() as f64).is_break() {
                return Ok(None);
            }
        }
        let tokens = ids.len() - 1;
        let first = self
            .parts
            .vocabulary
            .decode(&ids[..1], false)
            .map_err(Error::from)?;
        let bytes = text.len().saturating_sub(first.len()).max(1);
        let nats_per_token = nats / tokens as f64;
        Ok(Some(Measure {
            tokens,
            bytes,
            nats_per_token,
            perplexity: nats_per_token.exp(),
            bits_per_byte: nats / std::f64::consts::LN_2 / bytes as f64,
        }))
    }

    /// Nats of all ids but the first.
    fn surprise(&self, ids: &[u32]) -> f64 {
        let (parts, n) = (&self.parts, ids.len() - 1);
        let tensor = |ids: &[u32]| -> Tensor<2, Int> {
            let values = ids.iter().map(|&id| id as i32).collect();
            let data = TensorData::new::<i32, _>(values, [1, ids.len()]);
            Tensor::from_data(data, &parts.device)
        };
        let input = StepInput {
            embedded: parts.head.embedded(tensor(&ids[..n])),
            coords: Tensor::arange(0..n as i64, &parts.device).unsqueeze_dim(1),
            attend: Attend::Causal,
        };
        let hidden = parts.backbone.forward(input, &Condition::default());
        let scores: Tensor<2> = parts.head.scores(hidden).squeeze_dim(0);
        let targets = tensor(&ids[1..]).reshape([n, 1]);
        let picked = log_softmax(scores, 1).gather(1, targets);
        let data = picked.into_data().convert::<f32>();
        let values: Vec<f32> = data.try_into_vec().expect("numbers were converted to f32");
        -values.into_iter().map(f64::from).sum::<f64>()
    }
}
