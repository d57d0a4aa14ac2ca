//! Which manifest is in force in a job, whatever is checked out: the cases of `base.toml`.

use std::path::{Path, PathBuf};

use bottle_testkit::{Double, World, said, sh};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{git, job, labeled};
use crate::RUNNER;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// The event's name; the payload is the same issue's, and the task is in words where `args` name none.
    event: String,
    #[serde(default = "default_ref")]
    r#ref: String,
    /// What GITHUB_SHA is: `base` or `head`.
    #[serde(default = "base")]
    sha: String,
    /// `head`: the change's head and no other commit; `full`: that, with all history; `base`: the default branch; `none`.
    checkout: String,
    /// Commands in the checkout; $BASE is the base's commit.
    #[serde(default)]
    setup: String,
    /// Whether the default branch moves on after the checkout.
    #[serde(default)]
    moved: bool,
    #[serde(default)]
    args: Vec<String>,
    /// Whether forged.json is there, whose default branch is `patch`.
    #[serde(default)]
    forged: bool,
    #[serde(default)]
    faults: Vec<Value>,
    token: Option<String>,
    /// Whether the forge gives the repository over git.
    #[serde(default = "super::yes")]
    git: bool,
    rules: Option<String>,
    says: Option<String>,
}

fn default_ref() -> String {
    "refs/heads/main".to_owned()
}

