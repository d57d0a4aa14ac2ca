//! events.jsonl: each event of a run with its time, written as it happens, and read again by the views of a record.

use std::collections::BTreeSet;
use std::path::Path;

use bottle_policy::prose::invisible;
use bottle_types::record_file::RecordFile;
use bottle_wire::access::Access;
use bottle_wire::run_record::Metadata;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};

use super::visible::without_lone_surrogates;
use super::{millis, rfc3339};
use crate::exit::Failure;
use crate::report::{EVENTS_VERSION, Phase, RunEvent, TimedEvent};
use crate::state::{self, LineFile};

/// A line of a run record's events.jsonl; `watch --json` prints the same, `run --json` its `data` alone.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EventLine {
    /// When it happened: RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time", "pattern" = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$"))]
    time: String,
    /// What happened.
    data: RunEvent,
}

/// The JSON Schema of a line, as it is written.
pub(crate) fn schema() -> serde_json::Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<EventLine>().to_value()
}

/// The file as it is written.
#[derive(Debug)]
pub(in crate::report) struct EventLog(LineFile);

impl EventLog {
    pub(in crate::report) fn new(file: LineFile) -> Self {
        Self(file)
    }

    pub(in crate::report) fn push(&mut self, event: &TimedEvent) -> Result<(), Failure> {
        self.0.push(&line(event).map_err(Failure::machine)?)
    }
}

/// The line of an event, without its end.
pub(in crate::report) fn line((at, event): &TimedEvent) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&EventLine { time: rfc3339(*at).unwrap_or_default(), data: event.clone() })
}

/// An event of one line as it is printed for programs; none: the line is not understood.
pub(crate) fn printed(line: &[u8]) -> Option<String> {
    let (at, event) = parse(line)?;
    let line = EventLine { time: rfc3339(at)?, data: event };
    inert_json(&line)
}

/// JSON in which what can't be seen, or acts on a terminal, is spelled as JSON spells it; a reader gets the same value.
pub(in crate::report) fn inert_json(value: &impl Serialize) -> Option<String> {
    let json = serde_json::to_string(value).ok()?;
    let mut inert = String::with_capacity(json.len());
    for c in json.chars() {
        if invisible(c) || c.is_control() {
            // Such a character stands in a text alone.
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| inert.push_str(&format!("\\u{unit:04x}")));
        } else {
            inert.push(c);
        }
    }
    Some(inert)
}

/// The event of one line; none: the line is not understood.
pub(in crate::report) fn parse(line: &[u8]) -> Option<TimedEvent> {
    let line = String::from_utf8_lossy(line);
    let read = |line: &str| serde_json::from_str::<EventLine>(line);
    let line = read(&line).or_else(|_| read(&without_lone_surrogates(&line))).ok()?;
    Some((millis(&line.time)?, line.data))
}

/// The events of a record, and how many lines are not understood.
#[derive(Debug)]
pub(crate) struct RecordedEvents {
    pub(crate) events: Vec<TimedEvent>,
    pub(crate) unread: usize,
    /// False: the record has no events.jsonl, as those of earlier versions. What metadata.json says stands for it.
    pub(crate) are_recorded: bool,
}

/// Reads the events of the record in `dir`; an error where metadata.json can't be read.
pub(crate) fn read(dir: &Path) -> Result<RecordedEvents, state::RowError> {
    let metadata: Metadata = state::value(dir, RecordFile::Metadata)?;
    let recorded = read_file(dir)?;
    Ok(recorded.unwrap_or_else(|| RecordedEvents {
        events: of_metadata(dir, metadata),
        unread: 0,
        are_recorded: false,
    }))
}

/// The ids of the requests that came in one part of a run; none where the record has no events.jsonl.
pub(crate) fn requests_in(phase: Phase, dir: &Path, requests: &[Access]) -> Result<BTreeSet<String>, state::RowError> {
    let Some(recorded) = read_file(dir)? else { return Ok(BTreeSet::new()) };
    let mut spans: Vec<(i64, i64)> = vec![];
    for (at, event) in &recorded.events {
        let next = match event {
            RunEvent::Phase { phase } => Some(*phase),
            RunEvent::Finished { .. } => None,
            _ => continue,
        };
        if let Some((_, end)) = spans.last_mut().filter(|(_, end)| *end == i64::MAX) {
            *end = *at;
        }
        spans.extend((next == Some(phase)).then_some((*at, i64::MAX)));
    }
    let is_in = |access: &&Access| {
        millis(&access.time).is_some_and(|time| spans.iter().any(|(from, to)| (*from..*to).contains(&time)))
    };
    Ok(requests.iter().filter(is_in).map(|access| access.id.clone()).collect())
}

