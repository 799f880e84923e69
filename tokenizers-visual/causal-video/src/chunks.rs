//! Coding in pieces: the same steps, with the canvas kept between them.

use burn::tensor::{Int, Tensor};
use ravel_core::{
    Canvas, Clip, Codes, DecodeChunks, EncodeChunks, Error, Layout, Result, UNKNOWN_RATE,
    VideoTokenizer,
};

/// Codes of some groups as codes.
fn codes_of(ids: Tensor<3, Int>, tokenizer: &dyn VideoTokenizer) -> Codes {
    let (height, width) = tokenizer.video_spec().grid;
    let frames = ids.dims()[2] / (height * width);
    let layout = Layout::Frames {
        frames,
        height,
        width,
    };
    Codes { ids, layout }
}

/// A clip that arrives frame by frame.
pub struct Encoding<'a> {
    tokenizer: &'a dyn VideoTokenizer,
    canvas: Option<Canvas>,
    /// Frames of a group that is not complete, `[batch, time, 3, height, width]`.
    waiting: Option<Clip>,
}

impl<'a> Encoding<'a> {
    pub fn new(tokenizer: &'a dyn VideoTokenizer) -> Self {
        Self {
            tokenizer,
            canvas: None,
            waiting: None,
        }
    }

    /// Codes of the next group, once its frames are there.
    fn group(&mut self, frames: Tensor<5>) -> Tensor<2, Int> {
        let tokenizer = self.tokenizer;
        let (ids, canvas) = match &self.canvas {
            None => {
                let ids = tokenizer.first_ids(frames.squeeze_dim(1));
                (ids.clone(), tokenizer.first(ids))
            }
            Some(canvas) => {
                let ids = tokenizer.later_ids(canvas, frames);
                (ids.clone(), tokenizer.later(canvas, ids))
            }
        };
        self.canvas = Some(canvas);
        ids
    }
}

impl EncodeChunks for Encoding<'_> {
    type Signal = Clip;

    fn push(&mut self, chunk: Clip) -> Result<Codes> {
        check_frames(&chunk, self.tokenizer)?;
        let batch = chunk.frames.dims()[0];
        let device = chunk.frames.device();
        let mut all = match self.waiting.take() {
            Some(waiting) => Clip {
                frames: Tensor::cat(vec![waiting.frames, chunk.frames], 1),
                frames_per_second: chunk.frames_per_second,
            },
            None => chunk,
        };
        let mut ids = Vec::new();
        loop {
            let next = match self.canvas {
                None => 1,
                Some(_) => self.tokenizer.video_spec().group,
            };
            if all.len() < next {
                break;
            }
            ids.push(self.group(all.part(0, next).frames).unsqueeze_dim(1));
            all = all.part(next, all.len() - next);
        }
        self.waiting = (!all.is_empty()).then_some(all);
        let ids = match ids.is_empty() {
            true => Tensor::zeros([batch, 1, 0], &device),
            false => Tensor::cat(ids, 2),
        };
        Ok(codes_of(ids, self.tokenizer))
    }

    /// # Errors
    /// [`Error::Signal`] if the last group is not complete.
    fn finish(self: Box<Self>) -> Result<Codes> {
        match (&self.waiting, &self.canvas) {
            (Some(waiting), _) => Err(Error::Signal {
                found: format!("{} frames of a group", waiting.len()),
                expected: format!("groups of {}", self.tokenizer.video_spec().group),
            }),
            (None, None) => Err(Error::Signal {
                found: "no frame".into(),
                expected: "one frame at least".into(),
            }),
            (None, Some(canvas)) => {
                let batch = canvas.frames.dims()[0];
                let none = Tensor::zeros([batch, 1, 0], &canvas.frames.device());
                Ok(codes_of(none, self.tokenizer))
            }
        }
    }
}

