//! The push to the upstream: all refs or none, each only if upstream still has what it was judged against.

use std::process::Stdio;
use std::time::Duration;

use super::changes::{Repo, Update};
use super::place::{Lock, Place};
use super::process::{self, Limits, git_ok, last_words};
use super::{mirror, transport};

const PUSH: Limits = Limits::seconds(1800, 120);

/// Pushes the judged ids themselves, by URL: by the remote's name, git would move refs inside the quarantine too.
pub(super) fn to_upstream(repo: &Repo<'_>, updates: &[Update]) -> Result<(), String> {
    let name = &repo.upstream.name;
    let lock = repo.place.lock(name, Duration::from_secs(120))?;
    let mut push = transport::git(repo.place, repo.upstream);
    push.envs(repo.quarantine.iter().map(|(name, value)| (name, value)));
    push.args(["push", "--atomic", "--progress", "--no-verify", "--no-signed", "--no-follow-tags"]);
    push.arg("--recurse-submodules=no");
    for Update { old, name, .. } in updates {
        let expected = if old.bytes().all(|byte| byte == b'0') { "" } else { old };
        push.arg(format!("--force-with-lease={name}:{expected}"));
    }
    push.arg("--end-of-options").arg(repo.upstream.url.to_string());
    push.args(updates.iter().map(|Update { new, name, .. }| format!("{new}:{name}")));
    let output = process::run(push, None, PUSH).map_err(|error| format!("upstream could not be reached: {error}"))?;
    if !output.status.success() {
        return Err(format!("upstream did not take it: {}", last_words(&output.stderr)));
    }
    let made: Vec<_> = updates
        .iter()
        .filter(|update| update.creates() && update.name.starts_with("refs/heads/"))
        .map(|update| (update.name.clone(), update.new.clone()))
        .collect();
    hold(repo.place, lock);
    mirror::remember_made(repo.place, name, &made)
}

/// Keeps the lock until receive-pack, which waits for this hook, has moved the mirror's own refs: a fetch in between would
/// move them first, and the agent would be told that a push has failed which upstream has.
fn hold(place: &Place, lock: Lock) {
    let Some(receive_pack) = rustix::process::getppid() else { return };
    let wait = "i=0; while kill -0 \"$1\" && [ $i -lt 300 ]; do sleep 0.02; i=$((i+1)); done";
    let mut command = process::program("sh", &place.home());
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
pub(super) fn keep_as_bundle(repo: &Repo<'_>, updates: &[Update]) -> Result<(), String> {
    let name = &repo.upstream.name;
    let lock = repo.place.lock(name, Duration::from_secs(120))?;
    let say = |error: &dyn std::fmt::Display| format!("failed to keep the push: {error}");
    // A bundle holds refs, and in quarantine there are none of the new ones: a repository beside it has them.
    let dir = tempfile::TempDir::new_in(&repo.place.tmp).map_err(|error| say(&error))?;
    let git = |args: &[&str]| {
        let mut command = process::git(&repo.place.home());
        command.args(args);
        command
    };
    let mut init = git(&["init", "--quiet", "--bare", "--template="]);
    init.arg(dir.path());
    git_ok(init, None)?;
    let git = |args: &[&str], input: Option<String>| {
        let mut command = git(args);
        command.env("GIT_DIR", dir.path()).envs(repo.quarantine.iter().map(|(name, value)| (name, value)));
        git_ok(command, input.map(String::into_bytes))
    };
    let new: String = updates.iter().map(|Update { new, name, .. }| format!("create {name} {new}\n")).collect();
    git(&["update-ref", "--stdin"], Some(new))?;
    let shelf = repo.place.dirs.log("would-push");
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
    let there: std::collections::BTreeSet<&str> = tips.lines().collect();
    words.push("--not");
    words.extend(&there);
    let brings_something = updates.iter().any(|update| !there.contains(update.new.as_str()));
    if brings_something {
        git(&words, None)?;
        std::fs::rename(&made, &file).map_err(|error| say(&error))?;
    }
    let refs: Vec<_> = updates.iter().map(|update| (update.name.clone(), update.new.clone())).collect();
    mirror::keep(repo.place, name, &refs)?;
    mirror::remember_made(
        repo.place,
        name,
        &updates.iter().filter(|update| update.creates()).map(|u| (u.name.clone(), u.new.clone())).collect::<Vec<_>>(),
    )?;
    hold(repo.place, lock);
    Ok(())
}
