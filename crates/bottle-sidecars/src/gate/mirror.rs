//! Making the mirrors, and keeping each exactly what its upstream is now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bottle_policy::gate::{GatePolicy, Upstream};
use bottle_types::git::{ObjectId, RefName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::changes::{RefUpdate, Repo};
use super::dirs::{GateDirs, make_dir, shell_word, write_file};
use super::lock::Lock;
use super::process::{self, ProcessLimits, git_ok, last_words};
use super::{history, log, relay, seed, self_test, transport};
use crate::common::{Error, own_program};

/// A fetch may take its time, as long as something comes.
pub(super) const FETCH_LIMITS: ProcessLimits = ProcessLimits::seconds(3600, 60);
/// Smallest limit of one allocation: git need not hold anything larger in memory at once, but a blob that may be pushed.
const MIN_ALLOC_BYTES: u64 = 32 << 20;
pub(super) const QUERY_LIMITS: ProcessLimits = ProcessLimits::seconds(30, 30);

/// A fetch of the mirror's: of what is named, and nothing beside it.
pub(super) const FETCH: [&str; 7] = [
    "fetch",
    "--force",
    "--progress",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--no-recurse-submodules",
];

/// Makes the gate's directories, the hooks' scripts, and an empty mirror for each upstream; what stays as it was under the
/// policy `before` is left alone. Touches no network.
pub(super) fn prepare(gate: &GateDirs, config: &Path, before: Option<&GatePolicy>) -> Result<(), Error> {
    make_dir(&gate.root(), 0o700)?;
    let log = gate.dirs.log("");
    if !log.is_dir() {
        make_dir(&log, 0o755)?;
    }
    for name in ["", "atomic", "heads", "home", "hooks", "kept", "locks", "made", "policies", "pushed", "tmp"] {
        make_dir(&gate.private_path(name), 0o700)?;
    }
    make_dir(&gate.policy_dir, 0o700)?;
    let policy = bottle_types::yaml::to_string(&gate.policy)
        .map_err(|error| Error::Policy { path: config.to_owned(), reason: error.to_string() })?;
    write_file(&gate.policy_dir.join("policy.yaml"), policy.as_bytes(), 0o600)?;
    hooks(gate)?;
    transport::prepare(gate)?;
    let made = |upstream: &Upstream| {
        let same = |other: &Upstream| {
            let limits = |one: &Upstream| (one.push.max_push_bytes, one.push.max_blob_bytes);
            other.name == upstream.name && other.url == upstream.url && limits(other) == limits(upstream)
        };
        before.is_some_and(|before| before.upstreams.iter().any(same))
    };
    for upstream in gate.policy.upstreams.iter().filter(|upstream| !made(upstream)) {
        if self_test::is(upstream) {
            self_test::make(gate)?;
        } else {
            make(gate, upstream).map_err(|reason| Error::Policy { path: gate.mirror(&upstream.name), reason })?;
        }
    }
    Ok(())
}

/// Scripts, because git calls a hook by a path alone.
fn hooks(gate: &GateDirs) -> Result<(), Error> {
    let program = own_program().map_err(|error| Error::Read { path: "/proc/self/exe".into(), error })?;
    let dirs = [("--state", &gate.dirs.state), ("--secrets", &gate.dirs.secrets), ("--internal", &gate.dirs.internal)];
    let dirs = dirs.map(|(flag, dir)| format!("{flag} {}", shell_word(dir))).join(" ");
    for name in ["access", "pre-receive", "credential"] {
        let script = format!("#!/bin/sh\nexec {} {dirs} gate-hook {name} -- \"$@\"\n", shell_word(&program));
        let path = gate.private_path("hooks").join(name);
        // A program that is being written can't be started (ETXTBSY), and whoever is started meanwhile holds it open: one that
        // stays as it is, is left alone.
        if std::fs::read(&path).ok().as_deref() != Some(script.as_bytes()) {
            write_file(&path, script.as_bytes(), 0o700)?;
        }
    }
    Ok(())
}

fn make(gate: &GateDirs, upstream: &Upstream) -> Result<(), String> {
    let mirror = gate.mirror(&upstream.name);
    let url = upstream.url.to_string();
    let git = |args: &[&str]| {
        let mut command = process::git(&gate.home());
        command.arg("-C").arg(&mirror).args(args);
        git_ok(command, None)
    };
    if !mirror.join("config").exists() {
        let mut init = process::git(&gate.home());
        init.args(["init", "--quiet", "--bare", "--template=", "--initial-branch=main"]).arg(&mirror);
        git_ok(init, None)?;
        git(&["remote", "add", "--mirror=fetch", "origin", &url])?;
    } else {
        git(&["remote", "set-url", "origin", &url])?;
    }
    let max_input = upstream.push.max_push_bytes.0.to_string();
    let streamed = upstream.push.max_blob_bytes.0.max(MIN_ALLOC_BYTES).to_string();
    let hooks = gate.private_path("hooks");
    let hooks = hooks.to_str().ok_or("the state directory's path is not UTF-8")?;
    for (key, value) in [
        ("core.hooksPath", hooks),
        ("core.logAllRefUpdates", "false"),
        ("core.bigFileThreshold", &streamed),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
        ("receive.autogc", "false"),
        // A push stays the pack that it came as: what is forwarded needs no second compressing then.
        ("receive.unpackLimit", "1"),
        ("receive.fsckObjects", "true"),
        ("receive.maxInputSize", &max_input),
        ("receive.advertisePushOptions", "false"),
        ("receive.shallowUpdate", "false"),
        ("transfer.advertiseSID", "false"),
        ("uploadpack.allowFilter", "true"),
        ("uploadpack.allowAnySHA1InWant", "true"),
        ("fetch.writeCommitGraph", "false"),
    ] {
        git(&["config", key, value])?;
    }
    Ok(())
}

/// The most that one allocation of receive-pack may take, in bytes: the largest blob that may be pushed fits in, and what a
/// small pack of deltas on deltas would make does not. Larger blobs are not held in memory.
pub(super) fn max_alloc_bytes(gate: &GateDirs) -> u64 {
    let blobs = gate.policy.upstreams.iter().map(|upstream| upstream.push.max_blob_bytes.0);
    blobs.max().unwrap_or_default().max(MIN_ALLOC_BYTES).saturating_mul(2)
}

/// How upstream names its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ObjectFormat {
    Sha1,
    Sha256,
}

