//! The control socket: what the runner wants, from inside of the bundle, and what pipelock and the gate hold. The guest never sees it.

use std::sync::Arc;
use std::time::Duration;

use bottle_policy::bundle::image_user;
use bottle_policy::supervise::Held;
use bottle_types::door::Door;
use bottle_wire::control::Call;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Take};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::broker::BrokerHandle;
use crate::confirm::MAX_LINE_BYTES;

/// For a line to come.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once.
const MAX_CONNECTIONS: usize = 32;

/// Takes connections for ever, of root and of this user alone; pipelock's and the gate's may ask about what they hold, and nothing else.
pub(super) async fn serve(listener: UnixListener, broker: BrokerHandle) {
    let own_user = rustix::process::geteuid().as_raw();
    // Questions of pipelock's never keep a decision waiting.
    let (permits, holds) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
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
            Ok(peer) if rights(peer.uid(), own_user).is_some() => {
                let Some(rights) = rights(peer.uid(), own_user) else { continue };
                let (broker, permits, holds) = (broker.clone(), Arc::clone(&permits), Arc::clone(&holds));
                tokio::spawn(async move {
                    let queue = if rights == Rights::All { &permits } else { &holds };
                    let Ok(permit) = queue.acquire().await else { return };
                    if let Some((held, stream)) = connection(stream, &broker, rights).await {
                        drop(permit);
                        let Ok(_permit) = holds.acquire().await else { return };
                        hold(held, stream, &broker).await;
                    }
                });
            }
            Ok(peer) => tracing::warn!("refused a control connection of user {}", peer.uid()),
            Err(error) => tracing::warn!("refused a control connection of nobody known: {error}"),
        }
    }
}

/// Calls that a connection may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    All,
    /// Asking about a request that is held.
    Hold,
    /// Asking about a push that is held.
    HoldPush,
}

/// The rights of a user; `own` is this process' user.
fn rights(user: u32, own_user: u32) -> Option<Rights> {
    match user {
        0 => Some(Rights::All),
        user if user == own_user => Some(Rights::All),
        user if user == image_user(Door::Pipelock).id => Some(Rights::Hold),
        user if user == image_user(Door::GitGate).id => Some(Rights::HoldPush),
        _ => None,
    }
}

type Connection = (BufReader<Take<OwnedReadHalf>>, OwnedWriteHalf);

/// Takes a call and answers it; one that holds a request is given back.
async fn connection(stream: UnixStream, broker: &BrokerHandle, rights: Rights) -> Option<(Held, Connection)> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(MAX_LINE_BYTES));
    let mut line = vec![];
    match timeout(LINE_TIMEOUT, reader.read_until(b'\n', &mut line)).await {
        Ok(Ok(_)) if line.ends_with(b"\n") => {}
        _ => return None,
    }
    // Whoever is told nothing back finds the connection closed.
    match serde_json::from_slice(&line) {
        Ok(Call::Hold(held)) if rights != Rights::HoldPush => return Some((held, (reader, writer))),
        Ok(Call::HoldPush(held)) if rights != Rights::Hold => answer(&mut writer, broker.hold_push(held).await).await,
        Ok(_) if rights != Rights::All => tracing::warn!("refused a call that is not this door's to make"),
        // Whoever may make all calls has been answered above.
        Ok(Call::Hold(_) | Call::HoldPush(_)) => {}
        Ok(Call::List) => answer(&mut writer, broker.list().await).await,
        Ok(Call::Decide(decide)) => answer(&mut writer, broker.decide(decide).await).await,
        Ok(Call::Apply(apply)) => answer(&mut writer, broker.apply(apply).await).await,
        Ok(Call::Watch) => {
            let mut updates = broker.watch().await?;
            let mut end = [0; 1];
            loop {
                let update = tokio::select! {
                    update = updates.recv() => update,
                    // Nothing more is said on this side but the end.
                    _ = reader.read(&mut end) => return None,
                };
                if !say(&mut writer, &update?).await {
                    return None;
                }
            }
        }
        Err(error) => tracing::warn!("a control connection sent no call: {error}"),
    }
    None
}

/// Tells pipelock what becomes of a request; when it goes before that, the question is taken back.
async fn hold(held: Held, (mut reader, mut writer): Connection, broker: &BrokerHandle) {
    let Some((holding, question)) = broker.hold(held).await else { return };
    if !say(&mut writer, &holding).await {
        return;
    }
    let Some(mut question) = question else { return };
    let mut end = [0; 1];
    tokio::select! {
        decided = question.decided() => answer(&mut writer, decided).await,
        _ = reader.read(&mut end) => {}
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

#[cfg(test)]
mod tests {
    use bottle_policy::supervise::HeldPush;

    use super::*;

    #[test]
    fn doors_may_ask_and_decide_nothing() {
        let own_user = image_user(Door::Supervise).id;
        let of = |door| rights(image_user(door).id, own_user);
        assert_eq!((rights(0, own_user), of(Door::Supervise)), (Some(Rights::All), Some(Rights::All)));
        assert_eq!((of(Door::Pipelock), of(Door::Egress)), (Some(Rights::Hold), None));
        assert_eq!(of(Door::GitGate), Some(Rights::HoldPush));
        assert_eq!(rights(1000, own_user), None);
    }

    fn held() -> Held {
        let json = r#"{"host":"a.example","method":"POST","path":"/","findings":[],"request":"0123456789abcdef"}"#;
        serde_json::from_str(json).expect("a held request")
    }

    fn held_push() -> HeldPush {
        serde_json::from_str(r#"{"upstream":"origin","refs":[],"why":["x"],"files":[]}"#).expect("a held push")
    }

    #[tokio::test]
    async fn what_is_not_pipelock_s_to_call_is_not_answered() {
        let (broker, mut asked) = BrokerHandle::without_broker();
        for (call, rights) in [
            (Call::List, Rights::Hold),
            (Call::Watch, Rights::HoldPush),
            (Call::Hold(held()), Rights::HoldPush),
            (Call::HoldPush(held_push()), Rights::Hold),
        ] {
            let (mut here, there) = UnixStream::pair().expect("a pair");
            let line = format!("{}\n", serde_json::to_string(&call).expect("JSON"));
            here.write_all(line.as_bytes()).await.expect("sent");
            assert!(connection(there, &broker, rights).await.is_none());
            let mut rest = vec![];
            here.read_to_end(&mut rest).await.expect("an end");
            assert!(rest.is_empty() && asked.try_recv().is_err(), "{call:?}");
        }
    }
}
