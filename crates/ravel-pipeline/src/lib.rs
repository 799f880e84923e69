//! The definition file format, and the one place that turns a kind into a built part.
