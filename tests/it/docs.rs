//! Pages that repeat what the program says are held against it.

use std::path::Path;

use crate::world::World;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn printed(args: &[&str]) -> String {
    let output = World::new().runner().args(args).output().expect("the runner");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_page_of_exit_codes_has_each_code_with_its_meaning() {
    let page = page("reference/exit-codes.md");
    let help = printed(&["--help"]);
    let (_, codes) = help.split_once("Exit codes:\n").expect("exit codes in the help");
    // A long meaning is wrapped in the help; a row of the page is one line.
    let words = codes.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ") && !line.contains("---")).skip(1).collect();
    assert_eq!(rows.len(), 9, "{rows:?}");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        assert!(words.contains(&format!("{} {}", cells[0], cells[1])), "`{row}` is not in the help: {words}");
    }
}

#[test]
fn the_page_of_commands_has_every_help_text() {
    let page = page("reference/commands.md");
    let commands = ["run", "plan", "ps", "logs", "proposals", "apply", "verify-record", "cleanup", "doctor", "schema"];
    let verbs = ["list", "show", "approve", "deny", "answer", "watch"].map(|verb| format!("proposals {verb}"));
    let all = commands.iter().map(|&command| command.to_owned()).chain(verbs);
    for command in all.chain(["completions", "man"].map(str::to_owned)) {
        let help = printed(&command.split(' ').chain(["--help"]).collect::<Vec<_>>());
        assert!(
            page.contains(help.trim_end()),
            "docs/reference/commands.md lacks this text of `{command} --help`:\n{help}"
        );
    }
}

#[test]
fn the_schema_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/claude-bottle.schema.json");
    let committed: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("the schema")).expect("JSON");
    let printed: serde_json::Value = serde_json::from_str(&printed(&["schema"])).expect("JSON");
    assert_eq!(printed, committed);
}

/// The keys of a section of action.yml, in its order.
fn keys_of(text: &str, section: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| *line != format!("{section}:")).skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
    lines
        .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':').filter(|key| !key.starts_with(' ')))
        .map(str::to_owned)
        .collect()
}

/// The two tables of the page, made from action.yml.
fn tables_of_the_action() -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("action.yml")).expect("action.yml");
    let action: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
    let cell = |value: &serde_json::Value| value.as_str().unwrap_or_default().trim().replace('|', "\\|");
    let mut tables = "| input | default | |\n| --- | --- | --- |\n".to_owned();
    for key in keys_of(&text, "inputs") {
        let input = &action["inputs"][&key];
        let default = Some(cell(&input["default"])).filter(|text| !text.is_empty()).map(|text| format!("`{text}`"));
        tables.push_str(&format!("| `{key}` | {} | {} |\n", default.unwrap_or_default(), cell(&input["description"])));
    }
    tables.push_str("\n| output | |\n| --- | --- |\n");
    for key in keys_of(&text, "outputs") {
        tables.push_str(&format!("| `{key}` | {} |\n", cell(&action["outputs"][&key]["description"])));
    }
    tables
}

#[test]
fn the_page_of_the_action_has_its_inputs_and_outputs() {
    let tables = tables_of_the_action();
    assert!(tables.lines().count() > 20, "{tables}");
    assert!(page("reference/action.md").contains(&tables), "docs/reference/action.md lacks these tables:\n{tables}");
}

#[test]
fn the_workflows_use_inputs_that_the_action_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("action.yml")).expect("action.yml");
    let (inputs, outputs) = (keys_of(&text, "inputs"), keys_of(&text, "outputs"));
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
                    assert!(inputs.contains(key), "{}: the action has no input {key}", path.display());
                }
            }
            for part in text.split("steps.claude.outputs.").skip(1) {
                let name: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
                assert!(outputs.contains(&name), "{}: the action has no output {name}", path.display());
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
    let world = World::new();
    world.write("claude-bottle.yml", &manifest);
    let event = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/issue-labeled.json");
    let output = world.runner().args(["plan", "--event", event]).output().expect("the runner");
    assert!(output.status.success(), "{}", crate::world::said(&output));
}
