//! Git LFS through the gate: the real client, an upstream with a stand-in of an LFS server (`lfs_api.py`). `lfs.toml` has the cases.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use crate::https::{Server, https_world};
use crate::processes;
use crate::world::{World, aws_key, said, until};

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
    #[serde(default)]
    mode: String,
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    arrives: bool,
    #[serde(default)]
    uploads: usize,
    #[serde(default)]
    left: usize,
    asks: Option<usize>,
}

/// The guest's configuration: what `git lfs install` writes, and the protocol that the plan's gitconfig names.
const GITCONFIG: &str = "[lfs]\n\tgitprotocol = http\n[lfs \"transfer\"]\n\tmaxretries = 1\n[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n\
    \tsmudge = git-lfs smudge -- %f\n\tprocess = git-lfs filter-process\n\trequired = true\n\
    [user]\n\tname = Guest\n\temail = guest@example.org\n";

/// Upstream's people push by path, and git-lfs puts the objects into the bare repository.
const SEED: &str = r#"
git clone -q origin.git w; cd w; git push -q origin HEAD:refs/heads/plain
git lfs install --local >/dev/null; git lfs track '*.bin' >/dev/null; head -c 5000 /dev/urandom >data.bin; cp data.bin copy.bin
git add .; git commit -qm lfs; git push -q origin main
git checkout -q -b large; head -c 3145728 /dev/urandom >large.bin; git add .; git commit -qm large; git push -q origin large
sha256sum <data.bin | cut -d ' ' -f 1 >../data.sum; cd ..; rm -rf w
"#;

const PRELUDE: &str = r#"
# Not in the environment: what a process was given is searched for it.
if [ -n "${ROOT:-}" ]; then KNOWN=$(cat $ROOT/secrets/GIT_TOKEN); fi
clone() { git clone -q $ORIGIN c; cd c; git lfs install --local >/dev/null; }
sum() { if [ $1 = - ]; then sha256sum; else sha256sum <$1; fi | cut -d ' ' -f 1; }
new() { head -c $1 /dev/urandom; }
commit() { git commit -qm work; }
save() { git add .; commit; }
push() { git push -q "$@" origin HEAD:refs/heads/$BRANCH; }
point() {
  printf 'version %s\noid sha256:%s\nsize %s\n\n' ${4:-https://git-lfs.github.com/spec/v1} $1 $2 >../pointer
  git update-index --add --cacheinfo 100644,$(git hash-object -w --no-filters ../pointer),$3
}
put() { curl -sS --fail-with-body -T $1 "$API/objects/${2:-$(sum $1)}?size=${3:-$(stat -c %s $1)}"; }
post() { curl -sS -d "$1" $API/objects/batch; }
batch() { post "{\"operation\":\"$1\",\"objects\":[{\"oid\":\"$2\",\"size\":$3}]}"; }
"#;

/// A world whose upstream has LFS objects, the server, and the token.
fn lfs_world(path: &str) -> (World, Server, String) {
    let (world, server, token) = https_world(path, "tls.pem");
    seed(&world);
    (world, server, token)
}

pub(crate) fn seed(world: &World) {
    fs::write(world.path("home/.gitconfig"), GITCONFIG).expect("written");
    world.ok(&world.path("upstream"), SEED);
}

/// Puts a changed policy in force.
fn change_policy(world: &World, edit: impl FnOnce(String) -> String) {
    let file = world.path("gate.yaml");
    let policy = edit(fs::read_to_string(&file).expect("a policy"));
    fs::write(&file, policy).expect("written");
    world.gate.as_ref().expect("the gate runs").signal("HUP");
    until("the new policy is in force", || world.gate_log().contains("a new policy is in force"));
}

fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).map(|entries| entries.filter_map(Result::ok).collect::<Vec<_>>());
    let of = |entry: &fs::DirEntry| if entry.path().is_dir() { count(&entry.path()) } else { 1 };
    entries.map(|entries| entries.iter().map(of).sum()).unwrap_or_default()
}

fn at_upstream(world: &World) -> usize {
    count(&world.upstream("origin").join("lfs/objects"))
}

fn waiting(world: &World) -> usize {
    count(&world.path("state/git/.gate/lfs/origin/objects"))
}

