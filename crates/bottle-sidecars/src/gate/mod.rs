//! git-gate: a mirror of each upstream, and the wall that a push has to get over.
//!
//! Map: `daemon` (socket, signals), `connection` (a real `git daemon` each), `hook` (the hooks: this same binary), `mirror`, `history`,
//! `seed` and `lock` (mirrors), `push` (the phases of a push), `changes`, `stat` and `rules` (push policy), `hold` (pushes that wait for a person), `scan`, `texts`, `objects` and
//! `gitleaks` (the scan), `accepted` and `base` (what upstream has already), `allowlists` (what its own `.gitleaks.toml` allows), `transport` (ssh, https), `relay` (https through a company's proxy), `lfs` (Git LFS objects), `signing` (signatures of the run's commits), `self_test` (the repository without an upstream), `policy` (the one in force), `dirs`, `sweep`, `process`, `log`, `record`.
//!
//! Always: a mirror is refreshed before it is read or judged against, or the client gets an error; nothing is forwarded
//! that was not scanned by id in this very push; whatever fails on the way refuses. Rules about refs and paths, and the
//! unpacking of texts, do not belong here, but in the libraries.

mod accepted;
mod allowlists;
mod base;
mod changes;
mod connection;
mod daemon;
mod dirs;
mod gitleaks;
mod history;
mod hit;
mod hold;
mod hook;
mod lfs;
mod lock;
mod log;
mod mirror;
mod objects;
mod policy;
mod process;
mod push;
mod record;
mod relay;
mod rules;
mod scan;
mod seed;
mod self_test;
mod signing;
mod stat;
mod sweep;
mod texts;
mod transport;

use std::process::ExitCode;

pub(crate) use hook::HookArgs;

use crate::common::Dirs;

#[derive(Debug, clap::Args)]
pub(crate) struct GitGateArgs {
    /// The policy file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: std::path::PathBuf,
}

pub(crate) fn main(dirs: &Dirs, args: GitGateArgs) -> ExitCode {
    match daemon::serve(dirs, &args.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn hook_main(dirs: &Dirs, args: HookArgs) -> ExitCode {
    hook::main(dirs, args)
}
