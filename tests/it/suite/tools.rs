//! The owner's tools are the base branch's: the cases of `tools.toml`, with the real Claude Code, servers that answer it, and hooks that run.

use bottle_testkit::{Server, said, sh};
use serde::Deserialize;
use serde_json::json;

use super::MINUTES;
use crate::job::{Job, ended_with, manifest};

/// The branch of the run, where somebody has it begin.
const BRANCH: &str = "bottle/issue-7-words-followed-by-punctuation-are";

/// How a server's program begins.
pub(super) const HEAD: &str = "#!/usr/bin/env python3\nimport json, os, sys\n";

/// The end of the program of a server with one tool, `read`, which answers with what `answer()` gives. The protocol is that of
/// 2025-06-18; what it is held against is the real Claude Code.
pub(super) fn serve(name: &str) -> String {
    format!(
        r#"
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    given = {{}}
    if asked["method"] == "initialize":
        given = {{"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {{"tools": {{}}}}, "serverInfo": {{"name": "{name}", "version": "1"}}}}
    if asked["method"] == "tools/list":
        given = {{"tools": [{{"name": "read", "description": "Reads", "inputSchema": {{"type": "object"}}}}]}}
    if asked["method"] == "tools/call":
        given = {{"content": [{{"type": "text", "text": answer()}}]}}
    print(json.dumps({{"jsonrpc": "2.0", "id": asked["id"], "result": given}}), flush=True)
"#
    )
}

/// A model that asks each server's tool, and ends.
fn asks(servers: &[&str]) -> String {
    let names: Vec<String> = servers.iter().map(|server| format!("mcp__{server}__read")).collect();
    let search =
        json!({"name": "ToolSearch", "input": {"query": format!("select:{}", names.join(",")), "max_results": 9}});
    let calls: Vec<_> = names.iter().map(|name| json!({"name": name, "input": {}})).collect();
    let skill = json!({"name": "Skill", "input": {"skill": "mine:look"}});
    let look = json!({"name": "Bash", "input": {"command": "true", "description": "a step"}});
    let mut turns = vec![json!({"tools": [look]}), json!({"text": "That is all."})];
    if !servers.is_empty() {
        turns.splice(0..0, [json!({"tools": [search]}), json!({"tools": calls}), json!({"tools": [skill]})]);
    }
    json!({"version": 1, "turns": turns}).to_string()
}

/// A job whose agent has these servers and more keys, on a base branch with these files; those of `#!` can be executed.
pub(super) fn job(servers: &str, asked: &[&str], files: &[(&str, &str)]) -> Job {
    let look = "verify: [\"echo found; cat /tmp/ran; true\"]";
    let keys = format!("    mcp:\n{servers}    {look}");
    let job = Job::with_manifest(&asks(asked), |upstream| {
        manifest(upstream).replace("    verify: [\"python3 -m unittest\"]", &keys)
    });
    files.iter().for_each(|(path, text)| write(&job, path, text));
    commit(&job, "The base branch's");
    push(&job, "main");
    git(&job, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    job
}

fn write(job: &Job, path: &str, text: &str) {
    let path = job.checkout.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(&path, text).expect("a file");
    if text.starts_with("#!") {
        sh(&["chmod", "755", &path.display().to_string()]);
    }
}

/// git in the checkout, as a person who may push.
fn git(job: &Job, args: &[&str]) {
    let mut git = std::process::Command::new("git");
    git.args(args).current_dir(&job.checkout).envs(job.upstream.reach(&job.world));
    let output = git.output().expect("git");
    assert!(output.status.success(), "git {args:?}: {}", said(&output));
}

fn commit(job: &Job, message: &str) {
    git(job, &["add", "--all", "--force"]);
    git(job, &["commit", "--quiet", "--message", message]);
}

fn push(job: &Job, branch: &str) {
    let url = job.upstream.url(&job.upstream.address);
    git(job, &["push", "--quiet", &url, &format!("HEAD:refs/heads/{branch}")]);
}

/// A change of what the owner's tools are made of, each with the mark by which it is found.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    path: String,
    /// None: the file is removed.
    content: Option<String>,
    /// The target, where the change has a link there in the place of the file or directory.
    link: Option<String>,
    /// Changes of one number are made together.
    run: u32,
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

impl Case {
    fn make(&self, job: &Job, mark: &str) {
        let path = job.checkout.join(&self.path);
        if self.link.is_some() || self.content.is_none() {
            sh(&["rm", "-rf", &path.display().to_string()]);
        }
        if let Some(target) = &self.link {
            std::os::unix::fs::symlink(target, path).expect("a link");
        } else if let Some(content) = &self.content {
            write(job, &self.path, &content.replace("MARK", mark));
        }
    }
}

const SERVERS: &str = "      notes: { command: [tools/notes], env: { LEVEL: high } }
      other: { command: [python3, tools/other.py] }
    settings: bottle-settings.json
    hooks: { PreToolUse: [{ matcher: Bash, hooks: [{ type: command, command: '\"$CLAUDE_PROJECT_DIR\"/.claude/hooks/check.sh' }] }] }
    base_files: [tools, .claude/hooks]
    plugins: [claude/mine]
";

/// The base branch's tools: two servers, one of which reads a module beside it, a hook of the settings and one of the manifest.
fn tools_job() -> Job {
    let answer = "def answer():\n    return f'{NOTE} in {os.getcwd()} for {os.environ[\"BOTTLE_WORKSPACE\"]}, {os.environ.get(\"LEVEL\")}'\n";
    let notes = format!("{HEAD}from words import NOTE\n{answer}{}", serve("notes"));
    let other = format!("{HEAD}NOTE = 'good-other'\n{answer}{}", serve("other"));
    let settings = json!({"hooks": {"PostToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": ".claude/hooks/after.sh"}]}]}});
    // At its own commit, too, the repository's own settings are not read beside those.
    let own =
        json!({"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "echo evil-own >>/tmp/ran"}]}]}});
    let hook = |name: &str| {
        format!("#!/bin/sh\ncat > /dev/null\necho \"good-{name} in $PWD for $BOTTLE_WORKSPACE\" >> /tmp/ran\n")
    };
    job(
        SERVERS,
        &["notes", "other"],
        &[
            ("tools/notes", &notes),
            ("tools/words.py", "NOTE = 'good-notes'\n"),
            ("tools/other.py", &other),
            ("bottle-settings.json", &settings.to_string()),
            (".claude/settings.json", &own.to_string()),
            (".claude/hooks/check.sh", &hook("check")),
            (".claude/hooks/after.sh", &hook("after")),
            ("claude/mine/.claude-plugin/plugin.json", r#"{"name": "mine", "version": "1.0.0"}"#),
            (
                "claude/mine/skills/look/SKILL.md",
                "---\nname: look\ndescription: Looks\n---\ngood-skill in ${CLAUDE_PLUGIN_ROOT}\n",
            ),
        ],
    )
}

/// What is wrong with a run of the job: the base branch's tools answer from their directory, and no other does anything.
fn wrong(job: &Job, what: &str) -> Vec<String> {
    let output = job.run();
    ended_with(&output, 0);
    let transcript = job.world.record_file("transcript.jsonl");
    let junit = job.world.record_file("junit.xml");
    let (_, ran) = junit.split_once("found").expect("what the verify command printed");
    let place = "in /home/node/.claude-bottle-base for /workspace/app";
    let mut wrong = vec![];
    for good in [format!("good-notes {place}, high"), format!("good-other {place}, None")] {
        if !transcript.contains(&good) {
            wrong.push(format!("{what}: no {good}: {transcript}"));
        }
    }
    let skill = "good-skill in /home/node/.claude-bottle-plugins/mine";
    if !transcript.contains(skill) {
        wrong.push(format!("{what}: no {skill}: {transcript}"));
    }
    for good in ["good-check", "good-after"] {
        if ran.matches(&format!("{good} {place}")).count() != 1 {
            wrong.push(format!("{what}: no {good}: {ran}"));
        }
    }
    if transcript.contains("evil-") || ran.contains("evil-") {
        wrong.push(format!("{what}: what the change brings is in force: {ran}\n{transcript}"));
    }
    job.nothing_left();
    wrong
}

shared!(the_owners_tools_are_the_base_branchs_whatever_a_change_brings: docker, bubblewrap, smolmachines: MINUTES);
fn the_owners_tools_are_the_base_branchs_whatever_a_change_brings() {
    let cases: Cases = toml::from_str(include_str!("tools.toml")).expect("the cases");
    assert!(cases.case.len() >= 15);
    let mut found = wrong(&tools_job(), "at the base branch's own commit");
    for number in 1..=cases.case.iter().map(|case| case.run).max().expect("a case") {
        let job = tools_job();
        git(&job, &["checkout", "--quiet", "-b", "change"]);
        let of_run = cases.case.iter().enumerate().filter(|(_, case)| case.run == number);
        let names: Vec<&str> = of_run.clone().map(|(_, case)| case.name.as_str()).collect();
        of_run.for_each(|(at, case)| case.make(&job, &format!("evil-{at}-")));
        commit(&job, "A change");
        push(&job, BRANCH);
        git(&job, &["checkout", "--quiet", "main"]);
        found.extend(wrong(&job, &names.join("; ")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

shared!(a_tool_that_the_base_branch_has_only_as_a_link_ends_the_run: docker: BASE_DECIDES, bubblewrap, smolmachines: BASE_DECIDES);
/// Before anything starts: what a link leads to is not what the base branch holds.
fn a_tool_that_the_base_branch_has_only_as_a_link_ends_the_run() {
    let job = tools_job();
    std::os::unix::fs::symlink("../claude-bottle.yml", job.checkout.join("tools/linked")).expect("a link");
    commit(&job, "A link");
    git(&job, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    let output = job.run();
    ended_with(&output, 2);
    let message = "error: `tools/linked` of the base branch is no plain file, or its content can't be read\nhelp: a tool's files are neither links nor submodules; commit the file itself\n";
    assert!(said(&output).contains(message), "{}", said(&output));
}

/// Why links have one backend.
const BASE_DECIDES: &str = "it is decided before there is a bottle";

shared!(a_server_that_does_not_start_is_told: docker, bubblewrap, smolmachines: MINUTES);
fn a_server_that_does_not_start_is_told() {
    let servers = "      gone: { command: [python3, tools/not-brought.py] }\n";
    let job = job(servers, &[], &[("tools/not-brought.py", "print('evil-started')\n")]);
    let output = job.run();
    let told = said(&output);
    assert!(told.contains("the MCP server `gone` did not start; the agent works without its tools"), "{told}");
    assert!(!job.world.record_file("transcript.jsonl").contains("evil-started"));
    job.nothing_left();
}

/// A job whose agent has a server at an address, of which one tool of two may be called.
fn remote_job(more: &str) -> (Job, Server) {
    let mut job = Job::new(&asks(&["notes"]).replace("mcp__notes__read", "mcp__notes__read_note"));
    let host = "notes.bottle.test";
    let server = Server::start(&job.world, "mcp_server.py", &job.upstream.address, &[host], &[]);
    let (address, port) = (&job.upstream.address, &server.port);
    let mcp = format!(
        "    mcp: {{ notes: {{ url: \"https://{host}:{port}/mcp\", auth: {{ bearer: BOTTLE_TEST_TOKEN }}, tools: {{ allow: [read_note], arguments: {{ read_note: {{ name: \"team-*\" }} }} }}{more} }} }}\n"
    );
    let text = manifest(&job.upstream)
        .replace("        - { host: api.example.org, auth: { bearer: BOTTLE_TEST_TOKEN } }\n", "")
        .replace("extra_hosts: { ", &format!("extra_hosts: {{ {host}: {address}, "))
        .replace("    git:\n", &format!("    pipelock: {{ allow_private: [\"{address}/32\"] }}\n    git:\n"))
        .replace("    verify: [\"python3 -m unittest\"]", &format!("{mcp}    verify: [\"true\"]"));
    let cassette = json!({"version": 1, "turns": [
        {"tools": [{"name": "ToolSearch", "input": {"query": "select:mcp__notes__read_note,mcp__notes__send", "max_results": 9}}]},
        {"tools": [
            {"name": "mcp__notes__read_note", "input": {"name": "team-one"}},
            {"name": "mcp__notes__read_note", "input": {"name": "other"}},
            {"name": "mcp__notes__send", "input": {"to": "me"}},
        ]},
        {"tools": [{"name": "Bash", "input": {"command": "env | grep -c bottle-placeholder-bottle-test-token; curl -sS -X PUT https://notes.bottle.test:PORT/mcp".replace("PORT", port), "description": "a step"}}]},
        {"text": "That is all."},
    ]});
    job.world.write("cassette.yml", &cassette.to_string());
    let manifest = job.world.write("remote.yml", &text).display().to_string();
    job.args.extend(["--manifest".to_owned(), manifest]);
    (job, server)
}

shared!(a_server_at_an_address_is_asked_what_the_manifest_lets: docker, bubblewrap, smolmachines: MINUTES);
/// The official SDK's server, and the real Claude Code as its client.
fn a_server_at_an_address_is_asked_what_the_manifest_lets() {
    let (job, server) = remote_job("");
    let output = job.command().env("SSL_CERT_FILE", &server.authority).output().expect("the runner");
    ended_with(&output, 0);
    let transcript = job.world.record_file("transcript.jsonl");
    let log = std::fs::read_to_string(&server.log).expect("requests");
    assert!(transcript.contains("the note team-one of the server"), "{transcript}\n{log}");
    assert!(
        transcript.contains("the manifest does not let the argument `name` of the tool `read_note` be `other`"),
        "{transcript}"
    );
    assert!(!transcript.contains("evil-") && transcript.contains("no_route"), "{transcript}");
    assert_eq!(log.matches("tools/call").count(), 1, "{log}");
    assert!(!log.contains("elicitation") && !log.contains("server/discover"), "{log}");
    for line in log.lines() {
        let request: serde_json::Value = serde_json::from_str(line).expect("a request");
        assert_eq!(request["headers"]["authorization"], format!("Bearer {}", job.world.secret()), "{line}");
    }
    let egress = job.world.record_file("egress.jsonl");
    assert!(egress.contains("\"reason\":\"mcp\"") && !egress.contains(job.world.secret()), "{egress}");
    job.nothing_left();
}

shared!(a_server_that_is_described_otherwise_than_the_manifest_says_is_stopped: docker, bubblewrap, smolmachines: MINUTES);
fn a_server_that_is_described_otherwise_than_the_manifest_says_is_stopped() {
    let (job, server) = remote_job(&format!(", descriptions: sha256:{}", "0".repeat(64)));
    let output = job.command().env("SSL_CERT_FILE", &server.authority).output().expect("the runner");
    ended_with(&output, 0);
    let log = std::fs::read_to_string(&server.log).expect("requests");
    assert!(log.contains("tools/list") && !log.contains("tools/call"), "{log}");
    assert!(!job.world.record_file("transcript.jsonl").contains("Reads a note."));
    let doors = job.world.record_file("compose.log");
    assert!(
        doors.contains("the server `notes` is stopped for this run: its tools are described by sha256:"),
        "{doors}"
    );
    job.nothing_left();
}
