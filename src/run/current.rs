//! The look at the pull request when the run has its lease: an earlier run may have pushed to it while this one waited.

use super::RunInputs;
use crate::exit::Failure;
use crate::report::Events;

/// Makes the inputs those of the pull request as it is now. What would stop the push is a failure here, before anything is started.
pub(super) async fn bring_up_to_date(inputs: &mut RunInputs, events: &Events) -> Result<(), Failure> {
    let (Some(forge), Some(pull)) = (&inputs.forge, &inputs.plan.task.pull_request) else { return Ok(()) };
    let now = forge.pull_request(pull.number).await.map_err(|error| {
        Failure::machine(format_args!("whether pull request #{} has moved can't be told: {error}", pull.number))
            .hint(error.hint())
    })?;
    if now.commit.as_ref() == Some(&pull.head) && now.is_open {
        return Ok(());
    }
    let plan = inputs.planning.plan(Some(forge.as_ref())).await?;
    for note in plan.notes.iter().filter(|note| !inputs.plan.notes.contains(note)) {
        events.note(note.clone());
    }
    inputs.guest_inputs = inputs.planning.guest_inputs(&plan).await?;
    inputs.plan = plan;
    Ok(())
}
