//! Each workflow that users copy, by `act`: what starts, and what is red; the cases of `workflows.toml`. And what no condition may
//! be: at a real Gitea null is not `''`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bottle_testkit::{Double, World, judge_all, said, sh};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{git, labeled};
use crate::RUNNER;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The first step, which is not ours.
const CHECKOUT: &str = "uses: actions/checkout@";

/// A comment of somebody's that begins as the policy action's.
const NOT_OURS: &str = "<!-- claude-bottle: policy -->\nmine";
/// What it has written before.
const OURS: &str = "<!-- claude-bottle: policy -->\nbefore";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    workflow: String,
    #[serde(default = "super::both")]
    forge: Vec<String>,
    event: String,
    /// The payload: a `comment`, a label that was given (`label`), an issue's title (`opened`), or the `inputs` of a dispatch.
    comment: Option<String>,
    label: Option<String>,
    opened: Option<String>,
    inputs: Option<Map<String, Value>>,
    /// What was done with a pull request.
    pull: Option<String>,
    /// Lines that a pull request adds to the manifest, behind the bottle's.
    adds: Option<String>,
    /// How the workflow run ended that this is about.
    conclusion: Option<String>,
    #[serde(default = "maintainer")]
    login: String,
    /// What bottle-runner does: `real` is the program itself, `works` and `fails` are ends of one that had a task.
    #[serde(default = "real")]
    program: String,
    /// `checkout`: it fails, and no other step runs; `get`: bottle-runner is not there.
    breaks: Option<String>,
    /// The jobs that started, by name, and whether they ended well.
    jobs: BTreeMap<String, Vec<bool>>,
    /// How often bottle-runner was run.
    runs: usize,
    /// The first words that it was run with.
    with: Option<String>,
    #[serde(default)]
    kept: Vec<String>,
    says: Option<String>,
    /// What the forge was told.
    written: Option<String>,
    /// How often the forge was told something.
    #[serde(default)]
    writes: usize,
}

fn maintainer() -> String {
    "octo-maintainer".to_owned()
}

fn real() -> String {
    "real".to_owned()
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

fn payload(case: &Case, kind: &str) -> Value {
    let id = if case.login == "octo-maintainer" { 5_550_108 } else { 5_550_107 };
    let mut event = labeled(&case.login, id);
    event["issue"]["labels"] = json!([]);
    let user = event["sender"].clone();
    let fields = event.as_object_mut().expect("an object");
    fields.remove("label");
    if let Some(text) = &case.comment {
        event["action"] = json!("created");
        let at = "2026-03-02T09:20:35Z";
        event["comment"] = json!({"id": 900, "body": text, "user": user, "html_url": "https://git.bottle.test/c", "created_at": at, "updated_at": at});
    } else if let Some(name) = &case.label {
        event["issue"]["labels"] = json!([{"id": 4101, "name": name}]);
        event["action"] = json!(if kind == "gitea" { "label_updated" } else { "labeled" });
        if kind == "github" {
            event["label"] = json!({"id": 4101, "name": name});
        }
    } else if let Some(title) = &case.opened {
        event["action"] = json!("opened");
        event["issue"]["title"] = json!(title);
    } else if let Some(inputs) = &case.inputs {
        event = json!({"inputs": inputs, "sender": user, "repository": event["repository"], "ref": "refs/heads/main"});
    } else if case.adds.is_some() || case.pull.is_some() {
        let branch = |name: &str| json!({"ref": name, "sha": "a".repeat(40), "repo": event["repository"]});
        let pull = json!({
            "number": 7, "title": "Count", "html_url": "https://git.bottle.test/p", "state": "open",
            "head": branch("change"), "base": branch("main"), "user": user,
        });
        event = json!({"action": case.pull.as_deref().unwrap_or("opened"), "number": 7, "pull_request": pull, "sender": user, "repository": event["repository"]});
    } else if let Some(conclusion) = &case.conclusion {
        let run = json!({"conclusion": conclusion, "head_repository": {"full_name": "octo-org/textstats"}});
        event = json!({"action": "completed", "workflow_run": run, "sender": user, "repository": event["repository"]});
    } else {
        event = json!({"schedule": "17 5 * * 1"});
    }
    event
}

/// An action of these inputs that runs this.
fn action(world: &World, name: &str, run: &str) -> PathBuf {
    let path = world.write(
        &format!("{name}/action.yml"),
        &format!(
            "name: {name}\ninputs: {{ name: {{}}, path: {{}} }}\nruns:\n  using: composite\n  steps:\n    - shell: bash\n      \
             env: {{ AT: \"${{{{ inputs.path }}}}\", NAME: \"${{{{ inputs.name }}}}\" }}\n      run: {run}\n"
        ),
    );
    path.parent().expect("a parent").to_owned()
}

/// A program that ends as one that had a task.
fn ending(world: &World, works: bool) -> PathBuf {
    let (dir, conclusion) = (world.path("").display().to_string(), if works { "success" } else { "failure" });
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = run ] || exit 0\necho \"$*\" >>{dir}/runs\nmkdir -p {dir}/record\n\
         printf 'conclusion={conclusion}\\nrecord={dir}/record\\n' >>\"$GITHUB_OUTPUT\"\nexit {}\n",
        u8::from(!works)
    );
    let path = world.write("ending", &text);
    sh(&["chmod", "0755", &path.display().to_string()]);
    path
}

