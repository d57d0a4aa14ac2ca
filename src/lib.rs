//! `bottle-runner`: runs Claude Code on a task inside a sealed bottle and hands back a scanned branch and a run record.
//!
//! Map, from the top floor down: `cli/` (a file a subcommand), `run/` (one run from launch to teardown), `agent/`, `approve/` (what
//! the agent asks for), `provision/`, `thread/` (a run in the conversation of its task), `backend/`, `permission/` (who may ask),
//! `forge/`, `report/`, `state/`, `cache/` (what setups keep), `secrets`, `host/` (environment, clock, checkout); on the ground `process` (the one place that starts
//! processes), `cancel`, `exit` (codes and failures), `survey` (what a look has found), `workflow_commands`. The test `architecture` holds the floors.
//! All that is decided before a run is in the crate `bottle-plan`.
#![warn(clippy::self_named_module_files)]

mod agent;
mod approve;
mod backend;
mod cache;
mod cancel;
mod cli;
mod exchange;
mod exit;
mod forge;
mod host;
mod permission;
mod process;
mod provision;
mod report;
mod run;
mod secrets;
mod state;
mod survey;
mod thread;
mod workflow_commands;

use std::process::ExitCode;

/// Runs the command line of this process; the result is the process's exit code.
pub fn main() -> ExitCode {
    (cli::main() as u8).into()
}
