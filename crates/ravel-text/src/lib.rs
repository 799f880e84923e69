//! Text in: subword files, training of subwords, special ids.
