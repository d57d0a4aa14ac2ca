//! Last phase: the push is at upstream, or kept in a dry run. All refs go or none, each only if upstream still has what the
//! push was judged against.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Instant;

use bottle_wire::push_report::{PushVerdict, Timings};

use super::super::changes::{Changes, RefUpdate};
use super::super::dirs::GateDirs;
use super::super::lfs;
use super::super::lock::Lock;
use super::super::mirror;
use super::super::process::{self, ProcessLimits, git_ok, last_words};
use super::super::relay;
use super::super::rules::Refusal;
use super::super::scan::FoundIn;
use super::super::transport;
use super::command::{NOT_ATOMIC, ONE_AT_A_TIME, atomic_marker, push, unreachable};
use super::judged::Judged;
use super::millis;
use super::received::Received;
use super::refused::Refused;

const PUSH_LIMITS: ProcessLimits = ProcessLimits::seconds(1800, 120);
/// No more of upstream's words than this are passed on.
const MAX_REMOTE_LINES: usize = 20;
/// A push that was forwarded, or in a dry run kept.
pub(super) struct Forwarded<'a> {
    pub(super) received: Received<'a>,
    pub(super) changes: Changes,
    /// What was found, and a person has let through.
    pub(super) allowed: Vec<FoundIn>,
    /// Accepted, or would be pushed.
    pub(super) verdict: PushVerdict,
    /// Upstream's own words.
    pub(super) remote_lines: Vec<String>,
    pub(super) ms: Timings,
}

