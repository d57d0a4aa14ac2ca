//! The directory: `entries/<key>.json` names the archive of a key, `archives/<sha256>.tar` is one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::archive::{self, Summary};
use crate::host;

/// An entry that was not used for so long is removed.
pub(crate) const MAX_AGE_DAYS: u64 = 30;
/// All entries together; those not used for longest are removed first.
pub(crate) const MAX_STORE_BYTES: u64 = 20 << 30;
/// What a writer that died has left is removed after so long; no writer takes that.
const STALE: u64 = 24 * 3600;
/// An index entry has a few hundred bytes.
const MAX_INDEX_BYTES: u64 = 16 << 10;
const PARTIAL: &str = ".partial-";

/// A directory of this user's alone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    dir: PathBuf,
}

/// What the index has of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexEntry {
    version: u32,
    key: String,
    repository: String,
    sha256: String,
    size: u64,
    files: u64,
    made: String,
}

/// An entry that is to be kept.
#[derive(Debug, Clone)]
pub(crate) struct NewEntry {
    pub(crate) key: String,
    /// Whose it is; nobody else's run takes it.
    pub(crate) repository: String,
    pub(crate) directories: Vec<String>,
    pub(crate) max_bytes: u64,
}

/// An archive that was checked whole. While it is alive nothing removes it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) archive: File,
    pub(crate) summary: Summary,
    pub(crate) made: String,
}

/// What there is of a key.
#[derive(Debug)]
pub(crate) enum CacheEntry {
    Kept(Kept),
    Nothing,
    /// It was removed; the text says what was wrong with it.
    Bad(String),
}

/// What a pruning did with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pruned {
    Removed {
        key: String,
        size: u64,
        why: String,
    },
    /// A run holds it.
    InUse {
        key: String,
    },
}

/// Makes a directory where it is not there. Others' and one that others can read or change is not taken.
pub(super) fn own_directory(dir: &Path) -> Result<(), String> {
    let failed = |error: io::Error| unusable(dir, &error);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let found = fs::metadata(dir).map_err(failed)?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("the directory {} is another user's", dir.display()));
    }
    if found.mode() & 0o077 != 0 {
        return Err(format!("the directory {0} is open to others: `chmod 700 {0}`", dir.display()));
    }
    Ok(())
}

fn unusable(dir: &Path, error: &io::Error) -> String {
    format!("the directory {} can't be used: {error}", dir.display())
}

