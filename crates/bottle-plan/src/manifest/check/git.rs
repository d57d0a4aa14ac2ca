//! Checks of the `git` section: a pinned host key for every ssh upstream, and credentials that fit the transport.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use bottle_policy::gate::commits::{CommitJudge, CommitRules};
use bottle_policy::gate::hold::Holds;
use bottle_policy::gate::paths::ProtectedPaths;
use bottle_policy::gate::refs::RefRules;
use bottle_policy::gate::{GateError, Transport, UpstreamUrl};
use bottle_types::host::HostName;

use super::{At, Checked, check_repo_path};
use crate::manifest::commits::odd_author;
use crate::manifest::plain_http::open_authority;
use crate::manifest::{BottleEntry, CommitsEntry, GitEntry, Manifest, Push, RunIdentity};

/// git takes numbers up to 2,147,483,647, and no repository has so many.
const MOST_HISTORY: u32 = 10_000_000;

/// Checks every entry, and all of them together.
pub(super) fn check(entries: &[GitEntry], manifest: &Manifest, at: &At) -> Checked {
    let mut names = BTreeMap::new();
    let mut repositories = BTreeMap::new();
    let mut addresses: BTreeMap<&HostName, (IpAddr, &str)> = BTreeMap::new();
    let mut deploy_key = None;
    let works_in = entries.iter().position(|entry| entry.name.as_str() == "origin").unwrap_or(0);
    for (index, entry) in entries.iter().enumerate() {
        let at = at.item(index);
        check_entry(entry, &at)?;
        if let Err(open) = manifest.may_be_open(&entry.upstream) {
            return Err(at.key("upstream").wrong(&open.to_string()).hint(open.hint()));
        }
        if names.insert(entry.name.as_str(), index).is_some() {
            return Err(at.key("name").wrong(&format!("there is another upstream `{}`", entry.name)));
        }
        let repository = (&entry.upstream.host, entry.upstream.repository());
        if let Some(other) = repositories.insert(repository, entry.name.as_str()) {
            let problem = format!("the upstream `{other}` is the same repository");
            return Err(at.key("upstream").wrong(&problem).hint("git could not tell which of the two is meant"));
        }
        if !entry.sparse.is_empty() && index != works_in {
            let problem = format!("the guest works in `{}`, and nothing else is checked out", entries[works_in].name);
            return Err(at.key("sparse").wrong(&problem).hint("remove it; the agent clones the others as it likes"));
        }
        if entry.deploy_key
            && let Some(other) = deploy_key.replace(entry.name.as_str())
        {
            let problem = format!("the upstream `{other}` has a deploy key already");
            return Err(at.key("deploy_key").wrong(&problem).hint("a run has one: of the job's own repository"));
        }
        for (host, address) in &entry.extra_hosts {
            let other = addresses.insert(host, (*address, entry.name.as_str()));
            if let Some((other_address, other)) = other
                && other_address != *address
            {
                let name = &entry.name;
                return Err(at.key("extra_hosts").key(host.as_str()).wrong(&format!(
                    "{host} is {address} for the upstream `{name}` and {other_address} for `{other}`"
                )));
            }
        }
    }
    Ok(())
}

/// Checks that the directory in which the work starts is checked out.
pub(super) fn check_sparse(bottle: &BottleEntry, at: &At) -> Checked {
    let Some(directory) = &bottle.directory else { return Ok(()) };
    for entry in bottle.git.iter().filter(|entry| !entry.sparse.is_empty()) {
        let is_in = |checked_out: &String| Path::new(directory).starts_with(checked_out);
        if !entry.sparse.iter().any(is_in) {
            let problem = format!("`{directory}` is not checked out: `sparse` of `{}` does not have it", entry.name);
            return Err(at.key("directory").wrong(&problem).hint("add it to `sparse`"));
        }
    }
    Ok(())
}

/// The command that gets the host key of an upstream.
pub(crate) fn keyscan(upstream: &UpstreamUrl) -> String {
    match upstream.port {
        Some(port) => format!("ssh-keyscan -t ed25519 -p {port} {}", upstream.host),
        None => format!("ssh-keyscan -t ed25519 {}", upstream.host),
    }
}

/// Checks that `plain_http` has hosts.
pub(super) fn check_plain_http(hosts: &[String], at: &At) -> Checked {
    for (index, host) in hosts.iter().enumerate() {
        if open_authority(host).is_none() {
            let problem = format!("`{host}` is not a host with its port");
            return Err(at.item(index).wrong(&problem).hint("write it as in the address: `git.home:3000`"));
        }
    }
    Ok(())
}

