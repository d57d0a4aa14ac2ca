//! Ten thousand connections at once, half of them idle, half dripping; and a door that is killed.

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::make::Secrets;
use crate::world::{World, get, refusal, request};

const CONNECTIONS: usize = 10_000;
/// Of both daemons together.
const MOST_KIB: u64 = 200 << 10;

#[tokio::test]
async fn honest_requests_pass_between_ten_thousand_idle_and_dripping_connections() {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.unwrap_or(u64::MAX);
    assert!(
        enough >= CONNECTIONS as u64 + 100,
        "this test needs {} open files, and may have {enough}",
        CONNECTIONS + 100
    );
    // The daemons, which are started afterwards, may have as many.
    setrlimit(Resource::Nofile, Rlimit { current: Some(enough.min(65_536)), maximum: limit.maximum }).expect("a limit");
    let world = World::usual().await;
    let socket = world.path("doors/egress.sock");
    let place = format!("localhost:{}", world.origin.port);
    let mut held = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let mut stream = UnixStream::connect(&socket).await.expect("a connection");
        match number % 4 {
            // A head without an end; and a hello of which one byte has come.
            0 => stream.write_all(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nX-Drip: ").as_bytes()).await,
            1 => {
                let head = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n\x16");
                stream.write_all(head.as_bytes()).await
            }
            _ => Ok(()),
        }
        .expect("sent");
        held.push(stream);
        // While they come, and when all are there.
        if number % 1000 == 999 {
            let start = Instant::now();
            assert_eq!(world.send(get("/open/x")).await.status(), 200);
            assert!(start.elapsed() < Duration::from_secs(5), "{number}: {:?}", start.elapsed());
            for dripping in held.iter_mut().step_by(4) {
                dripping.write_all(b"x").await.expect("sent");
            }
        }
    }
    let body = world.send(request("POST", "/open/x", vec![b'x'; 100_000])).await;
    assert_eq!(body.into_body().collect().await.expect("a body").to_bytes(), "fine");
    let (status, _) = refusal(world.send(request("POST", "/open/x", Secrets::real().known)).await).await;
    assert_eq!(status, 403);
    let used: u64 = world.resident_kib().iter().sum();
    assert!(used < MOST_KIB, "{used} KiB");
}

/// The supervisor's part, a start within a second, is in `supervisor`.
#[tokio::test]
async fn a_door_that_is_killed_lets_nothing_out() {
    let mut world = World::usual().await;
    assert_eq!(world.send(get("/open/x")).await.status(), 200);
    world.kill(0);
    let secret = Secrets::real().known;
    for asked in [get("/open/x"), request("POST", "/open/x", secret.clone())] {
        let (status, body) = refusal(world.send(asked).await).await;
        assert_eq!((status.as_u16(), &body["error"]), (502, &"pipelock".into()));
    }
    world.daemon("pipelock", "pipelock.yaml", "internal/pipelock.sock").await;
    assert_eq!(world.send(get("/open/x")).await.status(), 200);
    let (status, _) = refusal(world.send(request("POST", "/open/x", secret.clone())).await).await;
    assert_eq!(status, 403);
    world.kill(1);
    // Nobody answers, and the same authority comes back.
    let before = std::fs::read(world.path("state/ca/egress.crt")).expect("a certificate");
    world.daemon("egress", "routes.yaml", "doors/egress.sock").await;
    assert_eq!(std::fs::read(world.path("state/ca/egress.crt")).expect("a certificate"), before);
    assert_eq!(world.send(get("/open/x")).await.status(), 200);
    let (status, _) = refusal(world.send(request("POST", "/open/x", secret.clone())).await).await;
    assert_eq!(status, 403);
    let seen = world.origin.state.seen.lock().expect("a lock");
    assert!(seen.iter().all(|seen| !String::from_utf8_lossy(&seen.body).contains(&secret)));
}
