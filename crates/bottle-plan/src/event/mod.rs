//! A forge's webhook payload becomes a task, or a reason why there is nothing to do.
//!
//! Always: text that people wrote is carried as data and nothing is run or looked up; who may ask is decided by the
//! runner, which can ask the forge, except that bots are turned away here.

use crate::manifest::Triggers;
use crate::task::Task;

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
            Self::UnsupportedKind(_) | Self::UnknownKind => "`issues` and `issue_comment` events start a task",
        }
    }
}

/// Reads a payload. `kind` is the event's name (`issues`, `issue_comment`), told from the payload's shape where it is
/// not given.
pub fn parse(_payload: &str, _kind: Option<&str>, _triggers: &Triggers) -> Result<Asked, EventError> {
    Err(EventError::UnknownKind)
}