fn base() -> String {
    "base".to_owned()
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

/// A manifest whose model tells whose it is.
fn rules(of: &str) -> String {
    super::MANIFEST.replace("{ bottle: default }", &format!("{{ bottle: default, model: of-{of} }}"))
}

/// A commit with these manifests; its id.
fn commit(dir: &Path, names: &[&str], of: &str) -> String {
    for name in names {
        std::fs::write(dir.join(name), rules(of)).expect("a file");
    }
    git(dir, &["add", "--all"]);
    git(dir, &["commit", "--quiet", "-m", of]);
    git(dir, &["rev-parse", "HEAD"])
}

struct Scene {
    world: World,
    double: Double,
    dir: PathBuf,
    base: String,
    head: String,
}

impl Scene {
    fn new(case: &Case, kind: &'static str) -> Self {
        let world = World::new(RUNNER);
        let (served, dir) = (world.path("git"), world.path("work"));
        let upstream = served.join("octo-org/textstats.git");
        std::fs::create_dir_all(&upstream).expect("a directory");
        std::fs::create_dir_all(&dir).expect("a directory");
        git(&upstream, &["init", "--quiet", "--bare", "."]);
        let made = world.path("made");
        std::fs::create_dir_all(&made).expect("a directory");
        git(&made, &["init", "--quiet"]);
        let base = commit(&made, &["claude-bottle.yml"], "base");
        git(&made, &["checkout", "--quiet", "-b", "evil"]);
        let head = commit(&made, &["claude-bottle.yml", "evil.yml"], "evil");
        let to = upstream.display().to_string();
        git(&made, &["push", "--quiet", &to, "main", "evil:refs/heads/patch"]);
        let url = format!("file://{to}");
        match case.checkout.as_str() {
            "none" => std::fs::write(dir.join("claude-bottle.yml"), rules("evil")).expect("a file"),
            "head" => {
                git(&dir, &["init", "--quiet"]);
                git(&dir, &["remote", "add", "origin", &url]);
                git(&dir, &["fetch", "--quiet", "--depth", "1", "origin", "patch"]);
                git(&dir, &["checkout", "--quiet", "--detach", "FETCH_HEAD"]);
            }
            "full" | "base" => {
                git(&world.path(""), &["clone", "--quiet", &url, "work"]);
                git(&dir, &["branch", "--quiet", "evil", "origin/patch"]);
                git(&dir, &["checkout", "--quiet", if case.checkout == "full" { "evil" } else { "main" }]);
            }
            other => panic!("{other}"),
        }
        if case.moved {
            git(&made, &["checkout", "--quiet", "main"]);
            commit(&made, &["claude-bottle.yml"], "moved");
            git(&made, &["push", "--quiet", &to, "main"]);
        }
        let setup = case.setup.replace("$BASE", &base);
        sh(&["sh", "-c", &format!("cd '{}' && {}", dir.display(), if setup.is_empty() { "true" } else { &setup })]);
        std::fs::write(world.path("claude-bottle.yml"), rules("evil")).expect("a file");
        let mut state = json!({"faults": case.faults});
        if !case.git {
            state["branches"] = json!({"main": base});
        }
        let double = Double::start_at(kind, "127.0.0.1", case.git.then_some(served.as_path()), state);
        Self { world, double, dir, base, head }
    }
}

fn judge(case: &Case, kind: &'static str) {
    let scene = Scene::new(case, kind);
    let name = format!("{kind}: {}", case.name);
    let mut payload = labeled("octo-maintainer", 5_550_108);
    payload["repository"]["default_branch"] = json!("main");
    if case.forged {
        payload["repository"]["default_branch"] = json!("patch");
        std::fs::write(scene.dir.join("forged.json"), payload.to_string()).expect("a file");
        payload["repository"]["default_branch"] = json!("main");
    }
    let mut command = scene.world.runner();
    command.args(["plan", "--format", "json"]).args(&case.args).current_dir(&scene.dir);
    if !case.args.iter().any(|arg| arg == "--event" || arg == "--issue") {
        command.args(["--task", "Tidy up"]);
    }
    super::variables(&scene.world, &scene.double, &mut command, &case.event, &payload);
    command.env("GITHUB_REF", &case.r#ref);
    command.env("GITHUB_SHA", if case.sha == "head" { &scene.head } else { &scene.base });
    if let Some(token) = &case.token {
        command.env("GITHUB_TOKEN", token).env("GITEA_TOKEN", token);
    }
    let output = command.output().expect("the runner");
    match (&case.rules, &case.says) {
        (Some(rules), None) => {
            assert!(output.status.success(), "{name}: {}", said(&output));
            let plan: Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{name}: no plan, {error}: {}", said(&output)));
            assert_eq!(plan["agent"]["model"], json!(format!("of-{rules}")), "{name}: {}", plan["agent"]);
        }
        (None, Some(says)) => {
            assert!(!output.status.success(), "{name}: {}", said(&output));
            assert!(said(&output).contains(says), "{name}: {}", said(&output));
            assert!(said(&output).contains("\nhelp: "), "{name}: {}", said(&output));
        }
        _ => panic!("{name}: either rules or says"),
    }
    let text = said(&output);
    assert!(!text.contains(&scene.double.token), "{name}: {text}");
    for line in scene.double.log() {
        assert!(line["invalid"].is_null() && line["bad_answer"].is_null(), "{name}: {line}");
    }
}

#[test]
fn the_base_branch_s_rules_hold_whatever_is_checked_out() {
    let cases: Cases = toml::from_str(include_str!("base.toml")).expect("the cases");
    assert!(cases.case.len() >= 25);
    for case in &cases.case {
        for kind in ["github", "gitea"] {
            judge(case, kind);
        }
    }
}

#[test]
fn a_comment_that_asks_for_nothing_asks_the_forge_nothing() {
    let (world, double) = (World::new(RUNNER), Double::start("github", json!({})));
    world.write("claude-bottle.yml", super::MANIFEST);
    let mut event = labeled("octo-reader", 5_550_107);
    event["label"]["name"] = json!("bug");
    let mut command = world.runner();
    command.arg("plan");
    job(&world, &double, &mut command, "issues", &event);
    let output = command.output().expect("the runner");
    assert!(output.status.success() && said(&output).contains("nothing to do"), "{}", said(&output));
    assert!(double.log().is_empty(), "{:?}", double.log());
}
