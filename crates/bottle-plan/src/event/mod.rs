//! A forge's webhook payload becomes a task, or a reason why there is nothing to do.
//!
//! Always: text that people wrote is carried as data and nothing is run or looked up; who may ask is decided by the
//! runner, which can ask the forge, except that bots are turned away here.
//!
//! Map: `payload` (what the forge sends, as far as it is used), `mention` (the command in a text).

mod mention;
mod payload;

use crate::manifest::Triggers;
use crate::name::{Name, NameError};
use crate::task::{Actor, Repository, Source, Task, Thread};
use mention::Command;
use payload::Payload;

/// What an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A task.
    Task(Box<Task>),
    /// Nothing; the text says why, in one line.
    Nothing(String),
    /// Something, by someone who may not; the text says why.
    Refused(String),
}

/// Why an event can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not JSON.
    #[error("the event is not JSON: {0}")]
    NotJson(String),
    /// The forge sends it, but no task is made of it.
    #[error("events of kind `{0}` are not supported")]
    UnsupportedKind(String),
    /// The command names an agent that no manifest can have.
    #[error("the command names no agent: {0}")]
    Agent(NameError),
    /// Neither named nor recognisable.
    #[error("the kind of the event can't be told from its content")]
    UnknownKind,
    /// Not what the forge sends for this kind.
    #[error("the `{kind}` event is not as the forge sends it: {problem}")]
    Malformed {
        /// The kind.
        kind: String,
        /// What is wrong.
        problem: String,
    },
}

impl EventError {
    /// What to try.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotJson(_) | Self::Malformed { .. } => {
                "give the payload as the forge wrote it, such as $GITHUB_EVENT_PATH"
            }
            Self::Agent(_) => "write `agent=NAME` with the name of an agent in the manifest",
            Self::UnsupportedKind(_) | Self::UnknownKind => "`issues` and `issue_comment` events start a task",
        }
    }
}

/// Reads a payload. `kind` is the event's name (`issues`, `issue_comment`), told from the payload's shape where it is
/// not given.
pub fn parse(payload: &str, kind: Option<&str>, triggers: &Triggers) -> Result<Asked, EventError> {
    let value: serde_json::Value =
        serde_json::from_str(payload).map_err(|error| EventError::NotJson(error.to_string()))?;
    let kind = kind.or_else(|| payload::kind_of(&value)).ok_or(EventError::UnknownKind)?;
    if !matches!(kind, "issues" | "issue_comment") {
        return Err(EventError::UnsupportedKind(one_line(kind)));
    }
    let malformed = |problem: String| EventError::Malformed { kind: kind.to_owned(), problem };
    let payload: Payload = serde_json::from_value(value).map_err(|error| malformed(error.to_string()))?;
    match kind {
        "issues" => issue(payload, triggers),
        _ => comment(payload, triggers).ok_or_else(|| malformed("it has no `comment`".to_owned()))?,
    }
}

/// `issues`: opened with the mention, or given a label that starts a run.
fn issue(payload: Payload, triggers: &Triggers) -> Result<Asked, EventError> {
    let issue = &payload.issue;
    let (agent, instruction) = match payload.action.as_str() {
        "opened" => {
            let body = issue.body.as_deref().unwrap_or_default();
            match mention::command(body, &triggers.mention) {
                Some(command) => match instruction(command)? {
                    Ok(found) => found,
                    Err(nothing) => return Ok(nothing),
                },
                None if mention::is_word_of(&issue.title, &triggers.mention) => (None, String::new()),
                None => return Ok(nothing(&format!("the issue does not mention {}", triggers.mention))),
            }
        }
        "labeled" => {
            let Some(label) = payload.label.as_ref() else {
                return Ok(nothing("the event names no label"));
            };
            match triggers.labels.get(&label.name) {
                Some(agent) => (Some(agent.clone()), String::new()),
                None => return Ok(nothing(&format!("the label `{}` starts nothing", label.name))),
            }
        }
        other => return Ok(nothing(&format!("an issue was {other}, which starts nothing"))),
    };
    if let Some(refused) = turned_away(&payload, triggers) {
        return Ok(refused);
    }
    let by_author = issue.user.as_ref().is_some_and(|user| user.id == payload.sender.id);
    let association = issue.author_association.clone().filter(|_| by_author);
    Ok(task(Source::Issue(thread(&payload)), instruction, agent, association, payload))
}

