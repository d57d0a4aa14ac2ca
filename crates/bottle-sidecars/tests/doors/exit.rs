//! What pipelock lets out, with which credential, and what it stops.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use bottle_policy::bundle::image_user;
use bottle_types::door::Door;
use bottle_wire::access::AccessVerdict;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use pretty_assertions::assert_eq;

use crate::world::{KEY, PLACEHOLDER, Setup, World, get, refusal, request};

/// What pipelock answers to a thread of this user; nothing: the connection is closed.
fn asked_by(world: &World, user: u32) -> String {
    let socket = world.path("internal/pipelock.sock");
    let asking = std::thread::spawn(move || {
        if user != rustix::process::geteuid().as_raw() {
            let user = rustix::process::Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user).expect("this thread's user");
        }
        let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("connected");
        // It may be closed before all is sent.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).expect("text")
    });
    asking.join().expect("asked")
}

#[tokio::test]
async fn pipelock_is_there_for_egress_root_and_its_own_user_alone() {
    let world = World::usual().await;
    for dir in ["", "internal"] {
        std::fs::set_permissions(world.path(dir), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let own = rustix::process::geteuid();
    let knows = "pipelock takes requests from egress alone";
    assert!(asked_by(&world, own.as_raw()).contains(knows));
    // Only root can be somebody else.
    if own.is_root() {
        assert!(asked_by(&world, image_user(Door::Egress).id).contains(knows));
        for stranger in [image_user(Door::GitGate).id, image_user(Door::Supervise).id, 1000, 65534] {
            assert_eq!(asked_by(&world, stranger), "", "user {stranger}");
        }
    }
}

#[tokio::test]
async fn an_allowed_request_gets_its_routes_credential() {
    let world = World::usual().await;
    for alpn in ["http/1.1", "h2"] {
        let mut asked = request("POST", "/key/a%20b?q=1", "hello");
        for (name, value) in [
            ("x-api-key", PLACEHOLDER),
            ("authorization", "Bearer someone-elses-key"),
            ("x-bottle-route", "1"),
            ("x-bottle-host", "evil.example"),
            ("x-other", "kept"),
        ] {
            asked.headers_mut().insert(name, value.parse().expect("a value"));
        }
        let response = world.send_to("localhost", world.origin.port, alpn, asked).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-echo"], "***");
        assert!(!response.headers().contains_key("set-cookie"));
        assert!(!response.headers().keys().any(|name| name.as_str().starts_with("x-bottle")));
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body, "fine");
        let seen = world.origin.state.seen.lock().expect("a lock").pop().expect("a request");
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/key/a%20b?q=1"));
        assert_eq!((seen.body.as_slice(), seen.whole), (&b"hello"[..], true));
        assert_eq!(
            (&seen.headers["x-api-key"], &seen.headers["x-other"]),
            (&KEY.parse().expect("a key"), &"kept".parse().expect("text"))
        );
        assert!(!seen.headers.contains_key("authorization"));
        assert!(!seen.headers.keys().any(|name| name.as_str().starts_with("x-bottle")), "{:?}", seen.headers);
    }
    let (egress, pipelock) = (world.log("egress.jsonl", 2).await, world.log("pipelock.jsonl", 2).await);
    for (ours, theirs) in egress.iter().zip(&pipelock) {
        assert_eq!(ours.id, theirs.id);
        assert_eq!((ours.bytes_out, ours.bytes_in, ours.route), (5, 4, Some(0)));
        assert_eq!(ours.credential.as_deref(), Some("ANTHROPIC_API_KEY"));
    }
    // A route without a credential gets none, and its placeholder stays here.
    let mut asked = get("/open/x");
    asked.headers_mut().insert("authorization", format!("Bearer {PLACEHOLDER}").parse().expect("a value"));
    assert_eq!(world.send(asked).await.headers()["set-cookie"], "session=1");
    let seen = world.origin.state.seen.lock().expect("a lock").pop().expect("a request");
    assert!(!seen.headers.contains_key("x-api-key") && !seen.headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_credential_that_is_shown_in_an_answer_is_overwritten() {
    let world = World::usual().await;
    for alpn in ["http/1.1", "h2"] {
        let mut asked = get("/key/shown");
        asked.headers_mut().insert("accept-encoding", "gzip, br".parse().expect("a value"));
        let response = world.send_to("localhost", world.origin.port, alpn, asked).await;
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body, format!("you sent {} and it ends with s", "*".repeat(KEY.len())));
        let seen = world.origin.state.seen.lock().expect("a lock").pop().expect("a request");
        assert_eq!(seen.headers["x-api-key"], KEY);
        assert_eq!(seen.headers["accept-encoding"], "identity");
    }
    // Where there is no credential nothing is asked for otherwise.
    let mut asked = get("/open/x");
    asked.headers_mut().insert("accept-encoding", "gzip, br".parse().expect("a value"));
    world.send(asked).await;
    let seen = world.origin.state.seen.lock().expect("a lock").pop().expect("a request");
    assert_eq!(seen.headers["accept-encoding"], "gzip, br");
}

#[tokio::test]
async fn a_secret_in_a_head_is_blocked() {
    let world = World::usual().await;
    let hex = hex::encode(KEY);
    let escaped = KEY.replacen('s', "%73", 1);
    let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
    for (path, header, at) in [
        (format!("/open/x?q={KEY}"), None, "url"),
        (format!("/open/x?q={escaped}"), None, "url"),
        (format!("/open/{hex}"), None, "url"),
        (format!("/open/{token}"), None, "url"),
        ("/open/x".to_owned(), Some(("x-a", KEY.to_owned())), "header x-a"),
        ("/key/x".to_owned(), Some(("x-api-key", KEY.to_owned())), "header x-api-key"),
        ("/open/x".to_owned(), Some(("authorization", format!("Bearer {token}"))), "header authorization"),
    ] {
        let mut asked = get(&path);
        if let Some((name, value)) = &header {
            asked.headers_mut().insert(*name, value.parse().expect("a value"));
        }
        let (status, body) = refusal(world.send(asked).await).await;
        assert_eq!(
            (status, &body["error"], &body["where"]),
            (StatusCode::FORBIDDEN, &"dlp".into(), &at.into()),
            "{path}"
        );
        assert!(!body.to_string().contains(KEY) && !body.to_string().contains(&token), "{body}");
    }
    assert!(world.origin.state.seen.lock().expect("a lock").is_empty());
    for file in ["egress.jsonl", "pipelock.jsonl"] {
        let lines = world.log(file, 7).await;
        assert!(lines.iter().all(|line| line.verdict == AccessVerdict::Block && line.finding.is_some()), "{lines:?}");
        let text = std::fs::read_to_string(world.path("state/log").join(file)).expect("a record");
        assert!(!text.contains(KEY) && !text.contains(&hex) && !text.contains(&token), "{text}");
    }
}

#[tokio::test]
async fn a_secret_cut_over_chunks_of_a_body_never_leaves() {
    let world = World::usual().await;
    let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
    // The second place is where two blocks of the scan meet.
    for (secret, rule) in [(KEY, "known-secret:ANTHROPIC_API_KEY"), (token.as_str(), "github-pat")] {
        for place in [21_000, (32 << 10) - 12] {
            let text = format!("{}{secret}{}", " ".repeat(place), " the rest".repeat(9000));
            let (before, after) = text.split_at(place + secret.len() / 2);
            let pieces = [before.to_owned(), after.to_owned()].map(|text| Ok(Frame::data(Bytes::from(text))));
            let body = StreamBody::new(stream::iter(pieces)).boxed_unsync();
            let asked = Request::post("/open/upload").body(body).expect("a request");
            let (status, body) = refusal(world.send(asked).await).await;
            assert_eq!((status, &body["rule"], &body["where"]), (StatusCode::FORBIDDEN, &rule.into(), &"body".into()));
            assert_eq!(body["offset"], place);
            tokio::time::sleep(Duration::from_millis(100)).await;
            for seen in world.origin.state.seen.lock().expect("a lock").drain(..) {
                assert!(!seen.whole, "the request came to its end");
                assert!(seen.body.len() <= place, "{} bytes went out", seen.body.len());
            }
        }
    }
    // The same size without a secret passes unchanged.
    let honest = "filler ".repeat(40_000);
    assert_eq!(world.send(request("PUT", "/open/upload", honest.clone())).await.status(), StatusCode::OK);
    assert_eq!(world.origin.state.seen.lock().expect("a lock")[0].body, honest.as_bytes());
}

#[tokio::test]
async fn a_warning_lets_formats_pass_but_no_known_secret() {
    let world = World::start(Setup { pipelock: "dlp: { action: warn }\n", ..Setup::default() }).await;
    let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
    assert_eq!(world.send(request("POST", "/open/x", token)).await.status(), StatusCode::OK);
    let line = world.log("pipelock.jsonl", 1).await.remove(0);
    assert_eq!((line.verdict, line.finding.expect("a finding").rule), (AccessVerdict::Allow, "github-pat".into()));
    assert_eq!(world.send(request("POST", "/open/x", KEY)).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let limit = "request_body_scanning: { max_body_bytes: 64KiB }\n";
    let world = World::start(Setup { pipelock: limit, ..Setup::default() }).await;
    let large = "x".repeat(100_000);
    let (status, body) = refusal(world.send(request("POST", "/open/x", large.clone())).await).await;
    assert_eq!((status.as_u16(), &body["error"]), (413, &"too_large".into()));
    let chunks = (0..10).map(move |_| Ok(Frame::data(Bytes::from(large.clone()))));
    let body = StreamBody::new(stream::iter(chunks)).boxed_unsync();
    let (status, _) = refusal(world.send(Request::post("/open/x").body(body).expect("a request")).await).await;
    assert_eq!(status.as_u16(), 413);
    assert!(world.origin.state.seen.lock().expect("a lock").iter().all(|seen| !seen.whole));
}

#[tokio::test]
async fn a_private_address_is_refused_unless_listed() {
    let world = World::start(Setup { allowed: "10.0.0.0/8", ..Setup::default() }).await;
    let (status, body) = refusal(world.send(get("/open/x")).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &"address".into()));
    assert!(body["message"].as_str().expect("a message").contains("loopback"), "{body}");
    let line = world.log("egress.jsonl", 1).await.remove(0);
    assert_eq!((line.verdict, line.reason.as_deref()), (AccessVerdict::Block, Some("address")));
}

#[tokio::test]
async fn events_come_through_one_by_one() {
    let world = World::usual().await;
    for alpn in ["http/1.1", "h2"] {
        let mut response = world.send_to("localhost", world.origin.port, alpn, get("/events")).await;
        let first = tokio::time::timeout(Duration::from_secs(5), response.body_mut().frame()).await;
        let first = first.expect("before the second is sent").expect("a frame").expect("whole");
        assert!(first.data_ref().expect("data").starts_with(b"event: ping"));
        world.origin.state.go_on.notify_one();
        let rest = response.into_body().collect().await.expect("a body").to_bytes();
        assert!(rest.ends_with(b"{\"type\":\"message_stop\"}\n\n"));
    }
}

#[tokio::test]
async fn upstreams_certificate_is_verified() {
    let mut world = World::usual().await;
    // Trust another certificate than the origin's from now on.
    world.end(rustix::process::Signal::TERM);
    world.end(rustix::process::Signal::TERM);
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(world.path("origin.pem"), other.cert.pem()).expect("a file");
    world.daemon("pipelock", "pipelock.yaml", "internal/pipelock.sock").await;
    world.daemon("egress", "routes.yaml", "doors/egress.sock").await;
    let (status, body) = refusal(world.send(get("/open/x")).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::BAD_GATEWAY, &"connect".into()), "{body}");
    assert!(world.origin.state.seen.lock().expect("a lock").is_empty());
}

#[tokio::test]
async fn without_pipelock_nothing_goes() {
    let mut world = World::usual().await;
    let socket = world.path("internal/pipelock.sock");
    std::fs::remove_file(&socket).expect("a socket");
    let (status, body) = refusal(world.send(get("/open/x")).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::BAD_GATEWAY, &"pipelock".into()));
    world.daemon("pipelock", "pipelock.yaml", "internal/pipelock.sock").await;
    assert_eq!(world.send(get("/open/x")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_reload_takes_a_good_policy_and_keeps_the_old_one_for_a_bad_one() {
    let world = World::usual().await;
    let path = world.path("config/routes.yaml");
    let reload = async |text: &str| {
        std::fs::write(&path, text).expect("a file");
        for daemon in [0, 1] {
            world.signal(daemon, rustix::process::Signal::HUP);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    let old = std::fs::read_to_string(&path).expect("a policy");
    reload(&old.replace("\"/open/**\"", "\"/new/**\"")).await;
    assert_eq!(world.send(get("/open/x")).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(world.send(get("/new/x")).await.status(), StatusCode::OK);
    reload("version: 1\nroutes: [{ host: 1.2.3.4 }]\n").await;
    assert_eq!(world.send(get("/new/x")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_proxy_of_a_bottle_without_routes_knows_its_hosts_alone() {
    // The origin's port is not 443, so what is allowed shows in how it fails: pipelock dials port 443 of localhost.
    let allowed = "api_allowlist: [localhost]\n";
    let world = World::start(Setup { guest_proxy: true, pipelock: allowed, routes: " []\n", ..Setup::default() }).await;
    let (status, body) = refusal(world.send_to("undeclared.example", 443, "h2", get("/")).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &"no_route".into()));
    let (status, body) = refusal(world.send_to("localhost", 443, "h2", request("DELETE", "/any", "")).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::BAD_GATEWAY, &"connect".into()), "{body}");
    // A method is not searched for secrets: it is none of the guest's own making.
    let (status, body) = refusal(world.send_to("localhost", 443, "http/1.1", request(KEY, "/any", "")).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &"no_route".into()));
    let (status, body) = refusal(world.send_to("localhost", 443, "h2", request("POST", "/any", KEY)).await).await;
    assert_eq!(status.is_server_error() || body["error"] == "dlp", true, "{body}");
}

#[tokio::test]
async fn what_stands_behind_an_answer_passes_and_is_scrubbed() {
    let world = World::usual().await;
    for (alpn, path, wanted, key) in [
        ("h2", "/open/trailers", true, "none"),
        ("http/1.1", "/open/trailers", true, "none"),
        ("h2", "/key/trailers", true, "***"),
        // Over HTTP/2 nobody has to say that it wants them.
        ("h2", "/open/trailers", false, "none"),
    ] {
        let mut asked = get(path);
        if wanted {
            asked.headers_mut().insert("te", "trailers".parse().expect("a value"));
        }
        let response = world.send_to("localhost", world.origin.port, alpn, asked).await;
        let whole = response.into_body().collect().await.expect("a body");
        let trailers = whole.trailers().cloned().unwrap_or_default();
        assert_eq!(whole.to_bytes(), "a body");
        let value = |name: &str| trailers.get(name).map_or("", |value| value.to_str().expect("text"));
        assert_eq!((value("x-sum"), value("x-key")), ("42", key), "{path} over {alpn}");
        assert!(!trailers.contains_key("x-bottle-verdict"));
    }
}

/// What egress would say, if it were somebody else's.
#[tokio::test]
async fn the_route_that_egress_names_has_to_be_the_one() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let world = World::usual().await;
    let policy =
        bottle_wire::proposal::sha256(&std::fs::read_to_string(world.path("config/routes.yaml")).expect("the routes"));
    // Route 0 has the credential, and /open/x is route 1.
    for (route, host, status) in [("1", "localhost", "200"), ("0", "localhost", "403"), ("0", "other.example", "403")] {
        let mut stream = tokio::net::UnixStream::connect(world.path("internal/pipelock.sock")).await.expect("the hop");
        let port = world.origin.port;
        let head = format!(
            "GET /open/x HTTP/1.1\r\nHost: pipelock\r\nx-bottle-id: 1\r\nx-bottle-scheme: https\r\nx-bottle-host: {host}\r\n\
             x-bottle-port: {port}\r\nx-bottle-route: {route}\r\nx-bottle-policy: {policy}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{route} at {host}: {answer}");
        assert_eq!(answer.contains("route_mismatch"), (route, host) == ("0", "localhost"), "{answer}");
    }
    let seen = std::mem::take(&mut *world.origin.state.seen.lock().expect("a lock"));
    assert!(seen.len() == 1 && !seen[0].headers.contains_key("x-api-key"), "{}", seen.len());
}
