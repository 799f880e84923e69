//! Definitions of published tokenizers. Their weights are pulled by the same name (`ravel models pull mimi`).

/// Files in this program, by name.
type Files = &'static [(&'static str, &'static [u8])];

macro_rules! definitions {
    ($($name:literal),+ $(,)?) => {
        &[$((
            $name,
            &[(
                "pipeline.toml",
                include_bytes!(concat!("../published/", $name, ".toml")).as_slice(),
            )],
        )),+]
    };
}

/// Names with definitions.
pub static PUBLISHED_TOKENIZERS: &[(&str, Files)] = definitions![
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
