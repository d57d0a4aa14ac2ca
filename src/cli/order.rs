//! Commands to a run in a comment: to end the one that is going on, to do the last task again, to undo it, or to have it merged.

use std::sync::Arc;
use std::time::Duration;

use bottle_plan::event::{self, Asked, Order, RunCommand};
use bottle_plan::manifest::Triggers;
use bottle_plan::moment::Moment;
use bottle_plan::name::Name;
use bottle_plan::prose;
use bottle_plan::task::{Form, Undo, thread_name};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::auto_merge::{self, AutoMergeRequest};
use super::failed;
use crate::exit::{Code, Failure};
use crate::forge::{Comment, Forge};
use crate::permission::{Denial, EventActor, may_ask};
use crate::report::BranchPush;
use crate::thread;

/// How long a run that was told to stop is waited for: it looks every ten seconds, and then puts its things away.
const STOP_TIMEOUT: Duration = Duration::from_secs(150);
const STOP_POLL_INTERVAL: Duration = Duration::from_secs(3);

/// The result of an order.
pub(super) enum OrderResult {
    /// It is done; the text says how.
    Done(String),
    /// It is a task, or asks for nothing.
    Task(Asked),
    /// It may be done, by a run that is none.
    AutoMerge(Box<AutoMergeRequest>),
}

/// Carries out an order.
pub(super) async fn carry_out(
    command: &RunCommand,
    payload: &Value,
    (triggers, job_url): (&Triggers, &str),
    forge: &Arc<dyn Forge>,
) -> Result<OrderResult, Failure> {
    let what = match &command.order {
        Order::Stop => "stop",
        Order::Retry => "retry",
        Order::Undo => "undo",
        Order::AutoMerge { .. } => "auto-merge",
        Order::Approve(_) | Order::Deny { .. } | Order::Answer { .. } => {
            let hint = "a run that is going on hears it where the manifest says `supervise: { approval: comment }`";
            return Ok(OrderResult::Task(Asked::Nothing(format!(
                "proposals are decided by the run that made them; {hint}"
            ))));
        }
    };
    if command.form != Form::Comment {
        return Err(Failure::input(format_args!("`{} {what}` in a review is heard by no run", triggers.mention))
            .hint(format_args!("write it as a comment of its own on {}", name(command))));
    }
    if let Order::AutoMerge { on } = command.order {
        let request = auto_merge::judge(command, (on, job_url), triggers, forge).await?;
        return Ok(OrderResult::AutoMerge(Box::new(request)));
    }
    let asker = EventActor { login: command.asked_by.login.clone(), id: command.asked_by.id };
    let pull = command.is_pull_request.then_some(command.thread.number);
    may_ask(forge.as_ref(), &triggers.who, &asker, pull).await.map_err(Denial::into_failure)?;
    match command.order {
        Order::Stop => stop(command, forge.as_ref()).await.map(OrderResult::Done),
        Order::Undo => undo(command, forge.as_ref()).await.map(OrderResult::Task),
        _ => again(command, payload, triggers, forge.as_ref()).await.map(OrderResult::Task),
    }
}

/// The run that is going on hears the comment itself; this says what came of it.
async fn stop(command: &RunCommand, forge: &dyn Forge) -> Result<String, Failure> {
    let number = command.thread.number;
    let Some(first) = thread::holder(forge, number).await.map_err(failed)? else {
        let silent = "a dry run, which says nothing there, hears the comment all the same";
        return Ok(format!("no run is going on for {}, as far as our comment there says; {silent}", name(command)));
    };
    let (run, url) = (&first.lease.run, &first.lease.url);
    let started = Instant::now();
    while started.elapsed() < STOP_TIMEOUT {
        sleep(STOP_POLL_INTERVAL).await;
        match thread::holder(forge, number).await {
            Ok(now) if now.as_ref().is_none_or(|now| now.lease != first.lease) => {
                return Ok(format!("run {run} was told to stop, and has ended: {url}"));
            }
            // It is the run that listens; this only tells.
            _ => {}
        }
    }
    Err(Failure::machine(format_args!(
        "run {run} was told to stop, and has not said within {} s that it ended",
        STOP_TIMEOUT.as_secs()
    ))
    .hint(format_args!("cancel its job: {url}")))
}

/// The task that puts the branch back to where it was before the last run of the thread that pushed, if it stands where that left it.
async fn undo(command: &RunCommand, forge: &dyn Forge) -> Result<Asked, Failure> {
    let name = name(command);
    let Some(push) = thread::last_push(forge, command.thread.number).await.map_err(failed)? else {
        let why = "no run has pushed for it, or the last one that did was undone";
        return Err(Failure::input(format_args!("there is nothing to undo in {name}: {why}"))
            .hint("a run that was asked for elsewhere is undone there"));
    };
    let BranchPush { run, agent, branch, from, to } = push;
    if from.is_null() {
        return Err(Failure::input(format_args!("run {run} made the branch {branch}: there is nothing to go back to"))
            .hint("close its pull request and delete the branch"));
    }
    let now = match forge.commit_of(&branch).await {
        Ok(now) => now,
        Err(error) if error.status() == Some(404) => {
            return Err(Failure::input(format_args!("the branch {branch} that run {run} pushed to is gone"))
                .hint("restore it and ask again"));
        }
        Err(error) => return Err(failed(error)),
    };
    if now != to {
        let (now, left) = (now.short(), to.short());
        return Err(Failure::input(format_args!("{branch} is at {now}, not at {left} where run {run} left it"))
            .hint(format_args!("look at what came after it; before that run it was at {}", from.short())));
    }
    let agent = Name::parse(&agent).map_err(Failure::input)?;
    let undo = Undo { run, branch, from: to, to: from };
    Ok(Asked::Task(Box::new(command.undo(agent, undo))))
}

