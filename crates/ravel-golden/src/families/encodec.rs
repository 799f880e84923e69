//! EnCodec: sound to codes at several rates and back, whole, in normalised chunks, and in pieces.

use burn::tensor::Tensor;
use ravel_core::{SoundCodes, SoundTokenizer, Waveform};
use ravel_families::encodec::{Config, module};
use ravel_families::read_config;
use rvq_codec::{EncodecConfig, EncodecTokenizer};

use super::codec::{decoded_in_pieces, encoded_in_pieces, numbered};
use crate::{Case, CaseReport, GoldenError};

/// The same weights under older names.
const OLDER: &str = "model_weight_g_v.safetensors";

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["audio"]);
    let published: Config = read_config("encodec", &case.config()?)?;
    let config = published.tokenizer()?;
    let names = case.names();
    let rates = rates(case)?;
    for (name, &rate) in numbered(&names, "codes_bw").into_iter().zip(&rates) {
        let config = EncodecConfig {
            bandwidth_kbps: Some(rate),
            ..config.clone()
        };
        let at = name.trim_start_matches("codes_");
        At { case, at, note: "" }.compare("model.safetensors", &config, report)?;
        if case.has_file(OLDER) {
            At {
                case,
                at,
                note: "weight_g, weight_v",
            }
            .compare(OLDER, &config, report)?;
        }
    }
    Ok(())
}

/// The rates that the codes were made at, as the README says.
fn rates(case: &Case) -> Result<Vec<f64>, GoldenError> {
    let text = case.text("README.md")?;
    let list = text
        .split_once("bandwidths tried, in kbps: [")
        .and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.ok_or_else(|| case.input("the README names no bandwidths"))?;
    list.split(',')
        .map(|rate| rate.trim().parse())
        .collect::<Result<_, _>>()
        .map_err(|error| case.input(format!("bandwidths [{list}]: {error}")))
}

/// One rate with one file of weights.
struct At<'a> {
    case: &'a Case,
    at: &'a str,
    note: &'a str,
}

impl At<'_> {
    fn compare(
        &self,
        weights: &str,
        config: &EncodecConfig,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let module = module(config, self.case.weights(weights)?, &self.case.device())?;
        let codec = EncodecTokenizer::new(module, config);
        let sound = Waveform {
            samples: self.case.real("audio")?,
            sample_rate_hz: config.sample_rate_hz,
        };
        let found = codec.encode_sound(sound.clone())?;
        self.codes(&found, config, report)?;
        let whole = SoundCodes {
            samples: usize::MAX,
            ..found.clone()
        };
        let audio = format!("audio_{}", self.at);
        report.real_also(&audio, self.note, codec.decode_sound(&whole)?.samples)?;
        self.between(&codec, &found, &sound, report)?;
        if codec.streaming().is_some() && self.note.is_empty() {
            let codes = format!("codes_{}", self.at);
            let ids = encoded_in_pieces(&codec, &sound)?;
            report.ids_also(&codes, "in pieces", ids.unsqueeze_dim::<4>(0))?;
            let heard = decoded_in_pieces(&codec, found.codes.ids)?;
            report.real_also(&audio, "in pieces", heard)?;
        }
        Ok(())
    }

    /// Codes are `[chunk, row, codebook, frame]` there.
    fn codes(
        &self,
        found: &SoundCodes,
        config: &EncodecConfig,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let [batch, depth, positions] = found.codes.ids.dims();
        let gains = found.gains.as_ref().map(|gains| gains.dims()[1]);
        let chunks = match config.chunks {
            Some(_) => found.codes.layout.blocks().len(),
            None => 1,
        };
        let ids = found
            .codes
            .ids
            .clone()
            .reshape([batch, depth, chunks, positions / chunks])
            .permute([2, 0, 1, 3]);
        report.ids_also(&format!("codes_{}", self.at), self.note, ids)?;
        if let (Some(gains), Some(chunks)) = (&found.gains, gains) {
            let gains = gains.clone().transpose().reshape([chunks, batch, 1]);
            report.real_also::<3>(&format!("scales_{}", self.at), self.note, gains)?;
        }
        Ok(())
    }

    /// What lies between sound and codes, where the case has it.
    fn between(
        &self,
        codec: &EncodecTokenizer,
        found: &SoundCodes,
        sound: &Waveform,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let module = codec.module();
        let mut real = |name: &str, tensor: Tensor<3>| match self.case.has(name) {
            true => report.real_also(name, self.note, tensor),
            false => Ok(()),
        };
        if self.case.has("encoder_out") {
            let latents = module.encoder.forward(sound.samples.clone());
            real(
                "decoder_of_unquantized",
                module.decoder.forward(latents.clone()),
            )?;
            real("encoder_out", latents)?;
        }
        let quantized = format!("quantized_{}", self.at);
        if self.case.has(&quantized) {
            let vectors = module.vectors(found.codes.ids.clone());
            let decoded = format!("decoder_out_of_{quantized}");
            real(&decoded, module.decoder.forward(vectors.clone()))?;
            real(&quantized, vectors)?;
        }
        Ok(())
    }
}
