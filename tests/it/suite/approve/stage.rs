//! A job whose agent is refused a host, asks for it, waits, and tries again; the host, and the forge where people answer.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bottle_testkit::{Certificates, Double, Running, found_within, in_repository, said};
use serde_json::{Value, json};

use crate::job::{Job, MODEL_ROUTE, manifest};

/// What the host gives to whoever reaches it.
pub(super) const SITE: &str = "the list of words";
const HOST: &str = "files.bottle.test";
/// Nothing here takes longer, on a slow machine either.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the site puts what is posted to it.
fn posted(job: &Job) -> PathBuf {
    job.world.path("posted")
}

/// A site on the engine's bridge address.
struct Site {
    _server: Running,
    port: String,
    authority: PathBuf,
}

impl Site {
    fn start(job: &Job) -> Self {
        let made = Certificates::make(&job.world.path("site"), &[&format!("DNS:{HOST}")]);
        let server = Command::new("python3")
            .arg(in_repository("tests/fixtures/origin.py"))
            .args([&made.certificate, &made.key])
            .args([&job.upstream.address, SITE])
            .arg(posted(job))
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut server = Running::new(server);
        Self { port: server.first_line(), _server: server, authority: made.authority }
    }
}

/// The job, the site and the forge.
pub(super) struct Stage {
    pub(super) job: Job,
    pub(super) double: Double,
    site: Site,
}

impl Stage {
    /// `supervise` is what the manifest says there.
    pub(super) fn new(supervise: &str) -> Self {
        Self::at("github", supervise)
    }

    /// The same at this kind of forge.
    pub(super) fn at(kind: &'static str, supervise: &str) -> Self {
        Self::with(kind, supervise, "", &|text| text)
    }

    /// The same with a route to the site that says this, too.
    pub(super) fn with_route(supervise: &str, keys: &str) -> Self {
        Self::with("github", supervise, keys, &|text| text)
    }

    /// The same with another manifest: `edit` gets its text.
    pub(super) fn edited(supervise: &str, edit: &dyn Fn(String) -> String) -> Self {
        Self::with("github", supervise, "", edit)
    }

    fn with(kind: &'static str, supervise: &str, route: &str, edit: &dyn Fn(String) -> String) -> Self {
        let mut job = Job::new("");
        let site = Site::start(&job);
        let route = match route {
            "" => String::new(),
            keys => format!("        - {{ host: {HOST}, port: {}, {keys} }}\n", site.port),
        };
        let text = manifest(&job.upstream)
            .replace(MODEL_ROUTE, &format!("{MODEL_ROUTE}{route}"))
            .replace("extra_hosts: { ", &format!("extra_hosts: {{ {HOST}: {}, ", job.upstream.address))
            .replace(
                "    git:\n",
                &format!(
                    "    pipelock: {{ allow_private: [\"{}/32\"] }}\n    supervise: {supervise}\n    git:\n",
                    job.upstream.address
                ),
            )
            .replace("python3 -m unittest", "true");
        let manifest = job.with_file("approve.yml", &edit(text));
        job.args.extend(["--manifest".to_owned(), manifest]);
        let double = Double::start(kind, json!({}));
        let stage = Self { job, double, site };
        stage.cassette(&stage.asks());
        stage
    }

    /// The tool uses of an agent that is refused, asks, and tries again.
    pub(super) fn asks(&self) -> Vec<Value> {
        vec![self.fetches(), self.requests(), self.fetches()]
    }

    /// Tries the site, and keeps what it gives.
    pub(super) fn fetches(&self) -> Value {
        let command = format!(
            "curl -sS --max-time 20 https://{HOST}:{}/list > words.txt; echo \"curl ended with $?\"; cat words.txt; git add words.txt; git commit -qm Words; true",
            self.site.port
        );
        json!({"name": "Bash", "input": {"command": command, "description": "fetch the list"}})
    }

    /// The site's address.
    pub(super) fn site(&self) -> String {
        format!("https://{HOST}:{}", self.site.port)
    }

    /// All bodies that have been posted to the site, in order.
    pub(super) fn posted(&self) -> Vec<Vec<u8>> {
        let dir = posted(&self.job);
        let body = |number: usize| std::fs::read(dir.join(number.to_string())).ok();
        (1..).map_while(body).collect()
    }

    pub(super) fn requests(&self) -> Value {
        let port: u16 = self.site.port.parse().expect("a port");
        json!({"name": "mcp__supervise__request_route", "input": {
            "host": HOST, "port": port, "methods": ["GET"], "paths": ["/list"], "why": "The list of words is there, @octocat."}})
    }

