//! A mirror with a part of upstream's history: what comes down, what goes up, and that what is not there counts as new.

use std::fs;
use std::path::Path;

use crate::world::{World, aws_key, said};

/// Six commits on main, a branch from the third with three of its own, others' branches, and a tag.
const UPSTREAM: &str = "git clone -q upstream/origin.git w && cd w
    for n in 3 4 5 6; do head -c 40000 /dev/urandom | base64 >big-$n && git rm -q --ignore-unmatch big-$((n-1)) && git add . && git commit -qm \"c$n\"; done
    git tag old HEAD~3 && git push -q origin main old
    git checkout -q -b topic HEAD~3 && for n in 1 2 3; do echo $n >topic && git add . && git commit -qm \"t$n\"; done
    git push -q origin topic HEAD:refs/heads/others/one && git push -q origin HEAD~2:refs/pull/7/head";

/// Two generations, of main and of what is about `bottle/x`.
fn limited(policy: &str) -> String {
    let limit =
        "    history: { commits: 2, refs: [refs/heads/main, refs/heads/bottle, refs/heads/bottle/x] }\n    push:";
    let edited = policy.replacen("    push:", limit, 1);
    assert_ne!(edited, policy);
    edited
}

fn world() -> World {
    World::with(|world| drop(world.ok(world.dir.path(), UPSTREAM)), |policy| limited(&policy))
}

/// A commit by the guest, pushed to `bottle/x`.
const WORK: &str =
    "echo work >>work && git add . && git commit -qm work && git push -q origin HEAD:refs/heads/bottle/x";

#[test]
fn the_newest_commits_come_down_and_work_goes_up() {
    let world = world();
    let clone = world.clone_origin();
    assert_eq!(world.ok(&clone, "git log --format=%s"), "c6\nc5");
    assert_eq!(
        world.ok(&clone, "git for-each-ref --format='%(refname)' refs/remotes refs/tags"),
        "refs/remotes/origin/HEAD\nrefs/remotes/origin/main"
    );
    let mirror = world.path("state/git/origin.git");
    let upstream = world.upstream("origin");
    let absent = world.ok(&upstream, "git rev-parse main~2:big-4");
    assert!(
        !world.sh(&mirror, &format!("git cat-file -e {absent}"), &[]).status.success(),
        "what is older was fetched"
    );
    world.ok(&clone, &format!("git checkout -q -b x && {WORK} && {WORK}"));
    assert_eq!(world.ok(&upstream, "git log --format=%s bottle/x"), "work\nwork\nc6\nc5\nc4\nc3\ntwo\none");
    assert_eq!(world.record().iter().map(|push| push.commits).collect::<Vec<_>>(), [1, 1]);
    // What upstream makes of its refs is seen with the next connection, and no more than that is fetched.
    world.ok(
        &world.path("w"),
        "git checkout -q main && for n in 7 8 9; do echo $n >n && git add . && git commit -qm c$n; done && git push -q origin main",
    );
    world.ok(&clone, "git fetch -q --prune");
    assert_eq!(world.ok(&clone, "git log --format=%s origin/main"), "c9\nc8\nc7\nc6\nc5");
    world.ok(&upstream, "git update-ref -d refs/heads/bottle/x");
    world.ok(&clone, "git fetch -q --prune && ! git rev-parse -q --verify origin/bottle/x");
    world.ok(
        &world.path("w"),
        "git reset -q --hard HEAD~2 && echo other >n && git commit -qam other && git push -qf origin main",
    );
    world.ok(&clone, "git fetch -q --prune");
    assert_eq!(world.ok(&clone, "git log -2 --format=%s origin/main"), "other\nc7");
    // A branch of its own that others move while it works.
    world.ok(&clone, "git push -q origin x:refs/heads/bottle/x");
    world.ok(&world.path("w"), "git push -qf origin main:bottle/x");
    let push = world.sh(&clone, WORK, &[]);
    assert!(!push.status.success(), "{}", said(&push));
    assert_eq!(world.ok(&upstream, "git rev-parse bottle/x"), world.ok(&upstream, "git rev-parse main"));
}

#[test]
fn what_is_not_here_counts_as_new_and_nothing_is_overwritten() {
    let world = world();
    let clone = world.clone_origin();
    let upstream = world.upstream("origin");
    // Upstream has it; the gate does not know.
    world.ok(&upstream, "git update-ref refs/heads/bottle/theirs topic");
    let push = world.sh(&clone, "git push origin HEAD:refs/heads/bottle/theirs", &[]);
    assert!(
        !push.status.success() && said(&push).contains("upstream has moved since this push began"),
        "{}",
        said(&push)
    );
    assert_eq!(world.ok(&upstream, "git rev-parse bottle/theirs"), world.ok(&upstream, "git rev-parse topic"));
    // A key in a new commit is found, also where the commit's parent is the end of what is known.
    let end = format!(
        "git checkout -q --detach HEAD~1 && echo {} >k && git add . && git commit -qm k && git push origin HEAD:refs/heads/bottle/x",
        aws_key()
    );
    let push = world.sh(&clone, &end, &[]);
    assert!(!push.status.success() && said(&push).contains("refused"), "{}", said(&push));
    // A history without its beginning is not taken, wherever its end is.
    let cut = "git checkout -q --detach origin/main && git commit -q --allow-empty -m a && git commit -q --allow-empty -m b &&
        git rev-parse HEAD >>.git/shallow && git push origin HEAD:refs/heads/bottle/x";
    let push = world.sh(&clone, cut, &[]);
    assert!(!push.status.success(), "{}", said(&push));
    assert!(!world.upstream_refs().contains("refs/heads/bottle/x "), "{}", world.upstream_refs());
}