/// What upstream says of itself before anything is fetched.
struct AboutUpstream {
    /// The default branch, in full; an empty upstream has none to tell.
    head: Option<RefName>,
    format: ObjectFormat,
}

/// Asks upstream for its default branch and its object format; git itself takes the format from the capability `object-format`.
fn ask(gate: &GateDirs, upstream: &Upstream) -> Result<AboutUpstream, String> {
    let url = upstream.url.to_string();
    let (listed, said) = conversation(gate, upstream, &["ls-remote", "--symref", "--end-of-options", &url, "HEAD"])?;
    if !listed.status.success() {
        return Err(last_words(&listed.stderr));
    }
    let text = String::from_utf8_lossy(&listed.stdout);
    let head = text.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
    let head = head.filter(|head| head.starts_with("refs/heads/")).map(RefName::parse).transpose();
    let head = head.map_err(|error| format!("its default branch: {error}"))?;
    let format = match announced(&said) {
        // Before version 2 of the protocol, older servers say it of an empty repository to nobody but who would push there.
        None if text.is_empty() => {
            let push = ["-c", "push.default=matching", "push", "--dry-run", "--end-of-options", &url];
            // It fails, as it has nothing to push.
            announced(&conversation(gate, upstream, &push)?.1)
        }
        format => format,
    };
    // gitprotocol-v2(5): SHA-1 where none is said.
    Ok(AboutUpstream { head, format: format.unwrap_or(ObjectFormat::Sha1) })
}

