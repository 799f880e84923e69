//! What fixes a next-token head with several codebooks.

use ravel_core::{Error, Result};
use ravel_nn::NormKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Arrangement;
use crate::config::positive;

/// What fixes a next-token head with several codebooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NextTokensConfig {
    /// Codebooks of a frame; a row of tokens does not count.
    pub depth: usize,
    /// Ids of each codebook that can be read, special ones included.
    pub codebook_size: usize,
    /// Ids of each codebook that have a score, the first ones; all if unset.
    pub scored_ids: Option<usize>,
    /// The id that ends a signal, if there is one: the first codebook alone may choose it, and none chooses a higher one.
    pub end: Option<usize>,
    /// The row of tokens in front of the codes, if there is one.
    pub tokens: Option<TokenRowConfig>,
    /// How the codes' embeddings are kept.
    pub tables: CodeTables,
    /// How frames lie along the sequence.
    pub arrangement: Arrangement,
    /// What predicts the first position.
    pub opening: Opening,
    /// What a hidden state predicts.
    pub predicts: Predicts,
    /// Whether the scores of all codebooks come from one projection, codebook after codebook, rather than one each.
    pub joined_out: bool,
    /// Whether the projections to scores add a bias.
    pub bias: bool,
    /// A norm in front of the projections to scores, which a depth transformer does not see.
    pub norm: Option<NormKind>,
    /// Added to that norm's mean square.
    pub norm_eps: f64,
    /// Whether a prefix position sees only itself and earlier ones, rather than the whole prefix.
    pub causal_prefix: bool,
    /// How many positions of codes go by, about, while one of the prefix does. Both then run side by side, so that a symbol stands
    /// near the sound that it becomes; unset, the codes follow the prefix. Needs an opening of its own and one rotary axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<usize>,
}

impl Default for NextTokensConfig {
    fn default() -> Self {
        Self {
            depth: 8,
            codebook_size: 1024,
            scored_ids: None,
            end: None,
            tokens: None,
            tables: CodeTables::Joined,
            arrangement: Arrangement::default(),
            opening: Opening::default(),
            predicts: Predicts::All,
            joined_out: false,
            bias: false,
            norm: None,
            norm_eps: 1e-5,
            causal_prefix: true,
            pace: None,
        }
    }
}

/// A row of tokens in front of the codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TokenRowConfig {
    /// Tokens, special ones included.
    pub vocabulary_size: usize,
    /// The first token that codes stand beside.
    pub semantic_begin: usize,
    /// How many such tokens follow one another.
    pub semantic_len: usize,
    /// Whether the table of tokens is also the projection to their scores.
    #[serde(default)]
    pub tie: bool,
}

/// How the embeddings of several codebooks are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CodeTables {
    /// One table, codebook after codebook.
    #[default]
    Joined,
    /// A table for each codebook.
    Separate,
    /// The joined table, of which every codebook reads the first part (Fish-Speech without `share_codebook_embeddings`).
    Overlaid,
}

/// What predicts the first position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Opening {
    /// A learned vector, after the whole prefix.
    Learned {}, // The braces make serde refuse unknown keys, which it lets pass in a bare variant.
    /// The prefix's last position.
    Prefix {},
    /// A position whose codes are all `id`, after the whole prefix (MusicGen, Dia).
    Ids {
        /// The id.
        id: usize,
    },
}

impl Default for Opening {
    fn default() -> Self {
        Self::Learned {}
    }
}

/// What a hidden state of the backbone predicts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Predicts {
    /// All codes of a position.
    #[default]
    All,
    /// The token, or the first code; the others are left to a depth transformer.
    First,
}

impl NextTokensConfig {
    /// Checks that a head can be built.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        positive("depth", self.depth)?;
        positive("codebook-size", self.codebook_size)?;
        positive(
            "depth times codebook-size",
            self.depth.saturating_mul(self.codebook_size),
        )?;
        self.arrangement.validate(self.depth, self.codebook_size)?;
        let wrong = |field: &str, found: String, expected: String| {
            Err(Error::Config {
                field: field.into(),
                found,
                expected,
            })
        };
        let below = format!("1 to {}", self.codebook_size);
        for (field, found) in [("scored-ids", self.scored_ids), ("end", self.end)] {
            if found.is_some_and(|found| !(1..=self.codebook_size).contains(&found)) {
                return wrong(field, found.unwrap_or(0).to_string(), below);
            }
        }
        if let Opening::Ids { id } = self.opening
            && id >= self.codebook_size
        {
            let expected = format!("an id below {}", self.codebook_size);
            return wrong("opening.id", id.to_string(), expected);
        }
        if let Some(pace) = self.pace {
            positive("pace", pace)?;
            if self.opening == (Opening::Prefix {}) {
                let found = "a pace beside the prefix as opening".into();
                return wrong("opening", found, "learned or ids".into());
            }
        }
        let parallel = self.arrangement == Arrangement::Parallel {};
        if self.predicts == Predicts::First && !parallel {
            let found = format!("{:?} beside predicts = first", self.arrangement);
            return wrong("arrangement", found, "parallel".into());
        }
        let Some(tokens) = &self.tokens else {
            return Ok(());
        };
        positive("tokens.vocabulary-size", tokens.vocabulary_size)?;
        if self.predicts == Predicts::All {
            let found = "present beside predicts = all".into();
            return wrong("tokens", found, "predicts = first".into());
        }
        if matches!(self.opening, Opening::Ids { .. }) {
            let found = "ids beside a row of tokens".into();
            return wrong("opening", found, "learned or prefix".into());
        }
        Ok(())
    }

    /// Checks that the head can stand on a backbone of `axes` rotary coordinates.
    ///
    /// # Errors
    /// [`Error::Config`] if there is a pace and more than one axis.
    pub fn validate_for(&self, axes: usize) -> Result<()> {
        match self.pace {
            Some(pace) if axes != 1 => Err(Error::Config {
                field: "pace".into(),
                found: format!("{pace} beside {axes} rotary axes"),
                expected: "one axis".into(),
            }),
            _ => self.validate(),
        }
    }

    /// Rows of the codes that this head reads and predicts.
    pub fn rows(&self) -> usize {
        self.arrangement.rows(self.depth) + usize::from(self.tokens.is_some())
    }

    /// How many ids of a codebook have a score.
    pub(super) fn scored_ids(&self) -> usize {
        self.scored_ids.unwrap_or(self.codebook_size)
    }

    /// Widths of the projections to scores.
    pub(super) fn projections(&self) -> Vec<usize> {
        match (&self.tokens, self.predicts) {
            (Some(row), _) if row.tie => Vec::new(),
            (Some(row), _) => vec![row.vocabulary_size],
            (None, Predicts::First) => vec![self.scored_ids()],
            (None, Predicts::All) if self.joined_out => vec![self.depth * self.scored_ids()],
            (None, Predicts::All) => vec![self.scored_ids(); self.depth],
        }
    }
}
