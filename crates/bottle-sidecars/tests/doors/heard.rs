//! What upstream says over a WebSocket: the cases of `heard.toml`, where findings block, where they warn, and where nobody looks.

use std::io::Write as _;
use std::time::Duration;

use bottle_types::rule::Rule;
use bottle_wire::access::{Access, AccessVerdict};
use pretty_assertions::assert_eq;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use crate::make::Secrets;
use crate::switch::{frame, socket};
use crate::world::{Setup, World};

const ROUTES: &str = "\n  - { host: localhost, port: PORT, paths: [/open/socket], websocket: true }\n";
const HELLO: &[u8] = b"\x81\x05hello";

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    frames: Vec<String>,
    ends: Option<u16>,
    rule: Option<Rule>,
}

impl Case {
    /// Its frames as a server sends them.
    fn bytes(&self) -> Vec<Vec<u8>> {
        let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
        let one = |text: &String| {
            let text = text.replace("{token}", &token).replace("{known}", &Secrets::real().known);
            let (kind, text) = text.split_once(' ').expect("a kind and a text");
            let first = match kind {
                "begin" => 0x01,
                "go" => 0x00,
                "end" => 0x80,
                "text" => 0x81,
                "binary" => 0x82,
                "ping" => 0x89,
                "raw" => return hex::decode(text).expect("hex"),
                "masked" => return frame(0x81, text.as_bytes()),
                "packed" => return server_frame(0xc1, &deflated(text)),
                other => panic!("no kind of frame: {other}"),
            };
            server_frame(first, text.as_bytes())
        };
        self.frames.iter().map(one).collect()
    }
}

fn cases() -> Vec<Case> {
    toml::from_str::<Cases>(include_str!("heard.toml")).expect("cases").case
}

fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, u8::try_from(payload.len()).expect("short").min(125)], payload].concat()
}

/// RFC 7692, 7.2.1.
fn deflated(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::DeflateEncoder::new(vec![], flate2::Compression::default());
    packed.write_all(text.as_bytes()).expect("packed");
    packed.flush().expect("packed");
    let bytes = packed.get_ref().clone();
    bytes.strip_suffix(&[0, 0, 0xff, 0xff]).unwrap_or(&bytes).to_vec()
}

async fn world(policy: &'static str) -> World {
    World::start(Setup { routes: ROUTES, pipelock: policy, ..Setup::default() }).await
}

/// What the guest hears, until nothing more comes or the connection ends; and pipelock's line about it.
async fn heard(world: &World, at: usize, case: &Case) -> (Vec<u8>, bool, Access) {
    *world.origin.state.speech.lock().expect("a lock") = case.bytes().concat();
    let (mut tls, head) = socket(world, "/open/socket").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{}: {head}", case.name);
    let (mut bytes, mut buffer) = (vec![], [0; 4096]);
    let ended = loop {
        match tokio::time::timeout(Duration::from_millis(300), tls.read(&mut buffer)).await {
            Ok(Ok(read)) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
            Ok(_) => break true,
            Err(_) => break false,
        }
    };
    drop(tls);
    (bytes, ended, world.log("pipelock.jsonl", at + 1).await.remove(at))
}

#[tokio::test]
async fn where_findings_block_nothing_of_the_message_comes_in() {
    let world = world("response_scanning: { action: block }\n").await;
    for (at, case) in cases().iter().enumerate() {
        let (bytes, ended, line) = heard(&world, at, case).await;
        // What is no frame may take with it what came in the same piece.
        let said = bytes.strip_prefix(HELLO).unwrap_or(&bytes);
        let Some(code) = case.ends else {
            assert_eq!((said, ended), (case.bytes().concat().as_slice(), false), "{}", case.name);
            assert_eq!((line.verdict, line.finding), (AccessVerdict::Allow, None), "{}", case.name);
            continue;
        };
        let text = String::from_utf8_lossy(said).into_owned();
        let close = said.windows(4).position(|four| four[0] == 0x88 && four[2..4] == code.to_be_bytes());
        assert!(ended && close.is_some(), "{}: {text}", case.name);
        for word in ["previous instructions", "ghp_a1B2", &Secrets::real().known, "uctions.", "and go on", "compressed"]
        {
            assert!(!text.contains(word), "{}: {text}", case.name);
        }
        let (verdict, reason) =
            if code == 1002 { (AccessVerdict::Deny, "websocket") } else { (AccessVerdict::Block, "answer") };
        assert_eq!((line.verdict, line.reason.as_deref()), (verdict, Some(reason)), "{}", case.name);
        assert_eq!(line.finding.map(|found| found.rule), case.rule, "{}", case.name);
    }
}

#[tokio::test]
async fn where_they_warn_all_comes_in_and_the_line_says_what() {
    let world = world("response_scanning: { action: warn }\n").await;
    for (at, case) in cases().iter().enumerate() {
        let (bytes, ended, line) = heard(&world, at, case).await;
        assert_eq!((bytes, ended), ([HELLO, &case.bytes().concat()].concat(), false), "{}", case.name);
        assert_eq!(line.verdict, AccessVerdict::Allow);
        let found = line.finding.map(|found| found.rule);
        match (&case.rule, case.ends) {
            (None, Some(_)) => assert!(found.is_some_and(|rule| matches!(rule, Rule::Unreadable(_))), "{}", case.name),
            (rule, _) => assert_eq!(found, *rule, "{}", case.name),
        }
    }
}

#[tokio::test]
async fn where_nobody_looks_all_comes_in_up_to_its_limit() {
    let world = world("response_scanning: { max_body_bytes: 1KiB }\n").await;
    for (at, case) in cases().iter().enumerate() {
        let (bytes, ended, line) = heard(&world, at, case).await;
        assert_eq!((bytes, ended), ([HELLO, &case.bytes().concat()].concat(), false), "{}", case.name);
        // Words that talk an agent into something are noted all the same.
        let words = case.rule.clone().filter(|rule| rule.id().is_some_and(|id| id.starts_with("injection-")));
        let noted = line.finding.map(|found| found.rule);
        assert_eq!((line.verdict, noted), (AccessVerdict::Allow, words), "{}", case.name);
    }
    let (name, frames) = ("long".to_owned(), vec![format!("text {}", "x".repeat(120)); 20]);
    let (bytes, ended, line) = heard(&world, cases().len(), &Case { name, frames, ends: None, rule: None }).await;
    assert!(ended && bytes.len() <= 1024, "{}", bytes.len());
    assert_eq!((line.verdict, line.reason.as_deref()), (AccessVerdict::Block, Some("answer_too_large")));
}
