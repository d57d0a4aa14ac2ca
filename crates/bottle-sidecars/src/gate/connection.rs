//! A connection: a real `git daemon --inetd`, which knows nothing but the declared mirrors. Nothing of it outlives it, no
//! process and no file, however its processes end.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::net::RecvFlags;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use super::dirs::GateDirs;
use super::policy::AcceptedPolicy;
use super::process::CONNECTION_TIMEOUT;
use super::signing::{self, Signer};
use super::{lfs, mirror, process, sweep, transport};

/// More agents than this at once would be a mistake or an attack.
const MAX_CONNECTIONS: usize = 32;
/// Time for a client's first line.
const FIRST_LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a client that is turned away to say what it wanted.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A service, a path, a host and a protocol version.
const MAX_FIRST_LINE_BYTES: usize = 4096;
/// Serves one connection, under the policy that was in force when it came.
pub(super) async fn serve(
    policy: Arc<AcceptedPolicy>,
    stream: UnixStream,
    connections: Connections,
    signer: Arc<Signer>,
) {
    let Some(seat) = connections.take_seat() else {
        tracing::warn!("refused a connection: {MAX_CONNECTIONS} are open");
        return turn_away(stream, "too many connections; try again").await;
    };
    let tmp = match TempDir::new_in(&policy.gate.tmp) {
        Ok(tmp) => tmp,
        Err(error) => return tracing::error!("failed to make a directory in {}: {error}", policy.gate.tmp.display()),
    };
    let gate = GateDirs { tmp: tmp.path().to_owned(), ..policy.gate.clone() };
    match tokio::time::timeout(FIRST_LINE_TIMEOUT, requested_service(&stream)).await {
        Ok(Ok(Some(Service::Lfs))) => lfs::serve(&gate, stream).await,
        Ok(Ok(Some(Service::Sign))) => signing::serve(&gate, stream, signer).await,
        Ok(Ok(Some(service))) => {
            if let Err(error) = git_daemon(&gate, stream, service, &seat).await {
                tracing::warn!("git daemon: {error}");
            }
        }
        Ok(Ok(None)) => {
            turn_away(stream, "only fetches and pushes are served here").await;
        }
        Ok(Err(error)) => tracing::debug!("a connection ended before it asked for anything: {error}"),
        Err(_) => {
            tracing::warn!("ended a connection that asked for nothing in {} s", FIRST_LINE_TIMEOUT.as_secs());
            turn_away(stream, "nothing was asked for in time").await;
        }
    }
    // A scan's files may be many.
    let tidied = tokio::task::spawn_blocking(move || {
        transport::close(&gate);
        sweep::remove_surely(&tmp.keep());
        drop(seat);
        lfs::sweep(&gate);
        sweep::what_nobody_uses(&gate, connections.oldest());
    });
    let _ = tidied.await;
}

/// Says why, and closes. The client's request is read first: git dies without a word when it writes to who has closed already,
/// and may lose an answer that is sent beside bytes that nobody read.
async fn turn_away(mut stream: UnixStream, why: &str) {
    let mut requested_service = [0; MAX_FIRST_LINE_BYTES];
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, stream.read(&mut requested_service)).await;
    let _ = stream.write_all(&pkt_line(&format!("ERR git-gate: {why}"))).await;
    let _ = stream.shutdown().await;
}

/// Services that a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Fetch,
    Push,
    /// HTTP, which git-lfs speaks.
    Lfs,
    /// A signature of a commit, for which the link asks.
    Sign,
}

