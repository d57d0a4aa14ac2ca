//! Models at other providers: what the doors let through, what they sign, and what they charge (`providers.toml`). Upstream is the
//! stand-in that the runner's tests have, too: botocore signs each request to it once more, and reads its streams.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use bottle_policy::budget::{Entry, Tokens};
use bottle_wire::cassette::Turn;
use bottle_wire::messages::{self, ModelRequest, ReplyForm};
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::{World, refusal, request};

const CLAUDE: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
/// The tokens that a request says its reply may have.
const MOST: u64 = 5000;

const ROUTES: &str = r#"version: 1
routes:
  - host: localhost
    port: PORT
    methods: [POST]
    paths:
      - "/model/*anthropic.claude-*/invoke"
      - "/model/*anthropic.claude-*/invoke-with-response-stream"
      - "/model/arn:aws*:bedrock:*:*:inference-profile%2F*anthropic.claude-*/invoke"
    model: true
    auth: { aws: { service: bedrock, region: eu-central-1, from: AWS } }
  - host: localhost
    port: PORT
    methods: [POST]
    paths:
      - "/v1/projects/app/locations/europe-west1/publishers/anthropic/models/claude-*:rawPredict"
      - "/v1/projects/app/locations/europe-west1/publishers/anthropic/models/claude-*:streamRawPredict"
    model: true
    auth: { bearer: ANTHROPIC_API_KEY }
  - host: localhost
    port: PORT
    methods: [POST]
    paths: [/anthropic/v1/messages]
    model: true
    auth: { header: api-key, from: ANTHROPIC_API_KEY }
"#;

