//! The page counts what the records have, nothing of a hostile record becomes markup or is hidden on it, and a broken one is a line.

use std::path::Path;

use bottle_types::record_file::RecordFile;
use tempfile::TempDir;

use super::*;
use crate::report::html::tags;
use crate::report::model::samples::{self, Sample, hostile_contents};

const DAY: i64 = 24 * 60 * 60 * 1000;

/// A directory of records.
struct Records(TempDir);

impl Records {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// Moves a sample's record there, so many days later.
    fn add(&self, name: &str, mut sample: Sample, days: i64) {
        sample.events.iter_mut().for_each(|(at, _)| *at += days * DAY);
        sample.view();
        let to = self.0.path().join(name);
        std::fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        bottle_testkit::sh(&["cp", "-R", &sample.dir.path().display().to_string(), &to.display().to_string()]);
        self.change(name, RecordFile::Metadata, |text| {
            let day = format!("2026-{:02}-{:02}T14:12:32Z", 1 + days / 28, 1 + days % 28);
            let mut metadata: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            metadata["started"] = day.into();
            metadata.to_string()
        });
    }

    fn change(&self, name: &str, file: RecordFile, change: impl Fn(String) -> String) {
        let path = self.0.path().join(name).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(path, change(text)).expect("a file");
    }

    fn site(&self) -> Site {
        Site::read(self.0.path(), self.0.path()).expect("the records")
    }

    fn page(&self) -> String {
        self.site().page()
    }
}