/// The program itself; what it is run with is kept.
fn itself(world: &World) -> PathBuf {
    let runner = env!("CARGO_BIN_EXE_bottle-runner");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" != run ] || echo \"$*\" >>{}/runs\nexec {runner} \"$@\"\n",
        world.path("").display()
    );
    let path = world.write("itself", &text);
    sh(&["chmod", "0755", &path.display().to_string()]);
    path
}

/// The shipped workflow, but for where bottle-runner is.
fn fit(case: &Case, kind: &str, program: &Path) -> String {
    let text = std::fs::read_to_string(format!("{ROOT}/workflows/{kind}/{}.yml", case.workflow)).expect("the workflow");
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if case.breaks.as_deref() == Some("checkout") && line.contains(CHECKOUT) {
            out.push_str("      - run: exit 1\n");
        }
        if !line.contains("ref: ${{ github.event.repository.default_branch }}") {
            out.push_str(&format!("{line}\n"));
        }
        if line.trim_start() == "id: claude" {
            if lines.peek().is_some_and(|next| next.trim() == "with:") {
                out.push_str(&format!("{}\n", lines.next().expect("a line")));
            } else {
                out.push_str("        with:\n");
            }
            out.push_str(&format!("          runner-binary: {}\n", program.display()));
        }
    }
    out
}

/// The caller of the guide, of the workflow beside it.
fn caller() -> String {
    let guide = std::fs::read_to_string(format!("{ROOT}/docs/guide/one-policy.md")).expect("the guide");
    let uses = "acme/policy/.github/workflows/claude.yml@main";
    let mut blocks = guide.split("```yaml\n").map(|block| block.split("```").next().unwrap_or_default());
    let caller = blocks.find(|block| block.contains(uses)).expect("a caller");
    caller.replace(uses, "./.github/workflows/shared.yml")
}

