//! The sessions that runs leave for the next one of their issue or pull request: a file each, named by whose it is.
//!
//! The first line says whose it is and what it was made of, the rest is the conversation. Whatever it says is checked again by whoever
//! brings it into a guest: a hash shows damage and proves no author.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bottle_plan::plan::MAX_SESSION_BYTES;
use bottle_wire::proposal::sha256;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::store::{MAX_AGE_DAYS, own_directory};

/// The first line is no longer.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// A directory of this user's alone.
#[derive(Debug, Clone)]
pub(crate) struct SessionStore {
    dir: PathBuf,
}

/// What a session is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionHeader {
    pub(crate) version: u32,
    /// Repository, issue or pull request, and agent; nobody else's run takes it.
    pub(crate) owner: String,
    /// The SHA-256 of the manifest.
    pub(crate) manifest: String,
    /// The runner's version, to which one of Claude Code's belongs.
    pub(crate) runner: String,
    /// The run that left it.
    pub(crate) run: String,
    /// The session's id; empty where the conversation could not be kept.
    pub(crate) session: String,
    /// Why it could not be kept.
    pub(crate) lost: String,
    /// What the agent said at its end.
    pub(crate) said: String,
    /// The SHA-256 of the conversation.
    pub(crate) sha256: String,
}

/// What there is for a run.
#[derive(Debug)]
pub(crate) enum StoredSession {
    Nothing,
    /// It was removed; the text says what was wrong with it.
    Bad(String),
    Found(SessionHeader, Vec<u8>),
}

impl SessionStore {
    /// The directory, made where it is not there. Others' and one that others can read or change is not taken.
    pub(crate) fn open(dir: &Path) -> Result<Self, String> {
        own_directory(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    pub(crate) fn path(&self, owner: &str) -> PathBuf {
        self.dir.join(format!("{}.jsonl", sha256(owner)))
    }

    /// Looks for the session of this owner. What is wrong is removed.
    pub(crate) fn find(&self, owner: &str) -> StoredSession {
        let path = self.path(owner);
        let why = match read(&path, owner) {
            Ok(None) => return StoredSession::Nothing,
            Ok(Some((header, body))) => return StoredSession::Found(header, body),
            Err(why) => why,
        };
        match fs::remove_file(&path) {
            Ok(()) => StoredSession::Bad(why),
            Err(error) => StoredSession::Bad(format!("{why}; it can't be removed: {error}")),
        }
    }

    /// Keeps a session, whole or not at all, in place of an earlier one; and removes those that are old.
    pub(crate) fn keep(&self, header: &SessionHeader, conversation: &str) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("failed to write to {}: {error}", self.dir.display());
        let header = SessionHeader { sha256: sha256(conversation), ..header.clone() };
        let line = serde_json::to_string(&header).map_err(|error| failed(&error))?;
        let mut partial = NamedTempFile::new_in(&self.dir).map_err(|error| failed(&error))?;
        writeln!(partial, "{line}")
            .and_then(|()| partial.write_all(conversation.as_bytes()))
            .and_then(|()| partial.as_file().sync_all())
            .map_err(|error| failed(&error))?;
        partial.persist(self.path(&header.owner)).map_err(|error| failed(&error))?;
        self.prune();
        Ok(())
    }

    fn prune(&self) {
        let age = Duration::from_secs(MAX_AGE_DAYS * 24 * 3600);
        let Some(oldest) = SystemTime::now().checked_sub(age) else { return };
        for entry in fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok) {
            // One that can't be looked at or removed stays: it is looked at again before it is used.
            if entry.metadata().and_then(|found| found.modified()).is_ok_and(|at| at < oldest) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Reads a stored session; none where there is none.
fn read(path: &Path, owner: &str) -> Result<Option<(SessionHeader, Vec<u8>)>, String> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    let file = match OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("it can't be opened: {error}")),
    };
    let found = file.metadata().map_err(|error| format!("it can't be looked at: {error}"))?;
    let most = MAX_SESSION_BYTES + MAX_HEADER_BYTES;
    if !found.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = vec![];
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(|error| format!("it can't be read: {error}"))?;
    if bytes.len() > most {
        return Err("it is too large".to_owned());
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').filter(|end| *end <= MAX_HEADER_BYTES);
    let end = end.ok_or("its first line has no end")?;
    let header: SessionHeader =
        serde_json::from_slice(&bytes[..end]).map_err(|error| format!("its first line is none of ours: {error}"))?;
    let body = bytes.split_off(end + 1);
    if header.version != 1 {
        return Err("it is of another version".to_owned());
    }
    if header.owner != owner {
        return Err("it is of another issue, pull request, repository or agent".to_owned());
    }
    match std::str::from_utf8(&body) {
        Ok(text) if sha256(text) == header.sha256 => Ok(Some((header, body))),
        _ => Err("it is not as it was written".to_owned()),
    }
}
