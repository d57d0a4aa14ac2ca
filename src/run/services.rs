//! The services of a bottle: each is waited for until it is ready. One that does not get there in its time ends the run before the agent.

use std::time::Duration;

use bottle_plan::plan::ServicePlan;
use futures_util::future::try_join_all;

use super::{LiveRun, case};
use crate::backend::{Bottle, BottleError, Exec, OutputChunk, Side};
use crate::exit::Failure;

/// Between two runs of a service's check.
const CHECK_AGAIN: Duration = Duration::from_millis(200);

/// Waits for all of them.
pub(super) async fn ready(run: &LiveRun<'_>) -> Result<(), Failure> {
    let (services, bottle) = (&run.context.plan.services, run.bottle);
    if services.is_empty() {
        return Ok(());
    }
    let all = services.iter().enumerate().map(|(index, service)| one(bottle, index, service));
    case(run.context.events, "services", async { try_join_all(all).await.map(drop) }).await
}

async fn one(bottle: &dyn Bottle, index: usize, service: &ServicePlan) -> Result<(), Failure> {
    match wait(bottle, index, service).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(Failure::machine(why)
            .hint("the agent was not started; compose.log in the run record has all that it printed, and its `time` in the manifest gives it longer")),
        Err(error) => Err(Failure::machine(format_args!("the service `{}` can't be looked at: {error}", service.name))),
    }
}

/// Waits until a service is ready; the error within says why it is not in its time.
pub(super) async fn wait(
    bottle: &dyn Bottle,
    index: usize,
    service: &ServicePlan,
) -> Result<Result<(), String>, BottleError> {
    let mut seen = "its ports take no connection".to_owned();
    let waited = tokio::time::timeout(
        bottle.patience(Duration::from_secs(service.time.0)),
        is_ready(bottle, index, service, &mut seen),
    )
    .await;
    let words = || async {
        let words = bottle.last_words(index).await;
        if words.is_empty() { "it printed nothing".to_owned() } else { format!("it printed: {words}") }
    };
    Ok(match waited {
        Ok(ready) => Ok(ready?),
        Err(_) => {
            let words = words().await;
            Err(format!("the service `{}` was not ready within {}: {seen}; {words}", service.name, service.time))
        }
    })
}

/// Ends when its ports take connections and its check ends with 0; `seen` is what was seen last.
async fn is_ready(
    bottle: &dyn Bottle,
    index: usize,
    service: &ServicePlan,
    seen: &mut String,
) -> Result<(), BottleError> {
    while code(bottle, Exec::guest(service.wait.iter().map(String::as_str)).in_dir("/")).await? != 0 {
        tokio::time::sleep(CHECK_AGAIN).await;
    }
    let Some(health) = &service.health else { return Ok(()) };
    *seen = format!("`{health}` does not end");
    loop {
        let mut exec = Exec::shell(health);
        exec.side = Side::Service(index);
        match code(bottle, exec).await? {
            0 => return Ok(()),
            code => *seen = format!("`{health}` ended with {code}"),
        }
        tokio::time::sleep(CHECK_AGAIN).await;
    }
}

/// The exit code of a command whose output nobody reads. One that is left behind by the end of the time ends with the bottle.
async fn code(bottle: &dyn Bottle, exec: Exec) -> Result<i64, BottleError> {
    let mut running = bottle.exec(exec).await?;
    while let Some(OutputChunk::Stdout(_) | OutputChunk::Stderr(_)) = running.output.recv().await {}
    running.code.await.map_err(|_| BottleError::new("failed to learn the exit code", "the engine went away"))?
}
