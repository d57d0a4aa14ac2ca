//! Messages over the supervisor's control socket: a daemon says which policy it goes by, supervise asks for a new one.
//!
//! Always: who says something is told from the connection's process and user, which the kernel vouches for.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bottle_wire::control::{CredentialUpdate, SUPERVISOR_SOCKET};
use bottle_wire::proposal::PolicyFile;
use serde::{Deserialize, Serialize};

use crate::common::Dirs;

/// The longest line on a control socket; a policy file is a part of one.
pub(crate) const MAX_LINE_BYTES: u64 = 4 << 20;

/// One line to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum SupervisorMessage {
    /// From a daemon, after it has read its policy. There is no answer.
    Report(Report),
    /// From supervise: put a policy in force. The answer is an `Applied`.
    Install(Install),
    /// From the runner: take these credentials. The answer is a `CredentialsTaken`.
    Credentials(Vec<CredentialUpdate>),
}

/// Which policies a daemon has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    /// SHA-256 of each file, as it was read.
    pub(crate) read: BTreeMap<PolicyFile, String>,
    /// The generation of the credentials that it has read; none: it has none.
    #[serde(default)]
    pub(crate) credentials: Option<u64>,
    /// Why it goes by what was in force before; none: it goes by what it read.
    pub(crate) refused: Option<String>,
}

/// A new policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Install {
    /// Which file.
    pub(crate) file: PolicyFile,
    /// SHA-256 of what has to be in force for this to make sense.
    pub(crate) before: String,
    /// The file.
    pub(crate) text: String,
}

/// Tells the supervisor what a daemon goes by. A sidecar that runs by itself has nobody to tell.
pub(crate) fn report(dirs: &Dirs, read: &[(PolicyFile, &str)], credentials: Option<u64>, refused: Option<String>) {
    let path = dirs.internal.join(SUPERVISOR_SOCKET);
    let read = read.iter().map(|(file, hash)| (*file, (*hash).to_owned())).collect();
    let say = || {
        let mut stream = UnixStream::connect(&path)?;
        stream.set_write_timeout(Some(Duration::from_secs(1)))?;
        let mut line = serde_json::to_vec(&SupervisorMessage::Report(Report { read, credentials, refused }))?;
        line.push(b'\n');
        stream.write_all(&line)
    };
    if path.exists()
        && let Err(error) = say()
    {
        tracing::warn!("failed to tell the supervisor which policy is in force: {error}");
    }
}
