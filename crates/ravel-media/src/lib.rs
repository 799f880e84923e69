//! The outside world of signals: pictures in and out, with metadata.
