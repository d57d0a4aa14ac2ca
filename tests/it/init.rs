//! `bottle-runner init`: the repositories of `init.toml`, and what it refuses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bottle_testkit::{Double, World, judge_all, said, sh};
use serde::Deserialize;
use serde_json::json;

use crate::RUNNER;
use crate::forge::git;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const ORIGIN: &str = "https://github.com/octo-org/textstats.git";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "origin")]
    origin: String,
    #[serde(default)]
    args: Vec<String>,
    files: BTreeMap<String, String>,
    /// What is said.
    #[serde(default)]
    found: Vec<String>,
    #[serde(default)]
    has: Vec<String>,
    #[serde(default)]
    lacks: Vec<String>,
    #[serde(default = "github")]
    dir: String,
    /// Whether a run by hand needs no more than this manifest.
    #[serde(default = "yes")]
    plans: bool,
}

fn origin() -> String {
    ORIGIN.to_owned()
}

fn github() -> String {
    ".github/workflows".to_owned()
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

/// A checkout with these files and this origin, whose default branch is known.
fn checkout(world: &World, files: &BTreeMap<String, String>, origin: &str) -> PathBuf {
    let dir = world.path("app");
    std::fs::create_dir_all(&dir).expect("a directory");
    for (path, text) in files {
        world.write(&format!("app/{path}"), text);
    }
    git(&dir, &["init", "--quiet", "--initial-branch", "main"]);
    git(&dir, &["add", "--all", "--force"]);
    git(&dir, &["commit", "--quiet", "--allow-empty", "-m", "First"]);
    git(&dir, &["remote", "add", "origin", origin]);
    git(&dir, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    git(&dir, &["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]);
    dir
}

/// The files below a directory that are not git's own.
fn files(dir: &Path) -> Vec<String> {
    let listed =
        sh(&["find", &dir.display().to_string(), "-path", "*/.git", "-prune", "-o", "-type", "f", "-printf", "%P\\n"]);
    let mut files: Vec<String> = listed.lines().map(str::to_owned).collect();
    files.sort();
    files
}

fn judge(case: &Case) {
    let world = World::new(RUNNER);
    let dir = checkout(&world, &case.files, &case.origin);
    let before = files(&dir);
    let printed =
        world.runner().arg("init").args(&case.args).arg("--print").current_dir(&dir).output().expect("the runner");
    assert!(printed.status.success(), "{}: {}", case.name, said(&printed));
    assert_eq!(files(&dir), before, "{}: --print has written", case.name);
    let output =
        world.runner().arg("init").args(&case.args).arg("--yes").current_dir(&dir).output().expect("the runner");
    let text = said(&output);
    assert!(output.status.success(), "{}: {text}", case.name);
    let read = |path: &str| {
        std::fs::read_to_string(dir.join(path)).unwrap_or_else(|error| panic!("{}: {path}: {error}", case.name))
    };
    let manifest = read("claude-bottle.yml");
    for found in &case.found {
        assert!(text.contains(found), "{}: no `{found}` in {text}", case.name);
    }
    for line in &case.has {
        assert!(manifest.lines().any(|other| other == line), "{}: no `{line}` in\n{manifest}", case.name);
    }
    for part in &case.lacks {
        assert!(
            !manifest.contains(part.as_str()) && !text.contains(part.as_str()),
            "{}: `{part}` in\n{text}\n{manifest}",
            case.name
        );
    }
    let kind = if case.dir.starts_with(".github") { "github" } else { "gitea" };
    for name in ["issue", "comment"] {
        let shipped = std::fs::read_to_string(format!("{ROOT}/workflows/{kind}/{name}.yml")).expect("a workflow");
        assert_eq!(read(&format!("{}/claude-{name}.yml", case.dir)), shipped, "{}", case.name);
    }
    assert_eq!(files(&dir).len(), before.len() + 3, "{}", case.name);
    let shown = said(&printed);
    assert!(shown.contains(&manifest) && shown.contains("Next:\n1. "), "{}: {shown}", case.name);
    // Nothing is overwritten.
    let again = world.runner().args(["init", "--yes"]).args(&case.args).current_dir(&dir).output().expect("the runner");
    assert_eq!(again.status.code(), Some(2), "{}", case.name);
    assert!(
        said(&again).contains("claude-bottle.yml is there already, and nothing is overwritten"),
        "{}",
        said(&again)
    );
    assert_eq!(read("claude-bottle.yml"), manifest, "{}", case.name);
    if case.plans {
        plans(&world, case, &manifest, &dir);
    }
}

/// The manifest passes `plan`, or a preset's tool is not on this machine.
fn plans(world: &World, case: &Case, manifest: &str, dir: &PathBuf) {
    let rustup = std::env::var("RUSTUP_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.rustup")));
    let mut plan = world.runner();
    plan.args(["plan", "--manifest", "claude-bottle.yml", "--task", "Fix it"]).current_dir(dir);
    let output = plan.env("RUSTUP_HOME", rustup.expect("a home")).output().expect("the runner");
    let text = said(&output);
    let tools = [("npm", "npm"), ("pip", "pip"), ("cargo", "cargo"), ("go", "go"), ("maven", "mvn")];
    let presets = manifest.lines().find_map(|line| line.trim().strip_prefix("presets: [")).unwrap_or_default();
    let is_missing = |tool: &str| {
        !std::process::Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output()
            .expect("sh")
            .status
            .success()
    };
    let missing = tools
        .iter()
        .find(|(preset, tool)| presets.split([',', ' ', ']']).any(|one| one == *preset) && is_missing(tool));
    match missing {
        Some((_, tool)) => {
            assert!(text.contains(&format!("there is no `{tool}` on this host")), "{}: {text}", case.name)
        }
        None => assert!(output.status.success() && text.contains("route api.anthropic.com"), "{}: {text}", case.name),
    }
}

#[test]
fn a_first_manifest_fits_the_repository_and_plans() {
    let cases: Cases = toml::from_str(include_str!("init.toml")).expect("the cases");
    judge_all(&cases.case, 4, judge);
}

/// One refusal: what is typed, and all that is said.
#[track_caller]
fn refused(world: &World, dir: &PathBuf, args: &[&str], code: i32, says: &str) {
    let before = files(dir);
    let output = world.runner().arg("init").args(args).current_dir(dir).output().expect("the runner");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(&format!("error: {says}")) && text.contains("\nhelp: "), "no `{says}` in {text}");
    assert_eq!(files(dir), before, "something was written");
}

#[test]
fn what_is_missing_or_in_the_way_is_named_and_nothing_is_written() {
    let world = World::new(RUNNER);
    let bare = world.path("bare");
    std::fs::create_dir_all(&bare).expect("a directory");
    refused(&world, &bare, &["--yes"], 2, "this directory is in no git repository");
    git(&bare, &["init", "--quiet"]);
    refused(&world, &bare, &["--yes"], 2, "this repository has no remote `origin`, which says where its forge is");
    git(&bare, &["remote", "add", "origin", "/srv/git/app.git"]);
    refused(&world, &bare, &["--yes"], 2, "the remote `origin` is no repository at a forge: ");
    git(&bare, &["remote", "set-url", "origin", "https://github.com/alone.git"]);
    refused(
        &world,
        &bare,
        &["--yes"],
        2,
        "the remote `origin` is no repository at a forge: `https://github.com/alone.git` has no owner and name",
    );
    git(&bare, &["remote", "set-url", "origin", ORIGIN]);
    refused(&world, &bare, &[], 2, "nothing is written without a yes, and there is nobody to ask");
    world.write("bare/.github/claude-bottle.yml", "version: 1\n");
    refused(&world, &bare, &["--yes"], 2, ".github/claude-bottle.yml is there already, and nothing is overwritten");
    std::fs::remove_dir_all(bare.join(".github")).expect("removed");
    world.write("bare/.github/workflows/claude-comment.yml", "name: mine\n");
    refused(
        &world,
        &bare,
        &["--yes"],
        2,
        ".github/workflows/claude-comment.yml is there already, and nothing is overwritten",
    );
    std::fs::remove_dir_all(bare.join(".github")).expect("removed");
    // A directory that is a file, and one that is a link to somewhere else: what was written before it goes again.
    world.write("bare/.github", "");
    refused(&world, &bare, &["--yes"], 2, "failed to write ");
    std::fs::remove_file(bare.join(".github")).expect("removed");
    std::fs::create_dir_all(world.path("elsewhere")).expect("a directory");
    sh(&["ln", "-s", &world.path("elsewhere").display().to_string(), &bare.join(".github").display().to_string()]);
    refused(&world, &bare, &["--yes"], 2, "failed to write ");
    assert_eq!(std::fs::read_dir(world.path("elsewhere")).expect("a directory").count(), 0);
}

#[test]
fn a_directory_that_nobody_may_write_is_named() {
    let world = World::new(RUNNER);
    let dir = checkout(&world, &BTreeMap::new(), ORIGIN);
    let runner = env!("CARGO_BIN_EXE_bottle-runner");
    // Root may write everywhere but where nobody may: a file system that is read only.
    let text = format!("bwrap --dev-bind / / --ro-bind {0} {0} --chdir {0} {runner} init --yes", dir.display());
    let mut command = std::process::Command::new("sh");
    world.clean(&mut command);
    let output = command.args(["-c", &text]).output().expect("sh");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("error: failed to write ") && text.contains("Read-only file system"), "{text}");
}

