//! `extends`: the policy of another repository that a manifest stays within.

use bottle_policy::gate::{Transport, UpstreamUrl};
use bottle_types::git::ObjectId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FILE_NAMES;

/// A manifest of another repository that holds for this one, too: this one may be narrower and never wider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Extends {
    /// The https address of the policy's repository, as for a clone.
    pub repository: UpstreamUrl,
    /// The id of a commit of its default branch, 40 or 64 hex digits. A branch or a tag is none: it can be moved.
    pub commit: String,
    /// The policy's file in that commit.
    #[serde(default = "Extends::default_path", skip_serializing_if = "Extends::is_default_path")]
    pub path: String,
}

impl Extends {
    fn default_path() -> String {
        FILE_NAMES[0].to_owned()
    }

    fn is_default_path(path: &str) -> bool {
        path == FILE_NAMES[0]
    }

    /// The commit.
    pub fn commit(&self) -> Option<ObjectId> {
        ObjectId::parse(&self.commit).ok().filter(|commit| !commit.is_null())
    }

    /// The policy's file as messages call it.
    pub fn name(&self) -> String {
        let UpstreamUrl { path, .. } = &self.repository;
        let commit: String = self.commit.chars().take(12).collect();
        format!("{}/{}@{commit}:{}", self.repository.authority(), path.trim_end_matches(".git"), self.path)
    }

    /// Says what is wrong: the key, why, and what to try.
    pub(super) fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        if self.repository.transport != Transport::Https {
            let problem = "a policy is fetched over https, by which its server is known".to_owned();
            return Err(("repository", problem, "write it as https://git.example.org/team/policy"));
        }
        if self.commit().is_none() {
            let problem = format!(
                "`{}` is not the id of a commit: a branch or a tag could be moved to other rules than those that were agreed to",
                self.commit
            );
            return Err((
                "commit",
                problem,
                "write all 40 or 64 digits, `0` to `9` and `a` to `f`: `git rev-parse HEAD` shows them",
            ));
        }
        Ok(())
    }
}
