//! `bottle-runner`: runs Claude Code on a task inside a sealed bottle and hands back a scanned branch and a run record.
//!
//! Map: `cli/` (a file a subcommand), `run/` (one run from launch to teardown), `backend/`, `provision/`, `agent/`, `approve/` (what the agent asks for),
//! `forge/`, `report/`, `state/`; `host/` (environment, clock, checkout), `secrets`, `sources`, `process` (the one place that
//! starts processes), `exit` (codes and failures). What is decided before a run is in the crate `bottle-plan`.

mod agent;
mod approve;
mod backend;
mod cancel;
mod cli;
mod exit;
mod forge;
mod host;
mod process;
mod provision;
mod report;
mod run;
mod secrets;
mod seed;
mod sources;
mod state;
mod workflow_commands;

use std::process::ExitCode;

/// Runs the command line of this process; the result is the process's exit code.
pub fn main() -> ExitCode {
    cli::main().into()
}
