//! Certificates and ciphers of upstream that the doors don't take, and some that they do: `tls.py` serves them.

use std::process::Stdio;

use bottle_testkit::{Running, python};
use http::StatusCode;
use pretty_assertions::assert_eq;
use serde::Deserialize;

use crate::world::{Setup, World, get, refusal};

/// A server for each kind, and a bundle with what is to be trusted.
struct Servers {
    _process: Running,
    served: Vec<Served>,
    dir: tempfile::TempDir,
}

#[derive(Debug, Deserialize)]
struct Served {
    kind: String,
    port: u16,
}

impl Servers {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let child = python()
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doors/tls.py"))
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let mut process = Running::new(child);
        let served = serde_json::from_str(&process.first_line()).expect("servers");
        Self { _process: process, served, dir }
    }
}

#[tokio::test]
async fn what_upstream_shows_is_taken_or_named() {
    let servers = Servers::start();
    let routes: String =
        servers.served.iter().map(|served| format!("\n  - {{ host: localhost, port: {} }}", served.port)).collect();
    let bundle = std::fs::read_to_string(servers.dir.path().join("bundle.pem")).expect("a bundle");
    let mut world =
        World::start(Setup { routes: Box::leak(format!("{routes}\n").into_boxed_str()), ..Setup::default() }).await;
    // What is trusted is read at the first connection.
    std::fs::write(world.path("origin.pem"), bundle).expect("a file");
    let mut wrong = vec![];
    for (index, served) in servers.served.iter().enumerate() {
        let wanted: &[&str] = match served.kind.as_str() {
            "good" | "authority" => &[],
            "p521" => &["offers nothing that the doors speak", "not P-521", "let the server offer"],
            "signed-by-p521" => &["the certificate for localhost, issued by `A P-521 authority`", "not P-521"],
            "cbc" => &["offers nothing that the doors speak", "no CBC"],
            "expired" => &["the certificate for localhost", "has expired", "needs a new one"],
            "other-name" => {
                &["the certificate for other.example, issued by `A trusted authority`", "is for other names"]
            }
            "unknown" => {
                &["the certificate for localhost, signed by itself", "does not trust its issuer", "SSL_CERT_FILE"]
            }
            "authority-of-another-name" => &["the certificate for other.example", "is for other names"],
            kind => panic!("{kind}"),
        };
        let response = world.send_to("localhost", served.port, "http/1.1", get("/")).await;
        let line = world.log("egress.jsonl", index + 1).await.pop().expect("a line");
        if wanted.is_empty() {
            assert_eq!(response.status(), StatusCode::OK, "{}: {line:?}", served.kind);
            continue;
        }
        let (status, body) = refusal(response).await;
        assert_eq!((status, &body["error"]), (StatusCode::BAD_GATEWAY, &"connect".into()), "{}", served.kind);
        let (message, reason) = (body["message"].as_str().unwrap_or_default(), line.reason.unwrap_or_default());
        for text in wanted.iter().chain(&["no verified TLS with localhost"]) {
            if !message.contains(text) || !reason.contains(text) || !reason.starts_with("connect: ") {
                wrong.push(format!("{}: no `{text}` in {message} / {reason}", served.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.end(rustix::process::Signal::TERM);
}