fn judge(case: &Case, kind: &'static str) {
    let name = format!("{kind} {}: {}", case.workflow, case.name);
    let world = World::new(RUNNER);
    let at = "2026-03-02T09:00:00Z";
    let comment = |id: u32, author: &str, body: &str| json!({"id": id, "number": 7, "author": author, "body": body, "created_at": at, "updated_at": at});
    let comments = match &case.written {
        Some(_) => vec![
            comment(901, "octo-reader", NOT_OURS),
            comment(902, if kind == "github" { "github-actions[bot]" } else { "bottle" }, OURS),
        ],
        None => vec![],
    };
    let double = Double::start(kind, json!({"comments": comments}));
    let program = match (case.breaks.as_deref(), case.program.as_str()) {
        (Some("get"), _) => world.path("nowhere"),
        (_, "real") => itself(&world),
        (_, end) => ending(&world, end == "works"),
    };
    let checkout = world.path("checkout");
    let path = checkout.join(".github/workflows/claude.yml");
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    let workflow = fit(case, kind, &program);
    if workflow.contains("workflow_call:") {
        std::fs::write(path.with_file_name("shared.yml"), &workflow).expect("the workflow");
        std::fs::write(&path, caller()).expect("its caller");
    } else {
        std::fs::write(&path, workflow).expect("the workflow");
    }
    std::fs::write(checkout.join("claude-bottle.yml"), super::MANIFEST).expect("the manifest");
    git(&checkout, &["init", "--quiet"]);
    git(&checkout, &["add", "--all"]);
    git(&checkout, &["commit", "--quiet", "-m", "Rules"]);
    git(&checkout, &["remote", "add", "forge", &format!("https://{}/octo-org/textstats.git", double.authority)]);
    if let Some(adds) = &case.adds {
        git(&checkout, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
        let proposed = super::MANIFEST.replace("agents:\n", &format!("{adds}agents:\n"));
        std::fs::write(checkout.join("claude-bottle.yml"), proposed).expect("the manifest");
        git(&checkout, &["commit", "--quiet", "--all", "-m", "Change the rules"]);
    }
    let ours = world.path("action");
    std::fs::create_dir_all(ours.join("scripts")).expect("a directory");
    std::fs::copy(format!("{ROOT}/action.yml"), ours.join("action.yml")).expect("the action");
    sh(&["cp", "-R", &format!("{ROOT}/policy"), &ours.display().to_string()]);
    sh(&["cp", "-R", &format!("{ROOT}/scripts/action"), &ours.join("scripts").display().to_string()]);
    let kept = world.path("kept");
    let upload = action(&world, "upload", &format!("mkdir -p \"{}/$NAME\" && test -d \"$AT\"", kept.display()));
    let download = action(&world, "download", &format!("test -d \"{}/$NAME\"", kept.display()));
    let mut command =
        Command::new(std::env::var("BOTTLE_TEST_ACT").expect("BOTTLE_TEST_ACT: run the tests by scripts/test"));
    world.clean(&mut command);
    let mut event = payload(case, kind);
    if case.pull.is_some() {
        // act takes it for the job's commit.
        event["pull_request"]["base"]["sha"] = json!(git(&checkout, &["rev-parse", "HEAD"]));
    }
    let event = world.write("event.json", &event.to_string());
    command.current_dir(&checkout).args([&case.event, "--no-cache-server", "--remote-name", "forge"]);
    command.args(["--platform", "ubuntu-latest=-self-hosted", "--github-instance", &double.authority]);
    command.arg("--eventpath").arg(event).args(["--env", &format!("SSL_CERT_FILE={}", double.ca().display())]);
    if kind == "gitea" {
        command.args(["--env", "GITEA_ACTIONS=true"]);
    }
    for action in ["claude-bottle/run@v1", "claude-bottle/run/policy@v1"] {
        command.arg("--local-repository").arg(format!("{action}={}", ours.display()));
    }
    let text = fit(case, kind, &program);
    for (what, place) in [("actions/upload-artifact@", &upload), ("actions/download-artifact@", &download)] {
        if let Some((_, rest)) = text.split_once(what) {
            let version = rest.split_whitespace().next().expect("a version");
            command.arg("--local-repository").arg(format!("{what}{version}={}", place.display()));
        }
    }
    for (secret, value) in [
        ("GITHUB_TOKEN", &double.token),
        ("BOTTLE_TOKEN", &double.token),
        ("BOTTLE_READ_TOKEN", &double.token),
        ("ANTHROPIC_API_KEY", &"sk-ant-not-needed".to_owned()),
    ] {
        command.env(secret, value).args(["--secret", secret]);
    }
    let output = command.output().expect("act");
    let text = said(&output);
    let mut jobs: BTreeMap<String, Vec<bool>> = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains("Job succeeded") || line.contains("Job failed")) {
        let job = line
            .split(['[', ']'])
            .nth(1)
            .and_then(|name| name.split('/').next_back())
            .unwrap_or_else(|| panic!("{line}"));
        let job = job.trim().trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-').to_owned();
        jobs.entry(job).or_default().push(line.contains("Job succeeded"));
    }
    assert_eq!(jobs, case.jobs, "{name}: {text}");
    let all_well = case.jobs.values().flatten().all(|well| *well);
    assert_eq!(output.status.success(), all_well, "{name}: {text}");
    let runs = std::fs::read_to_string(world.path("runs")).unwrap_or_default();
    assert_eq!(runs.lines().count(), case.runs, "{name}: {runs}: {text}");
    if let Some(with) = &case.with {
        assert!(runs.lines().all(|run| run.starts_with(with)), "{name}: {runs}");
    }
    let kept = std::fs::read_dir(kept).into_iter().flatten();
    let mut kept: Vec<String> =
        kept.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    kept.sort();
    assert_eq!(kept, case.kept, "{name}: {text}");
    if let Some(says) = &case.says {
        assert!(text.contains(says), "{name}: {text}");
    }
    if let Some(writes) = &case.written {
        let state = double.state();
        let bodies: Vec<&str> =
            state["comments"].as_array().into_iter().flatten().filter_map(|one| one["body"].as_str()).collect();
        let [other, own] = bodies[..] else { panic!("{name}: {bodies:?}") };
        assert!(other == NOT_OURS && own.contains(writes), "{name}: {bodies:?}: {text}");
        double.assert_valid();
    }
    assert_eq!(double.writes().len(), case.writes, "{name}: {:?}", double.writes());
}

