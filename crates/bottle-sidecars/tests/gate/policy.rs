//! Push policy: what is refused whatever it contains.

use bottle_wire::push_report::PushVerdict;

use crate::world::{World, said};

#[test]
fn refs_paths_and_rewrites() {
    let world = World::new();
    world.ok(&world.upstream("origin"), "git branch bottle/old main");
    let clone = world.clone_origin();
    let before = world.upstream_refs();
    for (script, why) in [
        ("git commit -q --allow-empty -m x; git push origin HEAD:refs/heads/main", "not among the refs"),
        ("git push origin HEAD:refs/notes/x", "only branches and tags"),
        ("git push origin HEAD:refs/replace/$(git rev-parse HEAD)", "only branches and tags"),
        ("git push origin HEAD:refs/heads/bottle/$(git rev-parse HEAD)", "named like an object id"),
        ("git push origin :refs/heads/bottle/old", "can't be deleted"),
        ("git push origin --force HEAD~1:refs/heads/bottle/old", "not a fast-forward"),
        (
            "git rm -q .github/workflows/ci.yml; git commit -qm x; git push origin HEAD:refs/heads/bottle/x",
            "is protected",
        ),
        (
            "git mv .github/workflows/ci.yml y; git commit -qm x; git push origin HEAD:refs/heads/bottle/x",
            "is protected",
        ),
        (
            "echo y >.github/workflows/new.yml; git add .; git commit -qm x; git rm -qr .github/workflows/new.yml; \
             git commit -qm y; git push origin HEAD:refs/heads/bottle/x",
            "is protected",
        ),
        (
            "git rm -qr .github; git commit -qm x; ln -s y .github; git add .; git commit -qm y; \
             git push origin HEAD:refs/heads/bottle/x",
            "is protected",
        ),
        (
            "echo x >Claude-Bottle.yml; git add .; git commit -qm x; git push origin HEAD:refs/heads/bottle/x",
            "is protected",
        ),
        ("git checkout -q --orphan o; git commit -qm x; git push origin HEAD:refs/heads/bottle/x", "is protected"),
    ] {
        let output = world.sh(&clone, &format!("git reset -q --hard origin/main; {script}"), &[]);
        assert!(!output.status.success(), "{script}");
        assert!(said(&output).contains(why), "{script}: {}", said(&output));
        world.ok(&clone, "git checkout -q -f main; git reset -q --hard origin/main; git clean -fdq");
    }
    assert_eq!(world.upstream_refs(), before);
    assert!(world.record().iter().all(|line| line.verdict == PushVerdict::Refused && !line.reasons.is_empty()));
}

#[test]
fn merges_of_protected_paths() {
    let world = World::new();
    let clone = world.clone_origin();
    world.ok(&clone, "git checkout -q -b work; echo w >w; git add .; git commit -qm w");
    world.ok(
        &world.path("upstream"),
        "git clone -q origin.git w && cd w && echo 'on: [push]' >.github/workflows/ci.yml && git commit -qam ci && git push -q",
    );
    world.ok(&clone, "git fetch -q");
    // Merging upstream's newer workflow in is no change of it.
    world.ok(&clone, "git merge -q -m m origin/main && git push -q origin HEAD:refs/heads/bottle/honest");
    for (name, spoil) in [
        ("evil", "echo evil >.github/workflows/ci.yml"),
        ("old", "git checkout -q HEAD~1 -- .github/workflows/ci.yml"),
        ("gone", "git rm -qf .github/workflows/ci.yml"),
    ] {
        let script = format!(
            "git checkout -q --detach work~1; git merge -q --no-commit --no-ff origin/main; {spoil}; git add -A; \
             git commit -qm {name}; git push origin HEAD:refs/heads/bottle/{name}"
        );
        let output = world.sh(&clone, &script, &[]);
        assert!(!output.status.success(), "{name}");
        assert!(said(&output).contains("is protected"), "{name}: {}", said(&output));
        world.ok(&clone, "git checkout -q -f work");
    }
}

