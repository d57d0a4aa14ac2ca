//! The work, saved and verified by commands in the bottle, after the agent has ended; where the manifest says so the agent mends what
//! fails, and all is saved and verified again.

use bottle_plan::plan::{BottlePlan, FailedCheck, mend};
use bottle_plan::task::Work;
use bottle_types::git::ObjectId;

use super::checks::{self, Finding};
use super::worked::Worked;
use super::{LiveRun, artifacts, files, keep, session, setup};
use crate::backend::{Bottle, Exec, finish};
use crate::exit::{Code, Failure};
use crate::report::Phase;

/// Work that is saved and verified. It takes the work: an agent that could still change it is not left.
pub(super) struct Verified<'r> {
    run: LiveRun<'r>,
    /// The commit that was verified; none where there is no repository, or it names none.
    head: Option<ObjectId>,
}

impl<'r> Verified<'r> {
    /// Kills what the agent left running, saves its work, and runs the verify commands; as often as the agent may mend it.
    pub(super) async fn verify(worked: Worked<'r>) -> Result<Self, Failure> {
        let mut checked = Saved::save(worked, 1).await?.check().await?;
        while checked.can_be_mended() {
            checked = checked.mend().await?;
        }
        checked.end().await
    }

    pub(super) fn into_parts(self) -> (LiveRun<'r>, Option<ObjectId>) {
        (self.run, self.head)
    }
}

/// Work that is saved, of this attempt.
struct Saved<'r> {
    worked: Worked<'r>,
    attempt: u32,
    head: Option<ObjectId>,
    /// Why some of it could not be saved.
    lost: Option<String>,
}

impl<'r> Saved<'r> {
    async fn save(mut worked: Worked<'r>, attempt: u32) -> Result<Self, Failure> {
        let LiveRun { bottle, context, .. } = *worked.run();
        let plan = context.plan;
        // Whatever the agent left running must not change what is verified and pushed.
        bottle.signal("KILL").await.map_err(Failure::machine)?;
        let (mut lost, mut head) = (None, None);
        if plan.task.work == Work::Change {
            lost = keep::save(bottle, plan, context.events).await?;
            head = self::head(bottle, plan).await?;
        }
        Ok(Self { worked, attempt, head, lost })
    }

    /// Looks for conflicts that were left, and runs the verify commands.
    async fn check(self) -> Result<Checked<'r>, Failure> {
        let Self { mut worked, attempt, head, lost } = self;
        let env = worked.env().clone();
        let run = worked.run();
        run.context.events.phase(Phase::Verify);
        let again = (attempt > 1).then_some(attempt);
        let mut findings = vec![];
        let task = &run.context.plan.task;
        // What is put back was there before, conflicts and all.
        if task.work == Work::Change && task.course.undo().is_none() {
            findings.extend(checks::unfinished(run, again).await?);
            findings.extend(checks::not_rebased(run, again).await?);
        }
        findings.extend(checks::commands(run, &env, again).await?);
        Ok(Checked { worked, attempt, head, lost, findings, is_stuck: false })
    }
}

/// Work that was saved and looked at, and what is wrong with it.
struct Checked<'r> {
    worked: Worked<'r>,
    attempt: u32,
    head: Option<ObjectId>,
    lost: Option<String>,
    findings: Vec<Finding>,
    /// The agent was asked to mend it and could not, or has changed nothing.
    is_stuck: bool,
}

impl<'r> Checked<'r> {
    fn can_be_mended(&mut self) -> bool {
        let most = self.worked.run().context.plan.verify.repair;
        let is_asked_for = !self.findings.is_empty() && self.attempt <= most;
        is_asked_for && !self.is_stuck && self.lost.is_none() && self.worked.can_go_on()
    }

    /// Has the agent mend what is wrong, and looks again at what it has made of it.
    async fn mend(mut self) -> Result<Self, Failure> {
        let LiveRun { bottle, context, .. } = *self.worked.run();
        let (plan, events) = (context.plan, context.events);
        // Neither what the commands left running nor what they have written is the work.
        bottle.signal("KILL").await.map_err(Failure::machine)?;
        if let Err(failure) = setup::tidy(bottle, plan, self.head.as_ref(), "the verify commands", events).await {
            events.warn(format!("the agent is not asked to mend anything: {failure}"));
            self.is_stuck = true;
            return Ok(self);
        }
        events.note(format!("verify failed; the agent mends it (repair {} of {})", self.attempt, plan.verify.repair));
        events.phase(Phase::Agent);
        let failed = |finding: &Finding| FailedCheck {
            name: context.inputs.secrets.mask(&finding.name),
            why: context.inputs.secrets.mask(&finding.why),
            output: context.inputs.secrets.mask(&finding.output),
        };
        let failed: Vec<FailedCheck> = self.findings.iter().map(failed).collect();
        self.worked.go_on(&mend(plan, &failed)).await?;
        let Self { mut worked, attempt, head, lost, findings, .. } = self;
        worked.run().progress.repairs = attempt;
        let saved = Saved::save(worked, attempt + 1).await?;
        if saved.lost.is_none() && saved.head.is_some() && saved.head == head {
            events.note("the agent has changed nothing, so nothing is verified again");
            return Ok(Self { worked: saved.worked, attempt, head, lost, findings, is_stuck: true });
        }
        saved.check().await
    }

    /// The end of verifying: what is still wrong fails the run.
    async fn end(self) -> Result<Verified<'r>, Failure> {
        let Self { worked, head, lost, findings, .. } = self;
        let run = worked.into_run();
        if let Some(lost) = lost {
            run.progress.fail(Code::Task, lost);
        }
        run.progress.is_verified = findings.is_empty();
        for failure in checks::failures(&findings, run.progress.repairs) {
            run.progress.fail(Code::Task, failure);
        }
        // The verify commands may have made what is handed in.
        run.progress.files = files::take(run.bottle, run.context.plan).await?;
        artifacts::take(&run).await;
        session::keep(&run).await;
        Ok(Verified { run, head })
    }
}

/// The commit that the guest's repository is at; none where there is none.
async fn head(bottle: &dyn Bottle, plan: &BottlePlan) -> Result<Option<ObjectId>, Failure> {
    if plan.git.is_none() {
        return Ok(None);
    }
    let exec = Exec::guest(["git", "rev-parse", "--verify", "HEAD^{commit}"]).in_dir(&plan.guest.workdir);
    let done = finish(bottle, exec, checks::GIT_TIMEOUT).await.map_err(Failure::machine)?;
    // What is no commit can't be pushed, and the push says so.
    Ok(ObjectId::parse(String::from_utf8_lossy(&done.stdout).trim()).ok().filter(|_| done.code == 0))
}