#[test]
fn what_starts_and_what_is_red() {
    let cases: Cases = toml::from_str(include_str!("workflows.toml")).expect("the cases");
    for (kind, name, _) in shipped() {
        let about = |case: &&Case| case.workflow == name && case.forge.contains(&kind);
        assert!(cases.case.iter().any(|case| about(&case)), "no case is about workflows/{kind}/{name}.yml");
    }
    let all: Vec<(&Case, &'static str)> = cases
        .case
        .iter()
        .flat_map(|case| ["github", "gitea"].map(|kind| (case, kind)))
        .filter(|(case, kind)| case.forge.iter().any(|forge| forge == kind))
        .collect();
    judge_all(&all, 4, |(case, kind)| judge(case, kind));
}

/// Our actions, each with its text.
fn actions() -> [(&'static str, String); 2] {
    ["action.yml", "policy/action.yml"]
        .map(|name| (name, std::fs::read_to_string(Path::new(ROOT).join(name)).expect("an action")))
}

/// Forge, name and text of each workflow.
fn shipped() -> Vec<(String, String, String)> {
    let mut all = vec![];
    for kind in super::both() {
        for entry in std::fs::read_dir(Path::new(ROOT).join("workflows").join(&kind)).expect("the workflows") {
            let path = entry.expect("a file").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            all.push((kind.clone(), name, std::fs::read_to_string(path).expect("a workflow")));
        }
    }
    all
}

/// What is wrong with a condition: a value that is not there is null, which Gitea's runner takes for something else than `''`.
fn wrong(condition: &str) -> Option<&'static str> {
    let words: String = condition.split_whitespace().collect::<Vec<_>>().join(" ");
    let compares = ["== ''", "!= ''", "== \"\"", "!= \"\"", "'' ==", "'' !=", "== null", "!= null"];
    if compares.iter().any(|compares| words.contains(compares)) {
        return Some("it compares with nothing: name the value alone, which is false where there is none");
    }
    if words.contains("needs.") && words.contains(".outputs.") && !words.contains(".result == 'success'") {
        return Some("the outputs of a job that was skipped may be anything: ask for its result first");
    }
    None
}

#[test]
fn no_condition_takes_null_for_an_empty_text() {
    let mut seen = 0;
    let own = actions().map(|(name, text)| ("the".to_owned(), name.to_owned(), text));
    for (kind, name, text) in own.into_iter().chain(shipped()) {
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let trimmed = line.trim_start();
            let Some(condition) = trimmed.strip_prefix("- ").unwrap_or(trimmed).strip_prefix("if: ") else { continue };
            let indent = line.len() - trimmed.len();
            let mut condition = condition.to_owned();
            while let Some(next) =
                lines.next_if(|next| condition.starts_with('>') && next.len() - next.trim_start().len() > indent)
            {
                condition.push_str(next);
            }
            seen += 1;
            assert_eq!(wrong(&condition), None, "{kind} {name}: {condition}");
        }
        assert!(
            kind != "gitea" || !text.contains("fromJSON(inputs"),
            "{name}: Gitea makes the matrix before it knows the inputs"
        );
        assert!(kind != "gitea" || !text.contains("github.event.label"), "{name}: Gitea's events don't say the label");
    }
    assert!(seen > 20, "{seen}");
    assert!(wrong("${{ !cancelled() && needs.work.outputs.record != '' }}").is_some());
    assert!(wrong("${{ !cancelled() && needs.work.outputs.record }}").is_some());
}

/// A composite action's steps are fetched before their conditions are read: what Gitea can't fetch must not be named.
#[test]
fn the_action_names_no_other() {
    for (name, action) in actions() {
        let uses = |line: &str| line.trim_start().trim_start_matches("- ").starts_with("uses:");
        assert!(!action.lines().any(uses), "{name}");
    }
}