fn asked(world: &World) -> usize {
    let log = fs::read_to_string(world.path("https.log")).unwrap_or_default();
    assert!(!log.contains("WRONG") && !log.contains("SEEN"), "{log}");
    log.lines().filter(|line| line.contains("/info/lfs/") || line.contains("/lfs-store/")).count()
}

fn check(world: &World, case: &Case, data: &str, known: &str) -> Result<(), String> {
    let dir = world.path(&format!("case-{}", case.name));
    fs::create_dir(&dir).expect("a directory");
    let mode = if case.mode.is_empty() { "{}" } else { &case.mode };
    fs::write(world.path("lfs.json"), mode).expect("written");
    let api = format!("{}/info/lfs", world.guest_url("origin").replace("git://", "http://"));
    let policy = fs::read_to_string(world.path("gate.yaml")).expect("a policy");
    let own = policy.lines().find_map(|line| line.trim().strip_prefix("url: ")).expect("a URL").to_owned();
    let (branch, secret, own) = (format!("bottle/{}", case.name), aws_key(), format!("{own}/info/lfs"));
    let root = world.dir.path().display().to_string();
    let env = [
        ("BRANCH", branch.as_str()),
        ("SECRET", &secret),
        ("DATA", data),
        ("ROOT", &root),
        ("API", &api),
        ("OWN", &own),
    ];
    let (objects, requests) = (at_upstream(world), asked(world));
    let output = world.sh(&dir, &format!("{PRELUDE}{}", case.script), &env);
    let text = said(&output);
    let mut wrong = vec![];
    if output.status.success() != case.says.is_empty() {
        wrong.push(format!("it ended with {}", output.status));
    }
    wrong.extend(case.says.iter().filter(|what| !text.contains(*what)).map(|what| format!("it does not say {what:?}")));
    let arrived = world.upstream_refs().contains(&format!("refs/heads/{branch} "));
    if arrived != case.arrives {
        wrong.push(format!("arrived: {arrived}"));
    }
    let found = (at_upstream(world) - objects, waiting(world));
    if found != (case.uploads, case.left) {
        wrong.push(format!("uploads and left: {found:?}"));
    }
    let requests = asked(world) - requests;
    if case.asks.is_some_and(|asks| asks != requests) {
        wrong.push(format!("asks: {requests}"));
    }
    if text.contains(&secret) || text.contains(known) {
        wrong.push("the secret is shown".to_owned());
    }
    let _ = fs::remove_dir_all(world.path("state/git/.gate/lfs/origin/objects"));
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}: {}\n{text}", case.name, wrong.join("; "))) }
}

#[test]
fn objects_come_and_go_through_the_gate() {
    let mut suite: Suite = toml::from_str(include_str!("lfs.toml")).expect("the suite");
    if let Ok(only) = std::env::var("LFS") {
        suite.case.retain(|case| case.name.contains(&only));
    }
    // Each world's server misbehaves for one case at a time.
    let parts: Vec<Vec<&Case>> =
        (0..WORLDS).map(|part| suite.case.iter().skip(part).step_by(WORLDS).collect()).collect();
    let wrong: Vec<String> = thread::scope(|scope| {
        let parts: Vec<_> = parts.iter().map(|cases| scope.spawn(|| check_all(cases))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("its cases")).collect()
    });
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n\n"));
}

const WORLDS: usize = 3;

/// What is wrong with these cases, in a world of their own.
fn check_all(cases: &[&Case]) -> Vec<String> {
    let (world, _server, token) = lfs_world("origin.git");
    change_policy(&world, |policy| {
        policy
            .replace("tags: true", "tags: true, max_blob_bytes: 1MiB, max_push_bytes: 4MiB")
            .replace("    token:", "    max_lfs_bytes: 2MiB\n    token:")
            + "exemptions:\n- { rule: aws-access-token, path: 'fixtures/**', reason: samples }\n\
               - { rule: aws-access-key-id, path: 'fixtures/**', reason: samples }\n"
    });
    let data = fs::read_to_string(world.path("upstream/data.sum")).expect("a sum");
    cases.iter().filter_map(|case| check(&world, case, data.trim(), &token).err()).collect()
}

