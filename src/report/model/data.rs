//! The data of a run: one typed value made of the record's files and of the events with their times.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use bottle_policy::budget::Entry;
use bottle_types::reason::Reason;
use bottle_types::record_file::RecordFile;
use bottle_wire::access::{Access, AccessVerdict};
use bottle_wire::push_report::{PushVerdict, PushedRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::texts::{Text, Texts};
use super::transcript::{self, Edit, Turn};
use super::visible::without_lone_surrogates;
use crate::report::{Phase, ProposalStatus, RunEvent, TimedEvent};

/// Requests that are shown: those that did not pass and those that did.
const MAX_REFUSED: usize = 20_000;
const MAX_PASSED: usize = 30_000;
/// Pushes, proposals and calls that are shown.
const MAX_ROWS: usize = 20_000;
/// Bytes of a host, a path, a ref.
const NAME_BYTES: usize = 2000;

/// Everything that views show beside the events. Times are milliseconds of Unix time.
#[derive(Debug, Serialize)]
pub(in crate::report) struct ReportData {
    pub(in crate::report) from: i64,
    pub(in crate::report) to: i64,
    pub(in crate::report) phases: Vec<PhaseSpan>,
    pub(in crate::report) turns: Vec<Turn>,
    pub(in crate::report) edits: Vec<Edit>,
    pub(in crate::report) requests: Vec<Request>,
    pub(in crate::report) pushes: Vec<Push>,
    pub(in crate::report) proposals: Vec<AskedFor>,
    pub(in crate::report) calls: Vec<Call>,
    /// What the words of the doors mean.
    pub(in crate::report) reasons: BTreeMap<&'static str, &'static str>,
    /// What is left out, a sentence each.
    pub(in crate::report) left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(in crate::report) struct PhaseSpan {
    pub(in crate::report) name: &'static str,
    pub(in crate::report) from: i64,
    pub(in crate::report) to: i64,
}

/// A line of `egress.jsonl`.
#[derive(Debug, Serialize)]
pub(in crate::report) struct Request {
    pub(in crate::report) at: Option<i64>,
    pub(in crate::report) id: String,
    pub(in crate::report) door: String,
    pub(in crate::report) method: String,
    pub(in crate::report) host: String,
    pub(in crate::report) port: u16,
    pub(in crate::report) path: String,
    pub(in crate::report) route: Option<usize>,
    pub(in crate::report) verdict: AccessVerdict,
    pub(in crate::report) reason: String,
    pub(in crate::report) finding: String,
    /// The rule of the finding alone.
    #[serde(skip)]
    pub(in crate::report) rule: String,
    pub(in crate::report) proposal: String,
    pub(in crate::report) status: u16,
    pub(in crate::report) sent: u64,
    pub(in crate::report) received: u64,
    pub(in crate::report) first: u64,
    pub(in crate::report) ms: u64,
    pub(in crate::report) credential: String,
    pub(in crate::report) not_inspected: bool,
}

/// A line of `gate.jsonl`, with the edits since the push before.
#[derive(Debug, Serialize)]
pub(in crate::report) struct Push {
    pub(in crate::report) from: Option<i64>,
    pub(in crate::report) to: Option<i64>,
    pub(in crate::report) repo: String,
    pub(in crate::report) r#ref: String,
    pub(in crate::report) old: String,
    pub(in crate::report) new: String,
    pub(in crate::report) commits: u64,
    pub(in crate::report) objects: u64,
    pub(in crate::report) bytes: u64,
    pub(in crate::report) verdict: PushVerdict,
    pub(in crate::report) findings: Vec<FindingRow>,
    pub(in crate::report) reasons: Vec<Text>,
    pub(in crate::report) judge: u64,
    pub(in crate::report) scan: u64,
    pub(in crate::report) forward: u64,
    /// The first of its edits and the one behind the last.
    pub(in crate::report) edits: [usize; 2],
}

#[derive(Debug, Serialize)]
pub(in crate::report) struct FindingRow {
    pub(in crate::report) rule: String,
    pub(in crate::report) commit: String,
    pub(in crate::report) path: String,
    pub(in crate::report) line: Option<u64>,
    /// Of the bytes, in hex, where an exemption may name them.
    pub(in crate::report) sha256: String,
}

/// What the agent asked for, and when that was decided.
#[derive(Debug, Serialize)]
pub(in crate::report) struct AskedFor {
    pub(in crate::report) id: String,
    pub(in crate::report) what: String,
    pub(in crate::report) why: Text,
    pub(in crate::report) status: ProposalStatus,
    pub(in crate::report) by: String,
    pub(in crate::report) detail: Text,
    pub(in crate::report) from: i64,
    pub(in crate::report) to: Option<i64>,
}

/// A line of `budget.jsonl`.
#[derive(Debug, Serialize)]
pub(in crate::report) struct Call {
    /// The request's id.
    #[serde(skip)]
    pub(in crate::report) id: String,
    pub(in crate::report) at: Option<i64>,
    /// The turn that it was for, from 0.
    pub(in crate::report) turn: Option<usize>,
    pub(in crate::report) model: String,
    pub(in crate::report) input: u64,
    pub(in crate::report) cache_write: u64,
    pub(in crate::report) cache_read: u64,
    pub(in crate::report) output: u64,
    pub(in crate::report) estimated: bool,
    /// Answered from a cassette: its cost is what it would have been.
    pub(in crate::report) replayed: bool,
    pub(in crate::report) cost: Option<f64>,
}

/// Reads the record in `dir`.
pub(in crate::report) fn read(events: &[TimedEvent], dir: &Path, texts: &mut Texts<'_>) -> ReportData {
    let mut left_out = vec![];
    let transcript = transcript::read(&bytes(dir, RecordFile::Transcript, &mut left_out), texts);
    more(&mut left_out, transcript.left_out, "events of the agent's", RecordFile::Transcript);
    read_with(events, dir, texts, transcript, left_out)
}

/// What the doors of a run that goes on have written so far, before the record's mask. [`read_live`] takes the calls to the model from it, and
/// nothing else.
#[derive(Debug, Default)]
pub(crate) struct LiveLogs {
    /// Both doors' lines of requests.
    pub(crate) access: Vec<u8>,
    pub(crate) budget: Vec<u8>,
}

/// Reads the record of a run that goes on: the calls to the model are those that its doors have counted by now.
pub(in crate::report) fn read_live(
    events: &[TimedEvent],
    dir: &Path,
    texts: &mut Texts<'_>,
    logs: &LiveLogs,
) -> ReportData {
    let mut data = read(events, dir, texts);
    if data.calls.is_empty() {
        // As the record will have them.
        let (mut access, _) = parsed::<Access>(&logs.access);
        access.sort_by(|one, other| one.time.cmp(&other.time));
        let (mut entries, _) = parsed::<Entry>(&logs.budget);
        entries.truncate(MAX_ROWS);
        data.calls = calls(entries, &access, &data.turns, texts);
    }
    data
}

/// Reads the record in `dir` but for its transcript, the largest of its files: nothing of what the agent said and did is in it.
pub(in crate::report) fn read_logs(events: &[TimedEvent], dir: &Path, texts: &mut Texts<'_>) -> ReportData {
    let transcript = transcript::read(&[], texts);
    read_with(events, dir, texts, transcript, vec![])
}

fn read_with(
    events: &[TimedEvent],
    dir: &Path,
    texts: &mut Texts<'_>,
    transcript: transcript::Transcript,
    mut left_out: Vec<String>,
) -> ReportData {
    let access: Vec<Access> = lines(dir, RecordFile::Egress, &mut left_out);
    let mut pushed: Vec<PushedRef> = lines(dir, RecordFile::Pushes, &mut left_out);
    cap(&mut pushed, "pushes", RecordFile::Pushes, &mut left_out);
    let mut entries: Vec<Entry> = lines(dir, RecordFile::Budget, &mut left_out);
    cap(&mut entries, "calls to the model", RecordFile::Budget, &mut left_out);
    let mut proposals = proposals(events, texts);
    cap(&mut proposals, "proposals", RecordFile::Proposals, &mut left_out);
    let calls = calls(entries, &access, &transcript.turns, texts);
    let pushes = pushes(pushed, &transcript.edits, texts);
    let requests = requests(access, texts, &mut left_out);
    let (from, to) = (events.first().map_or(0, |event| event.0), events.last().map_or(0, |event| event.0));
    ReportData {
        from,
        to,
        phases: phases(events, to),
        turns: transcript.turns,
        edits: transcript.edits,
        requests,
        pushes,
        proposals,
        calls,
        reasons: Reason::ALL.iter().map(|reason| (reason.as_str(), reason.meaning())).collect(),
        left_out,
    }
}

/// A file's bytes; a file that is not there is empty, one that can't be read is said to be left out.
fn bytes(dir: &Path, file: RecordFile, left_out: &mut Vec<String>) -> Vec<u8> {
    match std::fs::read(dir.join(file)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![],
        Err(error) => {
            left_out.push(format!("{file} is left out, as it could not be read: {error}."));
            vec![]
        }
    }
}

/// The lines of a file; those that are not understood are counted.
fn lines<T: DeserializeOwned>(dir: &Path, file: RecordFile, left_out: &mut Vec<String>) -> Vec<T> {
    let (rows, unread) = parsed(&bytes(dir, file, left_out));
    more(left_out, unread, "lines that are not understood", file);
    rows
}

/// Lines of JSON, and how many are not understood.
fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> (Vec<T>, usize) {
    let mut unread = 0;
    let mut rows = vec![];
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = String::from_utf8_lossy(line);
        match serde_json::from_str(&line).or_else(|_| serde_json::from_str(&without_lone_surrogates(&line))) {
            Ok(row) => rows.push(row),
            Err(_) => unread += 1,
        }
    }
    (rows, unread)
}

fn more(left_out: &mut Vec<String>, count: usize, what: &str, file: RecordFile) {
    if count > 0 {
        left_out.push(format!("{count} {what} are left out: {file} has them."));
    }
}

fn cap<T>(rows: &mut Vec<T>, what: &str, file: RecordFile, left_out: &mut Vec<String>) {
    more(left_out, rows.len().saturating_sub(MAX_ROWS), what, file);
    rows.truncate(MAX_ROWS);
}

fn phases(events: &[TimedEvent], end: i64) -> Vec<PhaseSpan> {
    let mut spans: Vec<PhaseSpan> = vec![];
    for (at, event) in events {
        let RunEvent::Phase { phase } = event else { continue };
        if let Some(last) = spans.last_mut() {
            last.to = *at;
        }
        spans.push(PhaseSpan { name: Phase::name(*phase), from: *at, to: end });
    }
    spans
}

fn proposals(events: &[TimedEvent], texts: &mut Texts<'_>) -> Vec<AskedFor> {
    let mut rows: Vec<AskedFor> = vec![];
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (at, event) in events {
        let RunEvent::Proposal { id, what, standing, by, detail } = event else { continue };
        let Some(row) = known.get(id.as_str()).and_then(|row| rows.get_mut(*row)) else {
            known.insert(id, rows.len());
            rows.push(AskedFor {
                id: texts.short(id, 20),
                what: texts.short(what, NAME_BYTES),
                why: texts.long(detail, NAME_BYTES),
                status: *standing,
                by: String::new(),
                detail: texts.long("", 0),
                from: *at,
                to: None,
            });
            continue;
        };
        row.status = *standing;
        // That its time is up says less than who gave it, and when.
        if *standing != ProposalStatus::Ended {
            row.by = texts.short(by.as_deref().unwrap_or_default(), NAME_BYTES);
            row.detail = texts.long(detail, NAME_BYTES);
            row.to = Some(*at);
        }
    }
    rows
}

/// Each call with its time, by the request's id, and the first turn behind it.
fn calls(entries: Vec<Entry>, access: &[Access], turns: &[Turn], texts: &Texts<'_>) -> Vec<Call> {
    let times: HashMap<&str, i64> =
        access.iter().filter_map(|line| Some((line.id.as_str(), super::millis(&line.time)?))).collect();
    let replayed: HashSet<&str> =
        access.iter().filter(|line| line.verdict == AccessVerdict::Replay).map(|line| line.id.as_str()).collect();
    let mut begun: Vec<(i64, usize)> = turns
        .iter()
        .enumerate()
        .filter(|(_, turn)| turn.is_the_models())
        .filter_map(|(at, turn)| Some((turn.from?, at)))
        .collect();
    begun.sort_unstable();
    let rows = entries.into_iter().map(|entry| {
        let at = times.get(entry.id.as_str()).copied();
        let behind = |at: i64| begun.get(begun.partition_point(|(from, _)| *from < at)).map(|(_, turn)| *turn);
        Call {
            id: texts.short(&entry.id, NAME_BYTES),
            at,
            turn: at.and_then(behind),
            model: texts.short(&entry.model, 200),
            input: entry.tokens.input,
            cache_write: entry.tokens.cache_write.saturating_add(entry.tokens.cache_write_hour),
            cache_read: entry.tokens.cache_read,
            output: entry.tokens.output,
            estimated: entry.estimated,
            replayed: replayed.contains(entry.id.as_str()),
            cost: entry.cost_usd,
        }
    });
    rows.collect()
}

fn pushes(pushed: Vec<PushedRef>, edits: &[Edit], texts: &mut Texts<'_>) -> Vec<Push> {
    let mut first = 0;
    let rows = pushed.into_iter().map(|push| {
        let to = super::millis(&push.time);
        let took = i64::try_from(push.ms.total).unwrap_or(0);
        let from = to.map(|to| to.saturating_sub(took));
        let behind = edits.iter().position(|edit| edit.at > from).unwrap_or(edits.len()).max(first);
        let edits = [std::mem::replace(&mut first, behind), behind];
        let findings = push.findings.iter().take(1000).map(|finding| FindingRow {
            rule: texts.short(&finding.rule.to_string(), NAME_BYTES),
            commit: finding.commit.as_ref().map(ToString::to_string).unwrap_or_default(),
            path: texts.short(&finding.path, NAME_BYTES),
            line: finding.line,
            sha256: texts.short(finding.sha256.as_deref().unwrap_or_default(), NAME_BYTES),
        });
        Push {
            findings: findings.collect(),
            from,
            to,
            repo: texts.short(push.repo.as_str(), NAME_BYTES),
            r#ref: texts.short(&push.r#ref, NAME_BYTES),
            old: push.old.to_string(),
            new: push.new.to_string(),
            commits: push.commits,
            objects: push.objects,
            bytes: push.bytes,
            verdict: push.verdict,
            reasons: push.reasons.iter().take(1000).map(|reason| texts.long(reason, NAME_BYTES)).collect(),
            judge: push.ms.judge,
            scan: push.ms.scan,
            forward: push.ms.forward,
            edits,
        }
    });
    rows.collect()
}

/// As many as there is room for; one that did not pass is not left out for those that did.
fn requests(access: Vec<Access>, texts: &Texts<'_>, left_out: &mut Vec<String>) -> Vec<Request> {
    let (mut refused, mut passed) = (0, 0);
    let mut rows = vec![];
    for line in access {
        let has_passed = matches!(line.verdict, AccessVerdict::Allow | AccessVerdict::Replay);
        let (count, most) = if has_passed { (&mut passed, MAX_PASSED) } else { (&mut refused, MAX_REFUSED) };
        *count += 1;
        if *count <= most {
            rows.push(request(&line, texts));
        }
    }
    more(left_out, refused.saturating_sub(MAX_REFUSED), "requests that did not pass", RecordFile::Egress);
    more(left_out, passed.saturating_sub(MAX_PASSED), "requests that passed", RecordFile::Egress);
    rows
}

fn request(line: &Access, texts: &Texts<'_>) -> Request {
    let short = |text: &str| texts.short(text, NAME_BYTES);
    Request {
        at: super::millis(&line.time),
        id: short(&line.id),
        door: line.door.name().to_owned(),
        method: short(&line.method),
        host: short(&line.host),
        port: line.port,
        path: short(&line.path),
        route: line.route,
        verdict: line.verdict,
        reason: short(line.reason.as_deref().unwrap_or_default()),
        finding: line
            .finding
            .as_ref()
            .map(|found| short(&format!("{} in {}", found.rule, found.at)))
            .unwrap_or_default(),
        rule: line.finding.as_ref().map(|found| short(&found.rule.to_string())).unwrap_or_default(),
        proposal: line.proposal.map(|id| id.to_string()).unwrap_or_default(),
        status: line.status,
        sent: line.bytes_out,
        received: line.bytes_in,
        first: line.first_ms,
        ms: line.ms,
        credential: short(line.credential.as_deref().unwrap_or_default()),
        not_inspected: line.not_inspected,
    }
}
