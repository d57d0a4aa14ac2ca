//! The rule that what a run pushes is signed.

use bottle_policy::gate::signing::{CommitToSign, SigningPolicy, without_signature};

use super::super::changes::{Changes, Object, ObjectKind, Repo, of_others, read_all};
use super::super::dirs::GateDirs;
use super::super::rules::{MAX_REASONS, Refusal};
use super::super::self_test;
use super::key;

/// Refuses new commits of the run without a signature of its key, where the policy asks for one.
pub(in super::super) fn judge(repo: &Repo<'_>, changes: &Changes) -> Result<Vec<Refusal>, String> {
    let Some(policy) =
        repo.gate.policy.signing.as_ref().filter(|policy| policy.required && !self_test::is(repo.upstream))
    else {
        return Ok(vec![]);
    };
    let of_others = of_others(repo)?;
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
