//! Checks that all codecs share.

use burn::tensor::Tensor;
use ravel_core::{Codes, Error, Layout, Result, SoundSpec};

/// A field that no codec can be built from.
pub fn wrong<T>(field: &str, found: impl ToString, expected: &str) -> Result<T> {
    Err(Error::Config {
        field: field.into(),
        found: found.to_string(),
        expected: expected.into(),
    })
}

/// Fields that must be at least one, and small enough that no product of a few overflows.
pub fn counts(fields: &[(&str, usize)]) -> Result<()> {
    const MOST: usize = 1 << 20;
    match fields.iter().find(|(_, value)| !(1..=MOST).contains(value)) {
        Some((field, value)) => wrong(field, value, &format!("1 to {MOST}")),
        None => Ok(()),
    }
}

/// Ratios between signal and frames.
pub fn ratios(field: &str, ratios: &[usize]) -> Result<()> {
    let product = ratios
        .iter()
        .try_fold(1usize, |product, &ratio| product.checked_mul(ratio));
    match product {
        Some(1..=1_000_000) if !ratios.is_empty() && ratios.len() <= 16 => Ok(()),
        _ => wrong(
            field,
            format!("{ratios:?}"),
            "1 to 16 numbers of at least 1, a million at most together",
        ),
    }
}

/// The frames of codes in a plain sequence.
///
/// # Errors
/// [`Error::Codes`] if the layout is another one, not full or empty, or an id does not fit.
pub fn sequence(codes: &Codes, spec: &SoundSpec) -> Result<usize> {
    let Layout::Sequence { len } = codes.layout else {
        return Err(Error::Codes {
            found: codes.layout.describe(),
            expected: "a sequence".into(),
        });
    };
    if len == 0 || codes.filled() != len {
        return Err(Error::Codes {
            found: format!("{} filled positions of {len}", codes.filled()),
            expected: "all of them, one at least".into(),
        });
    }
    codes.check_ids(1..=spec.codes.depth, spec.codes.codebook_size)?;
    Ok(len)
}

/// `[b, n, d]` of `[b, d, n]`, or back.
pub fn turned(x: Tensor<3>) -> Tensor<3> {
    x.swap_dims(1, 2)
}

/// Zeros on the right up to a multiple of `unit` samples.
pub fn filled_up(samples: Tensor<3>, unit: usize) -> Tensor<3> {
    let time = samples.dims()[2];
    let missing = time.next_multiple_of(unit) - time;
    ravel_nn::wave::pad_time(samples, 0, missing, ravel_nn::wave::PadKind::Zero)
}
