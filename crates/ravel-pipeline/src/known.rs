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
    "llamagen-vq-ds16",
    "llamagen-vq-ds8",
    "janus-vq",
    "chameleon-vq",
    "infinity-vae-d16",
    "infinity-vae-d24",
    "infinity-vae-d32",
    "infinity-vae-d32reg",
    "infinity-vae-d64",
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
