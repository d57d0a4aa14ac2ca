//! A forge's webhook payload becomes a task, a command to a run, or a reason why there is nothing to do.
//!
//! Map: `payload` (what the forge sends, as far as it is used), `mention` (the command in a text), `who` (people and bots),
//! `parts` (what several kinds share), then the kinds: `issue`, `pull`, `comment`, `other` (dispatches, schedules, failed
//! runs). `given`: what Gitea's events leave out about labels.
//!
//! Always: text that people wrote is carried as data; nothing is run or looked up. A text that may have been changed after
//! it was asked for is left out, and said so. Who may ask is decided by the runner, which can ask the forge; bots are
//! turned away here, unless the manifest lists their ids.

mod comment;
mod given;
mod issue;
pub(crate) mod mention;
mod other;
mod parts;
mod payload;
mod pull;
mod who;

use bottle_wire::proposal::{ProposalId, ProposalIdError};

use crate::manifest::Triggers;
use crate::name::{Name, NameError};
use crate::prose;
use crate::task::{Actor, Course, Form, Repository, Source, Task, Thread, Undo};
pub use given::{LabelAct, UnsaidLabel, label_unsaid, say_labels};
pub(crate) use mention::BOTTLE;
use parts::CheckedEvent;
use payload::{EventKind, Payload};

/// The largest event, in bytes; GitHub's are at most as large.
pub const LARGEST: usize = 25 << 20;

/// What an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A task.
    Task(Box<Task>),
    /// Something about a run that is going on, or was.
    Command(Box<RunCommand>),
    /// Nothing; the text says why, in one line.
    Nothing(String),
    /// Perhaps something: a comment that is nearly a command.
    Unclear(Box<Unclear>),
    /// Something, by someone who may not; the text says why.
    Refused(String),
}

/// A comment without a command that has a line which is nearly one. It starts nothing, and gets an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{written}` is no command; a command begins with `{meant}`")]
pub struct Unclear {
    /// The beginning of the line.
    pub written: String,
    /// The beginning that was meant.
    pub meant: String,
    /// The writer; a person, or a bot that the manifest lists.
    pub asked_by: Actor,
    /// The issue or pull request.
    pub number: u64,
    /// Whether it is a pull request.
    pub is_pull_request: bool,
    /// The comment's id at the forge.
    pub comment_id: u64,
}

/// Something that is asked about a run, in a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCommand {
    /// What.
    pub order: Order,
    /// By whom; never a bot where a proposal is decided.
    pub asked_by: Actor,
    /// When, RFC 3339.
    pub asked_at: String,
    /// Where.
    pub repository: Repository,
    /// The issue or pull request.
    pub thread: Thread,
    /// Whether it is a pull request.
    pub is_pull_request: bool,
    /// What kind of comment.
    pub form: Form,
    /// The comment's id; whoever carries out an order looks whether it is still as it was.
    pub comment_id: u64,
    /// The comment's address for people.
    pub comment_url: String,
    /// All of the comment.
    pub comment: String,
}

impl RunCommand {
    /// The command as a task that puts the branch back; the agent that did what is undone is its agent.
    pub fn undo(&self, agent: Name, undo: Undo) -> Task {
        Task {
            source: Source::Comment {
                thread: self.thread.clone(),
                form: self.form,
                comment_id: self.comment_id,
                comment_url: self.comment_url.clone(),
                comment: self.comment.clone(),
                is_pull_request: self.is_pull_request,
                place: None,
            },
            course: Course::Undo(undo),
            agent: Some(agent),
            asked_by: Some(self.asked_by.clone()),
            asked_at: Some(self.asked_at.clone()),
            repository: Some(self.repository.clone()),
            ..Task::text("")
        }
    }
}

/// What is asked about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// End it.
    Stop,
    /// Do the last one again.
    Retry,
    /// Put the branch back to where it was before the last one.
    Undo,
    /// Have the forge merge the pull request when all its required checks are green.
    AutoMerge {
        /// False: not any more.
        on: bool,
    },
    /// Grant a proposal.
    Approve(ProposalId),
    /// Turn a proposal down.
    Deny {
        /// Which.
        id: ProposalId,
        /// Why, for the agent; may be empty.
        why: String,
    },
    /// Answer a question of the agent's.
    Answer {
        /// Which.
        id: ProposalId,
        /// The answer.
        text: String,
    },
}

/// The events that start a run, in words.
const STARTS: &str =
    "a run is started by issues, comments, reviews, labels, pull requests, failed runs, dispatches and schedules";