#[test]
fn a_branch_that_this_run_made_may_be_rewritten() {
    let world = World::new();
    let clone = world.clone_origin();
    let push = "git push -q --force origin HEAD:refs/heads/bottle/x";
    world.ok(
        &clone,
        &format!("git commit -q --allow-empty -m one; {push}; git commit -q --amend --allow-empty -m two; {push}"),
    );
    let head = world.ok(&clone, "git rev-parse HEAD");
    assert!(world.upstream_refs().contains(&head));
    // Somebody else pushed meanwhile: what the agent has not seen is not overwritten.
    world.ok(&world.upstream("origin"), "git update-ref refs/heads/bottle/x main");
    let output = world.sh(
        &clone,
        "git commit -q --amend --allow-empty -m three; \
         git push --force-with-lease=refs/heads/bottle/x:HEAD@{1} origin HEAD:refs/heads/bottle/x",
        &[],
    );
    assert!(!output.status.success());
}

#[test]
fn many_refs_land_together_or_not_at_all() {
    let world = World::new();
    let clone = world.clone_origin();
    let two = "git push origin HEAD:refs/heads/bottle/a HEAD:refs/heads/other/b";
    let output = world.sh(&clone, &format!("git commit -q --allow-empty -m x; {two}"), &[]);
    assert!(!output.status.success());
    assert!(!world.upstream_refs().contains("bottle/a"));
    world.ok(&clone, "git push -q origin HEAD:refs/heads/bottle/a HEAD:refs/tags/v1");
    assert!(world.upstream_refs().contains("refs/tags/v1"));
    assert_eq!(world.record().len(), 4);
}

#[test]
fn upstreams_own_refusal_is_shown() {
    let world = World::new();
    let clone = world.clone_origin();
    world.ok(
        &world.upstream("origin"),
        "printf '#!/bin/sh\\necho the branch is frozen today >&2\\nexit 1\\n' >hooks/pre-receive; chmod +x hooks/pre-receive",
    );
    let output = world.sh(&clone, "git commit -q --allow-empty -m x; git push origin HEAD:refs/heads/bottle/x", &[]);
    assert!(!output.status.success());
    assert!(said(&output).contains("the branch is frozen today"), "{}", said(&output));
    assert!(!world.ok(&clone, "git ls-remote \"$ORIGIN\"").contains("bottle/x"));
}

#[test]
fn a_dry_run_forwards_nothing_and_keeps_the_push() {
    let world = World::with(|_| {}, |policy| policy.replace("version: 1\n", "version: 1\ndry_run: true\n"));
    let clone = world.clone_origin();
    let before = world.upstream_refs();
    world.ok(&clone, "git commit -q --allow-empty -m x; git push -q origin HEAD:refs/heads/bottle/x");
    world.ok(&clone, "git commit -q --allow-empty -m y; git push -q origin HEAD:refs/heads/bottle/x");
    let head = world.ok(&clone, "git rev-parse HEAD");
    assert_eq!(world.upstream_refs(), before);
    assert!(world.ok(&clone, "git ls-remote \"$ORIGIN\"").contains(&head));
    let bundle = world.path("state/log/would-push/origin-2.bundle");
    let heads = world.ok(&clone, &format!("git bundle verify -q {0} && git bundle list-heads {0}", bundle.display()));
    assert_eq!(heads, format!("{head} refs/heads/bottle/x"));
    assert!(world.record().iter().all(|line| line.verdict == PushVerdict::WouldPush));
}

#[test]
fn a_dry_run_keeps_no_ref_that_git_refused_after_all() {
    let world = World::with(|_| {}, |policy| policy.replace("version: 1\n", "version: 1\ndry_run: true\n"));
    world.ok(&world.upstream("origin"), "git branch bottle/x/y main");
    let clone = world.clone_origin();
    // Git can't have both, and finds out when all is scanned and kept.
    let output = world.sh(&clone, "git commit -q --allow-empty -m x; git push origin HEAD:refs/heads/bottle/x", &[]);
    assert!(!output.status.success(), "{}", said(&output));
    world.ok(&world.upstream("origin"), "git branch -D bottle/x/y; git branch bottle/x main");
    let seen = world.ok(&clone, "git ls-remote \"$ORIGIN\" refs/heads/bottle/x");
    assert!(seen.starts_with(&world.ok(&clone, "git rev-parse origin/main")), "{seen}");
}

