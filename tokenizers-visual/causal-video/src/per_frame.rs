//! An image tokenizer in a video tokenizer's place: every frame is coded alone.

use burn::tensor::{Int, Tensor};
use ravel_core::{
    Canvas, Clip, CodeSpec, Codes, DecodeChunks, EncodeChunks, Error, ImageSpec, ImageTokenizer,
    Images, Layout, Result, Streaming, Tokenizer, VideoSpec, VideoTokenizer,
};
use ravel_nn::conv::pixel_unshuffle;

use crate::chunks::{Decoding, Encoding};
use crate::sequence_from_grid;

/// A tokenizer with one grid of codes for each frame.
pub struct PerFrame {
    image: Box<dyn ImageTokenizer>,
    spec: VideoSpec,
    stride: usize,
}

impl PerFrame {
    /// # Errors
    /// [`Error::Config`] if the tokenizer's codes are not one grid of square cells.
    pub fn new(image: Box<dyn ImageTokenizer>) -> Result<Self> {
        let spec = Self::spec_of(image.image_spec())?;
        Ok(Self {
            stride: spec.signal_size.0 / spec.grid.0,
            image,
            spec,
        })
    }

    /// What video looks like to an image tokenizer.
    ///
    /// # Errors
    /// As [`PerFrame::new`].
    pub fn spec_of(image: &ImageSpec) -> Result<VideoSpec> {
        let spec = image.clone();
        let wrong = |found: String| Error::Config {
            field: "tokenizer".into(),
            found,
            expected: "one grid of square cells for each frame".into(),
        };
        let Layout::Grid { height, width } = spec.layout else {
            return Err(wrong(spec.layout.describe()));
        };
        let (rows, columns) = spec.signal_size;
        let stride = rows / height.max(1);
        if (rows, columns) != (stride * height, stride * width) || spec.codes.depth != 1 {
            return Err(wrong(format!(
                "{} for {columns} x {rows} pixels, depth {}",
                spec.layout.describe(),
                spec.codes.depth
            )));
        }
        let size = spec.codes.codebook_size;
        Ok(VideoSpec {
            first_codebook_size: size,
            later_codebook_size: size,
            later_levels: Vec::new(),
            signal_size: spec.signal_size,
            grid: (height, width),
            group: 1,
            feature_width: 3 * stride * stride + spec.codes.code_width,
            codes: spec.codes,
        })
    }

    fn layout(&self) -> Layout {
        self.image.image_spec().layout.clone()
    }

    fn ids(&self, pixels: Tensor<4>) -> Tensor<2, Int> {
        let codes = self.image.encode(Images { pixels });
        codes.expect("frames of the tokenizer's size").at_depth(0)
    }

    fn shown(&self, ids: Tensor<2, Int>) -> Canvas {
        let codes = Codes::flat(ids.clone(), self.layout());
        let images = self.image.decode(&codes).expect("ids of the codebook");
        self.anchored(images.pixels.unsqueeze_dim(1), Some(ids))
    }
}

impl Tokenizer for PerFrame {
    type Signal = Clip;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    fn encode(&self, signal: Clip) -> Result<Codes> {
        let mut chunks = self.begin_encode(signal.frames.dims()[0]);
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

impl Streaming for PerFrame {
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

impl VideoTokenizer for PerFrame {
    fn video_spec(&self) -> &VideoSpec {
        &self.spec
    }

    fn as_tokenizer(&self) -> &dyn Tokenizer<Signal = Clip> {
        self
    }

    fn first_ids(&self, frame: Tensor<4>) -> Tensor<2, Int> {
        self.ids(frame)
    }

    fn first(&self, ids: Tensor<2, Int>) -> Canvas {
        self.shown(ids)
    }

    fn anchored(&self, frames: Tensor<5>, ids: Option<Tensor<2, Int>>) -> Canvas {
        let [batch, ..] = frames.dims();
        let width = self.spec.codes.code_width;
        let vectors = match ids {
            None => Tensor::zeros([batch, self.spec.positions(), width], &frames.device()),
            Some(ids) => {
                let rows = self.image.codebook().select(0, ids.flatten(0, 1));
                rows.reshape([batch, self.spec.positions(), width])
            }
        };
        Canvas {
            frames,
            vectors,
            memory: None,
        }
    }

    fn later_ids(&self, _canvas: &Canvas, frames: Tensor<5>) -> Tensor<2, Int> {
        self.ids(frames.squeeze_dim(1))
    }

    fn later(&self, _canvas: &Canvas, ids: Tensor<2, Int>) -> Canvas {
        self.shown(ids)
    }

    /// The latest frame's pixels, cell by cell, then its code vectors.
    fn features(&self, canvas: &Canvas) -> Tensor<3> {
        let pixels = sequence_from_grid(pixel_unshuffle(canvas.latest(), self.stride));
        Tensor::cat(vec![pixels, canvas.vectors.clone()], 2)
    }

    fn latents(&self, frames: Tensor<4>) -> Tensor<4> {
        let latents = self.image.latents(Images { pixels: frames });
        latents.expect("frames of the tokenizer's size")
    }
}
