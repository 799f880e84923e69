//! The codec in pieces.

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, DecodeChunks, EncodeChunks, Layout, Result, Streaming, Waveform};
use ravel_nn::wave::{OverlayState, Piece};

use super::{CausalMelState, SpectralDecoderState, SpectralEncoderState, SpectralTokenizer};
use crate::check::{sequence, turned};

impl Streaming for SpectralTokenizer {
    fn begin_encode(&self, batch: usize) -> Box<dyn EncodeChunks<Signal = Waveform> + '_> {
        Box::new(Encoding {
            codec: self,
            mel: CausalMelState::default(),
            state: self.module.encoder.start(),
            arrived: 0,
            batch,
        })
    }

    fn begin_decode(
        &self,
        batch: usize,
        _depth: usize,
    ) -> Box<dyn DecodeChunks<Signal = Waveform> + '_> {
        Box::new(Decoding {
            codec: self,
            state: self.module.decoder.start(),
            overlay: OverlayState::default(),
            batch,
        })
    }
}

struct Encoding<'a> {
    codec: &'a SpectralTokenizer,
    mel: CausalMelState,
    state: SpectralEncoderState,
    arrived: usize,
    batch: usize,
}

impl Encoding<'_> {
    fn step(&mut self, samples: Piece, last: bool) -> Codes {
        let module = &self.codec.module;
        let mels = self.codec.tables.mel.step(samples, &mut self.mel);
        let latents = module.encoder.step(mels, last, &mut self.state);
        let ids = match latents {
            Some(latents) => module.quantizer.ids(turned(latents)),
            None => {
                let depth = self.codec.spec.codes.depth;
                Tensor::<3, Int>::zeros([self.batch, depth, 0], &self.codec.device())
            }
        };
        let layout = Layout::Sequence { len: ids.dims()[2] };
        Codes { ids, layout }
    }
}

impl EncodeChunks for Encoding<'_> {
    type Signal = Waveform;

    fn push(&mut self, chunk: Waveform) -> Result<Codes> {
        let time = chunk.samples.dims()[2];
        if time == 0 {
            return Ok(self.step(None, false));
        }
        self.codec.spec.check(&chunk)?;
        self.arrived += time;
        Ok(self.step(Some(chunk.samples), false))
    }

    fn finish(mut self: Box<Self>) -> Result<Codes> {
        let missing = self.arrived.next_multiple_of(self.codec.spec.hop) - self.arrived;
        let zeros =
            (missing > 0).then(|| Tensor::zeros([self.batch, 1, missing], &self.codec.device()));
        Ok(self.step(zeros, true))
    }
}

struct Decoding<'a> {
    codec: &'a SpectralTokenizer,
    state: SpectralDecoderState,
    overlay: OverlayState,
    batch: usize,
}

impl Decoding<'_> {
    fn step(&mut self, latents: Piece, last: bool) -> Waveform {
        let codec = self.codec;
        let spectra = codec.module.decoder.step(latents, last, &mut self.state);
        let samples = codec
            .tables
            .transform
            .step(spectra, last, &mut self.overlay);
        codec
            .waveform(samples.unwrap_or_else(|| Tensor::zeros([self.batch, 1, 0], &codec.device())))
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
