//! kill -9 of every part of a push, at random moments of its life. Afterwards upstream has all of the push or nothing of it,
//! the agent was not told otherwise, the mirror agrees with upstream, nothing is left over, and the next push works.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::https::https_world;
use crate::processes::{self, Process};
use crate::random::Random;
use crate::world::{World, said, until};

const POLL: Duration = Duration::from_millis(8);

/// What is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Gitleaks,
    Hook,
    AccessHook,
    Daemon,
    ReceivePack,
    Forward,
    Ssh,
    Session,
    Https,
    Fetch,
}

impl Victim {
    /// The process to kill, if it is there.
    fn find(self, world: &World) -> Option<Process> {
        let all = processes::plainly_of(world);
        let is = |process: &&Process| match self {
            Self::Gitleaks => process.name() == "gitleaks",
            Self::Hook => process.has("gate-hook") && process.has("pre-receive"),
            Self::AccessHook => process.has("gate-hook") && process.has("access"),
            Self::Daemon => process.name() == "git-daemon",
            Self::ReceivePack => process.has("receive-pack") && process.dir == world.path("state/git/origin.git"),
            Self::Forward => process.name() == "git" && process.has("push") && process.has("--atomic"),
            Self::Fetch => process.name() == "git" && process.has("fetch"),
            Self::Ssh => process.name() == "ssh" && process.words.iter().any(|word| word.contains("git-receive-pack")),
            Self::Https => process.name() == "git-remote-https" && is_below_push(process.parent, &all),
            Self::Session => Some(process.parent) == world.sshd.id() && is_above_receive_pack(process.id, &all),
        };
        all.iter().find(is).cloned()
    }
}

fn is_below_push(parent: u32, all: &[Process]) -> bool {
    let above = all.iter().find(|process| process.id == parent);
    above.is_some_and(|process| process.has("push") || is_below_push(process.parent, all))
}

fn is_above_receive_pack(id: u32, all: &[Process]) -> bool {
    let children = || all.iter().filter(move |process| process.parent == id);
    children().any(|child| {
        child.words.iter().any(|word| word.contains("receive-pack")) || is_above_receive_pack(child.id, all)
    })
}

/// A push of one commit to a new branch, a moving one and a tag.
fn push(world: &World, clone: &Path, number: u32) -> std::process::Output {
    let refs = format!("HEAD:refs/heads/bottle/new-{number} HEAD:refs/heads/bottle/moving HEAD:refs/tags/t{number}");
    world.sh(clone, &format!("git push --force \"$ORIGIN\" {refs}"), &[])
}

fn commit(world: &World, clone: &Path, number: u32) -> String {
    let make =
        format!("head -c 20000 /dev/urandom >file-{number}; git add .; git commit -qm {number}; git rev-parse HEAD");
    world.ok(clone, &make)
}

/// Follows a push of its own: how long the victim lives.
fn lifetime(world: &World, victim: Victim, clone: &Path) -> Duration {
    commit(world, clone, 0);
    thread::scope(|scope| {
        let pushing = scope.spawn(|| push(world, clone, 0));
        let (mut first, mut last) = (None, Duration::ZERO);
        while !pushing.is_finished() {
            if victim.find(world).is_some() {
                last = first.get_or_insert_with(Instant::now).elapsed();
            }
            thread::sleep(POLL);
        }
        let output = pushing.join().expect("a push");
        assert!(output.status.success(), "{}", said(&output));
        last
    })
}

/// Kills it once, this long after it was first seen; whether it was there to be killed.
fn kill(world: &World, victim: Victim, after: Duration, is_over: impl Fn() -> bool) -> bool {
    let mut first = None;
    while !is_over() {
        if let Some(process) = victim.find(world)
            && first.get_or_insert_with(Instant::now).elapsed() >= after
        {
            process.kill();
            return true;
        }
        thread::sleep(POLL);
    }
    false
}

fn all_have_ended(world: &World) {
    until("every process has ended", || {
        thread::sleep(POLL);
        processes::plainly_of(world).is_empty() && processes::of(world).is_empty()
    });
}

