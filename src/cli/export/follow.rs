//! Sends a run's trace as far as it is over, again and again while the run goes on, and the rest of it at the end.
//!
//! The record is the queue: what a collector has not taken is read from it once more. The run itself writes its record as ever, and has
//! nothing to do with the collector. Of what the doors write, which no mask is over yet, the numbers of tokens are taken alone; requests
//! and pushes come from the record, that is at the end.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::collector::{Collector, NotTaken};
use crate::backend;
use crate::cli::watch::door_logs;
use crate::exit::Failure;
use crate::host;
use crate::report::{LiveLogs, RunView};
use crate::state::{self, RowError};

/// How often the run is looked at, at the most; looking takes a twentieth of the time, however long its record is.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_SHARE: u32 = 20;
/// How long ago something must have ended to be sent: what belongs to it is written by then.
const SETTLED_MILLIS: i64 = 2_000;
/// Spans of one request.
const BATCH: usize = 512;

/// Why a trace could not be followed.
#[derive(Debug)]
pub(super) enum FollowError {
    Record(RowError),
    Send(Failure),
}

impl FollowError {
    pub(super) fn failure(self, unreadable: impl FnOnce(RowError) -> Failure) -> Failure {
        match self {
            Self::Record(error) => unreadable(error),
            Self::Send(failure) => failure,
        }
    }
}

/// A run, and what of its trace the collector has.
pub(super) struct Follower<'a> {
    dir: PathBuf,
    resource: Vec<(String, String)>,
    collector: &'a Collector,
    /// The hash of each span that was taken, by its id.
    taken: HashMap<Vec<u8>, u64>,
    /// Spans that the collector did not want.
    rejected: u64,
}

impl<'a> Follower<'a> {
    pub(super) fn new(dir: &Path, resource: Vec<(String, String)>, collector: &'a Collector) -> Self {
        Self { dir: dir.to_owned(), resource, collector, taken: HashMap::new(), rejected: 0 }
    }

    /// How many spans the collector has.
    pub(super) fn sent(&self) -> usize {
        self.taken.len()
    }

    /// Sends what is over, until the run is.
    pub(super) async fn follow(&mut self) -> Result<(), FollowError> {
        // A record that is none is told at once, and not taken for one that is about to be written.
        RunView::open_live(&self.dir, &LiveLogs::default()).map_err(FollowError::Record)?;
        let (mut not_before, mut failed) = (Instant::now(), 0_u32);
        while state::is_live(&self.dir) {
            let began = Instant::now();
            if began >= not_before {
                let logs = self.counted().await;
                match self.look(logs).await {
                    Ok(()) => failed = 0,
                    Err(NotTaken::Refused { why }) => return Err(FollowError::Send(self.collector.failure(&why))),
                    Err(NotTaken::Retry { why, wait }) => {
                        if failed == 0 {
                            let to = self.collector.shown();
                            tracing::warn!("{to} takes no spans: {why}; they are sent again until the run ends");
                        }
                        failed = failed.saturating_add(1);
                        not_before = Instant::now() + wait.unwrap_or(LOOK * 2_u32.pow(failed.min(4)));
                    }
                }
            }
            tokio::time::sleep(LOOK.max(began.elapsed() * LOOK_SHARE)).await;
        }
        Ok(())
    }

    /// What the run's doors have counted by now.
    async fn counted(&self) -> LiveLogs {
        // A bottle that is not up yet, or gone already, has counted nothing.
        let Ok(bottle) = backend::attach(&self.dir).await else { return LiveLogs::default() };
        let [egress, pipelock, budget] = door_logs(bottle.as_ref()).await;
        LiveLogs { access: [egress, pipelock].concat(), budget }
    }

    /// Sends what was over when the doors had counted this.
    async fn look(&mut self, logs: LiveLogs) -> Result<(), NotTaken> {
        let now = i64::try_from(host::unix_millis()).unwrap_or(i64::MAX);
        // A file that is being written anew is read the next time.
        let Ok(view) = RunView::open_live(&self.dir, &logs) else { return Ok(()) };
        let trace = view.trace_until(&self.resource, now - SETTLED_MILLIS);
        for batch in self.batches(trace) {
            let rejected = self.collector.post(&batch).await?;
            self.take(&batch, rejected);
        }
        Ok(())
    }

