//! The MCP server through which the agent asks for more: streamable HTTP on a unix socket.
//!
//! Map: `tools` (what an MCP client sees), `desk` (the one task that decides and writes `proposals.jsonl`), `view` (what
//! is allowed now, as the agent may know it), `limits` (floods), `serve` (sockets and HTTP).
//! Always: nothing is granted here; a request that can't be recorded is refused; the file is a chain of hashes that a
//! restart goes on with. No secret is ever read. What a request means is in `bottle_policy::supervise`.

mod desk;
mod limits;
mod serve;
mod tools;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use bottle_policy::door;
use bottle_policy::supervise::{Approval, SupervisePolicy};

use crate::common::{self, Dirs};

/// The format of supervise.yaml that this program reads.
const VERSION: u32 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The policy file.
    #[arg(long, value_name = "FILE", default_value_os_t = PathBuf::from(door::CONFIG_DIR).join("supervise.yaml"))]
    pub(crate) config: PathBuf,
    /// The routes in force [default: routes.yaml beside the policy file, where there is one].
    #[arg(long, value_name = "FILE")]
    routes: Option<PathBuf>,
    /// The push rules in force [default: gate.yaml beside the policy file, where there is one].
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
}

/// Why the server can't start, or can't go on.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Common(#[from] common::Error),
    #[error("failed to go on with {}: {reason}", path.display())]
    Chain { path: PathBuf, reason: String },
    #[error("failed to start: {0}")]
    Start(std::io::Error),
}

pub(crate) fn main(dirs: &Dirs, args: Args) -> ExitCode {
    match run(dirs, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(dirs: &Dirs, args: Args) -> Result<(), Error> {
    let policy: SupervisePolicy = common::read_policy(&args.config)?;
    if policy.version != VERSION {
        let reason = format!("version {} is not one that this program knows ({VERSION})", policy.version);
        return Err(common::Error::Policy { path: args.config, reason }.into());
    }
    if policy.approval != Approval::Deny {
        tracing::warn!("approval by `{}` is not decided in this version: every request is refused", policy.approval);
    }
    let files = view::Files::new(&args.config, args.routes, args.gate);
    let view = view::View::read(&files, policy.approval)?;
    let book = desk::Book::open(&dirs.log("proposals.jsonl"), &policy)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
    runtime.block_on(serve::serve(dirs, desk::Desk::open(book, view), files))
}
