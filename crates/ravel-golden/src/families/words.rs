//! Settings in the words of a README, and what cases of decoding methods share.

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, Condition, Layout, Start};
use ravel_families::language::LanguageModel;

/// A beginning of given ids, which a language model reads as a prefix, and the same as codes.
///
/// # Shapes
/// - `ids`: `[batch, n]`
pub(super) fn prompted(
    model: &LanguageModel,
    ids: Tensor<2, Int>,
    want: &Layout,
) -> (Start, Codes) {
    let [batch, _] = ids.dims();
    let start = Start {
        condition: Condition {
            prefix: Some(model.head.embedded(ids.clone())),
            ..Condition::default()
        },
        prompt: Codes {
            ids: Tensor::zeros([batch, 1, 0], &ids.device()),
            layout: want.clone(),
        },
    };
    (start, Codes::flat(ids, want.clone()))
}

/// The number that follows a word: `top_p 0.8`, `top_p = 0`, `gamma 0.4 (…)`.
pub(super) fn number_after(words: &str, word: &str) -> Option<f64> {
    let (_, after) = words.split_once(word)?;
    let after = after.trim_start_matches([' ', '=', ':']);
    let end = after
        .char_indices()
        .find(|(at, letter)| {
            let sign = *at == 0 && *letter == '-';
            !(letter.is_ascii_digit() || *letter == '.' || sign)
        })
        .map_or(after.len(), |(at, _)| at);
    after[..end].trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number_after;

    #[test]
    fn numbers_are_found_behind_their_words() {
        let words = "same with top_p 0.8, temperature 0.7, repetition_penalty 1.3";
        assert_eq!(number_after(words, "top_p"), Some(0.8));
        assert_eq!(number_after(words, "repetition_penalty"), Some(1.3));
        assert_eq!(number_after("top_p = 0 (keeps one)", "top_p"), Some(0.0));
        assert_eq!(number_after("shift -3.", "shift"), Some(-3.0));
        assert_eq!(number_after(words, "top_k"), None);
        assert_eq!(number_after("top_p high", "top_p"), None);
    }
}
