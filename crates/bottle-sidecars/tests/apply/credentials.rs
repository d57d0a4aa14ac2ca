//! Credentials that change while a bottle runs: the new one is used at once, those before stay known, and one that has ended
//! goes nowhere.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bottle_testkit::until;
use bottle_types::secret::{Secret, SecretName};
use bottle_wire::control::{CredentialUpdate, CredentialsTaken};
use bottle_wire::proposal::PolicyFile;

use crate::world::{Client, World};

/// The first value of the world's one secret.
const FIRST: &str = "a-value-of-our-own-1234567890";
const ROTATIONS: usize = 10;
/// So many requests go by with each value: half a second of them.
const BETWEEN: usize = 100;

/// The paths that a server was asked for, each with what came in `x-token`.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// An HTTP server that answers 200, and keeps what it was asked.
fn origin() -> (u16, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let seen = Arc::new(Mutex::new(vec![]));
    let sink = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let sink = Arc::clone(&sink);
            thread::spawn(move || {
                let mut writer = stream.try_clone().expect("a stream");
                let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
                while let Some(start) = lines.next() {
                    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
                    let token = head.iter().find_map(|line| line.strip_prefix("x-token: ")).unwrap_or_default();
                    let path = start.split(' ').nth(1).unwrap_or_default();
                    sink.lock().expect("requests").push((path.to_owned(), token.to_owned()));
                    // Some services show what they were sent.
                    let text = format!("{start} {token}");
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                    if writer.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, seen)
}

/// A bundle with a route to that server, whose credential is the world's secret.
fn world() -> (World, u16, Seen) {
    let (port, seen) = origin();
    let world = World::with("approval: local\n", |first| {
        let route = format!("host: localhost, port: {port}, scheme: http, methods: [GET, POST], paths: [\"/**\"]");
        let routes = format!("version: 1\nroutes:\n  - {{ {route}, auth: {{ header: x-token, from: SOME_KEY }} }}\n");
        first.insert(PolicyFile::Routes, routes);
        first.insert(PolicyFile::Gate, "version: 1\nsecrets: [SOME_KEY]\n".to_owned());
    });
    (world, port, seen)
}

/// The value that came last.
fn last(seen: &Seen) -> Option<String> {
    seen.lock().expect("requests").last().map(|(_, token)| token.clone())
}

fn update(value: Option<&str>, ends_at: Option<u64>, failure: Option<&str>) -> CredentialUpdate {
    CredentialUpdate {
        name: SecretName::parse("SOME_KEY").expect("a name"),
        value: value.map(|value| Secret::new(value.to_owned())),
        ends_at,
        failure: failure.map(str::to_owned),
    }
}

fn give(world: &World, update: &CredentialUpdate) -> CredentialsTaken {
    let json = serde_json::to_string(&[update]).expect("JSON");
    let output = world.control(&["credentials"], &json);
    let taken = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(output.status.code(), Some(i32::from(taken != CredentialsTaken::InForce)), "{output:?}");
    taken
}

fn value(number: usize) -> String {
    if number == 0 { FIRST.to_owned() } else { format!("value-{number}-of-our-own-0987654321-{}", number * 7919) }
}

fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time");
    u64::try_from(since.as_millis()).expect("milliseconds")
}

/// Asks 50 times a second until it is told to stop, each time for the path of the value that was in force before.
fn ask_on(socket: &Path, port: u16, in_force: &AtomicUsize, stop: &AtomicBool) -> Vec<Option<(u16, String)>> {
    let (mut client, mut answers) = (Client::new(socket), vec![]);
    while !stop.load(Ordering::Relaxed) {
        let number = in_force.load(Ordering::SeqCst);
        answers.push(client.try_send(port, "GET", &format!("/after/{number}"), ""));
        thread::sleep(Duration::from_millis(20));
    }
    answers
}

#[test]
fn ten_values_under_two_hundred_requests_a_second() {
    let (world, port, seen) = world();
    let (stop, in_force) = (AtomicBool::new(false), AtomicUsize::new(0));
    let socket = world.path("doors/egress.sock");
    let answers: Vec<_> = thread::scope(|scope| {
        let askers: Vec<_> = (0..4).map(|_| scope.spawn(|| ask_on(&socket, port, &in_force, &stop))).collect();
        for number in 1..=ROTATIONS {
            assert_eq!(give(&world, &update(Some(&value(number)), None, None)), CredentialsTaken::InForce);
            in_force.store(number, Ordering::SeqCst);
            let now = seen.lock().expect("requests").len();
            until("a hundred requests", || seen.lock().expect("requests").len() >= now + BETWEEN);
        }
        stop.store(true, Ordering::Relaxed);
        askers.into_iter().flat_map(|asker| asker.join().expect("an end")).collect()
    });
    assert!(answers.len() >= ROTATIONS * BETWEEN, "{}", answers.len());
    for answer in answers {
        let (status, body) = answer.expect("no connection is dropped");
        assert!(status == 200 && !body.contains("of-our-own"), "{status} {body}");
    }
    // What was asked when a value was in force came with that one, or with one that was put in force on its way.
    for (path, token) in seen.lock().expect("requests").iter() {
        let asked: usize = path.strip_prefix("/after/").and_then(|number| number.parse().ok()).expect("a path of ours");
        let sent = (0..=ROTATIONS).find(|number| *token == value(*number)).expect("a value of ours");
        assert!(sent >= asked, "{path} came with the value {sent}");
    }
    // All eleven are known to the scanner, in every form that it knows.
    for number in 0..=ROTATIONS {
        for text in [value(number), hex::encode(value(number))] {
            let (status, body) = Client::new(&world.path("doors/egress.sock")).send(port, "POST", "/x", &text);
            assert!(status == 403 && body.contains("known-secret:SOME_KEY"), "{number}: {status} {body}");
        }
    }
    nothing_shows(&world);
}

fn world_get(world: &World, port: u16, path: &str) -> (u16, String) {
    Client::new(&world.path("doors/egress.sock")).send(port, "GET", path, "")
}

/// Neither what the bundle says nor what it keeps has any of the values.
fn nothing_shows(world: &World) {
    let mut dirs = vec![world.path("state"), world.path("config")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory").map_while(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains("of-our-own"), "{}: {text}", path.display());
            }
        }
    }
    assert!(!world.said().contains("of-our-own"), "{}", world.said());
}

