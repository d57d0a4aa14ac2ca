//! Where the gate keeps everything, under `<state>/git`: a mirror each upstream, and `.gate` for itself. No repository
//! name begins with a dot, and git daemon is told which directories it may serve, so `.gate` is out of reach.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bottle_policy::gate::{GatePolicy, RepoName, Upstream};
use rustix::fs::FlockOperation;

use crate::common::{self, Dirs, Error};

/// The gate's directories and the policy in force.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) dirs: Dirs,
    pub(super) policy: GatePolicy,
}

impl Place {
    /// For a hook: the policy that the gate has accepted.
    pub(super) fn open(dirs: &Dirs) -> Result<Self, Error> {
        let policy = common::read_policy(&private(dirs).join("policy.yaml"))?;
        Ok(Self { dirs: dirs.clone(), policy })
    }

    /// Where the mirrors are: git daemon's base path.
    pub(super) fn root(&self) -> PathBuf {
        self.dirs.state.join("git")
    }

    /// A mirror's directory.
    pub(super) fn mirror(&self, name: &RepoName) -> PathBuf {
        self.root().join(format!("{name}.git"))
    }

    /// A file or directory of the gate's own.
    pub(super) fn own(&self, name: &str) -> PathBuf {
        private(&self.dirs).join(name)
    }

    /// The empty home directory of every process.
    pub(super) fn home(&self) -> PathBuf {
        self.own("home")
    }

    /// The declared upstream whose mirror is at this path.
    pub(super) fn upstream_at(&self, mirror: &Path) -> Option<&Upstream> {
        self.policy.upstreams.iter().find(|upstream| self.mirror(&upstream.name) == mirror)
    }

    /// Waits for the one lock of a mirror, under which refs are fetched and pushes forwarded; it ends with the process.
    pub(super) fn lock(&self, name: &RepoName, patience: Duration) -> Result<File, String> {
        let path = self.own("locks").join(name.as_str());
        let say = |error: &dyn std::fmt::Display| format!("failed to lock the mirror of {name}: {error}");
        let file = File::options().create(true).append(true).open(&path).map_err(|error| say(&error))?;
        let deadline = Instant::now() + patience;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(error) if error != rustix::io::Errno::WOULDBLOCK => return Err(say(&error)),
                Err(_) if Instant::now() > deadline => return Err(say(&"another fetch or push holds it; try again")),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// The gate's own directory.
pub(super) fn private(dirs: &Dirs) -> PathBuf {
    dirs.state.join("git").join(".gate")
}

/// Makes a directory and those above it; the last has this mode.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    let make = |error| Error::Make { path: path.to_owned(), error };
    std::fs::create_dir_all(path).map_err(make)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(make)
}

/// Writes a file whole or not at all.
pub(super) fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let make = |error| Error::Make { path: path.to_owned(), error };
    let dir = path.parent().ok_or_else(|| make(io::Error::other("no directory")))?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(make)?;
    io::Write::write_all(&mut file, content).map_err(make)?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(make)?;
    file.persist(path).map(drop).map_err(|error| make(error.error))
}

/// A text as one word of a shell command.
pub(super) fn shell_word(text: &Path) -> String {
    format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"))
}
