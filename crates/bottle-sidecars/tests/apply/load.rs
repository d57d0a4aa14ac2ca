//! A thousand policies under full traffic: no request is dropped, none is judged by two policies, and each new policy is in
//! force for the next request.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bottle_types::door::Door;
use bottle_wire::control::{Applied, Apply, Call, SUPERVISE_SOCKET};

use crate::world::{Client, World};

/// One policy by hand; none if supervise went away.
pub(crate) fn apply(internal: &Path, door: Door, text: &str) -> Option<Applied> {
    let mut stream = UnixStream::connect(internal.join(SUPERVISE_SOCKET)).ok()?;
    let call = Call::Apply(Apply { door, text: text.to_owned(), user: "ann".to_owned() });
    let line = format!("{}\n", serde_json::to_string(&call).expect("JSON"));
    stream.write_all(line.as_bytes()).ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    serde_json::from_str(&answer).ok()
}

/// Two policies whose routes have other numbers: a request that one door judges by the first and the other by the second
/// is refused by either. Each allows something that the other one does not.
fn policies(origin: u16) -> [String; 2] {
    let place = format!("host: localhost, port: {origin}, scheme: http, methods: [GET, POST]");
    let route = |path: &str| format!("  - {{ {place}, paths: [\"{path}\"] }}\n");
    [["/a/**", "/both/**"], ["/both/**", "/b/**"]]
        .map(|paths| format!("version: 1\nroutes:\n{}", paths.map(route).concat()))
}

/// What came of the traffic.
#[derive(Debug, Default)]
struct Traffic {
    stop: AtomicBool,
    requests: AtomicUsize,
    dropped: AtomicUsize,
    wrong: AtomicUsize,
}

/// Sends on one connection until told to stop.
fn traffic(socket: &Path, origin: u16, number: usize, told: &Traffic) {
    let mut client = Client::new(socket);
    let mut count = number;
    while !told.stop.load(Ordering::Relaxed) {
        count += 1;
        let (method, path) = match count % 3 {
            0 => ("GET", format!("/both/{count}")),
            1 => ("POST", format!("/both/{count}")),
            _ => ("GET", format!("/{}/{count}", if count.is_multiple_of(2) { "a" } else { "b" })),
        };
        let body = "x".repeat(if method == "POST" { 2000 } else { 0 });
        told.requests.fetch_add(1, Ordering::Relaxed);
        let Some((status, text)) = client.try_send(origin, method, &path, &body) else {
            told.dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let good = match status {
            200 => text == format!("{path} {}", body.len()),
            // One of the two policies refuses it, and so does the other door by the same one.
            403 => !path.starts_with("/both/") && text.contains("no_route"),
            _ => false,
        };
        if !good {
            told.wrong.fetch_add(1, Ordering::Relaxed);
            eprintln!("{method} {path}: {status} {text}");
        }
    }
}

/// Applies so many policies under traffic; gives how long each took, in the order of time, and how many requests went.
pub(crate) fn applies(count: usize, clients: usize) -> (Vec<Duration>, usize) {
    let world = World::start("approval: local\n");
    let (internal, socket) = (world.path("internal"), world.path("doors/egress.sock"));
    let policies = policies(world.origin);
    assert!(matches!(apply(&internal, Door::Egress, &policies[1]), Some(Applied::InForce { .. })));
    let told = Arc::new(Traffic::default());
    let threads: Vec<_> = (0..clients)
        .map(|number| {
            let (socket, told, origin) = (socket.clone(), Arc::clone(&told), world.origin);
            thread::spawn(move || traffic(&socket, origin, number * 7, &told))
        })
        .collect();
    let mut times = vec![];
    for round in 0..count {
        let start = Instant::now();
        let applied = apply(&internal, Door::Egress, &policies[round % 2]);
        times.push(start.elapsed());
        assert!(matches!(applied, Some(Applied::InForce { .. })), "round {round}: {applied:?}");
        // The next request, on a connection of its own.
        let mut client = Client::new(&socket);
        let mut get = |path: &str| client.send(world.origin, "GET", path, "").0;
        let seen = (get("/a/x"), get("/b/x"), get("/both/x"));
        assert_eq!(seen, if round % 2 == 0 { (200, 403, 200) } else { (403, 200, 200) }, "round {round}");
    }
    told.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("an end");
    }
    let counted = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    assert_eq!((counted(&told.dropped), counted(&told.wrong)), (0, 0));
    assert!(counted(&told.requests) > count, "{told:?}");
    assert_eq!(world.verify().map(|verified| verified.applied), Ok(count + 1));
    times.sort_unstable();
    (times, counted(&told.requests))
}

/// The figures for `scripts/bench apply` go to the file that BENCH_APPLY names.
#[test]
fn a_thousand_policies_under_traffic() {
    let (times, requests) = applies(1000, 4);
    let ms = |share: usize| times[(times.len() * share / 1000).min(times.len() - 1)].as_secs_f64() * 1000.0;
    let line = format!(
        "{{\"applies\": {}, \"requests\": {requests}, \"median_ms\": {:.2}, \"p99_ms\": {:.2}, \"max_ms\": {:.2}}}",
        times.len(),
        ms(500),
        ms(990),
        ms(1000)
    );
    if let Ok(path) = std::env::var("BENCH_APPLY") {
        std::fs::write(path, line).expect("a file");
    }
}
