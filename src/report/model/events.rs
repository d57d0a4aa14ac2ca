//! events.jsonl: each event of a run with its time, written as it happens, and read again by the views of a record.

use std::collections::BTreeSet;
use std::path::Path;

use bottle_types::record_file::RecordFile;
use bottle_wire::access::Access;
use bottle_wire::run_record::Metadata;
use serde::{Deserialize, Serialize};

use super::visible::without_lone_surrogates;
use super::{millis, rfc3339};
use crate::exit::Failure;
use crate::report::{Phase, RunEvent, TimedEvent};
use crate::state::{self, LineFile};

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct EventLine {
    /// When it happened: RFC 3339, UTC, milliseconds.
    time: String,
    data: RunEvent,
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
    use bottle_plan::plan::BottlePlan;

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
}
