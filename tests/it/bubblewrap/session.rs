//! Two runs of one issue with the real Claude Code: the second goes on in the session of the first, or begins anew and says why.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use bottle_testkit::{Server, commands, said};
use serde_json::{Value, json};

use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, on};

const RESUME: &str = "verify: [\"true\"]\n    resume: thread";

/// A job whose model is a stand-in that notes what it is asked.
struct Live {
    job: Job,
    api: Server,
}

impl Live {
    fn new(resume: &str) -> Self {
        let mut job = Job::new("");
        let api = Server::start(&job.world, "model_api.py", &job.upstream.address, &["api.anthropic.com"], &[]);
        let address = &job.upstream.address;
        let base = format!("env: {{ ANTHROPIC_BASE_URL: \"https://api.anthropic.com:{}\" }}", api.port);
        let text = manifest(&job.upstream)
            .replace("env: { PYTHONDONTWRITEBYTECODE: \"1\" }", &base)
            .replace(
                "- host: api.anthropic.com\n",
                &format!("- host: api.anthropic.com\n          port: {}\n", api.port),
            )
            .replace("from: ANTHROPIC_API_KEY", "from: BOTTLE_TEST_TOKEN")
            .replace("extra_hosts: { ", &format!("extra_hosts: {{ api.anthropic.com: {address}, "))
            .replace("    git:\n", &format!("    pipelock: {{ allow_private: [\"{address}/32\"] }}\n    git:\n"))
            .replace("verify: [\"python3 -m unittest\"]", resume);
        let manifest = job.world.write("live.yml", &text).display().to_string();
        job.without_replay();
        job.args.extend(["--manifest".to_owned(), manifest]);
        Self { job, api }
    }

    fn run(&self) -> Output {
        self.job.command().env("SSL_CERT_FILE", &self.api.authority).output().expect("the runner")
    }

    /// Each request that the stand-in got since these, without marks for the cache.
    fn bodies(&self, since: usize) -> Vec<Value> {
        let text = fs::read_to_string(format!("{}.bodies", self.api.log.display())).expect("requests");
        let all = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a request"));
        let mut all: Vec<Value> = all.filter(|body| body["messages"].is_array()).collect();
        all.iter_mut().for_each(without_marks);
        all.split_off(since)
    }

    /// Their messages.
    fn requests(&self, since: usize) -> Vec<Vec<Value>> {
        self.bodies(since).iter().map(messages).collect()
    }
}

fn without_marks(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("cache_control");
            map.values_mut().for_each(without_marks);
        }
        Value::Array(list) => list.iter_mut().for_each(without_marks),
        _ => {}
    }
}

/// The messages, each as a list of blocks: Claude Code writes one that bears no mark as a text, and both are the same to the model.
fn messages(body: &Value) -> Vec<Value> {
    let mut messages = body["messages"].as_array().expect("messages").clone();
    for message in &mut messages {
        if let Some(text) = message["content"].as_str() {
            message["content"] = json!([{"text": text, "type": "text"}]);
        }
    }
    messages
}

/// The size of what the model is given to read.
fn bytes_read(body: &Value) -> usize {
    ["system", "tools", "messages"].iter().map(|part| body[*part].to_string().len()).sum()
}

fn assistants(messages: &[Value]) -> usize {
    messages.iter().filter(|message| message["role"] == "assistant").count()
}

/// The file in which the session is kept.
fn stored(job: &Job) -> PathBuf {
    let mut files = fs::read_dir(job.world.path("sessions")).expect("the sessions").filter_map(Result::ok);
    let file = files.next().expect("a session").path();
    assert!(files.next().is_none(), "there is one of this issue");
    file
}

/// A live session would send what it has sent, the answer, and what a person says next. What comes before that is the same, so the
/// model's cache has it, and all of it is at most a tenth more.
fn costs_no_more_than_a_live_session(bodies: &[Value], second: usize) {
    let (last, begins) = (&bodies[second - 1], &bodies[second]);
    for part in ["model", "system", "tools"] {
        assert_eq!(begins[part], last[part], "{part}");
    }
    let said = messages(begins).split_off(messages(last).len());
    let answer = said.iter().find(|message| message["role"] == "assistant").expect("the answer").to_string();
    // The shortest that a person could say: nothing.
    let live = bytes_read(last) + answer.len();
    let ours = bytes_read(begins);
    assert!(ours > live && ours * 10 <= live * 11, "{ours} and {live}");
}