    /// Writes the cassette: one tool use a turn, then the end.
    pub(super) fn cassette(&self, tools: &[Value]) {
        let mut turns: Vec<Value> = tools.iter().map(|tool| json!({"tools": [tool]})).collect();
        turns.push(json!({"text": "That is all."}));
        self.job.world.write("cassette.yml", &json!({"version": 1, "turns": turns}).to_string());
    }

    /// A job of the forge, started.
    pub(super) fn start(&self) -> Running {
        Running::new(self.in_a_job(&mut self.job.command()).spawn().expect("the runner"))
    }

    fn in_a_job<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/issue-labeled.json"));
        let mut event: Value = serde_json::from_str(&text.expect("the event")).expect("JSON");
        event["sender"] = json!({"login": "octo-maintainer", "id": 5_550_108, "type": "User"});
        crate::forge::job(&self.job.world, &self.double, command, "issues", &event);
        command.env("SSL_CERT_FILE", self.trusted())
    }

    /// The same on a laptop, where there is no forge.
    pub(super) fn start_locally(&self) -> Running {
        let mut command = self.job.command();
        Running::new(command.env("SSL_CERT_FILE", self.trusted()).spawn().expect("the runner"))
    }

    /// A list of authorities with those of the site and of the forge.
    fn trusted(&self) -> PathBuf {
        let read = |path: &Path| std::fs::read_to_string(path).expect("an authority");
        self.job.world.write("trusted.pem", &format!("{}{}", read(&self.site.authority), read(&self.double.ca())))
    }

    /// `bottle-runner …` beside the run.
    pub(super) fn runner(&self, args: &[&str]) -> Output {
        self.job.world.runner().args(args).output().expect("the runner")
    }

    /// The same, which must succeed; what it printed.
    #[track_caller]
    pub(super) fn prints(&self, args: &[&str]) -> String {
        let output = self.runner(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Our comment about P1, as soon as it is there.
    #[track_caller]
    pub(super) fn asked(&self) -> Value {
        self.asked_about("P1")
    }

    /// Our comment about a proposal, as soon as it is there.
    #[track_caller]
    pub(super) fn asked_about(&self, id: &str) -> Value {
        let title = format!("proposal {id} of");
        let what = || {
            let state = self.double.state();
            let comments = state["comments"].as_array().cloned().unwrap_or_default();
            comments.into_iter().find(|comment| comment["body"].as_str().is_some_and(|body| body.contains(&title)))
        };
        self.until("the proposal's comment", what)
    }

    /// The code that our comment shows.
    pub(super) fn code(comment: &Value) -> String {
        Self::yes(comment).rsplit(' ').next().expect("a word").to_owned()
    }

    /// The line that our comment shows for a yes.
    pub(super) fn yes(comment: &Value) -> String {
        let body = comment["body"].as_str().expect("a text");
        let line = body.lines().find(|line| line.trim_start().starts_with("/bottle approve P"));
        line.unwrap_or_else(|| panic!("no command: {body}")).trim().to_owned()
    }

    /// Somebody says something on the thread.
    pub(super) fn says(&self, id: u64, author: &str, body: &str, more: Value) {
        let mut comment = json!({"id": id, "number": 7, "author": author, "body": body});
        for (key, value) in more.as_object().expect("an object") {
            comment[key] = value.clone();
        }
        self.double.say(&comment);
    }

    /// How often the runner has looked at the thread since something was said.
    pub(super) fn looks(&self) -> usize {
        let looks = self.double.log();
        looks
            .iter()
            .filter(|line| line["method"] == "GET" && line["path"] == "/repos/octo-org/textstats/issues/7/comments")
            .count()
    }

    #[track_caller]
    pub(super) fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        found_within(PATIENCE, what, look)
    }

    /// The lines of `proposals.jsonl`, each by the name of what happened.
    pub(super) fn story(&self) -> Vec<(String, Value)> {
        let text = self.job.world.record_file("proposals.jsonl");
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["event"].clone());
        events
            .map(|event| {
                let (name, value) = event.as_object().and_then(|event| event.iter().next()).expect("one key");
                (name.clone(), value.clone())
            })
            .collect()
    }

    /// What the agent was told by its tools, in order.
    pub(super) fn told(&self) -> Vec<String> {
        let mut told = vec![];
        for line in self.job.world.record_file("transcript.jsonl").lines() {
            let event: Value = serde_json::from_str(line).expect("JSON");
            for block in event["message"]["content"].as_array().into_iter().flatten() {
                if block["type"] == "tool_result" {
                    told.push(block["content"].to_string());
                }
            }
        }
        told
    }

    /// Asserts that the run's record holds.
    #[track_caller]
    pub(super) fn holds(&self) -> String {
        let record = self.job.world.record().display().to_string();
        self.prints(&["verify-record", &record])
    }
}
