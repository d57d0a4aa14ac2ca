//! Skills and standing instructions of the base branch.

use bottle_plan::plan::BottlePlan;

use super::{Sources, Step};
use crate::backend::{Bottle, Room};

/// Copies what was read from the base branch to where Claude looks for it.
pub(super) async fn provision(bottle: &dyn Bottle, plan: &BottlePlan, sources: &Sources) -> Step {
    if sources.files.nodes.is_empty() {
        return Ok("none".to_owned());
    }
    bottle.copy_in(Room::Guest, sources.files.clone()).await?;
    let names: Vec<&str> = plan.skills.iter().map(|skill| skill.name.as_str()).collect();
    Ok(if names.is_empty() { "instructions alone".to_owned() } else { names.join(", ") })
}
