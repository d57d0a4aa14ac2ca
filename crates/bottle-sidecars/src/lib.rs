//! The four sidecars of a bottle and their supervisor: `bottle-sidecars supervisor` is PID 1 of the bundle and starts the
//! others; `bottle-sidecars egress|pipelock|git-gate|supervise --config FILE` is one sidecar by itself.
//!
//! Map: a room a sidecar (`egress/`, `pipelock/`, `gate/`, `approvals/` for supervise), `init/` (the supervisor), `proxy/`
//! (the HTTP that egress and pipelock share), `control` (the runner's way in), `confirm` (which policy is in force), `common`
//! (directories, logging, listening), `sigv4` (AWS's signatures), `upstream_proxy` (a company's), `ca` and `tls`.
//!
//! Always: what is decided is decided in the libraries below this crate; here are sockets, processes and files. The
//! runner's code does not belong here.

#![deny(clippy::self_named_module_files)]

mod approvals;
mod ca;
mod common;
mod confirm;
mod control;
mod credentials;
mod egress;
mod gate;
mod init;
mod pipelock;
mod proxy;
mod sigv4;
mod tls;
mod upstream_proxy;

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
    Supervisor(init::SupervisorArgs),
    /// The guest's HTTP(S) proxy: routes, model replay and recording.
    Egress(egress::EgressArgs),
    /// The last door before the internet: DLP, addresses, credentials.
    Pipelock(pipelock::PipelockArgs),
    /// The git mirror whose pushes are scanned.
    GitGate(gate::GitGateArgs),
    /// The hooks of git daemon and git receive-pack (not for people).
    #[command(hide = true)]
    GateHook(gate::HookArgs),
    /// The MCP server through which the agent asks for more.
    Supervise(approvals::SuperviseArgs),
    /// Look at proposals, decide on them, put a policy in force; for the runner, from inside of the bundle.
    Control(control::ControlArgs),
}

/// Runs the subcommand that the command line names.
pub fn run() -> ExitCode {
    let args = Args::parse();
    common::init_logging();
    let dirs = args.dirs;
    match args.command {
        Command::Supervisor(args) => init::main(&dirs, args),
        Command::Egress(args) => egress::main(&dirs, args),
        Command::Pipelock(args) => pipelock::main(&dirs, args),
        Command::GitGate(args) => gate::main(&dirs, args),
        Command::GateHook(args) => gate::hook_main(&dirs, args),
        Command::Supervise(args) => approvals::main(&dirs, args),
        Command::Control(args) => control::main(&dirs, args),
    }
}
