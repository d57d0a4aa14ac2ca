//! The supervisor's control socket: daemons say which policy they go by, supervise asks for a new one.
//!
//! A connection is one line, and one line back where there is an answer. Who is at its other end is told by the kernel:
//! a report counts for the daemon whose process it comes from, a policy is taken from root, from this user and from
//! supervise, credentials from root and from this user alone.

use std::time::Duration;

use bottle_policy::bundle::Bundle;
use bottle_types::door::Door;
use bottle_wire::control::{Applied, CredentialUpdate, CredentialsTaken};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::lines::say;
use crate::confirm::{Install, MAX_LINE_BYTES, Report, SupervisorMessage};

/// For a line to come.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is to be put in force, and where the answer goes.
pub(super) enum InstallRequest {
    Policy(Install, oneshot::Sender<Applied>),
    Credentials(Vec<CredentialUpdate>, oneshot::Sender<CredentialsTaken>),
}

/// Where lines lead to.
#[derive(Clone)]
pub(super) struct ControlChannels {
    /// Process and what it says; to the one who knows whose process it is.
    pub(super) reports: mpsc::Sender<(i32, Report)>,
    pub(super) wanted: mpsc::Sender<InstallRequest>,
    /// Users that may ask for a policy.
    pub(super) allowed_users: Vec<u32>,
    /// Users that may give credentials: root and this process' own.
    pub(super) givers: [u32; 2],
}

impl ControlChannels {
    pub(super) fn new(
        bundle: &Bundle,
        reports: mpsc::Sender<(i32, Report)>,
        wanted: mpsc::Sender<InstallRequest>,
    ) -> Self {
        let supervise = bundle.daemons.iter().find(|daemon| daemon.door == Door::Supervise);
        let supervise = supervise.and_then(|daemon| daemon.user.as_ref()).map(|user| user.id);
        let own_user = rustix::process::geteuid().as_raw();
        let allowed_users = [0, own_user].into_iter().chain(supervise).collect();
        Self { reports, wanted, allowed_users, givers: [0, own_user] }
    }
}

/// Takes connections for ever.
pub(super) async fn serve(listener: UnixListener, channels: ControlChannels) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, channels.clone()));
            }
            Err(error) => {
                say("supervisor", &format!("failed to accept a control connection: {error}"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, channels: ControlChannels) {
    let Ok(peer) = stream.peer_cred() else { return };
    let (reader, mut writer) = stream.into_split();
    let mut line = vec![];
    let mut reader = BufReader::new(reader.take(MAX_LINE_BYTES));
    match timeout(LINE_TIMEOUT, reader.read_until(b'\n', &mut line)).await {
        Ok(Ok(_)) if line.ends_with(b"\n") => {}
        _ => return say("supervisor", &format!("process {:?} said nothing that ends in time", peer.pid())),
    }
    // Whoever is told nothing back finds the connection closed.
    match serde_json::from_slice(&line) {
        Ok(SupervisorMessage::Report(report)) => {
            let Some(pid) = peer.pid() else { return };
            let _ = channels.reports.send((pid, report)).await;
        }
        Ok(SupervisorMessage::Install(_)) if !channels.allowed_users.contains(&peer.uid()) => {
            say("supervisor", &format!("refused a policy of user {}", peer.uid()));
        }
        Ok(SupervisorMessage::Install(install)) => {
            let (to, answer) = oneshot::channel();
            if channels.wanted.send(InstallRequest::Policy(install, to)).await.is_ok() {
                tell(&mut writer, answer).await;
            }
        }
        Ok(SupervisorMessage::Credentials(_)) if !channels.givers.contains(&peer.uid()) => {
            say("supervisor", &format!("refused credentials of user {}", peer.uid()));
        }
        Ok(SupervisorMessage::Credentials(updates)) => {
            let (to, answer) = oneshot::channel();
            if channels.wanted.send(InstallRequest::Credentials(updates, to)).await.is_ok() {
                tell(&mut writer, answer).await;
            }
        }
        Err(error) => say("supervisor", &format!("user {} sent no message: {error}", peer.uid())),
    }
}

/// Says what has come of it: it is in force or not, whether anybody still wants to know.
async fn tell<T: Serialize>(writer: &mut OwnedWriteHalf, answer: oneshot::Receiver<T>) {
    let Ok(answer) = answer.await else { return };
    let mut line = serde_json::to_vec(&answer).unwrap_or_default();
    line.push(b'\n');
    let _ = writer.write_all(&line).await;
}