#[test]
fn one_that_has_ended_goes_nowhere_and_the_refusal_says_why() {
    let (world, port, seen) = world();
    let ended = update(None, Some(millis() + 400), Some("`vault` ended with 2"));
    assert_eq!(give(&world, &ended), CredentialsTaken::InForce);
    assert_eq!(world_get(&world, port, "/before").0, 200);
    thread::sleep(Duration::from_millis(450));
    let before = seen.lock().expect("requests").len();
    let (status, body) = world_get(&world, port, "/after");
    assert_eq!(status, 503, "{body}");
    for part in ["\"credential\"", "SOME_KEY has ended", "its renewal failed: `vault` ended with 2"] {
        assert!(body.contains(part), "{body}");
    }
    assert_eq!(seen.lock().expect("requests").len(), before, "it was sent all the same");
    let log = std::fs::read_to_string(world.path("state/log/egress.jsonl")).expect("a log");
    assert!(log.lines().last().is_some_and(|line| line.contains("\"reason\":\"credential\"")), "{log}");
    // A door that is started again knows it, too.
    world.kill("pipelock", 1);
    world.line("pipelock ready", 2);
    assert_eq!(world_get(&world, port, "/again").0, 503);

    assert_eq!(give(&world, &update(Some(&value(1)), Some(millis() + 60_000), None)), CredentialsTaken::InForce);
    assert_eq!(world_get(&world, port, "/new").0, 200);
    assert_eq!(last(&seen), Some(value(1)));
}

#[test]
fn a_value_that_a_door_can_not_take_leaves_the_one_before() {
    let (world, port, seen) = world();
    for (bad, says) in [
        ("two lines of\nour-own-1234567890", "can't be the value of a header"),
        ("tiny-1", "too short to be told from ordinary text"),
    ] {
        let CredentialsTaken::Kept { reason } = give(&world, &update(Some(bad), None, None)) else {
            panic!("{bad} is in force");
        };
        assert!(reason.contains(says) && !reason.contains(bad), "{reason}");
        assert_eq!(world_get(&world, port, "/x").0, 200);
        assert_eq!(last(&seen).as_deref(), Some(FIRST));
        assert!(!world.path("secrets/SOME_KEY.1").exists());
    }
    let mut other = update(Some(&value(1)), None, None);
    other.name = SecretName::parse("OTHER_KEY").expect("a name");
    let CredentialsTaken::Kept { reason } = give(&world, &other) else { panic!("a new credential came in") };
    assert_eq!(reason, "this bottle has no credential OTHER_KEY");
    assert!(!world.path("secrets/OTHER_KEY").exists());
    // And what is no list of credentials is not shown again.
    let output = world.control(&["credentials"], "[{\"name\": \"SOME_KEY\", \"value\": 77777777}]");
    assert_eq!(output.status.code(), Some(2));
    assert!(!format!("{output:?}").contains("77777777"), "{output:?}");
    nothing_shows(&world);
}
