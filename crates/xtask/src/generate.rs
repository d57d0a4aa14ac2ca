//! The pages and files that repeat what the program or `action.yml` says. Each is made from its source and the committed
//! text around it, so that prose between generated parts is kept.

use std::fs;
use std::path::Path;
use std::process::Command;

use bottle_types::record_file::RecordFile;
use serde_json::Value;

/// The schema of a run's events, of the version that is written now.
const EVENTS: &str = "schema/claude-bottle.events-v1.schema.json";

/// A file whose committed text is not the generated one.
pub struct Stale {
    /// Its path below the repository's root.
    pub path: &'static str,
    /// The text that it should have.
    pub text: String,
}

/// Compares every generated file with its source; `runner` is a built `bottle-runner`.
///
/// # Errors
/// Says what could not be read, or which part of a page has no place to be written to.
pub fn stale(root: &Path, runner: &Path) -> Result<Vec<Stale>, String> {
    let help = |args: &[&str]| printed(runner, &[args, &["--help"]].concat());
    let action = read(root, "action.yml")?;
    let schema: Value =
        serde_json::from_str(&printed(runner, &["schema"])?).map_err(|error| format!("the schema: {error}"))?;
    let tests: Value = serde_json::from_str(&printed(runner, &["schema", "--tests"])?)
        .map_err(|error| format!("the schema of policy tests: {error}"))?;
    let events: Value = serde_json::from_str(&printed(runner, &["schema", "--events"])?)
        .map_err(|error| format!("the schema of events: {error}"))?;
    let made = |path, text| Ok::<_, String>(Stale { path, text });
    let files = [
        made("schema/claude-bottle.schema.json", format!("{schema:#}\n")),
        made("schema/claude-bottle.test.schema.json", format!("{tests:#}\n")),
        frozen(EVENTS, fs::read_to_string(root.join(EVENTS)).ok().as_deref(), &events),
        page(root, "docs/reference/commands.md", |page| commands(page, &help)),
        page(root, "docs/reference/exit-codes.md", |page| exit_codes(page, &help(&[])?)),
        page(root, "docs/reference/action.md", |page| inputs_and_outputs(page, &action)),
        page(root, "docs/reference/run-record.md", record_files),
    ];
    let mut stale = vec![];
    for file in files {
        let file = file?;
        // A file that is not there is written.
        if fs::read_to_string(root.join(file.path)).is_ok_and(|text| text == file.text) {
            continue;
        }
        stale.push(file);
    }
    Ok(stale)
}

/// A schema that others check by: what it takes stays as it is, and what it says for people may get better.
fn frozen(path: &'static str, committed: Option<&str>, schema: &Value) -> Result<Stale, String> {
    if let Some(committed) = committed {
        let committed: Value = serde_json::from_str(committed).map_err(|error| format!("{path}: {error}"))?;
        if without_words(committed) != without_words(schema.clone()) {
            return Err(format!(
                "{path} is frozen: a change of what it takes is a new version, with a file of its own beside this one"
            ));
        }
    }
    Ok(Stale { path, text: format!("{schema:#}\n") })
}

/// A schema without its descriptions. A property of that name has an object, not a text.
fn without_words(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(keys) => {
            keys.retain(|key, value| key != "description" || !value.is_string());
            keys.values_mut().for_each(|value| *value = without_words(value.take()));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = without_words(value.take())),
        _ => {}
    }
    schema
}

fn page(root: &Path, path: &'static str, make: impl Fn(&str) -> Result<String, String>) -> Result<Stale, String> {
    let text = make(&read(root, path)?).map_err(|error| format!("{path}: {error}"))?;
    Ok(Stale { path, text })
}

fn read(root: &Path, path: &str) -> Result<String, String> {
    fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))
}