#[derive(Deserialize)]
struct Cases {
    request: Vec<RequestCase>,
    answer: Vec<AnswerCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestCase {
    name: String,
    host: Option<String>,
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    body: Option<String>,
    budget: Option<String>,
    refused: Option<String>,
    #[serde(default)]
    gone: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerCase {
    name: String,
    #[serde(default)]
    sse: bool,
    steps: Vec<toml::Table>,
    tokens: Option<toml::Value>,
    #[serde(default)]
    estimated: bool,
}

fn cases() -> Cases {
    toml::from_str(include_str!("providers.toml")).expect("cases")
}

/// Not in the sources as a whole, so that nobody takes it for a leak.
fn secret() -> String {
    ["Zq3vT8", "/xkLw0+", "Rm5pHy7", "cJ2nD"].concat()
}

fn needed(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: run the tests by scripts/test"))
}

struct Provider {
    world: World,
    child: Child,
    port: u16,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Provider {
    async fn start(budget: Option<&str>) -> Self {
        let mut world = World::usual().await;
        let write = |path: &str, text: &str| std::fs::write(world.path(path), text).expect("a file");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        write("origin.pem", &made.cert.pem());
        write("origin.key", &made.signing_key.serialize_pem());
        let keys = json!({ "KEYOFTHERUN": [secret(), null] });
        let mut child = Command::new(needed("BOTTLE_TEST_PYTHON"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/model_api.py"))
            .args([world.path("origin.pem"), world.path("origin.key"), world.path("requests.jsonl")])
            .args(["127.0.0.1", &keys.to_string()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let port = line.trim();
        write("secrets/AWS", &json!({ "AccessKeyId": "KEYOFTHERUN", "SecretAccessKey": secret() }).to_string());
        let budget = budget.map(|budget| format!("budget: {{ {budget} }}\n")).unwrap_or_default();
        write("config/routes.yaml", &format!("{}{budget}", ROUTES.replace("PORT", port)));
        // The doors read their trust and their policy at the start.
        world.end(rustix::process::Signal::TERM);
        world.end(rustix::process::Signal::TERM);
        world.daemon("pipelock", "pipelock.yaml", "internal/pipelock.sock").await;
        world.daemon("egress", "routes.yaml", "doors/egress.sock").await;
        Self { port: port.parse().expect("a port"), world, child }
    }

    fn seen(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.world.path("requests.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    async fn send(&self, request: http::Request<crate::world::Body>) -> http::Response<hyper::body::Incoming> {
        self.world.send_to("localhost", self.port, "http/1.1", request).await
    }
}

fn body(script: Option<&Value>) -> String {
    let metadata = script.map(|steps| json!({ "user_id": steps.to_string() }));
    let messages = json!([{ "role": "user", "content": "go" }]);
    json!({ "max_tokens": MOST, "stream": true, "messages": messages, "metadata": metadata }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_gets_is_signed_by_the_door_and_nothing_else_gets_there() {
    let without = Provider::start(None).await;
    let (mut asked, mut refused) = (0, 0);
    for case in cases().request {
        let limited = match &case.budget {
            Some(budget) => Some(Provider::start(Some(budget)).await),
            None => None,
        };
        let provider = limited.as_ref().unwrap_or(&without);
        let before = provider.seen().len();
        let mut asked_for = request(
            "POST",
            &case.path.replace("AWS/", &format!("{CLAUDE}/")),
            case.body.clone().unwrap_or_else(|| body(None)),
        );
        for (name, value) in &case.headers {
            let name: http::HeaderName = name.parse().expect("a name");
            asked_for.headers_mut().append(name, value.parse().expect("a value"));
        }
        let lines =
            std::fs::read_to_string(provider.world.path("state/log/egress.jsonl")).unwrap_or_default().lines().count();
        let response = match &case.host {
            Some(host) => provider.world.send_to(host, 443, "http/1.1", asked_for).await,
            None => provider.send(asked_for).await,
        };
        if let Some(reason) = &case.refused {
            let (status, said) = refusal(response).await;
            let logged = provider.world.log("egress.jsonl", lines + 1).await.pop().expect("a line");
            assert!(status.is_client_error(), "{}: {status} {said}", case.name);
            assert_eq!(logged.reason.as_deref(), Some(reason.as_str()), "{}: {said}", case.name);
            assert_eq!(provider.seen().len(), before, "{} got there", case.name);
            refused += 1;
            continue;
        }
        let status = response.status();
        drop(response.into_body().collect().await.expect("a body"));
        provider.world.log("egress.jsonl", lines + 1).await;
        let seen = provider.seen().pop().expect("a request");
        assert_eq!((status.as_u16(), &seen["wrong"]), (200, &Value::Null), "{}: {seen}", case.name);
        let headers = seen["headers"].as_object().expect("headers");
        assert!(case.gone.iter().all(|name| !headers.contains_key(name)), "{}: {seen}", case.name);
        assert!(!seen.to_string().contains("somebody-elses"), "{}: {seen}", case.name);
        asked += 1;
    }
    assert!(asked >= 5 && refused >= 15, "{asked} {refused}");
}

/// A step of a case, as the stand-in takes it.
fn step(table: &toml::Table) -> Value {
    let (kind, value) = table.iter().next().expect("a step");
    let pair = |value: &toml::Value| {
        let pair: Vec<u64> = value.clone().try_into().expect("two numbers");
        (pair[0], pair[1])
    };
    let delta = |output: &toml::Value| {
        let usage = json!({ "output_tokens": output.as_integer().expect("a number") });
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": usage })
    };
    match kind.as_str() {
        "start" => {
            let (input, output) = pair(value);
            let usage = json!({ "input_tokens": input, "output_tokens": output });
            json!({ "event": { "type": "message_start", "message": { "model": "claude-test", "usage": usage } } })
        }
        "delta" => json!({ "event": delta(value) }),
        "flip" => json!({ "flip": delta(value) }),
        "stop" => {
            let (input, output) = pair(value);
            let counts = json!({ "inputTokenCount": input, "outputTokenCount": output });
            json!({ "event": { "type": "message_stop", "amazon-bedrock-invocationMetrics": counts } })
        }
        "end" => json!({ "event": { "type": "message_stop" } }),
        other => json!({ other: value }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_charged_as_it_is_counted_and_as_the_most_where_it_can_t_be_read() {
    let provider = Provider::start(Some("tokens: 100000000")).await;
    for (index, case) in cases().answer.into_iter().enumerate() {
        let steps: Value = case.steps.iter().map(step).collect();
        let path = match case.sse {
            true => "/anthropic/v1/messages".to_owned(),
            false => format!("/model/{CLAUDE}/invoke-with-response-stream"),
        };
        let body = body(Some(&steps));
        let size = body.len() as u64;
        let response = provider.send(request("POST", &path, body)).await;
        assert_eq!(response.status(), 200, "{}", case.name);
        let received = response.into_body().collect().await.expect("a body").to_bytes().len() as u64;
        provider.world.log("egress.jsonl", index + 1).await;
        let text = std::fs::read_to_string(provider.world.path("state/log/budget.jsonl")).expect("a record");
        let entry: Entry = serde_json::from_str(text.lines().last().expect("a line")).expect("an entry");
        assert_eq!(text.lines().count(), index + 1, "{}", case.name);
        let (tokens, estimated) = match case.tokens {
            Some(toml::Value::Array(pair)) => {
                let pair: Vec<u64> = toml::Value::Array(pair).try_into().expect("two numbers");
                (Tokens { input: pair[0], output: pair[1], ..Tokens::default() }, case.estimated)
            }
            Some(_) => (Tokens { input: size / 4, output: MOST, ..Tokens::default() }, true),
            None => (Tokens { input: size / 4, output: received / 4, ..Tokens::default() }, true),
        };
        assert_eq!((entry.tokens, entry.estimated), (tokens, estimated), "{}", case.name);
    }
    let whole = provider.send(request("POST", &format!("/model/{CLAUDE}/invoke"), body(None))).await;
    drop(whole.into_body().collect().await.expect("a body"));
    let text = std::fs::read_to_string(provider.world.path("state/log/budget.jsonl")).expect("a record");
    let entry: Entry = serde_json::from_str(text.lines().last().expect("a line")).expect("an entry");
    let tokens = Tokens { input: 12, output: 7, ..Tokens::default() };
    assert_eq!(
        (entry.tokens, entry.model.as_str()),
        (tokens, CLAUDE),
        "Amazon counts in the head of such an answer, too"
    );
}

#[test]
fn botocore_reads_a_cassettes_turn_as_it_was_written() {
    let turn = Turn { text: Some("Ich schaue — ok?".to_owned()), ..Turn::default() };
    let asked = ModelRequest { after: 0, model: "m".to_owned(), form: ReplyForm::EventStream, size: 8, most: 0 };
    let reply = messages::reply(&turn, 0, &asked);
    assert_eq!(reply.content_type, "application/vnd.amazon.eventstream");
    let read = "import base64, json, sys\nfrom botocore.eventstream import EventStreamBuffer\nbuffer = EventStreamBuffer()\n\
                buffer.add_data(sys.stdin.buffer.read())\nfor message in buffer:\n    \
                assert message.headers == {':event-type': 'chunk', ':content-type': 'application/json', ':message-type': 'event'}\n    \
                print(base64.b64decode(json.loads(message.payload)['bytes']).decode())\nassert not buffer._data";
    let mut python = Command::new(needed("BOTTLE_TEST_PYTHON"))
        .args(["-c", read])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    std::io::Write::write_all(&mut python.stdin.take().expect("a pipe"), &reply.body).expect("written");
    let output = python.wait_with_output().expect("python");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let all =
        ["message_start", "content_block_start", "ping", "content_block_delta", "content_block_stop", "message_delta"];
    assert_eq!(kinds, [&all[..], &["message_stop"]].concat());
    assert_eq!(events[3]["delta"]["text"], "Ich schaue — ok?");
}
