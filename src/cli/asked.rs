//! What is asked for, and by whom: the options, the event, an issue of the forge; and the forge's word about the asker.

use std::path::PathBuf;

use bottle_plan::event::{self, Asked, Unclear};
use bottle_plan::facts::{Ci, HostFacts};
use bottle_plan::manifest::{Manifest, Triggers};
use bottle_plan::task::{Actor, Repository, Source, Task, Thread};

use super::failed;
use super::task::{JobForge, PlanResult};
use super::task_args::TaskArgs;
use crate::exit::{Code, Failure};
use crate::forge::Forge;
use crate::host::Environment;
use crate::permission::{Denial, EventActor, may_ask};

/// The event's payload as it came, for what is asked of the forge; null where there is none.
pub(super) fn payload(args: &TaskArgs, environment: &Environment) -> serde_json::Value {
    let path = args.event.clone().or_else(|| environment.get("GITHUB_EVENT_PATH").map(PathBuf::from));
    path.and_then(|path| std::fs::read(path).ok())
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// The user who set off the job.
fn sender(payload: &serde_json::Value) -> Option<EventActor> {
    let sender = &payload["sender"];
    Some(EventActor { login: sender["login"].as_str()?.to_owned(), id: sender["id"].as_u64()? })
}

/// An issue as a task, asked for by whoever set off the job, as it is now and with all that was said so far.
pub(super) async fn issue(
    number: u64,
    facts: &HostFacts,
    environment: &Environment,
    forge: &JobForge,
) -> Result<Asked, Failure> {
    let (ci, forge) = job_forge("--issue", facts, forge)?;
    let issue = forge.issue(number).await.map_err(failed)?;
    if issue.is_pull_request {
        return Err(Failure::input(format_args!("#{number} is a pull request, not an issue")));
    }
    let payload = payload(&TaskArgs::default(), environment);
    // A schedule's payload may name whoever wrote the schedule, who may have left: nobody asks but the base branch.
    let asker = sender(&payload).filter(|_| !is_scheduled(environment));
    Ok(Asked::Task(Box::new(Task {
        source: Source::Issue(Thread { number, title: issue.title, body: issue.body, author: None, url: issue.url }),
        asked_by: asker.map(|asker| Actor { login: asker.login, id: asker.id, association: None }),
        asked_at: Some(facts.started_at.clone()),
        repository: Some(repository(ci, forge).await?),
        ..Task::text("")
    })))
}

/// The job and its forge, for an option that is about an issue there.
pub(super) fn job_forge<'a>(
    option: &str,
    facts: &'a HostFacts,
    forge: &'a JobForge,
) -> Result<(&'a Ci, &'a dyn Forge), Failure> {
    let Some(ci) = &facts.ci else {
        return Err(Failure::input(format_args!("{option} is for a job of a forge, and this is none"))
            .hint("give --event FILE with the issue's payload, or --task TEXT"));
    };
    let no_forge = || Failure::input(format_args!("{option} needs the forge"));
    let forge = forge.as_ref().map_err(Clone::clone)?.as_ref().ok_or_else(no_forge)?;
    Ok((ci, forge.as_ref()))
}

/// The job's repository.
pub(super) async fn repository(ci: &Ci, forge: &dyn Forge) -> Result<Repository, Failure> {
    Ok(Repository {
        full_name: ci.repository.clone(),
        clone_url: format!("{}/{}.git", ci.server_url.trim_end_matches('/'), ci.repository),
        default_branch: match &ci.base {
            Some(base) => base.clone(),
            None => forge.default_branch().await.map_err(|error| Failure::machine(&error).hint(error.hint()))?,
        },
    })
}

/// Refuses a job that somebody set off who may not have a task done. A schedule is set off by nobody.
pub(super) async fn check_sender(
    triggers: &Triggers,
    environment: &Environment,
    forge: &dyn Forge,
) -> Result<(), Failure> {
    if is_scheduled(environment) {
        return Ok(());
    }
    let payload = payload(&TaskArgs::default(), environment);
    let asker =
        sender(&payload).ok_or_else(|| cannot_check("who asked can't be checked: the event names no sender"))?;
    may_ask(forge, &triggers.who, &asker, None).await.map_err(Denial::into_failure)
}

fn cannot_check(why: &str) -> Failure {
    Failure::new(Code::Refused, why)
        .hint("`triggers.who` in claude-bottle.yml says who may ask; the event must say who asked")
}

/// True in a job that the clock started.
fn is_scheduled(environment: &Environment) -> bool {
    environment.get("GITHUB_EVENT_NAME") == Some("schedule")
}

/// What comes of a comment that is nearly a command: an answer, if its writer may ask; nobody else is spoken to.
pub(super) async fn unclear(unclear: Unclear, manifest: &Manifest, forge: &JobForge) -> PlanResult {
    let why = unclear.to_string();
    let Ok(Some(forge)) = forge else { return PlanResult::Nothing(why) };
    let asker = EventActor { login: unclear.asked_by.login.clone(), id: unclear.asked_by.id };
    let pull = unclear.is_pull_request.then_some(unclear.number);
    match may_ask(forge.as_ref(), &manifest.triggers.who, &asker, pull).await {
        Ok(()) => PlanResult::Unclear(Box::new(unclear), forge.clone()),
        Err(denial) => PlanResult::Nothing(format!("{why}; {denial}")),
    }
}

