//! Files that people attach to what they write: what a run fetches of them, with which token, and what the agent is given.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bottle_testkit::{Double, World, commands, said};
use serde::Deserialize;
use serde_json::{Value, json};

use super::asks::{MAINTAINER, command, comment, job_with};
use super::{MANIFEST, job, labeled};
use crate::RUNNER;
use crate::job::ended_with;
use crate::place::{Place, on};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    forge: String,
    /// The text; `{server}` is the forge's address.
    text: String,
    /// So often.
    #[serde(default = "one")]
    times: usize,
    /// What the forge has, by the path.
    #[serde(default)]
    asset: BTreeMap<String, Asset>,
    /// Keys of the agent.
    #[serde(default)]
    agent: String,
    /// What of each attachment the plan says, in order: its kind, and words of it.
    #[serde(default)]
    given: Vec<String>,
    /// What was asked for, in order: path and token.
    #[serde(default)]
    asked: Vec<String>,
    /// Words of the plan's notes and of the prompt.
    #[serde(default)]
    says: Vec<String>,
}

/// What the stand-in is told; `content` is `png W H`, `bomb W H`, `half W H` (of a PNG), `zip`, or `text …`.
type Asset = BTreeMap<String, Value>;

fn one() -> usize {
    1
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![]);
    image::RgbImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).expect("a picture");
    bytes.into_inner()
}

/// A PNG whose head says another size, with its checksum.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(1, 1);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let mut sum = flate2::Crc::new();
    sum.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.sum().to_be_bytes());
    bytes
}

fn content(made: &str) -> Vec<u8> {
    let (kind, rest) = made.split_once(' ').unwrap_or((made, ""));
    let size = || {
        let mut sides = rest.split(' ').map(|side| side.parse().expect("a number"));
        (sides.next().expect("a width"), sides.next().expect("a height"))
    };
    match kind {
        "png" => png(size().0, size().1),
        "bomb" => bomb(size().0, size().1),
        "half" => png(size().0, size().1)[..60].to_vec(),
        "zip" => b"PK\x03\x04\x14\0\0\0\x08\0".to_vec(),
        "text" => rest.as_bytes().to_vec(),
        "" => vec![],
        other => panic!("{other}"),
    }
}

fn state(assets: &BTreeMap<String, Asset>) -> Value {
    let mut told = json!({});
    for (path, asset) in assets {
        let made = asset.get("content").and_then(Value::as_str).unwrap_or_default();
        told[path] = json!(asset);
        told[path]["content"] = json!(BASE64_STANDARD.encode(content(made)));
    }
    json!({ "assets": told })
}

/// The requests for attachments, as `path token`.
fn asked(double: &Double) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let log = double.log();
    log.iter().filter_map(|line| Some(format!("{} {}", text(&line["asset"])?, text(&line["token"])?))).collect()
}

fn check(case: &Case) {
    let kind = if case.forge == "gitea" { "gitea" } else { "github" };
    let double = Double::start(kind, state(&case.asset));
    let world = World::new(RUNNER);
    world.write(
        "claude-bottle.yml",
        &MANIFEST.replace("bottle: default }", &format!("bottle: default{} }}", case.agent)),
    );
    let mut event = labeled(MAINTAINER.0, MAINTAINER.1);
    let lines = (0..case.times).map(|n| case.text.replace("{server}", &double.server).replace("{n}", &n.to_string()));
    event["issue"]["body"] = json!(lines.collect::<Vec<_>>().join("\n"));
    let mut command = world.runner();
    command.args(["plan", "--format", "json"]);
    job(&world, &double, &mut command, "issues", &event);
    let output = command.output().expect("the runner");
    let name = &case.name;
    assert!(output.status.success(), "{name}: {}", said(&output));
    let plan: Value = serde_json::from_slice(&output.stdout).expect("a plan");
    let given = plan["task"]["attachments"].as_array().cloned().unwrap_or_default();
    assert_eq!(given.len(), case.given.len(), "{name}: {given:?}");
    for (attachment, expected) in given.iter().zip(&case.given) {
        let (kind, words) = expected.split_once(' ').unwrap_or((expected, ""));
        assert_eq!(attachment["given"]["kind"], kind, "{name}: {attachment}");
        assert!(attachment["given"].to_string().contains(words), "{name}: no {words:?} in {attachment}");
    }
    assert_eq!(asked(&double), case.asked, "{name}");
    let (notes, prompt) = (plan["notes"].to_string(), plan["prompt"]["text"].as_str().expect("a prompt"));
    for words in &case.says {
        assert!(notes.contains(words) || prompt.contains(words), "{name}: no {words:?} in {notes} {prompt}");
    }
    assert!(!plan.to_string().contains(&double.token), "{name}: the token is in the plan");
}

