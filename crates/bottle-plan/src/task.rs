//! What is to be done, and who asked.

use bottle_types::git::ObjectId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::Permission;
use crate::moment::Moment;
use crate::name::Name;
use crate::prose;

/// One task for one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Where it comes from.
    pub source: Source,
    /// What shall come of it.
    #[serde(default)]
    pub work: Work,
    /// What is done with the branch that is there.
    #[serde(default, skip_serializing_if = "Course::is_forward")]
    pub course: Course,
    /// What the asker wrote for the agent, behind the mention or as the task's text; may be empty for an issue, which
    /// then is itself the task, and for a schedule, whose task is in the agent's own instructions.
    pub instruction: String,
    /// The agent that was asked for, by a label or `agent=NAME`; none: the manifest's only one.
    pub agent: Option<Name>,
    /// Who asked; none for a task given on the command line, for a schedule and for a review that nobody asks for.
    pub asked_by: Option<Actor>,
    /// When, RFC 3339 as the forge wrote it; none where the event does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<String>,
    /// The repository that the event is about.
    pub repository: Option<Repository>,
    /// The pull request as it was when it was asked for, as far as the event says: a comment's event on GitHub does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequest>,
    /// What the runner gathered beyond the event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<Piece>,
    /// Files that people attached to their words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// What of the event and of that was left out, and why; a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// What shall come of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A branch with a change.
    #[default]
    Change,
    /// Words about a pull request; nothing is pushed.
    Review,
    /// What the agent's `outputs` grant, a branch not among it; nothing is pushed.
    Outputs,
}

/// What a task does with the branch that is there. A branch only grows, except where a person asked for something else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// New commits come on top.
    #[default]
    Forward,
    /// The same; the task is what an earlier run has begun.
    Continue,
    /// The agent puts it onto its base branch.
    Rebase,
    /// It goes back to where it was before a run. There is no agent.
    Undo(Undo),
}

/// What a run did to a branch, which is to be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Undo {
    /// The run's name.
    pub run: String,
    /// The branch: a name that the gate takes.
    pub branch: String,
    /// The commit that the run left it at.
    pub from: ObjectId,
    /// The commit that it was at before.
    pub to: ObjectId,
}

impl Course {
    /// Whether new commits come on top, and nothing more is said.
    pub fn is_forward(&self) -> bool {
        *self == Self::Forward
    }

    /// What is to be undone.
    pub fn undo(&self) -> Option<&Undo> {
        match self {
            Self::Undo(undo) => Some(undo),
            Self::Forward | Self::Continue | Self::Rebase => None,
        }
    }
}

/// Where a task comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// An issue was opened, labelled or assigned.
    Issue(Thread),
    /// A pull request was labelled.
    PullRequest(Thread),
    /// A pull request was opened or changed, and the manifest has such reviewed: nobody asks.
    Proposed(Thread),
    /// A comment on an issue or a pull request.
    Comment {
        /// The issue or pull request.
        thread: Thread,
        /// What kind of comment.
        #[serde(default)]
        form: Form,
        /// The comment's id at the forge.
        comment_id: u64,
        /// The comment's address for people.
        comment_url: String,
        /// All of the comment.
        comment: String,
        /// Whether the thread is a pull request.
        is_pull_request: bool,
        /// What of the change it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<Place>,
    },
    /// A workflow was started by hand, or by another program.
    Dispatch {
        /// `workflow_dispatch`, or the type that the other program gave.
        event: String,
    },
    /// The time has come.
    Schedule {
        /// In cron's words; empty where the event has none.
        cron: String,
    },
    /// A run of the repository's checks failed.
    FailedRun(FailedRun),
    /// Given on the command line or by a workflow's input.
    Text,
}

/// The kinds of comments; forges keep each at another address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Below an issue or a pull request.
    #[default]
    Comment,
    /// The words of a review.
    Review,
    /// On a line of a change.
    ReviewComment,
}