/// Pages for a browser by their names: one of runs of all kinds over weeks, with a record that is broken, and one of hostile records.
pub(crate) fn pages() -> [(&'static str, String); 2] {
    let records = Records::new();
    for day in 0..40 {
        let sample = match day % 5 {
            0 => samples::refused_push(),
            1 => samples::denied_route(),
            2 => samples::approval(),
            3 => samples::large(1 + day as usize % 7, 100),
            _ => samples::of_each_kind(),
        };
        records.add(&format!("run-{day}"), sample, day);
        std::fs::write(records.0.path().join(format!("run-{day}/report.html")), "").expect("a page");
    }
    let mut dead = samples::crash();
    dead.events.truncate(3);
    records.add("dead", dead, 40);
    records.add("broken", samples::approval(), 0);
    records.change("broken", RecordFile::Metadata, |_| "{".to_owned());
    let hostile = Records::new();
    let contents: Vec<String> = hostile_contents();
    hostile.add("all", samples::hostile(&contents), 0);
    for (at, content) in contents.into_iter().enumerate().filter(|(_, content)| content.len() < 2000) {
        hostile.add(&format!("one-{at}"), samples::hostile(&[content]), 1);
    }
    hostile.add("broken", samples::approval(), 0);
    hostile.change("broken", RecordFile::Metadata, |_| "\u{202e}<script>".to_owned());
    [("site", records.page()), ("site-hostile", hostile.page())]
}

/// The words of a page, on one line.
fn words(page: &str) -> String {
    let (_, body) = page.split_once("<body>").expect("a body");
    let mut words = String::new();
    let mut is_tag = false;
    for c in body.chars() {
        match c {
            '<' => (is_tag, words) = (true, words + " "),
            '>' => is_tag = false,
            c if !is_tag => words.push(c),
            _ => {}
        }
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_page_counts_what_the_records_have() {
    let records = Records::new();
    records.add("a", samples::refused_push(), 0);
    records.add("b", samples::denied_route(), 1);
    records.add("c", samples::approval(), 1);
    records.add("jobs/17/d", samples::denied_route(), 2);
    let mut dead = samples::crash();
    dead.events.truncate(3);
    records.add("e", dead, 3);
    std::fs::write(records.0.path().join("b/report.html"), "").expect("a page");
    let page = records.page();
    let words = words(&page);
    for said in [
        // Of five that have ended, one is done; the budgets' calls cost what they say.
        "5 runs · 20 % done · 0.09 US dollars · 2026-11-28 to 2026-12-01",
        "implementer 5 20 % 0.09 0.02",
        "2026-11-29 2 0.03 31,684",
        "request/no_route 4 2 issue-7-words-653db91b",
        "request/dlp 2 2 issue-7-words-653db91b",
        "push/aws-access-token 1 1 issue-7-words-653db91b",
        "agent 4 ",
        "✗ exit code 5 Deploy to the second region the gate refused the push: aws-access-token at deploy.toml:2",
        "✗ died Rewrite the index in place",
        "✓ done Read the price list",
    ] {
        assert!(words.contains(said), "{said:?} is not in {words}");
    }
    // The newest is the first, and only what lies beside the page is linked.
    let (at, of) = (|words: &str| page.find(words), |words: &str| page.matches(words).count());
    assert!(at("Rewrite the index in place") < at("Deploy to the second region"));
    assert!(of("href=\"b/report.html\"") > 0 && of("report.html\"") == of("href=\"b/report.html\""));
    assert!(!page.contains("<script") && !page.contains("id=\"left-out\"") && !page.contains(" style="));
}

#[test]
fn what_cannot_be_read_is_a_line() {
    let records = Records::new();
    records.add("good", samples::approval(), 0);
    for name in ["half", "none", "other", "<b>"] {
        records.add(name, samples::approval(), 0);
    }
    records.change("half", RecordFile::Metadata, |text| text[..text.len() / 2].to_owned());
    records.change("none", RecordFile::Metadata, |_| String::new());
    records.change("other", RecordFile::Metadata, |_| "[1]".to_owned());
    records.change("<b>", RecordFile::Metadata, |_| "\u{202e}".to_owned());
    // Lines of a log that are not understood leave the run on the page.
    records.change("good", RecordFile::Egress, |text| format!("{text}{{\n\n]"));
    std::fs::create_dir(records.0.path().join("no record")).expect("a directory");
    std::os::unix::fs::symlink(records.0.path(), records.0.path().join("round")).expect("a link");
    let site = records.site();
    assert_eq!(site.counts(), (1, 4));
    let page = site.page();
    let words = words(&page);
    for said in [
        "half could not be read: metadata.json, line 1, can't be read:",
        "&lt;b&gt; could not be read: metadata.json",
        "none could not be read",
    ] {
        assert!(words.contains(said), "{said:?} is not in {words}");
    }
    assert_eq!(crate::report::show::alive(&page), None);
    assert!(Site::read(Path::new("/nowhere/at/all"), Path::new("/")).is_err());
}

#[test]
fn nothing_of_a_hostile_record_becomes_markup_or_is_hidden() {
    let contents: Vec<String> = hostile_contents().into_iter().filter(|json| json != "\"\"").collect();
    assert!(contents.len() >= 100);
    let page_of = |contents: &[String]| {
        let records = Records::new();
        records.add("a", samples::hostile(contents), 0);
        records.page()
    };
    let harmless = tags(&page_of(&["\"harmless\"".to_owned()]));
    for content in &contents {
        let page = page_of(std::slice::from_ref(content));
        assert_eq!(tags(&page), harmless, "{content:.80}");
        assert_eq!(crate::report::show::alive(&page), None, "{content:.80}");
    }
    let page = page_of(&contents);
    assert_eq!(crate::report::show::alive(&page), None);
    // All of them on one page: every tag is one that a page without them has.
    let known: Vec<&str> = harmless.iter().map(|tag| tag.split([' ', '>']).next().expect("a name")).collect();
    assert!(tags(&page).iter().all(|tag| known.contains(&tag.split([' ', '>']).next().expect("a name"))));
    assert!(!page.contains("<script") && page.contains("default-src 'none'") && !page.contains("script-src"));
}

#[test]
fn the_newest_thousand_are_on_the_page() {
    let records = Records::new();
    records.add("0000", samples::denied_route(), 0);
    for at in 1..MAX_RECORDS + 3 {
        let to = records.0.path().join(format!("{at:04}"));
        std::fs::create_dir(&to).expect("a directory");
        for file in
            [RecordFile::Metadata, RecordFile::Events, RecordFile::Egress, RecordFile::Budget, RecordFile::Pushes]
        {
            std::fs::copy(records.0.path().join("0000").join(file), to.join(file)).expect("a file");
        }
    }
    records.change("0777", RecordFile::Metadata, |text| text.replace("2026-01-01", "2025-01-01"));
    let site = records.site();
    assert_eq!(site.counts(), (MAX_RECORDS, 0));
    assert!(site.page().contains("3 older records are left out: the page has the newest 1000."));
}
