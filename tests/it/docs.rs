//! Pages and workflows that repeat what the program or `action.yml` says are held against it.

use std::path::Path;

use bottle_testkit::{World, said};
use xtask::generate::{self, keys};

use crate::RUNNER;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_generated_files_are_as_generated() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let runner = Path::new(env!("CARGO_BIN_EXE_bottle-runner"));
    let stale = generate::stale(root, runner).unwrap_or_else(|error| panic!("{error}"));
    let paths: Vec<&str> = stale.iter().map(|file| file.path).collect();
    assert!(paths.is_empty(), "run `cargo xtask generate` and commit {paths:?}");
}

#[test]
fn the_generated_tables_are_whole() {
    let rows = |name: &str| page(name).lines().filter(|line| line.starts_with("| ") && !line.contains("---")).count();
    assert_eq!(rows("reference/exit-codes.md"), 1 + 9);
    assert!(rows("reference/action.md") > 18, "{}", page("reference/action.md"));
}

#[test]
fn the_workflows_use_inputs_that_the_action_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("action.yml")).expect("action.yml");
    let (inputs, outputs) = (keys(&text, "inputs"), keys(&text, "outputs"));
    let mut seen = 0;
    for dir in ["github", "gitea"] {
        for entry in std::fs::read_dir(root.join("workflows").join(dir)).expect("the workflows") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("a workflow");
            let workflow: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
            let jobs = workflow["jobs"].as_object().expect("jobs");
            for step in jobs.values().flat_map(|job| job["steps"].as_array().expect("steps")) {
                if step["uses"] != "claude-bottle/run@v1" {
                    continue;
                }
                seen += 1;
                for key in step["with"].as_object().into_iter().flat_map(|with| with.keys()) {
                    assert!(inputs.contains(&key.as_str()), "{}: the action has no input {key}", path.display());
                }
            }
            for part in text.split("steps.claude.outputs.").skip(1) {
                let name: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
                assert!(outputs.contains(&name.as_str()), "{}: the action has no output {name}", path.display());
            }
        }
    }
    assert!(seen >= 15, "{seen}");
}

#[test]
fn the_action_puts_nothing_of_others_into_its_scripts() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("action.yml")).expect("action.yml");
    let action: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
    let steps = action["runs"]["steps"].as_array().expect("steps");
    for step in steps {
        let run = step["run"].as_str().unwrap_or_default();
        assert!(!run.contains("${{"), "{run}");
        if let Some(uses) = step["uses"].as_str() {
            let (_, commit) = uses.split_once('@').expect("a version");
            assert!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{uses}");
        }
    }
    let last = steps.last().expect("a step");
    assert!(last["if"].as_str().expect("a condition").starts_with("always()"), "{last}");
}

#[test]
fn the_manifest_of_the_guide_for_workflows_plans() {
    let page = page("guide/actions.md");
    let (_, rest) = page.split_once("```yaml file=claude-bottle.yml\n").expect("a manifest");
    let (manifest, _) = rest.split_once("```").expect("its end");
    let manifest: String =
        manifest.lines().map(|line| format!("{}\n", line.strip_prefix("   ").unwrap_or(line))).collect();
    let world = World::new(RUNNER);
    world.write("claude-bottle.yml", &manifest);
    let event = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/issue-labeled.json");
    let output = world.runner().args(["plan", "--event", event]).output().expect("the runner");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_projects_have_a_manifest_a_task_and_a_cassette() {
    let projects = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/projects");
    let mut names = vec![];
    for entry in std::fs::read_dir(projects).expect("projects") {
        let dir = entry.expect("an entry").path();
        if !dir.is_dir() {
            continue;
        }
        let read = |file: &str| {
            std::fs::read_to_string(dir.join(file)).unwrap_or_else(|error| panic!("{}/{file}: {error}", dir.display()))
        };
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        let fill = [("@PORT@", "22"), ("@IDENTITY@", "/id"), ("@HOST_KEY@", key), ("@ADDRESS@", "192.0.2.1")];
        let manifest = fill.iter().fold(read("claude-bottle.yml.in"), |text, (from, to)| text.replace(from, to));
        let manifest = bottle_plan::manifest::parse(&manifest, "claude-bottle.yml")
            .unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        assert!(
            manifest.bottles.values().all(|bottle| bottle.setup.is_some())
                && manifest.agents.values().all(|agent| !agent.verify.is_empty()),
            "{}",
            dir.display()
        );
        bottle_wire::cassette::Cassette::parse(&read("cassette.yml"))
            .unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        assert!(!read("task.md").trim().is_empty());
        names.push(dir.file_name().expect("a name").to_string_lossy().into_owned());
    }
    names.sort();
    // The script has what each needs of a machine.
    let output = std::process::Command::new("bash")
        .args(["-c", ". \"$1/scripts/lib/projects.sh\"; for name in $(project_names); do project_needs \"$name\"; echo \"$name\"; done", "projects"])
        .arg(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("bash");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(), names, "{output:?}");
}

#[test]
fn the_scripts_put_the_link_beside_the_runner() {
    // The guide goes on with target/release/bottle-runner, which looks for the link beside itself.
    let dir = tempfile::tempdir().expect("a directory");
    let script = "set -eu; . \"$1/scripts/lib/build.sh\"; ensure_toolchain() { :; }; host_triple() { echo here; }
        cargo_build() { mkdir -p \"$TARGET/here/release\"; echo static >\"$TARGET/here/release/bottle-link\"; }
        mkdir -p \"$TARGET/release\"; echo another >\"$TARGET/release/bottle-link\"; build_link; cat \"$TARGET/release/bottle-link\"";
    let output = std::process::Command::new("bash")
        .args(["-c", script, "build", env!("CARGO_MANIFEST_DIR")])
        .env("CARGO_TARGET_DIR", dir.path().join("target"))
        .env("CLAUDE_BOTTLE_CACHE", dir.path().join("cache"))
        .output()
        .expect("bash");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "static\n", "{}", String::from_utf8_lossy(&output.stderr));
}