#[test]
fn a_commit_is_fetched_by_its_id_and_is_nobodys_branch() {
    // It is two commits away from main, four of which are fetched; of two it is not known where it parted.
    for (commits, gives) in [(4, true), (2, true), (4, false)] {
        let start = |world: &World| {
            if gives { world.ok(&world.upstream("origin"), "git rev-parse others/one~1") } else { "1".repeat(40) }
        };
        let prepare = |world: &mut World| {
            world.ok(world.dir.path(), UPSTREAM);
            let start = start(world);
            let policy = fs::read_to_string(world.path("gate.yaml")).expect("a policy");
            let edited = policy.replacen("commits: 2,", &format!("commits: {commits}, starts: [{start}],"), 1);
            fs::write(world.path("gate.yaml"), edited).expect("written");
        };
        let world = World::with(prepare, |policy| limited(&policy));
        let clone = world.clone_origin();
        let start = start(&world);
        let fetch = format!(
            "git fetch -q --update-shallow origin {start} && git checkout -q --detach {start} && git log -2 --format=%s"
        );
        let fetch = world.sh(&clone, &fetch, &[]);
        assert_eq!(fetch.status.success(), gives, "{}", said(&fetch));
        if !gives {
            assert!(world.gate_log().contains("can't be fetched"), "{}", world.gate_log());
            continue;
        }
        assert_eq!(String::from_utf8_lossy(&fetch.stdout).trim(), "t2\nt1");
        let push = world.sh(&clone, WORK, &[]);
        if commits == 4 {
            // No branch that the gate knows has them, so they are new.
            assert!(push.status.success(), "{}", said(&push));
            assert_eq!(world.record().last().expect("a push").commits, 3);
        } else {
            let wanted =
                "so what is new in the push is not known; `history: 2` of origin in the manifest has to be larger";
            assert!(!push.status.success() && said(&push).contains(wanted), "{}", said(&push));
            assert!(!world.upstream_refs().contains("refs/heads/bottle/x"), "{}", world.upstream_refs());
        }
    }
}

#[test]
fn a_dry_run_keeps_what_it_would_push() {
    let prepare = |world: &mut World| drop(world.ok(world.dir.path(), UPSTREAM));
    let world = World::with(prepare, |policy| limited(&policy).replace("version: 1\n", "version: 1\ndry_run: true\n"));
    let clone = world.clone_origin();
    world.ok(
        &clone,
        &format!("git checkout -q -b x && {WORK} && git fetch -q && git rev-parse origin/bottle/x && {WORK}"),
    );
    for number in [1, 2] {
        let bundle = world.path(&format!("state/log/would-push/origin-{number}.bundle"));
        world.ok(&clone, &format!("git bundle verify -q {}", bundle.display()));
    }
    assert!(!world.upstream_refs().contains("refs/heads/bottle/x"), "{}", world.upstream_refs());
}

#[test]
fn an_empty_upstream_gets_its_first_branch() {
    let made = "rm -rf upstream/origin.git && git init -q -b main --bare upstream/origin.git";
    let world = World::with(|world| drop(world.ok(world.dir.path(), made)), |policy| limited(&policy));
    let clone = world.clone_origin();
    world.ok(&clone, WORK);
    assert!(world.upstream_refs().starts_with("refs/heads/bottle/x "), "{}", world.upstream_refs());
}

#[test]
fn what_a_shallow_checkout_has_is_not_fetched() {
    // As the runner makes it of a checkout with one commit.
    let seed = "mkdir -p state/seed/origin && git init -q --bare seed && cd seed &&
        git -c fetch.unpackLimit=1 fetch -q --no-tags --depth=1 ../upstream/origin.git +main:refs/heads/main &&
        mv objects/pack/*.pack objects/pack/*.idx shallow ../state/seed/origin/ && echo $(git rev-parse main) main >../state/seed/origin/branches";
    let prepare = |world: &mut World| {
        world.ok(world.dir.path(), UPSTREAM);
        world.ok(world.dir.path(), seed);
    };
    let world = World::with(prepare, |policy| limited(&policy));
    let clone = world.clone_origin();
    assert_eq!(world.ok(&clone, "git log --format=%s"), "c6\nc5");
    let mirror = world.path("state/git/origin.git");
    // One commit came from upstream, with its tree and the file that the next one has no more.
    assert_eq!(world.ok(&mirror, "git count-objects -v | grep -E '^(count|packs)'"), "count: 3\npacks: 1");
    world.ok(&clone, WORK);
    assert_eq!(world.record()[0].commits, 1);
    is_whole(&world, &mirror);
}

/// Nothing that the mirror's refs reach is missing.
fn is_whole(world: &World, mirror: &Path) {
    world.ok(mirror, "git fsck --connectivity-only");
}