impl Store {
    /// The directory, made where it is not there. Others' and one that others can read or change is not taken.
    pub(crate) fn open(dir: &Path) -> Result<Self, String> {
        own_directory(dir)?;
        let failed = |error: io::Error| unusable(dir, &error);
        for part in ["entries", "archives"] {
            let part = dir.join(part);
            match DirBuilder::new().mode(0o700).create(&part) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ if !fs::symlink_metadata(&part).map_err(failed)?.is_dir() => {
                    return Err(format!("{} is no directory", part.display()));
                }
                _ => {}
            }
        }
        Ok(Self { dir: dir.to_owned() })
    }

    fn index_path(&self, key: &str) -> PathBuf {
        self.dir.join("entries").join(format!("{key}.json"))
    }

    fn archive_path(&self, sha256: &str) -> PathBuf {
        self.dir.join("archives").join(format!("{sha256}.tar"))
    }

    /// Looks for an entry, and checks all of it. What is wrong is removed, so that the next setup makes it anew.
    pub(crate) fn find(&self, asked: &NewEntry) -> CacheEntry {
        let index = match self.index(&asked.key) {
            Ok(Some(index)) => index,
            Ok(None) => return CacheEntry::Nothing,
            Err(why) => return self.bad(&asked.key, None, why),
        };
        let wrong = |why: &str| self.bad(&asked.key, None, why.to_owned());
        if index.version != 1 || index.key != asked.key {
            return wrong("its index is another entry's");
        }
        if index.repository != asked.repository {
            return wrong("it is another repository's");
        }
        if !is_sha256(&index.sha256) {
            return wrong("its index names no archive");
        }
        let mut file = match open(&self.archive_path(&index.sha256)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return wrong("its archive is gone"),
            Err(error) => return wrong(&format!("its archive can't be opened: {error}")),
        };
        if flock(&file, FlockOperation::NonBlockingLockShared).is_err() {
            // It is being removed.
            return CacheEntry::Nothing;
        }
        match verify(&mut file, &index, asked) {
            Ok(summary) => {
                // When it was used last; one whose time can't be set is removed sooner.
                let _ = open(&self.index_path(&asked.key)).and_then(|index| index.set_modified(now()));
                CacheEntry::Kept(Kept { archive: file, summary, made: index.made })
            }
            Err(why) => self.bad(&asked.key, Some(&index.sha256), why),
        }
    }

    /// Removes an entry that is not as it was written.
    fn bad(&self, key: &str, sha256: Option<&str>, why: String) -> CacheEntry {
        let removed = remove(&self.index_path(key));
        if let Some(sha256) = sha256 {
            let _ = fs::remove_file(self.archive_path(sha256));
        }
        match removed {
            Err(error) => CacheEntry::Bad(format!("{why}; it can't be removed: {error}")),
            Ok(()) => CacheEntry::Bad(why),
        }
    }

    fn index(&self, key: &str) -> Result<Option<IndexEntry>, String> {
        let file = match open(&self.index_path(key)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("its index can't be opened: {error}")),
        };
        let mut text = String::new();
        file.take(MAX_INDEX_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| format!("its index can't be read: {error}"))?;
        serde_json::from_str(&text).map(Some).map_err(|error| format!("its index is none: {error}"))
    }

    /// A file without a name in this directory, for what comes out of a guest.
    pub(crate) fn spool(&self) -> io::Result<File> {
        tempfile::tempfile_in(self.dir.join("archives"))
    }

    /// Keeps what may be kept of an archive. It is there whole, or not at all; of two at once either's is.
    pub(crate) fn keep(&self, raw: &mut File, entry: &NewEntry) -> Result<Summary, String> {
        raw.rewind().map_err(|error| error.to_string())?;
        let failed = |error: io::Error| format!("failed to write to {}: {error}", self.dir.display());
        let archives = self.dir.join("archives");
        let mut partial = partial_in(&archives).map_err(failed)?;
        let raw = io::BufReader::with_capacity(1 << 20, raw);
        let to = io::BufWriter::with_capacity(1 << 20, partial.as_file_mut());
        let summary =
            archive::rewrite(raw, to, &entry.directories, entry.max_bytes).map_err(|error| error.to_string())?;
        let sha256 = host::sha256(partial.as_file_mut()).map_err(failed)?;
        let size = partial.as_file().metadata().map_err(failed)?.len();
        persist(partial, &self.archive_path(&sha256), &archives).map_err(failed)?;
        let index = IndexEntry {
            version: 1,
            key: entry.key.clone(),
            repository: entry.repository.clone(),
            sha256,
            size,
            files: summary.files,
            made: host::now(),
        };
        let text = serde_json::to_vec_pretty(&index).map_err(|error| error.to_string())?;
        let entries = self.dir.join("entries");
        let mut partial = partial_in(&entries).map_err(failed)?;
        partial.write_all(&text).map_err(failed)?;
        persist(partial, &self.index_path(&entry.key), &entries).map_err(failed)?;
        Ok(summary)
    }

    /// Removes what was not used for so long, what is too much for all together, and what dead writers have left; never what a run
    /// holds.
    pub(crate) fn prune(&self, max_age: Duration, max_bytes: u64, dry_run: bool) -> Result<Vec<Pruned>, String> {
        let failed = |error: io::Error| format!("failed to read {}: {error}", self.dir.display());
        let mut entries = self.entries().map_err(failed)?;
        // The one used last comes first.
        entries.sort_by(|one, other| other.used.cmp(&one.used).then(one.key.cmp(&other.key)));
        let (now, mut total, mut pruned) = (host::unix_seconds(), 0_u64, vec![]);
        let mut in_use: Vec<String> = vec![];
        for entry in entries {
            let age = Duration::from_secs(now.saturating_sub(entry.used));
            total = total.saturating_add(entry.size);
            let why = match () {
                () if entry.sha256.is_none() => "its index is none".to_owned(),
                () if age > max_age => format!("not used for {} days", age.as_secs() / (24 * 3600)),
                () if total > max_bytes => "too much with all that was used later".to_owned(),
                () => {
                    in_use.extend(entry.sha256);
                    continue;
                }
            };
            if let Some(sha256) = &entry.sha256 {
                // Removed while nobody reads it; who opens it later finds no lock to take, or nothing.
                let file = open(&self.archive_path(sha256)).ok();
                if file.as_ref().is_some_and(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_err()) {
                    in_use.push(sha256.clone());
                    pruned.push(Pruned::InUse { key: entry.key });
                    continue;
                }
                if !dry_run {
                    remove(&self.index_path(&entry.key)).map_err(failed)?;
                    if !in_use.contains(sha256) {
                        let _ = fs::remove_file(self.archive_path(sha256));
                    }
                }
            } else if !dry_run {
                remove(&self.index_path(&entry.key)).map_err(failed)?;
            }
            total = total.saturating_sub(entry.size);
            pruned.push(Pruned::Removed { key: entry.key, size: entry.size, why });
        }
        pruned.extend(self.prune_stale(&in_use, now, dry_run).map_err(failed)?);
        Ok(pruned)
    }

    fn entries(&self) -> io::Result<Vec<Listed>> {
        let mut listed = vec![];
        for file in fs::read_dir(self.dir.join("entries"))? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            let Some(key) = name.strip_suffix(".json") else { continue };
            let used = u64::try_from(file.metadata()?.mtime()).unwrap_or_default();
            let index = self.index(key).ok().flatten().filter(|index| is_sha256(&index.sha256) && index.key == key);
            let size = index.as_ref().map_or(0, |index| index.size);
            listed.push(Listed { key: key.to_owned(), used, size, sha256: index.map(|index| index.sha256) });
        }
        Ok(listed)
    }

    /// Removes old files that no entry names.
    fn prune_stale(&self, in_use: &[String], now: u64, dry_run: bool) -> io::Result<Vec<Pruned>> {
        let mut pruned = vec![];
        for part in ["archives", "entries"] {
            for file in fs::read_dir(self.dir.join(part))? {
                let file = file?;
                let (name, found) = (file.file_name().to_string_lossy().into_owned(), file.metadata()?);
                let is_old = now.saturating_sub(u64::try_from(found.mtime()).unwrap_or_default()) > STALE;
                let is_named = name.strip_suffix(".tar").is_some_and(|sha256| in_use.iter().any(|one| one == sha256));
                let is_index = name.ends_with(".json") && !name.starts_with(PARTIAL);
                if is_old && !is_named && !is_index {
                    if !dry_run {
                        remove(&file.path())?;
                    }
                    let why = "left by a writer that ended".to_owned();
                    pruned.push(Pruned::Removed { key: name, size: found.len(), why });
                }
            }
        }
        Ok(pruned)
    }
}

