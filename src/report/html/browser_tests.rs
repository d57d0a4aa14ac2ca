//! The pages and pictures in a real browser: `browser.cjs` drives Chromium by Playwright.

use std::path::Path;
use std::process::Command;

use bottle_testkit::needed;

use crate::report::gantt::gantt;
use crate::report::model::samples::{self, Sample, hostile_contents};
use crate::report::site::site_pages;

/// Turns and bytes of each turn's output of the largest record: a hundred megabytes.
const LARGE: (usize, usize) = (200, 500_000);

/// Writes the pages, and has the script look at all of them.
#[test]
#[ignore = "minutes, and a browser: scripts/test --deep"]
#[expect(clippy::print_stdout, reason = "the times are read by people and asserted nowhere")]
fn in_a_browser() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, sample: &Sample| {
        let page = sample.page();
        std::fs::write(dir.path().join(format!("{name}.html")), page).expect("a page");
    };
    write("success", &samples::success());
    write("refused-push", &samples::refused_push());
    write("denied-route", &samples::denied_route());
    write("approval", &samples::approval());
    write("crash", &samples::crash());
    write("large", &samples::large(LARGE.0, LARGE.1));
    write("hostile", &samples::hostile(&hostile_contents()));
    for (name, page) in site_pages() {
        std::fs::write(dir.path().join(format!("{name}.html")), page).expect("a page");
    }
    let drawn = |name: &str, sample: &Sample| {
        let put = |file: String, text: String| std::fs::write(dir.path().join(file), text).expect("a file");
        put(format!("timeline-{name}.svg"), sample.view().timeline_svg());
        put(format!("gantt-{name}.md"), gantt(&sample.events));
    };
    drawn("success", &samples::success());
    drawn("refused-push", &samples::refused_push());
    drawn("approval", &samples::approval());
    drawn("each-kind", &samples::of_each_kind());
    drawn("large", &samples::large(LARGE.0, 2000));
    drawn("hostile", &samples::hostile(&hostile_contents()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/html/browser.cjs");
    #[expect(clippy::disallowed_methods, reason = "a test drives a browser")]
    let mut command = Command::new(needed("BOTTLE_TEST_NODE"));
    command.arg(script).arg(dir.path()).env("NODE_PATH", needed("BOTTLE_TEST_BROWSER_MODULES"));
    let output = command.output().expect("Node");
    let said = bottle_testkit::said(&output);
    assert!(output.status.success(), "{said}");
    let names =
        ["success", "refused-push", "denied-route", "approval", "crash", "large", "hostile", "site", "site-hostile"];
    let pictures = ["timeline-large", "timeline-hostile", "gantt-approval", "gantt-hostile"];
    for name in names.into_iter().chain(pictures) {
        assert!(said.contains(&format!("{name}: looked at")), "{said}");
    }
    print!("{said}");
}
