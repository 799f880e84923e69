//! SNAC: sound to codes at several frame rates and back, the decoder's noise given.

use ravel_core::{Tokenizer, Waveform};
use ravel_families::read_config;
use ravel_families::snac::Config;
use ravel_nn::wave::GivenNoise;

use super::codec::numbered;
use crate::{Case, CaseReport, GoldenError};

const NOISE: &str = "decoder_noise";

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["audio"]);
    let config: Config = read_config("snac", &case.config()?)?;
    let codec = config.build(case.weights("model.safetensors")?, &case.device())?;
    let module = codec.module();
    let samples = case.real::<3>("audio")?;
    let [batch, _, time] = samples.dims();
    let whole = codec.filled_up(samples.clone());
    let expected = case.numbers("padded_len")?;
    let same = expected == [whole.dims()[2] as f64];
    report.count("padded_len", "", usize::from(!same));
    let latents = module.encoder.forward(whole);
    report.real("encoder_out", latents.clone())?;
    let found = module.quantize(latents);
    report.real("quantized", found.vectors.clone())?;
    for (name, ids) in numbered(&case.names(), "codes").into_iter().zip(&found.ids) {
        report.ids(name, ids.clone())?;
    }
    report.real("from_codes", module.vectors(&found.ids))?;
    let mut noise = GivenNoise::new(match case.has(NOISE) {
        true => {
            report.inputs([NOISE]);
            let numbers = case.numbers(NOISE)?.iter();
            numbers.map(|&number| number as f32).collect()
        }
        false => Vec::new(),
    });
    let heard = codec.decode_latents(found.vectors, &mut noise);
    report.real("audio_out", heard.slice([0..batch, 0..1, 0..time]))?;
    // The codec as a whole gives the same codes in one row.
    let codes = codec.encode(Waveform {
        samples,
        sample_rate_hz: config.sampling_rate,
    })?;
    let rows = codec.rows(&codes)?;
    for (name, ids) in numbered(&case.names(), "codes").into_iter().zip(rows) {
        report.ids_also(name, "from one row", ids)?;
    }
    Ok(())
}