fn nothing_is_left(world: &World) {
    all_have_ended(world);
    let left = "cd state/git; find . -name '*.lock' -o -name 'tmp_*' -o -name 'shallow_*' -o -name '*.keep' \
                -o -name '.tmp*' -o -path './.gate/tmp/*'";
    // The gate puts away a push's files when its last process has ended, and nobody waits for that.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = world.ok(world.dir.path(), left);
        if found.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left over: {found}");
        thread::sleep(POLL);
    }
}

const REFS: &str = "git for-each-ref --format='%(refname) %(objectname)'";

/// What a fetch gets, and upstream: the same refs.
fn a_fetch_agrees(world: &World) {
    let here = world.ok(world.dir.path(), "git ls-remote \"$ORIGIN\" | grep -v HEAD | awk '{print $2, $1}'");
    assert_eq!(here, world.upstream_refs());
    the_mirror_agrees(world);
}

fn the_mirror_agrees(world: &World) {
    assert_eq!(world.ok(&world.path("state/git/origin.git"), REFS), world.upstream_refs());
}

fn check(world: &World, clone: &Path, number: u32, head: &str, before: &str, told: &std::process::Output) {
    let all = ["heads/bottle/moving", &format!("heads/bottle/new-{number}"), &format!("tags/t{number}")]
        .map(|name| format!("refs/{name} {head}"));
    let has_all = |refs: &str| all.iter().all(|one| refs.lines().any(|line| line == one));
    all_have_ended(world);
    let after = world.upstream_refs();
    let landed = has_all(&after);
    assert!(landed || after == before, "push {number} landed in part:\n{before}\n--\n{after}");
    assert!(landed || !told.status.success(), "push {number} was said to have worked: {}", said(told));
    a_fetch_agrees(world);
    let again = push(world, clone, number);
    assert!(again.status.success(), "push {number} again: {}\n{}", said(&again), world.gate_log());
    assert!(has_all(&world.upstream_refs()), "push {number} again is not upstream: {}", said(&again));
    the_mirror_agrees(world);
    nothing_is_left(world);
}

/// Upstream takes a little while, so that it can be interrupted.
const SLOW: &str = "printf '#!/bin/sh\\nsleep 0.05\\n' >hooks/pre-receive; chmod +x hooks/pre-receive";

fn pushes(victim: Victim, count: u32) {
    pushes_in(&World::new(), victim, count);
}

fn pushes_in(world: &World, victim: Victim, count: u32) {
    let mut random = Random::new();
    world.ok(&world.upstream("origin"), SLOW);
    let clone = world.clone_origin();
    // The first push of several refs asks upstream something more.
    commit(world, &clone, count + 1);
    assert!(push(world, &clone, count + 1).status.success());
    let lifetime = lifetime(world, victim, &clone);
    let mut killed = 0;
    for number in 1..=count {
        let head = commit(world, &clone, number);
        let before = world.upstream_refs();
        let after = Duration::from_millis(random.below(u64::try_from(lifetime.as_millis()).expect("a time") + 5));
        let output = thread::scope(|scope| {
            let pushing = scope.spawn(|| push(world, &clone, number));
            killed += u32::from(kill(world, victim, after, || pushing.is_finished()));
            pushing.join().expect("a push")
        });
        check(world, &clone, number, &head, &before, &output);
    }
    world.ok(&world.path("state/git/origin.git"), "git fsck --connectivity-only --no-dangling");
    assert!(killed * 3 >= count, "{victim:?} was killed in {killed} of {count} pushes: it lives {lifetime:?}");
}

#[test]
fn gitleaks() {
    pushes(Victim::Gitleaks, 10);
}

#[test]
fn the_pre_receive_hook() {
    pushes(Victim::Hook, 12);
}

#[test]
fn the_access_hook() {
    pushes(Victim::AccessHook, 6);
}

#[test]
fn git_daemon() {
    pushes(Victim::Daemon, 16);
}

