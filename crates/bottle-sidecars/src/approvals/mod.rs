//! supervise, the MCP server through which the agent asks for more: streamable HTTP on a unix socket.
//!
//! Map: `tools` (the MCP tools), `output_tools` (those for what people shall read), `words` (texts for the agent), `broker` (the one task that decides, applies and writes),
//! `log` (`proposals.jsonl`), `view` (what is allowed now), `limits` (floods), `apply` (the way to the supervisor),
//! `control` (the way in for the runner and pipelock), `serve` (sockets and HTTP), `error`.
//!
//! Always: nothing is granted but by a decision that is bound to what was shown and is written down; the log is a chain of
//! hashes that a restart goes on with; no credential is ever read, and of the run's secrets the canary alone, which opens nothing. The meaning of a request and the change that it makes do not
//! belong here, but in the libraries.

mod apply;
mod broker;
mod control;
mod error;
mod limits;
mod log;
mod output_tools;
mod serve;
mod tools;
mod view;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bottle_policy::outputs::OutputJudge;
use bottle_policy::supervise::SupervisePolicy;
use bottle_types::door;
use bottle_wire::control::SUPERVISOR_SOCKET;
use bottle_wire::proposal::PolicyFile;
use bottle_wire::proposal::change::Texts;

use crate::common::{self, Dirs};
use error::BrokerError;

/// The format of supervise.yaml that this program reads.
const VERSION: u32 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct SuperviseArgs {
    /// The policy file.
    #[arg(long, value_name = "FILE", default_value_os_t = PathBuf::from(door::CONFIG_DIR).join("supervise.yaml"))]
    pub(crate) config: PathBuf,
}

pub(crate) fn main(dirs: &Dirs, args: SuperviseArgs) -> ExitCode {
    match run(dirs, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(dirs: &Dirs, args: SuperviseArgs) -> Result<(), BrokerError> {
    let policy: SupervisePolicy = common::read_policy(&args.config)?;
    if policy.version != VERSION {
        let reason = format!("version {} is not one that this program knows ({VERSION})", policy.version);
        return Err(common::Error::Policy { path: args.config, reason }.into());
    }
    // Whatever else is beside it: a bottle without an upstream has no gate, one by itself has nothing to show.
    let config_dir = args.config.parent().unwrap_or_else(|| Path::new(".")).to_owned();
    let mut policies = Texts::new();
    for file in PolicyFile::ALL {
        let path = config_dir.join(file.name());
        if path.exists() {
            policies.insert(file, common::read(&path)?);
        }
    }
    let log = log::ProposalLog::open(&dirs.log("proposals.jsonl"), &policy.run, policies)?;
    let supervisor = apply::Supervisor(dirs.internal.join(SUPERVISOR_SOCKET));
    let places = broker::BrokerPaths { config_dir, spent: dirs.log("budget.jsonl"), pushes: dirs.log("gate.jsonl") };
    let outputs = policy.outputs.clone().map(OutputJudge::new).transpose();
    let outputs = outputs.map_err(|reason| common::Error::Policy { path: args.config, reason })?;
    let known = dirs.known_secrets(&policy.secrets)?;
    let offered = outputs.as_ref().map(output_tools::OfferedOutputs::of).unwrap_or_default();
    let broker = broker::Broker::new(policy, log, supervisor, places, outputs);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BrokerError::Start)?;
    runtime.block_on(serve::serve(dirs, (offered, known), broker::BrokerHandle::open(broker)))
}
