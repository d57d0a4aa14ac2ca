//! Run records for the tests of the views, each with the events that its run had.

use std::fmt::Write as _;
use std::path::Path;

use bottle_types::git::ObjectId;
use bottle_types::record_file::RecordFile;
use bottle_wire::run_record::{Outcome, PullRequestLink};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::exit::Code;
use crate::report::{BranchPush, Case, EVENTS_VERSION, Phase, ProposalStatus, RunEvent, RunView, Suite, TimedEvent};

/// When all samples begin: 2026-11-28T14:12:32Z.
const START: i64 = 1_795_875_152_000;
const REF: &str = "refs/heads/bottle/issue-7";

/// A record that grows with a clock of its own.
pub(crate) struct Sample {
    pub(crate) dir: TempDir,
    pub(crate) events: Vec<TimedEvent>,
    files: [(RecordFile, String); 4],
    now: i64,
    turns: usize,
}

const TRANSCRIPT: usize = 0;
const EGRESS: usize = 1;
const PUSHES: usize = 2;
const BUDGET: usize = 3;

impl Sample {
    pub(crate) fn new(title: &str) -> Self {
        let files = [RecordFile::Transcript, RecordFile::Egress, RecordFile::Pushes, RecordFile::Budget];
        let mut sample = Self {
            dir: TempDir::new().expect("a directory"),
            events: vec![],
            files: files.map(|file| (file, String::new())),
            now: START,
            turns: 0,
        };
        sample.event(RunEvent::Started {
            version: EVENTS_VERSION,
            slug: "issue-7-words-653db91b".to_owned(),
            title: title.to_owned(),
            record: "/r".into(),
            asked: Some("asked by octo-maintainer in issue #7".to_owned()),
            job: Some("https://github.com/octo-org/textstats/actions/runs/1".to_owned()),
            traceparent: None,
        });
        for phase in [Phase::Prepare, Phase::Launch, Phase::Provision, Phase::Seal] {
            sample.event(RunEvent::Phase { phase });
            sample.now += 420;
        }
        for way in ["dns", "tcp.gateway", "udp", "raw", "docker.socket"] {
            sample.event(RunEvent::Case { case: Case::passed(Suite::Seal, way, std::time::Duration::from_millis(12)) });
        }
        sample.event(RunEvent::Phase { phase: Phase::Agent });
        sample
    }

    pub(crate) fn event(&mut self, event: RunEvent) {
        self.events.push((self.now, event));
    }

    fn line(&mut self, file: usize, value: &Value) {
        let _ = writeln!(self.files[file].1, "{value}");
    }

