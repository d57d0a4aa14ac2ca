//! `signing.jsonl`: what became of each request of the guest's to have a commit signed.

use bottle_policy::gate::RepoName;
use bottle_types::git::ObjectId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One line of the file. No field holds text of the guest's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningLine {
    /// When it was decided: RFC 3339, UTC.
    pub time: String,
    /// So many bytes were to be signed, as the request says.
    pub bytes: u64,
    /// What has become of it.
    pub outcome: SigningOutcome,
}

/// What has become of a request to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SigningOutcome {
    /// The guest has the signature.
    Signed {
        /// The id of the commit with the signature.
        commit: ObjectId,
        /// Its tree.
        tree: ObjectId,
        /// Its parents.
        parents: Vec<ObjectId>,
        /// The repositories that have all of its parents, or to which parents of this run's belong.
        repos: Vec<RepoName>,
        /// The fingerprint of the key, as `ssh-keygen -l` prints it.
        key: String,
    },
    /// It was not signed.
    Refused {
        /// Why, as the guest was told.
        reason: String,
    },
}
