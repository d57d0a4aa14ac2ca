//! The control socket: what the runner wants, from inside of the bundle. The guest never sees it.

use std::sync::Arc;
use std::time::Duration;

use bottle_policy::control::Call;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::desk::Desk;
use crate::confirm::LONGEST_LINE;

/// For a line to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once.
const MOST: usize = 32;

/// Takes connections for ever, of root and of this user alone.
pub(super) async fn serve(listener: UnixListener, desk: Desk) {
    let friends = [0, rustix::process::geteuid().as_raw()];
    let permits = Arc::new(Semaphore::new(MOST));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("failed to accept a control connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(peer) if friends.contains(&peer.uid()) => {
                let (desk, permits) = (desk.clone(), Arc::clone(&permits));
                tokio::spawn(async move {
                    let Ok(_permit) = permits.acquire().await else { return };
                    connection(stream, desk).await;
                });
            }
            Ok(peer) => tracing::warn!("refused a control connection of user {}", peer.uid()),
            Err(error) => tracing::warn!("refused a control connection of nobody known: {error}"),
        }
    }
}

async fn connection(stream: UnixStream, desk: Desk) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(LONGEST_LINE));
    let mut line = vec![];
    match timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await {
        Ok(Ok(_)) if line.ends_with(b"\n") => {}
        _ => return,
    }
    // Whoever is told nothing back finds the connection closed.
    match serde_json::from_slice(&line) {
        Ok(Call::List) => answer(&mut writer, desk.list().await).await,
        Ok(Call::Decide(decide)) => answer(&mut writer, desk.decide(decide).await).await,
        Ok(Call::Apply(apply)) => answer(&mut writer, desk.apply(apply).await).await,
        Ok(Call::Watch) => {
            let Some(mut updates) = desk.watch().await else { return };
            let mut end = [0; 1];
            loop {
                let update = tokio::select! {
                    update = updates.recv() => update,
                    // Nothing more is said on this side but the end.
                    _ = reader.read(&mut end) => return,
                };
                let Some(update) = update else { return };
                if !say(&mut writer, &update).await {
                    return;
                }
            }
        }
        Err(error) => tracing::warn!("a control connection sent no call: {error}"),
    }
}

async fn answer(writer: &mut OwnedWriteHalf, answer: Option<impl Serialize>) {
    if let Some(answer) = answer {
        say(writer, &answer).await;
    }
}

async fn say(writer: &mut OwnedWriteHalf, value: &impl Serialize) -> bool {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    writer.write_all(&line).await.is_ok()
}