    fn time(&self) -> String {
        let time = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.now) * 1_000_000).expect("a time");
        time.format(&time::format_description::well_known::Rfc3339).expect("a time")
    }

    /// A call to the model, and what it said.
    pub(crate) fn turn(&mut self, words: &str) {
        self.turns += 1;
        self.request("POST", "api.anthropic.com", "/v1/messages", "allow", None);
        let id = format!("r{}", self.files[EGRESS].1.lines().count());
        let tokens = json!({"input": 800 + self.turns * 37 % 900, "cache_write": 300, "cache_write_hour": 0, "cache_read": 9000 + self.turns * 211, "output": 60 + self.turns * 53 % 500});
        self.line(BUDGET, &json!({"id": id, "model": "claude-opus-5-5", "tokens": tokens, "cost_usd": 0.01 + 0.0007 * (self.turns % 9) as f64}));
        self.message(&json!({"type": "text", "text": words}));
        self.event(RunEvent::Said { text: words.to_owned() });
    }

    fn message(&mut self, block: &Value) {
        self.now += 180;
        let message = json!({"id": format!("msg_{}", self.turns), "model": "claude-opus-5-5", "content": [block]});
        let line =
            json!({"type": "assistant", "message": message, "parent_tool_use_id": null, "timestamp": self.time()});
        self.line(TRANSCRIPT, &line);
    }

    /// A use of a tool; `result` is what Claude Code tells beside the output.
    pub(crate) fn tool(&mut self, name: &str, input: &Value, output: &str, result: &Value, failed: bool) {
        let id = format!("toolu_{}", self.files[TRANSCRIPT].1.len());
        self.message(&json!({"type": "tool_use", "id": id, "name": name, "input": input}));
        self.now += 640;
        let content = json!([{"type": "tool_result", "tool_use_id": id, "content": output, "is_error": failed}]);
        let line = json!({"type": "user", "message": {"content": content}, "tool_use_result": result, "timestamp": self.time()});
        self.line(TRANSCRIPT, &line);
    }

    pub(crate) fn request(&mut self, method: &str, host: &str, path: &str, verdict: &str, reason: Option<&str>) {
        self.now += 150;
        let id = format!("r{}", self.files[EGRESS].1.lines().count() + 1);
        let mut line = json!({"time": self.time(), "id": id, "door": "egress", "method": method, "host": host, "port": 443, "path": path,
            "verdict": verdict, "status": if reason.is_some() { 403 } else { 200 }, "bytes_out": 5300, "bytes_in": 1457, "first_ms": 90, "ms": 410});
        match reason {
            Some(reason) => {
                line["reason"] = reason.into();
                self.event(RunEvent::Refused {
                    door: "egress".to_owned(),
                    what: format!("{method} {host}{path}: {reason}"),
                });
            }
            None => (line["route"], line["credential"]) = (0.into(), "ANTHROPIC_API_KEY".into()),
        }
        self.line(EGRESS, &line);
        self.now += 410;
    }

    pub(crate) fn push(&mut self, r#ref: &str, verdict: &str, findings: &Value, reasons: &[&str]) {
        self.now += 2100;
        let line = json!({"time": self.time(), "repo": "origin", "ref": r#ref, "old": "0".repeat(40), "new": "35692de6a330d0995f8776f3261b85fd139532ba",
            "commits": 1, "objects": 4, "bytes": 1033, "findings": findings, "verdict": verdict, "reasons": reasons,
            "ms": {"judge": 160, "scan": 900, "forward": 550, "total": 1650}});
        self.line(PUSHES, &line);
    }

    pub(crate) fn proposal(&mut self, id: &str, what: &str, standing: ProposalStatus, by: Option<&str>, detail: &str) {
        self.now += 5000;
        self.event(RunEvent::Proposal {
            id: id.to_owned(),
            what: what.to_owned(),
            standing,
            by: by.map(str::to_owned),
            detail: detail.to_owned(),
        });
    }

    pub(crate) fn verified(&mut self, failure: Option<&str>, output: &str) {
        self.event(RunEvent::Phase { phase: Phase::Verify });
        self.now += 800;
        let case = Case::passed(Suite::Verify, "python3 -m unittest", std::time::Duration::from_millis(800));
        let case = Case { failure: failure.map(str::to_owned), output: output.to_owned(), ..case };
        self.event(RunEvent::Case { case });
    }

    /// Ends the run and writes the files.
    pub(crate) fn end(mut self, code: Code, summary: &str) -> Self {
        for phase in [Phase::Push, Phase::Collect, Phase::Teardown] {
            self.event(RunEvent::Phase { phase });
            self.now += 300;
        }
        let outcome = Outcome {
            code,
            summary: summary.to_owned(),
            turns: Some(self.turns as u64),
            cost_usd: Some(0.0123),
            branch: Some("bottle/issue-7".to_owned()),
            ..Outcome::default()
        };
        self.event(RunEvent::Finished { outcome, record: "/r".into() });
        for (file, text) in &self.files {
            std::fs::write(self.dir.path().join(file), text).expect("a file");
        }
        let plan = fixture().join("plan.json");
        std::fs::copy(plan, self.dir.path().join(RecordFile::Plan)).expect("a plan");
        self
    }

    /// Writes more at the end of a file.
    pub(crate) fn append(&self, file: RecordFile, bytes: &[u8]) {
        let path = self.dir.path().join(file);
        let old = std::fs::read(&path).unwrap_or_default();
        std::fs::write(path, [&old, bytes].concat()).expect("a file");
    }

    /// The run as `show` reads it, out of files alone.
    pub(crate) fn view(&self) -> RunView {
        let events: Vec<u8> = self
            .events
            .iter()
            .flat_map(|event| [super::events::line(event).expect("JSON"), b"\n".to_vec()].concat())
            .collect();
        std::fs::write(self.dir.path().join(RecordFile::Events), events).expect("events.jsonl");
        std::fs::copy(fixture().join("metadata.json"), self.dir.path().join(RecordFile::Metadata)).expect("metadata");
        RunView::open(self.dir.path()).expect("a record")
    }

    pub(crate) fn page(&self) -> String {
        crate::report::html(&self.events, self.dir.path(), &str::to_owned)
    }
}

/// The record of a run in bubblewrap, as the runner wrote it.
fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records/v2")
}

