//! The policy in force: read, checked and prepared as a whole, or not at all.
//!
//! Each accepted policy has a directory of its own, with its text as the hooks read it and what ssh needs to follow it. A
//! connection keeps the policy under which it was opened; the directory goes when the last of them has ended.

use std::collections::BTreeSet;
use std::path::Path;

use bottle_policy::gate::GatePolicy;
use bottle_policy::gate::commits::CommitJudge;
use bottle_policy::gate::exemptions::Exemptions;
use bottle_policy::gate::hold::Holds;
use bottle_policy::gate::paths::ProtectedPaths;
use bottle_policy::gate::refs::RefRules;

use bottle_types::secret::SecretName;

use super::dirs::GateDirs;
use super::{mirror, self_test, signing, transport};
use crate::common::{self, Dirs, Error};

/// A policy that has been accepted.
#[derive(Debug)]
pub(super) struct AcceptedPolicy {
    pub(super) gate: GateDirs,
}

impl AcceptedPolicy {
    /// Takes the policy from its file's text; `number` tells it from those before it, the last of which is `before`. An error
    /// leaves nothing behind.
    pub(super) fn take(
        dirs: &Dirs,
        config: &Path,
        text: &str,
        number: u32,
        before: Option<&Self>,
    ) -> Result<Self, Error> {
        let policy = read(dirs, config, text)?;
        if before.is_some_and(|before| common::loses_canary(&before.gate.policy.secrets, &policy.secrets)) {
            return Err(Error::Policy { path: config.to_owned(), reason: common::CANARY_IS_LOST.to_owned() });
        }
        let taken = Self { gate: GateDirs::new(dirs, policy, number) };
        mirror::prepare(&taken.gate, config, before.map(|before| &before.gate.policy))?;
        signing::prepare(&taken.gate)?;
        Ok(taken)
    }
}

impl Drop for AcceptedPolicy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.gate.policy_dir);
    }
}

/// Checks the policy.
fn read(dirs: &Dirs, config: &Path, text: &str) -> Result<GatePolicy, Error> {
    let refuse = |reason: String| Error::Policy { path: config.to_owned(), reason };
    let mut policy: GatePolicy = common::parse_policy(config, text)?;
    if policy.version != 1 {
        return Err(refuse(format!("version {} is not known here", policy.version)));
    }
    if policy.secrets.contains(&SecretName::canary()) {
        policy.upstreams.push(self_test::upstream().map_err(refuse)?);
    }
    let mut names = BTreeSet::new();
    for upstream in &policy.upstreams {
        if !names.insert(upstream.name.as_str().to_lowercase()) {
            return Err(refuse(format!("two upstreams are called {}", upstream.name)));
        }
        RefRules::new(&upstream.push).map_err(|error| refuse(error.to_string()))?;
        ProtectedPaths::new(&upstream.push).map_err(|error| refuse(error.to_string()))?;
        CommitJudge::new(&upstream.push.commits).map_err(|error| refuse(error.to_string()))?;
        Holds::new(&upstream.push.hold).map_err(|error| refuse(error.to_string()))?;
    }
    Exemptions::new(&policy.exemptions).map_err(|error| refuse(error.to_string()))?;
    transport::check(&policy).map_err(refuse)?;
    if let Some(Err((key, problem))) = policy.signing.as_ref().map(|signing| signing.committer.check()) {
        return Err(refuse(format!("signing.committer.{key}: {problem}")));
    }
    dirs.known_secrets(&policy.known_secrets())?;
    Ok(policy)
}
