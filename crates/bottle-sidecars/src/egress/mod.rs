//! The guest's HTTP(S) proxy: which requests may go, model traffic recorded and replayed; the rest is pipelock's.
//!
//! Map: `back` (routes, and the way on to pipelock), `model` (replay and recording), `ledger` (what the
//! model may cost), `pipe` (pipelock's socket). The
//! proxy itself is `crate::proxy`, what is decided is in `bottle_policy::matcher`.
//!
//! Always: this process parses the guest's bytes and holds the CA's key, so it is given no credential; it has no way out
//! but pipelock's socket; with `replay`, nothing that a model route allows goes even there.

mod back;
mod ledger;
mod model;
mod pipe;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bottle_policy::door::Door;

use crate::ca::Ca;
use crate::common::{self, Dirs, Error};
use crate::proxy::access::Log;
use crate::proxy::front::Front;
use crate::proxy::run;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The policy file, `routes.yaml`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

pub(crate) fn main(dirs: &Dirs, args: Args) -> ExitCode {
    run::daemon(async || {
        let policy = back::Policy::read(&args.config)?;
        let model = model::Model::open(dirs)?;
        let log = Log::open(&dirs.log("egress.jsonl"))?;
        let ca = Ca::open(&dirs.state, Door::Egress)?;
        let front = Front::new(Door::Egress, ca, log, back::Egress::new(policy, model, dirs));
        let socket = dirs.socket(Door::Egress);
        let listener = common::listen(&socket, 0o666)?;
        tracing::info!("egress ready at {}", socket.display());
        let work = Arc::clone(&front).serve(listener);
        let reload = move || match back::Policy::read(&args.config) {
            Ok(policy) => {
                front.back().replace(policy);
                tracing::info!("took the new routes from {}", args.config.display());
            }
            Err(error) => tracing::error!("the old routes stay in force: {error}"),
        };
        Ok::<_, Error>((work, reload))
    })
}
