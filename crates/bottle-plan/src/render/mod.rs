//! A plan as files and text: pure functions of the plan.
//!
//! Map: `compose` (docker-compose.yml), `gitconfig` (the guest's), `text` (for people), `seccomp.json` (the guest's
//! system calls on Docker).

use crate::plan::BottlePlan;

/// The seccomp profile of the guest's container; the compose file names it as `./seccomp.json`.
pub const SECCOMP: &str = "{}";

/// The `docker-compose.yml` of a run.
pub fn compose(_plan: &BottlePlan) -> String {
    String::new()
}

/// The plan for people.
pub fn text(_plan: &BottlePlan) -> String {
    String::new()
}
