//! The real MCP server over its unix socket, asked as a client asks.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bottle_testkit::{Running, until_within, with_dirs};
use bottle_wire::proposal::record::{Chain, Event};
use bottle_wire::proposal::{By, Verdict};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;

const ROUTES: &str = "version: 1
routes:
  - host: api.example.com
    methods: [POST]
    paths: [/v1/messages]
    auth: { header: x-api-key, from: SOME_API_KEY }
";
const PIPELOCK: &str = "version: 1\n";
const GATE: &str = "version: 1
upstreams:
  - name: origin
    url: https://git.example.com/team/app.git
    token: SOME_GIT_TOKEN
    push: { refs: [\"refs/heads/bottle/**\"], protect_paths: [\"ci/**\"] }
";

struct Server {
    process: Running,
    dir: TempDir,
}

impl Server {
    fn start(approval: &str) -> Self {
        Self::with_outputs(approval, "")
    }

    /// `outputs` are lines of supervise.yaml.
    fn with_outputs(approval: &str, outputs: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(dir.path().join("doors")).expect("a directory");
        let policy = format!("version: 1\nrun: run-1\napproval: {approval}\ntimeout: 15m\n{outputs}");
        std::fs::create_dir_all(dir.path().join("internal")).expect("a directory");
        let files = [
            ("supervise.yaml", policy.as_str()),
            ("routes.yaml", ROUTES),
            ("pipelock.yaml", PIPELOCK),
            ("gate.yaml", GATE),
        ];
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("a policy");
        }
        let process = Self::spawn(dir.path());
        Self { process, dir }
    }

    fn spawn(dir: &Path) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bottle-sidecars"));
        command.arg("supervise").arg("--config").arg(dir.join("supervise.yaml"));
        with_dirs(&mut command, dir, &["doors", "internal", "state"]);
        let process = Running::new(command.spawn().expect("the server starts"));
        let socket = dir.join("doors/supervise.sock");
        let listens = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
        until_within(Duration::from_secs(10), "the server listens", listens);
        process
    }

    fn restart(&mut self) {
        self.process.kill();
        std::fs::remove_file(self.dir.path().join("doors/supervise.sock")).expect("the socket is left");
        self.process = Self::spawn(self.dir.path());
    }

    async fn post(&self, host: &str, path: &str, body: String) -> (StatusCode, String) {
        let stream = UnixStream::connect(self.dir.path().join("doors/supervise.sock")).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(connection);
        let request = Request::post(path)
            .header("host", host)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(Full::new(bytes::Bytes::from(body)))
            .expect("a request");
        let response = sender.send_request(request).await.expect("a response");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    async fn rpc(&self, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string();
        let (status, text) = self.post("supervise:9100", "/", body).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let text =
            text.lines().find_map(|line| line.strip_prefix("data: {")).map_or(text.clone(), |rest| format!("{{{rest}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Text of the answer, and whether it is an error.
    async fn call(&self, tool: &str, arguments: Value) -> (String, bool) {
        let answer = self.rpc("tools/call", json!({"name": tool, "arguments": arguments})).await;
        let result = &answer["result"];
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer}"));
        (text.to_owned(), result["isError"] == json!(true))
    }

    fn proposals(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("state/log/proposals.jsonl")).expect("the file")
    }
}

#[tokio::test]
async fn every_tool_is_listed_and_answers() {
    let mut server = Server::start("deny");
    let hello =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
    let answer = server.rpc("initialize", hello).await;
    assert_eq!(answer["result"]["serverInfo"]["name"], "supervise");
    let instructions = answer["result"]["instructions"].as_str().expect("instructions").len();
    let answer = server.rpc("tools/list", json!({})).await;
    // What every request to the model pays for, where Claude Code does not put tools off until they are wanted.
    let tools = answer["result"]["tools"].to_string().len();
    assert!(instructions + tools <= 7500, "{instructions} and {tools} bytes");
    let mut names: Vec<&str> =
        answer["result"]["tools"].as_array().expect("tools").iter().filter_map(|tool| tool["name"].as_str()).collect();
    names.sort_unstable();
    let all = [
        "ask",
        "policy",
        "progress",
        "request_budget",
        "request_capability",
        "request_exemption",
        "request_push",
        "request_route",
        "status",
        "wait",
    ];
    assert_eq!(names, all);

    let (text, _) = server.call("policy", json!({})).await;
    let view: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(view["routes"][0]["url"], "https://api.example.com:443");
    assert_eq!(view["git"][0]["push_refs"], json!(["refs/heads/bottle/**"]));
    assert_eq!(view["approval"], "deny");
    assert!(!text.contains("SOME_"), "{text}");

    let route = json!({"host": "Docs.Example.ORG", "methods": ["get"], "paths": ["/**"], "why": "to read"});
    let refused = "refused: approval is `deny` in this run; it's noted for the report as proposal P1";
    assert_eq!(server.call("request_route", route.clone()).await, (refused.to_owned(), false));
    let push = json!({"ref": "refs/heads/main", "why": "to ship"});
    assert!(server.call("request_push", push).await.0.ends_with("proposal P2"));
    assert!(server.call("ask", json!({"question": "tabs or spaces?"})).await.0.contains("nobody answers"));
    assert_eq!(server.call("progress", json!({"line": "half\nway"})).await.0, "noted as P4");
    assert_eq!(server.call("status", json!({"id": "P1"})).await, (refused.to_owned(), false));
    assert!(server.call("status", json!({"id": "P99"})).await.1);

    // The same again is the same proposal, after a kill as well.
    server.restart();
    assert_eq!(server.call("request_route", route).await, (format!("{refused} (asked before)"), false));
    assert!(server.call("ask", json!({"question": "and now?"})).await.0.ends_with("proposal P5"));
    let (records, _) = Chain::read("run-1", &server.proposals()).expect("an unbroken chain");
    let told: Vec<_> = records.iter().map(|record| tell(&record.event)).collect();
    let asked = |tool: &str| [tool.to_owned(), "refused".to_owned()];
    let mut story = vec!["began".to_owned()];
    story.extend(["request_route", "request_push", "ask"].into_iter().flat_map(asked));
    story.push("noted".to_owned());
    story.extend(asked("ask"));
    assert_eq!(told, story);
}

/// An event in one word.
fn tell(event: &Event) -> String {
    match event {
        Event::Began { .. } => "began".to_owned(),
        Event::Asked { request, .. } => request.tool().to_owned(),
        Event::Decided { verdict: Verdict::Deny { .. }, by: By::Nobody, .. } => "refused".to_owned(),
        Event::Noted { .. } => "noted".to_owned(),
        other => format!("{other:?}"),
    }
}

const OUTPUTS: &str = "outputs:
  rules:
    comment: { max: 2 }
    labels: { allowed: [bug, docs], max: 1 }
    issue: { title_prefix: \"[bot] \", max: 1 }
    close: { reasons: [not_planned] }
    check: { names: [bottle / review] }
  changed: { size.py: [[1, 3, 1, 3]] }
";

/// A verdict is a parameter where one is granted, of those that are.
#[tokio::test]
async fn verdicts_are_offered_where_they_are_granted() {
    let outputs =
        "outputs:\n  rules: { review: { verdicts: [request_changes] } }\n  changed: { size.py: [[1, 3, 1, 3]] }\n";
    let server = Server::with_outputs("deny", outputs);
    let answer = server.rpc("tools/list", json!({})).await;
    let tools = answer["result"]["tools"].as_array().expect("tools");
    let schema = &tools.iter().find(|tool| tool["name"] == "write_review").expect("a tool")["inputSchema"];
    assert_eq!(schema["properties"]["verdict"]["enum"], json!(["comment", "request_changes"]), "{schema}");
    let (text, error) = server.call("write_review", json!({"verdict": "approve"})).await;
    assert!(error && text.contains("the verdict `approve` is not in `outputs.review.verdicts`"), "{text}");
    let (text, error) = server.call("write_review", json!({"verdict": "request_changes"})).await;
    assert!(!error, "{text}");
}

/// Threads of earlier reviews are a parameter where there is one that is open; what is done with them is judged at once.
#[tokio::test]
async fn threads_of_earlier_reviews_are_offered_where_there_are_some() {
    let granted = "outputs:\n  rules: { review: {} }\n  changed: { size.py: [[1, 3, 1, 3]] }\n";
    let thread = |resolved: bool| {
        format!(
            "{granted}  threads: [{{ thread: 41, path: size.py, line: 2, words: 0011223344556677, resolved: {resolved} }}]\n"
        )
    };
    for (outputs, offered) in [(granted.to_owned(), false), (thread(true), false), (thread(false), true)] {
        let server = Server::with_outputs("deny", &outputs);
        let answer = server.rpc("tools/list", json!({})).await;
        let tools = answer["result"]["tools"].as_array().expect("tools");
        let schema = &tools.iter().find(|tool| tool["name"] == "write_review").expect("a tool")["inputSchema"];
        assert_eq!(!schema["properties"]["threads"].is_null(), offered, "{outputs}: {schema}");
        assert_eq!(!schema["$defs"]["ThreadUpdate"].is_null(), offered, "{outputs}: {schema}");
        assert!(schema["$defs"]["Remark"].is_object() && schema["$defs"]["ReviewVerdict"].is_null(), "{schema}");
        assert!(schema["properties"]["verdict"].is_null(), "no verdict is granted: {schema}");
        let resolve = json!({"threads": [{"thread": 41, "resolved": true}]});
        let (text, error) = server.call("write_review", resolve).await;
        assert_eq!(error, !offered, "{outputs}: {text}");
        let remark = json!({"remarks": [{"path": "size.py", "line": 2, "body": "x"}]});
        let (text, error) = server.call("write_review", remark).await;
        let refused = if offered { "this run has its review already" } else { "" };
        assert!(error == offered && text.contains(refused), "{outputs}: {text}");
    }
}

/// What was granted is listed with its limits and collected in order; all else is refused with a reason, and written down as that.
#[tokio::test]
async fn outputs_are_collected_or_refused() {
    let mut server = Server::with_outputs("deny", OUTPUTS);
    let answer = server.rpc("tools/list", json!({})).await;
    let tools = answer["result"]["tools"].as_array().expect("tools");
    let tool = |name: &str| tools.iter().find(|tool| tool["name"] == name);
    let labels = &tool("add_labels").expect("a tool")["inputSchema"];
    let list = &labels["properties"]["labels"];
    assert_eq!((&list["items"]["enum"], &list["maxItems"]), (&json!(["bug", "docs"]), &json!(1)), "{labels}");
    assert_eq!(labels["additionalProperties"], json!(false), "{labels}");
    assert!(tool("write_comment").is_some() && tool("write_review").is_none());
    let fields = |name: &str| tool(name).expect("a tool")["inputSchema"]["properties"].clone();
    let issue = fields("open_issue");
    assert_eq!(
        (&issue["title"]["pattern"], &issue["title"]["maxLength"]),
        (&json!(r"^\[bot\] "), &json!(200)),
        "{issue}"
    );
    assert!(issue["labels"].is_null(), "there is no label that it may have: {issue}");
    let close = &tool("close_thread").expect("a tool")["inputSchema"];
    assert_eq!(
        (&close["properties"]["reason"]["enum"], &close["required"]),
        (&json!(["not_planned"]), &json!(["reason"]))
    );
    let check = fields("report_check");
    assert_eq!((&check["name"]["enum"], &check["summary"]["maxLength"]), (&json!(["bottle / review"]), &json!(140)));

    let pat = ["ghp", "R4nd0mLettersThatAreNoWords0Xy7Qw9Ab"].join("_");
    for (tool, arguments, wanted) in [
        ("write_comment", json!({"body": "It is off by one."}), Ok("noted as P1: it is written when you have ended")),
        ("write_comment", json!({"body": "ask @octocat"}), Err("refused as P2: the comment has 1 mention")),
        ("write_comment", json!({"body": "x", "number": 12}), Err("refused as P3: unknown field `number`")),
        ("write_comment", json!({"body": "x", "issue": 12}), Err("refused as P4: unknown field `issue`")),
        ("write_comment", json!({}), Err("refused as P5: missing field `body`")),
        ("write_comment", json!({"body": pat}), Err("refused as P6: the rule github-pat found a secret")),
        ("write_review", json!({"body": "x"}), Err("refused as P7: `outputs` of this agent does not grant `review`")),
        ("add_labels", json!({"labels": ["deploy"]}), Err("refused as P8: the label `deploy`")),
        ("add_labels", json!({"labels": "bug"}), Err("refused as P9: invalid type")),
        ("add_labels", json!({"labels": ["bug"]}), Ok("noted as P10")),
        ("add_labels", json!({"labels": ["docs"]}), Err("refused as P11: `outputs.labels` grants 1")),
        ("write_comment", json!({"body": "And one more."}), Ok("noted as P12")),
        (
            "write_comment",
            json!({"body": "x", pat.as_str(): 1}),
            Err("refused as P13: the rule github-pat found a secret"),
        ),
        (
            "open_issue",
            json!({"title": "x", "body": "y"}),
            Err("refused as P14: the title does not begin with `[bot] `"),
        ),
        (
            "open_issue",
            json!({"title": "[bot] x", "body": "y", "repo": "a/b"}),
            Err("refused as P15: unknown field `repo`"),
        ),
        ("open_issue", json!({"title": "[bot] x", "body": "y"}), Ok("noted as P16")),
        ("close_thread", json!({"reason": "not_planned", "number": 9}), Err("refused as P17: unknown field `number`")),
        ("close_thread", json!({}), Err("refused as P18: this reason is not in")),
        ("close_thread", json!({"reason": "not_planned"}), Ok("noted as P19")),
        (
            "report_check",
            json!({"name": "bottle / review", "conclusion": "success", "summary": "x", "details_url": "https://a.example"}),
            Err("refused as P20: unknown field `details_url`"),
        ),
        (
            "report_check",
            json!({"name": "bottle / review", "conclusion": "success", "summary": "Fine."}),
            Ok("noted as P21"),
        ),
    ] {
        let (text, error) = server.call(tool, arguments.clone()).await;
        let (begin, refused) = match wanted {
            Ok(begin) => (begin, false),
            Err(begin) => (begin, true),
        };
        assert!(text.starts_with(begin) && error == refused, "{tool} {arguments}: {text}");
    }
    // A restart has not forgotten what went before.
    server.restart();
    let (text, error) = server.call("write_comment", json!({"body": "And another."})).await;
    assert!(error && text.starts_with("refused as P22: `outputs.comment` grants 2"), "{text}");
    let (records, _) = Chain::read("run-1", &server.proposals()).expect("an unbroken chain");
    let told: Vec<&str> = records
        .iter()
        .map(|record| match &record.event {
            Event::Began { .. } => "began",
            Event::Output { output, .. } => output.kind().name(),
            Event::OutputRefused { .. } => "refused",
            other => panic!("{other:?}"),
        })
        .collect();
    let refused = |count| vec!["refused"; count];
    let story = [
        vec!["began", "comment"],
        refused(8),
        vec!["labels", "refused", "comment"],
        refused(3),
        vec!["issue"],
        refused(2),
        vec!["close", "refused", "check", "refused"],
    ];
    assert_eq!(told, story.concat());
    assert!(!server.proposals().contains(&pat), "what is refused as a secret is not written down");
}

#[tokio::test]
async fn an_answer_is_held_against_its_schema_three_times() {
    let outputs = r##"outputs:
  rules:
    json:
      $schema: https://json-schema.org/draft/2020-12/schema
      type: object
      required: [verdict]
      additionalProperties: false
      properties: { verdict: { $ref: "#/$defs/verdict" }, notes: { type: array } }
      $defs: { verdict: { enum: [ship, wait] } }
"##;
    let mut server = Server::with_outputs("deny", outputs);
    let listed = server.rpc("tools/list", json!({})).await;
    let tools = listed["result"]["tools"].as_array().expect("tools");
    let schema = &tools.iter().find(|tool| tool["name"] == "give_answer").expect("the tool")["inputSchema"];
    // What it refers to is where a reference finds it.
    assert_eq!(schema["$defs"]["verdict"]["enum"], json!(["ship", "wait"]), "{schema}");
    assert_eq!(schema["properties"]["answer"]["properties"]["verdict"]["$ref"], "#/$defs/verdict");
    assert_eq!((&schema["required"], &schema["additionalProperties"]), (&json!(["answer"]), &json!(false)));
    assert!(schema["properties"]["answer"]["$defs"].is_null() && schema["properties"]["answer"]["$schema"].is_null());

    for (arguments, wanted) in [
        (
            json!({"answer": {"verdict": "maybe"}}),
            "refused as P1: the answer does not fit the schema of `outputs.json`: at /verdict: ",
        ),
        (json!({"verdict": "ship"}), "refused as P2: unknown field `verdict`"),
    ] {
        let (text, error) = server.call("give_answer", arguments).await;
        assert!(error && text.starts_with(wanted), "{text}");
    }
    // Long ones come in, and a restart has counted them.
    server.restart();
    let long = json!({"answer": {"verdict": "no", "notes": ["\u{1}".repeat(40_000)]}});
    let (text, error) = server.call("give_answer", long).await;
    assert!(error && text.starts_with("refused as P3: the answer does not fit"), "{text}");
    let (text, error) = server.call("give_answer", json!({"answer": {"verdict": "ship"}})).await;
    assert!(error && text == "refused as P4: 3 answers did not fit, and no other is taken", "{text}");

    let server = Server::with_outputs("deny", outputs);
    let (text, error) = server.call("give_answer", json!({"answer": {"verdict": "wait", "notes": []}})).await;
    assert!(!error && text.starts_with("noted as P1"), "{text}");
    let (text, error) = server.call("give_answer", json!({"answer": {"verdict": "ship"}})).await;
    assert!(error && text.starts_with("refused as P2: this run has its answer already"), "{text}");
    let (records, _) = Chain::read("run-1", &server.proposals()).expect("an unbroken chain");
    assert!(
        records
            .iter()
            .any(|record| matches!(&record.event, Event::Output { output, .. } if output.kind().name() == "json"))
    );
}

#[tokio::test]
async fn a_file_is_handed_in_by_its_path() {
    let server = Server::with_outputs("deny", "outputs: { rules: { file: { paths: [\"out/**\"], max: 2 } } }\n");
    let listed = server.rpc("tools/list", json!({})).await;
    let tools = listed["result"]["tools"].as_array().expect("tools");
    let tool = tools.iter().find(|tool| tool["name"] == "hand_in_file").expect("the tool");
    let said = tool["inputSchema"]["properties"]["path"]["description"].as_str().expect("words");
    assert!(said.contains("out/**") && said.contains("10MiB"), "{tool}");
    for (arguments, wanted) in [
        (json!({"path": "out/../.git/config"}), "refused as P1: out/../.git/config is not the path of a file"),
        (json!({"path": "src/a"}), "refused as P2: src/a is not in `outputs.file.paths`"),
        (json!({"path": "out/a", "content": "x"}), "refused as P3: unknown field `content`"),
        (json!({"path": "out/a"}), "noted as P4"),
        (json!({"path": "out/b"}), "noted as P5"),
        (json!({"path": "out/c"}), "refused as P6: `outputs.file` grants 2"),
    ] {
        let (text, error) = server.call("hand_in_file", arguments).await;
        assert!(text.starts_with(wanted) && error == wanted.starts_with("refused"), "{text}");
    }
}

#[tokio::test]
async fn findings_are_reported_once() {
    let server = Server::with_outputs("deny", "outputs: { rules: { sarif: { max: 2, paths: [\"src/**\"] } } }\n");
    let listed = server.rpc("tools/list", json!({})).await;
    let tools = listed["result"]["tools"].as_array().expect("tools");
    let tool = tools.iter().find(|tool| tool["name"] == "report_findings").expect("the tool");
    let schema = &tool["inputSchema"];
    assert_eq!(schema["properties"]["findings"]["maxItems"], 2, "{tool}");
    let fields = &schema["$defs"]["CodeFinding"]["properties"];
    assert_eq!((&fields["message"]["maxLength"], &fields["rule"]["maxLength"]), (&json!(1000), &json!(80)), "{tool}");
    assert!(fields["path"]["description"].as_str().is_some_and(|said| said.contains("src/**")), "{tool}");
    let finding = |path: &str| json!({"rule": "x", "message": "Wrong.", "path": path, "line": 1});
    for (arguments, wanted) in [
        (json!({"findings": [finding("docs/a")]}), "refused as P1: docs/a is not in `outputs.sarif.paths`"),
        (json!({"findings": vec![finding("src/a"); 3]}), "refused as P2: `outputs.sarif` grants 2"),
        (json!({"runs": []}), "refused as P3: unknown field `runs`"),
        (json!({}), "refused as P4: missing field `findings`"),
        (json!({"findings": [finding("src/a")]}), "noted as P5"),
        (json!({"findings": []}), "refused as P6: this run has its report of findings already"),
    ] {
        let (text, error) = server.call("report_findings", arguments).await;
        assert!(text.starts_with(wanted) && error == wanted.starts_with("refused"), "{text}");
    }
}

#[tokio::test]
async fn a_schema_that_can_t_be_kept_opens_no_door() {
    let dir = tempfile::tempdir().expect("a directory");
    let policy = "version: 1\nrun: run-1\noutputs: { rules: { json: { $ref: \"file:///etc/passwd\" } } }\n";
    std::fs::write(dir.path().join("supervise.yaml"), policy).expect("a policy");
    let mut supervise = Command::new(env!("CARGO_BIN_EXE_bottle-sidecars"));
    supervise.arg("supervise").arg("--config").arg(dir.path().join("supervise.yaml"));
    for name in ["doors", "internal", "state"] {
        supervise.arg(format!("--{name}")).arg(dir.path().join(name));
    }
    let output = supervise.output().expect("the program");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("outputs.json: at /$ref: expected"), "{said}");
}

#[tokio::test]
async fn without_outputs_there_is_no_tool_for_them() {
    let server = Server::start("deny");
    let (text, error) = server.call("write_comment", json!({"body": "x"})).await;
    assert!(error && text.contains("does not grant `comment`"), "{text}");
}

#[tokio::test]
async fn bad_requests_leave_no_trace() {
    let server = Server::start("comment");
    for (tool, arguments) in [
        ("request_route", json!({"host": "169.254.169.254", "why": "x"})),
        ("request_route", json!({"host": "https://a.example/", "why": "x"})),
        ("request_route", json!({"host": "a.example", "why": ""})),
        ("request_push", json!({"ref": "main", "why": "x"})),
        ("ask", json!({"question": "x".repeat(5000)})),
        ("status", json!({"id": "1"})),
        ("wait", json!({"id": "P7"})),
        ("request_budget", json!({"why": "x"})),
        ("request_budget", json!({"tokens": 1000, "why": "this run has no such limit"})),
        ("request_exemption", json!({"host": "a.example", "rule": "known-secret:SOME_API_KEY", "why": "x"})),
        ("request_exemption", json!({"host": "a.example", "rule": "no-such-rule", "why": "x"})),
        ("request_exemption", json!({"rule": "jwt", "why": "neither a host nor a finding"})),
        ("request_exemption", json!({"rule": "jwt", "path": "a", "sha256": "0".repeat(64), "why": "never refused"})),
        ("request_push", json!({"ref": "refs/heads/bottle/x", "why": "it may be pushed already"})),
        ("request_push", json!({"ref": "refs/heads/x", "upstream": "other", "why": "x"})),
    ] {
        let (text, error) = server.call(tool, arguments.clone()).await;
        assert!(error, "{tool} {arguments}: {text}");
    }
    let answer = server.rpc("tools/call", json!({"name": "ask", "arguments": {"question": "x", "extra": 1}})).await;
    assert!(answer["error"].is_object() || answer["result"]["isError"] == json!(true), "{answer}");
    let large = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": {"question": "x".repeat(100_000)}}});
    assert_eq!(server.post("supervise:9100", "/", large.to_string()).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(server.proposals().lines().count(), 1, "nothing but the beginning");
}

#[tokio::test]
async fn a_flood_is_refused() {
    let server = Server::start("deny");
    let mut refused = 0;
    for n in 0..40 {
        refused += u32::from(server.call("ask", json!({"question": format!("{n}?")})).await.1);
    }
    assert!((28..=30).contains(&refused), "{refused}");
    assert!(server.proposals().lines().count() <= 1 + 2 * 12);
}

#[tokio::test]
async fn other_hosts_and_paths_are_not_served() {
    let server = Server::start("deny");
    let body = || json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    assert_eq!(server.post("evil.example", "/", body()).await.0, StatusCode::FORBIDDEN);
    assert_eq!(server.post("supervise:9100", "/other", body()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(server.post("127.0.0.1:9100", "/mcp", body()).await.0, StatusCode::OK);
}
