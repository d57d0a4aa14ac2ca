//! Names that later code can trust: of bottles and agents, of a run, and words made of people's titles.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text that can't be a name of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {expected}")]
pub struct NameError {
    given: String,
    expected: &'static str,
}

/// The name of a bottle or an agent in a manifest: letters, digits, `-` and `_`, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Name(String);

impl Name {
    /// The longest name.
    pub const LONGEST: usize = 64;

    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let good = !text.is_empty()
            && text.len() <= Self::LONGEST
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            let given = crate::prose::name(text, 80);
            Err(NameError { given, expected: "a name: letters, digits, `-` and `_`, at most 64" })
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

bottle_types::checked_text!(Name, NameError);

/// A run's short unique name: `[a-z0-9-]`, at most 40 characters, neither starting nor ending with a dash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Slug(String);

impl Slug {
    /// The longest slug.
    pub const LONGEST: usize = 40;

    /// Checks a slug, such as one given on the command line or found as a container's label.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let good = !text.is_empty()
            && text.len() <= Self::LONGEST
            && !text.starts_with('-')
            && !text.ends_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            let given = crate::prose::name(text, 80);
            Err(NameError { given, expected: "a run's slug: a-z, 0-9 and `-`, at most 40" })
        }
    }

    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

bottle_types::checked_text!(Slug, NameError);

/// The name of a service, and of the host at which the agent finds it: one DNS label of lower case letters, digits and `-`, at most 16:
/// it is part of the path of a socket, which must be short.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// The longest name.
    pub const LONGEST: usize = 16;

    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let good = text.len() <= Self::LONGEST
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            let given = crate::prose::name(text, 80);
            Err(NameError { given, expected: "a service's name: a-z, 0-9 and `-`, a letter first, at most 16" })
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

bottle_types::checked_text!(ServiceName, NameError);

/// The words of a text, lower case ASCII joined by dashes, at most `longest` characters, cut between words where that
/// is possible; empty where the text has no such letters or digits.
pub fn words(text: &str, longest: usize) -> String {
    let mut out = String::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '\'').filter(|word| !word.is_empty()) {
        let word: String = word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        if word.is_empty() {
            continue;
        }
        let dash = usize::from(!out.is_empty());
        if out.len() + dash + word.len() > longest {
            if out.is_empty() {
                out.push_str(&word[..longest]);
            }
            break;
        }
        if dash == 1 {
            out.push('-');
        }
        out.push_str(&word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_between_words() {
        for (text, longest, expected) in [
            ("Parser doesn't accept CRLF!", 40, "parser-doesnt-accept-crlf"),
            ("Parser doesn't accept CRLF!", 20, "parser-doesnt-accept"),
            ("Parser doesn't accept CRLF!", 19, "parser-doesnt"),
            ("Donaudampfschifffahrtsgesellschaft", 10, "donaudampf"),
            ("日本語のタイトル", 40, ""),
            ("  --rm -rf / ; `id`", 40, "rm-rf-id"),
            ("", 40, ""),
        ] {
            assert_eq!(words(text, longest), expected);
        }
    }

    #[test]
    fn what_is_no_slug_is_refused() {
        assert!(Slug::parse("issue-12-fix-1a2b").is_ok());
        for text in ["", "-a", "a-", "A", "a/b", "a.b", &"a".repeat(41)] {
            assert!(Slug::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_service_is_one_label_of_a_hosts_name() {
        assert!(ServiceName::parse("db-2").is_ok());
        for text in ["", "-db", "db-", "Db", "db.local", "db_1", "2db", "../db", &"a".repeat(17)] {
            assert!(ServiceName::parse(text).is_err(), "{text}");
        }
    }
}
