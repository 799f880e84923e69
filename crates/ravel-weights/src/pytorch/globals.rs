//! Which names a pickle may mention. Mentioning is all that happens: nothing is imported and nothing is called.

use super::object::MAX_NAME;
use crate::header::one_line;

/// Modules of Python itself, today's and those of Python 2.
const PYTHON: &str = include_str!("stdlib.txt");

/// What checkpoints use of Python itself, none of which runs anything.
const HARMLESS: &[&str] = &[
    "__builtin__.bytearray",
    "__builtin__.complex",
    "__builtin__.dict",
    "__builtin__.float",
    "__builtin__.frozenset",
    "__builtin__.int",
    "__builtin__.list",
    "__builtin__.long",
    "__builtin__.object",
    "__builtin__.set",
    "__builtin__.slice",
    "__builtin__.str",
    "__builtin__.tuple",
    "__builtin__.unicode",
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.bool",
    "builtins.bytearray",
    "builtins.bytes",
    "builtins.complex",
    "builtins.dict",
    "builtins.float",
    "builtins.frozenset",
    "builtins.int",
    "builtins.list",
    "builtins.object",
    "builtins.range",
    "builtins.set",
    "builtins.slice",
    "builtins.str",
    "builtins.tuple",
    "builtins.type",
    "collections.Counter",
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.deque",
    "copy_reg._reconstructor",
    "copyreg._reconstructor",
    "datetime.date",
    "datetime.datetime",
    "datetime.time",
    "datetime.timedelta",
    "datetime.timezone",
    "decimal.Decimal",
    "fractions.Fraction",
    "functools.partial",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib.WindowsPath",
    "types.SimpleNamespace",
    "uuid.UUID",
];

/// The full name of a class or function, if a checkpoint has any business with it.
///
/// Classes of other packages are let pass and stay opaque. Of Python itself only what is listed above passes: a pickle that
/// asks for anything else is an attack or damaged.
pub(super) fn allowed(module: &str, name: &str) -> Result<String, String> {
    if module.len() + name.len() > MAX_NAME {
        return Err("a class has a name that is too long".into());
    }
    let full = format!("{module}.{name}");
    let top = module.split('.').next().unwrap_or_default();
    let python = PYTHON.split_whitespace().any(|known| known == top);
    let typing = top == "typing" || full.starts_with("collections.abc.");
    if python && !typing && !HARMLESS.contains(&full.as_str()) {
        return Err(format!(
            "it asks for `{}`, which no weights need (nothing of it was run)",
            one_line(&full)
        ));
    }
    Ok(full)
}