/// Why an event can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Larger than any forge sends.
    #[error("the event has {0} bytes, and none may have more than {LARGEST}")]
    TooLarge(usize),
    /// Not JSON.
    #[error("the event is not JSON: {0}")]
    NotJson(String),
    /// The forge sends it, but no task is made of it.
    #[error("events of kind `{0}` are not supported")]
    UnsupportedKind(String),
    /// The command names an agent that no manifest can have.
    #[error("the command names no agent: {0}")]
    Agent(NameError),
    /// The command names a proposal that no run can have.
    #[error("the command names no proposal: {0}")]
    Proposal(ProposalIdError),
    /// A line begins with `/bottle` and goes on with something else than a command.
    #[error("`{BOTTLE} {0}` is not a command")]
    Command(String),
    /// A branch that git takes and the gate does not.
    #[error("the branch `{0}` has a name that a run can't work with")]
    Branch(String),
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
            Self::TooLarge(_) | Self::NotJson(_) | Self::Malformed { .. } => {
                "give the payload as the forge wrote it, such as $GITHUB_EVENT_PATH"
            }
            Self::Agent(_) => "write `agent=NAME` with the name of an agent in the manifest",
            Self::Proposal(_) | Self::Command(_) => "write `/bottle approve P1` or `/bottle deny P1 why`",
            Self::Branch(_) => "rename it: a run takes letters, digits, and `-_./+@#=,` in the names of branches",
            Self::UnsupportedKind(_) | Self::UnknownKind => STARTS,
        }
    }
}

/// Reads a payload. `kind` is the event's name (`issues`, `issue_comment`), told from the payload's shape where it is
/// not given.
pub fn parse(payload: &str, kind: Option<&str>, triggers: &Triggers) -> Result<Asked, EventError> {
    if payload.len() > LARGEST {
        return Err(EventError::TooLarge(payload.len()));
    }
    let text = payload.strip_prefix('\u{feff}').unwrap_or(payload);
    let name = match kind {
        Some(kind) => kind.to_owned(),
        None => {
            let value = serde_json::from_str(text).map_err(|error| not_json(&error))?;
            payload::kind_of(&value).ok_or(EventError::UnknownKind)?.to_owned()
        }
    };
    let Some(kind) = EventKind::named(&name) else {
        if !payload::starts_nothing(&name) {
            return Err(EventError::UnsupportedKind(line(&name)));
        }
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).map_err(|error| not_json(&error))?;
        return Ok(Asked::Nothing(format!("`{name}` starts nothing; {STARTS}")));
    };
    let payload: Payload = serde_json::from_str(text).map_err(|error| match error.is_data() {
        // Also a key that is given twice: which one the forge meant can't be told.
        true => EventError::Malformed { kind: line(&name), problem: line(&error.to_string()) },
        false => not_json(&error),
    })?;
    let event = CheckedEvent { name: line(&name), payload, triggers };
    let answer = match kind {
        EventKind::Issues => issue::ask(&event),
        EventKind::PullRequest => pull::ask(&event),
        EventKind::IssueComment => comment::below(&event),
        EventKind::Review => comment::review(&event),
        EventKind::ReviewComment => comment::on_a_line(&event),
        EventKind::WorkflowDispatch | EventKind::RepositoryDispatch => other::dispatch(&event, kind),
        EventKind::Schedule => other::schedule(&event),
        EventKind::WorkflowRun => other::failed_run(&event),
    };
    match answer {
        Ok(task) => Ok(Asked::Task(Box::new(task))),
        Err(Stop::Answer(asked)) => Ok(asked),
        Err(Stop::Error(error)) => Err(error),
    }
}

/// Why no task comes of an event.
enum Stop {
    Answer(Asked),
    Error(EventError),
}

impl From<EventError> for Stop {
    fn from(error: EventError) -> Self {
        Self::Error(error)
    }
}

/// What a comment's words ask of a run that is going on; none where they ask for work, or for nothing.
pub fn order(text: &str, mention: &str) -> Option<Result<Order, EventError>> {
    comment::order(mention::command(text, mention)?).transpose()
}

/// Whether a comment's words ask for work.
pub fn asks_for_work(text: &str, mention: &str) -> bool {
    matches!(mention::command(text, mention), Some(mention::SaidCommand::Work { .. }))
}

/// What comes of an event.
type Answer<T> = Result<T, Stop>;

fn nothing<T>(why: &str) -> Answer<T> {
    Err(Stop::Answer(Asked::Nothing(line(why))))
}

fn refused<T>(why: &str) -> Answer<T> {
    Err(Stop::Answer(Asked::Refused(line(why))))
}

fn not_json(error: &serde_json::Error) -> EventError {
    EventError::NotJson(line(&error.to_string()))
}

/// For a one-line message, in which people's words may be: not long, and nothing that acts on a terminal.
fn line(text: &str) -> String {
    prose::name(text, 200)
}