/// A piece of what is gathered about a task beyond its event, as the forge has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Piece {
    /// A comment, a review, or a comment on a line of a change.
    Said {
        /// The writer's login; none where the account is gone.
        by: Option<String>,
        /// When it was written, RFC 3339.
        written: Option<String>,
        /// When it was changed last; the same where it was not.
        changed: Option<String>,
        /// What of the change it is about.
        place: Option<Place>,
        /// Of a remark of ours at a line of the change: its thread.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<RemarkThread>,
        /// The words.
        text: String,
    },
    /// The pull request's change, at its pinned commit.
    Diff {
        /// As `git diff` prints it.
        text: String,
    },
    /// The log of a check that failed.
    Log {
        /// The check's name.
        name: String,
        /// Its lines.
        text: String,
    },
}

/// A thread that begins with a remark of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemarkThread {
    /// The remark's number at the forge.
    pub number: u64,
    /// Whether it is resolved.
    pub resolved: bool,
}

/// A file that somebody attached to words about a task, or what is written like one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attachment {
    /// Its address at the forge, without a query.
    pub url: String,
    /// The login of whoever wrote the words; none where nobody is known.
    pub by: Option<String>,
    /// The words that it is attached to, such as `text of the issue`.
    pub attached_to: String,
    /// What the agent gets.
    pub given: Given,
}

/// What the agent gets of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Given {
    /// A picture, made anew of its pixels.
    Picture {
        /// The file's name in the directory of attachments.
        name: String,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// The size that it was attached with, where it was made smaller.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<PictureSize>,
    },
    /// A text.
    Text {
        /// The file's name in the directory of attachments.
        name: String,
        /// Its size at the forge, in bytes.
        bytes: u64,
        /// The rule by which it has words that talk an agent into something.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        injection: Option<String>,
    },
    /// Nothing.
    Nothing {
        /// The reason.
        why: String,
    },
}

/// The size of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PictureSize {
    /// From side to side.
    pub width: u32,
    /// From top to bottom.
    pub height: u32,
}

impl Given {
    /// The file's name.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Picture { name, .. } | Self::Text { name, .. } => Some(name),
            Self::Nothing { .. } => None,
        }
    }
}

/// Something in a change that a comment is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// The file's path in the repository.
    pub path: String,
    /// The line, or the last of several; none where the comment is outdated or about the file.
    pub line: Option<u64>,
    /// The first of several lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Whether the lines are those of the file before the change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub before: bool,
    /// The piece of the diff; empty where there is none.
    pub hunk: String,
    /// The comment that this one answers.
    pub answers: Option<u64>,
}

/// A run of the repository's checks that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedRun {
    /// Its id at the forge.
    pub id: u64,
    /// Which try it is, from 1.
    pub attempt: u64,
    /// The workflow's name.
    pub name: String,
    /// Its address for people.
    pub url: String,
    /// The branch it ran for: a name that git takes.
    pub branch: String,
    /// The commit it ran for.
    pub commit: ObjectId,
    /// The pull requests that this commit is the head of.
    pub pull_requests: Vec<u64>,
}

/// An issue or a pull request, as people wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thread {
    /// Its number in the repository.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its text; empty where there is none.
    pub body: String,
    /// The login of who opened it; none where the event does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Its address for people.
    pub url: String,
}

/// An issue or a pull request in a message: `issue #7`, `pull request #7`.
pub fn thread_name(is_pull_request: bool, number: u64) -> String {
    format!("{} #{number}", if is_pull_request { "pull request" } else { "issue" })
}

/// Where a pull request comes from and goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PullRequest {
    /// Its number.
    pub number: u64,
    /// The commit that was its head; a run holds on to this one.
    pub head: ObjectId,
    /// The branch with the change, as its author named it.
    pub head_branch: String,
    /// Owner and name of the repository with the change; none where that is gone.
    pub head_repository: Option<String>,
    /// The branch that it shall go to.
    pub base_branch: String,
    /// Whether the change comes from another repository.
    pub from_fork: bool,
}

