//! One run, from the claim to the published work. Each phase is a type in a file of its own, made from the phase before alone.
//!
//! Planning comes earlier, in `cli/task`: `RunInputs` is its result; `planning` makes the plan, and `current` has it made again where
//! the pull request has moved while the run waited for its lease. The phases: `claimed` → `launched` → `provisioned` → `sealed`
//! → `setup` → `worked` → `verified` → `unmoved` → `pushed`, and from wherever the run stands `collected` → `published`. Beside them:
//! `credentials` (new ones, to the doors), `deploy_key` (of this run alone), `budget` (of the repository, in a period), `mode` (where the work comes from), `handoff` (another job's work), `keep` (work that is not pushed), `cache` (what a setup finds of an earlier one), `services` (waited for),
//! `checks` (what is looked at to verify), `listen` (people's comments meanwhile), `outputs` (what the agent wanted written), `files` (that it handed in), `artifacts` (that the manifest takes), `commit_files` (those that findings can be about), `project_config` (what the agent goes by of the repository's own), `undo` (a branch, put back), `auto_merge` (turned off before a push), `session` (of an earlier run), `outcome`.
//!
//! Always: no agent before the seal is proved and the setup's ways out are closed, no push before the pull request's head was looked at again, no pull request and no
//! review after the lease is lost. Whatever happens after the first container may exist, the logs are collected and everything is
//! torn down. How a backend, a forge or the agent works does not belong here.

mod artifacts;
mod auto_merge;
mod budget;
#[cfg(test)]
mod budget_tests;
mod cache;
mod canary;
mod canary_push;
mod checks;
mod claimed;
mod collected;
mod commit_files;
mod credentials;
mod current;
mod deploy_key;
mod files;
mod handoff;
mod keep;
mod launched;
mod listen;
mod mode;
mod outcome;
mod outputs;
mod planning;
mod project_config;
mod provisioned;
mod published;
mod pushed;
#[cfg(test)]
mod pushed_tests;
mod sealed;
mod services;
mod session;
mod setup;
mod undo;
mod unmoved;
mod verified;
mod worked;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bottle_plan::manifest::ManifestSource;
use bottle_plan::plan::BottlePlan;
use bottle_types::git::ObjectId;
use bottle_wire::run_record::Outcome;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::agent::AgentOutcome;
use crate::backend::{Bottle, Progress};
use crate::cancel::Cancel;
use crate::exit::{Code, Failure};
use crate::forge::Forge;
use crate::provision::GuestInputs;
use crate::report::{Case, Events, Suite};
use crate::secrets::Secrets;
use crate::state::RunRecord;
use crate::thread::NewComment;

use claimed::{Claimed, Leased};
use collected::Collected;
pub(crate) use deploy_key::RegisteredKey;
pub(crate) use handoff::read as handoff;
use launched::Launched;
pub(crate) use mode::RunMode;
pub(crate) use outcome::first_of;
use outcome::{one_line, outcome};
pub(crate) use planning::Planning;
use project_config::ProjectConfig;
use provisioned::Provisioned;
use published::Published;
use pushed::Pushed;
use sealed::Sealed;
use setup::SetUp;
use unmoved::Unmoved;
use verified::Verified;
use worked::Worked;

/// Everything that a run starts from.
pub(crate) struct RunInputs {
    pub(crate) plan: BottlePlan,
    /// How the plan is made again.
    pub(crate) planning: Planning,
    /// The manifest's text, with its policies.
    pub(crate) manifest: ManifestSource,
    pub(crate) guest_inputs: GuestInputs,
    pub(crate) secrets: Secrets,
    pub(crate) mode: RunMode,
    /// Where setups' caches are; none: there is no place for them.
    pub(crate) cache_dir: Option<PathBuf>,
    /// Where sessions are kept; none: there is no place for them.
    pub(crate) session_dir: Option<PathBuf>,
    /// Where the work is proposed; none outside of a job.
    pub(crate) forge: Option<Arc<dyn Forge>>,
    /// True if the issue was chosen among others: one that another run has taken up is left to it.
    pub(crate) is_choice: bool,
    /// The span of whoever started the run; none: nobody traces it.
    pub(crate) traceparent: Option<String>,
}

/// The result of a run.
pub(crate) enum RunResult {
    Ended(Outcome),
    /// Nothing was done; the text says by which run it is or was.
    TakenUp(String),
}

/// The results of a run's parts, from which its outcome is made. A phase that is cut off leaves here what it has come to.
#[derive(Debug, Default)]
struct RunProgress {
    agent: Option<AgentOutcome>,
    /// The commits that were in the guest before the agent began, kept where the agent can't change them.
    starts: Vec<ObjectId>,
    pushed: Option<Pushed>,
    /// What the agent goes by of the repository's own.
    project_config: ProjectConfig,
    /// The files that the agent has handed in.
    files: files::TakenFiles,
    /// The files that the agent's findings can be about.
    commit_files: commit_files::CommitFiles,
    /// What the door has written of the agent's requests.
    proposals: Vec<u8>,
    /// How often the agent was to mend what the verify commands found.
    repairs: u32,
    /// The verify commands have found nothing, in the end.
    is_verified: bool,
    /// What the run has of the repository's budget.
    reservation: Option<budget::BudgetReservation>,
    /// The agent was started, if only to fail.
    may_have_spent: bool,
    /// The failures that do not end the run at once.
    failures: Vec<(Code, String)>,
}

impl RunProgress {
    fn fail(&mut self, code: Code, why: String) {
        self.failures.push((code, why));
    }
}

impl Progress for Events {
    fn say(&self, line: &str) {
        self.note(line);
    }
}