fn gone_on_with() {
    let live = Live::new(RESUME);
    let first = live.run();
    ended_with(&first, 0);
    assert!(said(&first).contains("there is no session of an earlier run to go on with"), "{}", said(&first));
    let before = live.requests(0);
    let whole = before.last().expect("a request");
    let second = live.run();
    ended_with(&second, 0);
    assert!(said(&second).contains("the agent goes on in the session "), "{}", said(&second));
    let after = live.requests(before.len());
    let begins = after.first().expect("a request");
    assert!(begins.len() > whole.len() + 1, "{} and {}", begins.len(), whole.len());
    for (at, message) in whole.iter().enumerate() {
        assert_eq!(&begins[at], message, "message {at}");
    }
    assert_eq!(assistants(begins), assistants(whole) + 1);
    let told = Value::from(begins[whole.len()..].to_vec()).to_string();
    assert!(told.contains("That is the live end.") && told.contains("This is a new request about the same"), "{told}");
    let bodies = live.bodies(0);
    costs_no_more_than_a_live_session(&bodies, before.len());
    // Within a run each request begins as the one before it did: nothing of ours is in the way of the model's cache.
    assert!(before.len() > 1, "a run of several requests");
    for pair in bodies[..before.len()].windows(2) {
        for part in ["model", "system", "tools"] {
            assert_eq!(pair[1][part], pair[0][part], "{part}");
        }
        let (earlier, later) = (messages(&pair[0]), messages(&pair[1]));
        for (at, message) in earlier.iter().enumerate() {
            assert_eq!(&later[at], message, "message {at}");
        }
    }
    // The third goes on where the second ended.
    let third = live.run();
    ended_with(&third, 0);
    let last = live.requests(before.len() + after.len());
    assert!(assistants(&last[0]) > assistants(begins), "{}", assistants(&last[0]));
    let text = fs::read_to_string(stored(&live.job)).expect("the session");
    assert!(!text.contains(live.job.world.secret()), "no secret is in it");
    live.job.nothing_left();
}

#[test]
fn a_second_run_goes_on_where_the_first_ended() {
    on(Place::Bubblewrap, gone_on_with);
}

fn begun_anew() {
    let live = Live::new(RESUME);
    ended_with(&live.run(), 0);
    let mut seen = live.requests(0).len();
    // Another issue's.
    let file = stored(&live.job);
    let text = fs::read_to_string(&file).expect("the session");
    fs::write(&file, text.replacen("issue #7", "issue #8", 1)).expect("written");
    let other = live.run();
    ended_with(&other, 0);
    let says = "the session of an earlier run is not used: it is of another issue, pull request, repository or agent";
    assert!(said(&other).contains(says), "{}", said(&other));
    let newest = live.job.world.slugs();
    let named = |slug: &String| {
        let summary = live.job.world.path("state").join(slug).join("summary.md");
        fs::read_to_string(summary).is_ok_and(|text| text.contains("is not used: it is of another issue"))
    };
    assert!(newest.iter().any(named), "the record names it");
    let requests = live.requests(seen);
    assert_eq!(assistants(&requests[0]), 0);
    seen += requests.len();
    // The manifest has changed: what was said is told.
    let path = live.job.world.path("live.yml");
    let rules = fs::read_to_string(&path).expect("the manifest");
    fs::write(&path, format!("{rules}# More.\n")).expect("written");
    let changed = live.run();
    ended_with(&changed, 0);
    assert!(said(&changed).contains("is not gone on with: the manifest has changed since"), "{}", said(&changed));
    let requests = live.requests(seen);
    assert_eq!(assistants(&requests[0]), 0);
    let told = Value::from(requests[0].clone()).to_string();
    assert!(told.contains("said before") && told.contains("That is the live end."), "{told}");
    live.job.nothing_left();
}

#[test]
fn a_session_of_something_else_is_not_gone_on_with() {
    on(Place::Bubblewrap, begun_anew);
}

/// What the runner says of a session that the agent has left like this.
fn left(steps: &[&str], why: &str) {
    let job = Job::with_manifest(&commands(steps), |upstream| {
        manifest(upstream).replace("verify: [\"python3 -m unittest\"]", RESUME)
    });
    let output = job.run();
    ended_with(&output, 0);
    let says = format!("the session is not kept for the next run: {why}");
    assert!(said(&output).contains(&says), "{steps:?}: {}", said(&output));
    let text = fs::read_to_string(stored(&job)).expect("the session");
    assert_eq!(text.lines().count(), 1, "nothing but what was said: {text}");
    assert!(job.world.record_file("summary.md").contains("the session is not kept"), "the record names it");
    job.nothing_left();
}

#[test]
fn what_an_agent_makes_of_its_session_s_file_is_not_kept() {
    on(Place::Bubblewrap, || {
        // It ends, and what it has left changes the file.
        let link = "f=$(ls ~/.claude/projects/*/*.jsonl); (setsid sh -c \"while sleep 0.05; do ln -sf /etc/passwd $f; done\" >/dev/null 2>&1 &)";
        left(&[link], "it is a link, or behind one");
    });
    on(Place::Bubblewrap, || {
        let key = ["gh", "p_"].concat() + &bottle_testkit::random_letters(36);
        left(&[&format!("echo {key}")], "the rule ");
    });
}

#[test]
fn without_the_key_nothing_is_kept() {
    on(Place::Bubblewrap, || {
        let job = Job::new(&commands(&["true"]));
        ended_with(&job.run(), 1);
        assert!(!job.world.path("sessions").exists());
    });
}
