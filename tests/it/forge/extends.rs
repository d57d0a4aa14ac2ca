//! A policy in another repository, by `extends`, and one of the machine's: the cases of `extends.toml`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bottle_testkit::{Double, World, judge_all, said};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{git, labeled};
use crate::RUNNER;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// What stands below `version: 1` in the manifest; `$SERVER` and the words of [`Policies`] are put in. None: there is no manifest.
    manifest: Option<String>,
    /// The machine's policy below its `version: 1`.
    machine: Option<String>,
    /// The mode of its file.
    mode: Option<u32>,
    /// The variable with its path; without it the file's own.
    variable: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    token: Option<String>,
    /// The error's words; none: there is a plan.
    #[serde(default)]
    says: Vec<String>,
    /// The policies that the plan names, each by the end of its name.
    #[serde(default)]
    policies: Vec<String>,
    /// Rules of the plan: the key, and the end of the file's name and the line where it stands.
    #[serde(default)]
    rules: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

const POLICY: &str = "version: 1
bottles:
  default:
    resources: { memory: 2GiB }
    egress:
      routes:
        - { host: docs.example.org, paths: [/v1/**] }
agents:
  implementer: { bottle: default, limits: { turns: 20 } }
";

/// The policy's repository: its commits by the words that cases have for them.
struct Policies(Vec<(&'static str, String)>);

impl Policies {
    fn make(world: &World, served: &Path) -> Self {
        let (made, upstream) = (world.path("policy"), served.join("octo-org/policy.git"));
        for dir in [&made, &upstream] {
            std::fs::create_dir_all(dir).expect("a directory");
        }
        git(&upstream, &["init", "--quiet", "--bare", "."]);
        // As GitHub does it: every commit that it has is given out by its id, those of forks too.
        git(&upstream, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
        git(&made, &["init", "--quiet"]);
        let commit = |file: &str, text: &str| {
            let path = made.join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("a file");
            git(&made, &["add", "--all"]);
            git(&made, &["commit", "--quiet", "--allow-empty", "-m", file]);
            git(&made, &["rev-parse", "HEAD"])
        };
        let first = commit("claude-bottle.yml", POLICY);
        commit(
            "chain.yml",
            &format!("{POLICY}extends: {{ repository: \"https://git.bottle.test/a/b\", commit: {first} }}\n"),
        );
        commit("large.yml", &format!("{POLICY}#{}\n", " ".repeat(1 << 20)));
        std::os::unix::fs::symlink("claude-bottle.yml", made.join("link.yml")).expect("a link");
        let tip = commit("rules/other.yml.txt", POLICY);
        let blob = git(&made, &["rev-parse", "HEAD:claude-bottle.yml"]);
        let tree = git(&made, &["rev-parse", "HEAD^{tree}"]);
        git(&made, &["checkout", "--quiet", "-b", "other"]);
        let wide = "version: 1\nbottles: { default: { resources: { memory: 64GiB } } }\n";
        let other = commit("claude-bottle.yml", wide);
        git(&made, &["checkout", "--quiet", "--detach"]);
        let fork = commit("claude-bottle.yml", &format!("{wide}# of a fork\n"));
        git(&made, &["tag", "-a", "-m", "A tag", "v1", &first]);
        let tag = git(&made, &["rev-parse", "v1"]);
        let to = upstream.display().to_string();
        git(&made, &["push", "--quiet", &to, "main", "other", "v1", &format!("{fork}:refs/pull/1/head")]);
        let short = first.chars().take(12).collect();
        let upper = first.to_uppercase();
        Self(vec![
            ("$FIRST", first),
            ("$TIP", tip),
            ("$BLOB", blob),
            ("$TREE", tree),
            ("$OTHER", other),
            ("$FORK", fork),
            ("$TAG", tag),
            ("$SHORT", short),
            ("$UPPER", upper),
        ])
    }

    fn put_in(&self, text: &str, server: &str) -> String {
        let text = text.replace("$SERVER", server);
        self.0.iter().fold(text, |text, (word, id)| text.replace(word, id))
    }
}

/// The checkout of a job whose default branch has the case's manifest; its commit.
fn checkout(world: &World, manifest: Option<&str>) -> (PathBuf, String) {
    let dir = world.path("work");
    std::fs::create_dir_all(&dir).expect("a directory");
    git(&dir, &["init", "--quiet"]);
    std::fs::write(dir.join("README.md"), "sample\n").expect("a file");
    if let Some(manifest) = manifest {
        std::fs::write(dir.join("claude-bottle.yml"), format!("version: 1\n{manifest}")).expect("a file");
    }
    git(&dir, &["add", "--all"]);
    git(&dir, &["commit", "--quiet", "-m", "Rules"]);
    let head = git(&dir, &["rev-parse", "HEAD"]);
    (dir, head)
}

fn judge(case: &Case, kind: &'static str) {
    let (world, name) = (World::new(RUNNER), format!("{kind}: {}", case.name));
    let served = world.path("git");
    let policies = Policies::make(&world, &served);
    let double = Double::start_at(kind, "127.0.0.1", Some(served.as_path()), json!({}));
    let manifest = case.manifest.as_ref().map(|text| policies.put_in(text, &double.server));
    let (dir, head) = checkout(&world, manifest.as_deref());
    let mut payload = labeled("octo-maintainer", 5_550_108);
    payload["repository"]["default_branch"] = json!("main");
    let mut command = world.runner();
    command.args(["plan", "--format", "json", "--task", "Tidy up"]).args(&case.args).current_dir(&dir);
    super::variables(&world, &double, &mut command, "issues", &payload);
    command.env("GITHUB_REF", "refs/heads/main").env("GITHUB_SHA", &head);
    if let Some(token) = &case.token {
        command.env("GITHUB_TOKEN", token).env("GITEA_TOKEN", token);
    }
    if let Some(machine) = &case.machine {
        let path = world.write("policy.yml", &format!("version: 1\n{machine}"));
        let mode = case.mode.unwrap_or(0o644);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        std::fs::set_permissions(world.path(""), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        command.env("BOTTLE_POLICY", path);
    }
    if let Some(variable) = &case.variable {
        command.env("BOTTLE_POLICY", variable);
    }
    let output = command.output().expect("the runner");
    let text = said(&output);
    assert!(!text.contains(&double.token), "{name}: {text}");
    if !case.says.is_empty() {
        assert!(!output.status.success(), "{name}: {text}");
        // What is wrong with a text has its place; all else says what to do.
        assert!(text.contains("\nhelp: ") || !text.contains("can't be read"), "{name}: {text}");
        for says in &case.says {
            assert!(text.contains(says), "{name}: {says}: {text}");
        }
        return;
    }
    assert!(output.status.success(), "{name}: {text}");
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
    let origins = &plan["origins"];
    let names = origins["policies"].as_array().cloned().unwrap_or_default();
    assert_eq!(names.len(), case.policies.len(), "{name}: {origins}");
    for (found, expected) in names.iter().zip(&case.policies) {
        let expected = policies.put_in(expected, &double.server);
        assert!(found["name"].as_str().is_some_and(|found| found.ends_with(&expected)), "{name}: {found} {expected}");
        assert_eq!(found["sha256"].as_str().map(str::len), Some(64), "{name}");
    }
    for (path, place) in &case.rules {
        let rule = origins["rules"].as_array().and_then(|rules| rules.iter().find(|rule| rule["path"] == json!(path)));
        let rule = rule.unwrap_or_else(|| panic!("{name}: no {path} in {origins}"));
        let at = format!("{}:{}", rule["at"]["file"].as_str().unwrap_or_default(), rule["at"]["line"]);
        assert!(at.ends_with(place), "{name}: {path} is at {at}");
    }
}

#[test]
fn a_policy_holds_or_nothing_runs() {
    let cases: Cases = toml::from_str(include_str!("extends.toml")).expect("the cases");
    assert!(cases.case.len() >= 25);
    let all: Vec<(&Case, &'static str)> =
        cases.case.iter().flat_map(|case| ["github", "gitea"].map(|kind| (case, kind))).collect();
    judge_all(&all, 4, |(case, kind)| judge(case, kind));
}