/// Runs git, and gives with its output a trace of the packets.
fn conversation(gate: &GateDirs, upstream: &Upstream, args: &[&str]) -> Result<(process::ChildOutput, String), String> {
    let trace = tempfile::NamedTempFile::new_in(&gate.tmp).map_err(|error| error.to_string())?;
    let mut command = transport::git(gate, upstream);
    command.env("GIT_TRACE_PACKET", trace.path()).args(args);
    let output = relay::run(gate, upstream, command, QUERY_LIMITS).map_err(|error| error.to_string())?;
    let packets = std::fs::read(trace.path()).map_err(|error| error.to_string())?;
    Ok((output, String::from_utf8_lossy(&packets).into_owned()))
}

/// The object format among the capabilities in a trace of packets (gitprotocol-capabilities(5), gitprotocol-v2(5)).
fn announced(trace: &str) -> Option<ObjectFormat> {
    let theirs = trace.lines().filter_map(|line| line.split_once("< ").map(|(_, packet)| packet));
    // Before version 2 they stand in one packet, behind a NUL that the trace spells `\0`.
    let mut words = theirs.flat_map(|packet| packet.split("\\0")).flat_map(|part| part.split(' '));
    words.find_map(|word| match word.strip_prefix("object-format=")? {
        "sha1" => Some(ObjectFormat::Sha1),
        "sha256" => Some(ObjectFormat::Sha256),
        _ => None,
    })
}

/// Gives an empty mirror the object format of its upstream.
fn take_format(gate: &GateDirs, upstream: &Upstream, format: ObjectFormat) -> Result<(), String> {
    if format == ObjectFormat::Sha1 {
        return Ok(());
    }
    for (key, value) in [("core.repositoryFormatVersion", "1"), ("extensions.objectFormat", "sha256")] {
        let mut command = process::git(&gate.home());
        command.arg("-C").arg(gate.mirror(&upstream.name)).args(["config", key, value]);
        git_ok(command, None)?;
    }
    Ok(())
}

/// Brings the mirror's refs to what upstream has, and drops those that are gone there; the lock of the mirror is held meanwhile.
pub(super) fn refresh(gate: &GateDirs, upstream: &Upstream) -> Result<(), String> {
    let lock = Lock::wait_for(gate, &upstream.name)?;
    let head_is_set = list(gate, "heads", upstream);
    let unreachable = |reason: String| format!("upstream of {} can't be fetched: {reason}", upstream.name);
    transport::usable(&gate.dirs, upstream).map_err(unreachable)?;
    let first = if head_is_set.exists() { None } else { Some(ask(gate, upstream).map_err(unreachable)?) };
    if let Some(about) = &first {
        take_format(gate, upstream, about.format)?;
        match seed::take(gate, upstream) {
            Ok(true) => log::send(&gate.dirs, &format!("{}: took in what the host has", upstream.name)),
            Ok(false) => {}
            // It only saves time.
            Err(reason) => log::send(&gate.dirs, &reason),
        }
        if seed::lend(gate, upstream)? {
            log::send(&gate.dirs, &format!("{}: reads what an earlier run had", upstream.name));
        }
    }
    match &upstream.history {
        None => fetch_all(gate, upstream),
        Some(limit) => {
            let default_branch = first.as_ref().map(|about| about.head.as_ref());
            history::refresh(gate, upstream, limit, default_branch)
        }
    }
    .map_err(unreachable)?;
    if let Some(about) = first {
        set_head(gate, upstream, about.head)?;
        write_file(&head_is_set, b"", 0o600).map_err(|error| error.to_string())?;
    } else if head_leads_nowhere(gate, upstream) {
        set_head(gate, upstream, ask(gate, upstream).map_err(unreachable)?.head)?;
    }
    lock.finished();
    Ok(())
}

/// Brings all refs to what upstream has, with all that they reach; the error has git's words.
fn fetch_all(gate: &GateDirs, upstream: &Upstream) -> Result<(), String> {
    let mut fetch = transport::git(gate, upstream);
    fetch.args(FETCH).arg("--prune").arg("--end-of-options").arg(upstream.url.to_string()).arg("+refs/*:refs/*");
    // A dry run's pushes are in the mirror alone; a fetch must not take them away.
    for name in kept(gate, upstream)? {
        fetch.arg(format!("^{name}"));
    }
    let output = relay::run(gate, upstream, fetch, FETCH_LIMITS).map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(last_words(&output.stderr)) }
}

