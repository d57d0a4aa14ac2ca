//! The rule that what a run pushes is signed.

use std::collections::BTreeSet;

use bottle_policy::gate::signing::{CommitToSign, SigningPolicy, without_signature};
use bottle_types::git::ObjectId;

use super::super::changes::{Changes, NOT_UPSTREAMS, Object, ObjectKind, Repo, kinds, read_all};
use super::super::dirs::GateDirs;
use super::super::rules::{MAX_REASONS, Refusal};
use super::key;

/// Refuses new commits of the run without a signature of its key, where the policy asks for one.
pub(in super::super) fn judge(repo: &Repo<'_>, changes: &Changes) -> Result<Vec<Refusal>, String> {
    let Some(policy) = repo.gate.policy.signing.as_ref().filter(|policy| policy.required) else { return Ok(vec![]) };
    let of_others = of_others(repo, policy)?;
    let is_own = |object: &&Object| object.kind == ObjectKind::Commit && !of_others.contains(&object.id);
    let commits: Vec<Object> = changes.objects.iter().filter(is_own).cloned().collect();
    let mut refusals = vec![];
    read_all(repo, &commits, |at, bytes| {
        if refusals.len() < MAX_REASONS
            && let Some(why) = unsigned(repo.gate, policy, bytes)?
        {
            let advice = "commit with the bottle's own git settings, or sign it anew: `git rebase --force-rebase` onto what upstream has";
            refusals.push(Refusal::all(format!("commit {} {why}; {advice}", commits[at].id.short())));
        }
        Ok(())
    })?;
    Ok(refusals)
}

/// The new commits that were there before the run: those of a fork's pull request, or of a checkout that was brought.
fn of_others(repo: &Repo<'_>, policy: &SigningPolicy) -> Result<BTreeSet<ObjectId>, String> {
    let mut bases = vec![];
    for base in &policy.bases {
        // One that is not pushed is not here.
        if let Ok(found) = kinds(repo, std::slice::from_ref(base)) {
            bases.extend(found.into_iter().filter(|object| object.kind == ObjectKind::Commit));
        }
    }
    if bases.is_empty() {
        return Ok(BTreeSet::new());
    }
    let bases: Vec<&str> = bases.iter().map(|base| base.id.as_str()).collect();
    let listed = repo.ok(&[&["rev-list"], &bases[..], &NOT_UPSTREAMS].concat(), None)?;
    let ids = String::from_utf8_lossy(&listed).lines().map(ObjectId::parse).collect::<Result<_, _>>();
    ids.map_err(|error| format!("git rev-list: {error}"))
}

/// Why a commit does not count as signed, if it does not.
fn unsigned(gate: &GateDirs, policy: &SigningPolicy, bytes: &[u8]) -> Result<Option<String>, String> {
    let Some((payload, signature)) = without_signature(bytes) else { return Ok(Some("is not signed".to_owned())) };
    // git signs and shows the same bytes only where nothing else stands in the head.
    if let Err(refusal) = CommitToSign::read(&payload, policy) {
        return Ok(Some(format!("is not one that the gate signs: {refusal}")));
    }
    let is_signed = key::is_signed(gate, &payload, &signature)?;
    Ok((!is_signed).then(|| "is not signed by this run's key".to_owned()))
}
