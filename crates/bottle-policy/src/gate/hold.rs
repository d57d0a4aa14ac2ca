//! Which pushes wait for a person, and which of them one has let through.

use bottle_types::git::{ObjectId, RefName};
use bottle_types::rule::Rule;
use bottle_types::units::ByteSize;
use globset::GlobMatcher;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GateError, RepoName, refs};

/// A push that matches one of these waits for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HoldRules {
    /// Globs of paths that a pushed commit adds, changes, renames or deletes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Rules of the scan: what one of them finds in a file holds the push, and does not refuse it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub rules: Vec<Rule>,
    /// All new objects together, unpacked, are larger than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
}

impl HoldRules {
    /// Whether no push is held.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// One ref of one push.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefMove {
    /// Its full name.
    #[schemars(with = "String")]
    pub r#ref: RefName,
    /// The id before, zeros for a new ref.
    #[schemars(with = "String")]
    pub old: ObjectId,
    /// The id after.
    #[schemars(with = "String")]
    pub new: ObjectId,
}

/// A held push that a person has let through: to this repository, with these refs, from and to exactly these objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovedPush {
    /// The repository at the gate.
    pub upstream: RepoName,
    /// Its refs, sorted.
    pub refs: Vec<RefMove>,
}

/// The judge of what is held at one upstream.
#[derive(Debug, Clone)]
pub struct Holds {
    paths: Vec<(String, GlobMatcher)>,
    rules: Vec<Rule>,
    size: Option<ByteSize>,
}

impl Holds {
    /// Compiles the globs; a rule that could not hold a push is an error.
    pub fn new(rules: &HoldRules) -> Result<Self, GateError> {
        let wrong = |key, reason: String| Err(GateError::Hold { key, reason });
        if rules.paths.iter().any(String::is_empty) {
            return wrong("paths", "an empty glob matches no path".to_owned());
        }
        for rule in &rules.rules {
            rule.exemptible().map_err(|error| GateError::Hold { key: "rules", reason: error.to_string() })?;
        }
        let compile = |text: &String| Ok((text.clone(), refs::glob(text, true)?));
        let paths = rules.paths.iter().map(compile).collect::<Result<_, GateError>>()?;
        Ok(Self { paths, rules: rules.rules.clone(), size: rules.size })
    }

    /// The glob that holds a push which touches this path. Case does not count, as with protected paths; what stands where such
    /// a path has a directory touches it too.
    pub fn path(&self, path: &str) -> Option<&str> {
        let below = format!("{}/", path.to_lowercase());
        let found = self.paths.iter();
        let mut found = found.filter(|(text, glob)| glob.is_match(path) || text.to_lowercase().starts_with(&below));
        found.next().map(|(text, _)| text.as_str())
    }

    /// Whether what a rule finds holds a push in place of refusing it.
    pub fn rule(&self, rule: &Rule) -> bool {
        self.rules.contains(rule)
    }

    /// The limit that so many bytes are above.
    pub fn size(&self, bytes: u64) -> Option<ByteSize> {
        self.size.filter(|most| bytes > most.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_rules_and_size_hold() {
        let rules = HoldRules {
            paths: vec!["deploy/**".to_owned(), "*.lock".to_owned()],
            rules: vec!["generic-api-key".into()],
            size: Some(ByteSize(10)),
        };
        let holds = Holds::new(&rules).expect("globs");
        for path in ["deploy/a", "Deploy/a/b", "deploy", "Cargo.lock"] {
            assert!(holds.path(path).is_some(), "{path}");
        }
        assert_eq!((holds.path("src/deploy/a"), holds.path("a/Cargo.lock")), (None, None));
        assert!(holds.rule(&"generic-api-key".into()) && !holds.rule(&"jwt".into()));
        assert!(holds.size(11).is_some() && holds.size(10).is_none());
        for rules in [
            HoldRules { rules: vec!["known-secret:TOKEN".into()], ..HoldRules::default() },
            HoldRules { rules: vec!["unreadable:too deep".into()], ..HoldRules::default() },
            HoldRules { rules: vec!["".into()], ..HoldRules::default() },
            HoldRules { paths: vec!["[".to_owned()], ..HoldRules::default() },
            HoldRules { paths: vec![String::new()], ..HoldRules::default() },
        ] {
            assert!(Holds::new(&rules).is_err(), "{rules:?}");
        }
    }
}
