//! A person's yes to a merge is to the commits that were there: a run that may push to the branch ends it first.
//!
//! The run has its lease, and looks before its agent may push and again before it pushes itself. Whoever turns auto-merge on by a comment looks
//! for the lease after it: of the two, one sees the other.

use bottle_plan::task::Work;
use bottle_policy::gate::refs::RefRules;

use super::RunInputs;
use crate::forge::ForgeError;
use crate::report::Events;

/// Turns auto-merge off for the open pull requests from the branch that the run may push to. The error says why nothing may be pushed.
pub(super) async fn turn_off(inputs: &RunInputs, events: &Events) -> Result<(), String> {
    let (Some(forge), Some(branch)) = (&inputs.forge, branch(inputs)) else { return Ok(()) };
    let failed = |error: ForgeError| {
        format!(
            "whether the forge would merge by itself what is pushed to {branch} can't be made sure: {error}; {}",
            error.hint()
        )
    };
    for pull in forge.open_from(branch).await.map_err(failed)? {
        if !forge.is_auto_merge_on(&pull).await.map_err(failed)? {
            continue;
        }
        forge.turn_auto_merge_off(&pull).await.map_err(failed)?;
        events.warn(format!(
            "auto-merge of pull request #{} was on, and this run has turned it off: it may push to {branch}. `{} auto-merge` there turns it on again",
            pull.number, inputs.plan.mention
        ));
    }
    Ok(())
}

/// The branch that a push of this run can move; none where nothing of it gets to the forge.
fn branch(inputs: &RunInputs) -> Option<&str> {
    let plan = &inputs.plan;
    let git = plan.git.as_ref().filter(|_| plan.task.work == Work::Change && !plan.dry_run)?;
    let name = format!("refs/heads/{}", git.branch);
    let mut rules = plan.policies.gate.upstreams.iter().filter_map(|upstream| RefRules::new(&upstream.push).ok());
    rules.any(|rules| rules.judge(&name).is_ok()).then_some(git.branch.as_str())
}
