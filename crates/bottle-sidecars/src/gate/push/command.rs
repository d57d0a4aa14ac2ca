//! The one git command that pushes to upstream, and whether upstream takes several refs together.

use std::path::PathBuf;
use std::process::Command;

use super::super::changes::{RefUpdate, Repo};
use super::super::dirs::write_file;
use super::super::process::{self, ProcessLimits};
use super::super::{mirror, relay, transport};

const QUERY_LIMITS: ProcessLimits = ProcessLimits::seconds(60, 60);
/// git's words about an upstream that can't take several refs together.
pub(super) const NOT_ATOMIC: &str = "does not support --atomic";
/// The refusal that the agent reads then.
pub(super) const ONE_AT_A_TIME: &str = "upstream can't take several refs all or none: push one ref at a time";

/// A push of the judged ids themselves, by URL: by the remote's name, git would move refs inside the quarantine too.
pub(super) fn push(repo: &Repo<'_>, updates: &[RefUpdate], options: &[&str]) -> Command {
    let mut push = transport::git(repo.gate, repo.upstream);
    push.envs(repo.quarantine.iter().map(|(name, value)| (name, value)));
    push.args(["push", "--progress", "--no-verify", "--no-signed", "--no-follow-tags"]);
    push.arg("--recurse-submodules=no").args(options);
    if updates.len() > 1 {
        push.arg("--atomic");
    }
    for RefUpdate { old, name, .. } in updates {
        let expected = if old.is_null() { "" } else { old.as_str() };
        push.arg(format!("--force-with-lease={name}:{expected}"));
    }
    push.arg("--end-of-options").arg(repo.upstream.url.to_string());
    push.args(updates.iter().map(|RefUpdate { new, name, .. }| format!("{new}:{name}")));
    push
}

pub(super) fn unreachable(error: &process::ChildError) -> String {
    format!("upstream could not be reached: {error}")
}

/// Tells whether upstream takes these refs together. Upstream is asked before a push of several refs is looked into, until
/// it has once said yes.
pub(super) fn can_be_one_push(repo: &Repo<'_>, updates: &[RefUpdate]) -> Result<bool, String> {
    let marker = atomic_marker(repo);
    if updates.len() < 2 || repo.gate.policy.dry_run || marker.exists() {
        return Ok(true);
    }
    let ask = push(repo, updates, &["--dry-run"]);
    let output = relay::run(repo.gate, repo.upstream, ask, QUERY_LIMITS).map_err(|error| unreachable(&error))?;
    if String::from_utf8_lossy(&output.stderr).contains(NOT_ATOMIC) {
        return Ok(false);
    }
    // Whatever else there is to refuse is said when it is really pushed.
    if output.status.success() {
        write_file(&marker, b"", 0o600).map_err(|error| error.to_string())?;
    }
    Ok(true)
}

pub(super) fn atomic_marker(repo: &Repo<'_>) -> PathBuf {
    mirror::list(repo.gate, "atomic", repo.upstream)
}