#[test]
fn the_forge_is_asked_what_it_is() {
    let forge = |kind, more, says: &str, code| {
        let (world, double) = (World::new(RUNNER), Double::start(kind, more));
        let dir = checkout(&world, &BTreeMap::new(), &format!("https://{}/octo-org/textstats.git", double.authority));
        let mut command = world.runner();
        let output = command
            .args(["init", "--print"])
            .env("SSL_CERT_FILE", double.ca())
            .current_dir(dir)
            .output()
            .expect("the runner");
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(says), "no `{says}` in {text}");
    };
    forge("gitea", json!({}), ".gitea/workflows/claude-issue.yml", 0);
    let meta = json!({"faults": [{"method": "GET", "path": "meta$", "status": 200, "body": {"installed_version": "3.19.1"}, "times": 9}]});
    forge("github", meta, ".github/workflows/claude-issue.yml", 0);
    // Something that answers, and as no forge does.
    forge("github", json!({}), "answers neither as GitHub nor as Gitea or Forgejo\nhelp: say which it is: --forge", 2);
    // Nobody answers.
    let world = World::new(RUNNER);
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let dir = checkout(&world, &BTreeMap::new(), &format!("https://127.0.0.1:{port}/octo-org/textstats.git"));
    refused(&world, &dir, &["--yes"], 4, "");
    // Somebody takes the connection and says nothing.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("a port").port();
    git(&dir, &["remote", "set-url", "origin", &format!("https://127.0.0.1:{port}/octo-org/textstats.git")]);
    refused(&world, &dir, &["--yes"], 4, "https://127.0.0.1:");
}
