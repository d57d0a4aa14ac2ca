//! What the kinds of events share: the parts of a payload, checked, in the words of [`crate::task`].

use bottle_policy::gate::refs::is_branch_name;
use bottle_types::address::without_userinfo;
use bottle_types::git::ObjectId;

use super::payload::{IssuePayload, Payload, Pull, UserPayload};
use super::who::Asker;
use super::{Answer, EventError, line, nothing, refused};
use crate::manifest::Triggers;
use crate::moment::Moment;
use crate::prose;
use crate::task::{Course, PullRequest, Repository, Source, Task, Thread, Work};

/// Forges round times, each in its own way; seconds.
const LEEWAY: i64 = 1;

/// An event that is read.
pub(super) struct CheckedEvent<'a> {
    /// Its kind, as it is called in messages.
    pub(super) name: String,
    pub(super) payload: Payload,
    pub(super) triggers: &'a Triggers,
}

/// What is being asked about.
pub(super) struct Topic {
    pub(super) thread: Thread,
    pub(super) left_out: Vec<String>,
}

impl CheckedEvent<'_> {
    pub(super) fn malformed(&self, problem: &str) -> EventError {
        EventError::Malformed { kind: self.name.clone(), problem: line(problem) }
    }

    /// A commit that a payload names.
    pub(super) fn commit(&self, id: &str) -> Result<ObjectId, EventError> {
        ObjectId::parse(id).map_err(|_| self.malformed(&format!("`{}` is not a commit's id", prose::name(id, 70))))
    }

    /// A key that this kind always has.
    pub(super) fn need<'b, T>(&self, value: &'b Option<T>, key: &str) -> Answer<&'b T> {
        value.as_ref().ok_or_else(|| self.malformed(&format!("missing field `{key}`")).into())
    }

    pub(super) fn action(&self) -> Answer<&str> {
        self.need(&self.payload.action, "action").map(String::as_str)
    }

    pub(super) fn sender(&self) -> Answer<&UserPayload> {
        self.need(&self.payload.sender, "sender")
    }

    /// The sender, who may be asking.
    pub(super) fn asker(&self, association: Option<&String>) -> Answer<Asker> {
        Asker::of(self.sender()?, association, self.triggers)
    }

    pub(super) fn repository(&self) -> Answer<Repository> {
        let given = self.need(&self.payload.repository, "repository")?;
        if !is_branch_name(&given.default_branch) {
            return Err(EventError::Branch(line(&given.default_branch)).into());
        }
        let name_is_plain = given.full_name.split('/').count() == 2
            && given.full_name.split('/').all(|part| {
                !matches!(part, "" | "." | "..")
                    && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            });
        if !name_is_plain {
            return Err(self.malformed(&format!("`{}` is not a repository's name", given.full_name)).into());
        }
        Ok(Repository {
            full_name: given.full_name.clone(),
            clone_url: without_userinfo(&given.clone_url),
            default_branch: given.default_branch.clone(),
        })
    }

    /// An issue, or a pull request as a comment's event has it.
    pub(super) fn issue(&self, issue: &IssuePayload, is_pull_request: bool, asked_at: Option<&str>) -> Answer<Topic> {
        let thread = Thread {
            number: issue.number,
            title: issue.title.clone(),
            body: issue.body.clone().unwrap_or_default(),
            author: issue.writer().login(),
            url: issue.html_url.clone(),
        };
        let what = if is_pull_request { "pull request" } else { "issue" };
        self.topic(thread, what, issue.updated_at.as_deref(), asked_at)
    }

    pub(super) fn pull(&self, pull: &Pull, asked_at: Option<&str>) -> Answer<Topic> {
        let thread = Thread {
            number: pull.number,
            title: pull.title.clone(),
            body: pull.body.clone().unwrap_or_default(),
            author: pull.writer().login(),
            url: pull.html_url.clone(),
        };
        self.topic(thread, "pull request", pull.updated_at.as_deref(), asked_at)
    }

    /// A thread that was changed after it was asked for, or may have been, comes without its words.
    fn topic(&self, mut thread: Thread, what: &str, changed: Option<&str>, asked_at: Option<&str>) -> Answer<Topic> {
        if thread.number == 0 {
            return Err(self.malformed("a number is zero").into());
        }
        let why = match (changed.and_then(Moment::parse), asked_at.and_then(Moment::parse)) {
            (Some(changed), Some(asked)) if changed <= asked.plus(LEEWAY) => None,
            (Some(_), Some(_)) => Some("it was changed after this was asked for"),
            _ => Some("the event does not say when it was changed last"),
        };
        let mut left_out = vec![];
        if let Some(why) = why {
            let name = format!("{what} #{}", thread.number);
            left_out.push(format!("title and text of the {name}: {why}"));
            thread = Thread { title: name, body: String::new(), ..thread };
        }
        Ok(Topic { thread, left_out })
    }

    /// Where a pull request comes from and goes to, as far as the event says.
    pub(super) fn ends(&self) -> Answer<Option<PullRequest>> {
        let Some(pull) = &self.payload.pull_request else { return Ok(None) };
        let (Some(head), Some(base)) = (&pull.head, &pull.base) else { return Ok(None) };
        let own = self.need(&self.payload.repository, "repository")?;
        if head.sha.is_empty() {
            // Gitea, where the branch was removed.
            return nothing(&format!("the branch of pull request #{} is gone, and its commit with it", pull.number));
        }
        if !is_branch_name(&base.branch) {
            return Err(EventError::Branch(line(&base.branch)).into());
        }
        // By id and by name: either may be missing its meaning after a repository was moved.
        let is_own =
            |repo: &super::payload::Origin| repo.id == own.id && repo.full_name.eq_ignore_ascii_case(&own.full_name);
        Ok(Some(PullRequest {
            number: pull.number,
            head: self.commit(&head.sha)?,
            head_branch: head.branch.clone(),
            head_repository: head.repo.as_ref().map(|repo| repo.full_name.clone()),
            base_branch: base.branch.clone(),
            from_fork: !head.repo.as_ref().is_some_and(is_own),
        }))
    }

    /// A task about a thread, but for what it is about.
    pub(super) fn task(&self, source: Source, topic_left_out: Vec<String>, asker: Asker) -> Answer<Task> {
        let pull_request = self.ends()?;
        if pull_request.as_ref().is_some_and(|pull| pull.from_fork) {
            asker.person("a change from another repository is taken up only for a person")?;
        }
        Ok(Task {
            source,
            work: Work::Change,
            course: Course::Forward,
            instruction: String::new(),
            agent: None,
            asked_by: Some(asker.actor),
            asked_at: None,
            repository: Some(self.repository()?),
            pull_request,
            context: vec![],
            attachments: vec![],
            left_out: topic_left_out,
        })
    }
}

/// A fork's failed run, a fork's anything: who wrote it has no say here.
pub(super) fn of_a_fork<T>(what: &str) -> Answer<T> {
    refused(&format!("{what} is of another repository; someone with write permission may ask for it in a comment"))
}
