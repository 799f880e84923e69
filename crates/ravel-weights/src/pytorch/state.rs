//! Which of the dictionaries in a file holds the weights.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::object::{Heap, Id, Object, TensorRef};
use crate::header::one_line;

/// What training programs call the dictionary of weights. Moving averages come first: published numbers are theirs.
const NAMES: &[&str] = &[
    "model_ema",
    "model",
    "module",
    "state_dict",
    "generator",
    "best_state",
    "net",
];
/// Dictionaries within dictionaries that are followed.
const MAX_DEPTH: usize = 32;
/// Bytes of a tensor's name.
const MAX_NAME: usize = 1024;
/// Tensors that one file may hold.
const MAX_TENSORS: usize = 200_000;
/// Entries that are looked at: dictionaries that hold each other many times over unfold without end.
const MAX_STEPS: usize = 20_000_000;
/// Parts of a name that wrappers add: data-parallel, sharded, compiled and checkpointed modules.
const WRAPPERS: &[&str] = &[
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_orig_mod",
    "_forward_module",
];
/// Data-parallel training puts this in front of every name.
const DATA_PARALLEL: &str = "module.";

/// All tensors of the dictionary of weights by name; `inside` names it (`model_ema`, `ema.model`) where the rule would take
/// another.
pub(super) fn tensors<'a>(
    heap: &'a Heap,
    root: Id,
    inside: Option<&str>,
) -> Result<BTreeMap<String, &'a TensorRef>, String> {
    let mut finder = Finder {
        heap,
        known: HashMap::new(),
    };
    let start = match inside {
        Some(path) => finder.named(root, path)?,
        None => finder.weights(root),
    };
    let mut walk = Walk {
        heap,
        finder: &mut finder,
        open: HashSet::new(),
        steps: 0,
        found: Vec::new(),
    };
    walk.collect(start, String::new())?;
    if walk.found.is_empty() {
        return Err("it holds no tensors".into());
    }
    unwrapped(walk.found)
}

struct Finder<'a> {
    heap: &'a Heap,
    /// Whether an object has tensors somewhere below; false while that is being found out.
    known: HashMap<Id, bool>,
}