#[test]
fn receive_pack() {
    pushes(Victim::ReceivePack, 16);
}

#[test]
fn the_push_to_upstream() {
    pushes(Victim::Forward, 10);
}

#[test]
fn ssh_to_upstream() {
    pushes(Victim::Ssh, 10);
}

#[test]
fn the_session_at_upstream() {
    pushes(Victim::Session, 10);
}

#[test]
fn https_to_upstream() {
    let (world, _server, _) = https_world("origin.git", "tls.pem");
    pushes_in(&world, Victim::Https, 6);
}

#[test]
fn the_fetch_before_a_push() {
    pushes(Victim::Fetch, 4);
}

#[test]
fn the_gate_itself() {
    let mut random = Random::new();
    let mut world = World::new();
    world.ok(&world.upstream("origin"), SLOW);
    let clone = world.clone_origin();
    let lifetime = lifetime(&world, Victim::Daemon, &clone);
    for number in 1..=4 {
        let head = commit(&world, &clone, number);
        let before = world.upstream_refs();
        let after = Duration::from_millis(random.below(u64::try_from(lifetime.as_millis()).expect("a time")));
        let output = thread::scope(|scope| {
            let pushing = scope.spawn(|| push(&world, &clone, number));
            thread::sleep(after);
            world.gate.as_ref().expect("the gate").signal("KILL");
            pushing.join().expect("a push")
        });
        world.start_gate();
        check(&world, &clone, number, &head, &before, &output);
    }
}

#[test]
fn the_gate_while_it_prepares_a_mirror() {
    let mut world = World::new();
    let clone = world.clone_origin();
    world.gate.as_ref().expect("the gate").signal("KILL");
    for name in ["config.lock", "HEAD.lock", "packed-refs.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x"] {
        std::fs::write(world.path("state/git/origin.git").join(name), "").expect("written");
    }
    // The lock that the killed one held says so.
    std::fs::write(world.path("state/git/.gate/locks/origin"), "held").expect("written");
    world.ok(&world.upstream("origin"), "git update-ref refs/heads/main $(git commit-tree -p main -m x main^{tree})");
    world.start_gate();
    world.ok(&clone, "git fetch -q \"$ORIGIN\"");
    a_fetch_agrees(&world);
    nothing_is_left(&world);
}

#[test]
fn a_fetch_of_many_refs() {
    let mut random = Random::new();
    let world = World::new();
    world.clone_origin();
    let mut killed = 0;
    for number in 1..=8 {
        // New ones, moved ones, and some that go: each has a lock file while it is written.
        let change = format!(
            "tree=$(git rev-parse main^{{tree}}); id=$(git commit-tree -m {number} $tree); \
             (for i in $(seq 400); do echo update refs/heads/{number}/$i $id; echo update refs/heads/moving/$i $id; done; \
             git for-each-ref --format='delete %(refname)' refs/heads/{}) | git update-ref --stdin",
            number - 1
        );
        world.ok(&world.upstream("origin"), &change);
        let after = Duration::from_millis(random.below(60));
        let written = world.path(&format!("state/git/origin.git/refs/heads/{number}"));
        thread::scope(|scope| {
            let fetching = scope.spawn(|| world.sh(world.dir.path(), "git ls-remote \"$ORIGIN\"", &[]));
            while !written.exists() && !fetching.is_finished() {
                thread::sleep(POLL);
            }
            thread::sleep(after);
            kill(&world, Victim::Fetch, Duration::ZERO, || fetching.is_finished());
            let output = fetching.join().expect("a fetch");
            if output.status.success() {
                // It had just ended by itself.
                let count = String::from_utf8_lossy(&output.stdout).matches(&format!("refs/heads/{number}/")).count();
                assert_eq!(count, 400, "half of a fetch was served: {}", said(&output));
            } else {
                killed += 1;
            }
        });
        all_have_ended(&world);
        a_fetch_agrees(&world);
        nothing_is_left(&world);
    }
    assert!(killed > 2, "killed {killed} times");
}
