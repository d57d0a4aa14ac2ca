//! Where a trace is sent, by the variables that every OTLP exporter takes, and how: each answer as the protocol's specification has it.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use percent_encoding::percent_decode_str;
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;

use crate::exit::Failure;
use crate::forge::answer::{explain, retry_after};
use crate::forge::tls;
use crate::host::Environment;

/// How long a collector has to answer, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise.
const TIMEOUT_MILLIS: u64 = 10_000;
/// Where a collector listens if nothing says otherwise, by the specification of the OTLP exporter.
const ENDPOINT: &str = "http://localhost:4318";
/// How often one request is made before the collector counts as gone, and the wait after the first, which doubles.
const ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait that a collector may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Attributes of who exports: OTEL_RESOURCE_ATTRIBUTES, and OTEL_SERVICE_NAME, which goes before it.
pub(super) fn resource(environment: &Environment) -> Result<Vec<(String, String)>, Failure> {
    let mut attributes = pairs(environment, "OTEL_RESOURCE_ATTRIBUTES")?;
    if let Some(name) = environment.get("OTEL_SERVICE_NAME") {
        attributes.retain(|(key, _)| key != "service.name");
        attributes.push(("service.name".to_owned(), name.to_owned()));
    }
    Ok(attributes)
}

/// A list such as `a=1,b=2`, whose values are percent-encoded.
fn pairs(environment: &Environment, name: &str) -> Result<Vec<(String, String)>, Failure> {
    let list = environment.get(name).unwrap_or_default();
    let pair = |pair: &str| {
        let decoded = pair.split_once('=').and_then(|(key, value)| {
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            Some((key.trim().to_owned(), value.into_owned()))
        });
        // Without the list's text: a header may be a credential.
        decoded.filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            Failure::input(format_args!("{name} is no list of NAME=VALUE")).hint("such as a=1,b=2, percent-encoded")
        })
    };
    list.split(',').filter(|pair| !pair.trim().is_empty()).map(pair).collect()
}

/// Where a trace is sent.
#[derive(Debug)]
pub(super) struct Collector {
    url: Url,
    headers: HeaderMap,
    is_json: bool,
    client: Client,
    backoff: Duration,
}

/// Why spans were not taken.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// They may be sent again, once so much time is over.
    Retry { why: String, wait: Option<Duration> },
    /// They may not.
    Refused { why: String },
}

