//! `artifacts:` of an agent: files of the workspace that are taken into the run record when the run's work is done.
//!
//! Always: only a file whose path a glob names is taken, and only if neither its bytes nor what is packed in them hold a secret.

use std::collections::BTreeSet;

use bottle_scan::dlp::{DataKind, Rules, TokenPattern};
use bottle_scan::known::KnownSecrets;
use bottle_types::units::ByteSize;
use globset::GlobMatcher;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gate::refs;
use crate::outputs::{OutputRefusal, file};

/// The most that a run's artifacts may have together.
const MOST_BYTES: u64 = 512 << 20;
/// The most files.
const MOST_FILES: u32 = 1000;

/// Which files are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactRules {
    /// Globs of the paths, from the top of the workspace.
    pub paths: Vec<String>,
    /// So many files at most.
    #[serde(default = "ArtifactRules::default_max")]
    pub max: u32,
    /// The size of all together.
    #[serde(default = "ArtifactRules::default_max_bytes")]
    pub max_bytes: ByteSize,
}

impl ArtifactRules {
    fn default_max() -> u32 {
        100
    }

    fn default_max_bytes() -> ByteSize {
        ByteSize(64 << 20)
    }

    /// The rules of test reports, which these globs name.
    pub fn of_reports(globs: &[String]) -> Self {
        Self { paths: globs.to_vec(), max: Self::default_max(), max_bytes: ByteSize(32 << 20) }
    }

    /// Tells what is wrong with the rules: the keys that lead to it, and the problem.
    pub fn check(&self) -> Result<(), (Vec<String>, String)> {
        let at = |key: &str| vec![key.to_owned()];
        if self.paths.is_empty() {
            return Err((at("paths"), "no path is named, so no file is taken".to_owned()));
        }
        for (index, glob) in self.paths.iter().enumerate() {
            let wrong = |problem: String| (vec!["paths".to_owned(), index.to_string()], problem);
            refs::glob(glob, false).map_err(|error| wrong(error.to_string()))?;
            if glob.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(wrong(format!("`{glob}` is not a path below the top of the workspace")));
            }
        }
        if !(1..=MOST_FILES).contains(&self.max) {
            return Err((at("max"), format!("expected between 1 and {MOST_FILES}")));
        }
        if !(1..=MOST_BYTES).contains(&self.max_bytes.0) {
            return Err((at("max_bytes"), format!("expected between 1 and {}", ByteSize(MOST_BYTES))));
        }
        Ok(())
    }
}

/// What a run takes, and what it looks for in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactPolicy {
    /// Which files.
    pub rules: ArtifactRules,
    /// Token formats of this project's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<TokenPattern>,
    /// Kinds of data that are no token and are looked for all the same.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub detect: BTreeSet<DataKind>,
}

/// The judge of one run's artifacts.
pub struct ArtifactJudge {
    globs: Vec<GlobMatcher>,
    tops: BTreeSet<String>,
    rules: Rules,
}

impl ArtifactJudge {
    /// Compiles the globs and the rules; the error says what is wrong with them.
    pub fn new(policy: &ArtifactPolicy) -> Result<Self, String> {
        let globs = policy.rules.paths.iter().map(|glob| refs::glob(glob, false));
        Ok(Self {
            globs: globs.collect::<Result<_, _>>().map_err(|error| error.to_string())?,
            tops: policy.rules.paths.iter().map(|glob| top(glob)).collect(),
            rules: Rules::with(&policy.patterns, &policy.detect, &[]).map_err(|error| error.to_string())?,
        })
    }

    /// The files and directories below which all that the globs name is: paths from the top of the workspace, `.` for all of it.
    pub fn tops(&self) -> impl Iterator<Item = &str> {
        self.tops.iter().map(String::as_str)
    }

    /// Whether a path is one that a glob names.
    pub fn names(&self, path: &str) -> bool {
        self.globs.iter().any(|glob| glob.is_match(path))
    }

    /// Whether a path leads to a file of the workspace, under a name that every file system has.
    pub fn is_plain(path: &str) -> bool {
        file::is_inside(path)
    }

    /// Tells whether a file may be in the record, by what is in it.
    pub fn judge(&self, known: &KnownSecrets, bytes: &[u8]) -> Result<(), OutputRefusal> {
        file::content(known, &self.rules, bytes)
    }
}

/// What a glob begins with that is a path as it is: whole names, up to the first with a wildcard.
fn top(glob: &str) -> String {
    let plain: Vec<&str> = glob.split('/').take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).collect();
    match plain.is_empty() {
        true => ".".to_owned(),
        false => plain.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(paths: &[&str]) -> ArtifactRules {
        let paths = paths.iter().map(|&path| path.to_owned()).collect();
        ArtifactRules { paths, max: 1, max_bytes: ByteSize(1) }
    }

    fn judge(paths: &[&str]) -> ArtifactJudge {
        let policy = ArtifactPolicy { rules: rules(paths), patterns: vec![], detect: BTreeSet::new() };
        ArtifactJudge::new(&policy).expect("globs")
    }

    #[test]
    fn a_glob_is_looked_for_below_its_plain_beginning() {
        for (glob, expected) in [
            ("pictures/**", "pictures"),
            ("a/b/*.png", "a/b"),
            ("a/b.png", "a/b.png"),
            ("**/*.png", "."),
            ("*.png", "."),
            ("a/{b,c}/d", "a"),
            ("a/[bc]/d", "a"),
        ] {
            assert_eq!(top(glob), expected, "{glob}");
        }
        let judge = judge(&["pictures/**", "pictures/*.png", "log.txt"]);
        assert_eq!(judge.tops().collect::<Vec<_>>(), ["log.txt", "pictures"]);
        for (path, named) in
            [("pictures/a/b.png", true), ("log.txt", true), ("Pictures/a.png", false), ("a/log.txt", false)]
        {
            assert_eq!(judge.names(path), named, "{path}");
        }
    }

    #[test]
    fn wrong_rules_are_refused() {
        for (paths, says) in [
            (vec![], "no path is named"),
            (vec!["a/[b"], "unclosed character class"),
            (vec!["../a"], "is not a path below the top of the workspace"),
            (vec!["/etc/passwd"], "is not a path below the top of the workspace"),
            (vec!["a//b"], "is not a path below the top of the workspace"),
            (vec!["a/./b"], "is not a path below the top of the workspace"),
        ] {
            let (_, problem) = rules(&paths).check().expect_err("wrong");
            assert!(problem.contains(says), "{paths:?}: {problem}");
        }
        for (max, max_bytes) in [(0, 1), (MOST_FILES + 1, 1), (1, 0), (1, MOST_BYTES + 1)] {
            let rules = ArtifactRules { max, max_bytes: ByteSize(max_bytes), ..rules(&["a"]) };
            assert!(rules.check().is_err(), "{max}, {max_bytes}");
        }
        assert!(rules(&["a"]).check().is_ok());
    }
}