fn check_frames(clip: &Clip, tokenizer: &dyn VideoTokenizer) -> Result<()> {
    let (height, width) = tokenizer.video_spec().signal_size;
    let [_, _, channels, found_height, found_width] = clip.frames.dims();
    if (channels, found_height, found_width) == (3, height, width) {
        return Ok(());
    }
    Err(Error::Signal {
        found: format!("frames of {found_width} x {found_height} pixels and {channels} channels"),
        expected: format!("{width} x {height} pixels of 3 channels"),
    })
}

/// Codes that arrive in pieces of any length.
pub struct Decoding<'a> {
    tokenizer: &'a dyn VideoTokenizer,
    canvas: Option<Canvas>,
    waiting: Option<Codes>,
}

impl<'a> Decoding<'a> {
    pub fn new(tokenizer: &'a dyn VideoTokenizer) -> Self {
        Self {
            tokenizer,
            canvas: None,
            waiting: None,
        }
    }

    fn check(&self, codes: &Codes) -> Result<()> {
        let spec = self.tokenizer.video_spec();
        let fits = match codes.layout {
            Layout::Frames { height, width, .. } => (height, width) == spec.grid,
            _ => false,
        };
        if !fits || codes.depth() != spec.codes.depth {
            let (height, width) = spec.grid;
            return Err(Error::Codes {
                found: format!("{}, depth {}", codes.layout.describe(), codes.depth()),
                expected: format!("frames of {height} x {width}, depth {}", spec.codes.depth),
            });
        }
        Ok(())
    }

    fn check_ids(&self, codes: &Codes) -> Result<()> {
        let spec = self.tokenizer.video_spec();
        let size = match self.canvas {
            None => spec.first_codebook_size,
            Some(_) => spec.later_codebook_size,
        };
        let largest = codes.to_host().into_iter().flatten().max().unwrap_or(0);
        match (largest as usize) < size {
            true => Ok(()),
            false => Err(Error::Codes {
                found: format!("id {largest}"),
                expected: format!("an id below {size}"),
            }),
        }
    }
}

impl DecodeChunks for Decoding<'_> {
    type Signal = Clip;

    fn push(&mut self, codes: &Codes) -> Result<Clip> {
        self.check(codes)?;
        let device = codes.ids.device();
        let (height, width) = self.tokenizer.video_spec().signal_size;
        let positions = self.tokenizer.video_spec().positions();
        let batch = codes.batch();
        let mut all = codes.clone();
        if let Some(mut waiting) = self.waiting.take() {
            waiting.extend(all.ids);
            all = waiting;
        }
        let mut frames = vec![Tensor::zeros([batch, 0, 3, height, width], &device)];
        let whole = all.filled() / positions;
        for at in 0..whole {
            let group = Codes {
                ids: all.ids.clone().narrow(2, at * positions, positions),
                layout: all.layout.clone(),
            };
            self.check_ids(&group)?;
            let ids = group.at_depth(0);
            let canvas = match &self.canvas {
                None => self.tokenizer.first(ids),
                Some(canvas) => self.tokenizer.later(canvas, ids),
            };
            frames.push(canvas.frames.clone());
            self.canvas = Some(canvas);
        }
        let rest = all.filled() - whole * positions;
        if rest > 0 {
            all.ids = all.ids.narrow(2, whole * positions, rest);
            self.waiting = Some(all);
        }
        if frames.len() > 1 {
            frames.remove(0);
        }
        Ok(Clip {
            frames: Tensor::cat(frames, 1),
            frames_per_second: UNKNOWN_RATE,
        })
    }

    /// # Errors
    /// [`Error::Codes`] if the last group is not complete or there was none.
    fn finish(self: Box<Self>) -> Result<Clip> {
        let Some(canvas) = self.canvas.filter(|_| self.waiting.is_none()) else {
            return Err(Error::Codes {
                found: format!(
                    "{} codes of a group",
                    self.waiting.map_or(0, |w| w.filled())
                ),
                expected: format!("{}", self.tokenizer.video_spec().positions()),
            });
        };
        let [batch, _, channels, height, width] = canvas.frames.dims();
        Ok(Clip {
            frames: Tensor::zeros([batch, 0, channels, height, width], &canvas.frames.device()),
            frames_per_second: UNKNOWN_RATE,
        })
    }
}
