//! What a bottle does on every backend: each test is one function, and says by [`shared!`] where it runs, or why not. Real bottles, the
//! real Claude Code answered by cassettes, a real sshd as upstream. What one backend alone can get wrong is in its own room.

#[macro_use]
mod shared;

mod approve;
mod artifacts;
pub(crate) mod bad_world;
mod canary;
mod deaths;
pub(crate) mod live;
mod main_job;
mod mend;
mod part;
mod project_config;
pub(crate) mod promises;
mod seal;
pub(crate) mod services;
pub(crate) mod setup;
mod signals;
mod signing;
mod test_reports;
mod toolchains;
mod tools;

/// Why most tests have no machine.
const MINUTES: &str =
    "an emulated machine takes minutes a run: the main job, the promises, the seal and a live run stand for the rest";
