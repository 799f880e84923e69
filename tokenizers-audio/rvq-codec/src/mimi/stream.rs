//! Mimi in pieces: every layer keeps what it needs, the transformers no more than their window.

use burn::tensor::{Int, Tensor};
use ravel_backbone::Transformer;
use ravel_core::{
    Backbone, Codes, Condition, DecodeChunks, EncodeChunks, Layout, Result, State, Streaming,
    Waveform,
};
use ravel_nn::wave::{Piece, WaveConv, WaveConvState};

use super::{MimiTokenizer, step_input};
use crate::SeanetState;
use crate::check::{sequence, turned};

/// Frames that a transformer's memory has room for at first.
const ROOM: usize = 256;

/// A transformer's memory of a sequence that may never end.
struct Context {
    state: State,
    past: usize,
}

impl Context {
    fn new(transformer: &Transformer, batch: usize) -> Self {
        let window = transformer.config().window;
        let room = window.map_or(ROOM, |window| 2 * window.max(ROOM / 2));
        Self {
            state: transformer.start(batch, room),
            past: 0,
        }
    }

    fn step(&mut self, transformer: &Transformer, piece: Piece) -> Piece {
        let latents = piece?;
        let frames = latents.dims()[2];
        self.state.make_room(frames);
        let input = step_input(latents, self.past);
        self.past += frames;
        let hidden = transformer.step(input, &Condition::default(), &mut self.state);
        Some(turned(hidden))
    }
}

/// A convolution between frame rates, where there is one.
fn step_frames(
    conv: &Option<WaveConv>,
    piece: Piece,
    last: bool,
    state: &mut Option<WaveConvState>,
) -> Piece {
    match (conv, state) {
        (Some(conv), Some(state)) => conv.step(piece, last, state),
        _ => piece,
    }
}

impl Streaming for MimiTokenizer {
    /// # Panics
    /// If [`ravel_core::SoundTokenizer::streaming`] gives nothing: the codec needs the whole signal.
    fn begin_encode(&self, batch: usize) -> Box<dyn EncodeChunks<Signal = Waveform> + '_> {
        Box::new(Encoding {
            codec: self,
            encoder: self.module.encoder.start(),
            context: Context::new(&self.module.encoder_transformer, batch),
            downsample: self.module.downsample.as_ref().map(WaveConv::start),
            batch,
        })
    }

    /// # Panics
    /// As [`Streaming::begin_encode`].
    fn begin_decode(
        &self,
        batch: usize,
        _depth: usize,
    ) -> Box<dyn DecodeChunks<Signal = Waveform> + '_> {
        Box::new(Decoding {
            codec: self,
            upsample: self.module.upsample.as_ref().map(WaveConv::start),
            context: Context::new(&self.module.decoder_transformer, batch),
            decoder: self.module.decoder.start(),
            batch,
        })
    }
}

struct Encoding<'a> {
    codec: &'a MimiTokenizer,
    encoder: SeanetState,
    context: Context,
    downsample: Option<WaveConvState>,
    batch: usize,
}

impl Encoding<'_> {
    fn step(&mut self, piece: Piece, last: bool) -> Codes {
        let module = &self.codec.module;
        let latents = module.encoder.step(piece, last, &mut self.encoder);
        let latents = self.context.step(&module.encoder_transformer, latents);
        let latents = step_frames(&module.downsample, latents, last, &mut self.downsample);
        let depth = self.codec.encode_depth;
        let ids = match latents {
            Some(latents) => self.codec.ids(latents, depth),
            None => {
                let device = self.codec.quantizer.device();
                Tensor::<3, Int>::zeros([self.batch, depth, 0], &device)
            }
        };
        let layout = Layout::Sequence { len: ids.dims()[2] };
        Codes { ids, layout }
    }
}

impl EncodeChunks for Encoding<'_> {
    type Signal = Waveform;

    fn push(&mut self, chunk: Waveform) -> Result<Codes> {
        if chunk.samples.dims()[2] == 0 {
            return Ok(self.step(None, false));
        }
        self.codec.spec.check(&chunk)?;
        Ok(self.step(Some(chunk.samples), false))
    }

    fn finish(mut self: Box<Self>) -> Result<Codes> {
        Ok(self.step(None, true))
    }
}

struct Decoding<'a> {
    codec: &'a MimiTokenizer,
    upsample: Option<WaveConvState>,
    context: Context,
    decoder: SeanetState,
    batch: usize,
}

impl Decoding<'_> {
    fn step(&mut self, piece: Piece, last: bool) -> Waveform {
        let codec = self.codec;
        let module = &codec.module;
        let latents = step_frames(&module.upsample, piece, last, &mut self.upsample);
        let latents = self.context.step(&module.decoder_transformer, latents);
        let samples = module.decoder.step(latents, last, &mut self.decoder);
        let none = || {
            let shape = [self.batch, codec.spec.channels, 0];
            Tensor::zeros(shape, &codec.quantizer.device())
        };
        codec.waveform(samples.unwrap_or_else(none))
    }
}

impl DecodeChunks for Decoding<'_> {
    type Signal = Waveform;

    fn push(&mut self, codes: &Codes) -> Result<Waveform> {
        if codes.filled() == 0 {
            return Ok(self.step(None, false));
        }
        sequence(codes, &self.codec.spec)?;
        let latents = self.codec.vectors(codes.ids.clone());
        Ok(self.step(Some(latents), false))
    }

    fn finish(mut self: Box<Self>) -> Result<Waveform> {
        Ok(self.step(None, true))
    }
}
