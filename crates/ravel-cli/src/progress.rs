//! What people see: bars on a terminal, lines elsewhere, nothing when asked to be quiet.

use std::io::{ErrorKind, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// Writes to standard output; a closed pipe is a quiet end, any other fault ends the program.
pub fn write(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("error: standard output: {error}");
        std::process::exit(2);
    }
}

/// Writes a line to standard output; a closed pipe is a quiet end.
pub fn say(line: &str) {
    write(format!("{}\n", plain(line)).as_bytes());
}

/// Text for a terminal: what prompts and files bring along cannot steer it.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() && !matches!(letter, '\n' | '\t') {
            true => plain.extend(letter.escape_unicode()),
            false => plain.push(letter),
        }
    }
    plain
}

/// A bar with the time that is left, on standard error; hidden where that is no terminal or when quiet.
pub fn bar(steps: usize, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} (left {eta}) {msg}")
        .expect("a template that is written here");
    ProgressBar::new(steps as u64).with_style(style)
}

/// Writes a line to standard error, where progress goes.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", plain(line));
}

/// A bar for bytes with rate and the time that is left, like [`bar`].
pub fn bytes_bar(quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} (left {eta}) {msg}",
    );
    let style = style.expect("a template that is written here");
    ProgressBar::no_length().with_style(style)
}
