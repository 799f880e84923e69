//! The families that can be run, one file each.

mod chameleon_vq;
mod codec;
mod cosmos_dv;
mod csm;
mod dac;
mod decode_beam_search;
mod decode_contrastive_search;
mod decode_gumbel_counterfactual;
mod decode_logits_processors;
mod decode_speculative;
mod decode_watermark_exp;
mod dia;
mod emu3_vq;
mod encodec;
mod fish_dual_ar;
mod fish_firefly;
mod fish_gfsq;
mod infinity_bsq;
mod infinity_vae;
mod janus_vq;
mod language;
mod llamagen_gpt;
mod llamagen_vq;
mod mar;
mod mimi;
mod musicgen_delay;
mod quantizers_lucidrains;
mod snac;
mod t5_encoder;
mod tokenizer;
mod var_transformer;
mod var_vqvae;
mod words;

use crate::{Case, CaseReport, GoldenError};

/// Runs one case: builds what its configuration says and compares every tensor that is not an input.
pub type Run = fn(&Case, &mut CaseReport<'_>) -> Result<(), GoldenError>;

/// A family by name.
pub struct Family {
    /// How the names of its case folders begin.
    pub name: &'static str,
    /// How a case is run.
    pub run: Run,
}

const fn family(name: &'static str, run: Run) -> Family {
    Family { name, run }
}

/// All families, sorted by name.
pub const FAMILIES: &[Family] = &[
    family("chameleon_vq", chameleon_vq::run),
    family("cosmos_dv", cosmos_dv::run),
    family("csm", csm::run),
    family("dac", dac::run),
    family("decode_beam_search", decode_beam_search::run),
    family("decode_contrastive_search", decode_contrastive_search::run),
    family(
        "decode_gumbel_counterfactual",
        decode_gumbel_counterfactual::run,
    ),
    family("decode_logits_processors", decode_logits_processors::run),
    family("decode_speculative", decode_speculative::run),
    family("decode_watermark_exp", decode_watermark_exp::run),
    family("dia", dia::run),
    family("emu3_vq", emu3_vq::run),
    family("encodec", encodec::run),
    family("fish_dual_ar", fish_dual_ar::run),
    family("fish_firefly", fish_firefly::run),
    family("fish_gfsq", fish_gfsq::run),
    family("gpt2", language::run),
    family("infinity_bsq", infinity_bsq::run),
    family("infinity_vae", infinity_vae::run),
    family("janus_vq", janus_vq::run),
    family("llama", language::run),
    family("llamagen_gpt_c2i", llamagen_gpt::run),
    family("llamagen_gpt_t2i", llamagen_gpt::run),
    family("llamagen_vq", llamagen_vq::run),
    family("mar", mar::run),
    family("mimi", mimi::run),
    family("mistral", language::run),
    family("musicgen_delay", musicgen_delay::run),
    family("quantizers_lucidrains", quantizers_lucidrains::run),
    family("qwen2", language::run),
    family("qwen3", language::run),
    family("snac", snac::run),
    family("t5_encoder", t5_encoder::run),
    family("tokenizer_bpe", tokenizer::run),
    family("tokenizer_unigram", tokenizer::run),
    family("var_transformer", var_transformer::run),
    family("var_vqvae", var_vqvae::run),
];

/// The family of a case folder: the longest name with which the folder's name begins, up to its end or a separator.
pub fn family_of(folder: &str) -> Option<&'static Family> {
    FAMILIES
        .iter()
        .filter(|family| {
            folder
                .strip_prefix(family.name)
                .is_some_and(|suffix| suffix.is_empty() || suffix.starts_with(['_', '-', '.']))
        })
        .max_by_key(|family| family.name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_no_part_of_the_name() {
        let name = |folder| family_of(folder).map(|family| family.name);
        let family = Some("decode_logits_processors");
        assert_eq!(name("decode_logits_processors"), family);
        assert_eq!(name("decode_logits_processors_wide"), family);
        assert_eq!(name("decode_logits_processorsx"), None);
        assert_eq!(name("decode"), None);
    }

    #[test]
    fn names_are_sorted_and_occur_once() {
        assert!(FAMILIES.is_sorted_by(|a, b| a.name < b.name));
    }
}
