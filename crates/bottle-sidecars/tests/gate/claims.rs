//! What the mirror claims: nobody can tell it from the upstream. `claims.toml` has what is done at both and compared.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::world::{World, said};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    script: String,
}

/// An upstream with something of everything.
const RICH: &str = r#"
git clone -q origin.git w; cd w
for i in $(seq 12); do
  export GIT_AUTHOR_DATE="$((1700000000 + i * 60)) +0000" GIT_COMMITTER_DATE="$((1700000000 + i * 60)) +0000"
  seq $((i * 10)) >f$i; git add .; git commit -qm c$i
done
git tag light HEAD~3; git tag -a -m annotated v1 HEAD~2; git tag -a -m 'of a tag' v1-again v1
git tag blob-tag HEAD:f1; git tag tree-tag HEAD^{tree}
git checkout -q -b topic/deep HEAD~5; mkdir -p d/e; echo x >d/e/x; git add .; git commit -qm deep
git checkout -q main; git merge -q --no-ff -m merge topic/deep
printf '*.bin filter=lfs diff=lfs merge=lfs -text\n' >.gitattributes
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 12345\n' "$(printf x | sha256sum | cut -d ' ' -f 1)" >big.bin
git add .; git commit -qm lfs
git notes add -m 'a note' HEAD~1; git notes --ref review add -m 'a review' HEAD
git push -q origin --all; git push -q origin --tags; git push -q origin 'refs/notes/*' HEAD~1:refs/pull/1/head
git -C ../origin.git config uploadpack.allowFilter true; git -C ../origin.git config uploadpack.allowAnySHA1InWant true
cd ..; rm -rf w
"#;

const PRELUDE: &str = r#"
show() { git for-each-ref --format='%(refname) %(objectname) %(symref)'; git rev-list --all --parents | sort; }
missing() { git rev-list --objects --all --missing=print | grep -c '^?' || true; }
said() { GIT_TRACE_PACKET=1 git -c protocol.version=$1 ls-remote 2>&1 | grep -c "< $2" || true; }
"#;

fn seen(world: &World, case: &Case, at: &str, url: &str) -> String {
    let dir = world.path(&format!("{at}-{}", case.name));
    fs::create_dir(&dir).expect("a directory");
    let output = world.sh(&dir, &format!("{PRELUDE}{}", case.script), &[("URL", url)]);
    let text = String::from_utf8_lossy(&output.stdout);
    let failed = if output.status.success() { "" } else { &format!("it failed: {}", said(&output)) };
    format!("{text}{failed}").replace(url, "URL")
}

