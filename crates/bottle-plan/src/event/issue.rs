//! `issues`: opened with the mention, given a label that starts a run, or given to a name that does.

use super::mention::{self, SaidCommand, WorkKind};
use super::parts::CheckedEvent;
use super::payload::starts_by_label;
use super::{Answer, EventError, nothing, who};
use crate::name::Name;
use crate::task::{Source, Task};

pub(super) fn ask(event: &CheckedEvent<'_>) -> Answer<Task> {
    let triggers = event.triggers;
    let action = event.action()?;
    let issue = event.need(&event.payload.issue, "issue")?;
    let changes = event.payload.changes.as_ref();
    if changes.is_some_and(|changes| changes.old_issue.is_some() || changes.old_repository.is_some()) {
        return nothing("the issue was transferred from another repository, which starts nothing");
    }
    let mut others = vec![];
    let (agent, instruction) = match action {
        "opened" => opened(event)?,
        _ if starts_by_label(action) => {
            let given = super::pull::label(event)?;
            others = given.others;
            (Some(given.agent), String::new())
        }
        "assigned" => {
            let given = event.payload.assignee.as_ref().map(std::slice::from_ref);
            let all = given.or(issue.assignees.as_deref()).unwrap_or_default();
            match all.iter().find_map(|user| triggers.assignees.get(&user.login)) {
                Some(agent) => (Some(agent.clone()), String::new()),
                None => return nothing("the issue was given to somebody else, which starts nothing"),
            }
        }
        other => return nothing(&format!("an issue was {other}, which starts nothing")),
    };
    let sender = event.sender()?;
    let association = issue.author_association.as_ref();
    let writer = issue.writer();
    let by_author = writer.original.is_none() && writer.user.is_some_and(|user| user.id == sender.id);
    let asker = event.asker(association.filter(|_| by_author))?;
    if action == "opened" {
        who::same(writer, sender, "issue", event.triggers)?;
    }
    // The event itself shows the issue as it was then.
    let asked_at = issue.updated_at.as_deref();
    let mut topic = event.issue(issue, false, asked_at)?;
    if action == "opened" && !topic.left_out.is_empty() {
        return nothing("the event does not say when the issue was written; that counts as changed afterwards");
    }
    topic.left_out.extend(others);
    let task = event.task(Source::Issue(topic.thread), topic.left_out, asker)?;
    Ok(Task { agent, instruction, asked_at: asked_at.map(str::to_owned), ..task })
}

/// Agent and words of a new issue.
fn opened(event: &CheckedEvent<'_>) -> Answer<(Option<Name>, String)> {
    let mention = &event.triggers.mention;
    let issue = event.need(&event.payload.issue, "issue")?;
    match mention::command(issue.body.as_deref().unwrap_or_default(), mention) {
        // What is new has nothing to go on with: it is the task.
        Some(SaidCommand::Work { agent, kind: WorkKind::Words | WorkKind::Continue, text }) => {
            let agent = agent.map(Name::parse).transpose().map_err(EventError::Agent)?;
            Ok((agent, text.to_owned()))
        }
        Some(SaidCommand::Work { kind: WorkKind::Review, .. }) => nothing("an issue has no change to review"),
        Some(SaidCommand::Work { kind: WorkKind::Rebase, .. }) => nothing("an issue has no branch to rebase"),
        Some(_) => nothing("a new issue has no run that a command could be about"),
        None if mention::is_word_of(&issue.title, mention) => Ok((None, String::new())),
        None => nothing(&format!("the issue does not mention {mention}")),
    }
}
