//! What comes down: always what upstream has now, or an error.

use std::fs;

use crate::world::{World, said, until};

#[test]
fn a_clone_is_what_upstream_has_and_a_fetch_is_what_it_has_now() {
    let world = World::new();
    let clone = world.clone_origin();
    assert_eq!(world.ok(&clone, "git branch --show-current"), "main");
    let upstream = world.upstream("origin");
    world.ok(
        &world.path("upstream"),
        "git clone -q origin.git w && cd w && git tag -m t v1 && git notes add -m n && git checkout -q -b next \
         && echo x >x && git add x && git commit -qm next && git push -q origin next v1 refs/notes/commits",
    );
    let here = world.ok(&clone, "git ls-remote \"$ORIGIN\" | grep -v HEAD");
    let there = world.ok(&upstream, "git ls-remote . | grep -v HEAD");
    assert_eq!(here, there);
    world.ok(&clone, "git fetch -q --tags && git rev-parse origin/next v1");
    world.ok(&upstream, "git branch -q -D next");
    world.ok(&clone, "git fetch -q --prune && ! git rev-parse -q --verify origin/next");
    world.ok(
        &clone,
        "cd .. && git clone -q --depth 1 \"$ORIGIN\" shallow && git clone -q --filter=blob:none \"$ORIGIN\" partial",
    );
    let version = world.ok(&clone, "GIT_TRACE_PACKET=1 git ls-remote \"$ORIGIN\" 2>&1 | grep -c 'version 2'");
    assert_ne!(version, "0");
}

#[test]
fn what_the_host_has_is_not_fetched() {
    let seed = "git clone -q upstream/origin.git w && mkdir -p state/seed/origin && cd w
        git push -q origin main:gone && git fetch -q && git rev-parse origin/main |
            git pack-objects -q --revs ../state/seed/origin/pack >/dev/null
        for branch in main gone; do echo $(git rev-parse origin/$branch) $branch; done >../state/seed/origin/branches
        git push -q origin :gone
        echo more >more && git add more && git commit -qm more && git push -q origin main";
    let prepare = |world: &mut World| drop(world.ok(world.dir.path(), seed));
    let world = World::with(prepare, |policy| policy);
    let clone = world.clone_origin();
    let mirror = world.path("state/git/origin.git");
    let head = world.ok(&clone, "git rev-parse HEAD");
    assert_eq!(head, world.ok(&mirror, "git rev-parse main"));
    let counted = world.ok(&mirror, "git count-objects -v");
    // The newest commit, its tree and its blob came from upstream, all else with the seed.
    assert!(counted.contains("count: 3\n") && counted.contains("packs: 1\n"), "{counted}");
    assert_eq!(world.ok(&mirror, "git for-each-ref --format='%(refname)'"), "refs/heads/main");
    // Only what upstream's refs reach is upstream's.
    let new = "git checkout -q -b side && echo x >x && git add x && git commit -qm x && git push -q origin HEAD:refs/heads/bottle/x";
    world.ok(&clone, new);
    assert_eq!(world.record()[0].commits, 1);
}

#[test]
fn a_repository_with_sha256_ids_is_like_any_other() {
    let made = "rm -rf upstream/origin.git && git init -q -b main --object-format=sha256 w && cd w && echo one >README.md && git add . &&
        git commit -qm one && git clone -q --bare . ../upstream/origin.git";
    let world = World::with(|world| drop(world.ok(world.dir.path(), made)), |policy| policy);
    let clone = world.clone_origin();
    assert_eq!(world.ok(&clone, "git rev-parse HEAD").trim().len(), 64);
    world.ok(&clone, "echo two >two && git add . && git commit -qm two && git push -q origin HEAD:refs/heads/bottle/x");
    assert!(world.upstream_refs().contains("refs/heads/bottle/x"), "{}", world.upstream_refs());
    let refused = world.sh(
        &clone,
        "printf KEY >k && git add . && git commit -qm k && git push origin HEAD:refs/heads/bottle/x",
        &[],
    );
    assert!(refused.status.success(), "nothing is in it: {}", said(&refused));
    let planted = format!(
        "echo {} >k && git commit -qam key && git push origin HEAD:refs/heads/bottle/x",
        crate::world::aws_key()
    );
    let refused = world.sh(&clone, &planted, &[]);
    assert!(!refused.status.success() && said(&refused).contains("refused"), "{}", said(&refused));
    let (ours, theirs) = (world.ok(&clone, "git rev-parse HEAD~1"), world.upstream_refs());
    assert!(theirs.contains(ours.trim()), "{theirs}");
}

#[test]
fn an_empty_repository_gets_its_first_branch() {
    let made = "rm -rf upstream/origin.git && git init -q -b main --bare upstream/origin.git";
    let world = World::with(|world| drop(world.ok(world.dir.path(), made)), |policy| policy);
    let clone = world.clone_origin();
    world.ok(&clone, "echo one >one && git add . && git commit -qm one && git push -q origin HEAD:refs/heads/bottle/x");
    assert!(world.upstream_refs().starts_with("refs/heads/bottle/x "), "{}", world.upstream_refs());
}

/// An empty upstream with SHA-256 ids, and what a guest does first.
pub(crate) const EMPTY_SHA256: &str =
    "rm -rf upstream/origin.git && git init -q -b main --object-format=sha256 --bare upstream/origin.git &&
    git -C upstream/origin.git config http.receivepack true";
pub(crate) const FIRST_PUSH: &str =
    "git init -q -b main --object-format=sha256 new && cd new && git remote add origin \"$ORIGIN\" &&
    echo one >one && git add . && git commit -qm one && git push -q origin HEAD:refs/heads/bottle/x";

