//! What the system tells of memory, and work that it may not be able to do.

/// Bytes that programs may still take, where the system tells.
pub fn memory() -> Option<u64> {
    kib("/proc/meminfo", "MemAvailable:")
}

/// The most bytes that this process has held so far, mapped pages included, where the system tells.
pub fn peak_memory() -> Option<u64> {
    kib("/proc/self/status", "VmHWM:")
}

/// [`peak_memory`] in MiB.
pub fn peak_mib() -> Option<f64> {
    peak_memory().map(|bytes| bytes as f64 / (1 << 20) as f64)
}

/// A line of the kernel's own, in bytes.
fn kib(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// What some work gives, or nothing where it panics, which is not told.
pub fn quietly<T>(work: impl FnOnce() -> T + std::panic::UnwindSafe) -> Option<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(work).ok();
    std::panic::set_hook(hook);
    found
}