/// The run around its phases.
#[derive(Clone, Copy)]
struct RunContext<'r> {
    inputs: &'r RunInputs,
    plan: &'r BottlePlan,
    events: &'r Events,
    cancel: &'r Cancel,
}

/// A claimed run and its bottle, as the phases from the launch to the push hand them on. It borrows the bottle: while a phase is
/// alive the bottle can't be torn down, and afterwards no phase is left.
struct LiveRun<'r> {
    context: RunContext<'r>,
    record: &'r RunRecord,
    bottle: &'r dyn Bottle,
    progress: &'r mut RunProgress,
}

/// Runs it; the outcome is in the record and in the last event, whatever it is.
pub(crate) async fn run(mut inputs: RunInputs, events: &Events, cancel: &Cancel) -> Result<RunResult, Failure> {
    let leased = Leased::take(RunContext { inputs: &inputs, plan: &inputs.plan, events, cancel }).await?;
    let guard = match leased {
        Leased::Ours(guard) => guard,
        Leased::TakenUp(why) => return Ok(RunResult::TakenUp(why)),
    };
    // From here on there is a record and a comment, which say how it ended.
    let current = tokio::select! {
        current = current::bring_up_to_date(&mut inputs, guard.as_ref(), events) => current,
        failure = cancel.requested() => Err(failure),
    };
    let context = RunContext { inputs: &inputs, plan: &inputs.plan, events, cancel };
    let claimed = Claimed::open(context, guard)?;
    let current = match current {
        Ok(()) => tokio::select! {
            off = auto_merge::turn_off(&inputs, events) => off.map_err(|why| Failure::machine(format_args!("not started: {why}"))),
            failure = cancel.requested() => Err(failure),
        },
        failed => failed,
    };
    let collected = match current {
        Err(failure) => Collected::collect(claimed, None, RunProgress::default(), Err(failure)).await,
        Ok(()) => {
            let (comments, heard) = unbounded_channel();
            tokio::select! {
                collected = to_collected(claimed, heard) => collected,
                never = listen::listen(context, Some(&comments)) => match never {},
            }
        }
    };
    Published::publish(collected).await.finish().await.map(RunResult::Ended)
}

/// From the first container to the last: nothing of the bottle is left when this returns.
async fn to_collected(claimed: Claimed<'_>, heard: UnboundedReceiver<NewComment>) -> Collected<'_> {
    let mut progress = RunProgress::default();
    if let Err(failure) = budget::reserve(claimed.context(), &mut progress).await {
        return Collected::collect(claimed, None, progress, Err(failure)).await;
    }
    let bottle = match launched::prepare(&claimed).await {
        Ok(bottle) => bottle,
        Err(failure) => return Collected::collect(claimed, None, progress, Err(failure)).await,
    };
    let ended = tokio::select! {
        ended = to_pushed(&claimed, bottle.as_ref(), heard, &mut progress) => ended,
        failure = claimed.context().cancel.due() => Err(failure),
    };
    Collected::collect(claimed, Some(bottle), progress, ended).await
}

/// From the launch to the push, or to the death of the bottle.
async fn to_pushed(
    claimed: &Claimed<'_>,
    bottle: &dyn Bottle,
    heard: UnboundedReceiver<NewComment>,
    progress: &mut RunProgress,
) -> Result<(), Failure> {
    let launched = Launched::launch(claimed, bottle, progress).await?;
    let RunContext { inputs, events, .. } = claimed.context();
    let given = launched.credentials();
    let ended = tokio::select! {
        biased;
        how = bottle.died() => Err(died(&how)),
        ended = from_launched(launched, heard) => ended,
        never = credentials::deliver(bottle, &inputs.secrets, events, given) => match never {},
    };
    match ended {
        Ok(pushed) => {
            progress.pushed = pushed;
            Ok(())
        }
        // A command's own failure may be known before the death that it comes from.
        Err(failure) => Err(match tokio::time::timeout(DEATH_NOTICE, bottle.died()).await {
            Ok(how) => {
                // Nobody hurries the run: the work that is still there is kept.
                claimed.context().cancel.end(died(&how));
                died(&how)
            }
            Err(_) => failure,
        }),
    }
}

/// How much later than its consequences a death may be noticed.
const DEATH_NOTICE: Duration = Duration::from_millis(300);

/// The failure that a bottle's death is.
fn died(how: &str) -> Failure {
    Failure::machine(format_args!("the bottle died: {how}")).hint(
        "what it pushed before is in gate.jsonl of the run record, and compose.log says more; start the run again",
    )
}

/// From the launched bottle to the push, or to work that is kept because it must not be pushed.
async fn from_launched(
    launched: Launched<'_>,
    heard: UnboundedReceiver<NewComment>,
) -> Result<Option<Pushed>, Failure> {
    let provisioned = Provisioned::provision(launched).await?;
    let sealed = Sealed::prove(provisioned).await?;
    let set_up = SetUp::set_up(sealed).await?;
    let worked = Worked::work(set_up, heard).await?;
    let verified = Verified::verify(worked).await?;
    match Unmoved::check(verified).await {
        Ok(unmoved) => Pushed::push(unmoved).await.map(Some),
        Err(moved) => {
            moved.keep().await;
            Ok(None)
        }
    }
}

/// Runs a part of the run as a case of the suite `bottle`.
async fn case<T>(events: &Events, name: &str, part: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let started = Instant::now();
    let result = part.await;
    events.case(Case {
        failure: result.as_ref().err().map(ToString::to_string),
        ..Case::passed(Suite::Bottle, name, started.elapsed())
    });
    result
}
