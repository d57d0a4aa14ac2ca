//! Runs the real gitleaks over a corpus. Every way in which it can fail, stop early or look away is an error here.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::corpus::Corpus;
use super::place::Place;
use super::process::{self, Limits, last_words};

/// gitleaks' exit code for findings; its default, 1, is its code for errors too.
const FOUND: i32 = 42;
const LIMITS: Limits = Limits::seconds(900, 900);

/// What gitleaks found, in terms of the corpus.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    pub(super) text: usize,
    pub(super) rule: String,
    pub(super) line: Option<u64>,
}

/// A line of gitleaks' report; it has more.
#[derive(Debug, Deserialize)]
struct Reported {
    #[serde(rename = "RuleID")]
    rule: String,
    #[serde(rename = "File")]
    file: String,
    #[serde(rename = "StartLine")]
    line: u64,
}

/// gitleaks' defaults, and the canary. Its built-in allowlists of paths have nothing to bite on in a corpus.
fn config(canary: &str) -> String {
    format!(
        "title = \"git-gate\"\n\n[extend]\nuseDefault = true\n\n[[rules]]\nid = \"{canary}\"\n\
         description = \"the end of a piece\"\nregex = '''{canary}'''\nkeywords = [\"{canary}\"]\n"
    )
}

/// Scans; an error means that not everything was looked at.
pub(super) fn scan(place: &Place, corpus: &Corpus) -> Result<BTreeSet<Hit>, String> {
    let file = |name: &str| corpus.dir().join(name);
    let write = |name: &str, text: &str| {
        std::fs::write(file(name), text).map_err(|error| format!("failed to write {name} for the scan: {error}"))
    };
    write("gitleaks.toml", &config(corpus.canary()))?;
    write("gitleaksignore", "")?;
    let mut command = process::program("gitleaks", &place.home());
    command
        .current_dir(corpus.input())
        .env("TMPDIR", file("tmp"))
        .args(["dir", "--no-banner", "--no-color", "--log-level=error", "--ignore-gitleaks-allow"])
        .arg("--config")
        .arg(file("gitleaks.toml"))
        .arg("--gitleaks-ignore-path")
        .arg(file("gitleaksignore"))
        .arg(format!("--exit-code={FOUND}"))
        .args(["--redact=100", "--max-archive-depth=8", "--max-decode-depth=8", "--report-format=json"])
        .arg(format!("--timeout={}", LIMITS.total.as_secs()))
        .arg("--report-path")
        .arg(file("report.json"))
        .arg(".");
    let output = process::run(command, None, LIMITS).map_err(|error| error.to_string())?;
    // There is always something to find: the canaries.
    if output.status.code() != Some(FOUND) {
        return Err(format!("gitleaks ended with {}: {}", output.status, last_words(&output.stderr)));
    }
    let report = std::fs::read(file("report.json")).map_err(|error| format!("gitleaks left no report: {error}"))?;
    let report: Vec<Reported> =
        serde_json::from_slice(&report).map_err(|error| format!("gitleaks' report can't be read: {error}"))?;
    let mut unseen = corpus.with_canary();
    let mut hits = BTreeSet::new();
    for reported in report {
        let piece = corpus.piece_of(&reported.file).ok_or("gitleaks reports a file that it was not given")?;
        if reported.rule == corpus.canary() {
            unseen.remove(&piece);
            continue;
        }
        let (text, line) = corpus.locate(piece, reported.line);
        hits.insert(Hit { text, rule: reported.rule, line });
    }
    if unseen.is_empty() { Ok(hits) } else { Err(format!("gitleaks did not look at {} pieces", unseen.len())) }
}