/// Looks at the first line, as soon as all of it is there, and leaves it for git daemon to read; `None`: none that is served.
async fn requested_service(stream: &UnixStream) -> std::io::Result<Option<Service>> {
    let mut buffer = [0; MAX_FIRST_LINE_BYTES];
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let count = match rustix::net::recv(stream, &mut buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok((_, count)) => count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        if let Some(length) = buffer[..count].first_chunk::<4>() {
            // No length begins so.
            if matches!(length, b"GET " | b"POST" | b"PUT ") {
                return Ok(Some(Service::Lfs));
            }
            let length = std::str::from_utf8(length).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
            let Some(length) = length.filter(|length| (5..=MAX_FIRST_LINE_BYTES).contains(length)) else {
                return Ok(None);
            };
            if let Some(line) = buffer[..count].get(4..length) {
                return Ok(if line.starts_with(b"git-upload-pack ") {
                    Some(Service::Fetch)
                } else if line.starts_with(signing::REQUEST) {
                    Some(Service::Sign)
                } else {
                    line.starts_with(b"git-receive-pack ").then_some(Service::Push)
                });
            }
        }
        if ready.is_read_closed() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        // The bytes that were looked at are still there, so the socket stays readable.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn pkt_line(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

async fn git_daemon(gate: &GateDirs, stream: UnixStream, service: Service, seat: &Seat) -> std::io::Result<()> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let stream = OwnedFd::from(stream);
    let mut command = process::git(&gate.home());
    command
        .args(["daemon", "--inetd", "--export-all", "--informative-errors"])
        .args(["--init-timeout=30", "--timeout=600", "--log-destination=none"])
        .arg(format!("--base-path={}", gate.root().display()))
        .arg(format!("--access-hook={}", gate.private_path("hooks").join("access").display()))
        .stdin(Stdio::from(stream.try_clone()?))
        .stdout(Stdio::from(stream))
        .stderr(Stdio::null());
    gate.tell_hooks(&mut command);
    if service == Service::Push {
        // A few bytes of a pack can mean gigabytes.
        command.arg("--enable=receive-pack").env("GIT_ALLOC_LIMIT", mirror::max_alloc_bytes(gate).to_string());
    }
    command.args(gate.policy.upstreams.iter().map(|upstream| gate.mirror(&upstream.name)));
    for name in ["SSL_CERT_FILE", "GIT_SSL_CAINFO"] {
        if let Some(value) = process::variable(name) {
            command.env(name, value);
        }
    }
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = tokio::process::Command::from(command).spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    seat.set_group(group);
    match tokio::time::timeout(CONNECTION_TIMEOUT, child.wait()).await {
        Ok(Ok(status)) if status.signal().is_some() => tracing::warn!("git daemon ended with {status}"),
        Ok(_) => {}
        Err(_) => tracing::warn!("a connection was open for {} s: ended", CONNECTION_TIMEOUT.as_secs()),
    }
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    seat.set_group(None);
    Ok(())
}

/// An open connection: since when, and its process group.
#[derive(Debug, Clone, Copy)]
struct OpenConnection {
    since: SystemTime,
    group: Option<Pid>,
}

/// The open connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<BTreeMap<u64, OpenConnection>>>);

/// One of the few that may be open; given back when it is dropped.
#[derive(Debug)]
struct Seat {
    connections: Connections,
    number: u64,
}

impl Seat {
    fn set_group(&self, group: Option<Pid>) {
        if let Some(open) = self.connections.table().get_mut(&self.number) {
            open.group = group;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.table().remove(&self.number);
    }
}

impl Connections {
    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, OpenConnection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_seat(&self) -> Option<Seat> {
        let mut table = self.table();
        if table.len() >= MAX_CONNECTIONS {
            return None;
        }
        let number = table.last_key_value().map_or(0, |(last, _)| last + 1);
        table.insert(number, OpenConnection { since: SystemTime::now(), group: None });
        Some(Seat { connections: self.clone(), number })
    }

    /// When the oldest of them was opened; now, where there is none.
    fn oldest(&self) -> SystemTime {
        self.table().values().map(|open| open.since).min().unwrap_or_else(SystemTime::now)
    }

    fn groups(&self) -> Vec<Pid> {
        self.table().values().filter_map(|open| open.group).collect()
    }

    /// Ends them all, within half a second.
    pub(super) async fn end(&self) {
        for group in self.groups() {
            let _ = kill_process_group(group, Signal::TERM);
        }
        for _ in 0..25 {
            if self.groups().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for group in self.groups() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
