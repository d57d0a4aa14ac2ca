//! The socket, and the signals: SIGHUP takes the policy anew, SIGTERM and SIGINT end it all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bottle_types::door::Door;
use bottle_wire::proposal::{PolicyFile, sha256};
use rustix::fs::Mode;
use tokio::signal::unix::{SignalKind, signal};

use super::connection::{self, Connections};
use super::dirs;
use super::policy::AcceptedPolicy;
use super::signing::Signer;
use super::{log, sweep};
use crate::common::{self, Dirs, Error};
use crate::confirm;
use crate::credentials::CredentialStatus;

/// Serves until SIGTERM or SIGINT.
pub(super) fn serve(dirs: &Dirs, config: &Path) -> Result<(), Error> {
    let state = std::path::absolute(&dirs.state).and_then(|path| {
        std::fs::create_dir_all(&path)?;
        path.canonicalize()
    });
    let absolute = |path: &PathBuf, found: std::io::Result<PathBuf>| {
        found.map_err(|error| Error::Read { path: path.clone(), error })
    };
    let dirs = Dirs {
        state: absolute(&dirs.state, state)?,
        secrets: absolute(&dirs.secrets, std::path::absolute(&dirs.secrets))?,
        ..dirs.clone()
    };
    // The guest, another user, may read the mirror; what is the gate's alone is in directories of its own.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    dirs::clear(&dirs)?;
    sweep::before_start(&dirs.state.join("git"));
    let text = common::read(config)?;
    let generation = generation(&dirs);
    let policy = AcceptedPolicy::take(&dirs, config, &text, 1, None)?;
    sweep::what_nobody_uses(&policy.gate, SystemTime::now());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Make { path: "the event loop".into(), error })?;
    let result = runtime.block_on(accept(&dirs, config, (policy, sha256(&text)), generation));
    runtime.shutdown_timeout(Duration::from_millis(100));
    let _ = dirs::clear(&dirs);
    result
}

async fn accept(
    dirs: &Dirs,
    config: &Path,
    (policy, hash): (AcceptedPolicy, String),
    generation: Option<u64>,
) -> Result<(), Error> {
    let stop = |error| Error::Make { path: "a signal handler".into(), error };
    let mut terminated = signal(SignalKind::terminate()).map_err(stop)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(stop)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(stop)?;
    log::relay(&policy.gate)?;
    let socket = dirs.socket(Door::GitGate);
    let listener = common::listen(&socket, 0o666)?;
    let connections = Connections::default();
    let signer = Arc::new(Signer::open(dirs)?);
    let (mut policy, mut number) = (Arc::new(policy), 1);
    let in_force = |policy: &AcceptedPolicy| (policy.gate.policy.upstreams.len(), policy.gate.policy.dry_run);
    let (upstreams, dry_run) = in_force(&policy);
    confirm::report(dirs, &[(PolicyFile::Gate, &hash)], generation, None);
    tracing::info!(upstreams, dry_run, "git-gate ready");
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(connection::serve(Arc::clone(&policy), stream, connections.clone(), Arc::clone(&signer)));
                }
                Err(error) => {
                    tracing::warn!("failed to accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            _ = hung_up.recv() => {
                number += 1;
                // Who connects meanwhile waits for the answer: the old policy or the new one.
                let (at, config, before) = (dirs.clone(), config.to_owned(), Arc::clone(&policy));
                let taken = tokio::task::spawn_blocking(move || reload(&at, &config, number, &before)).await;
                if let Ok(Some((taken, hash, generation))) = taken {
                    policy = Arc::new(taken);
                    let (upstreams, dry_run) = in_force(&policy);
                    tracing::info!(upstreams, dry_run, "a new policy is in force for new connections");
                    confirm::report(dirs, &[(PolicyFile::Gate, &hash)], generation, None);
                }
            }
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        }
    }
    let _ = std::fs::remove_file(&socket);
    connections.end().await;
    Ok(())
}

/// The generation of the credentials that are there.
fn generation(dirs: &Dirs) -> Option<u64> {
    CredentialStatus::read(dirs).ok().map(|status| status.generation)
}

/// A policy, its hash, and the generation of the credentials that were there.
type Reloaded = (AcceptedPolicy, String, Option<u64>);

/// The policy as it is in the file now; one that can't be taken is reported.
fn reload(dirs: &Dirs, config: &Path, number: u32, before: &AcceptedPolicy) -> Option<Reloaded> {
    let text = match common::read(config) {
        Ok(text) => text,
        Err(error) => {
            tracing::error!("the old policy stays in force: {error}");
            return None;
        }
    };
    let hash = sha256(&text);
    // Before the values are read: they are as new as it, or newer.
    let generation = generation(dirs);
    match AcceptedPolicy::take(dirs, config, &text, number, Some(before)) {
        Ok(taken) => Some((taken, hash, generation)),
        Err(error) => {
            tracing::error!("the old policy stays in force: {error}");
            confirm::report(dirs, &[(PolicyFile::Gate, &hash)], generation, Some(error.to_string()));
            None
        }
    }
}
