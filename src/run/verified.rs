//! The agent's verify commands, run in the bottle after it has ended.

use std::time::{Duration, Instant};

use bottle_plan::plan::BottlePlan;
use bottle_plan::task::Work;

use super::worked::Worked;
use super::{LiveRun, keep};
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
        if plan.task.work == Work::Change {
            keep::save(bottle, plan, events).await?;
        }
        events.phase(Phase::Verify);
        if let Some(failed) = commands(bottle, plan, &env, events).await? {
            run.progress.fail(Code::Task, failed);
        }
        Ok(Self { run })
    }

    pub(super) fn into_run(self) -> LiveRun<'r> {
        self.run
    }
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
