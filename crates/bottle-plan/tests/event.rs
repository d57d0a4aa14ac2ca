//! Payloads become the tasks that stand beside them, or the reason why they become none.

#![expect(clippy::disallowed_methods, reason = "a test reads its fixtures")]

use std::fs;
use std::path::{Path, PathBuf};

use bottle_plan::event::{self, Asked};
use bottle_plan::manifest::Triggers;
use bottle_plan::name::Name;
use pretty_assertions::assert_eq;

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no fixtures in {}", folder.display());
    files
}

fn triggers() -> Triggers {
    let agent = Name::parse("implementer").expect("a name");
    Triggers { labels: [("claude".to_owned(), agent)].into(), ..Triggers::default() }
}

fn compare(path: &Path, found: &str) {
    let expected = path.with_extension("expected");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&expected, found).expect("written");
    }
    assert_eq!(found, fs::read_to_string(&expected).unwrap_or_default(), "{}", expected.display());
}

#[test]
fn events_become_tasks() {
    for path in fixtures("good/event") {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let kind = name.split('-').next();
        let payload = fs::read_to_string(&path).expect("the payload");
        let asked = event::parse(&payload, kind, &triggers()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(Ok(&asked), event::parse(&payload, None, &triggers()).as_ref(), "{name}: told from its shape");
        let text = match asked {
            Asked::Task(task) => format!("{:#}\n", serde_json::to_value(&task).expect("JSON")),
            Asked::Command(command) => format!("{command:#?}\n"),
            Asked::Nothing(why) => format!("nothing to do: {why}\n"),
            Asked::Unclear(unclear) => format!("unclear: {unclear}\n"),
            Asked::Refused(why) => format!("refused: {why}\n"),
        };
        compare(&path, &text);
    }
}

#[test]
fn what_is_no_event_gets_its_message() {
    for path in fixtures("bad/event") {
        let payload = fs::read_to_string(&path).expect("the payload");
        let error = event::parse(&payload, None, &triggers()).expect_err(&path.display().to_string());
        compare(&path, &format!("error: {error}\nhelp: {}\n", error.hint()));
    }
}

#[test]
fn a_kind_given_by_hand_must_be_one_that_forges_have() {
    let error = event::parse("{}", Some("deploymentstatus"), &triggers()).expect_err("not supported");
    assert_eq!(error.to_string(), "events of kind `deploymentstatus` are not supported");
    let asked = event::parse("\u{feff}{}", Some("deployment_status"), &triggers()).expect("an event");
    assert!(matches!(asked, Asked::Nothing(why) if why.starts_with("`deployment_status` starts nothing; ")));
    for text in ["", "[]", "{", "push"] {
        assert!(event::parse(text, Some("push"), &triggers()).is_err(), "{text}");
    }
    assert!(event::parse("{}", Some("issues"), &triggers()).is_err());
}

#[test]
fn a_listed_bot_may_ask() {
    let path = fixtures("good/event").into_iter().find(|path| path.ends_with("issue_comment-by-a-bot.json"));
    let payload = fs::read_to_string(path.expect("the fixture")).expect("the payload");
    let mut triggers = triggers();
    triggers.who.bots.push(41_898_282);
    assert!(matches!(event::parse(&payload, None, &triggers), Ok(Asked::Task(_))));
}

#[test]
fn no_comment_is_too_strange() {
    use proptest::prelude::*;
    let path = fixtures("good/event").into_iter().find(|path| path.ends_with("issue_comment-created.json"));
    let payload = fs::read_to_string(path.expect("the fixture")).expect("the payload");
    let payload: serde_json::Value = serde_json::from_str(&payload).expect("JSON");
    proptest!(|(lines in proptest::collection::vec("( {0,5}|/claude|agent=|`{2,5}|~{3,4}|<!--|-->|>|\\PC{0,20}|\r){0,6}", 0..8))| {
        let mut payload = payload.clone();
        payload["comment"]["body"] = lines.join("\n").into();
        let _ = event::parse(&payload.to_string(), None, &triggers());
    });
}
