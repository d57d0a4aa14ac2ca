//! The supervisor, PID 1 of the bundle: it makes the directories, starts the sidecars that `bundle.yaml` names, each under
//! its own user, keeps them running, and ends them at once when told to.
//!
//! Map: `dirs` (owners and modes), `identity` (the step between fork and the sidecar), `daemon` (one sidecar's life), `run`
//! (the loop: the only owner of all daemons), `lines` (log lines with names), `control` (its socket inside of the bundle),
//! `install` (puts a policy in force), `credentials` (their files), `error`.
//!
//! Always: no daemon outlives the supervisor; one that can't be kept running ends the bundle, because a bundle without a
//! door must not look healthy; a policy is checked before it is put in place. The meaning of a policy does not belong here.

mod control;
mod credentials;
mod daemon;
mod dirs;
mod error;
mod identity;
mod install;
mod lines;
mod run;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use bottle_policy::bundle::Bundle;
use bottle_types::door;

use crate::common::{self, Dirs};
use error::InitError;

/// The format of bundle.yaml that this program reads.
const VERSION: u32 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct SupervisorArgs {
    /// The sidecars to run; their own policies are beside this file.
    #[arg(long, value_name = "FILE", default_value_os_t = PathBuf::from(door::CONFIG_DIR).join("bundle.yaml"))]
    pub(crate) config: PathBuf,
    /// Become this user and then run the command (not for people).
    #[arg(long, hide = true, value_name = "IDENTITY", requires = "command")]
    exec_as: Option<identity::Identity>,
    /// The command of --exec-as.
    #[arg(last = true, hide = true, num_args = 1..)]
    command: Vec<OsString>,
}

pub(crate) fn main(dirs: &Dirs, args: SupervisorArgs) -> ExitCode {
    let result = match &args.exec_as {
        Some(identity) => identity.exec(&args.command),
        None => supervise(dirs, &args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            lines::say("supervisor", &format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn supervise(dirs: &Dirs, args: &SupervisorArgs) -> Result<(), InitError> {
    let bundle: Bundle = common::read_policy(&args.config)?;
    check(&bundle).map_err(|reason| common::Error::Policy { path: args.config.clone(), reason })?;
    dirs::prepare(dirs, &bundle)?;
    let config_dir = args.config.parent().unwrap_or_else(|| std::path::Path::new("."));
    let start = |error| InitError::Start { what: "the supervisor".to_owned(), error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start)?;
    runtime.block_on(run::run(dirs, &bundle, config_dir))
}

fn check(bundle: &Bundle) -> Result<(), String> {
    if bundle.version != VERSION {
        return Err(format!("version {} is not one that this program knows ({VERSION})", bundle.version));
    }
    if bundle.daemons.is_empty() {
        return Err("there are no daemons to run".to_owned());
    }
    for (at, daemon) in bundle.daemons.iter().enumerate() {
        let name = daemon.door.name();
        if bundle.daemons[..at].iter().any(|other| other.door == daemon.door) {
            return Err(format!("{name} is named twice"));
        }
        if daemon.config.is_empty() || daemon.config.starts_with('.') || daemon.config.contains('/') {
            return Err(format!("`{}` of {name} is not the name of a file beside this one", daemon.config));
        }
        if daemon.user.as_ref().is_some_and(|user| user.id == 0) {
            return Err(format!("{name} may not run as root"));
        }
    }
    Ok(())
}
