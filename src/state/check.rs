//! Checks that a run record is complete, and that its files tell one story.

use std::fs;
use std::path::Path;

use bottle_plan::moment::Moment;
use bottle_plan::plan::BottlePlan;
use bottle_types::record_file::RecordFile;
use bottle_wire::cassette::Cassette;
use bottle_wire::proposal::change::Texts;
use bottle_wire::proposal::verify::{ProposalCounts, verify};
use bottle_wire::proposal::{PolicyFile, ProposalId, sha256};
use bottle_wire::push_report::PushedRef;
use bottle_wire::receipt::{Receipt, ReceiptStep};
use bottle_wire::run_record::Metadata;
use quick_xml::events::Event;
use serde::de::DeserializeOwned;

use crate::exit::Code;

/// The findings of a check.
#[derive(Debug, Default)]
pub(crate) struct CheckReport {
    pub(crate) slug: String,
    /// Files that were looked into.
    pub(crate) files: usize,
    pub(crate) proposals: ProposalCounts,
    /// The problems, each beginning with its file.
    pub(crate) problems: Vec<String>,
}

/// Files of every record.
const ALWAYS: [RecordFile; 8] = [
    RecordFile::Plan,
    RecordFile::Routes,
    RecordFile::Pipelock,
    RecordFile::Gate,
    RecordFile::Junit,
    RecordFile::Summary,
    RecordFile::Report,
    RecordFile::Metadata,
];
/// Files of every record whose bottle came up.
const LAUNCHED: [RecordFile; 5] =
    [RecordFile::Egress, RecordFile::Pushes, RecordFile::Proposals, RecordFile::Cassette, RecordFile::DoorLog];

/// The files that a plan's backend renders: name and text.
type Rendered = fn(&BottlePlan) -> Vec<(RecordFile, String)>;

/// Checks a record; `None` where the directory holds none. `rendered` gives the files that the record's backend has written.
pub(crate) fn check(dir: &Path, rendered: Rendered) -> Option<CheckReport> {
    if !dir.join(RecordFile::Metadata).is_file() {
        return None;
    }
    let mut check = Check { dir, rendered, found: CheckReport::default() };
    check.all();
    Some(check.found)
}

struct Check<'a> {
    dir: &'a Path,
    rendered: Rendered,
    found: CheckReport,
}