#[test]
fn what_is_seen_at_the_gate_is_what_is_seen_at_upstream() {
    let mut suite: Suite = toml::from_str(include_str!("claims.toml")).expect("the suite");
    if let Ok(only) = std::env::var("CLAIMS") {
        suite.case.retain(|case| case.name.contains(&only));
    }
    let world = World::new();
    world.ok(&world.path("upstream"), RICH);
    let failures = Mutex::new(vec![]);
    let next = Mutex::new(suite.case.iter());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().expect("a lock").next() else { break };
                    let here = seen(&world, case, "gate", &world.guest_url("origin"));
                    let there =
                        seen(&world, case, "upstream", &format!("file://{}", world.upstream("origin").display()));
                    if here != there || here.contains("it failed") || here.is_empty() {
                        let failure = format!("{}: at the gate\n{here}\nat upstream\n{there}", case.name);
                        failures.lock().expect("a lock").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("a lock");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn what_goes_upstream_goes_at_the_next_prune() {
    let world = World::new();
    let upstream = world.upstream("origin");
    world.ok(&upstream, "git branch gone main; git branch dir/one main; git tag gone-tag main");
    let clone = world.clone_origin();
    world.ok(&clone, "git rev-parse origin/gone gone-tag");
    world.ok(&upstream, "git branch -q -D gone dir/one; git branch dir main; git tag -d gone-tag");
    world.ok(&clone, "git fetch -q --prune --prune-tags origin; git rev-parse -q --verify origin/dir");
    for name in ["origin/gone", "origin/dir/one", "gone-tag"] {
        let output = world.sh(&clone, &format!("git rev-parse -q --verify {name}"), &[]);
        assert!(!output.status.success(), "{name}: {}", said(&output));
    }
    // Nor is anything kept where all is gone but what HEAD points to.
    world.ok(&upstream, "git branch -q -D dir");
    assert_eq!(world.ok(&clone, "git ls-remote --refs \"$ORIGIN\" | cut -f 2"), "refs/heads/main");
}

#[test]
fn an_lfs_pointer_alone_is_refused() {
    let world = World::new();
    let clone = world.clone_origin();
    let push = "printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%s\\nsize 12345\\n' \
         \"$(head -c 9 /dev/urandom | sha256sum | cut -d ' ' -f 1)\" >big.bin; git add .; git commit -qm lfs; \
         git push -q origin HEAD:refs/heads/bottle/lfs";
    let output = world.sh(&clone, push, &[]);
    let text = said(&output);
    assert!(!output.status.success() && text.contains("big.bin is a Git LFS pointer, and its object"), "{text}");
    assert!(text.contains("upstream has no Git LFS for this repository"), "{text}");
    assert!(!world.upstream_refs().contains("bottle/lfs"), "{}", world.upstream_refs());
}

#[test]
fn submodules_of_declared_upstreams_come_through_the_gate() {
    let world = World::new();
    let (library, host) = (world.url("library"), format!("localhost:{}", world.sshd.port));
    let plain = library.replace(&format!(":{}", world.sshd.port), "");
    let path = plain.split_once("localhost").expect("a host").1.to_owned();
    let spellings = [
        library.clone(),
        library.trim_end_matches(".git").to_owned(),
        plain.clone(),
        format!("{}:{path}", plain.split_once("//").expect("a scheme").1.split('/').next().expect("a host")),
        format!("localhost:{}", path.trim_end_matches(".git")),
        format!("https://localhost{path}"),
        format!("https://{host}{path}"),
    ];
    // As the guest's ~/.gitconfig has it, which the crate that renders it tests.
    let mut config = format!("[url \"{}\"]\n", world.guest_url("library"));
    for spelling in &spellings {
        let bare = spelling.trim_end_matches(".git");
        config.push_str(&format!("insteadOf = \"{bare}\"\ninsteadOf = \"{bare}.git\"\n"));
    }
    let mut script = "git clone -q origin.git w; cd w; id=$(git -C ../library.git rev-parse main)".to_owned();
    for (number, url) in spellings.iter().map(String::as_str).chain(["../library.git"]).enumerate() {
        script.push_str(&format!(
            "; git config -f .gitmodules submodule.s{number}.path s{number}; \
             git config -f .gitmodules submodule.s{number}.url '{url}'; \
             git update-index --add --cacheinfo 160000,$id,s{number}"
        ));
    }
    script.push_str("; git add .gitmodules; git commit -qm submodules; git push -q origin main");
    world.ok(&world.path("upstream"), &script);
    fs::write(world.path("home/.gitconfig"), config).expect("written");
    // With no program for ssh, nothing but the gate is in reach.
    world.ok(
        world.dir.path(),
        "export GIT_SSH_COMMAND=false GIT_ALLOW_PROTOCOL=git; git clone -q --recurse-submodules \"$ORIGIN\" c; cd c; \
         for s in s?; do [ $(git -C $s rev-parse HEAD) = $(git -C ../upstream/library.git rev-parse main) ]; done; \
         [ $(ls -d s?/README.md | wc -l) = 8 ]; git submodule update -q --remote",
    );
    // And one more can be pushed, in any of the spellings.
    world.ok(
        &world.path("c"),
        &format!(
            "git config -f .gitmodules submodule.more.path more; git config -f .gitmodules submodule.more.url {library}; \
             git update-index --add --cacheinfo 160000,$(git rev-parse HEAD:s0),more; git add .gitmodules; \
             git commit -qm more; git push -q origin HEAD:refs/heads/bottle/more"
        ),
    );
}

#[test]
fn head_is_upstreams() {
    let world = World::with(
        |world| drop(world.ok(&world.upstream("origin"), "git branch -m main trunk; git branch main trunk~1")),
        |policy| policy,
    );
    let clone = world.clone_origin();
    assert_eq!(world.ok(&clone, "git branch --show-current"), "trunk");
    // The branch goes, and another is the default.
    world.ok(&world.upstream("origin"), "git symbolic-ref HEAD refs/heads/main; git branch -D trunk");
    let clone = world.clone_origin();
    assert_eq!(world.ok(&clone, "git branch --show-current"), "main");
}

#[test]
fn an_empty_upstream_and_its_first_branch() {
    let world = World::with(
        |world| {
            let empty = "rm -rf origin.git; git init -q --bare -b trunk origin.git";
            world.ok(&world.path("upstream"), empty);
        },
        |policy| policy,
    );
    let clone = world.clone_origin();
    assert_eq!(world.ok(&clone, "git for-each-ref"), "");
    world.ok(
        &world.path("upstream"),
        "git clone -q library.git w; cd w; git push -q ../origin.git main:trunk main:another",
    );
    let clone = world.clone_origin();
    assert_eq!(world.ok(&clone, "git branch --show-current"), "trunk");
}

/// Each agent gets what upstream had when it asked, or newer, and none waits for long.
#[test]
fn agents_fetch_at_once_while_upstream_moves() {
    let world = World::new();
    let clones: Vec<_> = (0..4).map(|_| world.clone_origin()).collect();
    let upstream = world.upstream("origin");
    let moved = "git update-ref refs/heads/main $(git commit-tree -p main -m more main^{tree})";
    let fetch = |clone: &Path| {
        for _ in 0..3 {
            let before = world.ok(&upstream, "git rev-parse main");
            let start = Instant::now();
            world.ok(clone, "git fetch -q origin");
            assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
            world.ok(clone, &format!("git merge-base --is-ancestor {before} origin/main"));
        }
    };
    thread::scope(|scope| {
        let fetching: Vec<_> = clones.iter().map(|clone| scope.spawn(|| fetch(clone))).collect();
        while fetching.iter().any(|one| !one.is_finished()) {
            world.ok(&upstream, moved);
        }
    });
    world.ok(&world.path("state/git/origin.git"), "git fsck --connectivity-only --no-dangling");
}
