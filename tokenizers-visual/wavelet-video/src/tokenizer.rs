//! The tokenizer as the rest of Ravel sees it.

use ravel_core::{Clip, ClipSpec, ClipTokenizer, CodeSpec, Codes, Result, Tokenizer, UNKNOWN_RATE};

use crate::WaveletVideo;

/// Weights with what the codes look like.
#[derive(Debug)]
pub struct WaveletVideoTokenizer {
    module: WaveletVideo,
    spec: ClipSpec,
}

impl WaveletVideoTokenizer {
    /// Weights, of a configuration that reads and makes clips of three channels.
    pub fn new(module: WaveletVideo) -> Self {
        Self {
            spec: module.config().clip_spec(),
            module,
        }
    }
}

impl Tokenizer for WaveletVideoTokenizer {
    type Signal = Clip;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    fn encode(&self, signal: Clip) -> Result<Codes> {
        let layout = self.spec.layout_of(&signal)?;
        let latents = self.module.latents(signal.frames.swap_dims(1, 2));
        let ids = self.module.quantize(latents).ids;
        let [batch, depth, ..] = ids.dims();
        Ok(Codes {
            ids: ids.reshape([batch, depth, layout.len()]),
            layout,
        })
    }

    fn decode(&self, codes: &Codes) -> Result<Clip> {
        let [groups, rows, columns] = self.spec.grid_of(codes)?;
        let ids = codes.ids.clone();
        let ids = ids.reshape([codes.batch(), codes.depth(), groups, rows, columns]);
        let clip = self.module.decode(self.module.vectors(ids));
        Ok(Clip {
            frames: clip.swap_dims(1, 2).clamp(-1.0, 1.0),
            frames_per_second: UNKNOWN_RATE,
        })
    }
}

impl ClipTokenizer for WaveletVideoTokenizer {
    fn clip_spec(&self) -> &ClipSpec {
        &self.spec
    }
}
