//! Takes in the mirror seed, the part of an upstream that the host's checkout has, so that the first fetch brings only the
//! rest.
//!
//! The runner puts the seed into `<state>/seed/<name>/` before anybody fetches: `pack-ID.pack` and `pack-ID.idx` with all that
//! the checkout's remote-tracking branches reach, and `branches`, a line each of commit and branch. The branches become the
//! mirror's own, as of the checkout's last fetch: the refresh that follows moves or drops them like any others, and before
//! it has succeeded nothing is read from a mirror or judged against it. Where the policy limits the history there may be
//! `shallow` as well, git's list of the commits whose parents are not in the seed.

use std::fs;
use std::io;
use std::path::Path;

use bottle_policy::gate::Upstream;
use bottle_types::door::{SEED_ALTERNATE, SEED_DIR};
use bottle_types::git::{ObjectId, RefName};

use super::dirs::GateDirs;
use super::process::{self, git_ok};

/// Where a mirror names other places of objects (gitrepository-layout(5)).
const ALTERNATES: &str = "objects/info/alternates";

/// Lets the mirror read what an earlier run's had, if that is there; tells whether it is. Refs come from upstream alone.
pub(super) fn lend(gate: &GateDirs, upstream: &Upstream) -> Result<bool, String> {
    let named = gate.dirs.state.join(SEED_DIR).join(upstream.name.as_str()).join(SEED_ALTERNATE);
    let say = |error: io::Error| format!("{} can't be used: {error}", named.display());
    let objects = match fs::read_to_string(&named) {
        Ok(objects) => objects,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(say(error)),
    };
    let alternates = gate.mirror(&upstream.name).join(ALTERNATES);
    fs::create_dir_all(alternates.parent().unwrap_or(Path::new("/"))).map_err(say)?;
    fs::write(&alternates, format!("{objects}\n")).map_err(say).map(|()| true)
}

/// Takes the seed into an empty mirror; tells whether there is one.
pub(super) fn take(gate: &GateDirs, upstream: &Upstream) -> Result<bool, String> {
    let seed = gate.dirs.state.join(SEED_DIR).join(upstream.name.as_str());
    let say = |error: io::Error| format!("failed to take in {}: {error}", seed.display());
    let branches = match fs::read_to_string(seed.join("branches")) {
        Ok(branches) => branches,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(say(error)),
    };
    let mirror = gate.mirror(&upstream.name);
    let packs = mirror.join("objects/pack");
    let entries: Vec<_> = fs::read_dir(&seed).and_then(Iterator::collect).map_err(say)?;
    // git takes a pack for whole when its index is there.
    for ending in ["pack", "idx"] {
        for entry in &entries {
            let name = entry.file_name();
            if Path::new(&name).extension().is_some_and(|found| found == ending) {
                copy(&entry.path(), &packs, &name).map_err(say)?;
            }
        }
    }
    let ends = seed.join("shallow");
    if upstream.history.is_some() && ends.exists() {
        fs::copy(&ends, mirror.join("shallow")).map_err(say)?;
    }
    let mut commands = String::new();
    for line in branches.lines() {
        let wrong = |error: &dyn std::fmt::Display| format!("the seed's list of branches can't be read: {error}");
        let (id, branch) = line.split_once(' ').ok_or_else(|| wrong(&"a line has no id and branch"))?;
        let id = ObjectId::parse(id).map_err(|error| wrong(&error))?;
        let name = RefName::of_branch(branch).map_err(|error| wrong(&error))?;
        commands.push_str(&format!("update {name} {id}\n"));
    }
    let mut command = process::git(&gate.home());
    command.env("GIT_DIR", &mirror).args(["update-ref", "--stdin"]);
    git_ok(command, Some(commands.into_bytes())).map(|_| true)
}

fn copy(from: &Path, into: &Path, name: &std::ffi::OsStr) -> io::Result<()> {
    let target = into.join(name);
    if target.exists() {
        return Ok(());
    }
    fs::create_dir_all(into)?;
    let new = tempfile::Builder::new().prefix("tmp_pack_").tempfile_in(into)?;
    fs::copy(from, new.path())?;
    new.persist(target).map(drop).map_err(|error| error.error)
}
