//! The real binary between real sockets.
#![expect(clippy::disallowed_methods, reason = "a test starts the real binary")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

struct Link {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Link {
    /// Starts a link with one door, `door.sock`, whose socket is not there yet.
    fn start(name: &str) -> Self {
        let mut link = Self::with_stderr(name, Stdio::piped());
        let mut lines = BufReader::new(link.child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        assert!(line.starts_with("forwarding"), "{line}");
        thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        link
    }

    fn with_stderr(name: &str, stderr: Stdio) -> Self {
        let dir = std::env::temp_dir().join(format!("bottle-link-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let child = Command::new(env!("CARGO_BIN_EXE_bottle-link"))
            .args(["forward", "--as-init", "--doors"])
            .arg(&dir)
            .arg(format!("{port}=door.sock"))
            .stderr(stderr)
            .spawn()
            .expect("the link starts");
        Self { child, port, dir }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the link accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        stream
    }

    /// A sidecar: `serve` runs once a connection, each in a thread.
    fn sidecar(&self, serve: fn(UnixStream)) {
        let listener = UnixListener::bind(self.dir.join("door.sock")).expect("a socket");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream));
            }
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Reads all there is, then sends it all back: works only if the client's end of stream comes through.
fn echo_at_the_end(mut stream: UnixStream) {
    let mut all = vec![];
    stream.read_to_end(&mut all).expect("bytes");
    stream.write_all(&all).expect("bytes go back");
}

fn echo(mut stream: UnixStream) {
    let mut copy = stream.try_clone().expect("a copy");
    let _ = std::io::copy(&mut copy, &mut stream);
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31).wrapping_add(at >> 9) ^ seed) as u8).collect()
}

#[test]
fn twenty_mebibytes_and_a_half_close() {
    let link = Link::start("half");
    link.sidecar(echo_at_the_end);
    let sent = pattern(20 << 20, 7);
    let mut stream = link.connect();
    stream.write_all(&sent).expect("bytes go");
    stream.shutdown(Shutdown::Write).expect("a half close");
    let mut back = vec![];
    stream.read_to_end(&mut back).expect("bytes come back");
    assert!(back == sent, "{} of {} bytes, or others", back.len(), sent.len());
}

#[test]
fn both_ways_at_once_with_a_slow_reader() {
    let link = Link::start("both");
    link.sidecar(echo);
    let sent = pattern(8 << 20, 3);
    let stream = link.connect();
    let (mut writer, to_send) = (stream.try_clone().expect("a copy"), sent.clone());
    let writing = thread::spawn(move || {
        writer.write_all(&to_send).expect("bytes go");
        writer.shutdown(Shutdown::Write).expect("a half close");
    });
    // Every buffer on the way is full by now.
    thread::sleep(Duration::from_millis(200));
    let mut back = vec![];
    (&stream).read_to_end(&mut back).expect("bytes come back");
    writing.join().expect("all was sent");
    assert!(back == sent);
}

#[test]
fn many_at_once_and_more_than_the_cap() {
    let link = Link::start("many");
    link.sidecar(echo);
    let port = link.port;
    let clients: Vec<_> = (0..64)
        .map(|client| {
            thread::spawn(move || {
                for round in 0..4 {
                    let sent = pattern(20_000, client * 10 + round);
                    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the link accepts");
                    stream.write_all(&sent).expect("bytes go");
                    let mut back = vec![0; sent.len()];
                    stream.read_exact(&mut back).expect("bytes come back");
                    assert!(back == sent);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("a client"));

    // Connections that do nothing fill the link; when they go, others get through.
    let idle: Vec<_> = (0..600).map(|_| link.connect()).collect();
    drop(idle);
    let mut stream = link.connect();
    stream.write_all(b"after").expect("bytes go");
    let mut back = [0; 5];
    stream.read_exact(&mut back).expect("bytes come back");
    assert_eq!(&back, b"after");
}

#[test]
fn the_sidecar_may_come_later_and_leave_early() {
    let link = Link::start("late");
    let mut stream = link.connect();
    stream.write_all(b"early").expect("bytes go");
    thread::sleep(Duration::from_millis(300));
    link.sidecar(|mut stream| {
        // Answers without reading, as a proxy that refuses a large body does.
        stream.write_all(b"HTTP/1.1 413 Too Large\r\n\r\n").expect("an answer");
    });
    let _ = stream.write_all(&pattern(4 << 20, 1));
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{answer:?}");
}

#[test]
fn no_sidecar_closes_the_connection_and_nothing_else() {
    let link = Link::start("none");
    let start = Instant::now();
    let mut nothing = vec![];
    let _ = link.connect().read_to_end(&mut nothing);
    assert!(nothing.is_empty());
    assert!((4..8).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    goes_on(&link);
}

fn goes_on(link: &Link) {
    link.sidecar(echo_at_the_end);
    let mut stream = link.connect();
    stream.write_all(b"now").expect("bytes go");
    stream.shutdown(Shutdown::Write).expect("a half close");
    let mut back = vec![];
    stream.read_to_end(&mut back).expect("bytes come back");
    assert_eq!(back, b"now");
}

#[test]
fn a_full_disk_for_what_it_says_does_not_end_it() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let link = Link::with_stderr("full", full.into());
    let start = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", link.port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(5), "{error}"),
        }
    };
    // No sidecar is there, which it would say.
    let _ = stream.read_to_end(&mut vec![]);
    goes_on(&link);
}

#[test]
fn a_signal_ends_it_at_once() {
    for signal in ["TERM", "INT"] {
        let mut link = Link::start(&format!("signal-{signal}"));
        link.sidecar(echo);
        let _open = link.connect();
        let start = Instant::now();
        let kill = Command::new("kill").args(["-s", signal, &link.child.id().to_string()]).status().expect("kill runs");
        assert!(kill.success());
        let status = link.child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0));
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
}

#[test]
fn a_service_with_a_network_is_not_served() {
    // This process' own network has more than lo, or nothing here could be tried.
    let dir = std::env::temp_dir().join(format!("bottle-link-serve-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let service = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = service.local_addr().expect("an address").port();
    let mut link = Command::new(env!("CARGO_BIN_EXE_bottle-link"))
        .args(["forward", "--doors"])
        .arg(&dir)
        .args(["--serve", &format!("{port}=service.sock")])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the link starts");
    let until = Instant::now() + Duration::from_secs(20);
    while link.try_wait().expect("a state").is_none() && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    let _ = link.kill();
    let output = link.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: a service would have a network: "), "{said}");
    assert!(!dir.join("service.sock").exists());
    std::fs::remove_dir_all(&dir).expect("removed");
}
