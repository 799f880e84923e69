//! Fish-Speech's firefly codec: sound to codes and back.

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, SoundTokenizer, Tokenizer, Waveform};
use ravel_families::firefly::Config;
use ravel_families::read_config;

use super::codec::sequence;
use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["audio"]);
    let config: Config = read_config("fish_firefly", &case.config()?)?;
    let codec = config.build(case.weights("model.safetensors")?, &case.device())?;
    let mel = codec.mel();
    report.real("spec_buffer.fb", mel.bank.clone())?;
    report.real("spec_buffer.spectrogram.window", mel.window.clone())?;
    let samples = case.real::<3>("audio")?;
    let [batch, _, time] = samples.dims();
    report.real("mel", mel.forward(samples.clone()))?;
    let features = codec.features(samples.clone());
    report.real("backbone_out", features.clone())?;
    let quantizer = &codec.module().quantizer;
    let ids = quantizer.ids(features);
    report.ids("indices", ids.clone())?;
    report.real("quantizer_decoded", quantizer.vectors(ids.clone()))?;
    let spec = codec.sound_spec();
    let frames = time / spec.hop;
    report.ids("feature_lengths", lengths(case, batch, frames))?;
    report.ids("audio_lengths", lengths(case, batch, frames * spec.hop))?;
    // What lies beyond the whole frames is silenced there.
    let heard = codec.decode(&sequence(ids))?.samples;
    let [_, channels, all] = heard.dims();
    let kept = heard.slice([0..batch, 0..channels, 0..(frames * spec.hop).min(all)]);
    let silence = all - kept.dims()[2];
    let kept = ravel_nn::wave::pad_time(kept, 0, silence, ravel_nn::wave::PadKind::Zero);
    report.real("audio_out", kept)?;
    if time % spec.hop == 0 {
        let Codes { ids, .. } = codec.encode(Waveform {
            samples,
            sample_rate_hz: spec.sample_rate_hz,
        })?;
        report.ids_also("indices", "by the codec as a whole", ids)?;
    }
    Ok(())
}

fn lengths(case: &Case, batch: usize, length: usize) -> Tensor<1, Int> {
    Tensor::<1, Int>::full([batch], length as i64, &case.device())
}
