//! A pushed `.lfsconfig`: where later clones, people's too, get their objects from. The gate itself never reads one.

use std::collections::{BTreeMap, BTreeSet};

use super::super::changes::{Changes, PathChange, Repo, TreeEntry};
use super::super::process::{self, ProcessLimits};
use super::super::rules::Refusal;

const LFSCONFIG: &[u8] = b".lfsconfig";
/// What git-lfs adds to a repository's address.
const API_PATH: &str = "/info/lfs";

/// Refuses a version that leads to a server which neither is a declared upstream's nor stands in the version before it.
pub(in super::super) fn judge(repo: &Repo<'_>, changes: &Changes) -> Result<Vec<Refusal>, String> {
    let mut versions: BTreeMap<usize, Vec<&PathChange>> = BTreeMap::new();
    for change in changes.paths.iter().filter(|change| change.path == LFSCONFIG && change.new.is_there()) {
        versions.entry(change.commit).or_default().push(change);
    }
    let mut refusals = vec![];
    for (commit, versions) in versions {
        let commit = &changes.commits[commit];
        // What a merge has as one of its parents has it was judged there, or is upstream's own.
        if versions.len() < commit.parents.len().max(1) {
            continue;
        }
        let mut before = BTreeSet::new();
        for change in versions.iter().filter(|change| change.old.is_there()) {
            before.extend(servers(repo, &change.old)?.unwrap_or_default());
        }
        let short = commit.id.short();
        match servers(repo, &versions[0].new)? {
            None => refusals.push(Refusal::all(format!(".lfsconfig in commit {short} can't be read by git: mend it"))),
            Some(servers) => {
                let leads_away = servers.iter().any(|server| !before.contains(server) && !is_declared(repo, server));
                refusals.extend(leads_away.then(|| {
                    Refusal::all(format!(
                        ".lfsconfig in commit {short} leads to a server that is no declared upstream's: leave its \
                         addresses as upstream has them"
                    ))
                }));
            }
        }
    }
    Ok(refusals)
}

/// The addresses that a version names; `None`: git can't read it.
fn servers(repo: &Repo<'_>, entry: &TreeEntry) -> Result<Option<BTreeSet<String>>, String> {
    let mut command = repo.git();
    command.args(["config", "--no-includes", "--null", "--list", "--blob", entry.id.as_str()]);
    let output = process::run(command, None, ProcessLimits::local()).map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let items = text.split('\0').filter_map(|item| item.split_once('\n'));
    let is_server = |key: &str| {
        matches!(key, "lfs.url" | "lfs.pushurl")
            || (key.starts_with("remote.") && (key.ends_with(".lfsurl") || key.ends_with(".lfspushurl")))
    };
    Ok(Some(items.filter(|(key, _)| is_server(key)).map(|(_, value)| value.to_owned()).collect()))
}

fn is_declared(repo: &Repo<'_>, server: &str) -> bool {
    let address = server.trim_end_matches('/');
    let address = address.strip_suffix(API_PATH).unwrap_or(address);
    let mut upstreams = repo.gate.policy.upstreams.iter();
    upstreams.any(|upstream| upstream.url.is_reached_by(address, &repo.upstream.url))
}
