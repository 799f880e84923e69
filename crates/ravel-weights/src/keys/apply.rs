//! A key table laid over a checkpoint: the tensors get our names, their numbers stay where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pattern::{Captures, Pattern, Variables};
use super::table::{KeyTable, Rule};
use crate::header::{SPELLED_OUT, one_line};
use crate::view::View;
use crate::{Checkpoint, WeightsError};

/// How the names of a checkpoint came about, for messages in the names that people know.
#[derive(Debug)]
pub(crate) struct Naming {
    table: KeyTable,
    variables: Variables,
    /// Published tensors that no rule takes.
    pub(crate) unmatched: Vec<String>,
    /// Published tensors that a rule needs and the file lacks, with the names that they would have become.
    absent: Vec<(String, Vec<Pattern>)>,
}

impl Naming {
    /// What the file would call a parameter of ours.
    pub(crate) fn published(&self, ours: &str) -> Option<String> {
        self.table.rules.iter().find_map(|rule| {
            let captures = rule
                .to
                .iter()
                .find_map(|to| to.matches(ours, &self.variables))?;
            let name = |from: &Pattern| {
                from.fill(&captures, &self.variables)
                    .unwrap_or_else(|_| from.to_string())
            };
            Some(rule.from.iter().map(name).collect::<Vec<_>>().join("` + `"))
        })
    }

    /// Published tensors that rules for names under `prefix` did not find, those of `missing` parameters left out.
    pub(crate) fn absent<'a>(
        &'a self,
        prefix: &'a str,
        missing: &'a [String],
    ) -> impl Iterator<Item = &'a str> {
        let below = move |to: &Pattern| {
            let begin = to.begins_with();
            begin.starts_with(prefix) || prefix.starts_with(begin)
        };
        let known = |to: &Pattern| {
            missing
                .iter()
                .any(|name| to.matches(name, &self.variables).is_some())
        };
        self.absent
            .iter()
            .filter(move |(_, to)| to.iter().any(below) && !to.iter().any(known))
            .map(|(name, _)| name.as_str())
    }
}

impl KeyTable {
    /// The checkpoint under our names. Nothing is read: tensors are joined, split and transposed when they are used.
    ///
    /// What no rule takes, and what a rule that is not optional lacks, appears in the report of [`load`](crate::load), in published
    /// names. `variables` are the numbers that the table's sums name.
    ///
    /// # Errors
    /// [`WeightsError::Keys`] if a variable is not given or two tensors would get one name; [`WeightsError::Tensor`] with every
    /// tensor whose shape a rule cannot work on.
    pub fn apply(
        &self,
        checkpoint: Checkpoint,
        variables: &BTreeMap<String, usize>,
    ) -> Result<Checkpoint, WeightsError> {
        if let Some(unknown) = self.variables().find(|name| !variables.contains_key(*name)) {
            return Err(self.wrong(format!("the table needs a variable `{unknown}`")));
        }
        let mut laying = Laying {
            table: self,
            old: &checkpoint,
            variables,
            views: BTreeMap::new(),
            done: BTreeSet::new(),
            unmatched: Vec::new(),
            absent: Vec::new(),
            faults: Vec::new(),
        };
        laying.all()?;
        if !laying.faults.is_empty() {
            let more = laying.faults.len().saturating_sub(SPELLED_OUT);
            laying.faults.truncate(SPELLED_OUT);
            let more = if more > 0 {
                format!("; and {more} more")
            } else {
                String::new()
            };
            return Err(checkpoint.wrong(format!("{}{more}", laying.faults.join("; "))));
        }
        let naming = Naming {
            table: self.clone(),
            variables: variables.clone(),
            unmatched: laying.unmatched,
            absent: laying.absent,
        };
        let views = laying.views;
        Ok(Checkpoint {
            views,
            naming: Some(Arc::new(naming)),
            ..checkpoint
        })
    }

    fn wrong(&self, reason: String) -> WeightsError {
        WeightsError::Keys {
            table: self.name.clone(),
            reason,
        }
    }
}

struct Laying<'a> {
    table: &'a KeyTable,
    old: &'a Checkpoint,
    variables: &'a Variables,
    views: BTreeMap<String, Arc<View>>,
    /// Rules that were applied, with what filled their holes.
    done: BTreeSet<(usize, Captures)>,
    unmatched: Vec<String>,
    absent: Vec<(String, Vec<Pattern>)>,
    faults: Vec<String>,
}

