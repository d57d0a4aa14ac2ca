//! A record that somebody has changed: `verify-record` says what and where.

use std::path::Path;

use bottle_testkit::{said, sh};

use super::stage::Stage;
use crate::place::{Place, here};

/// What is done to which file, and what is said of it; the record has one route that was approved by a comment.
const CHANGES: [(&str, Change, &str); 23] = [
    ("proposals.jsonl", Change::Replace("5550108", "5550109"), "does not carry the hash of what comes before it"),
    ("proposals.jsonl", Change::Replace("\"approve\"", "{\"deny\":{\"why\":\"x\"}}"), "does not"),
    ("proposals.jsonl", Change::DropLine(1), "does not carry the hash of what comes before it"),
    ("proposals.jsonl", Change::DropLast, "is not the one that the run ended with"),
    ("proposals.jsonl", Change::Append("{\"half\""), "cut short"),
    ("proposals.jsonl", Change::Write(""), "line 1: nothing is recorded"),
    ("proposals.jsonl", Change::Remove, "is missing"),
    ("routes.yaml", Change::Replace("files.bottle.test", "other.bottle.test"), "the record leads to"),
    ("gate.yaml", Change::Append("# more\n"), "the record leads to"),
    ("pipelock.yaml", Change::Remove, "is missing"),
    ("metadata.json", Change::Replace("\"code\": 0", "\"code\": 1"), "is not about this run and its end"),
    ("metadata.json", Change::Replace("\"code\": 0", "\"code\": 77"), "is no exit code"),
    ("metadata.json", Change::Replace("\"schema\": 1", "\"schema\": 2"), "version 2"),
    ("metadata.json", Change::Digit("\"commit\": \""), "did not go through the gate"),
    ("metadata.json", Change::Replace("\"commit\": \"", "\"commit\": \"0"), "is not an object id"),
    ("plan.json", Change::Replace("\"dry_run\": false", "\"dry_run\": true"), "`dry_run` is another"),
    ("plan.json", Change::Write("{"), "EOF"),
    ("docker-compose.yml", Change::Append("# more\n"), "is not what the plan renders"),
    ("transcript.jsonl", Change::Append("{\"half\": "), "its last line is cut short"),
    ("egress.jsonl", Change::Append("not JSON\n"), "is no JSON object"),
    ("cassette.jsonl", Change::Append("not JSON\n"), "cassette.jsonl: "),
    ("junit.xml", Change::Replace("</testsuites>", ""), "ends in the middle"),
    ("report.html", Change::Remove, "is missing"),
];

enum Change {
    Replace(&'static str, &'static str),
    /// Another digit behind this text.
    Digit(&'static str),
    Append(&'static str),
    Write(&'static str),
    DropLine(usize),
    DropLast,
    Remove,
}

impl Change {
    #[track_caller]
    fn make(&self, path: &Path) {
        let text = std::fs::read_to_string(path).expect("a file");
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let changed = match self {
            Self::Replace(from, to) => text.replacen(from, to, 1),
            Self::Digit(behind) => {
                let (before, rest) = text.split_once(behind).expect("the text");
                let digit = if rest.starts_with('0') { '1' } else { '0' };
                format!("{before}{behind}{digit}{}", &rest[1..])
            }
            Self::Append(more) => format!("{text}{more}"),
            Self::Write(text) => (*text).to_owned(),
            Self::DropLine(at) => lines.iter().enumerate().filter(|(n, _)| n != at).map(|(_, line)| *line).collect(),
            Self::DropLast => lines[..lines.len() - 1].concat(),
            Self::Remove => return std::fs::remove_file(path).expect("removed"),
        };
        assert_ne!(changed, text, "{}: nothing was changed", path.display());
        std::fs::write(path, changed).expect("written");
    }
}

/// Changes copies of a record that holds, one thing each.
pub(super) fn every_change_of_the_record_shows(stage: &Stage) {
    let record = stage.job.world.record().display().to_string();
    let mut unseen = vec![];
    for (at, (file, change, says)) in CHANGES.iter().enumerate() {
        if *file == "docker-compose.yml" && here() != Place::Docker {
            continue;
        }
        let copy = stage.job.world.path(&format!("copy-{at}"));
        sh(&["cp", "-R", &record, &copy.display().to_string()]);
        change.make(&copy.join(file));
        let output = stage.runner(&["verify-record", &copy.display().to_string()]);
        let said = said(&output);
        if output.status.code() != Some(1) || !said.contains(says) || !said.contains("does not hold") {
            unseen.push(format!("{file} ({at}), which should say `{says}`: {said}"));
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
    let output = stage.runner(&["verify-record", &stage.job.world.path("home").display().to_string()]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}
