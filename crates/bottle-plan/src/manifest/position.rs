//! Where in the text each key and value stands, so that a check that comes after reading can point at it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// The text's keys and values with their places, nothing else of it.
#[derive(Debug)]
pub(super) enum YamlTree {
    /// A mapping: key, its place, and the value.
    Map(Vec<(Spanned<String>, Spanned<YamlTree>)>),
    /// A sequence.
    Seq(Vec<Spanned<YamlTree>>),
    /// Anything else.
    Leaf,
}

/// A line and a column, from 1.
pub type LineColumn = (u64, u64);

/// Line and column of a location, where it is one.
pub(super) fn place(location: Location) -> Option<LineColumn> {
    (location.line() > 0).then(|| (location.line(), location.column().max(1)))
}

/// A path as messages show it: `bottles.default.git[0].name`.
pub(crate) fn dotted(path: &[&str]) -> String {
    let mut out = String::new();
    for step in path {
        if step.bytes().all(|b| b.is_ascii_digit()) {
            out.push_str(&format!("[{step}]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(step);
        }
    }
    out
}

impl YamlTree {
    /// Where the value at a path of keys and indices is; the nearest enclosing value where it is not there.
    pub(super) fn find(&self, path: &[&str]) -> Option<LineColumn> {
        let mut at = None;
        let mut tree = self;
        for step in path {
            let next = match tree {
                Self::Map(entries) => entries.iter().find(|(key, _)| key.value == *step).map(|(_, value)| value),
                Self::Seq(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
                Self::Leaf => None,
            };
            let Some(next) = next else { break };
            at = place(next.referenced).or(at);
            tree = &next.value;
        }
        at
    }

    fn get(&self, path: &[&str]) -> Option<&Spanned<Self>> {
        let (step, rest) = path.split_first()?;
        let next = match self {
            Self::Map(entries) => entries.iter().find(|(key, _)| key.value == *step).map(|(_, value)| value),
            Self::Seq(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
            Self::Leaf => None,
        }?;
        if rest.is_empty() { Some(next) } else { next.value.get(rest) }
    }

    /// The keys and values of a mapping; none of anything else.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let entries = match self {
            Self::Map(entries) => &entries[..],
            _ => &[],
        };
        entries.iter().map(|(key, value)| (key.value.as_str(), &value.value))
    }

    /// Whether a mapping has a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries().any(|(own, _)| own == key)
    }

    /// Where the value at a path is, if it is there; of an alias, where the alias stands.
    pub(super) fn written(&self, path: &[&str]) -> Option<LineColumn> {
        place(self.get(path)?.referenced)
    }

    /// Where the value at a path is, if it is there and was written there.
    pub(super) fn at(&self, path: &[&str]) -> Option<LineColumn> {
        let value = self.get(path)?;
        place(value.referenced).filter(|at| Some(*at) == place(value.defined))
    }

    /// How many items the list at a path has.
    pub(super) fn items(&self, path: &[&str]) -> Option<usize> {
        match &self.get(path)?.value {
            Self::Seq(items) => Some(items.len()),
            _ => None,
        }
    }

    /// The path, written with dots, of the mapping or value that a place belongs to.
    pub(super) fn path_at(&self, at: LineColumn) -> Option<String> {
        let mut path = vec![];
        self.search(at, &mut path).then(|| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            dotted(&path)
        })
    }

    fn search(&self, at: LineColumn, path: &mut Vec<String>) -> bool {
        match self {
            Self::Map(entries) => entries.iter().any(|(key, value)| {
                if place(key.referenced) == Some(at) {
                    return true;
                }
                path.push(key.value.clone());
                let found = place(value.referenced) == Some(at) || value.value.search(at, path);
                if !found {
                    path.pop();
                }
                found
            }),
            Self::Seq(items) => items.iter().enumerate().any(|(index, item)| {
                path.push(index.to_string());
                // A mapping in a sequence begins where its first key does: look inside first.
                let found = item.value.search(at, path) || place(item.referenced) == Some(at);
                if !found {
                    path.pop();
                }
                found
            }),
            Self::Leaf => false,
        }
    }
}

impl<'de> Deserialize<'de> for YamlTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = YamlTree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<YamlTree, A::Error> {
        let mut entries = vec![];
        while let Some(key) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        Ok(YamlTree::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<YamlTree, A::Error> {
        let mut items = vec![];
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(YamlTree::Seq(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf)
    }

    fn visit_unit<E>(self) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf)
    }

    fn visit_none<E>(self) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlTree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlTree, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| YamlTree::Leaf)
    }
}