/// A real run: a test is made to pass; the first push has a key in it, the second goes through.
pub(crate) fn success() -> Sample {
    let mut sample = Sample::new("Words followed by punctuation are counted wrong");
    sample.now += 13_000;
    sample.event(RunEvent::Said { text: "Words are now found by what they are made of.".to_owned() });
    sample.event(RunEvent::Refused {
        door: "git-gate".to_owned(),
        what: format!("{REF}: aws-access-token at deploy.toml:2"),
    });
    sample.verified(None, "...\nRan 3 tests in 0.001s\n\nOK");
    let sample = sample.end(Code::Done, "pushed bottle/issue-7 at 35692de6a330");
    for entry in fixture().read_dir().expect("the record") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), sample.dir.path().join(entry.file_name())).expect("a copy");
    }
    sample
}

/// The file that is written has a finding in its second line, and the push never passes.
pub(crate) fn refused_push() -> Sample {
    let mut sample = Sample::new("Deploy to the second region");
    sample.turn("I write the settings of the second region.");
    let content = "region = \"eu-west-1\"\naccess_key = \"***\"\nretries = 3\n";
    let result =
        json!({"type": "create", "filePath": "/workspace/app/deploy.toml", "content": content, "structuredPatch": []});
    sample.tool(
        "Write",
        &json!({"file_path": "/workspace/app/deploy.toml", "content": content}),
        "File created",
        &result,
        false,
    );
    let patch = json!({"filePath": "/workspace/app/main.py", "structuredPatch": [{"oldStart": 3, "oldLines": 4, "newStart": 3, "newLines": 5,
        "lines": [" def main():", "-    region = \"us-east-1\"", "+    settings = load(\"deploy.toml\")", "+    region = settings[\"region\"]", "     start(region)", " "]}]});
    sample.tool("Edit", &json!({"file_path": "/workspace/app/main.py"}), "updated", &patch, false);
    let findings = json!([{"rule": "aws-access-token", "commit": "950ee9816232ba528f00a0fb3eb3881f443aabd4", "path": "deploy.toml", "line": 2}]);
    sample.push(REF, "refused", &findings, &[]);
    let output = "remote: refused: aws-access-token at deploy.toml:2\n! [remote rejected] HEAD (refused)";
    sample.tool("Bash", &json!({"command": "git push origin HEAD"}), output, &Value::Null, true);
    sample.turn("The gate finds a key in deploy.toml. I can't do this without it.");
    sample.event(RunEvent::Refused {
        door: "git-gate".to_owned(),
        what: format!("{REF}: aws-access-token at deploy.toml:2"),
    });
    sample.verified(Some("ended with 1"), "FAIL: test_region\nAssertionError: 'eu-west-1' != 'eu-west-2'\nRan 3 tests");
    sample.end(Code::Gate, "the gate refused the push: aws-access-token at deploy.toml:2")
}

pub(crate) fn denied_route() -> Sample {
    let mut sample = Sample::new("Use the latest version of the parser");
    sample.turn("I look up the latest version.");
    for path in ["/simple/parser/", "/pypi/parser/json"] {
        sample.request("GET", "pypi.org", path, "deny", Some("no_route"));
    }
    sample.request("POST", "paste.example", "/new", "block", Some("dlp"));
    sample.tool("Bash", &json!({"command": "pip index versions parser"}), "ERROR: 403 no_route", &Value::Null, true);
    sample.turn("No route leads to PyPI, so the version stays.");
    sample.end(Code::Task, "the agent gave up: no route to pypi.org")
}

pub(crate) fn approval() -> Sample {
    let mut sample = Sample::new("Read the price list");
    sample.turn("I need the list of prices and ask for the route.");
    sample.proposal(
        "P1",
        "GET https://prices.example /list.json",
        ProposalStatus::Asked,
        None,
        "the list is there and nowhere else",
    );
    sample.proposal("P2", "POST https://prices.example /**", ProposalStatus::Asked, None, "to write prices back");
    sample.proposal(
        "P1",
        "GET https://prices.example /list.json",
        ProposalStatus::Approved,
        Some("octo-maintainer"),
        "for this run",
    );
    sample.proposal(
        "P2",
        "POST https://prices.example /**",
        ProposalStatus::Denied,
        Some("octo-maintainer"),
        "reading is enough",
    );
    sample.request("GET", "prices.example", "/list.json", "allow", None);
    let diff = "--- a/claude-bottle.yml\n+++ b/claude-bottle.yml\n@@ -4,3 +4,4 @@\n   routes:\n+    - { host: prices.example, methods: [GET], paths: [/list.json] }\n";
    sample.event(RunEvent::Offer { diff: diff.to_owned() });
    sample.push(REF, "accepted", &json!([]), &[]);
    sample.verified(None, "OK");
    sample.end(Code::Done, "pushed bottle/issue-7 at 35692de6a330")
}

