//! Whose commits a run makes, and whom they name: this run's committer, whoever asked, and the run.

use bottle_policy::gate::UpstreamUrl;
use bottle_policy::gate::commits::CommitRules;
use bottle_policy::gate::signing::GitIdentity;

use super::error::PlanError;
use super::types::{BottlePlan, Options};
use crate::facts::{ForgeKind, HostFacts};
use crate::manifest::{BottleEntry, CommitTrailer, RunIdentity};
use crate::task::{Actor, Task};

impl BottlePlan {
    /// The rules about commits of the repository that the guest works in; none: there are none.
    pub fn commit_rules(&self) -> Option<&CommitRules> {
        let git = self.git.as_ref()?;
        let upstream = self.policies.gate.upstreams.iter().find(|upstream| upstream.name == git.upstream)?;
        Some(&upstream.push.commits).filter(|rules| !rules.is_none())
    }

    /// Who commits in the guest.
    pub fn committer(&self) -> GitIdentity {
        let signing = self.policies.gate.signing.as_ref();
        signing.map_or_else(GitIdentity::of_the_bottle, |signing| signing.committer.clone())
    }
}

/// The run's identity, with what the bottle's rules about commits need of it.
pub(super) fn identity(
    task: &Task,
    bottle: &BottleEntry,
    facts: &HostFacts,
    options: &Options,
    run: &str,
    notes: &mut Vec<String>,
) -> Result<RunIdentity, PlanError> {
    // Where no key is needed the bottle's own settings hold, as in `signing`.
    let signing = bottle.signing.as_ref().filter(|_| !(options.dry_run && options.replay.is_some()));
    let committer = signing.map_or_else(GitIdentity::of_the_bottle, |signing| signing.committer());
    let wants_asker = bottle.git.iter().any(|entry| entry.push.commits.wants(CommitTrailer::CoAuthoredBy));
    let asker = match (&task.asked_by, wants_asker) {
        (Some(actor), true) => Some(asker(actor, task, facts)?),
        (None, true) => {
            notes
                .push("trailers: nobody at a forge asked for this run, so none of them is `Co-authored-by`".to_owned());
            None
        }
        (_, false) => None,
    };
    Ok(RunIdentity { committer, asker, run: run.to_owned() })
}

/// Whoever asked, with the address that a forge gives to each account for commits without mail. GitHub's has the account's number, so
/// that a login that changes hands is not another's; Gitea's is that of its default setting, `noreply.` and its domain.
fn asker(actor: &Actor, task: &Task, facts: &HostFacts) -> Result<GitIdentity, PlanError> {
    let address = match (&facts.ci, &task.repository) {
        (Some(ci), _) => format!("{}/x", ci.server_url.trim_end_matches('/')),
        (None, Some(repository)) => repository.clone_url.clone(),
        (None, None) => {
            return Err(PlanError::Facts("the event names no repository, so its forge is not known".to_owned()));
        }
    };
    let host = UpstreamUrl::parse(&address).map_err(|error| PlanError::Facts(error.to_string()))?.host.to_string();
    let is_github = facts.ci.as_ref().map_or(host == "github.com", |ci| ci.forge == ForgeKind::Github);
    let Actor { login, id, .. } = actor;
    let email = match is_github {
        true => format!("{id}+{login}@users.noreply.{host}"),
        false => format!("{}@noreply.{host}", login.to_lowercase()),
    };
    let asker = GitIdentity { name: login.clone(), email };
    let is_login = login.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.[]".contains(&byte));
    if !is_login || asker.check().is_err() {
        return Err(PlanError::Facts(format!("the login of account {id} can't stand in a `Co-authored-by` trailer")));
    }
    Ok(asker)
}
