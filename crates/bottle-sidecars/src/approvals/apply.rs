//! The way to the supervisor, which alone can put a policy in force.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bottle_wire::control::Applied;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::confirm::{Install, MAX_LINE_BYTES, SupervisorMessage};

/// Longer than the supervisor needs to give a policy up, and to have the old one confirmed.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the supervisor listens.
#[derive(Debug, Clone)]
pub(super) struct Supervisor(pub(super) PathBuf);

impl Supervisor {
    /// Asks for a policy; without a clear answer it counts as not in force.
    pub(super) async fn install(&self, install: Install) -> Applied {
        let answered = timeout(INSTALL_TIMEOUT, self.ask(install)).await;
        answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).unwrap_or_else(|error| Applied::Kept {
            reason: format!("the supervisor, which would have to apply it, does not answer: {error}"),
        })
    }

    async fn ask(&self, install: Install) -> io::Result<Applied> {
        let mut stream = UnixStream::connect(&self.0).await?;
        let mut line = serde_json::to_vec(&SupervisorMessage::Install(install))?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = String::new();
        BufReader::new(stream.take(MAX_LINE_BYTES)).read_line(&mut answer).await?;
        Ok(serde_json::from_str(&answer)?)
    }
}
