//! `/claude auto-merge`: has the forge merge a run's pull request when all required checks are green, for a person who asks in a comment.
//!
//! `judge` looks at who asks, where, and for what, and writes nothing; `carry_out` takes the lease of the pull request, looks once more, and
//! does it. What can't be asked is a no. Nothing but a comment comes here: no text of an issue, no agent, no bot.

use std::sync::Arc;

use bottle_plan::event::RunCommand;
use bottle_plan::manifest::{Permission, Triggers, Who};
use bottle_plan::moment::Moment;
use bottle_types::git::ObjectId;

use super::failed;
use crate::exit::{Code, Failure};
use crate::forge::{Author, Forge, ForgeError, ForgePullRequest, LastPush, MergeMethod, NoAutoMerge};
use crate::host;
use crate::permission::{Denial, EventActor, may_ask};
use crate::report::neutral;
use crate::thread::{self, Lease};

/// Asked for by a person who may, of a pull request where it may be.
pub(crate) struct AutoMergeRequest {
    command: RunCommand,
    on: bool,
    mention: String,
    /// Whose token writes.
    me: Author,
    /// The job's page.
    url: String,
    forge: Arc<dyn Forge>,
}

/// Refuses whatever may not be asked, or not of this pull request.
pub(super) async fn judge(
    command: &RunCommand,
    (on, url): (bool, &str),
    triggers: &Triggers,
    forge: &Arc<dyn Forge>,
) -> Result<AutoMergeRequest, Failure> {
    let number = command.thread.number;
    let who = Who { permission: triggers.who.permission.max(Permission::Write), bots: vec![] };
    let asker = EventActor { login: command.asked_by.login.clone(), id: command.asked_by.id };
    may_ask(forge.as_ref(), &who, &asker, Some(number)).await.map_err(Denial::into_failure)?;
    if on && !triggers.auto_merge {
        let why = "the manifest does not allow auto-merge";
        return Err(
            refused(why).hint("`triggers: { auto_merge: true }` in the default branch's claude-bottle.yml allows it")
        );
    }
    let Some(me) = forge.myself().await.map_err(failed)? else {
        return Err(Failure::machine(
            "which pull requests are a run's can't be told: the forge does not say whose token this is",
        )
        .hint("give the token read:user"));
    };
    let writer = Author { id: i64::try_from(asker.id).unwrap_or_default(), login: asker.login.clone(), is_bot: false };
    if writer.is(&me) {
        let why =
            format!("{} is the account that runs write with, and a merge is asked for by a person", neutral(&me.login));
        return Err(refused(why).hint("ask from another account, or give runs a token of an account of their own"));
    }
    stands(command, forge.as_ref()).await?;
    let request = AutoMergeRequest {
        command: command.clone(),
        on,
        mention: triggers.mention.clone(),
        me,
        url: url.to_owned(),
        forge: forge.clone(),
    };
    request.pull().await?;
    Ok(request)
}

/// Fails where the comment is not there any more as it was when the event came.
async fn stands(command: &RunCommand, forge: &dyn Forge) -> Result<(), Failure> {
    let now = match forge.read_comment(command.comment_id).await {
        Ok(now) => now,
        Err(error) if matches!(error.status(), Some(404 | 410)) => {
            return Err(refused("the comment that asks for it is gone").hint("ask again"));
        }
        Err(error) => return Err(failed(error)),
    };
    let moment = |text: &Option<String>| text.as_deref().and_then(Moment::parse);
    let (written, changed) = (moment(&now.written), moment(&now.changed));
    let is_as_written = written.is_some() && changed.is_some() && changed <= written;
    let is_same_writer = u64::try_from(now.author.id).is_ok_and(|id| id == command.asked_by.id) && !now.author.is_bot;
    if is_as_written && is_same_writer && now.body == command.comment {
        return Ok(());
    }
    Err(refused("the comment that asks for it was changed after it was written, or may have been")
        .hint("write it once more, as a new comment"))
}

impl AutoMergeRequest {
    /// What it would do, where nothing is to be done.
    pub(super) fn would(&self) -> String {
        let word = if self.on { "on" } else { "off" };
        format!("nothing to do: a run would turn auto-merge of {} {word}", self.name())
    }

    fn name(&self) -> String {
        format!("pull request #{}", self.command.thread.number)
    }

    fn asker(&self) -> String {
        neutral(&self.command.asked_by.login)
    }

