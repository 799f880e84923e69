//! Definitions that are compiled in: of published tokenizers here, of published generators beside the code of their task. Their weights are
//! pulled by the same name (`ravel models pull mimi`).

/// Files in this program, by name.
pub type Files = &'static [(&'static str, &'static [u8])];

/// Names with their definitions, `../published/NAME.toml` as seen from the caller's file, and the files that lie beside every one of them.
#[macro_export]
macro_rules! published_definitions {
    ($beside:tt: $($name:literal),+ $(,)?) => {
        &[$(($name, $crate::published_definitions!(@one $name $beside))),+]
    };
    (@one $name:literal [$($beside:expr),*]) => {
        &[
            (
                "pipeline.toml",
                include_bytes!(concat!("../published/", $name, ".toml")).as_slice(),
            ),
            $($beside),*
        ]
    };
}

/// Definitions of published tokenizers, by name.
pub static PUBLISHED_TOKENIZERS: &[(&str, Files)] = published_definitions![
    []:
    "llamagen-vq-ds16",
    "llamagen-vq-ds8",
    "janus-vq",
    "chameleon-vq",
    "infinity-vae-d16",
    "infinity-vae-d24",
    "infinity-vae-d32",
    "infinity-vae-d32reg",
    "infinity-vae-d64",
    "emu3-visiontokenizer",
    "cosmos-dv4x8x8",
    "cosmos-dv8x8x8",
    "cosmos-dv8x16x16",
    "encodec-24khz",
    "encodec-48khz",
    "dac-16khz",
    "dac-24khz",
    "dac-44khz",
    "snac-24khz",
    "snac-32khz",
    "snac-44khz",
    "mimi",
    "firefly",
];