/// A user of the forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    /// The login name, which can change hands.
    pub login: String,
    /// The number that can't.
    pub id: u64,
    /// What the event says about the actor and the repository, such as `MEMBER`; a hint, never a permission.
    pub association: Option<String>,
}

/// A repository at a forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
            work: Work::Change,
            course: Course::Forward,
            instruction: instruction.trim().to_owned(),
            agent: None,
            asked_by: None,
            asked_at: None,
            repository: None,
            pull_request: None,
            context: vec![],
            attachments: vec![],
            left_out: vec![],
        }
    }

    /// The issue or pull request that the task is about.
    pub fn thread(&self) -> Option<&Thread> {
        match &self.source {
            Source::Issue(thread)
            | Source::PullRequest(thread)
            | Source::Proposed(thread)
            | Source::Comment { thread, .. } => Some(thread),
            Source::Dispatch { .. } | Source::Schedule { .. } | Source::FailedRun(_) | Source::Text => None,
        }
    }

    /// Whether the task is about a pull request.
    pub fn is_about_a_pull_request(&self) -> bool {
        matches!(
            self.source,
            Source::PullRequest(_) | Source::Proposed(_) | Source::Comment { is_pull_request: true, .. }
        )
    }

    /// The commit that the work is about and that people see checks of: a pull request's head as it was when it was asked for, or
    /// what failed checks ran for.
    pub fn checked_commit(&self) -> Option<&ObjectId> {
        match &self.source {
            Source::FailedRun(run) => Some(&run.commit),
            _ if self.is_about_a_pull_request() => self.pull_request.as_ref().map(|pull| &pull.head),
            _ => None,
        }
    }

    /// The permission that the asker needs, where the manifest asks for `configured`. A change from another repository is
    /// taken up only for someone who could push it, whatever the manifest says; where the event does not tell where a
    /// pull request comes from, the same holds until the forge has been asked.
    pub fn needs(&self, configured: Permission) -> Permission {
        let own = self.pull_request.as_ref().is_some_and(|pull| !pull.from_fork);
        if self.is_about_a_pull_request() && !own { configured.max(Permission::Write) } else { configured }
    }

    /// Whether what was written and last changed at these times was there when the task was asked for. A time that is
    /// missing or can't be read counts as changed afterwards.
    pub fn was_there(&self, written: Option<&str>, changed: Option<&str>) -> bool {
        let read = |text: Option<&str>| text.and_then(Moment::parse);
        match (read(self.asked_at.as_deref()), read(written), read(changed)) {
            (Some(asked), Some(written), Some(changed)) => written <= asked && changed <= asked,
            _ => false,
        }
    }

    /// One line for people: the thread's title, or the beginning of the text; without what nobody sees.
    pub fn title(&self) -> String {
        let line = match (self.thread(), &self.source) {
            (Some(thread), _) => thread.title.clone(),
            (None, Source::FailedRun(run)) => format!("{} failed on {}", run.name, run.branch),
            (None, _) => {
                self.instruction.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
            }
        };
        prose::name(&line, 100)
    }
}

/// How the name begins of a branch for this task, where the manifest has no other: `bottle/issue-12`. What follows comes of the
/// title, which people change.
pub(crate) fn branch_stem(task: &Task) -> String {
    format!("bottle/{}", what(task))
}

/// `issue-12`, `pr-14`, `ci-700`, `task`, `scheduled`.
pub(crate) fn what(task: &Task) -> String {
    match &task.source {
        Source::Issue(thread) | Source::Comment { thread, is_pull_request: false, .. } => {
            format!("issue-{}", thread.number)
        }
        Source::PullRequest(thread) | Source::Proposed(thread) | Source::Comment { thread, .. } => {
            format!("pr-{}", thread.number)
        }
        Source::FailedRun(run) => format!("ci-{}", run.id),
        Source::Dispatch { .. } | Source::Text => "task".to_owned(),
        Source::Schedule { .. } => "scheduled".to_owned(),
    }
}