    /// Sends what the collector has not, of the record as it is.
    pub(super) async fn finish(&mut self) -> Result<(), FollowError> {
        let trace = RunView::open(&self.dir).map_err(FollowError::Record)?.trace(&self.resource);
        for batch in self.batches(trace) {
            let rejected = self.collector.send(&batch).await.map_err(FollowError::Send)?;
            self.take(&batch, rejected);
        }
        match self.rejected {
            0 => Ok(()),
            spans => Err(FollowError::Send(self.collector.failure(&format!("it did not take {spans} spans")))),
        }
    }

    /// The spans of a trace that the collector does not have as they are, in requests of a bounded size.
    fn batches(&self, mut trace: ExportTraceServiceRequest) -> Vec<ExportTraceServiceRequest> {
        let scopes = trace.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans);
        let mut spans: Vec<Span> = scopes.flat_map(|scope| std::mem::take(&mut scope.spans)).collect();
        spans.retain(|span| self.taken.get(&span.span_id) != Some(&hash(span)));
        let request = |spans: &[Span]| {
            let mut request = trace.clone();
            let mut scopes = request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans);
            if let Some(scope) = scopes.next() {
                scope.spans = spans.to_vec();
            }
            request
        };
        spans.chunks(BATCH).map(request).collect()
    }

    fn take(&mut self, batch: &ExportTraceServiceRequest, rejected: u64) {
        self.rejected = self.rejected.saturating_add(rejected);
        let scopes = batch.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        self.taken.extend(scopes.flat_map(|scope| &scope.spans).map(|span| (span.span_id.clone(), hash(span))));
    }
}

