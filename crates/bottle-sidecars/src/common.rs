//! Shared by every sidecar: directories, logging, listening, reading a policy.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bottle_scan::known::KnownSecrets;
use bottle_types::door::{self, Door};
use bottle_types::secret::{Secret, SecretName};
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;

use crate::credentials;

/// The name of pipelock's socket in the internal directory.
pub(crate) const PIPELOCK_SOCKET: &str = "pipelock.sock";

/// The directories of a bundle; the defaults are those of the bundle image.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Dirs {
    /// Where the doors' sockets are, shared with the guest.
    #[arg(long, global = true, value_name = "DIR", default_value = door::DOORS_DIR)]
    pub(crate) doors: PathBuf,
    /// Where the sidecars talk to each other, hidden from the guest.
    #[arg(long, global = true, value_name = "DIR", default_value = door::INTERNAL_DIR)]
    pub(crate) internal: PathBuf,
    /// Where the bundle keeps what it makes.
    #[arg(long, global = true, value_name = "DIR", default_value = door::STATE_DIR)]
    pub(crate) state: PathBuf,
    /// Where secret values are, a file each.
    #[arg(long, global = true, value_name = "DIR", default_value = door::SECRETS_DIR)]
    pub(crate) secrets: PathBuf,
}

impl Dirs {
    /// The unix socket of a door.
    pub(crate) fn socket(&self, door: Door) -> PathBuf {
        self.doors.join(door.socket())
    }

    /// A file of the run record, such as `egress.jsonl`.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.state.join("log").join(name)
    }

    /// The value of one secret, without the newline at its end.
    pub(crate) fn secret(&self, name: &SecretName) -> Result<Secret<Vec<u8>>, Error> {
        let path = self.secrets.join(name.as_str());
        let mut value = std::fs::read(&path).map_err(|error| Error::Read { path, error })?;
        while value.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
            value.pop();
        }
        Ok(Secret::new(value))
    }

    /// A searcher for the values of all these secrets,
    /// and for those that they had before.
    pub(crate) fn known_secrets(&self, names: &[SecretName]) -> Result<KnownSecrets, Error> {
        let mut values = vec![];
        for name in names {
            // The one before is kept before there is a new one: whoever reads in between has it twice.
            values.push((name.clone(), self.secret(name)?));
            values.extend(credentials::before(self, name)?.into_iter().map(|value| (name.clone(), value)));
        }
        KnownSecrets::new(&values)
            .map_err(|error| Error::Policy { path: self.secrets.clone(), reason: error.to_string() })
    }
}

/// Tells whether a door that knows the canary would know it no more under other names of secrets.
pub(crate) fn loses_canary(before: &[SecretName], after: &[SecretName]) -> bool {
    let canary = SecretName::canary();
    before.contains(&canary) && !after.contains(&canary)
}

/// Why such a policy is not taken.
pub(crate) const CANARY_IS_LOST: &str =
    "it leaves BOTTLE_CANARY out of `secrets`, which has to be known to the end of the run";

/// Why a sidecar can't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file that can't be read.
    #[error("failed to read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    /// A file, directory or socket that can't be made.
    #[error("failed to make {}: {error}", path.display())]
    Make { path: PathBuf, error: io::Error },
    /// The operating system gives no random numbers.
    #[error("the operating system gave no random numbers: {0}; check that this process may call getrandom(2)")]
    Random(getrandom::Error),
    /// A policy that says something impossible.
    #[error("failed to take the policy from {}: {reason}", path.display())]
    Policy { path: PathBuf, reason: String },
}

/// Random bytes from the operating system; there is no weaker source.
pub(crate) fn random_bytes<const BYTES: usize>() -> Result<[u8; BYTES], Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}

/// Logs go to stderr, a line an event, without colours: the supervisor adds whose they are, Compose when.
pub(crate) fn init_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BOTTLE_LOG").unwrap_or_else(|_| "info,rmcp=warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer(io::stderr)
        .init();
}

/// Gives this program's path, also where its file on the host was replaced since: the sandbox still has it there, and the kernel writes
/// ` (deleted)` behind its name (proc(5)).
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let there = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(Path::new);
    Ok(there.filter(|there| there.is_file()).map_or_else(|| path.clone(), Path::to_owned))
}

/// Reads a policy file.
pub(crate) fn read_policy<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = read(path)?;
    parse_policy(path, &text)
}

/// The text of a policy file.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::Read { path: path.to_owned(), error })
}

/// The policy that a file's text is.
pub(crate) fn parse_policy<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Error> {
    bottle_types::yaml::from_str(text)
        .map_err(|error| Error::Policy { path: path.to_owned(), reason: error.to_string() })
}

/// Listens on a unix socket, in place of a stale one; `mode` says who may connect. The socket has its mode before it has
/// its name, so that whoever finds it may use it.
pub(crate) fn listen(path: &Path, mode: u32) -> Result<UnixListener, Error> {
    let make = |error| Error::Make { path: path.to_owned(), error };
    let unnamed = path.with_extension("making");
    match std::fs::remove_file(&unnamed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(make(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&unnamed).map_err(make)?;
    std::fs::set_permissions(&unnamed, Permissions::from_mode(mode)).map_err(make)?;
    std::fs::rename(&unnamed, path).map_err(make)?;
    Ok(listener)
}
