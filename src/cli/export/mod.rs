//! `bottle-runner export`: a run for other programs, printed or sent.

use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use percent_encoding::percent_decode_str;
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use serde_json::Value;

use super::show::{open, open_logs};
use super::{Context, print, record_dir};
use crate::exit::{Code, Failure};
use crate::forge::answer::explain;
use crate::forge::tls;
use crate::host::Environment;
use crate::report::Metrics;

/// How long a collector has to answer, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise.
const TIMEOUT_MILLIS: u64 = 10_000;
/// Where a collector listens if nothing says otherwise, by the specification of the OTLP exporter.
const ENDPOINT: &str = "http://localhost:4318";

/// Export a run for other programs, such as a collector of traces.
///
/// Prompts, answers, and what went into tools and came out are not exported.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("format").required(true).args(["otlp", "sarif", "ocsf", "svg", "prometheus"])))]
pub(crate) struct ExportArgs {
    /// The run record's directory, or the slug of a run on this machine; with --prometheus any number of them, or of directories with records in them.
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// As a trace for OpenTelemetry: one line of OTLP/JSON.
    #[arg(long)]
    otlp: bool,
    /// As SARIF 2.1.0: what the doors refused, for a forge's code scanning.
    #[arg(long)]
    sarif: bool,
    /// As events of OCSF for a SIEM, a line of JSON each: the run, requests, pushes, decisions, and a finding for each refusal.
    #[arg(long)]
    ocsf: bool,
    /// As a picture of the timeline: an SVG that needs nothing else.
    #[arg(long)]
    svg: bool,
    /// As metrics for Prometheus: sums over the records, for the textfile collector of node_exporter.
    #[arg(long)]
    prometheus: bool,
    /// Send it to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, instead of printing it.
    #[arg(long, requires = "otlp")]
    send: bool,
}

pub(super) async fn main(args: &ExportArgs, context: &Context) -> Result<Code, Failure> {
    let environment = &context.environment;
    if args.prometheus {
        return prometheus(&args.records, context);
    }
    let [record] = &args.records[..] else {
        return Err(
            Failure::input("more than one record is named").hint("export one after the other; --prometheus takes many")
        );
    };
    if args.svg {
        return print(&open(record, context)?.timeline_svg());
    }
    if args.sarif {
        let sarif = open_logs(record, context)?.sarif();
        return print(&serde_json::to_string_pretty(&sarif).map_err(Failure::machine)?);
    }
    if args.ocsf {
        let events = open_logs(record, context)?.ocsf();
        let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
        return print(&lines.join("\n"));
    }
    let trace = open(record, context)?.trace(&resource(environment)?);
    if !args.send {
        return print(&serde_json::to_string(&trace).map_err(Failure::machine)?);
    }
    let collector = Collector::of(environment)?;
    collector.send(&trace, environment).await?;
    let spans = trace.resource_spans.iter().flat_map(|resource| &resource.scope_spans).map(|scope| scope.spans.len());
    print(&format!("sent {} spans to {}\n", spans.sum::<usize>(), collector.shown()))
}

/// Prints the sums of the records in and below the directories.
fn prometheus(dirs: &[PathBuf], context: &Context) -> Result<Code, Failure> {
    let dirs: Vec<PathBuf> = dirs.iter().map(|dir| record_dir(dir, context)).collect();
    let metrics = Metrics::read(&dirs).map_err(|(dir, error)| {
        Failure::input(format_args!("failed to read {}: {error}", dir.display()))
            .hint("give run records, or directories with records in them, such as the state root")
    })?;
    print(&metrics.text())
}

/// Attributes of who exports: OTEL_RESOURCE_ATTRIBUTES, and OTEL_SERVICE_NAME, which goes before it.
fn resource(environment: &Environment) -> Result<Vec<(String, String)>, Failure> {
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

/// Where a trace is sent, by the variables that every OTLP exporter takes.
#[derive(Debug)]
struct Collector {
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
    is_json: bool,
}

impl Collector {
    fn of(environment: &Environment) -> Result<Self, Failure> {
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
        Ok(Self { url, headers, timeout: Duration::from_millis(timeout), is_json })
    }

    /// The address for people, without a query: some collectors take their key there.
    fn shown(&self) -> Url {
        let mut url = self.url.clone();
        url.set_query(None);
        url
    }

    /// Sends the trace once. What the collector did not take is a failure.
    async fn send(&self, trace: &ExportTraceServiceRequest, environment: &Environment) -> Result<(), Failure> {
        let to = self.shown();
        let failed =
            |why: &dyn std::fmt::Display| Failure::machine(format_args!("failed to send the trace to {to}: {why}"));
        let tls = tls::client(environment.ca_bundle().as_deref()).map_err(|error| failed(&error))?;
        let client = Client::builder()
            .user_agent(concat!("claude-bottle/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            // A redirect could carry a credential to another place.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(self.timeout)
            .build()
            .map_err(|error| failed(&explain(&error)))?;
        let (kind, body) = match self.is_json {
            true => ("application/json", serde_json::to_vec(trace).map_err(Failure::machine)?),
            false => ("application/x-protobuf", trace.encode_to_vec()),
        };
        let request = client.post(self.url.clone()).headers(self.headers.clone()).header(CONTENT_TYPE, kind).body(body);
        let answer = request.send().await.map_err(|error| failed(&explain(&error.without_url())))?;
        if !answer.status().is_success() {
            return Err(failed(&format_args!("it answered with {}", answer.status())));
        }
        let body = answer.bytes().await.map_err(|error| failed(&explain(&error.without_url())))?;
        match rejected(&body, self.is_json) {
            None => Err(failed(&"its answer is none of OTLP's")),
            Some(0) => Ok(()),
            Some(spans) => Err(failed(&format_args!("it did not take {spans} spans"))),
        }
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
            assert_eq!(Collector::of(&environment(&variables)).expect("a collector").url.as_str(), url);
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
            let failure = Collector::of(&environment(&[(name, value)])).expect_err(value);
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
            Collector::of(&given).expect("a collector").send(&trace, &given).await.expect("it is taken");
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
        for (answer, why) in [
            ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "it answered with 401 Unauthorized"),
            (
                "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
                "it answered with 302 Found",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n<>", "its answer is none of OTLP's"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"3\"}}",
                "it did not take 3 spans",
            ),
        ] {
            let (address, came) = collector(answer);
            let given =
                [("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")];
            let given = environment(&given);
            let failure = Collector::of(&given).expect("a collector").send(&trace, &given).await.expect_err(why);
            assert_eq!((failure.code, failure.what.contains(why)), (Code::Machine, true), "{failure}");
            came.join().expect("the request");
        }
    }
}
