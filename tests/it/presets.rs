//! Presets, from what the real tools on this host say.

use std::path::PathBuf;
use std::process::Command;

use bottle_testkit::{World, said, sh};

use crate::RUNNER;

const MANIFEST: &str = "version: 1\nbottles: { default: { egress: { presets: [npm, cargo] } } }\n";

/// A checkout whose only commit has these files.
fn checkout(world: &World, files: &[(&str, &str)]) -> PathBuf {
    for (name, text) in files {
        world.write(&format!("app/{name}"), text);
    }
    let dir = world.path("app");
    for args in [&["init", "--quiet"][..], &["add", "--all"], &["commit", "--quiet", "-m", "First"]] {
        let mut git = Command::new("git");
        world.clean(&mut git);
        git.args(["-c", "user.name=Sample", "-c", "user.email=sample@bottle.test"]).args(args).current_dir(&dir);
        let output = git.output().expect("git");
        assert!(output.status.success(), "git {args:?}: {}", said(&output));
    }
    dir
}

fn plan(world: &World, dir: &PathBuf) -> Command {
    let mut command = world.runner();
    let rustup = std::env::var("RUSTUP_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.rustup")));
    command.args(["plan", "--task", "Fix it"]).current_dir(dir);
    command.env("CARGO_HOME", world.path("cargo")).env("RUSTUP_HOME", rustup.expect("a home"));
    command
}

#[test]
fn a_company_s_mirrors_are_in_the_plan_and_a_change_s_are_not() {
    let world = World::new(RUNNER);
    world.write("home/.npmrc", "registry=https://npm.bottle.test:8443/npm/\n");
    world.write(
        "cargo/config.toml",
        "[source.crates-io]\nreplace-with = \"corp\"\n[source.corp]\nregistry = \"sparse+https://crates.bottle.test/index/\"\n",
    );
    world.write(
        "cargo/registry/index/crates.bottle.test-0123456789abcdef/config.json",
        "{\"dl\": \"https://files.bottle.test/crates/{crate}-{version}.crate\"}",
    );
    let dir =
        checkout(&world, &[("claude-bottle.yml", MANIFEST), (".npmrc", "@team:registry=https://team.bottle.test/\n")]);
    // What is not in the base branch does not count.
    world.write("app/.npmrc", "registry=https://evil.bottle.test/\n");
    world.write("app/.cargo/config.toml", "[registries.evil]\nindex = \"sparse+https://evil.bottle.test/\"\n");
    let output = plan(&world, &dir).output().expect("the runner");
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for line in [
        "route npm.bottle.test:8443  GET HEAD  /npm/**",
        "route team.bottle.test  GET HEAD  /**",
        "route crates.bottle.test  GET HEAD  /index/**",
        "route files.bottle.test  GET HEAD  /crates/**",
        "preset npm: https://npm.bottle.test:8443/npm/  (from npm config `registry`)",
        "preset npm: https://team.bottle.test/  (from the base branch's .npmrc, `@team:registry`)",
        "preset cargo: https://files.bottle.test/crates/  (from `dl` of the index at crates.bottle.test)",
    ] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
    assert!(!text.contains("evil"), "{text}");
}

