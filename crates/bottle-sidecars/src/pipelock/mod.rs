//! The last door before the internet: it decides what may leave, to which address, with which credential.
//!
//! Map: `policy` (both policy files and the secrets), `active` (the policy in force), `internal` and `standalone` (requests
//! from egress, or from the guest itself), `forward` (judges and sends), `resend` (what is sent again), `scan` (searches for secrets), `aws` (signs), `approval` and
//! `approval_client` (a person decides about a finding), `refusal`, `usage` (limits), `windows` (the ends of what was sent), `response` and `redact` (answers),
//! `websocket`, `tunnel` (TLS that is not ended), `dial` (resolves, checks, connects).
//!
//! Always: the scan comes before the credential; the address that was checked is the one that is dialled; the route that
//! egress names is checked again; no value of a secret is in an answer or a log. Routes and rules are compiled in the
//! libraries, and do not belong here.

mod active;
mod approval;
mod approval_client;
mod aws;
mod dial;
mod forward;
mod internal;
mod policy;
mod redact;
mod refusal;
mod resend;
mod response;
mod scan;
mod standalone;
mod tunnel;
mod usage;
mod websocket;
mod windows;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bottle_types::door::Door;
use bottle_wire::proposal::PolicyFile;
use tokio::task::JoinSet;

use crate::ca::Ca;
use crate::common::{self, Dirs, Error, PIPELOCK_SOCKET};
use crate::confirm;
use crate::credentials::CredentialStatus;
use crate::proxy::access::LogFile;
use crate::proxy::run;
use crate::proxy::server::ProxyServer;
use active::Forwarder;
use policy::{Policy, PolicyTexts};

#[derive(Debug, clap::Args)]
pub(crate) struct PipelockArgs {
    /// The policy file, `pipelock.yaml`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The routes [default: routes.yaml beside the policy file].
    #[arg(long, value_name = "FILE")]
    pub(crate) routes: Option<PathBuf>,
}

pub(crate) fn main(dirs: &Dirs, args: PipelockArgs) -> ExitCode {
    let routes = args.routes.unwrap_or_else(|| args.config.with_file_name("routes.yaml"));
    let files = Files { dirs: dirs.clone(), config: args.config, routes };
    run::daemon(async || {
        let policy = files.policy(&files.texts()?)?;
        let guest_proxy = policy.pipelock.guest_proxy;
        let hashes = (policy.hash.clone(), policy.routes_hash.clone());
        let generation = policy.generation;
        let forwarder = Arc::new(Forwarder::new(
            policy,
            approval_client::ApprovalClient::new(&files.dirs),
            usage::UsageLog::open(&files.dirs)?,
        ));
        let dirs = &files.dirs;
        let log_file = LogFile::open(&dirs.log("pipelock.jsonl"))?;
        let mut doors = JoinSet::new();
        if guest_proxy {
            let ca = Ca::open(&dirs.state, Door::Pipelock)?;
            let server = ProxyServer::new(
                Door::Pipelock,
                ca,
                Arc::clone(&log_file),
                standalone::StandaloneHandler::new(Arc::clone(&forwarder)),
            )?;
            let socket = dirs.socket(Door::Pipelock);
            doors.spawn(server.serve(common::listen(&socket, 0o666)?));
            tracing::info!("pipelock ready for the guest at {}", socket.display());
        }
        // The last to be made: whoever sees it finds the guest's there too.
        let internal = dirs.internal.join(PIPELOCK_SOCKET);
        doors.spawn(internal::serve(common::listen(&internal, 0o666)?, Arc::clone(&forwarder), log_file));
        files.report(&hashes, Some(generation), None);
        tracing::info!("pipelock ready at {}", internal.display());
        let work = async move {
            doors.join_next().await;
        };
        let reload = move || files.reload(&forwarder, guest_proxy);
        Ok::<_, Error>((work, reload))
    })
}

/// Where the policy is.
struct Files {
    dirs: Dirs,
    config: PathBuf,
    routes: PathBuf,
}

impl Files {
    fn texts(&self) -> Result<PolicyTexts, Error> {
        PolicyTexts::read(&self.config, &self.routes)
    }

    fn policy(&self, texts: &PolicyTexts) -> Result<Policy, Error> {
        Policy::new(&self.dirs, &self.config, &self.routes, texts)
    }

    fn report(&self, hashes: &(String, String), generation: Option<u64>, refused: Option<String>) {
        let read = [(PolicyFile::Pipelock, hashes.0.as_str()), (PolicyFile::Routes, hashes.1.as_str())];
        confirm::report(&self.dirs, &read, generation, refused);
    }

    fn reload(&self, forwarder: &Forwarder, guest_proxy: bool) {
        let texts = match self.texts() {
            Ok(texts) => texts,
            Err(error) => return tracing::error!("the old policy stays in force: {error}"),
        };
        // Before the policy is read: what it says is as new as it, or newer.
        let generation = CredentialStatus::read(&self.dirs).ok().map(|status| status.generation);
        let refused = match self.policy(&texts) {
            Ok(policy) if policy.pipelock.guest_proxy != guest_proxy => {
                Some("`guest_proxy` takes a new start".to_owned())
            }
            Ok(policy)
                if common::loses_canary(&forwarder.active().policy.pipelock.secrets, &policy.pipelock.secrets) =>
            {
                Some(common::CANARY_IS_LOST.to_owned())
            }
            Ok(policy) => {
                forwarder.replace(policy);
                tracing::info!("took the new policy");
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = &refused {
            tracing::error!("the old policy stays in force: {reason}");
        }
        self.report(&texts.hashes(), generation, refused);
    }
}
