//! The bundle's one binary: `bottle-sidecars supervisor` is PID 1 of the bundle and starts the others;
//! `bottle-sidecars egress|pipelock|git-gate|supervise --config FILE` is one sidecar by itself.
//!
//! Map: `common` (directories, logging, listening), `confirm` (which policy is in force), a room a sidecar (`egress/`, `pipelock/`, `gate/`, `supervise/`),
//! `supervisor/`, `control` (the runner's way in). Decisions live in `bottle-policy` and `bottle-scan`; here are sockets, processes and files.

mod ca;
mod common;
mod confirm;
mod control;
mod egress;
mod gate;
mod pipelock;
mod proxy;
mod supervise;
mod supervisor;
mod tls;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The doors of a bottle: egress, pipelock, git-gate and supervise, and the supervisor that runs them.
#[derive(Debug, Parser)]
#[command(name = "bottle-sidecars", version, max_term_width = 110)]
struct Args {
    #[command(flatten)]
    dirs: common::Dirs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the sidecars that bundle.yaml names, keep them running, end them on SIGTERM.
    Supervisor(supervisor::Args),
    /// The guest's HTTP(S) proxy: routes, model replay and recording.
    Egress(egress::Args),
    /// The last door before the internet: DLP, addresses, credentials.
    Pipelock(pipelock::Args),
    /// The git mirror whose pushes are scanned.
    GitGate(gate::Args),
    /// What git daemon and git receive-pack call back (not for people).
    #[command(hide = true)]
    GateHook(gate::HookArgs),
    /// The MCP server through which the agent asks for more.
    Supervise(supervise::Args),
    /// Look at proposals, decide on them, put a policy in force; for the runner, from inside of the bundle.
    Control(control::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    common::init_logging();
    let dirs = args.dirs;
    match args.command {
        Command::Supervisor(args) => supervisor::main(&dirs, args),
        Command::Egress(args) => egress::main(&dirs, args),
        Command::Pipelock(args) => pipelock::main(&dirs, args),
        Command::GitGate(args) => gate::main(&dirs, args),
        Command::GateHook(args) => gate::hook_main(&dirs, args),
        Command::Supervise(args) => supervise::main(&dirs, args),
        Command::Control(args) => control::main(&dirs, args),
    }
}