impl Finder<'_> {
    /// The named objects directly below one.
    fn children(&self, id: Id) -> Vec<(String, Id)> {
        match self.heap.get(id) {
            Object::Dict(pairs) => {
                let named = |&(key, value): &(Id, Id)| Some((self.name(key)?, value));
                pairs.iter().filter_map(named).collect()
            }
            Object::List(items) | Object::Tuple(items) => items
                .iter()
                .enumerate()
                .map(|(at, &item)| (at.to_string(), item))
                .collect(),
            Object::Opaque {
                class,
                state: Some(state),
            } => self.module(class, *state),
            _ => Vec::new(),
        }
    }

    /// What a whole module that was saved as an object holds: the attributes of a compiled one, parameters, buffers and modules of
    /// any other.
    fn module(&self, class: &str, state: Id) -> Vec<(String, Id)> {
        if class.starts_with("__torch__.") {
            return self.children(state);
        }
        let kinds = ["_parameters", "_buffers", "_modules"];
        let Object::Dict(_) = self.heap.get(state) else {
            return Vec::new();
        };
        let attributes = self.children(state).into_iter();
        let inner = attributes.filter(|(name, _)| kinds.contains(&name.as_str()));
        inner.flat_map(|(_, value)| self.children(value)).collect()
    }

    fn name(&self, key: Id) -> Option<String> {
        match self.heap.get(key) {
            Object::Text(text) if text.len() <= MAX_NAME => Some(text.clone()),
            Object::Int(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn has_tensors(&mut self, id: Id, depth: usize) -> bool {
        if matches!(self.heap.get(id), Object::Tensor(_)) {
            return true;
        }
        if let Some(&known) = self.known.get(&id) {
            return known;
        }
        if depth == MAX_DEPTH {
            return false;
        }
        self.known.insert(id, false);
        let children = self.children(id);
        let has = children
            .into_iter()
            .any(|(_, child)| self.has_tensors(child, depth + 1));
        self.known.insert(id, has);
        has
    }

    /// Follows the usual names, then dictionaries that are alone in holding tensors. A module's parts are never a choice.
    fn weights(&mut self, root: Id) -> Id {
        let mut at = root;
        for _ in 0..MAX_DEPTH {
            if matches!(self.heap.get(at), Object::Opaque { .. }) {
                return at;
            }
            let children = self.children(at);
            let full: Vec<(String, Id)> = children
                .into_iter()
                .filter(|child| self.has_tensors(child.1, 0))
                .collect();
            let is_tensor = |id: Id| matches!(self.heap.get(id), Object::Tensor(_));
            let usual = NAMES.iter().find_map(|name| {
                full.iter()
                    .find(|(child, id)| child == name && !is_tensor(*id))
                    .map(|child| child.1)
            });
            at = match (usual, &full[..]) {
                (Some(usual), _) => usual,
                (None, [(_, only)]) if !is_tensor(*only) => *only,
                _ => return at,
            };
        }
        at
    }

    fn named(&mut self, root: Id, path: &str) -> Result<Id, String> {
        path.split('.').try_fold(root, |at, part| {
            let children = self.children(at);
            let found = children.iter().find(|(name, _)| name == part);
            found.map(|(_, id)| *id).ok_or_else(|| {
                let full = children.iter().filter(|child| self.has_tensors(child.1, 0));
                let names: Vec<String> = full
                    .take(8)
                    .map(|(name, _)| format!("`{}`", one_line(name)))
                    .collect();
                format!(
                    "no dictionary `{}`; there are {}",
                    one_line(path),
                    names.join(", ")
                )
            })
        })
    }
}

struct Walk<'a, 'b> {
    heap: &'a Heap,
    finder: &'b mut Finder<'a>,
    /// Objects on the way down: one that comes again holds itself.
    open: HashSet<Id>,
    steps: usize,
    found: Vec<(String, &'a TensorRef)>,
}

impl Walk<'_, '_> {
    fn collect(&mut self, id: Id, name: String) -> Result<(), String> {
        if let Object::Tensor(tensor) = self.heap.get(id) {
            if self.found.len() == MAX_TENSORS || name.len() > MAX_NAME {
                return Err(
                    "it holds more tensors, or longer names, than any checkpoint has".into(),
                );
            }
            self.found.push((name, tensor));
            return Ok(());
        }
        if self.open.len() == MAX_DEPTH || !self.finder.has_tensors(id, 0) || !self.open.insert(id)
        {
            return Ok(());
        }
        let children = self.finder.children(id);
        self.steps += children.len();
        if self.steps > MAX_STEPS {
            return Err("its dictionaries hold each other too many times".into());
        }
        for (child, value) in children {
            if !self.finder.has_tensors(value, 0) {
                continue;
            }
            let name = if name.is_empty() {
                child
            } else {
                format!("{name}.{child}")
            };
            self.collect(value, name)?;
        }
        self.open.remove(&id);
        Ok(())
    }
}

/// The names without what wrappers added.
fn unwrapped(found: Vec<(String, &TensorRef)>) -> Result<BTreeMap<String, &TensorRef>, String> {
    let clean = |name: &str| {
        let parts = name.split('.').filter(|part| !WRAPPERS.contains(part));
        parts.collect::<Vec<_>>().join(".")
    };
    let parallel = found
        .iter()
        .all(|(name, _)| name.starts_with(DATA_PARALLEL));
    let mut tensors = BTreeMap::new();
    for (name, tensor) in found {
        let name = if parallel {
            &name[DATA_PARALLEL.len()..]
        } else {
            &name
        };
        let name = clean(name);
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(format!("`{}` occurs twice", one_line(&name)));
        }
    }
    Ok(tensors)
}
