//! The Descript audio codec: sound to codes and back by several numbers of codebooks.

use ravel_families::dac::Config;
use ravel_families::read_config;

use super::codec::numbered;
use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["audio"]);
    let config: Config = read_config("dac", &case.config()?)?;
    let codec = config.build(case.weights("model.safetensors")?, &case.device())?;
    let module = codec.module();
    let latents = module.encoder.forward(case.real("audio")?);
    report.real("encoder_out", latents.clone())?;
    for name in numbered(&case.names(), "codes_nq") {
        let at = name.trim_start_matches("codes_");
        let depth = *case.shape(name)?.get(1).unwrap_or(&0);
        let found = module.quantize(latents.clone(), depth);
        report.ids(name, found.ids.clone())?;
        report.real(&format!("quantized_{at}"), found.vectors.clone())?;
        report.real(&format!("latents_{at}"), found.projected)?;
        report.real(&format!("from_codes_{at}"), module.vectors(found.ids))?;
        let sound = module.decode(found.vectors).squeeze_dim::<2>(1);
        report.real(&format!("audio_{at}"), sound)?;
    }
    Ok(())
}