#[test]
fn what_is_fetched_and_given_is_as_the_cases_say() {
    let cases: Cases = toml::from_str(include_str!("attachments.toml")).expect("cases");
    cases.case.iter().for_each(check);
}

/// What the agent finds, and prints; the file is not the agent's to change.
const LOOKING: &str = "cd ~/.claude-bottle-attachments && ls -1 && head -c 8 1-Screenshot.png | od -An -c && cat 2-build.log \
    && ! echo x >> 2-build.log";
const ID: &str = "0b2f5a3e-1111-4222-8333-944445555666";

fn agent_sees_them() {
    for kind in ["github", "gitea"] {
        let picture =
            if kind == "github" { format!("/user-attachments/assets/{ID}") } else { format!("/attachments/{ID}") };
        let log = match kind {
            "github" => "/user-attachments/files/17/build.log".to_owned(),
            _ => format!("/attachments/{}", ID.replace("666", "777")),
        };
        let (job, double) = job_with(kind, &commands(&[LOOKING]), json!({}), |rules| rules);
        // The log has the run's own secret, which the agent does not get.
        let secret = job.world.secret();
        let text = format!("line 1\u{1b}[31m\u{200b}\nkey={secret}\n");
        let late = format!("/user-attachments/files/99/{ID}.txt");
        let assets = json!({
            &picture: {"content": BASE64_STANDARD.encode(png(20, 10))}, &log: {"content": BASE64_STANDARD.encode(text)},
            late: {"content": ""},
        });
        drop(double);
        let double = Double::start_at(kind, "127.0.0.1", Some(&job.world.path("served")), json!({ "assets": assets }));
        let mut event = comment(MAINTAINER, "/claude look at this", None);
        let server = &double.server;
        event["issue"]["body"] =
            json!(format!("Broken:\n![Screenshot.png]({server}{picture})\n[build.log]({server}{log})\n"));
        let output = command(&job, &double, "95", "issue_comment", &event).output().expect("the runner");
        ended_with(&output, 0);
        let transcript = job.world.record_file("transcript.jsonl");
        for seen in ["1-Screenshot.png", "2-build.log", "P   N   G", "line 1", "key=***"] {
            assert!(transcript.contains(seen), "{kind}: no {seen}: {transcript}");
        }
        let plan: Value = serde_json::from_str(&job.world.record_file("plan.json")).expect("a plan");
        let prompt = plan["prompt"]["text"].as_str().expect("a prompt");
        assert!(
            prompt.contains("/.claude-bottle-attachments/1-Screenshot.png: a picture, 20 x 10, attached by "),
            "{prompt}"
        );
        let lines = job.world.record_file("attachments.jsonl");
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0]["file"]["sha256"].as_str().map(str::len), Some(64), "{lines:?}");
        assert_eq!(
            (&lines[1]["given"]["name"], &lines[1]["attached_to"]),
            (&json!("2-build.log"), &json!("text of the issue"))
        );
        double.assert_valid();
        job.nothing_left();
    }
}

#[test]
fn the_agent_has_what_people_attached() {
    on(Place::Bubblewrap, agent_sees_them);
}

#[test]
fn the_decoder_alone_says_what_is_wrong() {
    for (bytes, says) in [
        (png(3, 2), "{\"picture\":{\"kind\":\"png\",\"from\":[3,2],\"size\":[3,2]}}\n"),
        (bomb(20_000, 20_000), "{\"toolarge\":[20000,20000]}\n"),
        (vec![], "{\"broken\":"),
    ] {
        let world = World::new(RUNNER);
        let mut command = world.runner();
        let mut child = command
            .args(["self", "picture"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("the runner");
        child.stdin.take().expect("a pipe").write_all(&bytes).expect("bytes");
        let output = child.wait_with_output().expect("the runner");
        assert!(output.status.success() && output.stdout.starts_with(says.as_bytes()), "{}", said(&output));
    }
}
