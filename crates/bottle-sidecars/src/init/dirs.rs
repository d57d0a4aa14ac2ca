//! The bundle's directories: made by root, each given to who writes there.
//!
//! doors 1777: each daemon makes its own socket as its own user. Inside the bundle the sticky bit keeps a daemon from
//! removing another's; the guest has this volume read-only, so nobody else can make or remove anything.
//! internal 1733: the same, and not to be listed. log 1777, its files made here for their writers, so that none can
//! be taken by another. ca belongs to the door that the agent talks to, git to git-gate, limits to pipelock, replay to root
//! alone.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, fchown};
use std::path::Path;

use bottle_policy::bundle::{Bundle, User};
use bottle_types::door::{Door, LOGS};
use rustix::fs::OFlags;

use crate::common::{self, Dirs};

/// Makes what is missing; where no daemon has a user of its own, everything stays private to this one.
pub(super) fn prepare(dirs: &Dirs, bundle: &Bundle) -> Result<(), common::Error> {
    let user = |door| bundle.daemons.iter().find(|daemon| daemon.door == door)?.user.as_ref();
    let shared = bundle.daemons.iter().any(|daemon| daemon.user.is_some());
    let mode = |mode| if shared { mode } else { 0o755 };
    let agents_door =
        if bundle.daemons.iter().any(|daemon| daemon.door == Door::Egress) { Door::Egress } else { Door::Pipelock };
    let log = dirs.state.join("log");
    make(&dirs.doors, mode(0o1777), None)?;
    make(&dirs.internal, if shared { 0o1733 } else { 0o700 }, None)?;
    make(&dirs.state, 0o755, None)?;
    make(&log, mode(0o1777), None)?;
    make(&dirs.state.join("ca"), 0o755, user(agents_door))?;
    let git = dirs.state.join("git");
    if let Some(user) = user(Door::GitGate) {
        give_mirrors(&git, user).map_err(|error| common::Error::Make { path: git.clone(), error })?;
    }
    make(&git, 0o700, user(Door::GitGate))?;
    make(&dirs.state.join("replay"), 0o755, None)?;
    make(&dirs.state.join("limits"), 0o700, user(Door::Pipelock))?;
    for name in LOGS {
        let writer = match name {
            "gate.jsonl" | "signing.jsonl" => Door::GitGate,
            "proposals.jsonl" => Door::Supervise,
            _ => agents_door,
        };
        if let Some(user) = user(writer) {
            make_file(&log.join(name), user)?;
        }
    }
    Ok(())
}

/// Gives git-gate the mirrors that are there before it has been: one that the guest reads is a volume, which is root's when it is new.
/// Once the directory around them is the gate's, so are they, and this user can't look into it.
fn give_mirrors(git: &Path, user: &User) -> io::Result<()> {
    match fs::metadata(git) {
        Ok(found) if found.uid() == user.id => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        _ => {}
    }
    for entry in fs::read_dir(git)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "git") {
            continue;
        }
        let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY;
        let mirror = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&path)?;
        if mirror.metadata()?.uid() != user.id {
            mirror.set_permissions(Permissions::from_mode(0o755))?;
            fchown(&mirror, Some(user.id), Some(user.id))?;
        }
    }
    Ok(())
}

fn make(path: &Path, mode: u32, owner: Option<&User>) -> Result<(), common::Error> {
    let error = |error| common::Error::Make { path: path.to_owned(), error };
    fs::create_dir_all(path).map_err(error)?;
    give(path, mode, owner).map_err(error)
}

fn make_file(path: &Path, owner: &User) -> Result<(), common::Error> {
    let error = |error| common::Error::Make { path: path.to_owned(), error };
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => {}
        Err(other) if other.kind() == io::ErrorKind::AlreadyExists => {}
        Err(other) => return Err(error(other)),
    }
    give(path, 0o644, Some(owner)).map_err(error)
}

/// Mode first, then owner: afterwards it is another's, and changing it would take one more capability.
fn give(path: &Path, mode: u32, owner: Option<&User>) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if found.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    match owner {
        Some(user) if found.uid() != user.id || found.gid() != user.id => chown(path, Some(user.id), Some(user.id)),
        _ => Ok(()),
    }
}