impl Check<'_> {
    fn problem(&mut self, file: impl std::fmt::Display, what: impl std::fmt::Display) {
        self.found.problems.push(format!("{file}: {what}"));
    }

    /// A file's text; a missing one is a problem.
    fn text(&mut self, file: RecordFile) -> Option<String> {
        match fs::read(self.dir.join(file)) {
            Ok(bytes) => {
                self.found.files += 1;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            Err(error) => {
                self.problem(file, error);
                None
            }
        }
    }

    fn json<T: DeserializeOwned>(&mut self, file: RecordFile) -> Option<T> {
        let text = self.text(file)?;
        serde_json::from_str(&text).map_err(|error| self.problem(file, error)).ok()
    }

    fn all(&mut self) {
        let metadata = self.json::<Metadata>(RecordFile::Metadata);
        let plan = self.json::<BottlePlan>(RecordFile::Plan);
        self.leftovers();
        if let Some(metadata) = &metadata {
            self.found.slug.clone_from(&metadata.slug);
            self.metadata(metadata);
        }
        let ended = metadata.as_ref().and_then(|metadata| metadata.outcome.as_ref());
        let code = ended.map(|outcome| outcome.code);
        // Of some of these nothing was started, such as for a pull request that was closed while the run waited.
        let unlaunched = [Code::Input, Code::Refused, Code::Machine, Code::Interrupted, Code::Terminated];
        // Too little was left of the repository's budget, where the limit is none of the run's own.
        let got_no_reservation = ended.is_some_and(|outcome| {
            outcome.code == Code::Limit && outcome.session_id.is_none() && outcome.turns.is_none()
        }) && plan.as_ref().is_some_and(|plan| plan.budget.is_some());
        let launched = !got_no_reservation && code.is_none_or(|code| !unlaunched.contains(&code));
        for file in ALWAYS.iter().chain(LAUNCHED.iter().filter(|_| launched)) {
            if !self.dir.join(file).is_file() {
                self.problem(file, "is missing");
            }
        }
        if ended.is_some_and(|outcome| outcome.session_id.is_some() || outcome.turns.is_some())
            && !self.dir.join(RecordFile::Transcript).is_file()
        {
            self.problem(RecordFile::Transcript, "is missing, and the agent has run");
        }
        for file in [RecordFile::Events, RecordFile::Transcript, RecordFile::Egress, RecordFile::WouldDo] {
            self.lines(file);
        }
        self.receipts();
        self.cassette();
        self.junit(launched);
        self.pages(&metadata);
        if let (Some(metadata), Some(plan)) = (&metadata, &plan) {
            self.plan(metadata, plan);
            self.pushes(metadata);
        }
        if let Some(plan) = &plan {
            self.proposals(plan, launched, metadata.as_ref().and_then(|metadata| metadata.proposals_sha256.as_deref()));
        }
    }

    /// Looks for files that a run takes away when it ends in good order.
    fn leftovers(&mut self) {
        let Ok(entries) = fs::read_dir(self.dir) else { return };
        let mut names: Vec<String> =
            entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        for name in names {
            if name == RecordFile::Lock.name() {
                self.problem(
                    RecordFile::Lock,
                    "is still there: the run goes on, or ended before its record was complete",
                );
            } else if name.ends_with(".partial") {
                self.problem(&name, "was not written to its end");
            }
        }
    }

    fn metadata(&mut self, metadata: &Metadata) {
        let file = RecordFile::Metadata;
        if metadata.schema != 1 {
            self.problem(file, format_args!("version {} is not one that this program knows (1)", metadata.schema));
        }
        if metadata.outcome.is_none() {
            return self.problem(file, "has no outcome: the run goes on, or ended before its record was complete");
        }
        let ended = metadata.ended.as_deref().and_then(Moment::parse);
        if ended.is_none() || ended < Moment::parse(&metadata.started) {
            self.problem(file, "the run has no end, or one before its beginning");
        }
    }

    /// Compares what stands in two files.
    fn plan(&mut self, metadata: &Metadata, plan: &BottlePlan) {
        let same = [
            ("the slug", metadata.slug == plan.slug.as_str()),
            ("the backend", metadata.backend == plan.backend),
            ("the project's name", metadata.compose_project == plan.names.project),
            ("the beginning", metadata.started == plan.started_at),
            ("`dry_run`", metadata.dry_run == plan.dry_run),
            ("the title", metadata.title == plan.task.title()),
        ];
        for (what, _) in same.iter().filter(|(_, same)| !same) {
            self.problem(RecordFile::Plan, format_args!("{what} is another than in metadata.json"));
        }
        // Another version renders the same plan its own way.
        if metadata.runner != env!("CARGO_PKG_VERSION") {
            return;
        }
        for (file, rendered) in (self.rendered)(plan) {
            if self.text(file).is_some_and(|text| text != rendered) {
                self.problem(file, "is not what the plan renders");
            }
        }
    }

    /// Every line is a JSON object, and the last one is whole. A file that need not be there may be missing.
    fn lines(&mut self, file: RecordFile) {
        if !self.dir.join(file).is_file() {
            return;
        }
        let Some(text) = self.text(file) else { return };
        if !text.is_empty() && !text.ends_with('\n') {
            self.problem(file, "its last line is cut short");
        }
        let bad = text
            .lines()
            .position(|line| !serde_json::from_str(line).is_ok_and(|value: serde_json::Value| value.is_object()));
        if let Some(at) = bad {
            self.problem(file, format_args!("line {} is no JSON object", at + 1));
        }
    }

    /// Each output was begun before it was done, and came to one end.
    fn receipts(&mut self) {
        self.lines(RecordFile::Outputs);
        let Ok(bytes) = fs::read(self.dir.join(RecordFile::Outputs)) else { return };
        let mut begun: Vec<(ProposalId, bool)> = vec![];
        for (at, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            let Ok(receipt) = serde_json::from_str::<Receipt>(line) else {
                self.problem(RecordFile::Outputs, format_args!("line {} is no receipt", at + 1));
                continue;
            };
            let before = begun.iter_mut().find(|(id, _)| *id == receipt.id);
            let fits = match (&receipt.step, before) {
                (ReceiptStep::Begun { .. } | ReceiptStep::Refused { .. }, None) => {
                    begun.push((receipt.id, matches!(receipt.step, ReceiptStep::Refused { .. })));
                    true
                }
                (ReceiptStep::Begun { .. }, Some(_)) | (_, None) => false,
                (_, Some((_, ended))) => !std::mem::replace(ended, true),
            };
            if !fits {
                let what = format!("line {}: {} does not fit to what comes before it", at + 1, receipt.id);
                self.problem(RecordFile::Outputs, what);
            }
        }
    }

    fn cassette(&mut self) {
        if !self.dir.join(RecordFile::Cassette).is_file() {
            return;
        }
        if let Some(text) = self.text(RecordFile::Cassette).filter(|text| !text.trim().is_empty())
            && let Err(error) = Cassette::parse(&text)
        {
            self.problem(RecordFile::Cassette, error);
        }
    }

    /// The branch of the outcome went through the gate, at that commit.
    fn pushes(&mut self, metadata: &Metadata) {
        if !self.dir.join(RecordFile::Pushes).is_file() {
            return;
        }
        let Some(text) = self.text(RecordFile::Pushes) else { return };
        let pushes: Vec<Option<PushedRef>> = text.lines().map(|line| serde_json::from_str(line).ok()).collect();
        if let Some(at) = pushes.iter().position(Option::is_none) {
            self.problem(RecordFile::Pushes, format_args!("line {} is no push", at + 1));
        }
        let Some(outcome) = &metadata.outcome else { return };
        let (Some(branch), Some(commit)) = (&outcome.branch, &outcome.commit) else { return };
        // Upstream may have had it before: then nothing was pushed.
        let mut of_it = pushes.iter().flatten().filter(|push| push.is_of(branch)).peekable();
        if of_it.peek().is_some() && !of_it.any(|push| push.new == *commit && push.verdict.has_passed()) {
            self.problem(
                RecordFile::Pushes,
                format_args!("{branch} at {commit}, which metadata.json names, did not go through the gate"),
            );
        }
    }

    /// XML to its end, with as many cases as it says.
    fn junit(&mut self, launched: bool) {
        if !self.dir.join(RecordFile::Junit).is_file() {
            return;
        }
        let Some(text) = self.text(RecordFile::Junit) else { return };
        let mut reader = quick_xml::Reader::from_str(&text);
        let (mut declared, mut cases, mut depth) = (0_usize, 0_usize, 0_i64);
        loop {
            let event = match reader.read_event() {
                Ok(event) => event,
                Err(error) => return self.problem(RecordFile::Junit, error),
            };
            depth += match &event {
                Event::Start(_) => 1,
                Event::End(_) => -1,
                _ => 0,
            };
            match &event {
                Event::Eof => break,
                Event::Start(tag) | Event::Empty(tag) => match tag.name().as_ref() {
                    b"testsuite" => {
                        let tests = tag.try_get_attribute("tests").ok().flatten();
                        declared += tests
                            .and_then(|tests| std::str::from_utf8(&tests.value).ok()?.parse::<usize>().ok())
                            .unwrap_or(0);
                    }
                    b"testcase" => cases += 1,
                    _ => {}
                },
                _ => {}
            }
        }
        if depth != 0 {
            self.problem(RecordFile::Junit, "ends in the middle");
        }
        // A run that was cancelled at once has come to nothing that could be a case.
        if declared != cases || launched && cases == 0 {
            self.problem(RecordFile::Junit, format_args!("says {declared} cases and has {cases}"));
        }
    }

    /// Checks that the pages for people are about this run and this end.
    fn pages(&mut self, metadata: &Option<Metadata>) {
        for file in [RecordFile::Summary, RecordFile::Report] {
            if !self.dir.join(file).is_file() {
                continue;
            }
            let (Some(text), Some(metadata)) = (self.text(file), metadata) else { continue };
            let code = metadata.outcome.as_ref().map(|outcome| format!("(exit code {})", outcome.code));
            if !text.contains(&metadata.slug) || code.is_some_and(|code| !text.contains(&code)) {
                self.problem(file, "is not about this run and its end");
            }
        }
    }

    /// The chain, each decision and each policy; the policies at the end are those of the record.
    fn proposals(&mut self, plan: &BottlePlan, launched: bool, recorded: Option<&str>) {
        if !self.dir.join(RecordFile::Proposals).is_file() {
            return;
        }
        let Some(text) = self.text(RecordFile::Proposals) else { return };
        // A bundle that never came up has written nothing.
        if text.is_empty() && !launched {
            return;
        }
        if recorded != Some(sha256(&text).as_str()) {
            self.problem(RecordFile::Proposals, "is not the one that the run ended with, by metadata.json");
        }
        let rendered = bottle_plan::render::policy_files(plan);
        let named = |name: &str| PolicyFile::ALL.into_iter().find(|file| file.name() == name);
        let first: Texts = rendered.into_iter().filter_map(|(name, text)| Some((named(name)?, text))).collect();
        let last: Texts =
            PolicyFile::ALL.into_iter().filter_map(|file| Some((file, self.text(file.record_file())?))).collect();
        match verify(plan.slug.as_str(), &text, &first, &last) {
            Ok(verified) => self.found.proposals = verified,
            Err(error) => self.problem(RecordFile::Proposals, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use bottle_wire::cassette::Player;
    use bottle_wire::proposal::record::Chain;

    use super::*;

    #[test]
    fn the_records_of_earlier_versions_hold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records");
        let dirs = fs::read_dir(&root).expect("the records").map(|entry| entry.expect("an entry").path());
        let mut dirs: Vec<_> = dirs.filter(|path| path.is_dir()).collect();
        dirs.sort();
        let earlier: Vec<_> = (1..bottle_wire::VERSION).map(|version| root.join(format!("v{version}"))).collect();
        assert_eq!(dirs, earlier, "one record for each earlier version of the wire");
        for dir in dirs {
            let found = check(&dir, |_| vec![]).expect("a record");
            assert!(found.problems.is_empty(), "{}: {:?}", dir.display(), found.problems);
            let read = |name: &str| fs::read_to_string(dir.join(name)).expect(name);
            let plan: BottlePlan = serde_json::from_str(&read("plan.json")).expect("a plan");
            assert_eq!(plan.slug.as_str(), found.slug);
            // Written as they were read: an approval is bound to the bytes of a request, the chain to those of a line.
            let text = read("proposals.jsonl");
            let (records, _) = Chain::read(&found.slug, &text).expect("a chain");
            let mut chain = Chain::new(&found.slug);
            for (record, line) in records.into_iter().zip(text.split_inclusive('\n')) {
                let (_, written, next) = chain.append(record.time, record.event);
                assert_eq!(written, line);
                chain = next;
            }
            same_lines::<PushedRef>(&read("gate.jsonl"));
            same_lines::<bottle_wire::access::Access>(&read("egress.jsonl"));
            same_lines::<bottle_policy::budget::Entry>(&read("budget.jsonl"));
            let metadata = serde_json::from_str::<Metadata>(&read("metadata.json")).expect("metadata");
            let written = serde_json::to_string_pretty(&metadata).expect("JSON");
            assert_eq!(written.trim_end(), read("metadata.json").trim_end());
        }
    }

    fn same_lines<T: DeserializeOwned + serde::Serialize>(text: &str) {
        assert!(!text.is_empty());
        for line in text.lines() {
            let parsed: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(serde_json::to_string(&parsed).expect("JSON"), line);
        }
    }

    #[test]
    fn the_cassettes_of_earlier_versions_play() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let read = |path: &str| fs::read_to_string(fixtures.join(path)).expect(path);
        let by_hand = Cassette::parse(&read("cassettes/v1.yml")).expect("a cassette");
        let recorded = Cassette::parse(&read("records/v1/cassette.jsonl")).expect("a cassette");
        assert_eq!(by_hand.turns.len(), recorded.turns.len());
        let (mut one, mut other) = (Player::new(by_hand), Player::new(recorded.clone()));
        for (at, turn) in recorded.turns.iter().enumerate() {
            let after = turn.after.expect("a recorded turn says so");
            let hash = turn.request_sha256.as_deref().expect("a recorded turn has the hash of its request");
            let (index, played) = other.next(after, hash).expect("a turn");
            assert_eq!((index, played), (at, turn));
            let (index, played) = one.next(after, hash).expect("a turn");
            assert_eq!((index, played.blocks(index), played.stop_reason()), (at, turn.blocks(at), turn.stop_reason()));
        }
    }
}