/// The last command of the thread by somebody who may ask, as if it were given now.
async fn again(
    command: &RunCommand,
    payload: &Value,
    triggers: &Triggers,
    forge: &dyn Forge,
) -> Result<Asked, Failure> {
    let number = command.thread.number;
    let comments = forge.comments(number).await.map_err(failed)?;
    let earlier = comments.iter().rev().filter(|comment| comment.id < command.comment_id);
    let commands: Vec<&Comment> =
        earlier.filter(|comment| event::asks_for_work(&comment.body, &triggers.mention)).collect();
    for &comment in &commands {
        if !may(command, comment, triggers, forge).await? {
            continue;
        }
        let moment = |text: &Option<String>| text.as_deref().and_then(Moment::parse);
        let (written, changed) = (moment(&comment.written), moment(&comment.changed));
        if written.is_none() || changed.is_none() || changed > written {
            let who = prose::name(&comment.author.login, 60);
            return Err(Failure::new(
                Code::Refused,
                format_args!(
                    "the last command, by {who}, was changed after it was written, or may have been: {}",
                    comment.url
                ),
            )
            .hint("write it once more, as a new comment"));
        }
        return read_again(command, comment, payload, triggers);
    }
    let was_run = commands.is_empty() && thread::last_run(forge, number).await.map_err(failed)?.is_some();
    if was_run && !command.is_pull_request {
        return issue_again(payload, number, triggers, forge).await;
    }
    let nothing = "no earlier comment of somebody who may ask has a command";
    Err(Failure::input(format_args!("there is nothing to do again in {}: {nothing}", name(command)))
        .hint(format_args!("write the command itself, such as `{} fix this`", triggers.mention)))
}

/// The issue itself, which a label or a schedule has had done, as the comment's writer asks for it now; by the agent that pushed there.
async fn issue_again(payload: &Value, number: u64, triggers: &Triggers, forge: &dyn Forge) -> Result<Asked, Failure> {
    let push = thread::last_push(forge, number).await.map_err(failed)?;
    let agent = push.map(|push| format!(" agent={}", push.agent)).unwrap_or_default();
    let mut event = payload.clone();
    event["comment"]["body"] = json!(format!("{}{agent}", triggers.mention));
    event::parse(&event.to_string(), Some("issue_comment"), triggers)
        .map_err(|error| Failure::input(&error).hint(error.hint()))
}

/// The conversation in a message.
fn name(command: &RunCommand) -> String {
    thread_name(command.is_pull_request, command.thread.number)
}

/// True if the comment's writer may have things done.
async fn may(command: &RunCommand, comment: &Comment, triggers: &Triggers, forge: &dyn Forge) -> Result<bool, Failure> {
    let Ok(id) = u64::try_from(comment.author.id) else { return Ok(false) };
    if comment.author.is_bot && !triggers.who.bots.contains(&id) {
        return Ok(false);
    }
    let asker = EventActor { login: comment.author.login.clone(), id };
    let pull = command.is_pull_request.then_some(command.thread.number);
    match may_ask(forge, &triggers.who, &asker, pull).await {
        Ok(()) => Ok(true),
        // One who may not is passed over; one who can't be checked is not.
        Err(denial @ Denial::CannotCheck(_)) => Err(denial.into_failure()),
        Err(
            Denial::BotOnFork { .. }
            | Denial::UnknownUser { .. }
            | Denial::OtherUser { .. }
            | Denial::BelowPermission { .. },
        ) => Ok(false),
    }
}

/// The event of the comment that asks for it again, with the earlier one's words and writer in place of its own.
fn read_again(command: &RunCommand, comment: &Comment, payload: &Value, triggers: &Triggers) -> Result<Asked, Failure> {
    let mut event = payload.clone();
    let kind = if comment.author.is_bot { "Bot" } else { "User" };
    let user = json!({"login": comment.author.login, "id": comment.author.id, "type": kind});
    event["comment"] = json!({
        "id": comment.id, "body": comment.body, "html_url": comment.url, "user": user,
        "created_at": command.asked_at, "updated_at": command.asked_at,
    });
    event["sender"] = user;
    event::parse(&event.to_string(), Some("issue_comment"), triggers)
        .map_err(|error| Failure::input(&error).hint(error.hint()))
}