#[test]
fn an_empty_repository_with_sha256_ids_gets_its_first_branch() {
    // Many servers don't let the variable through by which a client asks for version 2 of the protocol.
    for accepts in ["AcceptEnv GIT_PROTOCOL", "AcceptEnv NOTHING"] {
        let prepare = |world: &mut World| {
            world.ok(world.dir.path(), EMPTY_SHA256);
            world.sshd.down();
            let config = world.path("sshd/config");
            let text = fs::read_to_string(&config).expect("a configuration");
            assert!(text.contains("AcceptEnv GIT_PROTOCOL"), "{text}");
            fs::write(&config, text.replace("AcceptEnv GIT_PROTOCOL", accepts)).expect("written");
            world.sshd.up();
        };
        let world = World::with(prepare, |policy| policy);
        world.ok(world.dir.path(), FIRST_PUSH);
        let refs = world.upstream_refs();
        let id = refs.strip_prefix("refs/heads/bottle/x ").unwrap_or_else(|| panic!("{accepts}: {refs}"));
        assert_eq!(id.len(), 64, "{accepts}: {refs}");
        let planted = format!("cd new && echo {} >k && git add . && git commit -qm k", crate::world::aws_key());
        let push = world.sh(world.dir.path(), &format!("{planted} && git push origin HEAD:refs/heads/bottle/x"), &[]);
        assert!(!push.status.success() && said(&push).contains("refused"), "{}", said(&push));
    }
}

#[test]
fn a_damaged_seed_is_left_aside() {
    let absent = "1".repeat(40);
    for (id, says) in [("nothing", "list of branches can't be read"), (&*absent, "update-ref failed")] {
        let seed = format!("mkdir -p state/seed/origin && echo {id} main >state/seed/origin/branches");
        let world = World::with(|world| drop(world.ok(world.dir.path(), &seed)), |policy| policy);
        world.clone_origin();
        assert!(world.gate_log().contains(says), "{}", world.gate_log());
    }
}

#[test]
fn nothing_stale_comes_down() {
    let mut world = World::new();
    let clone = world.clone_origin();
    world.sshd.down();
    for command in ["git fetch", "git ls-remote \"$ORIGIN\"", "git clone -q \"$ORIGIN\" again"] {
        let output = world.sh(&clone, command, &[]);
        assert!(!output.status.success(), "{command}");
        let text = said(&output);
        assert!(text.contains("git-gate: upstream of origin can't be fetched"), "{command}: {text}");
    }
    let push = world.sh(&clone, "git commit -q --allow-empty -m x && git push origin HEAD:refs/heads/bottle/x", &[]);
    assert!(!push.status.success());
    world.sshd.up();
    world.ok(&clone, "git fetch -q && git push -q origin HEAD:refs/heads/bottle/x");
}

#[test]
fn a_wrong_host_key_is_refused_and_none_does_not_start() {
    let world = World::with(
        |world| {
            let other = world.path("sshd/guest.pub");
            let other = fs::read_to_string(other).expect("a key");
            let policy = world.policy().replace(&world.sshd.host_key(), other.trim());
            fs::write(world.path("gate.yaml"), policy).expect("written");
        },
        |policy| policy,
    );
    let output = world.sh(world.dir.path(), "git ls-remote \"$ORIGIN\"", &[]);
    assert!(!output.status.success());
    assert!(said(&output).contains("Host key verification failed"), "{}", said(&output));

    let policy = world.policy();
    let unpinned: String =
        policy.lines().filter(|line| !line.contains("known_host_key")).flat_map(|l| [l, "\n"]).collect();
    fs::write(world.path("gate.yaml"), unpinned).expect("written");
    let output = world.gate_command().output().expect("the gate");
    assert!(!output.status.success());
    assert!(said(&output).contains("no known_host_key"), "{}", said(&output));
}

#[test]
fn only_declared_repositories_are_served() {
    let world = World::new();
    world.ok(&world.path("state"), "git init -q --bare git/other.git");
    let base = world.guest_url("origin").replace("origin.git", "");
    for path in ["other.git", "../git/other.git", ".gate", "", "origin.git/../other.git", "../../upstream/origin.git"] {
        let output = world.sh(world.dir.path(), &format!("git ls-remote '{base}{path}'"), &[]);
        assert!(!output.status.success(), "{path}: {}", said(&output));
    }
    world.ok(world.dir.path(), "git ls-remote \"$ORIGIN\"");
}

#[test]
fn two_agents_fetch_at_once() {
    let world = World::new();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let world = &world;
            scope.spawn(move || world.ok(world.dir.path(), &format!("git clone -q \"$ORIGIN\" at-once-{number}")));
        }
    });
}

#[test]
fn it_ends_at_once_and_leaves_no_key() {
    let mut world = World::new();
    assert!(world.path("state/git/.gate/policies/1/GIT_KEY.key").exists());
    assert!(world.stop_gate().success());
    assert!(!world.path("state/git/.gate/policies").exists());
    assert!(!world.path("doors/git-gate.sock").exists());
}

#[test]
fn an_interrupted_push_leaves_the_gate_working() {
    let world = World::new();
    let clone = world.clone_origin();
    world.replace_program("gitleaks", "#!/bin/sh\nsleep 30\n");
    world.sh(
        &clone,
        "git commit -q --allow-empty -m x; timeout -s KILL 2 git push -q origin HEAD:refs/heads/bottle/x",
        &[],
    );
    fs::remove_file(world.path("bin/gitleaks")).expect("removed");
    world.ok(&clone, "git fetch -q && git push -q origin HEAD:refs/heads/bottle/y");
    until("the record has it", || world.record().iter().any(|line| line.r#ref == "refs/heads/bottle/y"));
}