/// Tells whether the branch that HEAD names is missing: upstream was empty, or has another default branch by now.
fn head_leads_nowhere(gate: &GateDirs, upstream: &Upstream) -> bool {
    let mirror = gate.mirror(&upstream.name);
    let head = std::fs::read_to_string(mirror.join("HEAD")).unwrap_or_default();
    if head.strip_prefix("ref: ").is_some_and(|name| mirror.join(name.trim_end()).is_file()) {
        return false;
    }
    // It may be among the packed ones.
    let mut ask = process::git(&gate.home());
    ask.env("GIT_DIR", mirror).args(["rev-parse", "--quiet", "--verify", "HEAD"]);
    git_ok(ask, None).is_err()
}

/// Points HEAD to where upstream's points, so that a clone checks out the same branch.
fn set_head(gate: &GateDirs, upstream: &Upstream, head: Option<RefName>) -> Result<(), String> {
    let Some(head) = head else { return Ok(()) };
    let mut command = process::git(&gate.home());
    command.env("GIT_DIR", gate.mirror(&upstream.name)).args(["symbolic-ref", "HEAD", head.as_str()]);
    git_ok(command, None).map(drop)
}

/// The file in which the gate remembers something of an upstream; another URL under the same name has another file.
pub(super) fn list(gate: &GateDirs, what: &str, upstream: &Upstream) -> PathBuf {
    let url = hex::encode(Sha256::digest(upstream.url.to_string()));
    gate.private_path(what).join(format!("{}-{}", upstream.name, &url[..16]))
}

/// A dry run's accepted refs that are in the mirror: git may have refused one after all, or was killed before it was there.
pub(super) fn kept(gate: &GateDirs, upstream: &Upstream) -> Result<Vec<RefName>, String> {
    let kept: RefList = read_list(&list(gate, "kept", upstream))?;
    if kept.is_empty() {
        return Ok(vec![]);
    }
    let mut ask = process::git(&gate.home());
    ask.env("GIT_DIR", gate.mirror(&upstream.name)).args(["for-each-ref", "--format=%(refname) %(objectname)"]);
    ask.args(kept.keys().map(RefName::as_str));
    let there = git_ok(ask, None)?;
    let there = String::from_utf8_lossy(&there);
    let there: BTreeSet<&str> = there.lines().collect();
    Ok(kept.into_iter().filter(|(name, id)| there.contains(&*format!("{name} {id}"))).map(|(name, _)| name).collect())
}

/// Remembers refs that a dry run has accepted.
pub(super) fn keep(gate: &GateDirs, upstream: &Upstream, refs: &[(RefName, ObjectId)]) -> Result<(), String> {
    add_to_list(&list(gate, "kept", upstream), refs)
}

/// The branches that this run created, and may therefore rewrite.
pub(super) fn made(gate: &GateDirs, upstream: &Upstream) -> Result<RefList, String> {
    read_list(&list(gate, "made", upstream))
}

/// Remembers branches that this run created.
pub(super) fn remember_made(gate: &GateDirs, upstream: &Upstream, refs: &[(RefName, ObjectId)]) -> Result<(), String> {
    add_to_list(&list(gate, "made", upstream), refs)
}

/// Remembers, before a push goes to upstream, what each of its refs was there: what the run itself pushed is not upstream's.
pub(super) fn remember_pushed(gate: &GateDirs, upstream: &Upstream, updates: &[RefUpdate]) -> Result<(), String> {
    let path = list(gate, "pushed", upstream);
    let before: PushedList = read_list(&path)?;
    let entries = updates.iter().map(|update| (format!("{} {}", update.name, update.new), update.old.clone()));
    let new: Vec<_> = entries.filter(|(key, _)| !before.contains_key(key)).collect();
    add_to_list(&path, &new)
}

