//! Settings in the words of a README's table.

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
