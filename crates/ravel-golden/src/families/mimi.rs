//! Mimi: sound to codes and back by several numbers of codebooks, whole and in pieces.
//!
//! The reference reads `sliding_window` only where flash attention runs: the CPU vectors were made with every frame seeing all
//! earlier ones (with the window of the configuration 54 of 192 ids differ, without it none). So are the cases run here.

use ravel_core::{SoundTokenizer, Waveform};
use ravel_families::mimi::Config;
use ravel_families::read_config;

use super::codec::{decoded_in_pieces, encoded_in_pieces, numbered};
use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["audio"]);
    let config = Config {
        sliding_window: None,
        ..read_config("mimi", &case.config()?)?
    };
    let codec = config.build(case.weights("model.safetensors")?, &case.device())?;
    let module = codec.module();
    let sound = Waveform {
        samples: case.real("audio")?,
        sample_rate_hz: codec.sound_spec().sample_rate_hz,
    };
    let latents = module.encoder.forward(sound.samples.clone());
    report.real("encoder_out", latents.clone())?;
    let latents = module.encoder_context(latents);
    let last_axis = latents.clone().swap_dims(1, 2);
    report.real("encoder_transformer_out", last_axis)?;
    let latents = module.downsampled(latents);
    report.real("downsampled", latents.clone())?;
    for name in numbered(&case.names(), "codes_nq") {
        let at = name.trim_start_matches("codes_");
        let depth = *case.shape(name)?.get(1).unwrap_or(&0);
        let ids = codec.ids(latents.clone(), depth);
        report.ids(name, ids.clone())?;
        let vectors = codec.vectors(ids.clone());
        report.real(&format!("quantized_{at}"), vectors.clone())?;
        let up = module.upsampled(vectors.clone());
        let context = module.decoder_context(up.clone()).swap_dims(1, 2);
        for (name, tensor) in [("upsampled", up), ("decoder_transformer_out", context)] {
            let name = format!("{name}_{at}");
            if case.has(&name) {
                report.real(&name, tensor)?;
            }
        }
        let audio = format!("audio_{at}");
        report.real(&audio, codec.decode_latents(vectors))?;
        if codec.streaming().is_some() {
            report.real_also(&audio, "in pieces", decoded_in_pieces(&codec, ids)?)?;
            if depth == codec.sound_spec().codes.depth {
                report.ids_also(name, "in pieces", encoded_in_pieces(&codec, &sound)?)?;
            }
        }
    }
    Ok(())
}