fn hash(span: &Span) -> u64 {
    let mut hasher = DefaultHasher::new();
    span.encode_to_vec().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use bottle_types::record_file::RecordFile;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use rustix::fs::{FlockOperation, flock};
    use tempfile::TempDir;

    use super::*;
    use crate::host::Environment;

    const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    /// A collector that gives these answers one after the other, then takes everything; and what it took, span by span.
    fn collector(answers: &[&'static str]) -> (String, Arc<Mutex<Vec<Span>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let taken = Arc::new(Mutex::new(vec![]));
        let (kept, answers) = (Arc::clone(&taken), answers.to_vec());
        std::thread::spawn(move || {
            let mut answers = answers.into_iter();
            for connection in listener.incoming() {
                let mut connection = connection.expect("a connection");
                let body = body(&mut connection);
                let answer = answers.next().unwrap_or(TAKEN);
                if answer == TAKEN {
                    let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("a trace");
                    kept.lock().expect("no thread has panicked").extend(spans(&request));
                }
                connection.write_all(answer.as_bytes()).expect("an answer");
            }
        });
        (address, taken)
    }

    fn body(connection: &mut TcpStream) -> Vec<u8> {
        let (mut came, mut piece) = (vec![], [0; 4096]);
        loop {
            if let Some(end) = came.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&came[..end]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
                if came.len() == end + 4 + length.parse::<usize>().expect("a number") {
                    return came.split_off(end + 4);
                }
            }
            let read = connection.read(&mut piece).expect("the request");
            came.extend_from_slice(&piece[..read]);
        }
    }

    fn spans(trace: &ExportTraceServiceRequest) -> Vec<Span> {
        trace.resource_spans.iter().flat_map(|all| &all.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    fn environment(address: &str) -> Environment {
        let mut environment = Environment::default();
        environment.set("OTEL_EXPORTER_OTLP_ENDPOINT", address.to_owned());
        environment.set("OTEL_EXPORTER_OTLP_TIMEOUT", "200".to_owned());
        environment
    }

    /// A run that goes on, of which the fixture's is what it will have been.
    struct LiveRecord {
        dir: TempDir,
        lock: Option<File>,
    }

    impl LiveRecord {
        fn fixture(file: RecordFile) -> Vec<u8> {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records/v2");
            std::fs::read(dir.join(file)).expect("a file of the fixture")
        }

        fn new() -> Self {
            let dir = TempDir::new().expect("a directory");
            let lock = File::create(dir.path().join(RecordFile::Lock)).expect("a lock");
            flock(&lock, FlockOperation::LockExclusive).expect("the lock");
            let record = Self { dir, lock: Some(lock) };
            let metadata = String::from_utf8(Self::fixture(RecordFile::Metadata)).expect("UTF-8");
            let mut metadata: serde_json::Value = serde_json::from_str(&metadata).expect("JSON");
            metadata.as_object_mut().expect("an object").retain(|key, _| !matches!(key.as_str(), "outcome" | "ended"));
            record.write(RecordFile::Metadata, metadata.to_string().as_bytes());
            record.write(RecordFile::Plan, &Self::fixture(RecordFile::Plan));
            record.event(
                "14:12:32.000",
                serde_json::json!({"event": "started", "version": 1, "slug": "s", "title": "t", "record": "/r"}),
            );
            for (time, phase) in [("14:12:32.100", "prepare"), ("14:12:33.000", "launch"), ("14:12:34.000", "agent")] {
                record.event(time, serde_json::json!({"event": "phase", "phase": phase}));
            }
            record
        }

        fn write(&self, file: RecordFile, bytes: &[u8]) {
            let path = self.dir.path().join(file);
            let before = std::fs::read(&path).unwrap_or_default();
            std::fs::write(path, [&before, bytes].concat()).expect("a file");
        }

        fn event(&self, time: &str, data: serde_json::Value) {
            let line = serde_json::json!({"time": format!("2026-11-28T{time}Z"), "data": data});
            self.write(RecordFile::Events, format!("{line}\n").as_bytes());
        }

        /// The record gets what it has at a run's end.
        fn end(&mut self) {
            for (time, phase) in [("14:12:48.000", "collect"), ("14:12:49.000", "teardown")] {
                self.event(time, serde_json::json!({"event": "phase", "phase": phase}));
            }
            for file in [RecordFile::Egress, RecordFile::Budget, RecordFile::Pushes] {
                self.write(file, &Self::fixture(file));
            }
            let outcome = serde_json::json!({"code": 0, "summary": "pushed"});
            self.event("14:12:50.000", serde_json::json!({"event": "finished", "outcome": outcome, "record": "/r"}));
            self.lock = None;
        }
    }

    /// What the doors have counted, with a text that the record's mask would take out.
    fn logs() -> LiveLogs {
        let access = String::from_utf8(LiveRecord::fixture(RecordFile::Egress)).expect("UTF-8");
        let access = access.replace("\"path\":\"/", "\"path\":\"/not-masked-yet").into_bytes();
        LiveLogs { access, budget: LiveRecord::fixture(RecordFile::Budget) }
    }

    fn number(span: &Span, name: &str) -> i64 {
        let value = span.attributes.iter().find(|attribute| attribute.key == name).and_then(|one| one.value.clone());
        match value.and_then(|value| value.value) {
            Some(Value::IntValue(number)) => number,
            _ => 0,
        }
    }

    #[tokio::test]
    async fn a_run_that_goes_on_is_sent_span_by_span_and_is_the_trace_of_its_record() {
        let unavailable =
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let (address, taken) = collector(&[unavailable]);
        let collector = Collector::new(&environment(&address)).expect("a collector");
        let mut record = LiveRecord::new();
        let mut follower = Follower::new(record.dir.path(), vec![], &collector);
        let transcript = LiveRecord::fixture(RecordFile::Transcript);
        let half = transcript.len() / 2
            + transcript[transcript.len() / 2..].iter().position(|b| *b == b'\n').expect("a line")
            + 1;
        record.write(RecordFile::Transcript, &transcript[..half]);

        let first = follower.look(logs()).await.expect_err("it is not there yet");
        assert!(
            matches!(first, NotTaken::Retry { wait: Some(wait), .. } if wait == Duration::from_secs(7)),
            "{first:?}"
        );
        follower.look(logs()).await.expect("it is taken");
        let live = taken.lock().expect("no thread has panicked").clone();
        let of = |name: &str| live.iter().filter(|span| span.name.starts_with(name)).count();
        assert!(of("chat ") >= 2 && of("execute_tool ") >= 2 && of("phase ") == 2, "{live:#?}");
        assert!(
            live.iter()
                .filter(|span| span.name.starts_with("chat "))
                .all(|span| number(span, "gen_ai.usage.output_tokens") > 0)
        );
        assert_eq!((of("run"), of("POST"), of("git push")), (0, 0, 0), "what is not over, and what is not masked");
        assert!(!format!("{live:?}").contains("not-masked-yet"));

        record.write(RecordFile::Transcript, &transcript[half..]);
        record.end();
        follower.finish().await.expect("it is taken");
        let all = taken.lock().expect("no thread has panicked").clone();
        let whole = spans(&RunView::open(record.dir.path()).expect("a record").trace(&[]));
        let by_id = |spans: &[Span]| -> HashMap<Vec<u8>, Span> {
            spans.iter().map(|span| (span.span_id.clone(), span.clone())).collect()
        };
        assert_eq!(by_id(&all), by_id(&whole), "the last word about each span is the record's");
        assert_eq!(all.len(), whole.len(), "nothing was sent twice");
        assert_eq!(follower.sent(), whole.len());
        let ids: HashSet<&[u8]> = all.iter().map(|span| span.span_id.as_slice()).collect();
        let roots: Vec<&Span> = all.iter().filter(|span| !ids.contains(span.parent_span_id.as_slice())).collect();
        assert_eq!(roots.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["run"], "one tree");
        let paid = String::from_utf8(LiveRecord::fixture(RecordFile::Budget)).expect("UTF-8");
        let paid =
            paid.lines().map(|line| serde_json::from_str::<bottle_policy::budget::Entry>(line).expect("an entry"));
        let paid: u64 = paid.map(|entry| entry.tokens.all()).sum();
        let sum = |name: &str| all.iter().map(|span| number(span, name)).sum::<i64>();
        assert_eq!(sum("gen_ai.usage.input_tokens") + sum("gen_ai.usage.output_tokens"), paid as i64);

        follower.finish().await.expect("there is nothing left");
        assert_eq!(taken.lock().expect("no thread has panicked").len(), whole.len());
    }

    #[tokio::test]
    async fn a_collector_that_never_answers_holds_nothing_up() {
        // It takes connections, and that is all.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let collector =
            Collector::new(&environment(&address)).expect("a collector").with_backoff(Duration::from_millis(1));
        let mut record = LiveRecord::new();
        record.write(RecordFile::Transcript, &LiveRecord::fixture(RecordFile::Transcript));
        let mut follower = Follower::new(record.dir.path(), vec![], &collector);
        let began = Instant::now();
        let (followed, ()) = tokio::join!(follower.follow(), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            record.end();
        });
        followed.expect("the run has ended");
        let failure = follower.finish().await.expect_err("nothing is taken").failure(|error| panic!("{error}"));
        let words = format!("failed to send the trace to {address}/v1/traces: ");
        assert!(failure.what.starts_with(&words) && failure.what.ends_with(", 5 times"), "{failure}");
        assert_eq!((failure.code, follower.sent()), (crate::exit::Code::Machine, 0));
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        drop(listener);
    }

    #[tokio::test]
    async fn spans_that_a_collector_does_not_want_are_counted_at_the_end() {
        let (address, taken) = collector(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 40\r\nconnection: close\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"3\"}}",
        ]);
        let mut given = environment(&address);
        given.set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json".to_owned());
        let collector = Collector::new(&given).expect("a collector");
        let mut record = LiveRecord::new();
        record.end();
        let mut follower = Follower::new(record.dir.path(), vec![], &collector);
        let failure = follower.finish().await.expect_err("not all were taken").failure(|error| panic!("{error}"));
        assert!(failure.what.ends_with(": it did not take 3 spans"), "{failure}");
        assert!(taken.lock().expect("no thread has panicked").is_empty(), "it was asked once");
    }

    #[tokio::test]
    async fn a_record_that_is_none_is_told() {
        let (address, _) = collector(&[]);
        let collector = Collector::new(&environment(&address)).expect("a collector");
        let dir = TempDir::new().expect("a directory");
        let error = Follower::new(dir.path(), vec![], &collector).follow().await.expect_err("no record");
        assert!(matches!(error, FollowError::Record(_)), "{error:?}");
    }
}
