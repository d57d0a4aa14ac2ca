//! The rules by which the scanners find things.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canary::CANARY;
use crate::secret::SecretName;

/// What stands before the name of a secret of the bottle's own.
const KNOWN_SECRET: &str = "known-secret:";

/// What stands before the reason why bytes can't be looked into.
const UNREADABLE: &str = "unreadable:";

/// Names the rule behind a finding; written and read as its text, such as `github-pat` or `known-secret:API_KEY`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Rule {
    /// A format, by its id: one of gitleaks', of `bottle-scan`'s, or of the manifest's own.
    Format(String),
    /// A secret of the bottle's own, by its name.
    KnownSecret(String),
    /// The bytes can't be looked into, for this reason.
    Unreadable(String),
}

/// A text by which no finding can be let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It is no id of a format.
    #[error("`{}` is not the id of a rule", .0.escape_debug())]
    NoId(String),
    /// It stands for a secret of the bottle's own.
    #[error("a secret of the bottle's own is never let through")]
    KnownSecret,
    /// It stands for bytes that can't be looked into.
    #[error("what can't be looked into is never let through")]
    Unreadable,
}

impl Rule {
    /// The format with this id.
    pub fn format(id: &str) -> Self {
        Self::Format(id.to_owned())
    }

    /// The secret of the bottle's own with this name.
    pub fn known_secret(name: &SecretName) -> Self {
        Self::KnownSecret(name.to_string())
    }

    /// Bytes that can't be looked into, with the reason.
    pub fn unreadable(why: &str) -> Self {
        Self::Unreadable(why.to_owned())
    }

    /// The format's id; none for what is no format.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Format(id) => Some(id),
            Self::KnownSecret(_) | Self::Unreadable(_) => None,
        }
    }

    /// Tells whether it stands for the run's canary, which nobody has any use for.
    pub fn is_canary(&self) -> bool {
        matches!(self, Self::KnownSecret(name) if name == CANARY)
    }

    /// Tells whether a finding of it is refused whatever the policy says.
    pub fn is_always_refused(&self) -> bool {
        self.id().is_none()
    }

    /// Checks that a policy or a person may let findings of it through, and gives its id: graphic ASCII characters, at least one.
    pub fn exemptible(&self) -> Result<&str, RuleError> {
        match self {
            Self::Format(id) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(id),
            Self::Format(id) => Err(RuleError::NoId(id.clone())),
            Self::KnownSecret(_) => Err(RuleError::KnownSecret),
            Self::Unreadable(_) => Err(RuleError::Unreadable),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(id) => f.write_str(id),
            Self::KnownSecret(name) => write!(f, "{KNOWN_SECRET}{name}"),
            Self::Unreadable(why) => write!(f, "{UNREADABLE}{why}"),
        }
    }
}

impl From<String> for Rule {
    fn from(text: String) -> Self {
        if let Some(name) = text.strip_prefix(KNOWN_SECRET) {
            return Self::KnownSecret(name.to_owned());
        }
        match text.strip_prefix(UNREADABLE) {
            Some(why) => Self::unreadable(why),
            None => Self::Format(text),
        }
    }
}

impl From<&str> for Rule {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        for (rule, text) in [
            (Rule::format("github-pat"), "github-pat"),
            (Rule::format("known-secrets"), "known-secrets"),
            (Rule::known_secret(&SecretName::parse("API_KEY").expect("a name")), "known-secret:API_KEY"),
            (Rule::unreadable("nested too deep"), "unreadable:nested too deep"),
        ] {
            assert_eq!(serde_json::to_value(&rule).expect("JSON"), text);
            assert_eq!(serde_json::from_value::<Rule>(text.into()).expect("a rule"), rule);
            assert_eq!(rule.is_always_refused(), rule.id().is_none());
        }
    }

    #[test]
    fn the_canary_is_a_secret_and_no_format() {
        assert!(Rule::known_secret(&SecretName::canary()).is_canary());
        for other in
            ["BOTTLE_CANARY", "known-secret:BOTTLE_CANARY_2", "known-secret:API_KEY", "unreadable:BOTTLE_CANARY"]
        {
            assert!(!Rule::from(other).is_canary(), "{other}");
        }
    }

    #[test]
    fn nothing_but_a_format_can_be_let_through() {
        assert_eq!(Rule::from("jwt").exemptible(), Ok("jwt"));
        for (text, error) in [
            ("", RuleError::NoId(String::new())),
            ("a b", RuleError::NoId("a b".to_owned())),
            ("é", RuleError::NoId("é".to_owned())),
            ("\u{1b}", RuleError::NoId("\u{1b}".to_owned())),
            ("known-secret:", RuleError::KnownSecret),
            ("known-secret:TOKEN", RuleError::KnownSecret),
            ("unreadable:too deep", RuleError::Unreadable),
        ] {
            assert_eq!(Rule::from(text).exemptible(), Err(error));
        }
        assert!(!RuleError::NoId("\u{1b}".to_owned()).to_string().contains('\u{1b}'));
    }
}
