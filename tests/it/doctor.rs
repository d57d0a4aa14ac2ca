//! `bottle-runner doctor` in a repository: the cases of `doctor.toml`, and when the forge is not asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bottle_testkit::{Double, World, judge_all, said};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::RUNNER;
use crate::forge::git;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const JSON: &[&str] = &["--json"];
const MANIFEST: &str = "version: 1
bottles: { default: {} }
agents: { implementer: { bottle: default } }
triggers: { labels: { claude: implementer } }
";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    kind: String,
    #[serde(default)]
    state: serde_json::Map<String, Value>,
    /// Files of the default branch beside those that everything begins with.
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    without: Vec<String>,
    /// All lines that are not `ok`.
    #[serde(default)]
    says: Vec<String>,
    /// Some of those that are.
    #[serde(default)]
    ok: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

/// A checkout with a manifest.
fn checkout(world: &World, origin: &str) -> PathBuf {
    world.write("app/claude-bottle.yml", MANIFEST);
    let dir = world.path("app");
    git(&dir, &["init", "--quiet"]);
    git(&dir, &["remote", "add", "origin", origin]);
    dir
}

fn doctor(world: &World, dir: &Path, args: &[&str]) -> Command {
    let mut command = world.runner();
    command.arg("doctor").args(args).current_dir(dir);
    command
}

/// The checks of the repository, each as `status what`.
fn checks(command: &mut Command) -> Vec<String> {
    let output = command.output().expect("the runner");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let text = |check: &Value, key: &str| check[key].as_str().expect("a text").to_owned();
    let checks = value["repository"].as_array().unwrap_or_else(|| panic!("no repository: {value}"));
    checks.iter().map(|check| format!("{} {}", text(check, "status"), text(check, "what"))).collect()
}

/// A forge at which everything is in order but for what the case says.
fn double(case: &Case) -> Double {
    let (kind, dir): (&'static str, _) = match case.kind.as_str() {
        "github" => ("github", ".github/workflows"),
        _ => ("gitea", ".gitea/workflows"),
    };
    let mut files = BTreeMap::from([("claude-bottle.yml".to_owned(), MANIFEST.to_owned())]);
    for name in ["issue", "comment"] {
        let text = std::fs::read_to_string(format!("{ROOT}/workflows/{kind}/{name}.yml")).expect("a workflow");
        files.insert(format!("{dir}/claude-{name}.yml"), text);
    }
    files.extend(case.files.clone());
    files.retain(|path, _| !case.without.contains(path));
    let on = if kind == "github" { json!({}) } else { json!({"has_actions": true}) };
    let mut state = json!({
        "me": {"login": "octo-admin", "id": 5_550_109}, "me_readable": true, "files": files, "labels": ["bug", "claude"], "repository": on,
    });
    for (key, value) in &case.state {
        state[key] = value.clone();
    }
    Double::start(kind, state)
}

fn judge(case: &Case) {
    let (world, double) = (World::new(RUNNER), double(case));
    let web = format!("{}/octo-org/textstats", double.server);
    let dir = checkout(&world, &format!("{web}.git"));
    let mut command = doctor(&world, &dir, JSON);
    command.env("SSL_CERT_FILE", double.ca()).env("GITHUB_SERVER_URL", &double.server);
    command.env(if double.kind == "github" { "GITHUB_TOKEN" } else { "GITEA_TOKEN" }, &double.token);
    if double.kind == "github" {
        command.env("BOTTLE_FORGE", "github");
    }
    let lines: Vec<String> = checks(&mut command)
        .iter()
        .map(|line| line.replace(&double.api(), "API").replace(&web, "WEB").replace(&double.server, "SERVER"))
        .collect();
    let (ok, other): (Vec<&str>, Vec<&str>) =
        lines.iter().map(String::as_str).partition(|line| line.starts_with("ok "));
    assert_eq!(other, case.says, "{}", case.name);
    for line in &case.ok {
        assert!(
            ok.iter().any(|other| other.strip_prefix("ok ") == Some(line)),
            "{}: no `{line}` in {ok:#?}",
            case.name
        );
    }
    assert!(double.writes().is_empty(), "{}: {:?}", case.name, double.writes());
    double.assert_valid();
}

#[test]
fn what_the_forge_lacks_is_said_with_what_to_do() {
    let cases: Cases = toml::from_str(include_str!("doctor.toml")).expect("the cases");
    judge_all(&cases.case, 4, judge);
}

/// The one line where the forge is not asked.
#[track_caller]
fn unasked(command: &mut Command, says: &str) {
    let lines = checks(command);
    let [line] = lines.as_slice() else { panic!("{lines:#?}") };
    assert!(line.contains(says), "no `{says}` in {line}");
}

