//! The supervise door, made known to Claude.

use bottle_plan::plan::BottlePlan;

use super::{STEP_TIMEOUT, Step};
use crate::backend::{Bottle, Exec, succeed};

/// `claude mcp add`: it writes the agent's own configuration and connects to nothing.
pub(super) async fn provision(bottle: &dyn Bottle, plan: &BottlePlan) -> Step {
    let exec = Exec::guest(plan.mcp.register.clone()).in_dir(&plan.guest.home);
    let done = succeed(bottle, exec, STEP_TIMEOUT).await?;
    Ok(done.text().trim().to_owned())
}
