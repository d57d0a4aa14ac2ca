//! The hooks that git calls back. Their standard output and error are read by git and by the agent, so nothing is logged
//! there: log lines go through [`super::log`].

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::dirs::GateDirs;
use super::gitleaks::Scanner;
use super::{log, mirror, push, self_test, transport};
use crate::common::Dirs;

/// Arguments of `gate-hook`.
#[derive(Debug, clap::Args)]
pub(crate) struct HookArgs {
    #[command(subcommand)]
    hook: Hook,
}

#[derive(Debug, clap::Subcommand)]
enum Hook {
    /// git daemon's access hook: SERVICE PATH HOST CANONICAL-HOST ADDRESS PORT.
    Access {
        #[arg(last = true)]
        words: Vec<String>,
    },
    /// git receive-pack's pre-receive hook.
    PreReceive {
        #[arg(last = true)]
        words: Vec<String>,
    },
    /// git's credential helper: REPOSITORY ACTION.
    Credential {
        #[arg(last = true)]
        words: Vec<String>,
    },
}

pub(super) fn main(dirs: &Dirs, args: HookArgs) -> ExitCode {
    let gate = match GateDirs::open(dirs) {
        Ok(gate) => gate,
        Err(error) => return say(&format!("git-gate: {error}")),
    };
    match args.hook {
        Hook::Access { words } => match access(&gate, &words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                log::send(dirs, &format!("refused: {reason}"));
                say(&format!("git-gate: {reason}"))
            }
        },
        Hook::PreReceive { .. } => push::main(&gate),
        Hook::Credential { words } => {
            let [name, action] = &words[..] else { return ExitCode::FAILURE };
            match transport::credential(&gate, dirs, name, action) {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => {
                    log::send(dirs, &format!("credential refused: {reason}"));
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// Refreshes the mirror before anything is read from it or judged against it.
fn access(gate: &GateDirs, words: &[String]) -> Result<(), String> {
    let [service, path, ..] = words else { return Err("called without a service and a path".to_owned()) };
    if !matches!(service.as_str(), "upload-pack" | "receive-pack") {
        return Err(format!("{service} is not served here"));
    }
    let path = Path::new(path).canonicalize().map_err(|_| "no such repository".to_owned())?;
    let upstream = gate.upstream_at(&path).ok_or("no such repository")?;
    if self_test::is(upstream) {
        // There is nothing to refresh it from, and what it is pushed needs no gitleaks.
        return Ok(());
    }
    if service == "receive-pack"
        && let Err(reason) = Scanner::warm_up(gate)
    {
        // The push will start its own, or be refused.
        log::send(&gate.dirs, &reason);
    }
    let start = std::time::Instant::now();
    mirror::refresh(gate, upstream)?;
    log::send(&gate.dirs, &format!("{service} {}: refreshed in {} ms", upstream.name, start.elapsed().as_millis()));
    Ok(())
}

/// One line for git daemon, which passes it on to the client.
fn say(line: &str) -> ExitCode {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
    ExitCode::FAILURE
}