impl Collector {
    pub(super) fn new(environment: &Environment) -> Result<Self, Failure> {
        // What is said about traces goes before what is said about everything.
        let named = |name: &str| {
            let of_traces = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
            match environment.get(&of_traces) {
                Some(_) => of_traces,
                None => format!("OTEL_EXPORTER_OTLP_{name}"),
            }
        };
        let is_json = match environment.get(&named("PROTOCOL")) {
            None | Some("http/protobuf") => false,
            Some("http/json") => true,
            Some(other) => {
                return Err(Failure::input(format_args!("{} is `{other}`", named("PROTOCOL")))
                    .hint("a trace is sent by http/protobuf or http/json; most collectors take them at port 4318"));
            }
        };
        let text = match environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            Some(whole) => whole.to_owned(),
            None => {
                let base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap_or(ENDPOINT);
                format!("{}/v1/traces", base.trim_end_matches('/'))
            }
        };
        let url = Url::parse(&text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
        });
        let url = url.ok_or_else(|| {
            Failure::input(format_args!("{} is no address of http or https", named("ENDPOINT")))
                .hint("a credential goes into OTEL_EXPORTER_OTLP_HEADERS")
        })?;
        let timeout = environment
            .get(&named("TIMEOUT"))
            .map_or(Ok(TIMEOUT_MILLIS), str::parse)
            .map_err(|_| Failure::input(format_args!("{} is no number of milliseconds", named("TIMEOUT"))))?;
        let headers = headers(pairs(environment, &named("HEADERS"))?, &named("HEADERS"))?;
        let failed = |why: String| Failure::machine(format_args!("failed to make a client for the collector: {why}"));
        let tls = tls::client(environment.ca_bundle().as_deref()).map_err(|error| failed(error.to_string()))?;
        let client = Client::builder()
            .user_agent(concat!("claude-bottle/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            // A redirect could carry a credential to another place.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_millis(timeout))
            .build()
            .map_err(|error| failed(explain(&error)))?;
        Ok(Self { url, headers, is_json, client, backoff: BACKOFF })
    }

    /// The address for people, without a query: some collectors take their key there.
    pub(super) fn shown(&self) -> Url {
        let mut url = self.url.clone();
        url.set_query(None);
        url
    }

    #[cfg(test)]
    pub(super) fn with_backoff(self, backoff: Duration) -> Self {
        Self { backoff, ..self }
    }

    /// What went wrong, as a command's end.
    pub(super) fn failure(&self, why: &str) -> Failure {
        Failure::machine(format_args!("failed to send the trace to {}: {why}", self.shown()))
            .hint("the record has all of it; send it again with `bottle-runner export --otlp --send`")
    }

    /// Sends spans, again and again where the protocol lets it; gives how many of them the collector did not take.
    pub(super) async fn send(&self, spans: &ExportTraceServiceRequest) -> Result<u64, Failure> {
        let mut backoff = self.backoff;
        for attempt in 1.. {
            let (why, wait) = match self.post(spans).await {
                Ok(rejected) => return Ok(rejected),
                Err(NotTaken::Refused { why }) => return Err(self.failure(&why)),
                Err(NotTaken::Retry { why, wait }) => (why, wait),
            };
            if attempt == ATTEMPTS {
                return Err(self.failure(&format!("{why}, {ATTEMPTS} times")));
            }
            let wait = wait.unwrap_or(backoff);
            if wait > LONGEST_WAIT {
                return Err(self.failure(&format!("{why}, and wants {} seconds to pass", wait.as_secs())));
            }
            tokio::time::sleep(wait).await;
            backoff *= 2;
        }
        Err(self.failure("it was never asked"))
    }

    /// Sends spans once. What may be sent again is as the specification of OTLP has it: 429, 502, 503, 504, and a connection that failed.
    pub(super) async fn post(&self, spans: &ExportTraceServiceRequest) -> Result<u64, NotTaken> {
        let refused = |why: String| NotTaken::Refused { why };
        let lost = |error: reqwest::Error| NotTaken::Retry { why: explain(&error.without_url()), wait: None };
        let (kind, body) = match self.is_json {
            true => ("application/json", serde_json::to_vec(spans).map_err(|error| refused(error.to_string()))?),
            false => ("application/x-protobuf", spans.encode_to_vec()),
        };
        let request = self.client.post(self.url.clone()).headers(self.headers.clone());
        let mut answer = request.header(CONTENT_TYPE, kind).body(body).send().await.map_err(lost)?;
        let status = answer.status();
        if !status.is_success() {
            let why = format!("it answered with {status}");
            return Err(match status {
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => NotTaken::Retry { why, wait: retry_after(answer.headers()) },
                _ => refused(why),
            });
        }
        let mut body = vec![];
        while let Some(piece) = answer.chunk().await.map_err(lost)? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(refused("its answer has no end".to_owned()));
            }
        }
        let rejected =
            rejected(&body, self.is_json).ok_or_else(|| refused("its answer is none of OTLP's".to_owned()))?;
        Ok(rejected.try_into().unwrap_or(0))
    }
}

/// How many spans a collector says that it did not take; none: its answer can't be read.
fn rejected(body: &[u8], is_json: bool) -> Option<i64> {
    if !is_json {
        let partial = ExportTraceServiceResponse::decode(body).ok()?.partial_success;
        return Some(partial.map_or(0, |partial| partial.rejected_spans));
    }
    let answer: Value = serde_json::from_slice(body).ok()?;
    // A number of 64 bits is a text in the JSON of protobuf.
    match &answer.as_object()?.get("partialSuccess").unwrap_or(&Value::Null)["rejectedSpans"] {
        Value::Null => Some(0),
        Value::String(number) => number.parse().ok(),
        number => number.as_i64(),
    }
}