/// The bottle died: the transcript ends in the middle of a line, and there are no logs of the doors.
pub(crate) fn crash() -> Sample {
    let mut sample = Sample::new("Rewrite the index in place");
    sample.turn("I begin with the largest file.");
    sample.message(
        &json!({"type": "tool_use", "id": "toolu_last", "name": "Bash", "input": {"command": "./rewrite --all"}}),
    );
    sample.event(RunEvent::Warning { text: "the sandbox ended with signal 9 while the agent was at work".to_owned() });
    let sample = sample.end(Code::Machine, "the bottle died: the guest ended with signal 9");
    sample.append(RecordFile::Transcript, b"{\"type\":\"user\",\"message\":{\"content\":[{\"type\":\"tool_res");
    for file in [RecordFile::Egress, RecordFile::Pushes] {
        std::fs::remove_file(sample.dir.path().join(file)).expect("a file");
    }
    sample
}

/// So many turns, each with an output of so many bytes that looks like a build's.
pub(crate) fn large(turns: usize, bytes: usize) -> Sample {
    let mut sample = Sample::new("Port the whole tree to the new build");
    let mut state = 7u64;
    for turn in 0..turns {
        sample.turn(&format!("Step {turn}: I build module {} and look at its warnings.", turn * 7 % 61));
        let mut output = String::with_capacity(bytes + 200);
        while output.len() < bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let _ = writeln!(
                output,
                "[{:>6}] CC src/mod_{}/unit_{:08x}.o  -O2 -Wall  {} warnings",
                output.len(),
                state % 61,
                state >> 32,
                state % 3
            );
        }
        sample.tool(
            "Bash",
            &json!({"command": format!("make -C mod_{} V=1", turn * 7 % 61)}),
            &output,
            &Value::Null,
            turn % 17 == 3,
        );
        if turn % 5 == 0 {
            sample.request("GET", "registry.example", &format!("/pkg/{turn}"), "allow", None);
        }
        if turn % 40 == 7 {
            sample.request("GET", "tracker.example", &format!("/hit/{turn}"), "deny", Some("no_route"));
        }
    }
    sample.push(REF, "accepted", &json!([]), &[]);
    sample.verified(None, "OK");
    sample.end(Code::Done, "pushed bottle/issue-7 at 35692de6a330")
}

/// A run that has an event of every kind.
pub(crate) fn of_each_kind() -> Sample {
    let mut sample = Sample::new("Count words");
    let commit = |digit: &str| ObjectId::parse(&digit.repeat(40)).expect("an id");
    sample.event(RunEvent::Note { text: "waiting for issue #7".to_owned() });
    sample.event(RunEvent::Tool { name: "Bash".to_owned(), input: "python3 -m unittest".to_owned() });
    sample.event(RunEvent::Progress { text: "half done".to_owned() });
    let report = json!({"path": "report.tap", "tests": 2, "failed": 1, "skipped": 0});
    sample.event(RunEvent::TestReport { report: serde_json::from_value(report).expect("counts") });
    let case = Case::passed(Suite::Verify, "make check", std::time::Duration::from_millis(12));
    let case = Case { attempt: Some(2), note: Some("on the commit that is pushed".to_owned()), ..case };
    sample.event(RunEvent::Case { case });
    sample.turn("I ask.");
    sample.proposal("P1", "a question: May I?", ProposalStatus::Asked, None, "");
    sample.proposal("P1", "a question: May I?", ProposalStatus::TimedOut, None, "nobody answered");
    sample.request("GET", "a.example", "/", "deny", Some("no_route"));
    sample.event(RunEvent::Warning { text: "the lease was renewed late".to_owned() });
    sample.event(RunEvent::Offer { diff: "--- a\n+++ b\n".to_owned() });
    let push = BranchPush {
        run: "issue-7-words-653db91b".to_owned(),
        agent: "implementer".to_owned(),
        branch: "bottle/issue-7".to_owned(),
        from: commit("0"),
        to: commit("a"),
    };
    sample.event(RunEvent::Pushed { push, undone: false });
    let url = "https://github.com/octo-org/textstats/pull/8".to_owned();
    sample.event(RunEvent::PullRequest { number: 8, url: url.clone(), opened: true, draft: false });
    let mut sample = sample.end(Code::Done, "pushed bottle/issue-7");
    let Some((_, RunEvent::Finished { outcome, .. })) = sample.events.last_mut() else { unreachable!("it has ended") };
    outcome.pull_request = Some(PullRequestLink { number: 8, url });
    outcome.commit = Some(commit("a"));
    outcome.session_id = Some("0b5bd4c6-5a9c-4f0a-8f24-1b7e3a9c2d11".to_owned());
    sample
}

