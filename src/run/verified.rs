//! The agent's verify commands, run in the bottle after it has ended.

use std::time::{Duration, Instant};

use bottle_plan::plan::BottlePlan;
use bottle_plan::task::Work;
use bottle_types::git::ObjectId;

use super::outcome::first_of;
use super::worked::Worked;
use super::{LiveRun, files, keep};
use crate::backend::{Bottle, BottleError, Exec, finish};
use crate::exit::{Code, Failure};
use crate::provision::GuestEnv;
use crate::report::{Case, Events, Phase, Suite};

/// One command takes no longer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1800);

/// Work that is saved and verified. It takes the work.
pub(super) struct Verified<'r> {
    run: LiveRun<'r>,
}

impl<'r> Verified<'r> {
    /// Kills what the agent left running, saves its work, and runs the verify commands.
    pub(super) async fn verify(worked: Worked<'r>) -> Result<Self, Failure> {
        let (run, env) = worked.into_parts();
        let (bottle, plan, events) = (run.bottle, run.context.plan, run.context.events);
        // Whatever the agent left running must not change what is verified and pushed.
        bottle.signal("KILL").await.map_err(Failure::machine)?;
        if plan.task.work == Work::Change
            && let Some(lost) = keep::save(bottle, plan, events).await?
        {
            run.progress.fail(Code::Task, lost);
        }
        events.phase(Phase::Verify);
        if plan.task.work == Work::Change
            && let Some(unfinished) = unfinished(bottle, plan, &run.progress.starts, events).await?
        {
            run.progress.fail(Code::Task, unfinished);
        }
        if let Some(failed) = commands(bottle, plan, &env, events).await? {
            run.progress.fail(Code::Task, failed);
        }
        // The verify commands may have made what is handed in.
        run.progress.files = files::take(bottle, plan).await?;
        Ok(Self { run })
    }

    pub(super) fn into_run(self) -> LiveRun<'r> {
        self.run
    }
}

/// Prints the files of HEAD that have both ends of a conflict and did not have them at the start, a line each; the arguments are the
/// commits of the start.
const CONFLICTS: &str = r#"marked() { git grep -lI --all-match -e '^<<<<<<< .' --or -e '^>>>>>>> .' "$1" -- | sed 's/^[^:]*://'; }
before=$(for start; do marked "$start"; done)
marked HEAD | while IFS= read -r path; do
  printf '%s\n' "$before" | grep -Fqx -e "$path" || printf '%s\n' "$path"
done"#;
const CONFLICTS_TIMEOUT: Duration = Duration::from_secs(300);

/// What is run in the guest to find conflicts that were left.
pub(super) fn conflicts(starts: &[ObjectId]) -> Vec<&str> {
    ["sh", "-c", CONFLICTS, "sh"].into_iter().chain(starts.iter().map(ObjectId::as_str)).collect()
}

/// Looks for a merge that nobody finished; what was found is returned in a line.
async fn unfinished(
    bottle: &dyn Bottle,
    plan: &BottlePlan,
    starts: &[ObjectId],
    events: &Events,
) -> Result<Option<String>, Failure> {
    if plan.git.is_none() || starts.is_empty() {
        return Ok(None);
    }
    let begun = Instant::now();
    let exec = Exec::guest(conflicts(starts)).in_dir(&plan.guest.workdir);
    let done = finish(bottle, exec, CONFLICTS_TIMEOUT).await.map_err(Failure::machine)?;
    let found = String::from_utf8_lossy(&done.stdout).into_owned();
    let names: Vec<String> = found.lines().map(super::one_line).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let why = format!("conflict markers are left in {}", first_of(&names));
    events.case(Case {
        suite: Suite::Verify,
        name: "no conflict is left".to_owned(),
        duration: begun.elapsed(),
        failure: Some(why.clone()),
        output: found,
    });
    Ok(Some(why))
}

/// Runs each command; what failed is returned in a line.
async fn commands(
    bottle: &dyn Bottle,
    plan: &BottlePlan,
    env: &GuestEnv,
    events: &Events,
) -> Result<Option<String>, Failure> {
    let mut failed = vec![];
    for command in &plan.verify {
        let started = Instant::now();
        let mut exec = Exec::shell(command).in_dir(&plan.guest.workdir);
        exec.env.clone_from(&env.0);
        let (failure, output) = match finish(bottle, exec, COMMAND_TIMEOUT).await {
            Ok(done) if done.code == 0 => (None, done.text()),
            Ok(done) => (Some(format!("ended with {}", done.code)), done.text()),
            Err(error @ BottleError::Slow { .. }) => (Some(error.to_string()), String::new()),
            Err(error) => return Err(Failure::machine(format_args!("failed to verify: {error}"))),
        };
        if failure.is_some() {
            failed.push(format!("`{command}`"));
        }
        events.case(Case { suite: Suite::Verify, name: command.clone(), duration: started.elapsed(), failure, output });
    }
    Ok((!failed.is_empty()).then(|| format!("verify failed: {}", failed.join(", "))))
}
