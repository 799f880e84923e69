//! The key table's file: read and checked before any tensor is looked at.

use serde::Deserialize;

use super::op::Op;
use super::pattern::{Pattern, Sum};
use crate::WeightsError;

/// Which published tensors become which of ours: rules with holes, the first that fits a name is taken.
///
/// ```
/// use ravel_weights::KeyTable;
/// let table = r#"
/// drop = ["freqs_cis"]
///
/// [[rule]]
/// from = ["layers.{i}.q_proj.weight", "layers.{i}.k_proj.weight"]
/// join = 0
/// to = "blocks.{i}.attention.qk.weight"
/// ops = ["transpose"]
/// "#;
/// assert!(KeyTable::parse("example.keys.toml", table).is_ok());
/// ```
///
/// - **Holes**: a single letter takes digits (`{i}`, also `{i+1}`, `{3*i+1}`, `{last-i}` with a variable `last`), a word one part of
///   the path (`{name}`), a word with a star anything (`{rest*}`).
/// - **`from`**: one name, or several that are joined along axis `join` first.
/// - **`to`**: one name; several with `split = { axis = 0, parts = ["q", "kv", 64] }` take parts, several without take copies.
/// - **`ops`**: after joining and splitting, in order: `transpose` (the last two axes), `permute:2,0,1`, `squeeze:1`, `unsqueeze:0`,
///   `reshape:heads,-1`, `add:1`, `multiply:0.5`, `repeat:0,4`, `reverse:1`.
/// - **`optional`**: a file without the tensor is fine.
/// - **`drop`**: names that nobody needs.
///
/// Numbers in `parts`, `reshape` and `repeat` may be sums over variables: `q + 2*kv`.
#[derive(Debug, Clone)]
pub struct KeyTable {
    pub(crate) name: String,
    pub(crate) drop: Vec<Pattern>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) from: Vec<Pattern>,
    pub(crate) to: Vec<Pattern>,
    pub(crate) join: Option<usize>,
    pub(crate) split: Option<(usize, Vec<Sum>)>,
    pub(crate) ops: Vec<Op>,
    pub(crate) optional: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    rule: Vec<RuleFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    from: Names,
    to: Names,
    join: Option<usize>,
    split: Option<SplitFile>,
    #[serde(default)]
    ops: Vec<String>,
    #[serde(default)]
    optional: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitFile {
    axis: usize,
    parts: Vec<Size>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Number(u32),
    Sum(String),
}

impl KeyTable {
    /// Reads a table; `name` stands for it in messages.
    ///
    /// # Errors
    /// [`WeightsError::Keys`] with the line or the rule.
    pub fn parse(name: &str, toml: &str) -> Result<Self, WeightsError> {
        let wrong = |reason| WeightsError::Keys {
            table: name.into(),
            reason,
        };
        let file: TableFile = toml::from_str(toml).map_err(|error| wrong(at_line(&error, toml)))?;
        let drop = file.drop.iter().map(|text| Pattern::parse(text));
        let rules = file.rule.into_iter().enumerate().map(|(at, rule)| {
            let from = rule.from.first().to_string();
            Rule::new(rule).map_err(|reason| format!("rule {} (`{from}`): {reason}", at + 1))
        });
        Ok(Self {
            name: name.into(),
            drop: drop.collect::<Result<_, _>>().map_err(wrong)?,
            rules: rules.collect::<Result<_, _>>().map_err(wrong)?,
        })
    }

    /// Names that neither a hole nor this list fills, so that a caller must give them.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(Rule::variables)
    }
}

impl Names {
    fn first(&self) -> &str {
        match self {
            Self::One(name) => name,
            Self::Several(names) => names.first().map_or("", String::as_str),
        }
    }

    fn patterns(&self) -> Result<Vec<Pattern>, String> {
        match self {
            Self::One(name) => Ok(vec![Pattern::parse(name)?]),
            Self::Several(names) => names.iter().map(|name| Pattern::parse(name)).collect(),
        }
    }
}

impl Rule {
    fn new(file: RuleFile) -> Result<Self, String> {
        let (from, to) = (file.from.patterns()?, file.to.patterns()?);
        if from.is_empty() || to.is_empty() {
            return Err("an empty list of names".into());
        }
        if (from.len() > 1) != file.join.is_some() {
            return Err("`join` belongs to several names in `from`".into());
        }
        let split = file.split.map(|split| {
            let sizes = split
                .parts
                .iter()
                .map(Size::sum)
                .collect::<Result<Vec<_>, _>>();
            sizes.map(|sizes| (split.axis, sizes))
        });
        let split = split.transpose()?;
        if split
            .as_ref()
            .is_some_and(|(_, parts)| parts.len() != to.len())
        {
            return Err("`split` needs as many parts as `to` has names".into());
        }
        let rule = Self {
            from,
            to,
            join: file.join,
            split,
            ops: file
                .ops
                .iter()
                .map(|op| Op::parse(op))
                .collect::<Result<_, _>>()?,
            optional: file.optional,
        };
        rule.check_holes()?;
        Ok(rule)
    }

    /// Every hole of a name must be filled by the first one.
    fn check_holes(&self) -> Result<(), String> {
        let filled: Vec<&str> = self.from[0].names().collect();
        for pattern in self.from[1..].iter().chain(&self.to) {
            let open =
                |name: &&str| !filled.contains(name) && (name.len() == 1 || pattern.has_hole(name));
            if let Some(hole) = pattern.names().find(open) {
                return Err(format!(
                    "`{pattern}`: `{{{hole}}}` is not in `{}`",
                    self.from[0]
                ));
            }
        }
        Ok(())
    }

    fn variables(&self) -> impl Iterator<Item = &str> {
        let patterns = self
            .from
            .iter()
            .chain(&self.to)
            .flat_map(Pattern::variables);
        let sizes = self
            .split
            .iter()
            .flat_map(|(_, sizes)| sizes.iter().flat_map(Sum::names));
        patterns
            .chain(sizes)
            .chain(self.ops.iter().flat_map(Op::names))
    }
}

impl Size {
    fn sum(&self) -> Result<Sum, String> {
        match self {
            Self::Number(number) => Ok(Sum::number(*number)),
            Self::Sum(text) => {
                Sum::parse(text).ok_or_else(|| format!("`{text}` is no sum of variables"))
            }
        }
    }
}

/// The parser's message in one line, with the line that it is about.
fn at_line(error: &toml::de::Error, toml: &str) -> String {
    let message = error.message().lines().next().unwrap_or_default();
    match error.span().and_then(|span| toml.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.lines().count().max(1)),
        None => message.into(),
    }
}
