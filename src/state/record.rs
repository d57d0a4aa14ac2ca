//! The files of one run.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;

use bottle_types::record_file::RecordFile;

use crate::exit::Failure;
use crate::host::check_space;
use crate::secrets::Secrets;

/// The directory of what the agent has handed in.
pub(crate) const HANDED_IN: &str = "files";
/// The directory of what the manifest has taken out of the workspace.
pub(crate) const ARTIFACTS: &str = "artifacts";

/// A run record that is being written.
#[derive(Debug)]
pub(crate) struct RunRecord {
    dir: PathBuf,
    secrets: Secrets,
    /// Held for the life of the process: who can take it knows that the run is dead.
    _lock: File,
}

impl RunRecord {
    /// Makes the directory `<root>/<slug>` and takes its lock.
    pub(crate) fn create(root: &Path, slug: &str, secrets: Secrets) -> Result<Self, Failure> {
        let dir = root.join(slug);
        let failed = |path: &Path, error: io::Error| {
            Failure::machine(format_args!("failed to make the run record {}: {error}", path.display()))
                .hint("set BOTTLE_STATE_DIR to a directory that can be written")
        };
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(|error| failed(root, error))?;
        check_space(root, "BOTTLE_STATE_DIR")?;
        DirBuilder::new().mode(0o700).create(&dir).map_err(|error| failed(&dir, error))?;
        let path = dir.join(RecordFile::Lock);
        let mut lock = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed(&path, error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(&path, error.into()))?;
        writeln!(lock, "{}", std::process::id()).map_err(|error| failed(&path, error))?;
        Ok(Self { dir, secrets, _lock: lock })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file whole, masked.
    pub(crate) fn write(&self, file: RecordFile, bytes: &[u8]) -> Result<(), Failure> {
        self.write_named(file.name(), bytes)
    }

    /// Writes a file that has a name of this run's making, such as a push that a dry run kept.
    pub(crate) fn write_named(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.dir.join(name);
        let failed = |error: io::Error| Failure::machine(format_args!("failed to write {}: {error}", path.display()));
        // Beside and renamed, so that whoever reads never sees half a file.
        let partial = self.dir.join(format!(".{name}.partial"));
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&partial).map_err(failed)?;
        file.write_all(&self.secrets.mask_bytes(bytes)).map_err(failed)?;
        fs::rename(&partial, &path).map_err(failed)
    }

    /// Writes a file of the guest's below [`HANDED_IN`] or [`ARTIFACTS`], if the mask leaves it as it is; whether it did. The path is one
    /// that outputs may have.
    pub(crate) fn write_of_guest(&self, below: &str, path: &str, bytes: &[u8]) -> Result<bool, Failure> {
        if self.secrets.mask_bytes(bytes) != bytes || self.secrets.mask_bytes(path.as_bytes()) != path.as_bytes() {
            return Ok(false);
        }
        let path = self.dir.join(below).join(path);
        let failed = |error: io::Error| Failure::machine(format_args!("failed to write {}: {error}", path.display()));
        let parent = path.parent().unwrap_or(&self.dir);
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        // A new one: there is no second of this path.
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        Ok(true)
    }

    /// Opens a file that grows line by line.
    pub(crate) fn lines(&self, file: RecordFile) -> Result<LineFile, Failure> {
        let path = self.dir.join(file);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Failure::machine(format_args!("failed to write {}: {error}", path.display())))?;
        Ok(LineFile { file, path, secrets: self.secrets.clone() })
    }

    /// Ends the record: the lock goes, the files stay.
    pub(crate) fn close(self) {
        // A lock file that is left says nothing; one that can't be removed does no harm.
        let _ = fs::remove_file(self.dir.join(RecordFile::Lock));
    }
}

/// A file of lines, each masked before it is written.
#[derive(Debug)]
pub(crate) struct LineFile {
    file: File,
    path: PathBuf,
    secrets: Secrets,
}

impl LineFile {
    pub(crate) fn push(&mut self, line: &[u8]) -> Result<(), Failure> {
        let mut masked = self.secrets.mask_bytes(line);
        masked.push(b'\n');
        self.file
            .write_all(&masked)
            .map_err(|error| Failure::machine(format_args!("failed to write {}: {error}", self.path.display())))
    }
}

/// True if the run of a record is still going on: its process holds the lock. What can't be told counts as alive.
pub(crate) fn is_live(dir: &Path) -> bool {
    match File::open(dir.join(RecordFile::Lock)) {
        // Shared, so that two who ask at once don't take each other for the run.
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockShared).is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The process that a record's run is: the one that the lock names, as far as it has the lock open here.
pub(crate) fn process_of(dir: &Path) -> Option<Pid> {
    let lock = dir.join(RecordFile::Lock);
    let number: i32 = fs::read_to_string(&lock).ok()?.trim().parse().ok()?;
    let same = fs::metadata(&lock).ok()?;
    // In another container the number is another process's.
    let open = fs::read_dir(format!("/proc/{number}/fd")).ok()?.filter_map(Result::ok);
    let mut open = open.filter_map(|fd| fs::metadata(fd.path()).ok());
    let holds = open.any(|file| (file.dev(), file.ino()) == (same.dev(), same.ino()));
    Pid::from_raw(number).filter(|_| holds && is_live(dir))
}

/// The slugs of all records below a state root.
pub(crate) fn list(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else { return vec![] };
    let mut slugs: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join(RecordFile::Metadata).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    slugs.sort();
    slugs
}