#[test]
fn the_guest_sees_neither_the_credential_nor_the_address_of_an_object() {
    let (world, _server, token) = lfs_world("origin.git");
    let script = format!("{PRELUDE}export GIT_TRACE=1 GIT_CURL_VERBOSE=1; clone; new 300 >n.bin; save; push");
    let output = world.sh(world.dir.path(), &script, &[("BRANCH", "bottle/x")]);
    assert!(output.status.success(), "{}\n{}", said(&output), world.gate_log());
    let text = said(&output);
    assert!(text.contains("POST /origin.git/info/lfs/objects/batch"), "{text}");
    for hidden in [&token, "RemoteAuth", "lfs-store", "localhost"] {
        assert!(!text.contains(hidden) && !world.gate_log().contains(hidden), "{hidden}: {text}");
    }
}

/// By ssh upstream says where its LFS server is, and what to show there.
#[test]
fn an_upstream_over_ssh_is_asked_for_its_server() {
    let (other, _server, _) = https_world("origin.git", "tls.pem");
    let policy = fs::read_to_string(other.path("gate.yaml")).expect("a policy");
    let url = policy.lines().find_map(|line| line.trim().strip_prefix("url: ")).expect("a URL").to_owned();
    let world = World::with(|world| world.ca = Some(other.path("tls.pem")), |policy| policy);
    fs::write(world.path("home/.gitconfig"), GITCONFIG).expect("written");
    world.ok(&world.path("upstream"), SEED);
    let refused = world.sh(world.dir.path(), "git clone -q \"$ORIGIN\" c", &[]);
    let text = said(&refused);
    assert!(!refused.status.success() && text.contains("upstream has no Git LFS for this repository"), "{text}");
    world.ok(
        world.dir.path(),
        &format!(
            "rm -rf {there}/lfs; cp -r {here}/lfs {there}/",
            here = world.upstream("origin").display(),
            there = other.upstream("origin").display()
        ),
    );
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{asked}\necho '{{\"href\": \"{url}/info/lfs/\", \"header\": {{\"Authorization\": \"RemoteAuth by-ssh\"}}}}'\n",
        asked = world.path("authenticate.log").display()
    );
    world.replace_program("git-lfs-authenticate", &script);
    let script = format!("{PRELUDE}rm -rf c; clone; new 300 >n.bin; save; push");
    let output = world.sh(world.dir.path(), &script, &[("BRANCH", "bottle/x")]);
    assert!(output.status.success(), "{}\n{}", said(&output), world.gate_log());
    assert_eq!(at_upstream(&other), 3);
    let asked = fs::read_to_string(world.path("authenticate.log")).expect("a log");
    let path = world.upstream("origin").display().to_string();
    let path = path.trim_start_matches('/');
    assert!(asked.contains(&format!("{path} download")) && asked.contains(&format!("{path} upload")), "{asked}");
}

#[test]
fn a_dry_run_keeps_the_objects_beside_the_bundle() {
    let (world, _server, _) = lfs_world("origin.git");
    change_policy(&world, |policy| policy.replace("version: 1\n", "version: 1\ndry_run: true\n"));
    let objects = at_upstream(&world);
    let script = format!(
        "{PRELUDE}clone; new 300 >n.bin; save; push; git clone -q -b bottle/x $ORIGIN ../d; cmp n.bin ../d/n.bin; \
         point $(sum n.bin) 300 m.bin; commit; push --no-verify; cmp n.bin ../state/log/would-push/origin-lfs/$(sum n.bin)"
    );
    let output = world.sh(world.dir.path(), &script, &[("BRANCH", "bottle/x")]);
    assert!(output.status.success(), "{}\n{}", said(&output), world.gate_log());
    assert_eq!((at_upstream(&world), waiting(&world)), (objects, 0));
    assert!(!world.upstream_refs().contains("bottle/x"), "{}", world.upstream_refs());
}

