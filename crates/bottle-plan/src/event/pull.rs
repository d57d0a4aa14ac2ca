//! `pull_request`: given a label that starts a run.

use super::parts::Event;
use super::{Answer, nothing};
use crate::name::Name;
use crate::task::{Source, Task};

pub(super) fn ask(event: &Event<'_>) -> Answer<Task> {
    let action = event.action()?;
    if !matches!(action, "labeled" | "label_updated") {
        return nothing(&format!("a pull request was {action}, which starts nothing"));
    }
    let agent = label(event)?;
    let pull = event.need(&event.payload.pull_request, "pull_request")?;
    let asker = event.asker(None)?;
    let asked_at = pull.updated_at.as_deref();
    let topic = event.pull(pull, asked_at)?;
    let task = event.task(Source::PullRequest(topic.thread), topic.left_out, asker)?;
    if task.pull_request.is_none() {
        return Err(event.malformed("missing field `head`").into());
    }
    Ok(Task { agent: Some(agent), asked_at: asked_at.map(str::to_owned), ..task })
}

/// The agent of the label that was given now. An event that does not say which it was starts nothing: those that were there
/// before don't count.
pub(super) fn label(event: &Event<'_>) -> Answer<Name> {
    let payload = &event.payload;
    let added = payload.changes.as_ref().and_then(|changes| changes.added_labels.as_deref());
    let given = payload.label.as_ref().map(std::slice::from_ref).or(added).unwrap_or_default();
    match given.iter().find_map(|label| event.triggers.agent_of(&label.name)) {
        Some(agent) => Ok(agent.clone()),
        None => match given.first() {
            Some(label) => nothing(&format!("the label `{}` starts nothing", label.name)),
            None => nothing("the event names no label that was given"),
        },
    }
}