#[test]
fn a_change_that_names_a_preset_is_told_with_its_hosts() {
    let world = World::new(RUNNER);
    world.write("home/.npmrc", "registry=https://npm.bottle.test:8443/npm/\n");
    let before = "version: 1\nbottles: { default: { egress: { routes: [{ host: npm.bottle.test, port: 8443, paths: [/npm/**] }] } } }\n";
    let dir =
        checkout(&world, &[("claude-bottle.yml", before), (".npmrc", "@team:registry=https://team.bottle.test/\n")]);
    // A proposal, committed as a job has it: its own registry is nobody's that is asked about.
    world.write("app/claude-bottle.yml", "version: 1\nbottles: { default: { egress: { presets: [npm] } } }\n");
    world.write("app/.npmrc", "@team:registry=https://evil.bottle.test/\n");
    let here = dir.display().to_string();
    sh(&["git", "-C", &here, "-c", "user.name=a", "-c", "user.email=a@bottle.test", "commit", "-q", "-a", "-m", "x"]);
    let diff = |args: &[&str]| {
        let output = world.runner().args(["plan", "--diff", "HEAD~1"]).args(args).current_dir(&dir).output();
        let output = output.expect("the runner");
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(
        diff(&[]),
        "Newly allowed:\n- the registries of npm may be read (bottles.default.egress.presets)\n\
         - GET, HEAD of https://team.bottle.test may be asked for: /**, of the preset npm (bottles.default.egress.presets)\n"
    );
    let told: serde_json::Value = serde_json::from_str(&diff(&["--format", "json"])).expect("JSON");
    assert_eq!(told.as_array().map(Vec::len), Some(2), "{told:#}");
    // A machine without npm says so, and is no failure.
    std::fs::create_dir(world.path("bin")).expect("a directory");
    std::os::unix::fs::symlink("/usr/bin/git", world.path("bin/git")).expect("a link");
    let mut runner = world.runner();
    runner.args(["plan", "--diff", "HEAD~1"]).current_dir(&dir).env("PATH", world.path("bin"));
    let output = runner.output().expect("the runner");
    let text = said(&output);
    let words = "the hosts of the preset npm are not known on this machine: there is no `npm` on this host";
    assert!(output.status.success() && text.contains(words), "{text}");
}

#[test]
fn a_password_in_an_address_stays_on_the_host() {
    let world = World::new(RUNNER);
    let password = world.secret().replace(['/', '+'], "x");
    world.write("home/.npmrc", &format!("registry=https://me:{password}@npm.bottle.test/\n"));
    let index = format!("sparse+https://me:{password}@crates.bottle.test/");
    world.write(
        "cargo/config.toml",
        &format!("[source.crates-io]\nreplace-with = \"corp\"\n[source.corp]\nregistry = \"{index}\"\n"),
    );
    world.write(
        "cargo/registry/index/crates.bottle.test-0123456789abcdef/config.json",
        "{\"dl\": \"https://crates.bottle.test/dl\"}",
    );
    let dir = checkout(&world, &[("claude-bottle.yml", &MANIFEST.replace("npm, cargo", "cargo"))]);
    let output = plan(&world, &dir).args(["--format", "json"]).output().expect("the runner");
    assert!(output.status.success() && !said(&output).contains(&password), "{}", said(&output));
    assert!(said(&output).contains("stays on the host: if crates.bottle.test asks for it"), "{}", said(&output));

    world.write("app/npm.yml", &MANIFEST.replace("npm, cargo", "npm"));
    let output = plan(&world, &dir).args(["--manifest", "npm.yml"]).output().expect("the runner");
    assert!(output.status.success() && !said(&output).contains(&password), "{}", said(&output));
    assert!(said(&output).contains("stays on the host: if npm.bottle.test asks for it"), "{}", said(&output));
}

#[test]
fn apt_s_sources_count_before_anybody_has_fetched_their_lists() {
    let world = World::new(RUNNER);
    let sources = world.write("sources.list", "deb https://deb.bottle.test/debian stable main\n").display().to_string();
    let config = format!("Dir::Etc::sourcelist \"{sources}\";\nDir::Etc::sourceparts \"-\";\n");
    let config = world.write("apt.conf", &config);
    let dir = checkout(&world, &[("claude-bottle.yml", &MANIFEST.replace("npm, cargo", "apt"))]);
    let output = plan(&world, &dir).env("APT_CONFIG", config).output().expect("the runner");
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("route deb.bottle.test  GET HEAD  /debian/**"), "{text}");
    assert!(text.contains(&format!("preset apt: https://deb.bottle.test/debian/  (from {sources})")), "{text}");
}

#[test]
fn a_pip_that_fails_after_its_report_has_answered() {
    let world = World::new(RUNNER);
    let dir = checkout(&world, &[("claude-bottle.yml", &MANIFEST.replace("npm, cargo", "pip"))]);
    let pip = sh(&["sh", "-c", "command -v pip || command -v pip3"]);
    // As pyenv's does where two install at once.
    let text =
        format!("#!/bin/sh\n{pip} \"$@\" || exit\n[ \"$1\" != install ] || {{ echo can\\'t rehash >&2; exit 1; }}\n");
    let ours = world.write("bin/pip", &text);
    sh(&["chmod", "755", &ours.display().to_string()]);
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").expect("a PATH"));
    let output = plan(&world, &dir).env("PATH", path).output().expect("the runner");
    let text = said(&output);
    assert!(output.status.success() && text.contains("preset pip: ") && !text.contains("rehash"), "{text}");
    assert!(text.contains(" keeps its files)"), "{text}");
}

#[test]
fn a_tool_that_is_not_there_is_named() {
    let world = World::new(RUNNER);
    let dir = checkout(&world, &[("claude-bottle.yml", &MANIFEST.replace("npm, cargo", "go"))]);
    // A PATH with git alone.
    let git = sh(&["sh", "-c", "command -v git"]);
    std::fs::create_dir(world.path("bin")).expect("a directory");
    std::os::unix::fs::symlink(git, world.path("bin/git")).expect("a link");
    let output = plan(&world, &dir).env("PATH", world.path("bin")).output().expect("the runner");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr).trim(),
        "error: the preset `go`: there is no `go` on this host to ask where it fetches from\n\
         help: install it and configure it as your project needs it, or declare the registries under egress.routes"
    );
}
