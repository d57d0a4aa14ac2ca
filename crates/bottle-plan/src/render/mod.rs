//! A plan as files and text: pure functions of the plan.
//!
//! Map: `compose` (docker-compose.yml), `gitconfig` (the guest's), `text` (for people), `seccomp.json` (the guest's
//! system calls on Docker: Docker's own profile for a container without capabilities, less what reaches out of it).

mod compose;
mod gitconfig;
mod text;

pub use compose::compose;
pub use gitconfig::{commit_hook, gate_url, own_url, render_gitconfig, signing_settings, spellings};
pub use text::text;

use bottle_policy::route::RoutesPolicy;
use bottle_types::yaml;
use serde::Serialize;

use crate::plan::BottlePlan;

/// The seccomp profile of the guest's container; the compose file names it as `./seccomp.json`.
pub const SECCOMP: &str = include_str!("seccomp.json");

/// The files that the bundle obeys: name in the configuration directory, and content.
pub fn policy_files(plan: &BottlePlan) -> Vec<(&'static str, String)> {
    let policies = &plan.policies;
    let routes = first_routes(plan);
    vec![
        ("bundle.yaml", file(&policies.bundle)),
        ("routes.yaml", file(routes)),
        ("pipelock.yaml", file(&policies.pipelock)),
        ("gate.yaml", file(&policies.gate)),
        ("supervise.yaml", file(&policies.supervise)),
    ]
}

/// What egress goes by at first.
pub fn first_routes(plan: &BottlePlan) -> &RoutesPolicy {
    plan.setup.as_ref().map_or(&plan.policies.routes, |setup| &setup.routes)
}

/// The types have no map with keys other than texts and no number without a YAML form, so this can't fail; a sidecar
/// refuses the empty file that would come of it.
fn file<T: Serialize>(policy: &T) -> String {
    yaml::to_string(policy).unwrap_or_default()
}
