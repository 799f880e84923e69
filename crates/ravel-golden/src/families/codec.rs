//! What the audio codecs' cases share.

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, Layout, SoundTokenizer, Waveform};

use crate::GoldenError;

/// Samples of the pieces in which a streaming codec is run: no multiple of any hop.
const PIECE: usize = 37;

/// The names `PREFIX0`, `PREFIX1`, … that a case has, in order.
pub fn numbered<'a>(names: &[&'a str], prefix: &str) -> Vec<&'a str> {
    let number = |name: &&str| name.strip_prefix(prefix)?.parse::<usize>().ok();
    let mut found: Vec<_> = names
        .iter()
        .copied()
        .filter(|n| number(n).is_some())
        .collect();
    found.sort_by_key(number);
    found
}

/// Codes in a plain sequence.
pub fn sequence(ids: Tensor<3, Int>) -> Codes {
    let layout = Layout::Sequence { len: ids.dims()[2] };
    Codes { ids, layout }
}

/// The codes of a sound that arrives in pieces.
///
/// # Panics
/// If the codec does not stream.
pub fn encoded_in_pieces(
    codec: &dyn SoundTokenizer,
    sound: &Waveform,
) -> Result<Tensor<3, Int>, GoldenError> {
    let [batch, channels, time] = sound.samples.dims();
    let streaming = codec.streaming().expect("a codec that streams");
    let mut chunks = streaming.begin_encode(batch);
    let mut all = Vec::new();
    for from in (0..time).step_by(PIECE) {
        let to = (from + PIECE).min(time);
        let samples = sound
            .samples
            .clone()
            .slice([0..batch, 0..channels, from..to]);
        let codes = chunks.push(Waveform { samples, ..*sound })?;
        all.push(codes);
    }
    all.push(chunks.finish()?);
    let filled = all.into_iter().filter(|codes| codes.filled() > 0);
    Ok(Tensor::cat(filled.map(|codes| codes.ids).collect(), 2))
}

/// The sound of codes that arrive one frame at a time.
///
/// # Panics
/// If the codec does not stream.
pub fn decoded_in_pieces(
    codec: &dyn SoundTokenizer,
    ids: Tensor<3, Int>,
) -> Result<Tensor<3>, GoldenError> {
    let [batch, depth, frames] = ids.dims();
    let streaming = codec.streaming().expect("a codec that streams");
    let mut chunks = streaming.begin_decode(batch, depth);
    let mut all = Vec::new();
    for at in 0..frames {
        all.push(chunks.push(&sequence(ids.clone().narrow(2, at, 1)))?);
    }
    all.push(chunks.finish()?);
    let heard = all.into_iter().filter(|sound| sound.samples.dims()[2] > 0);
    Ok(Tensor::cat(heard.map(|sound| sound.samples).collect(), 2))
}
