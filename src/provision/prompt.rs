//! The prompt file.

use bottle_plan::plan::BottlePlan;

use super::Step;
use crate::backend::{Bottle, Room, Tree};

/// Writes the prompt where the agent's command reads it.
pub(super) async fn provision(bottle: &dyn Bottle, plan: &BottlePlan) -> Step {
    let prompt = &plan.prompt;
    bottle.copy_in(Room::Guest, Tree::new().file(&prompt.path, plan.guest.uid, 0o644, prompt.text.clone())).await?;
    Ok(format!("{} ({} bytes)", prompt.path, prompt.text.len()))
}