    /// The pull request as it is now, if it is one of which this may be asked.
    async fn pull(&self) -> Result<ForgePullRequest, Failure> {
        let pull = self.forge.pull_request(self.command.thread.number).await.map_err(failed)?;
        let name = self.name();
        if !pull.is_open {
            return Err(Failure::input(format_args!("{name} is closed or merged: there is nothing to merge"))
                .hint("reopen it, and ask again"));
        }
        if pull.from_fork {
            return Err(refused(format_args!("{name} is from a fork, and only what a run has proposed is merged so"))
                .hint("merge it by the forge's button"));
        }
        if !thread::is_a_run_s(&pull, &self.me) {
            return Err(refused(format_args!("{name} was not opened by a run of this repository"))
                .hint("merge it, or turn its auto-merge on, by the forge's button"));
        }
        if self.on && pull.draft {
            return Err(Failure::input(format_args!("{name} is a draft"))
                .hint("mark it as ready for review when it is, and ask again"));
        }
        Ok(pull)
    }

    async fn is_on(&self, pull: &ForgePullRequest) -> Result<bool, Failure> {
        self.forge.is_auto_merge_on(pull).await.map_err(failed)
    }

    fn already(&self) -> String {
        let word = if self.on { "on" } else { "off" };
        format!("auto-merge of {} is {word} already", self.name())
    }

    /// Does it, and says on the pull request what was done.
    pub(super) async fn carry_out(self) -> Result<String, Failure> {
        let pull = self.pull().await?;
        if self.is_on(&pull).await? == self.on {
            return Ok(self.already());
        }
        if self.on { self.lock_and_turn_on().await } else { self.turn_off(&pull).await }
    }

    /// Turns it on as long as no run has the pull request.
    async fn lock_and_turn_on(self) -> Result<String, Failure> {
        let forge = self.forge.as_ref();
        let guard = match thread::take_free(forge, self.command.thread.number, &self.lease()).await {
            Ok(Ok(guard)) => guard,
            Ok(Err(other)) => return Err(self.at_work(&other)),
            Err(error) => {
                let why = format!("that no run is at work on {} can't be made sure: {error}", self.name());
                return Err(Failure::machine(why).hint(error.hint()));
            }
        };
        let done = self.turn_on().await;
        let text = match &done {
            Ok(text) => text.clone(),
            Err(failure) => {
                let hint = failure.hint.as_ref().map(|hint| format!("; {}", neutral(hint))).unwrap_or_default();
                format!(
                    "{} asked for auto-merge, and it was not turned on: {}{hint}",
                    self.asker(),
                    neutral(&failure.what)
                )
            }
        };
        let told = guard.end(forge, &text).await;
        match (done, told) {
            (Ok(text), Err(error)) => Ok(format!("{text} The pull request does not say so: {error}; {}", error.hint())),
            (done, _) => done,
        }
    }

    fn lease(&self) -> Lease {
        Lease { run: format!("auto-merge-{}", self.command.comment_id), since: host::now(), url: self.url.clone() }
    }

    fn at_work(&self, other: &Lease) -> Failure {
        let Lease { run, url, .. } = other;
        Failure::input(format_args!("run {run} is at work on {}, and may push to it: {url}", self.name()))
            .hint("look at what it has pushed when it has ended, and ask again")
    }

    /// Looks at everything that may have changed while the lease was taken, and turns it on.
    async fn turn_on(&self) -> Result<String, Failure> {
        let forge = self.forge.as_ref();
        let pull = self.pull().await?;
        if self.is_on(&pull).await? {
            return Ok(self.already());
        }
        let Some(head) = &pull.commit else {
            return Err(
                Failure::input(format_args!("the branch of {} is gone", self.name())).hint("restore it, and ask again")
            );
        };
        self.nobody_at_work(&pull).await?;
        self.was_pushed_before(&pull, head).await?;
        let method = match forge.turn_auto_merge_on(&pull, head).await {
            Ok(Ok(method)) => Some(method),
            Ok(Err(why)) => return Err(self.not_on(&why)),
            Err(error) => {
                self.is_on_all_the_same(&error).await?;
                None
            }
        };
        self.stays_on(&pull, head, method).await
    }

    fn not_on(&self, why: &NoAutoMerge) -> Failure {
        Failure::input(format_args!("auto-merge of {} was not turned on: {why}", self.name())).hint(why.hint())
    }

    /// Fails with a call that has come to nothing, or may have: its answer may have been lost.
    async fn is_on_all_the_same(&self, error: &ForgeError) -> Result<(), Failure> {
        if !error.may_be_done() {
            return Err(failed(error.clone()));
        }
        let now = match self.pull().await {
            Ok(pull) => self.is_on(&pull).await,
            Err(failure) => Err(failure),
        };
        match now {
            Ok(true) => Ok(()),
            Ok(false) => Err(failed(error.clone())),
            Err(_) => Err(Failure::machine(format_args!("{error}; whether auto-merge is on is not known"))
                .hint(format_args!("`{} auto-merge off` turns it off; {}", self.mention, error.hint()))),
        }
    }