/// A run of each kind.
pub(crate) fn all() -> [Sample; 6] {
    [success(), refused_push(), denied_route(), approval(), crash(), large(40, 2_000)]
}

/// The word in a sample's lines that a hostile content takes the place of.
pub(crate) const MARK: &str = "THE-CONTENT";

/// A record that has each of the contents, given as JSON texts, in every field that others write.
pub(crate) fn hostile(contents: &[String]) -> Sample {
    let plain: Vec<String> = contents.iter().map(|json| text_of(json)).collect();
    let mut sample = Sample::new(&plain.join(" | "));
    let mut lines = [const { String::new() }; 4];
    for (content, json) in plain.iter().zip(contents) {
        sample.turn(MARK);
        sample.events.pop();
        sample.event(RunEvent::Said { text: content.clone() });
        sample.event(RunEvent::Progress { text: content.clone() });
        sample.event(RunEvent::Tool { name: content.clone(), input: content.clone() });
        let result = json!({"filePath": MARK, "structuredPatch": [{"oldStart": 1, "oldLines": 1, "newStart": 1, "newLines": 1, "lines": [MARK]}]});
        sample.tool(MARK, &json!({"command": MARK, "more": {"deep": MARK}}), MARK, &result, true);
        sample.line(TRANSCRIPT, &json!({"type": "user", "message": {"content": MARK}}));
        sample.request(MARK, MARK, MARK, "deny", Some(MARK));
        sample.events.pop();
        sample.event(RunEvent::Refused { door: "egress".to_owned(), what: content.clone() });
        let id = sample.files[EGRESS].1.lines().count();
        sample.line(EGRESS, &json!({"time": sample.time(), "id": format!("f{id}"), "door": "pipelock", "method": "GET", "host": "a.example", "port": 80, "path": "/",
            "verdict": "block", "reason": "dlp", "finding": {"rule": MARK, "at": "body", "offset": 1}, "credential": MARK, "status": 0, "bytes_out": 1, "bytes_in": 0, "ms": 1}));
        sample.push(MARK, "refused", &json!([{"rule": MARK, "path": MARK, "line": 1}]), &[MARK]);
        sample.proposal(&format!("P{id}"), content, ProposalStatus::Asked, None, content);
        sample.proposal(&format!("P{id}"), content, ProposalStatus::Denied, Some(content), content);
        sample.event(RunEvent::Warning { text: content.clone() });
        sample.event(RunEvent::Offer { diff: content.clone() });
        let case = Case::passed(Suite::Verify, content.as_str(), std::time::Duration::ZERO);
        sample.event(RunEvent::Case {
            case: Case { failure: Some(content.clone()), output: content.clone(), note: Some(content.clone()), ..case },
        });
        for ((_, text), into) in sample.files.iter_mut().zip(&mut lines) {
            into.push_str(&std::mem::take(text).replace(&format!("\"{MARK}\""), json));
        }
    }
    for ((_, text), from) in sample.files.iter_mut().zip(lines) {
        *text = from;
    }
    sample.end(Code::Task, &plain.join(" | "))
}

/// The text of a JSON text, as far as it is one: half a pair of surrogates is none.
pub(crate) fn text_of(json: &str) -> String {
    serde_json::from_str(&super::visible::without_lone_surrogates(json)).expect("a JSON text")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hostile {
    contents: Vec<Content>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default)]
    text: String,
    json: Option<String>,
    times: Option<usize>,
}

/// The contents of `hostile.toml` as JSON texts.
pub(crate) fn hostile_contents() -> Vec<String> {
    let hostile: Hostile = toml::from_str(include_str!("hostile.toml")).expect("the contents");
    let json = |content: Content| {
        content
            .json
            .unwrap_or_else(|| serde_json::to_string(&content.text.repeat(content.times.unwrap_or(1))).expect("JSON"))
    };
    hostile.contents.into_iter().map(json).collect()
}
