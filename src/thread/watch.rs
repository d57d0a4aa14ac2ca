//! Watches a conversation while a run goes on: each new comment once, and if its writer may.
//!
//! A comment that begins with a mark of ours is skipped, whoever wrote it; so is a bot's that the manifest does not list. A forge that
//! can't be asked is said once and asked again, ever more slowly: the run goes on, and nothing counts as a yes.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bottle_plan::manifest::Who;
use bottle_plan::moment::Moment;
use bottle_plan::plan::BottlePlan;
use bottle_plan::prose;
use bottle_plan::task::{Form, Source, thread_name};
use tokio::time::{Instant, sleep_until};

use crate::exit::{Code, Failure};
use crate::forge::{Author, Comment, Forge, ForgeError};
use crate::permission::{Denial, EventActor, may_ask};

/// Begins everything that we post.
const OURS: &str = "<!-- claude-bottle:";
/// Between two looks. A job's token on github.com has 1000 calls an hour; a look that finds nothing new is not counted there.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// The longest time between two looks at a forge that does not answer.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);

/// A comment that is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewComment {
    pub(crate) id: u64,
    pub(crate) body: String,
    pub(crate) author: Author,
    /// When it was written, RFC 3339.
    pub(crate) written: Option<String>,
    /// When it was changed last.
    pub(crate) changed: Option<String>,
    /// True if it was changed after it was written, or may have been: it is not what its writer first said.
    pub(crate) edited: bool,
}

/// The result of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Comment(NewComment),
    /// The forge can't be asked; said once, until it can be again.
    Trouble(String),
}

/// A thread that is listened to.
pub(crate) struct CommentWatch {
    forge: Arc<dyn Forge>,
    who: Who,
    number: u64,
    is_pull_request: bool,
    /// Comments from before are old.
    since: String,
    pause: Duration,
    /// Comments that are known, the one that asked for the task first of all.
    seen: HashSet<u64>,
    waiting: VecDeque<News>,
    /// When to look again; none before the first look.
    next: Option<Instant>,
    looked: bool,
    /// How many looks in a row have failed.
    failed: u32,
}

impl CommentWatch {
    /// Listens to the thread of a run's task, from when it was asked for; none where it has no thread.
    pub(crate) fn from_plan(plan: &BottlePlan, forge: Arc<dyn Forge>) -> Option<Self> {
        let thread = plan.task.thread()?;
        let since = plan.task.asked_at.as_ref().unwrap_or(&plan.started_at);
        let mut watch = Self::from(forge, plan.who.clone(), thread.number, since);
        watch.is_pull_request = plan.task.is_about_a_pull_request();
        if let Source::Comment { comment_id, form: Form::Comment, .. } = &plan.task.source {
            watch.seen.insert(*comment_id);
        }
        Some(watch)
    }

    /// Listens to an issue, from this moment on.
    pub(super) fn from(forge: Arc<dyn Forge>, who: Who, number: u64, since: &str) -> Self {
        Self {
            forge,
            who,
            number,
            is_pull_request: false,
            since: since.to_owned(),
            pause: POLL_INTERVAL,
            seen: HashSet::new(),
            waiting: VecDeque::new(),
            next: None,
            looked: false,
            failed: 0,
        }
    }

    /// With another time between two looks.
    #[cfg(test)]
    pub(super) fn every(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// The next comment, as soon as there is one. Nothing is lost where this is given up while it waits.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            if let Some(news) = self.waiting.pop_front() {
                return news;
            }
            if let Some(next) = self.next {
                sleep_until(next).await;
            }
            match self.forge.comments_since(self.number, Some(&self.since)).await {
                Ok(comments) => self.hear(comments),
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Takes what is new of a look.
    fn hear(&mut self, comments: Vec<Comment>) {
        self.failed = 0;
        self.next = Some(Instant::now() + self.pause);
        let first = !std::mem::replace(&mut self.looked, true);
        let since = Moment::parse(&self.since);
        for comment in comments {
            if !self.seen.insert(comment.id) {
                continue;
            }
            let written = comment.written.as_deref().and_then(Moment::parse);
            let changed = comment.changed.as_deref().and_then(Moment::parse);
            // A comment without a time is new if it was not there before.
            let is_new = written.map_or(!first, |written| since.is_some_and(|since| written >= since));
            let listed = u64::try_from(comment.author.id).is_ok_and(|id| self.who.bots.contains(&id));
            if !is_new || comment.body.starts_with(OURS) || comment.author.is_bot && !listed {
                continue;
            }
            self.waiting.push_back(News::Comment(NewComment {
                edited: written.is_none() || changed.is_none_or(|changed| Some(changed) > written),
                id: comment.id,
                body: comment.body,
                author: comment.author,
                written: comment.written,
                changed: comment.changed,
            }));
        }
    }

    fn fail(&mut self, error: &ForgeError) {
        if self.failed == 0 {
            let name = thread_name(self.is_pull_request, self.number);
            let what = format!("comments on {name} can't be read for now: {error}; {}", error.hint());
            self.waiting.push_back(News::Trouble(what));
        }
        self.failed += 1;
        let slower = self.pause.saturating_mul(1 << self.failed.min(10)).min(MAX_POLL_INTERVAL);
        let told = if let ForgeError::Limited { wait, .. } = error { *wait } else { Duration::ZERO };
        self.next = Some(Instant::now() + slower.max(told));
    }

    /// Refuses a writer who may not have a task done or ended, by the manifest's rule. What can't be asked is a no.
    pub(crate) async fn may_ask(&self, heard: &NewComment) -> Result<(), Failure> {
        let NewComment { author: Author { login, id, .. }, .. } = heard;
        let Some(id) = u64::try_from(*id).ok().filter(|id| *id > 0) else {
            return Err(Failure::new(Code::Refused, format_args!("{} is nobody's account", prose::name(login, 60))));
        };
        let asker = EventActor { login: login.clone(), id };
        let pull = self.is_pull_request.then_some(self.number);
        may_ask(self.forge.as_ref(), &self.who, &asker, pull).await.map_err(Denial::into_failure)
    }

    /// True if a comment is still there as it was heard; what can't be asked is a no.
    pub(crate) async fn stands(&self, heard: &NewComment) -> bool {
        let now = self.forge.comments_since(self.number, Some(&self.since)).await.unwrap_or_default();
        now.iter().any(|now| now.id == heard.id && now.body == heard.body && now.changed == heard.changed)
    }
}
