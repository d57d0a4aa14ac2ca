//! What is neither issue nor pull request: workflows started by hand, by a program or by the clock, and failed runs.

use bottle_policy::gate::refs::is_branch_name;
use serde_json::{Map, Value};

use super::parts::{CheckedEvent, of_a_fork};
use super::payload::{EventKind, RunPayload};
use super::who::Asker;
use super::{Answer, EventError, nothing};
use crate::name::Name;
use crate::task::{FailedRun, Source, Task};

/// Below this, branches are ours.
const OUR_BRANCHES: &str = "bottle/";

/// Below this, branches are a merge queue's of GitHub.
const MERGE_QUEUE: &str = "gh-readonly-queue/";

/// `workflow_dispatch` and `repository_dispatch`: `task` and `agent` are what the starter gives.
pub(super) fn dispatch(event: &CheckedEvent<'_>, kind: EventKind) -> Answer<Task> {
    let payload = &event.payload;
    let (given, name) = match kind {
        EventKind::WorkflowDispatch => (&payload.inputs, "workflow_dispatch"),
        _ => (&payload.client_payload, event.action()?),
    };
    let text = |key: &str| given.as_ref().map_or(Ok(None), |given| text_of(event, given, key));
    let (task, agent) = (text("task")?, text("agent")?);
    // Programs send these for many reasons; a person who presses the button means this workflow.
    if kind == EventKind::RepositoryDispatch && task.is_none() {
        return nothing("the dispatch has no `task` in its client_payload");
    }
    let agent = agent.map(Name::parse).transpose().map_err(EventError::Agent)?;
    let asker = event.asker(None)?;
    let task_of = event.task(Source::Dispatch { event: name.to_owned() }, vec![], asker)?;
    Ok(Task { agent, instruction: task.unwrap_or_default().trim().to_owned(), ..task_of })
}

fn text_of<'a>(event: &CheckedEvent<'_>, given: &'a Map<String, Value>, key: &str) -> Answer<Option<&'a str>> {
    match given.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(event.malformed(&format!("`{key}` is not a text")).into()),
    }
}

/// `schedule`: nobody asks; the workflow on the default branch does.
pub(super) fn schedule(event: &CheckedEvent<'_>) -> Answer<Task> {
    let repository = event.payload.repository.as_ref().map(|_| event.repository()).transpose()?;
    let cron = event.payload.schedule.clone().unwrap_or_default();
    Ok(Task { source: Source::Schedule { cron }, repository, ..Task::text("") })
}

/// `workflow_run`: one that failed is the task.
pub(super) fn failed_run(event: &CheckedEvent<'_>) -> Answer<Task> {
    let action = event.action()?;
    if action != "completed" {
        return nothing(&format!("a workflow run was {action}, which starts nothing"));
    }
    let run = event.need(&event.payload.workflow_run, "workflow_run")?;
    let conclusion = run.conclusion.as_deref().unwrap_or("no conclusion");
    if !matches!(conclusion, "failure" | "timed_out") {
        return nothing(&format!("the workflow run ended with {conclusion}, which starts nothing"));
    }
    let (Some(branch), Some(sha)) = (&run.head_branch, &run.head_sha) else {
        return nothing("the failed run is of no branch");
    };
    if branch.starts_with(OUR_BRANCHES) {
        return nothing("the failed run is of a bottle's own branch, and one bottle's failure starts no other");
    }
    let own = event.need(&event.payload.repository, "repository")?;
    let is_own = run
        .head_repository
        .as_ref()
        .is_some_and(|head| head.id == own.id && head.full_name.eq_ignore_ascii_case(&own.full_name));
    if !is_own {
        return of_a_fork("the failed run");
    }
    if branch.starts_with(MERGE_QUEUE) {
        return nothing("the failed run is of a merge queue, whose branch goes with its run");
    }
    if !is_branch_name(branch) {
        return nothing(&format!("the failed run's branch `{branch}` has a name that a run can't work with"));
    }
    // Whoever started it, be it by a push, asks; and so does who sent the event.
    event.asker(None)?;
    let starter = [&run.triggering_actor, &run.trigger_actor, &run.actor].into_iter().flatten().next();
    let Some(starter) = starter else {
        return nothing("the event does not say who started the failed run");
    };
    let asker = Asker::of(starter, None, event.triggers)?;
    let source = Source::FailedRun(FailedRun {
        id: run.id,
        attempt: run.run_attempt.unwrap_or(1),
        name: run.name.clone().unwrap_or_default(),
        url: run.html_url.clone().unwrap_or_default(),
        branch: branch.clone(),
        commit: event.commit(sha)?,
        pull_requests: run.pull_requests.iter().flatten().map(|pull| pull.number).collect(),
    });
    let task = event.task(source, vec![], asker)?;
    Ok(Task { asked_at: ended(run), ..task })
}

fn ended(run: &RunPayload) -> Option<String> {
    run.updated_at.clone().or_else(|| run.completed_at.clone())
}
