//! The causal codec in pieces.

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, DecodeChunks, EncodeChunks, Layout, Result, Streaming, Waveform};
use ravel_nn::wave::Piece;

use super::EncodecTokenizer;
use crate::SeanetState;
use crate::check::sequence;

impl Streaming for EncodecTokenizer {
    /// # Panics
    /// If [`ravel_core::SoundTokenizer::streaming`] gives nothing: the codec needs the whole signal.
    fn begin_encode(&self, batch: usize) -> Box<dyn EncodeChunks<Signal = Waveform> + '_> {
        Box::new(Encoding {
            codec: self,
            state: self.module.encoder.start(),
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
            state: self.module.decoder.start(),
            batch,
        })
    }
}

struct Encoding<'a> {
    codec: &'a EncodecTokenizer,
    state: SeanetState,
    batch: usize,
}

impl Encoding<'_> {
    fn step(&mut self, piece: Piece, last: bool) -> Codes {
        let encoder = &self.codec.module.encoder;
        let latents = encoder.step(piece, last, &mut self.state);
        let depth = self.codec.encode_depth;
        let ids = match latents {
            Some(latents) => self.codec.module.ids(latents, depth),
            None => Tensor::<3, Int>::zeros([self.batch, depth, 0], &self.device()),
        };
        let layout = Layout::Sequence { len: ids.dims()[2] };
        Codes { ids, layout }
    }

    fn device(&self) -> burn::tensor::Device {
        self.codec.module.quantizer.codebooks[0]
            .codebook
            .val()
            .device()
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
    codec: &'a EncodecTokenizer,
    state: SeanetState,
    batch: usize,
}

impl Decoding<'_> {
    fn step(&mut self, piece: Piece, last: bool) -> Waveform {
        let codec = self.codec;
        let samples = codec.module.decoder.step(piece, last, &mut self.state);
        let none = || {
            let device = codec.module.quantizer.codebooks[0].codebook.val().device();
            Tensor::zeros([self.batch, codec.spec.channels, 0], &device)
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
        let latents = self.codec.module.vectors(codes.ids.clone());
        Ok(self.step(Some(latents), false))
    }

    fn finish(mut self: Box<Self>) -> Result<Waveform> {
        Ok(self.step(None, true))
    }
}
