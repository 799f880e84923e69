//! Configurations of published models within a definition, in the words of their own code.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A configuration in which every key must be one that its reader knows. The readers themselves let others pass, since published files
/// carry many that no computation depends on; a definition is written by hand.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct Sizes<T>(pub T);

impl<T: JsonSchema> JsonSchema for Sizes<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    // Several families call theirs `Config`; by this the schema tells them apart.
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<'de, T: Serialize + DeserializeOwned> Deserialize<'de> for Sizes<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Map::<String, Value>::deserialize(deserializer)?;
        let read: T = serde_json::from_value(given.clone().into()).map_err(Error::custom)?;
        let known = serde_json::to_value(&read).map_err(Error::custom)?;
        match known.as_object().and_then(|known| unknown(&given, known)) {
            Some(line) => Err(Error::custom(line)),
            None => Ok(Self(read)),
        }
    }
}

/// What serde would say of the first key that is not known, tables within tables included.
fn unknown(given: &Map<String, Value>, known: &Map<String, Value>) -> Option<String> {
    given.iter().find_map(|(key, value)| match known.get(key) {
        None => {
            let names: Vec<String> = known.keys().map(|name| format!("`{name}`")).collect();
            Some(format!(
                "unknown field `{key}`, expected one of {}",
                names.join(", ")
            ))
        }
        Some(inner) => unknown(value.as_object()?, inner.as_object()?),
    })
}

#[cfg(test)]
mod tests {
    use ravel_families::var::Config;

    use super::*;

    #[test]
    fn keys_that_no_reader_knows_are_refused_at_any_depth() {
        let read = |text: &str| toml::from_str::<Sizes<Config>>(text);
        let sizes = read("depth = 20\n[vae]\nch = 32\n").unwrap().0;
        assert_eq!((sizes.depth, sizes.vae.ch, sizes.embed_dim), (20, 32, 1024));
        for (text, key) in [
            ("dept = 20", "`dept`"),
            ("[vae]\nchannels = 32", "`channels`"),
        ] {
            let line = read(text).unwrap_err().to_string();
            assert!(
                line.contains("unknown field") && line.contains(key),
                "{line}"
            );
        }
        let again = toml::to_string(&Sizes(sizes.clone())).unwrap();
        assert_eq!(read(&again).unwrap().0, sizes);
    }
}
