//! The tokenizer as the rest of Ravel sees it.

use std::sync::Arc;

use burn::tensor::activation::relu;
use burn::tensor::{Int, Tensor};
use ravel_core::{
    Canvas, Clip, ClipSpec, ClipTokenizer, CodeSpec, Codes, DecodeChunks, EncodeChunks, Error,
    Result, Streaming, Tokenizer, VideoSpec, VideoTokenizer,
};
use ravel_nn::conv::{ReadyDecoder, pixel_unshuffle};

use crate::chunks::{Decoding, Encoding};
use crate::memory::Memory;
use crate::{CausalVideo, CausalVideoConfig, grid_from_sequence, sequence_from_grid};

/// Weights with what the codes look like.
#[derive(Debug)]
pub struct CausalVideoTokenizer {
    module: CausalVideo,
    ready: ReadyDecoder,
    spec: VideoSpec,
    clip_spec: ClipSpec,
}

impl CausalVideoTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: CausalVideo, config: &CausalVideoConfig) -> Self {
        let spec = config.spec();
        Self {
            module,
            ready: ReadyDecoder::default(),
            clip_spec: spec.clip_spec(),
            spec,
        }
    }

    fn later_vectors(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        self.module.config().later.quantizer().vectors(ids)
    }

    /// Each number of a code vector as one of its levels: `[b, n, sum of levels]`, ones and zeros.
    fn digits(&self, vectors: Tensor<3>) -> Tensor<3> {
        let mut digits = Vec::new();
        for (at, &levels) in self.module.config().later.levels.iter().enumerate() {
            let half = (levels / 2) as i32;
            let number = vectors.clone().narrow(2, at, 1) * half as f32;
            for level in 0..levels as i32 {
                let apart = (number.clone() - (level - half) as f32).abs();
                digits.push(relu(apart.neg() + 1.0));
            }
        }
        Tensor::cat(digits, 2)
    }
}

impl Tokenizer for CausalVideoTokenizer {
    type Signal = Clip;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    fn encode(&self, signal: Clip) -> Result<Codes> {
        let mut chunks = self.begin_encode(signal.frames.dims()[0]);
        let frames = signal.len();
        if frames == 0 || self.spec.groups_of(frames).is_none() {
            return Err(Error::Signal {
                found: format!("{frames} frames"),
                expected: match self.spec.group {
                    1 => "one frame at least".into(),
                    group => format!("one frame and then groups of {group}"),
                },
            });
        }
        let codes = chunks.push(signal)?;
        chunks.finish()?;
        Ok(codes)
    }

    fn decode(&self, codes: &Codes) -> Result<Clip> {
        let mut chunks = self.begin_decode(codes.batch(), codes.depth());
        let clip = chunks.push(codes)?;
        chunks.finish()?;
        Ok(clip)
    }
}

impl Streaming for CausalVideoTokenizer {
    fn begin_encode(&self, _batch: usize) -> Box<dyn EncodeChunks<Signal = Clip> + '_> {
        Box::new(Encoding::new(self))
    }

    fn begin_decode(
        &self,
        _batch: usize,
        _depth: usize,
    ) -> Box<dyn DecodeChunks<Signal = Clip> + '_> {
        Box::new(Decoding::new(self))
    }
}

impl ClipTokenizer for CausalVideoTokenizer {
    fn clip_spec(&self) -> &ClipSpec {
        &self.clip_spec
    }
}

impl VideoTokenizer for CausalVideoTokenizer {
    fn video_spec(&self) -> &VideoSpec {
        &self.spec
    }

    fn as_tokenizer(&self) -> &dyn Tokenizer<Signal = Clip> {
        self
    }

    fn first_ids(&self, frame: Tensor<4>) -> Tensor<2, Int> {
        let latents = sequence_from_grid(self.latents(frame));
        self.module.config().first.quantizer().ids(latents)
    }

    fn first(&self, ids: Tensor<2, Int>) -> Canvas {
        let (rows, columns) = self.spec.grid;
        let vectors = self.module.config().first.quantizer().vectors(ids);
        let grid = grid_from_sequence(vectors, rows, columns);
        let frame = (self.ready.forward(&self.module.first_decoder, grid)).clamp(-1.0, 1.0);
        self.anchored(frame.unsqueeze_dim(1), None)
    }

    fn anchored(&self, frames: Tensor<5>, ids: Option<Tensor<2, Int>>) -> Canvas {
        let batch = frames.dims()[0];
        let shape = [batch, self.spec.positions(), self.spec.codes.code_width];
        let none = || Tensor::zeros(shape, &frames.device());
        Canvas {
            vectors: ids.map_or_else(none, |ids| self.later_vectors(ids)),
            frames,
            memory: None,
        }
    }

    fn following(&self, before: &Canvas, frames: Tensor<5>, ids: Tensor<2, Int>) -> Canvas {
        let canvas = self.anchored(frames, Some(ids));
        let memory = Memory::following(&self.module.config().later, before, &canvas);
        Canvas { memory, ..canvas }
    }

    fn later_ids(&self, canvas: &Canvas, frames: Tensor<5>) -> Tensor<2, Int> {
        let latents = self.module.later_latents(canvas.latest(), frames);
        let quantizer = self.module.config().later.quantizer();
        quantizer.ids(sequence_from_grid(latents))
    }

    fn later(&self, canvas: &Canvas, ids: Tensor<2, Int>) -> Canvas {
        let (rows, columns) = self.spec.grid;
        let vectors = self.later_vectors(ids);
        if let Some(memory) = Memory::of(canvas) {
            let (frames, memory) = memory.moved(&self.module.config().later, &vectors, canvas);
            // What is shown is what the cells have agreed on; its own codes say that, as those of given frames do.
            let shown = || self.later_vectors(self.later_ids(canvas, frames.clone()));
            return Canvas {
                vectors: memory.vectors(vectors, shown),
                frames,
                memory: Some(Arc::new(memory)),
            };
        }
        let grid = grid_from_sequence(vectors.clone(), rows, columns);
        let changed = self.module.changed(canvas.latest(), grid);
        Canvas {
            frames: changed.frames.clamp(-1.0, 1.0),
            vectors,
            memory: None,
        }
    }

    /// The latest frame's pixels, cell by cell, then the levels of the codes that led to it.
    fn features(&self, canvas: &Canvas) -> Tensor<3> {
        let stride = self.module.config().later.stride();
        let pixels = sequence_from_grid(pixel_unshuffle(canvas.latest(), stride));
        Tensor::cat(vec![pixels, self.digits(canvas.vectors.clone())], 2)
    }

    fn latents(&self, frames: Tensor<4>) -> Tensor<4> {
        self.module.first_encoder.forward(frames)
    }
}
