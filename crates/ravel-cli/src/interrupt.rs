//! Ctrl-C: the first asks the run to end cleanly, the second ends it at once.

use std::sync::atomic::{AtomicUsize, Ordering};

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Begins to listen for SIGINT and SIGTERM.
pub fn listen() {
    // Without a handler the signal simply ends the program, which is no reason to fail.
    let _ = ctrlc::set_handler(|| {
        if ASKED.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(130);
        }
    });
}

/// Whether an end was asked for.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst) > 0
}
