//! Which findings of the gate's scan are none, by the word of the base branch's manifest.

use bottle_types::rule::Rule;
use globset::GlobMatcher;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GateError, refs};

/// What a rule finds in some files is no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingExemption {
    /// The rule's id, as a refusal names it.
    #[schemars(with = "String")]
    pub rule: Rule,
    /// A glob of paths; it has to match every path at which a push puts the file.
    pub path: String,
    /// The SHA-256 of the bytes that were found, in hex, as a refusal shows it; without it, whatever the rule finds there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Why it is no secret.
    pub reason: String,
}

impl FindingExemption {
    /// What is wrong with it: the key, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        self.rule.exemptible().map_err(|error| ("rule", error.to_string()))?;
        if self.path.is_empty() {
            return Err(("path", "an empty glob matches no path".to_owned()));
        }
        refs::glob(&self.path, false).map_err(|error| ("path", error.to_string()))?;
        let is_hash =
            |hash: &String| hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if self.sha256.as_ref().is_some_and(|hash| !is_hash(hash)) {
            return Err(("sha256", "expected 64 digits, `0` to `9` and `a` to `f`".to_owned()));
        }
        if self.reason.trim().is_empty() {
            return Err(("reason", "say why it is no secret".to_owned()));
        }
        Ok(())
    }
}

/// The glob that matches a path alone; one with a backslash, which a glob can't have, and those that differ from it there.
pub fn glob_of(path: &str) -> String {
    let escape = |c: char| match c {
        '*' | '?' | '[' | ']' | '{' | '}' => format!("[{c}]"),
        '\\' => "?".to_owned(),
        _ => c.to_string(),
    };
    path.chars().map(escape).collect()
}

/// The judge of findings in files.
#[derive(Debug, Clone, Default)]
pub struct Exemptions(Vec<(FindingExemption, GlobMatcher)>);

impl Exemptions {
    /// Compiles the globs.
    pub fn new(list: &[FindingExemption]) -> Result<Self, GateError> {
        let compile = |one: &FindingExemption| match one.check() {
            Ok(()) => Ok((one.clone(), refs::glob(&one.path, false)?)),
            Err((key, reason)) => Err(GateError::Exemption { key, reason }),
        };
        Ok(Self(list.iter().map(compile).collect::<Result<_, _>>()?))
    }

    /// By which exemption what a rule found in a file is none, one for these very bytes first; `paths` are all at which the file
    /// is put, `sha256` is that of the bytes, where they are known.
    pub fn of(&self, rule: &Rule, paths: &[&str], sha256: Option<&str>) -> Option<&FindingExemption> {
        let holds = |(one, glob): &&(FindingExemption, GlobMatcher)| {
            one.rule == *rule
                && one.sha256.as_deref().is_none_or(|expected| sha256 == Some(expected))
                && paths.iter().all(|path| glob.is_match(path))
        };
        let found = self.0.iter().filter(|_| !paths.is_empty()).filter(holds).map(|(one, _)| one);
        found.max_by_key(|one| one.sha256.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemption(path: &str, sha256: Option<&str>) -> FindingExemption {
        let sha256 = sha256.map(str::to_owned);
        FindingExemption { rule: "jwt".into(), path: path.to_owned(), sha256, reason: "a sample".to_owned() }
    }

    #[test]
    fn a_finding_is_exempt_at_all_its_paths_or_not_at_all() {
        let hash = "0".repeat(64);
        let list = [exemption("tests/**", None), exemption("docs/*.md", Some(&hash))];
        let exemptions = Exemptions::new(&list).expect("globs");
        assert!(exemptions.of(&"jwt".into(), &["tests/a/b.txt"], None).is_some());
        assert!(exemptions.of(&"jwt".into(), &["docs/a.md"], Some(&hash)).is_some_and(|one| one.sha256.is_some()));
        for (rule, paths, sha256) in [
            ("jwt", &["tests/a", "src/a"][..], None),
            ("jwt", &[], None),
            ("other", &["tests/a"], None),
            ("jwt", &["docs/a.md"], None),
            ("jwt", &["docs/a.md"], Some(&*"1".repeat(64))),
            ("jwt", &["docs/deep/a.md"], Some(&*hash)),
            // Each exemption by itself.
            ("jwt", &["tests/a", "docs/a.md"], Some(&*hash)),
            ("known-secret:TOKEN", &["tests/a"], None),
        ] {
            assert_eq!(exemptions.of(&rule.into(), paths, sha256), None, "{rule} {paths:?}");
        }
    }

    #[test]
    fn what_is_no_exemption_is_refused() {
        for (key, wrong) in [
            ("rule", FindingExemption { rule: "".into(), ..exemption("a", None) }),
            ("rule", FindingExemption { rule: "known-secret:TOKEN".into(), ..exemption("a", None) }),
            ("path", exemption("", None)),
            ("path", exemption("[", None)),
            ("sha256", exemption("a", Some("abc"))),
            ("sha256", exemption("a", Some(&"A".repeat(64)))),
            ("reason", FindingExemption { reason: " ".to_owned(), ..exemption("a", None) }),
        ] {
            assert_eq!(wrong.check().map_err(|(key, _)| key), Err(key));
            assert!(Exemptions::new(&[wrong]).is_err());
        }
    }
}