/// Tells whether this run has pushed this commit to this ref.
pub(super) fn has_pushed(
    gate: &GateDirs,
    upstream: &Upstream,
    name: &RefName,
    commit: &ObjectId,
) -> Result<bool, String> {
    let pushed: PushedList = read_list(&list(gate, "pushed", upstream))?;
    Ok(pushed.contains_key(&format!("{name} {commit}")))
}

/// Commits that upstream has by other hands than this run's.
pub(super) struct UpstreamsTips {
    /// Those of its branches and tags.
    pub(super) commits: BTreeSet<ObjectId>,
    /// That of the default branch.
    pub(super) head: Option<ObjectId>,
}

/// Reads the mirror's branches and tags; in place of one that this run pushed stands what upstream had there before.
pub(super) fn upstreams_tips(repo: &Repo<'_>) -> Result<UpstreamsTips, String> {
    // The refs first: a push beside this one is in the list before its refs are here.
    let format = "--format=%(refname) %(objectname) %(HEAD)";
    let listed = repo.ok(&["for-each-ref", format, "refs/heads/", "refs/tags/"], None)?;
    let pushed: PushedList = read_list(&list(repo.gate, "pushed", repo.upstream))?;
    let before = |name: &str, mut id: ObjectId| {
        for _ in 0..=pushed.len() {
            match pushed.get(&format!("{name} {id}")) {
                Some(before) => before.clone_into(&mut id),
                None => return (!id.is_null()).then_some(id),
            }
        }
        None
    };
    let mut tips = UpstreamsTips { commits: BTreeSet::new(), head: None };
    for line in String::from_utf8_lossy(&listed).lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(id)) = (words.next(), words.next()) else { continue };
        let id = ObjectId::parse(id).map_err(|error| format!("git for-each-ref: {error}"))?;
        let Some(id) = before(name, id) else { continue };
        if words.next() == Some("*") {
            tips.head = Some(id.clone());
        }
        tips.commits.insert(id);
    }
    Ok(tips)
}

/// Refs, and where each was when the gate wrote it down.
type RefList = BTreeMap<RefName, ObjectId>;
/// What upstream had, by the ref and the id that the run pushed there, a space between.
type PushedList = BTreeMap<String, ObjectId>;

fn read_list<K: DeserializeOwned + Ord>(path: &Path) -> Result<BTreeMap<K, ObjectId>, String> {
    let say = |error: &dyn std::fmt::Display| format!("failed to read {}: {error}", path.display());
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| say(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(say(&error)),
    }
}

fn add_to_list<K>(path: &Path, refs: &[(K, ObjectId)]) -> Result<(), String>
where
    K: Serialize + DeserializeOwned + Ord + Clone,
{
    let mut list: BTreeMap<K, ObjectId> = read_list(path)?;
    list.extend(refs.iter().cloned());
    let text = serde_json::to_vec(&list).map_err(|error| error.to_string())?;
    write_file(path, &text, 0o600).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_format_is_what_the_other_side_announces() {
        let v2 = "12:00:00.1 pkt-line.c:80           packet:    ls-remote< version 2\n\
                  12:00:00.1 pkt-line.c:80           packet:    ls-remote< object-format=sha256\n\
                  12:00:00.1 pkt-line.c:80           packet:    ls-remote> object-format=sha1\n";
        assert_eq!(announced(v2), Some(ObjectFormat::Sha256));
        let v0 = "12:00:00.1 pkt-line.c:80  packet:  push< 0000 capabilities^{}\\0report-status object-format=sha256 agent=git/2\n";
        assert_eq!(announced(v0), Some(ObjectFormat::Sha256));
        assert_eq!(announced("packet: push< 0000 capabilities^{}\\0object-format=sha1\n"), Some(ObjectFormat::Sha1));
        for silent in [
            "",
            "packet:    ls-remote< 0000\n",
            "packet:    ls-remote> object-format=sha256\n",
            "packet: git< object-format=md5",
        ] {
            assert_eq!(announced(silent), None, "{silent}");
        }
    }
}