fn printed(runner: &Path, args: &[&str]) -> Result<String, String> {
    let program = runner.display();
    // The help is wrapped at 100 columns, whatever terminal this runs in.
    let output = Command::new(runner).args(args).env("COLUMNS", "100").env_remove("NO_COLOR").output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{program} {}` ended with {}", args.join(" "), output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("`{program} {}`: {error}", args.join(" ")))
}

/// Replaces the lines from the one that is `first` to the next empty one by `table`.
fn replace_table(page: &str, first: &str, table: &str) -> Result<String, String> {
    let start =
        page.find(&format!("\n{first}\n")).ok_or_else(|| format!("lacks a table that begins with '{first}'"))?;
    let (before, rest) = page.split_at(start + 1);
    let after = rest.find("\n\n").map_or("", |end| &rest[end + 1..]);
    Ok(format!("{before}{table}{after}"))
}

/// Puts `text` into the first block of text behind a heading.
fn replace_block(page: &str, heading: &str, text: &str) -> Result<String, String> {
    let lacks = || format!("lacks a heading '{heading}' with a block of text behind it");
    let start = page.find(&format!("\n{heading}\n")).ok_or_else(lacks)? + heading.len() + 2;
    let section = &page[start..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    let open = start + section.find("```text\n").ok_or_else(lacks)? + "```text\n".len();
    let close = open + page[open..].find("\n```").ok_or_else(lacks)?;
    Ok(format!("{}{}{}", &page[..open], text.trim_end(), &page[close..]))
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<&str> {
    let (_, list) = help.split_once("\nCommands:\n").unwrap_or_default();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next().filter(|_| line.as_bytes()[2] != b' '));
    names.filter(|name| *name != "help").collect()
}

fn commands(page: &str, help: &impl Fn(&[&str]) -> Result<String, String>) -> Result<String, String> {
    let top = help(&[])?;
    let mut texts = vec![("## `bottle-runner`".to_owned(), top.clone())];
    for command in subcommands(&top) {
        let text = help(&[command])?;
        let verbs = subcommands(&text).into_iter();
        let verbs: Vec<_> = verbs
            .map(|verb| Ok((format!("## `bottle-runner {command} {verb}`"), help(&[command, verb])?)))
            .collect::<Result<_, String>>()?;
        texts.push((format!("## `bottle-runner {command}`"), text));
        texts.extend(verbs);
    }
    for heading in page.lines().filter(|line| line.starts_with("## `bottle-runner")) {
        if !texts.iter().any(|(known, _)| known == heading) {
            return Err(format!("has a heading '{heading}', and there is no such command"));
        }
    }
    texts.iter().try_fold(page.to_owned(), |page, (heading, text)| replace_block(&page, heading, text))
}

fn exit_codes(page: &str, help: &str) -> Result<String, String> {
    let (_, list) = help.split_once("\nExit codes:\n").ok_or("the help has no exit codes")?;
    let mut rows: Vec<String> = vec![];
    for line in list.lines() {
        let line = line.trim();
        match line.split_once("  ") {
            Some((code, meaning)) if code.bytes().all(|byte| byte.is_ascii_digit()) => {
                rows.push(format!("{code} | {meaning}"));
            }
            // A long meaning goes on in the next line.
            _ => rows.last_mut().ok_or("the first exit code has no number")?.push_str(&format!(" {line}")),
        }
    }
    let rows: String = rows.iter().map(|row| format!("| {row} |\n")).collect();
    replace_table(page, "| code | meaning |", &format!("| code | meaning |\n| --- | --- |\n{rows}"))
}

/// A row for each file of a run record; behind what a dry run would do, the files whose names are made in the run.
fn record_files(page: &str) -> Result<String, String> {
    let mut table = "| file | content |\n| --- | --- |\n".to_owned();
    for file in RecordFile::ALL {
        table.push_str(&format!("| `{file}` | {} |\n", file.content()));
        if *file == RecordFile::WouldDo {
            table.push_str("| `<upstream>-<n>.bundle` | dry run: each accepted push, as a git bundle |\n");
        }
    }
    replace_table(page, "| file | content |", &table)
}

/// The keys of a section of action.yml, in its order.
pub fn keys<'a>(text: &'a str, section: &str) -> Vec<&'a str> {
    let lines = text.lines().skip_while(|line| *line != format!("{section}:")).skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
    lines.filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':').filter(|key| !key.starts_with(' '))).collect()
}