impl Laying<'_> {
    fn all(&mut self) -> Result<(), WeightsError> {
        for name in self.old.names() {
            let dropped = |pattern: &Pattern| pattern.matches(name, self.variables).is_some();
            if self.table.drop.iter().any(dropped) {
                continue;
            }
            match self.rule_for(name) {
                Some((at, captures)) => self.lay(at, captures)?,
                None => self.unmatched.push(name.into()),
            }
        }
        for (at, rule) in self.table.rules.iter().enumerate() {
            if !rule.optional && !self.done.iter().any(|(done, _)| *done == at) {
                let from = rule.from.iter().map(Pattern::to_string);
                self.absent
                    .push((from.collect::<Vec<_>>().join("` + `"), rule.to.clone()));
            }
        }
        Ok(())
    }

    fn rule_for(&self, name: &str) -> Option<(usize, Captures)> {
        let matches = |rule: &Rule| {
            rule.from
                .iter()
                .find_map(|from| from.matches(name, self.variables))
        };
        let mut rules = self.table.rules.iter().enumerate();
        rules.find_map(|(at, rule)| Some((at, matches(rule)?)))
    }

    /// Applies one rule to the tensors that `captures` name.
    fn lay(&mut self, at: usize, captures: Captures) -> Result<(), WeightsError> {
        let rule = &self.table.rules[at];
        if !self.done.insert((at, captures.clone())) {
            return Ok(());
        }
        let fill = |pattern: &Pattern| {
            let filled = pattern.fill(&captures, self.variables);
            filled.map_err(|reason| self.table.wrong(reason))
        };
        let from: Vec<String> = rule.from.iter().map(fill).collect::<Result<_, _>>()?;
        let to: Vec<String> = rule.to.iter().map(fill).collect::<Result<_, _>>()?;
        let (mut parts, mut lacks) = (Vec::new(), Vec::new());
        for name in &from {
            match self.old.views.get(name) {
                Some(view) => parts.push(view.clone()),
                None => lacks.push(one_line(name)),
            }
        }
        if !lacks.is_empty() {
            let targets = to.iter().filter_map(|name| Pattern::parse(name).ok());
            self.absent.push((lacks.join("` + `"), targets.collect()));
            return Ok(());
        }
        let made = match made(rule, parts, self.variables) {
            Ok(made) => made,
            Err(fault) => {
                self.faults.push(fault);
                return Ok(());
            }
        };
        for (name, view) in to.into_iter().zip(made) {
            if let Some(before) = self.views.get(&name) {
                let both = (&before.published, &view.published);
                return Err(self.table.wrong(format!(
                    "`{}` and `{}` both become `{name}`",
                    both.0, both.1
                )));
            }
            self.views.insert(name, view);
        }
        Ok(())
    }
}

/// The tensors that a rule makes: joined, split, then worked on.
fn made(
    rule: &Rule,
    parts: Vec<Arc<View>>,
    variables: &Variables,
) -> Result<Vec<Arc<View>>, String> {
    let whole = match rule.join {
        Some(axis) => View::joined(axis, parts)?,
        None => parts[0].clone(),
    };
    let views = match &rule.split {
        None => vec![whole; rule.to.len()],
        Some((axis, sizes)) => {
            let sizes = sizes
                .iter()
                .map(|size| size.value(&Captures::new(), variables));
            split(&whole, *axis, &sizes.collect::<Result<Vec<_>, _>>()?)?
        }
    };
    let worked = |view| {
        rule.ops
            .iter()
            .try_fold(view, |view, op| op.apply(&view, variables))
    };
    views.into_iter().map(worked).collect()
}

fn split(whole: &Arc<View>, axis: usize, sizes: &[usize]) -> Result<Vec<Arc<View>>, String> {
    let sum = sizes
        .iter()
        .try_fold(0usize, |sum, &size| sum.checked_add(size));
    if sum.is_none() || whole.shape.get(axis).copied() != sum {
        return Err(format!(
            "`{}` is {:?}, the definition needs {sizes:?} along axis {axis}",
            whole.published, whole.shape
        ));
    }
    let mut start = 0;
    let part = |&size: &usize| {
        let part = View::part(whole, axis, start, size);
        start += size;
        part
    };
    Ok(sizes.iter().map(part).collect())
}