impl<'a> Forwarded<'a> {
    /// Forwards a judged push; if upstream does not take it, the push is refused.
    pub(super) fn new(judged: Judged<'a>) -> Result<Self, Box<Refused<'a>>> {
        let start = Instant::now();
        let forward = || {
            // Upstream has an object before any ref leads to it.
            lfs::forward(judged.repo(), judged.changes())?;
            if judged.repo().gate.policy.dry_run {
                keep_as_bundle(&judged)?;
                return Ok((PushVerdict::WouldPush, vec![]));
            }
            to_upstream(&judged).map(|remote_lines| (PushVerdict::Accepted, remote_lines))
        };
        let done = forward();
        let (received, changes, allowed, mut ms) = judged.into_parts();
        ms.forward = millis(start);
        match done {
            Ok((verdict, remote_lines)) => Ok(Self { received, changes, allowed, verdict, remote_lines, ms }),
            Err(ForwardError { why, remote_lines }) => {
                let refusals = vec![Refusal::all(why)];
                Err(Box::new(Refused {
                    received,
                    changes,
                    refusals,
                    findings: vec![],
                    remote_lines,
                    is_held: false,
                    ms,
                }))
            }
        }
    }
}

/// Why upstream does not have a push.
#[derive(Debug, Default)]
struct ForwardError {
    why: String,
    /// Upstream's own words, a line each.
    remote_lines: Vec<String>,
}

impl From<String> for ForwardError {
    fn from(why: String) -> Self {
        Self { why, remote_lines: vec![] }
    }
}

/// Pushes all refs or none; gives upstream's own words.
fn to_upstream(judged: &Judged<'_>) -> Result<Vec<String>, ForwardError> {
    let (repo, updates) = (judged.repo(), judged.updates());
    let name = &repo.upstream.name;
    let lock = Lock::wait_for(repo.gate, name)?;
    transport::usable(&repo.gate.dirs, repo.upstream)?;
    mirror::remember_pushed(repo.gate, repo.upstream, updates)?;
    let push = push(repo, updates, &[]);
    let output = relay::run(repo.gate, repo.upstream, push, PUSH_LIMITS).map_err(|error| unreachable(&error))?;
    let remote_lines = remote_lines(&output.stderr);
    if !output.status.success() {
        let why = why_not(&output.stderr, &remote_lines);
        if why == ONE_AT_A_TIME {
            let _ = std::fs::remove_file(atomic_marker(repo));
        }
        return Err(ForwardError { why, remote_lines });
    }
    let made: Vec<_> = updates
        .iter()
        .filter(|update| update.creates() && update.name.branch().is_some())
        .map(|update| (update.name.clone(), update.new.clone()))
        .collect();
    hold(repo.gate, lock);
    mirror::remember_made(repo.gate, repo.upstream, &made)?;
    Ok(remote_lines)
}

/// The lines of upstream's hooks and rules, which git passes on behind `remote: `.
fn remote_lines(stderr: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.split(['\n', '\r']).filter(|line| !process::is_progress(line));
    let lines =
        lines.filter_map(|line| line.strip_prefix("remote: ")).map(str::trim_end).filter(|line| !line.is_empty());
    let mut words: Vec<String> = lines.map(|line| line.chars().take(300).collect()).collect();
    let more = words.len().saturating_sub(MAX_REMOTE_LINES);
    words.truncate(MAX_REMOTE_LINES);
    if more > 0 {
        words.push(format!("and {more} lines more"));
    }
    words
}

/// In a line, why git says that upstream did not take a push.
fn why_not(stderr: &[u8], words: &[String]) -> String {
    let text = String::from_utf8_lossy(stderr);
    if text.contains(NOT_ATOMIC) {
        return ONE_AT_A_TIME.to_owned();
    }
    // ` ! [remote rejected] ID -> main (protected branch hook declined)`; of the other refs of an atomic push it says less.
    let reasons = text.lines().filter_map(|line| {
        let (_, reason) = line.trim_start().strip_prefix("! [")?.rsplit_once(" (")?;
        reason.strip_suffix(')').filter(|reason| !matches!(*reason, "atomic push failed" | "atomic push failure"))
    });
    match reasons.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()[..] {
        [] if words.is_empty() => format!("upstream did not take it: {}", last_words(stderr)),
        [] => "upstream did not take it".to_owned(),
        ["stale info" | "fetch first"] => {
            "upstream has moved since this push began; fetch, rebase and push again".to_owned()
        }
        ref reasons => format!("upstream did not take it: {}", reasons.join("; ")),
    }
}

/// Keeps the mirror's lock until receive-pack, which waits for this hook, has moved the mirror's own refs: a fetch in between
/// would move them first, and the agent would be told that a push has failed which upstream has.
fn hold(gate: &GateDirs, lock: Lock) {
    let Some(receive_pack) = rustix::process::getppid() else { return };
    let wait = "i=0; while kill -0 \"$1\" && [ $i -lt 300 ]; do sleep 0.02; i=$((i+1)); done";
    let mut command = process::program("sh", &gate.home());
    command
        .args(["-c", wait, "hold"])
        .arg(receive_pack.to_string())
        .stdin(lock.into_file())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // If it can't be started, the lock is free at once: at worst that confusing message.
    let _ = command.spawn();
}

/// A dry run: what would have been pushed, as a bundle file beside the record.
fn keep_as_bundle(judged: &Judged<'_>) -> Result<(), String> {
    let (repo, updates) = (judged.repo(), judged.updates());
    let name = &repo.upstream.name;
    let lock = Lock::wait_for(repo.gate, name)?;
    mirror::remember_pushed(repo.gate, repo.upstream, updates)?;
    let say = |error: &dyn std::fmt::Display| format!("failed to keep the push: {error}");
    // A bundle holds refs, and in quarantine there are none of the new ones: a repository beside it has them.
    let dir = tempfile::TempDir::new_in(&repo.gate.tmp).map_err(|error| say(&error))?;
    let git = |args: &[&str]| {
        let mut command = process::git(&repo.gate.home());
        command.args(args);
        command
    };
    let mut init = git(&["init", "--quiet", "--bare", "--template="]);
    init.arg(dir.path());
    git_ok(init, None)?;
    // Where the mirror's history ends, this one's ends.
    let shallow = repo.gate.mirror(name).join("shallow");
    if shallow.exists() {
        std::fs::copy(&shallow, dir.path().join("shallow")).map_err(|error| say(&error))?;
    }
    let git = |args: &[&str], input: Option<String>| {
        let mut command = git(args);
        command.env("GIT_DIR", dir.path()).envs(repo.quarantine.iter().map(|(name, value)| (name, value)));
        git_ok(command, input.map(String::into_bytes))
    };
    let new: String = updates.iter().map(|RefUpdate { new, name, .. }| format!("create {name} {new}\n")).collect();
    git(&["update-ref", "--stdin"], Some(new))?;
    let shelf = repo.gate.dirs.log("would-push");
    std::fs::create_dir_all(&shelf).map_err(|error| say(&error))?;
    let mut number = 1;
    let file = loop {
        let file = shelf.join(format!("{name}-{number}.bundle"));
        if !file.exists() {
            break file;
        }
        number += 1;
    };
    // Made in the scratch directory: half of one on the shelf would be taken for a push, its lock would stop the next.
    let made = dir.path().join("push.bundle");
    let mut words =
        vec!["bundle", "create", "--quiet", made.to_str().ok_or("the state directory's path is not UTF-8")?];
    words.extend(updates.iter().map(|update| update.name.as_str()));
    let tips = repo.ok(&["for-each-ref", "--format=%(objectname)"], None)?;
    let tips = String::from_utf8_lossy(&tips).into_owned();
    let there: BTreeSet<&str> = tips.lines().collect();
    words.push("--not");
    words.extend(&there);
    let brings_something = updates.iter().any(|update| !there.contains(update.new.as_str()));
    if brings_something {
        git(&words, None)?;
        std::fs::rename(&made, &file).map_err(|error| say(&error))?;
    }
    let refs: Vec<_> = updates.iter().map(|update| (update.name.clone(), update.new.clone())).collect();
    mirror::keep(repo.gate, repo.upstream, &refs)?;
    mirror::remember_made(
        repo.gate,
        repo.upstream,
        &updates.iter().filter(|update| update.creates()).map(|u| (u.name.clone(), u.new.clone())).collect::<Vec<_>>(),
    )?;
    hold(repo.gate, lock);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As git prints it of a forge with protected branches, progress and padding included.
    const PROTECTED: &[u8] = b"Enumerating objects: 5, done.\nWriting objects: 100% (3/3), 280 bytes, done.\n\
        remote: Resolving deltas: 100% (1/1), done.        \r\n\
        remote: error: GH006: Protected branch update failed for refs/heads/main.        \n\
        remote:         \n\
        remote: - Required status check \"test\" is expected -> see the settings        \n\
        To ssh://git.example.org/app.git\n\
         ! [remote rejected] 1234567 -> main (protected branch hook declined)\n\
         ! [remote rejected] 1234567 -> other (atomic push failed)\n\
        error: failed to push some refs to 'ssh://git.example.org/app.git'\n";

    #[test]
    fn a_forges_words_are_passed_on_and_its_reason_is_named() {
        let words = remote_lines(PROTECTED);
        assert_eq!(
            words,
            [
                "error: GH006: Protected branch update failed for refs/heads/main.",
                "- Required status check \"test\" is expected -> see the settings",
            ]
        );
        assert_eq!(why_not(PROTECTED, &words), "upstream did not take it: protected branch hook declined");
    }

    #[test]
    fn other_reasons_are_told_in_our_words() {
        let stale: &[u8] = b"To x\n ! [rejected] 1234567 -> a (stale info)\nerror: failed to push some refs to 'x'\n";
        assert!(why_not(stale, &[]).starts_with("upstream has moved"));
        assert_eq!(why_not(b"fatal: the receiving end does not support --atomic push\n", &[]), ONE_AT_A_TIME);
        assert_eq!(
            why_not(b"fatal: Could not read from remote repository.\n", &[]),
            "upstream did not take it: fatal: Could not read from remote repository."
        );
        let many = "remote: no\n".repeat(50);
        assert_eq!(remote_lines(many.as_bytes()).len(), MAX_REMOTE_LINES + 1);
    }
}