fn inputs_and_outputs(page: &str, action: &str) -> Result<String, String> {
    let parsed: Value = serde_saphyr::from_str(action).map_err(|error| format!("action.yml: {error}"))?;
    let cell = |value: &Value| value.as_str().unwrap_or_default().trim().replace('|', "\\|");
    let mut inputs = "| input | default | |\n| --- | --- | --- |\n".to_owned();
    for key in keys(action, "inputs") {
        let input = &parsed["inputs"][key];
        let default = Some(cell(&input["default"])).filter(|text| !text.is_empty()).map(|text| format!("`{text}`"));
        inputs.push_str(&format!("| `{key}` | {} | {} |\n", default.unwrap_or_default(), cell(&input["description"])));
    }
    let mut outputs = "| output | |\n| --- | --- |\n".to_owned();
    for key in keys(action, "outputs") {
        outputs.push_str(&format!("| `{key}` | {} |\n", cell(&parsed["outputs"][key]["description"])));
    }
    let page = replace_table(page, "| input | default | |", &inputs)?;
    replace_table(&page, "| output | |", &outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_replaced_and_the_prose_around_it_kept() {
        let page = "one\n\n| a |\n| --- |\n| old |\n\ntwo\n";
        assert_eq!(replace_table(page, "| a |", "| a |\n| --- |\n| new |\n"), Ok(page.replace("old", "new")));
        assert_eq!(replace_table("one\n\n| a |\n| old |\n", "| a |", "| a |\n"), Ok("one\n\n| a |\n".to_owned()));
        assert!(replace_table("one\n", "| a |", "").is_err());
    }

    #[test]
    fn a_frozen_schema_may_change_its_words_alone() {
        let schema = |words: &str, kind: &str| serde_json::json!({"description": words, "properties": {"description": {"type": kind, "description": words}}});
        let hold =
            |committed: Option<&str>, kind| frozen("e.json", committed, &schema("two", kind)).map(|file| file.text);
        let text = format!("{:#}\n", schema("two", "string"));
        assert_eq!(hold(None, "string").as_ref(), Ok(&text));
        assert_eq!(hold(Some(&schema("one", "string").to_string()), "string").as_ref(), Ok(&text));
        let error = hold(Some(&text), "integer").expect_err("another type");
        assert!(error.starts_with("e.json is frozen: "), "{error}");
        assert!(hold(Some("{"), "string").is_err());
    }

    #[test]
    fn a_block_is_replaced_in_its_own_section() {
        let page = "# x\n\n## `a`\n\n```text\nold\n```\n\nprose\n\n## `a b`\n\n```text\nother\n```\n";
        assert_eq!(replace_block(page, "## `a`", "new\n"), Ok(page.replace("old", "new")));
        assert_eq!(replace_block(page, "## `a b`", "new"), Ok(page.replace("other", "new")));
        assert!(replace_block("# x\n\n## `a`\n\nprose\n\n## `b`\n\n```text\nx\n```\n", "## `a`", "new").is_err());
    }

    #[test]
    fn each_command_has_a_section_and_each_section_a_command() {
        let help = |args: &[&str]| match args {
            [] => Ok("Top\n\nCommands:\n  run  Do\n\nOptions:\n".to_owned()),
            ["run"] => Ok("Run\n\nCommands:\n  fast  Now\n".to_owned()),
            _ => Ok("Fast\n".to_owned()),
        };
        let section = |name: &str, text: &str| format!("## `bottle-runner{name}`\n\n```text\n{text}\n```\n\n");
        let page =
            |text| format!("# x\n\n{}{}{}", section("", text), section(" run", text), section(" run fast", text));
        let made = commands(&page("old"), &help).expect("a page");
        assert!(made.contains(&section(" run", "Run\n\nCommands:\n  fast  Now")), "{made}");
        assert!(made.contains(&section(" run fast", "Fast")) && !made.contains("old"), "{made}");
        assert!(commands(&page("old").replace(" run fast", " run"), &help).is_err());
        assert!(commands(&format!("{}{}", page("old"), section(" walk", "")), &help).is_err());
    }

    #[test]
    fn subcommands_and_exit_codes_are_read_out_of_a_help_text() {
        let help = "x\n\nCommands:\n  run   Do\n        more of it\n  help  Print\n\nExit codes:\n    0  done\n  130  cancelled, by\n  a signal\n";
        assert_eq!(subcommands(help), ["run"]);
        let page = "x\n\n| code | meaning |\n| --- | --- |\n| 7 | gone |\n\ny\n";
        let made = "x\n\n| code | meaning |\n| --- | --- |\n| 0 | done |\n| 130 | cancelled, by a signal |\n\ny\n";
        assert_eq!(exit_codes(page, help), Ok(made.to_owned()));
    }
}
