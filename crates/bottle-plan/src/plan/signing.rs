//! How the commits of a run are signed: the gate's part, from the manifest's words.

use bottle_policy::gate::signing::SigningPolicy;
use bottle_types::git::ObjectId;

use super::types::{Bring, GitPlan, Options};
use super::upstreams::Upstreams;
use crate::facts::HostFacts;
use crate::manifest::BottleEntry;
use crate::task::{Task, Work};

/// Decides whether this run's commits are signed, and how. Where nothing is pushed no key is taken along.
pub(super) fn signing(
    task: &Task,
    bottle: &BottleEntry,
    upstreams: &Upstreams,
    options: &Options,
    notes: &mut Vec<String>,
) -> Option<SigningPolicy> {
    let entry = bottle.signing.as_ref()?;
    if task.work != Work::Change || upstreams.is_empty() || upstreams.pushes_nothing() {
        notes.push("signing: nothing is pushed in this run, so nothing is signed".to_owned());
        return None;
    }
    if options.dry_run && options.replay.is_some() {
        notes.push("signing: a replay that is a dry run needs no key, so nothing is signed".to_owned());
        return None;
    }
    Some(SigningPolicy {
        key: entry.ssh.from.clone(),
        committer: entry.committer(),
        any_author: entry.any_author,
        required: entry.required,
    })
}

/// Where the work starts, which upstream's branches need not have: what is reachable from there is not this run's.
pub(super) fn bases(git: Option<&GitPlan>, facts: &HostFacts) -> Vec<ObjectId> {
    let brought = git.is_some_and(|git| matches!(git.bring, Bring::Checkout(_)));
    let head = facts.checkout.as_ref().filter(|_| brought).and_then(|checkout| checkout.head.clone());
    git.and_then(|git| git.start.clone()).into_iter().chain(head).collect()
}
