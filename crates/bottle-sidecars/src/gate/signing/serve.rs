//! A request for a signature: a first line as git's own services have it, the commit, and nothing behind it.

use std::sync::Arc;
use std::time::Duration;

use bottle_policy::gate::signing::{MAX_COMMIT_BYTES, SigningRefusal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::super::connection::pkt_line;
use super::super::dirs::GateDirs;
use super::key::NAMESPACE;
use super::signer::Signer;

/// How the first line begins: `bottle-sign 1 NAMESPACE BYTES`, in a packet of git's (gitprotocol-common(5)).
pub(in super::super) const REQUEST: &[u8] = b"bottle-sign ";
/// Time for all of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which what nobody reads may still come, so that the client gets its answer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers one request: `ok` and the signature in a packet, or one with `ERR` and the reason.
pub(in super::super) async fn serve(gate: &GateDirs, mut stream: UnixStream, signer: Arc<Signer>) {
    let answer = match answer(gate, &mut stream, &signer).await {
        Ok(signature) => pkt_line(&format!("ok\n{signature}")),
        Err(reason) => pkt_line(&format!("ERR git-gate: not signed: {reason}")),
    };
    if stream.write_all(&answer).await.is_ok() && stream.shutdown().await.is_ok() {
        let mut rest = tokio::io::sink();
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, tokio::io::copy(&mut stream, &mut rest)).await;
    }
}

async fn answer(gate: &GateDirs, stream: &mut UnixStream, signer: &Arc<Signer>) -> Result<String, String> {
    let read = tokio::time::timeout(REQUEST_TIMEOUT, request(stream)).await;
    let read = read.unwrap_or_else(|_| Err((0, format!("it took longer than {} s", REQUEST_TIMEOUT.as_secs()))));
    let at_once = signer.at_once.try_acquire();
    let (read, _permit) = match (read, at_once) {
        (Ok(bytes), Err(_)) => (Err((bytes.len() as u64, "too many requests at once".to_owned())), None),
        (read, permit) => (read, permit.ok()),
    };
    let (gate, signer) = (gate.clone(), Arc::clone(signer));
    let done = tokio::task::spawn_blocking(move || match read {
        Ok(bytes) => signer.sign(&gate, &bytes),
        Err((bytes, reason)) => Err(signer.refuse(&gate, bytes, reason)),
    });
    done.await.unwrap_or_else(|_| Err("the gate failed".to_owned()))
}

/// Reads a request whole; of what is none, its size and the reason.
async fn request(stream: &mut UnixStream) -> Result<Vec<u8>, (u64, String)> {
    let broken = |bytes: u64| (bytes, "the request is not as the link writes it".to_owned());
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(|_| broken(0))?;
    let length = std::str::from_utf8(&head).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    let length = length.and_then(|length| length.checked_sub(4)).ok_or_else(|| broken(0))?;
    let mut line = vec![0; length];
    stream.read_exact(&mut line).await.map_err(|_| broken(0))?;
    let line = String::from_utf8(line).map_err(|_| broken(0))?;
    let ["bottle-sign", "1", namespace, size] = line.trim_end_matches('\n').split(' ').collect::<Vec<_>>()[..] else {
        return Err(broken(0));
    };
    let size: u64 = size.parse().ok().filter(|number: &u64| number.to_string() == size).ok_or_else(|| broken(0))?;
    if namespace != NAMESPACE {
        return Err((size, format!("signatures are made in the namespace `{NAMESPACE}` alone")));
    }
    let most = MAX_COMMIT_BYTES as u64;
    if size > most {
        return Err((size, SigningRefusal::Size(size).to_string()));
    }
    let mut bytes = vec![];
    let came = stream.take(size + 1).read_to_end(&mut bytes).await.map_err(|_| broken(size))? as u64;
    match came.cmp(&size) {
        std::cmp::Ordering::Equal => Ok(bytes),
        std::cmp::Ordering::Less => Err((size, "fewer bytes came than were announced".to_owned())),
        std::cmp::Ordering::Greater => Err((size, "more bytes came than were announced".to_owned())),
    }
}