#[test]
fn a_repository_with_sha256_ids_has_lfs_objects_too() {
    let (world, _server, _) = https_world("origin.git", "tls.pem");
    fs::write(world.path("home/.gitconfig"), GITCONFIG).expect("written");
    world.ok(world.dir.path(), crate::mirror::EMPTY_SHA256);
    let script = format!(
        "{PRELUDE}git init -q -b main --object-format=sha256 new; cd new; git remote add origin $ORIGIN; git lfs install --local; \
         git lfs track '*.bin'; new 300 >n.bin; save; push; git clone -q -b bottle/x $ORIGIN ../d; cmp n.bin ../d/n.bin; \
         point $(new 9 | sum -) 9 m.bin; commit; ! push --no-verify"
    );
    let output = world.sh(world.dir.path(), &script, &[("BRANCH", "bottle/x")]);
    assert!(output.status.success(), "{}\n{}", said(&output), world.gate_log());
    assert!(said(&output).contains("m.bin is a Git LFS pointer"), "{}", said(&output));
}

/// kill -9 of the hook while it uploads: upstream has an object that was judged, and no ref to it; the next push works.
#[test]
fn a_hook_that_is_killed_while_it_uploads_loses_nothing_and_lets_nothing_through() {
    let (world, _server, _) = lfs_world("origin.git");
    let script = format!("{PRELUDE}clone; new 300 >n.bin; new 300 >m.bin; save");
    let made = world.sh(world.dir.path(), &script, &[]);
    assert!(made.status.success(), "{}", said(&made));
    fs::write(world.path("lfs.json"), "{\"delay\": 1}").expect("written");
    let push = || world.sh(&world.path("c"), &format!("{PRELUDE}push"), &[("BRANCH", "bottle/x")]);
    let output = thread::scope(|scope| {
        let pushing = scope.spawn(push);
        until("the store gets an object", || {
            fs::read_to_string(world.path("https.log")).is_ok_and(|log| log.contains("lfs PUT upload"))
        });
        thread::sleep(Duration::from_millis(200));
        let all = processes::plainly_of(&world);
        let hook = all.iter().find(|process| process.has("gate-hook") && process.has("pre-receive"));
        hook.expect("the hook").kill();
        pushing.join().expect("a push")
    });
    assert!(!output.status.success(), "{}", said(&output));
    assert!(!world.upstream_refs().contains("bottle/x"), "{}", world.upstream_refs());
    fs::write(world.path("lfs.json"), "{}").expect("written");
    let output = push();
    assert!(output.status.success(), "{}\n{}", said(&output), world.gate_log());
    assert!(world.upstream_refs().contains("bottle/x"), "{}", world.upstream_refs());
    assert_eq!((at_upstream(&world), waiting(&world)), (4, 0));
}

/// A file is as binary as the object that its pointer stands for.
#[test]
fn new_binaries_are_counted_behind_their_pointers() {
    let (world, _server, _) = lfs_world("origin.git");
    change_policy(&world, |policy| policy.replace("tags: true", "tags: true, max_new_binaries: 1"));
    let push = |script: &str| {
        world.sh(
            world.dir.path(),
            &format!("{PRELUDE}rm -rf c; clone; {script}; save; push"),
            &[("BRANCH", "bottle/x")],
        )
    };
    let output = push("new 3000 >m.bin; new 3000 >n.bin");
    let text = said(&output);
    assert!(!output.status.success() && text.contains("binary") && text.contains('2'), "{text}");
    assert!(!world.upstream_refs().contains("bottle/x"), "{}", world.upstream_refs());
    // One that is new, one that was there, and one that is a text.
    let output = push("new 3000 >n.bin; new 3000 >data.bin; echo text >t.bin");
    assert!(output.status.success(), "{}\n{}", said(&output), world.gate_log());
}

/// What waits for its push is for this gate alone: another one knows nothing of it.
#[test]
fn a_gate_that_starts_has_no_objects() {
    let (mut world, _server, _) = lfs_world("origin.git");
    let api = format!("{}/info/lfs", world.guest_url("origin").replace("git://", "http://"));
    let put = world.sh(world.dir.path(), &format!("{PRELUDE}new 300 >n; put n"), &[("API", &api)]);
    assert!(put.status.success(), "{}", said(&put));
    assert_eq!(waiting(&world), 1);
    world.gate.as_ref().expect("the gate runs").signal("KILL");
    world.gate = None;
    world.start_gate();
    assert_eq!(waiting(&world), 0);
}
