//! The socket: each connection gets a real `git daemon --inetd`, which knows nothing but the declared mirrors.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bottle_policy::door::Door;
use bottle_policy::gate::GatePolicy;
use bottle_policy::gate::paths::ProtectedPaths;
use bottle_policy::gate::refs::RefRules;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixDatagram, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::hook::LOG_SOCKET;
use super::place::Place;
use super::{gitleaks, mirror, process, transport};
use crate::common::{self, Dirs, Error};

/// More agents than this at once would be a mistake or an attack.
const MOST_CONNECTIONS: usize = 32;
/// No clone and no push takes longer; what does is stuck.
pub(super) const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// Reads and checks the policy.
fn policy(dirs: &Dirs, config: &Path) -> Result<GatePolicy, Error> {
    let refuse = |reason: String| Error::Policy { path: config.to_owned(), reason };
    let policy: GatePolicy = common::read_policy(config)?;
    if policy.version != 1 {
        return Err(refuse(format!("version {} is not known here", policy.version)));
    }
    let mut names = BTreeSet::new();
    for upstream in &policy.upstreams {
        if !names.insert(upstream.name.as_str().to_lowercase()) {
            return Err(refuse(format!("two upstreams are called {}", upstream.name)));
        }
        RefRules::new(&upstream.push).map_err(|error| refuse(error.to_string()))?;
        ProtectedPaths::new(&upstream.push).map_err(|error| refuse(error.to_string()))?;
    }
    transport::check(&policy).map_err(refuse)?;
    dirs.known_secrets(&policy.secrets)?;
    Ok(policy)
}

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
    let policy = policy(&dirs, config)?;
    let place = Place { dirs, policy };
    mirror::prepare(&place, config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Make { path: "the event loop".into(), error })?;
    let result = runtime.block_on(accept(&place));
    runtime.shutdown_timeout(Duration::from_millis(100));
    transport::close(&place);
    let _ = std::fs::remove_dir_all(place.own("keys"));
    let _ = std::fs::remove_dir_all(place.own("tmp"));
    result
}

async fn accept(place: &Place) -> Result<(), Error> {
    let stop = |error| Error::Make { path: "a signal handler".into(), error };
    let mut terminated = signal(SignalKind::terminate()).map_err(stop)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(stop)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(stop)?;
    relay_log(place)?;
    let socket = place.dirs.socket(Door::GitGate);
    let listener = common::listen(&socket, 0o666)?;
    let groups = Groups::default();
    let seats = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    tracing::info!(upstreams = place.policy.upstreams.len(), dry_run = place.policy.dry_run, "git-gate ready");
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let seat = Arc::clone(&seats).try_acquire_owned().ok();
                    tokio::spawn(connection(place.clone(), stream, seat, groups.clone()));
                }
                Err(error) => {
                    tracing::warn!("failed to accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            // The supervisor tells every door; without this the signal would end us.
            _ = hung_up.recv() => tracing::warn!("the policy in force stays: a changed gate.yaml takes a new start"),
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        }
    }
    let _ = std::fs::remove_file(&socket);
    groups.end().await;
    Ok(())
}

/// Hooks have the client at the other end of their standard output; what they log comes here.
fn relay_log(place: &Place) -> Result<(), Error> {
    let path = place.own(LOG_SOCKET);
    let make = |error| Error::Make { path: path.clone(), error };
    if path.exists() {
        std::fs::remove_file(&path).map_err(make)?;
    }
    let socket = UnixDatagram::bind(&path).map_err(make)?;
    tokio::spawn(async move {
        let mut buffer = vec![0; 8 << 10];
        while let Ok(count) = socket.recv(&mut buffer).await {
            tracing::info!("{}", process::printable(&String::from_utf8_lossy(&buffer[..count])));
        }
    });
    Ok(())
}

async fn connection(place: Place, mut stream: UnixStream, seat: Option<OwnedSemaphorePermit>, groups: Groups) {
    let Some(_seat) = seat else {
        tracing::warn!("refused a connection: {MOST_CONNECTIONS} are open");
        let _ = stream.write_all(&pkt_line("ERR git-gate: too many connections; try again")).await;
        return;
    };
    if let Err(error) = git_daemon(&place, stream, &groups).await {
        tracing::warn!("git daemon: {error}");
    }
}

fn pkt_line(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

async fn git_daemon(place: &Place, stream: UnixStream, groups: &Groups) -> std::io::Result<()> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let stream = OwnedFd::from(stream);
    let mut command = process::git(&place.home());
    command
        .args(["daemon", "--inetd", "--export-all", "--enable=receive-pack", "--informative-errors"])
        .args(["--init-timeout=30", "--timeout=600", "--log-destination=none"])
        .arg(format!("--base-path={}", place.root().display()))
        .arg(format!("--access-hook={}", place.own("hooks").join("access").display()))
        .args(place.policy.upstreams.iter().map(|upstream| place.mirror(&upstream.name)))
        .stdin(Stdio::from(stream.try_clone()?))
        .stdout(Stdio::from(stream))
        .stderr(Stdio::null());
    for name in ["SSL_CERT_FILE", "GIT_SSL_CAINFO"] {
        if let Some(value) = process::variable(name) {
            command.env(name, value);
        }
    }
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = tokio::process::Command::from(command).spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(group) = group {
        groups.add(group);
    }
    if tokio::time::timeout(LONGEST, child.wait()).await.is_err() {
        tracing::warn!("a connection was open for {} s: ended", LONGEST.as_secs());
    }
    if let Some(group) = group {
        // Nothing of this connection outlives it.
        let _ = kill_process_group(group, Signal::KILL);
        groups.remove(group);
        let _ = std::fs::remove_dir_all(gitleaks::waiting(place, group));
    }
    Ok(())
}

/// The process groups of the open connections.
#[derive(Debug, Clone, Default)]
struct Groups(Arc<Mutex<BTreeSet<i32>>>);

impl Groups {
    fn add(&self, group: Pid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(group.as_raw_nonzero().get());
    }

    fn remove(&self, group: Pid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&group.as_raw_nonzero().get());
    }

    fn all(&self) -> Vec<Pid> {
        let groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        groups.iter().filter_map(|group| Pid::from_raw(*group)).collect()
    }

    /// Ends them all, within half a second.
    async fn end(&self) {
        for group in self.all() {
            let _ = kill_process_group(group, Signal::TERM);
        }
        for _ in 0..25 {
            if self.all().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for group in self.all() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
