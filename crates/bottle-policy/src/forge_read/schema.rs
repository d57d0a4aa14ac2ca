//! What is known of GitHub's schema, out of `schema.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::ReadKind;

/// A type's entry in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    kinds: String,
    fields: String,
    text: String,
    authored: bool,
    of_writers: bool,
    of: String,
    connection: String,
}

/// What a field leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A value.
    Value,
    /// An object of this type, or a list of such.
    Object(String),
    /// A connection of objects of this type.
    Connection(String),
}

/// A known type.
#[derive(Debug)]
pub(super) struct Type {
    pub(super) kinds: Vec<ReadKind>,
    pub(super) fields: BTreeMap<String, Target>,
    pub(super) text: Vec<String>,
    /// Whether its objects name their authors.
    pub(super) is_authored: bool,
    /// Whether none but those who may write make one.
    pub(super) is_of_writers: bool,
    /// What it may be, where it is an interface or a union.
    pub(super) of: Vec<String>,
    /// What a connection of it has besides what each has.
    pub(super) connection: BTreeMap<String, Target>,
}

/// All known types.
#[derive(Debug)]
pub(super) struct Schema(BTreeMap<String, Type>);

/// The schema.
pub(super) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let entries: BTreeMap<String, Entry> = toml::from_str(include_str!("schema.toml")).unwrap_or_default();
    Schema(entries.into_iter().map(|(name, entry)| (name, Type::of(&entry))).collect())
});

impl Schema {
    pub(super) fn get(&self, name: &str) -> Option<&Type> {
        self.0.get(name)
    }

    /// A type by its name, with the name that stays.
    pub(super) fn name_of(&'static self, name: &str) -> Option<(&'static str, &'static Type)> {
        self.0.get_key_value(name).map(|(name, found)| (name.as_str(), found))
    }

    /// Whether an object of one type may be one of the other.
    pub(super) fn may_be(&self, name: &str, other: &str) -> bool {
        let has = |one: &str, two: &str| self.get(one).is_some_and(|found| found.of.iter().any(|part| part == two));
        name == other || has(name, other) || has(other, name)
    }
}

impl Type {
    fn of(entry: &Entry) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let kinds = ReadKind::ALL.into_iter().filter(|kind| words(&entry.kinds).iter().any(|word| word == kind.word()));
        Self {
            kinds: kinds.collect(),
            fields: fields(&entry.fields),
            text: words(&entry.text),
            is_authored: entry.authored,
            is_of_writers: entry.of_writers,
            of: words(&entry.of),
            connection: fields(&entry.connection),
        }
    }
}

fn fields(text: &str) -> BTreeMap<String, Target> {
    let field = |word: &str| match word.split_once(':') {
        None => (word.to_owned(), Target::Value),
        Some((name, target)) => {
            let target = match target.strip_prefix('[').and_then(|target| target.strip_suffix(']')) {
                Some(name) => Target::Connection(name.to_owned()),
                None => Target::Object(target.to_owned()),
            };
            (name.to_owned(), target)
        }
    };
    text.split_whitespace().map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_in_the_file_is_known() {
        let entries: BTreeMap<String, Entry> = toml::from_str(include_str!("schema.toml")).expect("types");
        assert!(entries.len() > 40 && SCHEMA.0.len() == entries.len());
        for (name, found) in &SCHEMA.0 {
            let entry = &entries[name];
            assert_eq!(entry.kinds.split_whitespace().count(), found.kinds.len(), "a kind of {name}");
            for target in found.fields.values().chain(found.connection.values()) {
                let (Target::Object(other) | Target::Connection(other)) = target else { continue };
                assert!(SCHEMA.get(other).is_some(), "{name} has {other}, which is not there");
            }
            for text in &found.text {
                assert_eq!(found.fields.get(text), Some(&Target::Value), "{name} has no {text}");
            }
            assert!(found.of.iter().all(|other| SCHEMA.get(other).is_some()), "{name} is of what is not there");
            let has_author = found.fields.contains_key("author") && found.fields.contains_key("authorAssociation");
            assert_eq!(found.is_authored, has_author, "{name}");
            // Words that are somebody's by their names.
            let words = ["title", "body", "bodyText", "bodyHTML", "description", "message", "summary"];
            for word in words.iter().filter(|word| found.fields.contains_key(**word)) {
                assert!(found.text.iter().any(|text| text == word), "{name}.{word} is no text");
            }
        }
    }
}