fn headers(pairs: Vec<(String, String)>, name: &str) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (key, value) in pairs {
        let wrong = || Failure::input(format_args!("{name} has what is no header"));
        let key = HeaderName::try_from(key).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::path::Path;

    use super::*;
    use crate::exit::Code;
    use crate::report::RunView;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let mut environment = Environment::default();
        for (name, value) in variables {
            environment.set(name, (*value).to_owned());
        }
        environment
    }

    #[test]
    fn the_collector_is_the_one_that_the_standard_variables_name() {
        let all = "OTEL_EXPORTER_OTLP_ENDPOINT";
        for (variables, url) in [
            (vec![], "http://localhost:4318/v1/traces"),
            (vec![(all, "https://otel.example/base/")], "https://otel.example/base/v1/traces"),
            (
                vec![(all, "https://a.example"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b.example/x")],
                "http://b.example/x",
            ),
        ] {
            assert_eq!(Collector::new(&environment(&variables)).expect("a collector").url.as_str(), url);
        }
        for (name, value, what) in [
            (all, "grpc://a.example", "OTEL_EXPORTER_OTLP_ENDPOINT is no address of http or https"),
            (all, "https://me:hush@a.example", "OTEL_EXPORTER_OTLP_ENDPOINT is no address of http or https"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL is `grpc`"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "OTEL_EXPORTER_OTLP_TIMEOUT is no number of milliseconds"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hush", "OTEL_EXPORTER_OTLP_HEADERS is no list of NAME=VALUE"),
            (
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
                "a b=hush",
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS has what is no header",
            ),
        ] {
            let failure = Collector::new(&environment(&[(name, value)])).expect_err(value);
            assert_eq!((failure.code, failure.what.as_str()), (Code::Input, what));
        }
        let given =
            environment(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,team=b%2Cc"), ("OTEL_SERVICE_NAME", "mine")]);
        let attributes = resource(&given).expect("attributes");
        let attributes: Vec<_> = attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(attributes, [("team", "b,c"), ("service.name", "mine")]);
    }

    /// Answers one request with this; gives what came.
    fn collector(answer: &'static str) -> (String, std::thread::JoinHandle<(String, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let handle = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().expect("a connection");
            let (mut came, mut piece) = (vec![], [0; 4096]);
            loop {
                let head = came.windows(4).position(|four| four == b"\r\n\r\n");
                let head = head.map(|end| (String::from_utf8_lossy(&came[..end]).to_lowercase(), end + 4));
                if let Some((head, start)) = head {
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
                    if came.len() == start + length.parse::<usize>().expect("a number") {
                        connection.write_all(answer.as_bytes()).expect("an answer");
                        return (head, came[start..].to_vec());
                    }
                }
                let read = connection.read(&mut piece).expect("the request");
                came.extend_from_slice(&piece[..read]);
            }
        });
        (address, handle)
    }

    #[tokio::test]
    async fn a_trace_is_sent_as_collectors_take_it() {
        let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records/v2");
        let trace = RunView::open(&record).expect("a record").trace(&[]);
        for (protocol, kind) in [("http/protobuf", "application/x-protobuf"), ("http/json", "application/json")] {
            let is_json = protocol == "http/json";
            let answer = if is_json {
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            };
            let (address, came) = collector(answer);
            let given = environment(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &address),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b"),
            ]);
            assert_eq!(Collector::new(&given).expect("a collector").send(&trace).await.expect("it is taken"), 0);
            let (head, body) = came.join().expect("the request");
            assert!(head.starts_with("post /v1/traces http/1.1\r\n") && head.contains("x-team: a b"), "{head}");
            assert!(head.contains(&format!("content-type: {kind}")), "{head}");
            let read = match is_json {
                true => serde_json::from_slice(&body).expect("OTLP/JSON"),
                false => ExportTraceServiceRequest::decode(body.as_slice()).expect("protobuf"),
            };
            assert_eq!(read, trace);
        }
    }

    #[tokio::test]
    async fn what_a_collector_does_not_take_is_a_failure() {
        let trace = ExportTraceServiceRequest::default();
        let partial = "HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"3\"}}";
        for (answer, told) in [
            ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", Err("it answered with 401 Unauthorized")),
            (
                "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
                Err("it answered with 302 Found"),
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n<>", Err("its answer is none of OTLP's")),
            (
                "HTTP/1.1 503 Service Unavailable\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n",
                Err("it answered with 503 Service Unavailable, and wants 3600 seconds to pass"),
            ),
            (partial, Ok(3)),
        ] {
            let (address, came) = collector(answer);
            let given =
                [("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")];
            let sent = Collector::new(&environment(&given)).expect("a collector").send(&trace).await;
            match told {
                Ok(rejected) => assert_eq!(sent.expect("an answer"), rejected),
                Err(why) => {
                    let failure = sent.expect_err(why);
                    assert_eq!((failure.code, failure.what.contains(why)), (Code::Machine, true), "{failure}");
                }
            }
            came.join().expect("the request");
        }
    }

    #[tokio::test]
    async fn a_collector_that_is_not_there_is_asked_again_and_then_told() {
        let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let secret = "a-key-of-a-collector";
        let given = environment(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &format!("http://{address}/v1/traces?key={secret}")),
            ("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization=Bearer%20{secret}")),
        ]);
        let collector = Collector::new(&given).expect("a collector").with_backoff(Duration::from_millis(1));
        let failure = collector.send(&ExportTraceServiceRequest::default()).await.expect_err("nobody listens");
        let words = format!("{failure} {:?} {collector:?}", failure.hint);
        assert!(
            failure.what.starts_with(&format!("failed to send the trace to http://{address}/v1/traces: ")),
            "{words}"
        );
        assert!(failure.what.ends_with(", 5 times"), "{words}");
        assert!(
            !format!("{failure} {:?}", failure.hint).contains(secret)
                && !format!("{:?}", collector.headers).contains(secret),
            "{words}"
        );
    }
}
