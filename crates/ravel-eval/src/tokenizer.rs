//! What a tokenizer keeps of its signals.

use ravel_core::{ImageTokenizer, Images, Result};
use ravel_quant::CodebookHealth;
use serde::Serialize;

use crate::{psnr, ssim};

/// Measures over a set of pictures.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TokenizerReport {
    /// Pictures measured.
    pub pictures: usize,
    /// Mean over pictures, decibels.
    pub psnr: f64,
    /// Mean over pictures.
    pub ssim: f64,
    /// Codes per picture.
    pub codes: usize,
    /// Bits per picture if every id costs the same.
    pub bits: f64,
    /// How the ids of all pictures spread.
    pub codebook: CodebookHealth,
}

/// Encodes and decodes every picture and compares.
///
/// # Errors
/// What the tokenizer reports.
pub fn tokenizer_report(
    tokenizer: &dyn ImageTokenizer,
    batches: impl Iterator<Item = Images>,
) -> Result<TokenizerReport> {
    let spec = tokenizer.image_spec();
    let (mut decibels, mut similarities, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for images in batches {
        let codes = tokenizer.encode(images.clone())?;
        let back = tokenizer.decode(&codes)?;
        decibels.extend(psnr(&back, &images));
        similarities.extend(ssim(&back, &images));
        ids.extend(codes.to_host().into_iter().flatten());
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let codes = spec.layout.len() * spec.codes.depth;
    Ok(TokenizerReport {
        pictures: decibels.len(),
        psnr: mean(&decibels),
        ssim: mean(&similarities),
        codes,
        bits: codes as f64 * (spec.codes.codebook_size as f64).log2(),
        codebook: CodebookHealth::of(spec.codes.codebook_size, ids),
    })
}
