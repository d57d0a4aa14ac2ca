//! How a plan is made.

use super::{BottlePlan, Options, PlanError};
use crate::facts::HostFacts;
use crate::manifest::Manifest;
use crate::task::Task;

/// Decides everything about a run.
pub fn plan(
    _task: &Task,
    _manifest: &Manifest,
    _facts: &HostFacts,
    _options: &Options,
) -> Result<BottlePlan, PlanError> {
    Err(PlanError::Facts("not there yet".to_owned()))
}
