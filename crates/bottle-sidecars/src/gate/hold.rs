//! Pushes that wait for a person. Such a push is refused; supervise asks about it, and a yes comes into the gate's policy as the
//! repository, the refs and the ids before and after. The same push again is let through by that.
//!
//! Always: nothing of a held push outlives its connection but the question, so a gate that is killed has nothing to lose or to let
//! through; a push that can't be asked about is refused like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bottle_policy::gate::hold::{Holds, RefMove};
use bottle_policy::supervise::HeldPush;
use bottle_types::git::{ObjectId, RefName};
use bottle_types::rule::Rule;
use bottle_wire::control::{Call, Holding, SUPERVISE_SOCKET};

use super::changes::{Changes, RefUpdate, Repo};
use super::scan::FoundIn;
use super::{mirror, stat};
use crate::common::Dirs;
use crate::confirm::MAX_LINE_BYTES;

/// For supervise to say how the question stands.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A push with more findings than these is refused: nobody could look at them all.
const MAX_FINDINGS: usize = 50;
/// So many reasons of one kind are told.
const MAX_WHY: usize = 4;

/// Tells findings that hold a push from those that refuse it.
pub(super) fn refuses(holds: &Holds, findings: &[FoundIn]) -> bool {
    findings.len() > MAX_FINDINGS
        || findings.iter().any(|one| one.exemption.is_none() || !holds.rule(&one.finding.rule))
}

/// What a person is asked about a push; none where nothing holds it. `findings` are those that do.
pub(super) fn question(
    repo: &Repo<'_>,
    updates: &[RefUpdate],
    changes: &Changes,
    findings: &[FoundIn],
) -> Result<Option<HeldPush>, String> {
    let rules = &repo.upstream.push.hold;
    if rules.is_none() {
        return Ok(None);
    }
    let holds = Holds::new(rules).map_err(|error| error.to_string())?;
    let own = stat::own_changes(changes);
    let paths: BTreeSet<(String, &str)> =
        own.iter().filter_map(|change| Some((change.path(), holds.path(&change.path())?))).collect();
    let mut why: Vec<String> =
        paths.iter().take(MAX_WHY).map(|(path, glob)| format!("{path} is held ({glob})")).collect();
    if paths.len() > MAX_WHY {
        why.push(format!("and {} more paths are", paths.len() - MAX_WHY));
    }
    let rules: BTreeSet<&Rule> = findings.iter().map(|one| &one.finding.rule).collect();
    why.extend(rules.iter().take(MAX_WHY).map(|rule| format!("{rule} found something")));
    let bytes = changes.objects.iter().map(|object| object.size).fold(changes.lfs.bytes(), u64::saturating_add);
    if let Some(most) = holds.size(bytes) {
        why.push(format!("it is {bytes} bytes unpacked, and more than {most} is held"));
    }
    why.extend(let_through_elsewhere(repo, updates)?.into_iter().take(MAX_WHY));
    if why.is_empty() {
        return Ok(None);
    }
    let refs = updates.iter().map(|update| RefMove {
        r#ref: update.name.clone(),
        old: update.old.clone(),
        new: update.new.clone(),
    });
    let place = |one: &FoundIn| {
        let line = one.finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{} at {}{line}", one.finding.rule, one.finding.path)
    };
    let held = HeldPush {
        upstream: repo.upstream.name.clone(),
        refs: refs.collect(),
        why,
        files: stat::lines(&stat::stats(repo, changes)?),
        findings: findings.iter().map(place).collect(),
    };
    HeldPush::new(held).map(Some).map_err(|error| format!("nobody can be asked about it: {error}"))
}

/// The refs that get commits which a person has let through to another one alone. Upstream has them by now, so they are not
/// looked at as new ones any more.
fn let_through_elsewhere(repo: &Repo<'_>, updates: &[RefUpdate]) -> Result<BTreeSet<String>, String> {
    let approved = repo.gate.policy.approved.iter().filter(|one| one.upstream == repo.upstream.name);
    let approved: Vec<&RefMove> = approved.flat_map(|one| &one.refs).collect();
    if approved.is_empty() {
        return Ok(BTreeSet::new());
    }
    let before: String = mirror::upstreams_tips(repo)?.commits.iter().map(|id| format!("^{id}\n")).collect();
    let commits = |new: &ObjectId, old: Option<&ObjectId>| -> Result<BTreeSet<ObjectId>, String> {
        let old = old.map(|old| format!("^{old}\n")).unwrap_or_default();
        // What was let through and never pushed is not here.
        let listed = repo.ok(&["rev-list", "--ignore-missing", "--stdin"], Some(format!("{new}\n{before}{old}")))?;
        let commits = String::from_utf8_lossy(&listed).lines().map(ObjectId::parse).collect::<Result<_, _>>();
        commits.map_err(|error| format!("git rev-list: {error}"))
    };
    let mut allowed: BTreeMap<ObjectId, BTreeSet<&RefName>> = BTreeMap::new();
    for one in approved {
        for commit in commits(&one.new, None)? {
            allowed.entry(commit).or_default().insert(&one.r#ref);
        }
    }
    let mut why = BTreeSet::new();
    for update in updates.iter().filter(|update| !update.deletes()) {
        let brought = commits(&update.new, (!update.creates()).then_some(&update.old))?;
        let others =
            brought.iter().filter_map(|commit| allowed.get(commit)).filter(|refs| !refs.contains(&update.name));
        why.extend(
            others.flatten().map(|name| format!("{} gets commits that were let through to {name} alone", update.name)),
        );
    }
    Ok(why)
}

/// Tells whether a person has let exactly this push through, by the policy of its connection.
pub(super) fn is_approved(repo: &Repo<'_>, held: &HeldPush) -> bool {
    repo.gate.policy.approved.contains(&held.approved())
}

/// Has supervise ask about it; gives what to tell the agent.
pub(super) fn ask(dirs: &Dirs, held: &HeldPush) -> String {
    let why = held.why.join("; ");
    match call(dirs, held) {
        Ok(Holding::Waits { id }) => format!(
            "is held for a person as proposal {id}: {why}; nothing was pushed. Call `wait` with that id, and after a yes push \
             exactly this again: with other commits it is another push"
        ),
        Ok(Holding::Approved { id, by }) => {
            format!("was let through by {by} just now ({id}): push exactly this again")
        }
        Ok(Holding::Refused { id: Some(id), why: no }) => format!("is held: {why}; {no} ({id})"),
        Ok(Holding::Refused { id: None, why: no }) => format!("is held: {why}; {no}"),
        Err(error) => format!("is held: {why}; there is nobody to ask: supervise does not answer ({error})"),
    }
}

fn call(dirs: &Dirs, held: &HeldPush) -> std::io::Result<Holding> {
    let mut stream = UnixStream::connect(dirs.internal.join(SUPERVISE_SOCKET))?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = serde_json::to_vec(&Call::HoldPush(held.clone()))?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_LINE_BYTES)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