/// `issue_comment`: a new comment with a line that begins with the mention.
fn comment(payload: Payload, triggers: &Triggers) -> Option<Result<Asked, EventError>> {
    let comment = payload.comment.as_ref()?;
    if payload.action != "created" {
        return Some(Ok(nothing(&format!("a comment was {}, which starts nothing", payload.action))));
    }
    let Some(command) = mention::command(&comment.body, &triggers.mention) else {
        return Some(Ok(nothing(&format!("no line of the comment begins with {}", triggers.mention))));
    };
    let (agent, instruction) = match instruction(command) {
        Ok(Ok(found)) => found,
        Ok(Err(nothing)) => return Some(Ok(nothing)),
        Err(error) => return Some(Err(error)),
    };
    if let Some(refused) = turned_away(&payload, triggers) {
        return Some(Ok(refused));
    }
    if comment.user.as_ref().is_some_and(|user| user.id != payload.sender.id) {
        return Some(Ok(Asked::Refused("the comment is not by the user who sent the event".to_owned())));
    }
    let source = Source::Comment {
        thread: thread(&payload),
        comment_id: comment.id,
        comment_url: comment.html_url.clone(),
        comment: comment.body.clone(),
        is_pull_request: payload.issue.pull_request.as_ref().is_some_and(|value| !value.is_null()),
    };
    let association = comment.author_association.clone();
    Some(Ok(task(source, instruction, agent, association, payload)))
}

/// Agent and text of a command, or that it starts nothing.
fn instruction(command: Command<'_>) -> Result<Result<(Option<Name>, String), Asked>, EventError> {
    if matches!(command.text, "stop" | "retry") {
        return Ok(Err(nothing(&format!("the command `{}` is not known yet", command.text))));
    }
    let agent = command.agent.map(Name::parse).transpose().map_err(EventError::Agent)?;
    Ok(Ok((agent, command.text.to_owned())))
}

/// Bots ask for nothing, unless the manifest lists their id.
fn turned_away(payload: &Payload, triggers: &Triggers) -> Option<Asked> {
    let sender = &payload.sender;
    let is_bot = sender.kind.as_deref().is_some_and(|kind| kind != "User");
    (is_bot && !triggers.who.bots.contains(&sender.id)).then(|| {
        Asked::Refused(format!(
            "{} (id {}) is not a person, and `triggers.who.bots` does not list it",
            one_line(&sender.login),
            sender.id
        ))
    })
}

fn task(
    source: Source,
    instruction: String,
    agent: Option<Name>,
    association: Option<String>,
    payload: Payload,
) -> Asked {
    Asked::Task(Box::new(Task {
        source,
        instruction,
        agent,
        asked_by: Some(Actor { login: payload.sender.login, id: payload.sender.id, association }),
        repository: Some(Repository {
            full_name: payload.repository.full_name,
            clone_url: payload.repository.clone_url,
            default_branch: payload.repository.default_branch,
        }),
    }))
}

fn thread(payload: &Payload) -> Thread {
    let issue = &payload.issue;
    Thread {
        number: issue.number,
        title: issue.title.clone(),
        body: issue.body.clone().unwrap_or_default(),
        url: issue.html_url.clone(),
    }
}

fn nothing(why: &str) -> Asked {
    Asked::Nothing(one_line(why))
}

/// A text of people's for a one-line message: no control characters, not long.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
