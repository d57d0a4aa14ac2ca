//! The book's pictures, as `scripts/book --pictures` has them made: the views of samples, photographed by a browser.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use bottle_testkit::needed;
use pulldown_cmark::{Options, Parser, html};
use serde::{Deserialize, Serialize};

use crate::approve::sample_comment;
use crate::report::{RunEvent, card, live_screen, samples, site_pages};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pictures {
    picture: Vec<Picture>,
}

/// A picture, in pixels of the page.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Picture {
    name: String,
    width: u32,
    height: u32,
}

fn pictures() -> Vec<Picture> {
    toml::from_str::<Pictures>(include_str!("pictures.toml")).expect("the pictures").picture
}

fn whole(body: &str) -> String {
    let style = include_str!("pictures.css");
    format!("<!doctype html><meta charset=\"utf-8\"><title>A picture</title><style>{style}</style><body>{body}</body>")
}

/// A text about as a forge shows it, below who did what.
fn posted(did: &str, markdown: &str) -> String {
    let mut shown = String::new();
    html::push_html(&mut shown, Parser::new_ext(markdown, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH));
    whole(&format!(
        "<article class=\"comment\"><header><b>claude-bottle</b> {did}</header><div>{shown}</div></article>"
    ))
}

/// What a terminal shows of a text with our colours.
fn terminal(text: &str) -> String {
    let mut shown = text.replace('&', "&amp;").replace('<', "&lt;").replace("\x1b[0m", "</span>");
    for code in ["1", "2", "31", "32", "33", "35", "36", "1;33"] {
        let class = code.replace(';', "-");
        shown = shown.replace(&format!("\x1b[{code}m"), &format!("<span class=\"c{class}\">"));
    }
    assert!(!shown.contains('\x1b'), "a colour that the picture does not know: {shown:?}");
    whole(&format!("<pre class=\"terminal\">{shown}</pre>"))
}

/// The sample, whose run has as many turns as its transcript.
fn with_turns(mut sample: samples::Sample, turns: u64) -> samples::Sample {
    for (_, event) in &mut sample.events {
        if let RunEvent::Finished { outcome, .. } = event {
            outcome.turns = Some(turns);
        }
    }
    sample
}

/// The page of which the picture is made.
fn page(name: &str) -> String {
    let success = || with_turns(samples::success(), 9);
    match name {
        "report" | "report-phone" => success().page(),
        "timeline" => whole(&success().view().timeline_svg()),
        "site" => site_pages().into_iter().find(|(name, _)| *name == "site").map(|(_, page)| page).expect("a page"),
        "watch" => terminal(&live_screen(&samples::denied_route())),
        "card" => {
            let events = with_turns(samples::approval(), 6).events;
            let events: Vec<RunEvent> = events.into_iter().map(|(_, event)| event).collect();
            posted("opened this pull request", &card(&events))
        }
        "proposal" => posted("commented", &sample_comment()),
        other => panic!("nobody makes the picture {other}"),
    }
}

#[test]
fn each_picture_has_a_page() {
    let names: BTreeSet<String> = pictures().into_iter().map(|picture| picture.name).collect();
    assert_eq!(names.len(), pictures().len(), "a picture is listed twice");
    for name in &names {
        assert!(page(name).len() > 1000, "{name}");
    }
}

#[test]
#[ignore = "a browser: scripts/book --pictures"]
#[expect(clippy::print_stdout, reason = "the pictures that were made are named")]
fn the_pictures_are_made() {
    let out = PathBuf::from(needed("BOTTLE_BOOK_PICTURES"));
    let dir = tempfile::tempdir().expect("a directory");
    let pictures = pictures();
    for picture in &pictures {
        std::fs::write(dir.path().join(format!("{}.html", picture.name)), page(&picture.name)).expect("a page");
    }
    let list = serde_json::to_string(&pictures).expect("JSON");
    std::fs::write(dir.path().join("pictures.json"), list).expect("a list");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/pictures.cjs");
    #[expect(clippy::disallowed_methods, reason = "a test drives a browser")]
    let mut command = Command::new(needed("BOTTLE_TEST_NODE"));
    command.arg(script).arg(dir.path()).arg(&out).env("NODE_PATH", needed("BOTTLE_TEST_BROWSER_MODULES"));
    let output = command.output().expect("Node");
    let said = bottle_testkit::said(&output);
    assert!(output.status.success(), "{said}");
    for picture in &pictures {
        let bytes = std::fs::read(out.join(format!("{}.png", picture.name))).expect("a picture");
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000, "{}: {} bytes", picture.name, bytes.len());
    }
    print!("{said}");
}
