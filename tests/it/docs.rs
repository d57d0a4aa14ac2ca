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
    for command in ["run", "plan", "ps", "logs", "cleanup", "doctor", "schema", "completions", "man"] {
        let help = printed(&[command, "--help"]);
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
