//! The tokenizer as the rest of Ravel sees it.

use ravel_core::{Clip, ClipSpec, ClipTokenizer, CodeSpec, Codes, Result, Tokenizer, UNKNOWN_RATE};

use crate::VqVideo;

/// Weights with what the codes look like.
#[derive(Debug)]
pub struct VqVideoTokenizer {
    module: VqVideo,
    spec: ClipSpec,
}

impl VqVideoTokenizer {
    /// Weights, of a configuration that reads and makes clips of three channels.
    pub fn new(module: VqVideo) -> Self {
        Self {
            spec: module.config().clip_spec(),
            module,
        }
    }
}

impl Tokenizer for VqVideoTokenizer {
    type Signal = Clip;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    fn encode(&self, signal: Clip) -> Result<Codes> {
        let layout = self.spec.layout_of(&signal)?;
        let batch = signal.frames.dims()[0];
        let ids = self.module.ids(signal.frames);
        Ok(Codes::flat(ids.reshape([batch, layout.len()]), layout))
    }

    fn decode(&self, codes: &Codes) -> Result<Clip> {
        let [groups, rows, columns] = self.spec.grid_of(codes)?;
        let ids = codes.at_depth(0);
        let ids = ids.reshape([codes.batch(), groups, rows, columns]);
        Ok(Clip {
            frames: self.module.decode(ids).clamp(-1.0, 1.0),
            frames_per_second: UNKNOWN_RATE,
        })
    }
}

impl ClipTokenizer for VqVideoTokenizer {
    fn clip_spec(&self) -> &ClipSpec {
        &self.spec
    }
}
