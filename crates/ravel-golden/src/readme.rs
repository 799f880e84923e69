//! What a case's README says: the table of tensors and how far each moves by rounding alone.

use std::collections::BTreeMap;

/// The parts of a README that a machine can read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readme {
    /// Tensors of the table with their meaning, in its order.
    pub tensors: Vec<(String, String)>,
    /// Largest change of each real tensor when the reference's weights are rounded differently.
    pub sensitivity: BTreeMap<String, f64>,
}

impl Readme {
    /// Reads rows `| \`name\` | type | shape | meaning |` and lines `- \`name\`: 1.2e-06 (…)`; all else is prose.
    pub fn parse(text: &str) -> Self {
        Self {
            tensors: text.lines().filter_map(table_row).collect(),
            sensitivity: text.lines().filter_map(sensitivity_line).collect(),
        }
    }

    /// The table's words about a tensor.
    pub fn meaning(&self, tensor: &str) -> Option<&str> {
        self.tensors
            .iter()
            .find(|(name, _)| name == tensor)
            .map(|(_, meaning)| meaning.as_str())
    }
}

fn table_row(line: &str) -> Option<(String, String)> {
    let mut cells = line.trim().strip_prefix("| `")?.splitn(4, " | ");
    let name = cells.next()?.strip_suffix('`')?;
    let meaning = cells.nth(2)?.trim_end_matches('|').trim();
    Some((name.into(), meaning.into()))
}

fn sensitivity_line(line: &str) -> Option<(String, f64)> {
    let (name, rest) = line.strip_prefix("- `")?.split_once("`: ")?;
    let number = rest.split_whitespace().next()?.parse().ok()?;
    Some((name.into(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_sensitivities_are_read_and_prose_is_not() {
        let text = "# a family\n\nWith `code` and a | bar.\n\n| tensor | dtype | shape | meaning |\n|---|---|---|---|\n\
            | `x.0` | float32 | [2, 3] | input, in [-1,1] |\n| `ids` | int64 | [4] |  |\n\n\
            - `x.0`: 3.10e-06 (largest value 2.71)\n- `ids` (integers): 0 changed\n";
        let readme = Readme::parse(text);
        let row = |name: &str, meaning: &str| (name.to_string(), meaning.to_string());
        assert_eq!(
            readme.tensors,
            [row("x.0", "input, in [-1,1]"), row("ids", "")]
        );
        assert_eq!(readme.meaning("ids"), Some(""));
        assert_eq!(readme.meaning("code"), None);
        assert_eq!(readme.sensitivity, [("x.0".to_string(), 3.1e-6)].into());
    }
}
