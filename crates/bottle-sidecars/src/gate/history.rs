//! A mirror with a part of its upstream's history: the newest commits of the refs that the run is about, as the policy's
//! [`HistoryLimit`] says.
//!
//! What a ref had when it was first fetched is the end of what is known behind it; later fetches bring what came on top. What is not
//! here counts as new in a push, so that less is let through, never more.

use std::collections::{BTreeMap, BTreeSet};

use bottle_policy::gate::{HistoryLimit, Upstream};
use bottle_types::git::{ObjectId, RefName};

use super::changes::{Commit, Repo};
use super::dirs::GateDirs;
use super::process::{self, git_ok, last_words};
use super::{log, mirror, relay, transport};

/// Below it are the commits that were fetched by their ids. No branch and no tag is there, so none counts as upstream's.
const STARTS: &str = "refs/starts/";

/// Brings the mirror's refs to what upstream has; the lock of the mirror is held. `first` is the default branch of an upstream from which
/// nothing was fetched yet. The error has git's words.
pub(super) fn refresh(
    gate: &GateDirs,
    upstream: &Upstream,
    limit: &HistoryLimit,
    first: Option<Option<&RefName>>,
) -> Result<(), String> {
    let here = refs(gate, upstream)?;
    let mut wanted: BTreeSet<&RefName> = limit.refs.iter().chain(first.flatten()).collect();
    wanted.extend(here.keys().filter(|name| !name.as_str().starts_with(STARTS)));
    let there = listed(gate, upstream, &wanted)?;
    // A dry run's pushes are in the mirror alone.
    let kept = mirror::kept(gate, upstream)?;
    let gone =
        wanted.iter().filter(|name| here.contains_key(name) && !there.contains_key(name) && !kept.contains(name));
    let gone: String = gone.map(|name| format!("delete {name}\n")).collect();
    if !gone.is_empty() {
        let mut command = process::git(&gate.home());
        command.env("GIT_DIR", gate.mirror(&upstream.name)).args(["update-ref", "--stdin"]);
        git_ok(command, Some(gone.into_bytes()))?;
    }
    let moved = there.iter().filter(|(name, id)| here.get(name) != Some(id) && !kept.contains(name));
    // Of what the host had, the ends are the host's own.
    let (known, new): (Vec<_>, Vec<_>) =
        moved.map(|(name, _)| name).partition(|name| here.contains_key(name) && first.is_none());
    let new = if first.is_some() { there.keys().collect() } else { new };
    let spec = |name: &&RefName| format!("+{name}:{name}");
    let depth = format!("--depth={}", limit.commits);
    fetch(gate, upstream, &[&depth], &new.iter().map(spec).collect::<Vec<_>>())?;
    fetch(gate, upstream, &[], &known.iter().map(spec).collect::<Vec<_>>())?;
    for id in limit.starts.iter().filter(|id| first.is_some() && !is_here(gate, upstream, id)) {
        // Not every server gives a commit by its id; whoever needs this one says that it is missing.
        if let Err(why) = fetch(gate, upstream, &[&depth], &[format!("{id}:{STARTS}{id}")]) {
            log::send(&gate.dirs, &format!("{}: the commit {} can't be fetched: {why}", upstream.name, id.short()));
        }
    }
    Ok(())
}

/// Checks that new commits go back to what upstream's branches have: behind one whose parents were not fetched, nobody knows what is
/// new.
pub(super) fn meets_upstreams(repo: &Repo<'_>, new: &[Commit]) -> Result<(), String> {
    let Some(limit) = &repo.upstream.history else { return Ok(()) };
    let ends = match std::fs::read_to_string(repo.gate.mirror(&repo.upstream.name).join("shallow")) {
        Ok(ends) => ends,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("where the history ends can't be read: {error}")),
    };
    let ends: BTreeSet<&str> = ends.lines().collect();
    match new.iter().find(|commit| ends.contains(commit.id.as_str())) {
        None => Ok(()),
        Some(end) => Err(format!(
            "the commits before {} were not fetched, so what is new in the push is not known; `history: {}` of {} in the manifest has to be larger",
            end.id.short(),
            limit.commits,
            repo.upstream.name
        )),
    }
}

/// The mirror's refs, and where each is.
fn refs(gate: &GateDirs, upstream: &Upstream) -> Result<BTreeMap<RefName, ObjectId>, String> {
    let mut command = process::git(&gate.home());
    command.env("GIT_DIR", gate.mirror(&upstream.name)).args(["for-each-ref", "--format=%(objectname)\t%(refname)"]);
    read(&git_ok(command, None)?)
}

/// Those of the wanted refs that upstream has, and where each is.
fn listed(
    gate: &GateDirs,
    upstream: &Upstream,
    wanted: &BTreeSet<&RefName>,
) -> Result<BTreeMap<RefName, ObjectId>, String> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut command = transport::git(gate, upstream);
    command.args(["ls-remote", "--refs", "--end-of-options"]).arg(upstream.url.to_string());
    command.args(wanted.iter().map(|name| name.as_str()));
    let output = relay::run(gate, upstream, command, mirror::QUERY_LIMITS).map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(last_words(&output.stderr));
    }
    // A name is a pattern to it, of which other names may end so.
    let mut listed = read(&output.stdout)?;
    listed.retain(|name, _| wanted.contains(name));
    Ok(listed)
}

/// Lines of an id, a tab and a ref's name. A ref whose name is none by git's rules is nobody's that is wanted.
fn read(lines: &[u8]) -> Result<BTreeMap<RefName, ObjectId>, String> {
    let mut refs = BTreeMap::new();
    for line in String::from_utf8_lossy(lines).lines() {
        let (id, name) = line.split_once('\t').ok_or("git listed a ref without its commit")?;
        let Ok(name) = RefName::parse(name) else { continue };
        refs.insert(name, ObjectId::parse(id).map_err(|error| format!("git listed a ref: {error}"))?);
    }
    Ok(refs)
}

fn fetch(gate: &GateDirs, upstream: &Upstream, options: &[&str], refspecs: &[String]) -> Result<(), String> {
    if refspecs.is_empty() {
        return Ok(());
    }
    let mut fetch = transport::git(gate, upstream);
    fetch.args(mirror::FETCH).args(options).arg("--end-of-options").arg(upstream.url.to_string()).args(refspecs);
    let output = relay::run(gate, upstream, fetch, mirror::FETCH_LIMITS).map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(last_words(&output.stderr)) }
}

fn is_here(gate: &GateDirs, upstream: &Upstream, id: &ObjectId) -> bool {
    let mut command = process::git(&gate.home());
    command.env("GIT_DIR", gate.mirror(&upstream.name)).args(["cat-file", "-e", &format!("{id}^{{commit}}")]);
    git_ok(command, None).is_ok()
}
