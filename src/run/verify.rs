//! The agent's verify commands, run in the bottle after it has ended.

use std::time::{Duration, Instant};

use bottle_plan::plan::BottlePlan;

use crate::backend::{Bottle, BottleError, Exec, finish};
use crate::exit::Failure;
use crate::provision::GuestEnv;
use crate::report::{Case, Events, Suite};

/// One command takes no longer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1800);

/// Runs each command; what failed is returned in a line.
pub(super) async fn run(
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
