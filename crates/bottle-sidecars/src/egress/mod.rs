//! The guest's HTTP(S) proxy: it decides which requests may go, and records and replays the model's traffic.
//!
//! Map: `handler` (the way of a request), `policy` (the routes), `model` (budget, replay and recording of the model's
//! routes), `ledger` and `account` (the model's cost), `recording` (a reply read along), `mcp` (the routes of MCP servers), `forge` (the route by which a forge is read), `client` and `pipe` (the way on to
//! pipelock).
//!
//! Always: this process parses the guest's bytes and holds the CA's key, so it is given no credential; it has no way out
//! but pipelock's socket; with `replay`, nothing that a model route allows goes even there.
//! The proxy itself (`crate::proxy`) and the search for secrets (`crate::pipelock`) do not belong here.

mod account;
mod client;
mod forge;
mod handler;
mod ledger;
mod mcp;
mod model;
mod pipe;
mod policy;
mod recording;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bottle_types::door::Door;
use bottle_wire::proposal::{PolicyFile, sha256};

use crate::ca::Ca;
use crate::common::{self, Dirs, Error};
use crate::confirm;
use crate::proxy::access::LogFile;
use crate::proxy::run;
use crate::proxy::server::ProxyServer;

#[derive(Debug, clap::Args)]
pub(crate) struct EgressArgs {
    /// The policy file, `routes.yaml`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

pub(crate) fn main(dirs: &Dirs, args: EgressArgs) -> ExitCode {
    let dirs = dirs.clone();
    run::daemon(async || {
        let text = common::read(&args.config)?;
        let policy = policy::RoutePolicy::new(&args.config, &text)?;
        let hash = policy.hash.clone();
        let model = model::Model::open(&dirs)?;
        let log_file = LogFile::open(&dirs.log("egress.jsonl"))?;
        let ca = Ca::open(&dirs.state, Door::Egress)?;
        let server = ProxyServer::new(Door::Egress, ca, log_file, handler::EgressHandler::new(policy, model, &dirs))?;
        let socket = dirs.socket(Door::Egress);
        let listener = common::listen(&socket, 0o666)?;
        confirm::report(&dirs, &[(PolicyFile::Routes, &hash)], None, None);
        tracing::info!("egress ready at {}", socket.display());
        let work = Arc::clone(&server).serve(listener);
        let reload = move || reload(&dirs, &args.config, server.handler());
        Ok::<_, Error>((work, reload))
    })
}

fn reload(dirs: &Dirs, config: &Path, egress: &handler::EgressHandler) {
    let text = match common::read(config) {
        Ok(text) => text,
        Err(error) => return tracing::error!("the old routes stay in force: {error}"),
    };
    let refused = match policy::RoutePolicy::new(config, &text) {
        Ok(policy) => {
            egress.replace(policy);
            tracing::info!("took the new routes from {}", config.display());
            None
        }
        Err(error) => {
            tracing::error!("the old routes stay in force: {error}");
            Some(error.to_string())
        }
    };
    confirm::report(dirs, &[(PolicyFile::Routes, &sha256(&text))], None, refused);
}
