//! An upstream over https that is reached through a company's proxy alone: git and LFS. The upstream's name is at an address that
//! nobody here can reach; the proxy leads to the server. `tests/doors/proxies.toml` has what a proxy may do wrong.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pretty_assertions::assert_eq;

use crate::https::{Server, prepared_world};
use crate::lfs::seed;
use crate::world::{World, random_letters, said};

/// The heads of the requests that a proxy got.
type Heads = Arc<Mutex<Vec<String>>>;

/// A proxy that answers so, and leads every tunnel to this port.
fn proxy(answer: &'static str, to: u16) -> (u16, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, seen) = (stream.expect("a connection"), Arc::clone(&seen));
            thread::spawn(move || {
                let mut head = vec![];
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a head");
                    head.push(byte[0]);
                }
                seen.lock().expect("a lock").push(String::from_utf8(head).expect("text"));
                stream.write_all(answer.as_bytes()).expect("answered");
                if !answer.starts_with("HTTP/1.1 200") {
                    return;
                }
                let server = TcpStream::connect(("127.0.0.1", to)).expect("the server");
                let (mut from, mut back) = (stream.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
                let mut server_in = server;
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut server_in);
                    let _ = server_in.shutdown(std::net::Shutdown::Write);
                });
                let _ = std::io::copy(&mut back, &mut stream);
                let _ = stream.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    (port, heads)
}

/// A world whose upstream is behind a proxy that answers so; the server, what the proxy was asked, and its password.
fn proxied_world(answer: &'static str, settings: &str) -> (World, Server, Heads, String) {
    let password = format!("proxy{}", random_letters(20));
    let mut heads = None;
    let (world, server, _) =
        prepared_world(("https://git.example", "tls.pem"), "origin.git", "tls.pem", |world, port| {
            fs::write(world.path("hosts"), "127.0.0.1 localhost\n93.184.215.14 git.example\n").expect("written");
            fs::write(world.path("secrets/PROXY_PASSWORD"), &password).expect("written");
            let (proxy, seen) = proxy(answer, port);
            heads = Some(seen);
            format!("proxy: {{ url: \"http://127.0.0.1:{proxy}\", {settings} }}\n")
        });
    (world, server, heads.expect("a proxy"), password)
}

const LOGIN: &str = "login: { user: bottle, password: PROXY_PASSWORD }";
const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

#[test]
fn git_and_lfs_go_through_the_proxy_to_the_address_and_the_password_stays_in_the_gate() {
    let (world, server, heads, password) = proxied_world(ESTABLISHED, LOGIN);
    // The server looks for what is in this file in what every process was given.
    let token = fs::read_to_string(world.path("token")).expect("a token");
    seed(&world);
    let clone = world.path("c");
    world.ok(
        world.dir.path(),
        "git clone -q $ORIGIN c; cd c; git lfs install --local >/dev/null; git lfs pull; test $(stat -c %s data.bin) = 5000; \
         head -c 3000000 /dev/urandom >big.bin; git add .; git commit -qm big; git push -q origin HEAD:refs/heads/bottle/x",
    );
    let head = world.ok(&clone, "git rev-parse HEAD");
    assert!(world.upstream_refs().contains(&format!("refs/heads/bottle/x {head}")));
    let heads = heads.lock().expect("a lock").clone();
    let basic = format!("proxy-authorization: Basic {}\r\n", STANDARD.encode(format!("bottle:{password}")));
    assert!(heads.len() > 4);
    for head in &heads {
        assert!(head.starts_with(&format!("CONNECT 93.184.215.14:{} HTTP/1.1\r\n", server.port)), "{head}");
        assert!(head.contains(&basic) && !head.contains(&token), "{head}");
    }
    let search = "grep -rlF -f secrets/PROXY_PASSWORD . | grep -v '^./secrets/PROXY_PASSWORD$' || true";
    assert_eq!(world.ok(world.dir.path(), search), "", "the password is in these files");
    // Who pushes it is refused, as for every secret of the bottle.
    let push = "cp ../secrets/PROXY_PASSWORD t; git add .; git commit -qm t; git push origin HEAD:refs/heads/bottle/y";
    let output = world.sh(&clone, push, &[]);
    assert!(
        !output.status.success() && said(&output).contains("known-secret:PROXY_PASSWORD at t:1"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_proxy_that_resolves_gets_the_name() {
    let (world, server, heads, _) = proxied_world(ESTABLISHED, "remote_dns: true");
    world.clone_origin();
    let heads = heads.lock().expect("a lock").clone();
    assert!(heads.iter().all(|head| head.starts_with(&format!("CONNECT git.example:{} HTTP/1.1\r\n", server.port))));
}

#[test]
fn what_a_proxy_refuses_is_said_to_the_guest() {
    for (answer, settings, wanted) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            LOGIN,
            "does not take the credential PROXY_PASSWORD (407)",
        ),
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "", "asks for credentials (407): give `proxy.user`"),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n",
            "",
            "302 Found; a redirection is not followed",
        ),
        ("SSH-2.0-x\r\n", "", "gave no answer to CONNECT 93.184.215.14"),
    ] {
        let (world, _server, heads, password) = proxied_world(answer, settings);
        let output = world.sh(world.dir.path(), "git ls-remote \"$ORIGIN\"", &[]);
        let text = said(&output);
        assert!(!output.status.success() && text.contains("the proxy http://127.0.0.1:"), "{text}");
        assert!(text.contains(wanted) && !text.contains(&password), "{wanted}: {text}");
        assert!(!heads.lock().expect("a lock").is_empty());
    }
}
