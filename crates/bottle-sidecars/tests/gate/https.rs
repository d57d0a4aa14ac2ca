//! An upstream over https: verified TLS, a token for one host alone, and never in sight.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::world::{Running, World, free_port, random_letters, said};

/// A git host over https, its certificate in `tls.pem`.
pub(crate) struct Server {
    pub(crate) port: u16,
    /// `-`: it speaks http.
    certificate: &'static str,
    process: Option<Running>,
}

impl Server {
    fn start(world: &World, certificate: &'static str) -> Self {
        for name in ["tls", "other"] {
            let key = rcgen::generate_simple_self_signed(["localhost", "git.example"].map(str::to_owned))
                .expect("a certificate");
            fs::write(world.path(&format!("{name}.pem")), key.cert.pem()).expect("written");
            fs::write(world.path(&format!("{name}.key")), key.signing_key.serialize_pem()).expect("written");
        }
        world.ok(&world.path("upstream"), "for r in *.git; do git -C $r config http.receivepack true; done");
        let mut server = Self { port: free_port(), certificate, process: None };
        server.up(world);
        server
    }

    /// Starts it, again if it was stopped.
    pub(crate) fn up(&mut self, world: &World) {
        let child = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gate/https.py"))
            .arg(if self.certificate == "-" { "-".into() } else { world.path(self.certificate) })
            .args([world.path("tls.key"), world.path("upstream")])
            .args([world.path("token"), world.path("https.log")])
            .arg(self.port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut process = Running::new(child);
        self.port = process.first_line().parse().expect("a port");
        self.process = Some(process);
    }

    /// Ends it, and with it every open connection.
    pub(crate) fn down(&mut self) {
        self.process = None;
    }
}

/// A world whose upstream is reached over https at this path; the server, and the token.
pub(crate) fn https_world(path: &str, certificate: &str) -> (World, Server, String) {
    git_world(("https://localhost", "tls.pem"), path, certificate)
}

/// The same at another host, with this certificate of the server, and this one in the gate's list.
fn git_world(place: (&str, &'static str), path: &str, certificate: &str) -> (World, Server, String) {
    prepared_world(place, path, certificate, |_, _| String::new())
}

/// The same, prepared by one who knows the server's port; what that gives is added to the policy.
pub(crate) fn prepared_world(
    (host, served): (&str, &'static str),
    path: &str,
    certificate: &str,
    prepare: impl FnOnce(&World, u16) -> String,
) -> (World, Server, String) {
    let token = format!("token{}", random_letters(30));
    let mut server = None;
    let world = World::with(
        |world| {
            fs::write(world.path("token"), &token).expect("written");
            fs::write(world.path("secrets/GIT_TOKEN"), format!("{token}\n")).expect("written");
            let started = Server::start(world, served);
            let port = started.port;
            server = Some(started);
            let more = prepare(world, port);
            let policy = format!(
                "version: 1\nsecrets: [GIT_TOKEN]\nupstreams:\n  - name: origin\n    url: {host}:{port}/{path}\n    \
                 token: GIT_TOKEN\n    push: {{ refs: [\"refs/heads/bottle/**\"], tags: true }}\n{more}"
            );
            fs::write(world.path("gate.yaml"), policy).expect("written");
            world.ca = Some(world.path(certificate));
        },
        |policy| policy,
    );
    (world, server.expect("a server"), token)
}

#[test]
fn a_clone_and_a_push_with_a_token_that_is_nowhere_to_be_seen() {
    let (world, _server, _) = https_world("origin.git", "tls.pem");
    let clone = world.clone_origin();
    // Large enough for git to send it in chunks.
    world.ok(
        &clone,
        "head -c 3000000 /dev/urandom >big; git add .; git commit -qm big; git push -q origin HEAD:refs/heads/bottle/x",
    );
    let head = world.ok(&clone, "git rev-parse HEAD");
    assert!(world.upstream_refs().contains(&format!("refs/heads/bottle/x {head}")));
    let add = "cp ../secrets/GIT_TOKEN t; git add .; git commit -qm t; git push origin HEAD:refs/heads/bottle/y";
    let output = world.sh(&clone, add, &[]);
    assert!(!output.status.success());
    assert!(said(&output).contains("known-secret:GIT_TOKEN at t:1"), "{}", said(&output));
    let log = fs::read_to_string(world.path("https.log")).expect("a log");
    assert!(log.contains("git-receive-pack") && !log.contains("SEEN"), "{log}");
    let search = "rm -rf clone-*; grep -rlF -f secrets/GIT_TOKEN . | grep -v -e '^./token$' -e '^./secrets/GIT_TOKEN$'";
    let found = world.sh(world.dir.path(), search, &[]);
    assert_eq!(said(&found), "", "the token is in these files");
}

#[test]
fn an_empty_upstream_with_sha256_ids_takes_its_first_push() {
    let (world, _server, _) = https_world("origin.git", "tls.pem");
    world.ok(world.dir.path(), crate::mirror::EMPTY_SHA256);
    world.ok(world.dir.path(), crate::mirror::FIRST_PUSH);
    let refs = world.upstream_refs();
    assert_eq!(refs.strip_prefix("refs/heads/bottle/x ").map(str::len), Some(64), "{refs}");
}

#[test]
fn an_upstream_by_http_at_an_address_takes_the_token_and_a_scanned_push() {
    let (world, _server, token) = git_world(("http://127.0.0.1", "-"), "origin.git", "tls.pem");
    let clone = world.clone_origin();
    world.ok(&clone, "echo x >x; git add .; git commit -qm x; git push -q origin HEAD:refs/heads/bottle/x");
    assert!(world.upstream_refs().contains("refs/heads/bottle/x"), "{}", world.upstream_refs());
    let output = world.sh(
        &clone,
        "cp ../secrets/GIT_TOKEN t; git add .; git commit -qm t; git push origin HEAD:refs/heads/bottle/y",
        &[],
    );
    assert!(!output.status.success() && said(&output).contains("known-secret:GIT_TOKEN at t:1"), "{}", said(&output));
    assert!(!said(&output).contains(&token), "{}", said(&output));
}

#[test]
fn a_certificate_that_is_not_trusted_is_refused() {
    let (world, _server, _) = https_world("origin.git", "other.pem");
    let output = world.sh(world.dir.path(), "git ls-remote \"$ORIGIN\"", &[]);
    assert!(!output.status.success());
    assert!(said(&output).contains("ertificate"), "{}", said(&output));
    let seen = fs::read_to_string(world.path("https.log")).unwrap_or_default();
    assert_eq!(seen, "");
}

#[test]
fn a_redirect_is_not_followed() {
    let (world, _server, _) = https_world("moved/origin.git", "tls.pem");
    let output = world.sh(world.dir.path(), "git ls-remote \"$ORIGIN\"", &[]);
    assert!(!output.status.success());
    let seen = fs::read_to_string(world.path("https.log")).expect("a log");
    assert!(seen.contains("/moved/") && !seen.contains("127.0.0.1:"), "{seen}");
}

#[test]
fn a_token_that_is_not_taken_is_said_and_not_shown() {
    let (world, _server, token) = https_world("origin.git", "tls.pem");
    fs::write(world.path("token"), "another").expect("written");
    let output = world.sh(world.dir.path(), "git ls-remote \"$ORIGIN\"", &[]);
    assert!(!output.status.success());
    let text = said(&output);
    assert!(text.contains("can't be fetched") && text.contains("uthentication"), "{text}");
    assert!(!text.contains(&token) && !world.gate_log().contains(&token));
}

#[test]
fn a_token_that_has_ended_is_not_sent_and_the_refusal_says_why() {
    let (world, _server, _) = https_world("origin.git", "tls.pem");
    let clone = world.clone_origin();
    let end = |ends_at: u64| {
        let credentials = format!("{{\"GIT_TOKEN\":{{\"ends_at\":{ends_at},\"failure\":\"the forge answered 401\"}}}}");
        let status = format!("{{\"generation\":1,\"credentials\":{credentials}}}");
        fs::write(world.path("secrets/.status.json"), status).expect("written");
    };
    end(1000);
    let before = fs::read_to_string(world.path("https.log")).expect("a log");
    let push = "echo x >>x; git add .; git commit -qm x; git push origin HEAD:refs/heads/bottle/x";
    let output = world.sh(&clone, push, &[]);
    assert!(!output.status.success());
    let why = "the credential GIT_TOKEN has ended, and its renewal failed: the forge answered 401";
    assert!(said(&output).contains(why), "{}", said(&output));
    assert_eq!(fs::read_to_string(world.path("https.log")).expect("a log"), before, "the upstream was asked");
    // A newer one is used at once.
    end(u64::MAX);
    world.ok(&clone, push);
    assert!(world.upstream_refs().contains("refs/heads/bottle/x"), "{}", world.upstream_refs());
}
