//! What a text lost, counted by kind, so that prompt and record can say so.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of thing that is taken out or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A character without a width, or a control character.
    Invisible,
    /// An entity that stands for such a character, or that spells a plain one.
    Entity,
    /// An HTML comment, declaration or instruction.
    Comment,
    /// An element that is not shown, such as `script`.
    Element,
    /// A tag's attribute, or the words behind a fence.
    Attribute,
    /// An image's alternative text.
    AltText,
    /// A link's or an image's title.
    Title,
    /// The definition of a link or a footnote, which is shown nowhere.
    Definition,
    /// A link that is not http or https, or that has no text.
    Link,
    /// A tag that is shown as text instead.
    Tag,
    /// An `@name`.
    Mention,
    /// A word that closes or reopens an issue.
    Keyword,
    /// A command at the beginning of a line.
    Command,
    /// The rest of a text that is too long.
    Rest,
    /// A whole text that can't be cleaned.
    Text,
}

impl Kind {
    /// One, and several.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Invisible => ("invisible character", "invisible characters"),
            Self::Entity => ("entity", "entities"),
            Self::Comment => ("HTML comment", "HTML comments"),
            Self::Element => ("hidden element", "hidden elements"),
            Self::Attribute => ("hidden attribute", "hidden attributes"),
            Self::AltText => ("alternative text", "alternative texts"),
            Self::Title => ("link title", "link titles"),
            Self::Definition => ("hidden definition", "hidden definitions"),
            Self::Link => ("link", "links"),
            Self::Tag => ("HTML tag", "HTML tags"),
            Self::Mention => ("mention", "mentions"),
            Self::Keyword => ("closing keyword", "closing keywords"),
            Self::Command => ("command", "commands"),
            Self::Rest => ("end of a long text", "ends of long texts"),
            Self::Text => ("text that can't be cleaned", "texts that can't be cleaned"),
        }
    }
}

/// How much of each kind; shown as `2 HTML comments, 1 link title`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Removed(BTreeMap<Kind, u64>);

impl Removed {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much of one kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    /// Adds what another text lost.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }

    pub(super) fn count(&mut self, kind: Kind) {
        *self.0.entry(kind).or_default() += 1;
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, count)) in self.0.iter().enumerate() {
            let (one, several) = kind.words();
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {}", if *count == 1 { one } else { several })?;
        }
        Ok(())
    }
}
