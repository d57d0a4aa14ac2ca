//! A line of `gate.jsonl`: what became of one pushed ref.

use bottle_policy::gate::RepoName;
use bottle_types::git::ObjectId;
use bottle_types::rule::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One ref of one push. No field holds the text of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushedRef {
    /// When it was decided: RFC 3339, UTC.
    pub time: String,
    /// The repository at the gate.
    pub repo: RepoName,
    /// The ref name as it may be shown: a secret in it is masked, and one that is refused may break git's rules.
    pub r#ref: String,
    /// The id before, zeros for a new ref.
    #[schemars(with = "String")]
    pub old: ObjectId,
    /// The id after, zeros for a deletion.
    #[schemars(with = "String")]
    pub new: ObjectId,
    /// How many commits upstream did not have.
    pub commits: u64,
    /// How many objects upstream did not have, commits among them.
    pub objects: u64,
    /// Their size in bytes, unpacked.
    pub bytes: u64,
    /// What the scan found.
    #[serde(default)]
    pub findings: Vec<PushFinding>,
    /// What became of it.
    pub verdict: PushVerdict,
    /// Why it was refused, as the agent was told; a line a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// How long the push took.
    pub ms: Timings,
}

impl PushedRef {
    /// Tells whether it moved, or in a dry run would have moved, this branch.
    pub fn has_moved(&self, branch: &str) -> bool {
        self.is_of(branch) && self.verdict.has_passed()
    }

    /// Tells whether it is about this branch.
    pub fn is_of(&self, branch: &str) -> bool {
        self.r#ref.strip_prefix("refs/heads/") == Some(branch)
    }
}

/// What became of a pushed ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PushVerdict {
    /// Upstream has it.
    Accepted,
    /// Upstream does not have it.
    Refused,
    /// Upstream does not have it: it waits for a person.
    Held,
    /// It passed, and was kept as a bundle file, because this is a dry run.
    WouldPush,
}

impl PushVerdict {
    /// Whether nothing stood in the push's way.
    pub fn has_passed(self) -> bool {
        matches!(self, Self::Accepted | Self::WouldPush)
    }
}

/// A secret that the scan found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Finding")]
pub struct PushFinding {
    /// The rule that found it.
    #[schemars(with = "String")]
    pub rule: Rule,
    /// A new commit that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub commit: Option<ObjectId>,
    /// In which file, or in what else: `commit message`, `file name`, `tag`, `ref name`.
    pub path: String,
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The SHA-256 of the bytes in hex, where a person may say of exactly these that they are no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Milliseconds of the phases of a push, all its refs together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// Listing what is new, and judging refs and paths.
    pub judge: u64,
    /// Reading and scanning it.
    pub scan: u64,
    /// Pushing it to the upstream.
    pub forward: u64,
    /// From the hook's start to the verdict.
    pub total: u64,
}
