//! Objects that the guest has sent, until a push with their pointers is judged. Each was hashed before it got its name here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bottle_policy::gate::{RepoName, Upstream};
use bottle_types::units::ByteSize;
use tempfile::NamedTempFile;

use super::super::dirs::GateDirs;
use super::pointer::{LfsOid, LfsPointer};

/// The directory of them all, in the gate's own; it is empty when a gate starts.
pub(in super::super) const LFS: &str = "lfs";
/// An object that no push has asked for by then is dropped: its client has gone.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// So many objects may wait for their push.
const MAX_WAITING: usize = 10_000;

/// The objects for one upstream.
#[derive(Debug, Clone)]
pub(super) struct LfsStore {
    dir: PathBuf,
}

impl LfsStore {
    pub(super) fn new(gate: &GateDirs, name: &RepoName) -> Self {
        Self { dir: gate.private_path(LFS).join(name.as_str()).join("objects") }
    }

    fn path(&self, oid: &LfsOid) -> PathBuf {
        self.dir.join(oid.as_str())
    }

    /// The object's file, if it is there and as large as its pointer says.
    pub(super) fn find(&self, pointer: &LfsPointer) -> io::Result<FoundObject> {
        let path = self.path(&pointer.oid);
        match fs::metadata(&path) {
            Ok(about) if about.len() == pointer.size => Ok(FoundObject::Here(path)),
            Ok(about) => Ok(FoundObject::OtherSize(about.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FoundObject::Absent),
            Err(error) => Err(error),
        }
    }

    /// Takes a file whose content has been hashed to this name.
    pub(super) fn take(&self, file: NamedTempFile, oid: &LfsOid) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        file.persist(self.path(oid)).map(drop).map_err(|error| error.error)
    }

    /// Tells whether an object fits beside all that is there.
    pub(super) fn has_room(&self, size: u64, most: ByteSize) -> io::Result<bool> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(size <= most.0),
            entries => entries?,
        };
        let (mut count, mut bytes) = (1, size);
        for entry in entries {
            (count, bytes) = (count + 1, bytes.saturating_add(entry?.metadata()?.len()));
        }
        Ok(count <= MAX_WAITING && bytes <= most.0)
    }

    /// Drops an object.
    pub(super) fn drop_object(&self, oid: &LfsOid) {
        // One that stays is dropped by its age.
        let _ = fs::remove_file(self.path(oid));
    }
}

/// Whether an object was sent.
pub(super) enum FoundObject {
    /// In this file.
    Here(PathBuf),
    /// It is this large, which its pointer does not say.
    OtherSize(u64),
    Absent,
}

/// Drops what no push has asked for in time.
pub(in super::super) fn sweep(gate: &GateDirs) {
    for upstream in &gate.policy.upstreams {
        sweep_dir(&LfsStore::new(gate, &upstream.name).dir, SystemTime::now());
    }
}

fn sweep_dir(dir: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        let changed = entry.metadata().and_then(|about| about.modified());
        let is_old = changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age > MAX_AGE));
        if is_old {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Where a dry run keeps an object that would have been uploaded, beside the bundles.
pub(super) fn shelf(gate: &GateDirs, upstream: &Upstream) -> PathBuf {
    gate.dirs.log("would-push").join(format!("{}-lfs", upstream.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_push_has_asked_for_is_dropped_after_an_hour() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("object");
        fs::write(&file, "x").expect("written");
        sweep_dir(dir.path(), SystemTime::now());
        assert!(file.exists());
        sweep_dir(dir.path(), SystemTime::now() + MAX_AGE + Duration::from_secs(60));
        assert!(!file.exists());
    }
}