/// The file; none where there is none.
fn read_file(dir: &Path) -> Result<Option<RecordedEvents>, state::RowError> {
    let bytes = match std::fs::read(dir.join(RecordFile::Events)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(state::RowError::File { file: RecordFile::Events, error }),
    };
    let mut read = RecordedEvents { events: vec![], unread: 0, are_recorded: true };
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match parse(line) {
            Some(event) => read.events.push(event),
            None => read.unread += 1,
        }
    }
    Ok(Some(read))
}

/// What metadata.json has of a run's events: its beginning and its end.
fn of_metadata(dir: &Path, metadata: Metadata) -> Vec<TimedEvent> {
    let started = RunEvent::Started {
        version: EVENTS_VERSION,
        slug: metadata.slug,
        title: metadata.title,
        record: dir.to_owned(),
        asked: None,
        job: None,
        traceparent: None,
    };
    let mut events = vec![(millis(&metadata.started).unwrap_or_default(), started)];
    if let (Some(outcome), Some(ended)) = (metadata.outcome, metadata.ended.as_deref().and_then(millis)) {
        events.push((ended, RunEvent::Finished { outcome, record: dir.to_owned() }));
    }
    events
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use bottle_plan::plan::BottlePlan;
    use bottle_testkit::needed;
    use serde_json::Value;

    use super::*;
    use crate::host::Environment;
    use crate::report::Events;
    use crate::report::model::samples;
    use crate::secrets::Secrets;
    use crate::state::RunRecord;

    #[tokio::test]
    async fn every_event_is_written_as_it_happens_and_read_again() {
        let root = tempfile::tempdir().expect("a directory");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records/v2");
        let mut plan: BottlePlan = state::value(&fixture, RecordFile::Plan).expect("a plan");
        plan.secrets.clear();
        let environment = Environment::default();
        let secrets = Secrets::read(&plan, &environment, None, |_, _| unreachable!("there is no exchange")).await;
        let record = RunRecord::create(root.path(), "s", secrets.expect("no secret")).expect("a record");
        let events = Events::new(vec![]);
        events.note("before there was a record");
        events.log_to(record.lines(RecordFile::Events).expect("a file"));
        for (_, event) in samples::approval().events {
            events.emit(event);
        }
        let logged = events.end_log();
        events.note("after the record's hash");
        let path = record.dir().join(RecordFile::Events);
        let text = std::fs::read_to_string(&path).expect("events.jsonl");
        let read: Vec<TimedEvent> = text.lines().map(|line| parse(line.as_bytes()).expect("an event")).collect();
        assert_eq!(format!("{read:?}"), format!("{logged:?}"));
        assert!(text.starts_with("{\"time\":\"") && text.contains("before there was a record"), "{text}");
        assert!(!text.contains("after the record's hash"));
        assert!(parse(b"{\"time\":\"2026-11-28T14:12:32Z\",\"data\":{\"event\":\"of-tomorrow\"}}").is_none());
        let half =
            serde_json::json!({"time": "2026-11-28T14:12:32Z", "data": {"event": "note", "text": "x"}}).to_string();
        let half = half.replace("\"x\"", "\"\\ud800\"");
        assert!(matches!(parse(half.as_bytes()), Some((_, RunEvent::Note { text })) if text == "\\ud800"));
        // A record from before the events had a version.
        let old = r#"{"time":"2026-11-28T14:12:32Z","data":{"event":"started","slug":"s","title":"t","record":"/r"}}"#;
        assert!(matches!(parse(old.as_bytes()), Some((_, RunEvent::Started { version: 1, .. }))));
    }

    #[test]
    fn a_request_belongs_to_the_part_in_which_it_came() {
        let dir = tempfile::tempdir().expect("a directory");
        let access = |second: i64| {
            Access {
            time: rfc3339(second * 1000).expect("a time"),
            id: second.to_string(),
            ..serde_json::from_value(serde_json::json!({
                "time": "", "id": "", "door": "egress", "method": "GET", "host": "a.example", "port": 443, "path": "/", "verdict": "deny",
                "status": 403, "bytes_out": 0, "bytes_in": 0, "ms": 0,
            }))
            .expect("a line of a door")
        }
        };
        let requests: Vec<Access> = (0..10).map(access).collect();
        let of = |phase| requests_in(phase, dir.path(), &requests).expect("readable").into_iter().collect::<String>();
        assert_eq!(of(Phase::Setup), "", "a record of an earlier version");
        let phases = [(0, Phase::Prepare), (2, Phase::Setup), (5, Phase::Agent), (8, Phase::Teardown)];
        let lines = phases.map(|(second, phase)| line(&(second * 1000, RunEvent::Phase { phase })).expect("a line"));
        std::fs::write(dir.path().join(RecordFile::Events), lines.join(&b'\n')).expect("events.jsonl");
        assert_eq!((of(Phase::Setup), of(Phase::Agent)), ("234".to_owned(), "567".to_owned()));
        assert_eq!(of(Phase::Teardown), "89", "a part that nothing ends");
    }

    /// What jsonschema says of the lines by the committed schema, a line for each that it does not take.
    fn faults(lines: &[String]) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        #[expect(clippy::disallowed_methods, reason = "a test has another program read the events")]
        let mut command = Command::new(needed("BOTTLE_TEST_PYTHON"));
        let command = command
            .arg(root.join("src/report/model/events_check.py"))
            .arg(root.join("schema/claude-bottle.events-v1.schema.json"));
        let mut python = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python");
        let mut input = python.stdin.take().expect("its input");
        let text = lines.join("\n");
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()).expect("it reads"));
        let output = python.wait_with_output().expect("an end");
        writer.join().expect("it is written");
        let said = bottle_testkit::said(&output);
        assert!(output.status.success(), "{said}");
        let mut told = said.lines().map(str::to_owned);
        assert_eq!(told.next(), Some(format!("{} lines", lines.len())), "{said}");
        told.collect()
    }

    /// The kinds of events that the schema has.
    fn kinds() -> BTreeSet<String> {
        let schema = schema();
        let events = schema["$defs"]["RunEvent"]["oneOf"].as_array().expect("events");
        events.iter().map(|event| event["properties"]["event"]["const"].as_str().expect("a kind").to_owned()).collect()
    }

    #[test]
    fn every_event_is_as_the_schema_and_the_types_have_it() {
        let hostile = samples::hostile(&samples::hostile_contents());
        let events: Vec<TimedEvent> = samples::all()
            .into_iter()
            .chain([samples::of_each_kind(), hostile])
            .flat_map(|sample| sample.events)
            .collect();
        let lines: Vec<String> =
            events.iter().map(|event| String::from_utf8(line(event).expect("JSON")).expect("UTF-8")).collect();
        assert_eq!(faults(&lines), [""; 0]);
        let mut seen = BTreeSet::new();
        for (line, event) in lines.iter().zip(&events) {
            assert_eq!(format!("{:?}", parse(line.as_bytes()).expect(line)), format!("{event:?}"));
            let value: Value = serde_json::from_str(line).expect("JSON");
            seen.insert(value["data"]["event"].as_str().expect("a kind").to_owned());
            let printed = printed(line.as_bytes()).expect("a line");
            assert_eq!(serde_json::from_str::<Value>(&printed).expect("JSON"), value, "the same value is printed");
            assert_eq!(crate::report::show::alive(&printed), None);
        }
        assert_eq!(seen, kinds(), "the samples have events of every kind");
        let page = include_str!("../../../docs/reference/run-record.md");
        let (_, section) = page.split_once("\n## events.jsonl\n").expect("a section");
        let rows = section
            .lines()
            .take_while(|line| !line.starts_with("## "))
            .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let told: BTreeSet<String> =
            rows.flat_map(|row| row.split(", ")).map(|kind| kind.trim_matches('`').to_owned()).collect();
        assert!(kinds().is_subset(&told), "the page has a row for each of {:?}", kinds().difference(&told));
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Cases {
        right: String,
        wrong: Vec<Change>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        set: String,
        to: Option<String>,
    }

    #[test]
    fn neither_the_schema_nor_the_types_take_a_wrong_line() {
        let cases: Cases = toml::from_str(include_str!("events.toml")).expect("cases");
        let wrong = |change: &Change| {
            let mut line: Value = serde_json::from_str(&cases.right).expect("JSON");
            let (parent, name) = change.set.rsplit_once('/').expect("a path");
            let keys = line.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
            match &change.to {
                Some(to) => drop(keys.insert(name.to_owned(), serde_json::from_str(to).expect("JSON"))),
                None => drop(keys.remove(name).expect("a value")),
            }
            line.to_string()
        };
        let lines: Vec<String> = cases.wrong.iter().map(wrong).collect();
        for (line, change) in lines.iter().zip(&cases.wrong) {
            assert!(parse(line.as_bytes()).is_none() && printed(line.as_bytes()).is_none(), "{change:?}");
        }
        let faults = faults(&[std::slice::from_ref(&cases.right), &lines].concat());
        let numbers: Vec<&str> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
        assert_eq!(numbers, (1..=lines.len()).map(|at| format!("line {at}")).collect::<Vec<_>>());
        assert!(parse(cases.right.as_bytes()).is_some());
        // The next version's first line is refused by this version's schema, and one from before there was a version, which is read.
        let next = serde_json::json!({"time": "2026-11-28T14:12:32Z", "data": {"event": "started", "version": EVENTS_VERSION + 1,
            "slug": "s", "title": "t", "record": "/r"}});
        let mut old = next.clone();
        drop(old["data"].as_object_mut().expect("an object").remove("version"));
        assert_eq!(super::tests::faults(&[next.to_string(), old.to_string()]).len(), 2);
    }
}
