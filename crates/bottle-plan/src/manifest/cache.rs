//! What a setup may keep for the next run: the words of `setup.cache`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The word for the caches of the package managers whose lock files the base branch has.
pub const AUTO: &str = "auto";

/// Directories that are kept: `auto`, or a list in which `auto` may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cache {
    /// Each as it was written: `auto`, `~/` and a path in the agent's home, or a path in the repository.
    pub entries: Vec<String>,
}

impl Cache {
    /// Whether the package managers' own caches are among them.
    pub fn is_auto(&self) -> bool {
        self.entries.iter().any(|entry| entry == AUTO)
    }

    /// The directories that are named, each with its place in the list.
    pub fn named(&self) -> impl Iterator<Item = (usize, &str)> {
        self.entries.iter().map(String::as_str).enumerate().filter(|(_, entry)| *entry != AUTO)
    }
}

impl Serialize for Cache {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.entries[..] {
            [only] if only == AUTO => serializer.serialize_str(AUTO),
            entries => entries.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Cache {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Cache;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a list of directories")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<Cache, E> {
                if word == AUTO {
                    return Ok(Cache { entries: vec![AUTO.to_owned()] });
                }
                Err(E::custom(format!("`{word}` is neither `auto` nor a list of directories")))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Cache, A::Error> {
                let mut entries = vec![];
                while let Some(entry) = list.next_element()? {
                    entries.push(entry);
                }
                Ok(Cache { entries })
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

impl JsonSchema for Cache {
    fn schema_name() -> Cow<'static, str> {
        "Cache".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Directories that are kept: `auto`, or a list in which `auto` may be.",
            "anyOf": [{ "const": AUTO }, { "type": "array", "items": { "type": "string" } }],
        })
    }
}