#[test]
fn what_is_too_large_is_refused() {
    let world = World::with(
        |_| {},
        |policy| policy.replace("      tags: true\n", "      tags: true\n      max_blob_bytes: 100KiB\n"),
    );
    let clone = world.clone_origin();
    let output = world.sh(
        &clone,
        "head -c 200000 /dev/zero >big; git add .; git commit -qm big; git push origin HEAD:refs/heads/bottle/x",
        &[],
    );
    assert!(!output.status.success());
    assert!(said(&output).contains("big is 200000 bytes large"), "{}", said(&output));
}

#[test]
fn what_anybody_proposes_is_new_when_it_is_pushed() {
    let world = World::new();
    let key = crate::world::aws_key();
    // As forges keep the head of a pull request from a fork.
    for (number, change) in
        [(1, "echo 'on: [push]' >.github/workflows/ci.yml".to_owned()), (2, format!("echo {key} >deploy"))]
    {
        world.ok(
            &world.path("upstream"),
            &format!(
                "rm -rf w; git clone -q origin.git w && cd w && {change} && git add . && git commit -qm fork && \
                 git push -q origin HEAD:refs/pull/{number}/head"
            ),
        );
    }
    let clone = world.clone_origin();
    for (number, why) in [(1, "is protected"), (2, "deploy:1")] {
        let script = format!(
            "git fetch -q origin refs/pull/{number}/head && git push origin FETCH_HEAD:refs/heads/bottle/pr-{number}"
        );
        let output = world.sh(&clone, &script, &[]);
        assert!(!output.status.success(), "{number}");
        assert!(said(&output).contains(why), "{number}: {}", said(&output));
    }
    assert!(!world.upstream_refs().contains("bottle/pr-"));
}

#[test]
fn kinds_of_data_are_looked_for_where_the_policy_names_them() {
    let world = World::with(|_| {}, |policy| policy + "detect: [iban, seed-phrases]\n");
    let clone = world.clone_origin();
    let before = world.upstream_refs();
    let push = "git add . && git commit -qm x && git push origin HEAD:refs/heads/bottle/x";
    for (text, rule) in [
        ("DE89 3704 0044 0532 0130 00", "iban"),
        ("$(echo pay DE89 3704 0044 0532 0130 00 | base64)", "iban"),
        ("legal winner thank year wave sausage worth useful legal winner thank yellow", "seed-phrase"),
    ] {
        let output = world.sh(&clone, &format!("echo \"{text}\" >k; {push}"), &[]);
        assert!(!output.status.success() && said(&output).contains(rule), "{}", said(&output));
        // Four digits alone can be in a port or in a hash.
        assert!(!said(&output).contains("3704 0044") && !said(&output).contains("sausage"), "{}", said(&output));
        assert_eq!(world.upstream_refs(), before);
        world.ok(&clone, "git reset -q --hard origin/main");
    }
    world.ok(&clone, &format!("echo 4242 4242 4242 4242, DE88 3704 0044 0532 0130 00 >k; {push}"));
}

#[test]
fn a_project_s_own_formats_are_looked_for() {
    let own = "patterns: [{ name: acme-key, regex: 'acme_[0-9a-f]{16}' }]\n";
    let world = World::with(|_| {}, |policy| policy + own);
    let clone = world.clone_origin();
    let before = world.upstream_refs();
    let push = "git add . && git commit -qm x && git push origin HEAD:refs/heads/bottle/x";
    let output = world.sh(&clone, &format!("echo key acme_0123456789abcdef >k; {push}"), &[]);
    assert!(!output.status.success() && said(&output).contains("acme-key"), "{}", said(&output));
    assert_eq!(world.upstream_refs(), before);
    world.ok(&clone, &format!("git reset -q --hard origin/main; echo key acme_0123 >k; {push}"));
}