    /// Fails where a run is at work that may push to the branch.
    async fn nobody_at_work(&self, pull: &ForgePullRequest) -> Result<(), Failure> {
        let ours = self.lease().run;
        for number in thread::threads_of(pull) {
            match thread::holder(self.forge.as_ref(), number).await {
                Ok(Some(found)) if found.lease.run != ours => return Err(self.at_work(&found.lease)),
                Ok(_) => {}
                // A number in a name that is nobody's.
                Err(error) if matches!(error.status(), Some(404 | 410)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Fails where the branch was pushed to after the comment was written, or may have been.
    async fn was_pushed_before(&self, pull: &ForgePullRequest, head: &ObjectId) -> Result<(), Failure> {
        let unsure = |why: &str| {
            refused(format_args!(
                "whether {} was as it is now when this was asked for can't be told: {why}",
                self.name()
            ))
            .hint("look at its commits, and ask again in a minute")
        };
        let at = match self.forge.last_push(pull).await.map_err(failed)? {
            LastPush::BeforeOpened => return Ok(()),
            LastPush::Unknown => return Err(unsure("the forge does not say when it was pushed to last")),
            LastPush::At(_, Some(commit)) if commit != *head => {
                return Err(unsure("the forge does not know of the last push yet"));
            }
            LastPush::At(at, _) => at,
        };
        match (Moment::parse(&at), Moment::parse(&self.command.asked_at)) {
            (Some(at), Some(asked)) if at < asked => Ok(()),
            (Some(_), Some(_)) => {
                Err(refused(format_args!("{} was pushed to after this was asked for, at {at}", self.name()))
                    .hint("look at its commits as they are now, and ask again"))
            }
            _ => Err(unsure("a time is none")),
        }
    }

    /// Looks once more, now that it is on: who came at the same moment is seen here, or sees that it is on. Where that can't be seen it is
    /// turned off again.
    async fn stays_on(
        &self,
        pull: &ForgePullRequest,
        head: &ObjectId,
        method: Option<MergeMethod>,
    ) -> Result<String, Failure> {
        let forge = self.forge.as_ref();
        let (name, asker, short) = (self.name(), self.asker(), head.short());
        let trouble = match forge.pull_request(pull.number).await {
            Ok(now) if !now.is_open => {
                return Ok(format!(
                    "{asker} asked for auto-merge of {name} at `{short}`, and the forge has merged it at once: its checks were green."
                ));
            }
            Ok(now) if now.commit.as_ref() != Some(head) => Some(self.not_on(&NoAutoMerge::Moved)),
            Ok(now) => self.nobody_at_work(&now).await.err(),
            Err(error) => Some(failed(error)),
        };
        if let Some(failure) = trouble {
            return Err(match forge.turn_auto_merge_off(pull).await {
                Ok(()) => failure,
                Err(error) => {
                    Failure::machine(format_args!("{failure}; auto-merge is on, and could not be turned off: {error}"))
                        .hint(format_args!("turn it off by the forge's button; {}", error.hint()))
                }
            });
        }
        Ok(format!(
            "**Auto-merge is on**: {asker} asked for it at `{short}`. The forge merges {name}{} when all required checks are green. \
             `{} auto-merge off` turns it off, and so does each run before it pushes to the branch.",
            method.map(|method| format!(" ({})", method.name())).unwrap_or_default(),
            self.mention
        ))
    }

    /// Turns it off, whoever is at work there.
    async fn turn_off(self, pull: &ForgePullRequest) -> Result<String, Failure> {
        let forge = self.forge.as_ref();
        forge.turn_auto_merge_off(pull).await.map_err(failed)?;
        let text = format!(
            "**Auto-merge is off**: {} asked for that. `{} auto-merge` turns it on again.",
            self.asker(),
            self.mention
        );
        // A run that is at work has our comment for itself; it is off in any case.
        let told = match thread::take_free(forge, self.command.thread.number, &self.lease()).await {
            Ok(Ok(guard)) => guard.end(forge, &text).await,
            Ok(Err(_)) => Ok(()),
            Err(error) => Err(error),
        };
        Ok(match told {
            Ok(()) => text,
            Err(error) => format!("{text} The pull request does not say so: {error}; {}", error.hint()),
        })
    }
}

fn refused(what: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Refused, what)
}
