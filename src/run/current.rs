//! The look at the pull request when the run has its lease: an earlier run may have pushed to it while this one waited.

use bottle_plan::task::Undo;

use super::RunInputs;
use crate::exit::Failure;
use crate::report::{BranchPush, Events};
use crate::thread::LeaseGuard;

/// Makes the inputs those of the pull request as it is now. What would stop the push is a failure here, before anything is started.
pub(super) async fn bring_up_to_date(
    inputs: &mut RunInputs,
    guard: Option<&LeaseGuard>,
    events: &Events,
) -> Result<(), Failure> {
    if let (Some(undo), Some(guard)) = (inputs.plan.task.course.undo(), guard) {
        is_still_the_last(undo, guard.last_push.as_ref())?;
    }
    let (Some(forge), Some(pull)) = (&inputs.forge, &inputs.plan.task.pull_request) else { return Ok(()) };
    let now = forge.pull_request(pull.number).await.map_err(|error| {
        Failure::machine(format_args!("whether pull request #{} has moved can't be told: {error}", pull.number))
            .hint(error.hint())
    })?;
    if now.commit.as_ref() == Some(&pull.head) && now.is_open {
        return Ok(());
    }
    let (plan, attached) = inputs.planning.plan(Some(forge.as_ref())).await?;
    for note in plan.notes.iter().filter(|note| !inputs.plan.notes.contains(note)) {
        events.note(note.clone());
    }
    inputs.guest_inputs = inputs.planning.guest_inputs(&plan, attached, &inputs.secrets).await?;
    inputs.plan = plan;
    Ok(())
}

/// Fails where another run has pushed since the undo was asked for, or has undone the same.
fn is_still_the_last(undo: &Undo, last: Option<&BranchPush>) -> Result<(), Failure> {
    let same = |push: &&BranchPush| (&push.branch, &push.from, &push.to) == (&undo.branch, &undo.to, &undo.from);
    match last.filter(same) {
        Some(_) => Ok(()),
        None => Err(Failure::input(format_args!("run {} is not the last one any more that has pushed", undo.run))
            .hint("look at what came after it, and ask again")),
    }
}
