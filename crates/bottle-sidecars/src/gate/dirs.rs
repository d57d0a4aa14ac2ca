//! The gate's directories under `<state>/git`: a mirror each upstream, and `.gate` for itself. No repository
//! name begins with a dot, and git daemon is told which directories it may serve, so `.gate` is out of reach.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bottle_policy::gate::{GatePolicy, RepoName, Upstream};

use super::process::variable;
use crate::common::{self, Dirs, Error};

/// The gate's directories and a policy that it has accepted.
#[derive(Debug, Clone)]
pub(super) struct GateDirs {
    pub(super) dirs: Dirs,
    pub(super) policy: GatePolicy,
    /// The policy's own directory: its text, and what ssh needs to follow it.
    pub(super) policy_dir: PathBuf,
    /// Where a connection's scratch files are; they go with it.
    pub(super) tmp: PathBuf,
}

impl GateDirs {
    pub(super) fn new(dirs: &Dirs, policy: GatePolicy, number: u32) -> Self {
        let private_path = private(dirs);
        let policy_dir = private_path.join(POLICIES).join(number.to_string());
        Self { dirs: dirs.clone(), policy, policy_dir, tmp: private_path.join(TMP) }
    }

    /// Opens, for a hook, the policy under which its connection was opened.
    pub(super) fn open(dirs: &Dirs) -> Result<Self, Error> {
        let from_gate = |name: &str| {
            let path = variable(name).map(PathBuf::from);
            path.ok_or_else(|| Error::Read { path: name.into(), error: io::Error::other("not called by the gate") })
        };
        let policy_dir = from_gate(POLICY_DIR_VARIABLE)?;
        let policy = common::read_policy(&policy_dir.join("policy.yaml"))?;
        Ok(Self { dirs: dirs.clone(), policy, policy_dir, tmp: from_gate(TMP_VARIABLE)? })
    }

    /// Tells the hooks of a command to which connection they belong.
    pub(super) fn tell_hooks(&self, command: &mut Command) {
        command.env(POLICY_DIR_VARIABLE, &self.policy_dir).env(TMP_VARIABLE, &self.tmp);
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
    pub(super) fn private_path(&self, name: &str) -> PathBuf {
        private(&self.dirs).join(name)
    }

    /// The empty home directory of every process.
    pub(super) fn home(&self) -> PathBuf {
        self.private_path("home")
    }

    /// The declared upstream whose mirror is at this path.
    pub(super) fn upstream_at(&self, mirror: &Path) -> Option<&Upstream> {
        self.policy.upstreams.iter().find(|upstream| self.mirror(&upstream.name) == mirror)
    }
}

const POLICIES: &str = "policies";
const TMP: &str = "tmp";
const POLICY_DIR_VARIABLE: &str = "BOTTLE_GATE_RULES";
const TMP_VARIABLE: &str = "BOTTLE_GATE_TMP";

/// Removes what an earlier gate left when it was killed, and what this one leaves at its end.
pub(super) fn clear(dirs: &Dirs) -> Result<(), Error> {
    for leftover in [TMP, POLICIES, super::lfs::LFS] {
        let path = private(dirs).join(leftover);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::Make { path, error }),
            _ => {}
        }
    }
    Ok(())
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

/// A path as one word of a shell command.
pub(super) fn shell_word(path: &Path) -> String {
    bottle_types::text::shell_word(&path.to_string_lossy())
}