#[test]
fn a_forge_that_is_not_asked_is_one_line_and_the_rest_goes_on() {
    let world = World::new(RUNNER);
    let empty = world.path("empty");
    std::fs::create_dir_all(&empty).expect("a directory");
    let output = doctor(&world, &empty, &[]).output().expect("the runner");
    assert!(!said(&output).contains("this repository"), "{}", said(&output));
    git(&empty, &["init", "--quiet"]);
    unasked(
        &mut doctor(&world, &empty, JSON),
        "missing claude-bottle.yml: this checkout has none, so its forge was not asked",
    );

    let github = "https://github.com/octo-org/textstats.git";
    let dir = checkout(&world, github);
    let origin = |address: &str| git(&dir, &["remote", "set-url", "origin", address]);
    unasked(
        &mut doctor(&world, &dir, JSON),
        "unknown the forge was not asked: GITHUB_TOKEN is not set; `export GITHUB_TOKEN=",
    );
    // A checkout's origin may be anybody's server: no token goes there that is another one's.
    let double = Double::start("github", json!({}));
    origin(&format!("{}/octo-org/textstats.git", double.server));
    let mut other = doctor(&world, &dir, JSON);
    other.env("GITHUB_TOKEN", &double.token).env("BOTTLE_FORGE", "github").env("SSL_CERT_FILE", double.ca());
    unasked(
        &mut other,
        &format!("the token in GITHUB_TOKEN is https://github.com's, and `origin` is at {}", double.server),
    );
    assert!(double.log().is_empty(), "{:?}", double.log());
    unasked(
        other.env("BOTTLE_FORGE", "gitlab"),
        "BOTTLE_FORGE is `gitlab`, which is no forge; say github, gitea or forgejo",
    );
    // Nor over an open line.
    origin("http://git.bottle.test:3000/octo-org/textstats.git");
    let mut open = doctor(&world, &dir, JSON);
    open.env("GITEA_TOKEN", &double.token).env("BOTTLE_FORGE", "gitea");
    unasked(
        open.env("GITHUB_SERVER_URL", "http://git.bottle.test:3000"),
        "is not https: the token could be read on its way",
    );
    git(&dir, &["remote", "remove", "origin"]);
    unasked(&mut doctor(&world, &dir, JSON), "unknown the forge was not asked: this repository has no remote `origin`");
}

#[test]
fn a_forge_that_does_not_answer_is_one_line_and_the_rest_goes_on() {
    let world = World::new(RUNNER);
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let server = format!("https://127.0.0.1:{port}");
    let dir = checkout(&world, &format!("{server}/octo-org/textstats.git"));
    let mut command = doctor(&world, &dir, &[]);
    command.env("GITEA_TOKEN", "a token").env("GITHUB_SERVER_URL", &server);
    let output = command.output().expect("the runner");
    let text = said(&output);
    let (_, lines) = text.split_once("this repository at its forge\n").unwrap_or_else(|| panic!("{text}"));
    assert!(lines.starts_with("  unknown the forge was not asked: failed to ask the forge what it is: "), "{text}");
    assert_eq!(lines.lines().count(), 1, "{text}");
    assert!(text.contains("for every backend\n  ok      git version "), "{text}");
}

#[test]
fn the_checks_are_there_as_json() {
    let world = World::new(RUNNER);
    let output = doctor(&world, &world.path("home"), JSON).output().expect("the runner");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert_eq!(value["schema_version"], 1);
    assert_eq!(value["repository"], Value::Null);
    assert_eq!(value["usable"], output.status.success());
    for backend in ["smolmachines", "docker", "bubblewrap"] {
        let backend = &value["backends"][backend];
        let checks = backend["checks"].as_array().expect("checks");
        let all = checks.iter().all(|check| check["status"] == "ok");
        assert!(!checks.is_empty() && backend["usable"] == all, "{backend}");
    }
}

#[test]
fn where_commits_are_signed_the_program_is_looked_for() {
    let world = World::new(RUNNER);
    let every = |path: Option<&Path>| {
        let mut command = doctor(&world, &world.path("app"), JSON);
        command.envs(path.map(|path| ("PATH", path)));
        let output = command.output().expect("the runner");
        let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let checks = value["every_backend"].as_array().expect("checks").clone();
        checks.into_iter().find(|check| check["what"].as_str().is_some_and(|what| what.starts_with("ssh-keygen")))
    };
    world.write("app/claude-bottle.yml", MANIFEST);
    assert_eq!(every(None), None);
    let signing = "version: 1\nbottles: { default: { signing: { ssh: { from: KEY } } } }\n";
    world.write("app/claude-bottle.yml", signing);
    assert_eq!(every(None).expect("a check")["status"], "ok");
    std::fs::create_dir_all(world.path("empty")).expect("a directory");
    let none = every(Some(&world.path("empty"))).expect("a check");
    assert_eq!(none["status"], "unknown");
    assert!(none["what"].as_str().is_some_and(|what| what.contains("install openssh-client")), "{none}");
}
