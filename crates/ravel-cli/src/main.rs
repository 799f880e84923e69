//! The `ravel` command.
fn main() {}