fn check_entry(entry: &GitEntry, at: &At) -> Checked {
    if entry.history.is_some_and(|history| history.get() > MOST_HISTORY) {
        let problem = format!("expected at most {MOST_HISTORY}");
        return Err(at.key("history").wrong(&problem).hint("leave it out for all of the history"));
    }
    for (index, directory) in entry.sparse.iter().enumerate() {
        check_repo_path(directory, &at.key("sparse").item(index))?;
    }
    match entry.upstream.transport {
        Transport::Ssh => {
            if entry.known_host_key.is_none() {
                let hint = format!(
                    "`{}` prints it behind the host's name; compare it with what the server's owner publishes",
                    keyscan(&entry.upstream)
                );
                return Err(at
                    .wrong("an ssh upstream needs `known_host_key`: no host is trusted on first use")
                    .hint(hint));
            }
            match (&entry.identity_file, entry.deploy_key) {
                (None, false) => {
                    return Err(at
                        .wrong("an ssh upstream needs `identity_file`: the private key that may read it")
                        .hint(
                            "or `deploy_key: true`: a key made for each run, which the runner registers at the forge",
                        ));
                }
                (Some(_), true) => {
                    let problem = "there is an `identity_file` as well, and one key logs in";
                    return Err(at.key("deploy_key").wrong(problem).hint("remove one of the two"));
                }
                (None, true) if !is_owner_and_name(entry.upstream.repository()) => {
                    let problem = "a deploy key is for a forge's repository, and this path is not OWNER/NAME";
                    return Err(at.key("upstream").wrong(problem).hint("write `ssh://git@HOST/OWNER/NAME.git`"));
                }
                _ => {}
            }
            if entry.token_from.is_some() {
                return Err(at.key("token_from").wrong("a token is for https upstreams").hint("remove it"));
            }
        }
        Transport::Https | Transport::Http => {
            for (key, given) in [
                ("identity_file", entry.identity_file.is_some()),
                ("deploy_key", entry.deploy_key),
                ("known_host_key", entry.known_host_key.is_some()),
            ] {
                if given {
                    let hint = "use `token_from`, or an ssh:// upstream";
                    let scheme = entry.upstream.transport.scheme();
                    let problem = format!("this is for ssh upstreams, and the upstream is {scheme}");
                    return Err(at.key(key).wrong(&problem).hint(hint));
                }
            }
        }
    }
    if let Some(file) = &entry.identity_file
        && !(file.starts_with('/') || file.starts_with("~/"))
    {
        return Err(at
            .key("identity_file")
            .wrong(&format!("`{file}` is not an absolute path"))
            .hint("a private key is not part of the repository; begin with `/` or `~/`"));
    }
    check_push(&entry.push, &at.key("push"))
}

/// Whether a path is a forge's: an owner and a name.
fn is_owner_and_name(path: &str) -> bool {
    path.split('/').count() == 2
}

fn check_push(push: &Push, at: &At) -> Checked {
    for (index, pattern) in push.refs.iter().enumerate() {
        let at = at.key("refs").item(index);
        let tags = pattern.starts_with("refs/tags/");
        let named = pattern.starts_with("refs/heads/") || tags;
        let odd = pattern.contains([' ', '~', '^', ':', '\\', '\0', '\n', '\t'])
            || pattern.contains("..")
            || pattern.contains("//")
            || pattern.ends_with(['/', '.']);
        if !named || odd {
            let hint = "give the full name: `refs/heads/bottle/**`";
            return Err(at.wrong(&format!("`{pattern}` is not a pattern of refs")).hint(hint));
        }
        if tags && !push.tags {
            return Err(at.wrong("tags may not be pushed").hint("add `tags: true`, or remove this pattern"));
        }
    }
    for (index, path) in push.protect_paths.iter().enumerate() {
        let odd = path.is_empty() || path.starts_with('/') || path.split('/').any(|part| matches!(part, "." | ".."));
        if odd {
            let problem = format!("`{path}` is not a pattern of paths in the repository");
            return Err(at.key("protect_paths").item(index).wrong(&problem).hint("it has no leading `/` and no `..`"));
        }
    }
    // The gate's own reading of them.
    let rules = push.rules(&RunIdentity::of_no_run());
    RefRules::new(&rules).map_err(|error| at.key("refs").wrong(&error.to_string()))?;
    ProtectedPaths::new(&rules).map_err(|error| at.key("protect_paths").wrong(&error.to_string()))?;
    check_commits(&push.commits, &rules.commits, &at.key("commits"))?;
    Holds::new(&rules.hold).map_err(|error| at.key("hold").wrong(&error.to_string()))?;
    for (key, size) in [("max_blob_bytes", push.max_blob_bytes), ("max_push_bytes", push.max_push_bytes)] {
        if size.0 == 0 {
            return Err(at.key(key).wrong("nothing could be pushed").hint("`refs: []` says that more clearly"));
        }
    }
    Ok(())
}

fn check_commits(commits: &CommitsEntry, rules: &CommitRules, at: &At) -> Checked {
    if let Some(index) = commits.authors.iter().position(|author| odd_author(author)) {
        let problem = format!("`{}` is neither `run` nor an e-mail address or a glob of them", commits.authors[index]);
        return Err(at.key("authors").item(index).wrong(&problem).hint("`run` stands for this run's own identity"));
    }
    if let Some(index) = (1..commits.trailers.len()).find(|at| commits.trailers[..*at].contains(&commits.trailers[*at]))
    {
        return Err(at.key("trailers").item(index).wrong("this trailer stands here twice").hint("remove one"));
    }
    match CommitJudge::new(rules) {
        Ok(_) => Ok(()),
        Err(GateError::Commits { key, reason }) => Err(at.key(key).wrong(&reason)),
        Err(error) => Err(at.key("authors").wrong(&error.to_string())),
    }
}