/// Refuses an actor below the manifest's permission; in a job somebody always asked, but for a schedule.
pub(super) async fn check_who_asked(
    args: &TaskArgs,
    payload: &serde_json::Value,
    task: &Task,
    manifest: &Manifest,
    environment: &Environment,
    forge: &JobForge,
) -> Result<(), Failure> {
    // The base branch's manifest asks, and the run of it can push nothing.
    if matches!(task.source, Source::Proposed(_))
        && task.asked_by.is_none()
        && manifest.triggers.pull_requests.is_some()
    {
        return Ok(());
    }
    let asker = match &task.asked_by {
        Some(actor) => EventActor { login: actor.login.clone(), id: actor.id },
        // Nobody asks for a schedule but the base branch, where the workflow is.
        None if is_scheduled(environment) && args.event.is_none() => return Ok(()),
        None => sender(payload).ok_or_else(|| cannot_check("who asked can't be checked: the event names no sender"))?,
    };
    let forge = match forge {
        Ok(Some(forge)) => forge,
        Ok(None) => return Err(cannot_check("who asked can't be checked: this is no job of a forge")),
        Err(failure) if failure.by_stranger => return Err(failure.clone()),
        Err(failure) => {
            let hint = failure.hint.clone().unwrap_or_default();
            return Err(Failure::new(Code::Refused, format_args!("who asked can't be checked: {failure}")).hint(hint));
        }
    };
    let pull = pull_request_of(task, payload);
    may_ask(forge.as_ref(), &manifest.triggers.who, &asker, pull).await.map_err(Denial::into_failure)
}

/// The pull request that a task is about, however the event says it: the task knows Gitea's `is_pull` too, the payload also
/// what a text that was asked for in a job came with.
fn pull_request_of(task: &Task, payload: &serde_json::Value) -> Option<u64> {
    if let Some(thread) = task.thread().filter(|_| task.is_about_a_pull_request()) {
        return Some(thread.number);
    }
    let issue = &payload["issue"];
    let number = if issue["pull_request"].is_null() { &payload["pull_request"]["number"] } else { &issue["number"] };
    number.as_u64()
}

/// The task in the options' words, or of the event.
pub(super) async fn read_task(
    args: &TaskArgs,
    manifest: &Manifest,
    environment: &Environment,
    forge: &JobForge,
) -> Result<Asked, Failure> {
    if let Some(text) = &args.task {
        if text.trim().is_empty() {
            return Err(Failure::input("the task is empty").hint("give the task in words: --task \"…\""));
        }
        return Ok(Asked::Task(Box::new(Task::text(text))));
    }
    let path = args.event.clone().or_else(|| environment.get("GITHUB_EVENT_PATH").map(PathBuf::from));
    let Some(path) = path else {
        return Err(Failure::input("there is no task").hint("give --task TEXT, or --event FILE with a webhook payload"));
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::input(format_args!("failed to read the event {}: {error}", path.display()))
            .hint("give --event a file with the forge's webhook payload")
    })?;
    let kind = match &args.event {
        Some(_) => args.event_name.as_deref(),
        None => environment.get("GITHUB_EVENT_NAME"),
    };
    let parsed = |text: &str| {
        event::parse(text, kind, &manifest.triggers)
            .map_err(|error| Failure::input(format_args!("{}: {error}", path.display())).hint(error.hint()))
    };
    let asked = parsed(&text)?;
    match with_labels(&asked, &text, &manifest.triggers, forge).await? {
        Some(text) => parsed(&text),
        None => Ok(asked),
    }
}

/// The event with the labels that it tells of, by the forge's word, where it leaves them out itself and one of those that are
/// there would start a run.
async fn with_labels(
    asked: &Asked,
    text: &str,
    triggers: &Triggers,
    forge: &JobForge,
) -> Result<Option<String>, Failure> {
    let mut payload: serde_json::Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap_or_default();
    let (Asked::Nothing(_), Some(unsaid)) = (asked, event::label_unsaid(&payload, triggers)) else { return Ok(None) };
    let Some(forge) = forge.as_ref().map_err(Clone::clone)? else { return Ok(None) };
    let acts = forge.label_acts(unsaid.number, &unsaid.since).await.map_err(failed)?;
    event::say_labels(&mut payload, &acts);
    Ok(Some(payload.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_on_a_pull_request_where_only_is_pull_says_so() {
        let thread = Thread { number: 7, title: String::new(), body: String::new(), author: None, url: String::new() };
        let task = Task { source: Source::PullRequest(thread.clone()), ..Task::text("") };
        // As Gitea may send it: the issue's own field is null.
        let payload = serde_json::json!({"is_pull": true, "issue": {"number": 7, "pull_request": null}});
        assert_eq!(pull_request_of(&task, &payload), Some(7));
        let task = Task { source: Source::Issue(thread), ..Task::text("") };
        assert_eq!(pull_request_of(&task, &payload), None);
    }
}
