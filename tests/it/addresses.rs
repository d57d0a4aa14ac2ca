//! A password in an address shows nowhere: it is planted wherever an address may stand, and all that the runner prints and
//! writes is searched for it. Needs no engine.

use std::fs;
use std::path::Path;
use std::process::Command;

use bottle_testkit::{World, said, sh};

use crate::RUNNER;

/// A part of every planted password.
const PLANTED: &str = "hunter22";
const MANIFEST: &str = "version: 1\nbottles:\n  default: {}\nagents:\n  implementer: { bottle: default }\n";

/// The spellings of an address with a password or a token in it.
const ADDRESSES: [&str; 8] = [
    "https://me:hunter22hunter22@git.example.org/team/app.git",
    "https://hunter22hunter22@git.example.org/team/app.git",
    "HTTPS://me:hunter22hunter22@git.example.org/team/app.git",
    "http://me:hunter22hunter22@git.example.org/team/app.git",
    "https://me:hunter22%40hunter22@git.example.org/team/app.git",
    "https://me:hunter22@/#hunter22@git.example.org/team/app.git",
    "ssh://git:hunter22hunter22@git.example.org/team/app.git",
    "git:hunter22hunter22@git.example.org:team/app.git",
];

/// A checkout of this origin with the manifest in it.
fn checkout(world: &World, origin: &str, manifest: &str) {
    world.write("claude-bottle.yml", manifest);
    let dir = world.path("").display().to_string();
    sh(&["git", "-C", &dir, "init", "--quiet", "-b", "main"]);
    sh(&["git", "-C", &dir, "config", "remote.origin.url", origin]);
    sh(&["git", "-C", &dir, "add", "claude-bottle.yml"]);
    let me = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
    sh(&[&["git", "-C", &dir][..], &me, &["commit", "--quiet", "-m", "x"]].concat());
}

/// Every variable that may hold an address.
fn plant(command: &mut Command, address: &str) {
    for name in ["HTTP_PROXY", "ALL_PROXY", "http_proxy", "DOCKER_HOST", "GOPROXY"] {
        command.env(name, address);
    }
    command.env("BOTTLE_LOG", "debug");
}

fn search(dir: &Path, what: &str) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            search(&path, what);
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
            assert!(!text.contains(PLANTED), "{what}: it is in {}", path.display());
        }
    }
}

/// Runs it; nothing that it says or leaves behind has the password.
fn is_clean(world: &World, command: &mut Command, what: &str) -> String {
    let output = command.output().expect("the runner");
    let told = said(&output);
    assert!(!told.contains(PLANTED), "{what}:\n{told}");
    search(&world.path("state"), what);
    told
}

#[test]
fn a_password_in_an_address_shows_nowhere() {
    for address in ADDRESSES {
        // Of the checkout's origin and of the environment.
        let world = World::new(RUNNER);
        checkout(&world, address, MANIFEST);
        for format in ["text", "json", "compose"] {
            let mut plan = world.runner();
            plan.args(["plan", "--task", "x", "--format", format, "--backend", "docker"]);
            plan.args(["--image", address, "--replay", address]);
            plant(&mut plan, address);
            let told = is_clean(&world, &mut plan, &format!("plan of {address} as {format}"));
            assert!(told.contains("git.example.org"), "{address}: {told}");
        }
        // Of the proxy: none of them is one, which is said.
        for variable in ["HTTPS_PROXY", "https_proxy"] {
            let world = World::new(RUNNER);
            checkout(&world, "https://git.example.org/team/app.git", MANIFEST);
            let mut plan = world.runner();
            plan.args(["plan", "--task", "x", "--format", "json", "--backend", "docker"]).env(variable, address);
            let told = is_clean(&world, &mut plan, &format!("plan behind {address}"));
            assert!(told.contains(variable), "{address}: {told}");
        }
        let mut run = world.runner();
        run.args(["run", "--dry-run", "--task", "x", "--backend", "docker", "--replay", address]);
        plant(&mut run, address);
        is_clean(&world, &mut run, &format!("run of {address}"));

        // Of an event.
        let event = include_str!("../fixtures/good/event/issues-opened.json");
        let event = event.replace("https://git.example.org/team/app.git", address);
        assert!(event.contains(PLANTED));
        let world = World::new(RUNNER);
        world.write("claude-bottle.yml", MANIFEST);
        world.write("event.json", &event);
        let mut plan = world.runner();
        plan.args([
            "plan",
            "--event",
            "event.json",
            "--event-name",
            "issues",
            "--format",
            "json",
            "--backend",
            "docker",
        ]);
        is_clean(&world, &mut plan, &format!("event of {address}"));

        // Of a manifest, wherever it can be quoted.
        for (place, text) in [
            (
                "upstream",
                "version: 1\nbottles: { default: { git: [{ name: origin, token_from: T, upstream: 'ADDRESS' }] } }\n",
            ),
            ("route", "version: 1\nbottles: { default: { egress: { routes: [{ host: 'ADDRESS' }] } } }\n"),
            ("image", "version: 1\nbottles: { default: { image: 'ADDRESS' } }\n"),
            ("key", "version: 1\nbottles: { default: { 'ADDRESS': 1 } }\n"),
            (
                "verify",
                "version: 1\nbottles: { default: {} }\nagents: { default: { verify: ['git clone ADDRESS'] } }\n",
            ),
        ] {
            let world = World::new(RUNNER);
            world.write("claude-bottle.yml", &text.replace("ADDRESS", address));
            let told = is_clean(&world, world.runner().args(["plan", "--task", "x"]), &format!("{place} of {address}"));
            assert!(told.contains("error: claude-bottle.yml:"), "{place} of {address}: {told}");
        }
    }
}

#[test]
fn the_proxys_password_is_in_no_plan() {
    for scheme in ["http", "https"] {
        let world = World::new(RUNNER);
        checkout(&world, ADDRESSES[0], MANIFEST);
        for format in ["text", "json", "compose"] {
            let mut plan = world.runner();
            plan.args(["plan", "--task", "x", "--format", format, "--backend", "docker"]);
            plan.env("HTTPS_PROXY", format!("{scheme}://me:hunter22hunter22@proxy.example.org:3128"));
            let told = is_clean(&world, &mut plan, &format!("plan as {format}"));
            assert!(format == "compose" || told.contains(&format!("{scheme}://proxy.example.org:3128")), "{told}");
        }
    }
}

#[test]
fn a_password_in_the_forge_s_address_shows_nowhere() {
    let world = World::new(RUNNER);
    checkout(&world, ADDRESSES[0], MANIFEST);
    world.write("event.json", include_str!("../fixtures/good/event/issues-opened.json"));
    let mut plan = world.runner();
    plan.args(["plan", "--backend", "docker"]);
    plant(&mut plan, "http://me:hunter22hunter22@127.0.0.1:1");
    plan.env("GITHUB_ACTIONS", "true")
        .env("BOTTLE_FORGE", "github")
        .env("GITHUB_SERVER_URL", "https://me:hunter22hunter22@git.example.org")
        .env("GITHUB_API_URL", "https://me:hunter22hunter22@127.0.0.1:1/api/v3")
        .env("GITHUB_REPOSITORY", "team/app")
        .env("GITHUB_EVENT_NAME", "issues")
        .env("GITHUB_EVENT_PATH", world.path("event.json"))
        .env("GITHUB_TOKEN", world.secret());
    let told = is_clean(&world, &mut plan, "a job");
    assert!(told.contains("127.0.0.1"), "{told}");
}
