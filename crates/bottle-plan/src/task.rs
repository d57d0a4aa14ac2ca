//! What is to be done, and who asked.

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// One task for one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Where it comes from.
    pub source: Source,
    /// What the asker wrote for the agent, behind the mention or as the task's text; may be empty for an issue, which
    /// then is itself the task.
    pub instruction: String,
    /// The agent that was asked for, by a label or `agent=NAME`; none: the manifest's only one.
    pub agent: Option<Name>,
    /// Who asked; none for a task given on the command line.
    pub asked_by: Option<Actor>,
    /// The repository that the event is about.
    pub repository: Option<Repository>,
}

/// Where a task comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// An issue was opened or labelled.
    Issue(Thread),
    /// A comment on an issue or a pull request.
    Comment {
        /// The issue or pull request.
        thread: Thread,
        /// The comment's id at the forge.
        comment_id: u64,
        /// The comment's address for people.
        comment_url: String,
        /// All of the comment.
        comment: String,
        /// Whether the thread is a pull request.
        is_pull_request: bool,
    },
    /// Given on the command line or by a workflow's input.
    Text,
}

/// An issue or a pull request, as people wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its number in the repository.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its text; empty where there is none.
    pub body: String,
    /// Its address for people.
    pub url: String,
}

/// A user of the forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The login name, which can change hands.
    pub login: String,
    /// The number that can't.
    pub id: u64,
    /// What the event says about the actor and the repository, such as `MEMBER`; a hint, never a permission.
    pub association: Option<String>,
}

/// A repository at a forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Owner and name, such as `team/app`.
    pub full_name: String,
    /// Its https address for git.
    pub clone_url: String,
    /// The branch that changes are proposed to.
    pub default_branch: String,
}

impl Task {
    /// A task that is a text and nothing else.
    pub fn text(instruction: &str) -> Self {
        Self {
            source: Source::Text,
            instruction: instruction.trim().to_owned(),
            agent: None,
            asked_by: None,
            repository: None,
        }
    }

    /// The issue or pull request that the task is about.
    pub fn thread(&self) -> Option<&Thread> {
        match &self.source {
            Source::Issue(thread) | Source::Comment { thread, .. } => Some(thread),
            Source::Text => None,
        }
    }

    /// One line for people: the thread's title, or the beginning of the text.
    pub fn title(&self) -> String {
        let line = match self.thread() {
            Some(thread) => thread.title.trim(),
            None => self.instruction.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default(),
        };
        match line.char_indices().nth(100) {
            Some((end, _)) => format!("{}…", line[..end].trim_end()),
            None => line.to_owned(),
        }
    }
}