struct Listed {
    key: String,
    used: u64,
    size: u64,
    /// None: its index is none.
    sha256: Option<String>,
}

/// Opens a plain file, by no link.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

/// Removes a file; one that is gone already is fine.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn partial_in(dir: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(PARTIAL).tempfile_in(dir)
}

/// Gives a file its name, once all of it is on the disk.
fn persist(partial: NamedTempFile, path: &Path, dir: &Path) -> io::Result<()> {
    partial.as_file().sync_all()?;
    partial.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

/// Checks size, hash and every entry; the file is at its beginning afterwards.
fn verify(file: &mut File, index: &IndexEntry, asked: &NewEntry) -> Result<Summary, String> {
    let unreadable = |error: io::Error| format!("its archive can't be read: {error}");
    let size = file.metadata().map_err(unreadable)?.len();
    if size != index.size || size > archive::archive_bytes(asked.max_bytes) {
        return Err(format!("its archive has {size} bytes, and should have {}", index.size));
    }
    if host::sha256(file).map_err(unreadable)? != index.sha256 {
        return Err("its archive has another hash than its name".to_owned());
    }
    file.rewind().map_err(unreadable)?;
    let reader = io::BufReader::with_capacity(1 << 20, &mut *file);
    let summary = archive::check(reader, &asked.directories, asked.max_bytes).map_err(|error| error.to_string())?;
    file.rewind().map_err(unreadable)?;
    Ok(summary)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(host::unix_seconds())
}
