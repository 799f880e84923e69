//! The words that every part of Ravel shares: signals, codes and their layout, units, conditions,
//! the traits that parts meet at, and seeds. No model and no file is opened here.
//!
//! A *signal* (an image, sound) becomes *codes* through a [`Tokenizer`]; codes are arranged by a [`Layout`]
//! and filled in [`Unit`] by unit (a token, a scale, a frame). A [`Generator`] pairs a [`Backbone`] with
//! a [`Head`]; a [`Decoding`] method loops over units and a [`Sampler`] turns scores into ids.

mod codes;
mod error;
mod generate;
mod latents;
mod layout;
mod seed;
mod state;
mod tokenize;
mod video;

pub use codes::Codes;
pub use error::{Error, Result};
pub use generate::{
    Attend, Backbone, Condition, Decoding, Draw, FrameSight, Generator, Head, Sampler, Scored,
    Start, Step, StepInput, Watch,
};
pub use latents::{Filling, Masked, Noise, Place};
pub use layout::{Layout, Unit};
pub use seed::Seed;
pub use state::{LayerState, State, Tail};
pub use tokenize::{
    CodeSpec, DecodeChunks, DecodeType, EncodeChunks, ImageSpec, ImageTokenizer, Images, Pyramid,
    SoundCodes, SoundSpec, SoundTokenizer, Streaming, Tokenizer, Waveform,
};
pub use video::{
    Canvas, Clip, ClipSpec, ClipTokenizer, FarFrames, FrameHead, FramePlace, UNKNOWN_RATE,
    VideoSpec, VideoTokenizer,
};
