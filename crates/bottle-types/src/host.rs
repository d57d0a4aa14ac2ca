//! Host names as rules and requests use them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a text is not a host name or a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Empty, too long, or with characters that no host name has.
    #[error("`{0}` is not a host name")]
    NotAName(String),
    /// An address; routes name hosts, so that certificates and credentials have something to hold on to.
    #[error("`{0}` is an address; a host name is needed")]
    Address(String),
}

/// A DNS host name: lower case, ASCII (IDNA-encoded), without a trailing dot, never an IP literal in any spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct HostName(String);

impl HostName {
    /// Normalises and checks a name.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let not_a_name = || HostError::NotAName(text.to_owned());
        let bare = text.strip_suffix('.').unwrap_or(text);
        let ascii = idna::domain_to_ascii_strict(bare).map_err(|_| not_a_name())?;
        if ascii.is_empty() || ascii.len() > 253 {
            return Err(not_a_name());
        }
        if ascii.split('.').any(|label| label.is_empty() || label.len() > 63) {
            return Err(not_a_name());
        }
        // What a resolver may read as a number is an address: `127.1`, `0x7f000001`, `2130706433`, `0177.0.0.1`.
        let last = ascii.rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().all(|b| b.is_ascii_digit())
            || last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if numeric || text.contains([':', '[']) {
            return Err(HostError::Address(text.to_owned()));
        }
        Ok(Self(ascii))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

crate::checked_text!(HostName, HostError);

/// Which hosts a rule is about: one name, or `*.` and a name for everything below it (and not the name itself).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum HostPattern {
    /// This name alone.
    Exact(HostName),
    /// Every name that ends with a dot and this one.
    Below(HostName),
}

impl HostPattern {
    /// Reads `host.example` or `*.example`.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        match text.strip_prefix("*.") {
            Some(rest) => HostName::parse(rest).map(Self::Below),
            None => HostName::parse(text).map(Self::Exact),
        }
    }

    /// Whether the rule is about this host.
    pub fn matches(&self, host: &HostName) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(name) => {
                host.0.strip_suffix(name.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
            }
        }
    }

    /// Whether every host of the other one is one of this.
    pub fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Exact(name) => self.matches(name),
            Self::Below(name) => {
                matches!(self, Self::Below(own) if own == name || HostPattern::Below(own.clone()).matches(name))
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        Self::parse(&text)
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        assert_eq!(HostName::parse("API.Example.COM.").map(String::from).as_deref(), Ok("api.example.com"));
        assert_eq!(HostName::parse("bücher.example").map(String::from).as_deref(), Ok("xn--bcher-kva.example"));
    }

    #[test]
    fn addresses_and_nonsense_are_not_names() {
        for text in [
            "",
            ".",
            "a..b",
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "[::1]",
            "::1",
            "a b",
            "a/b",
            "a%41",
            "0177.0.0.0x1",
            "ex_ample.com\n",
        ] {
            assert!(HostName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_suffix_pattern_is_not_the_name_itself() {
        let below = HostPattern::parse("*.example.com").expect("a pattern");
        let host = |text| HostName::parse(text).expect("a host");
        assert!(below.matches(&host("a.example.com")));
        assert!(below.matches(&host("a.b.example.com")));
        assert!(!below.matches(&host("example.com")));
        assert!(!below.matches(&host("aexample.com")));
    }

    #[test]
    fn a_pattern_covers_what_is_below_it() {
        let pattern = |text| HostPattern::parse(text).expect("a pattern");
        for (outer, inner, covers) in [
            ("a.example", "a.example", true),
            ("a.example", "b.a.example", false),
            ("*.example", "a.example", true),
            ("*.a.example", "*.a.example", true),
            ("*.a.example", "*.b.a.example", true),
            ("*.a.example", "*.ba.example", false),
            ("*.a.example", "a.example", false),
            ("*.b.a.example", "*.a.example", false),
            ("a.example", "*.a.example", false),
        ] {
            assert_eq!(pattern(outer).covers(&pattern(inner)), covers, "{outer} {inner}");
        }
    }
}
