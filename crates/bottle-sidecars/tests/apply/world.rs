//! A bundle without containers: supervisor, pipelock, egress and supervise, an origin behind them, and both sides of
//! supervise: an MCP client, and the runner's `control`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bottle_testkit::{Lines, Running, with_dirs};
use bottle_wire::control::{Decided, Listing};
use bottle_wire::proposal::change::Texts;
use bottle_wire::proposal::verify::{ProposalCounts, VerifyError, verify};
use bottle_wire::proposal::{By, PolicyFile, State, Verdict};
use bottle_wire::proposal::{Decide, Standing};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

pub(crate) const RUN: &str = "run-1";
const PATIENCE: Duration = Duration::from_secs(20);

/// Directories and processes; all gone when dropped.
pub(crate) struct World {
    supervisor: Running,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) origin: u16,
    first: Texts,
    lines: Lines,
}

impl World {
    /// `supervise` are lines of its policy behind `run`.
    pub(crate) fn start(supervise: &str) -> Self {
        Self::with(supervise, |_| {})
    }

    /// The same with other policies: `change` gets them before the start.
    pub(crate) fn with(supervise: &str, change: impl FnOnce(&mut Texts)) -> Self {
        let origin = origin();
        let dir = tempfile::tempdir().expect("a directory");
        for sub in ["doors", "internal", "state/log", "secrets", "config"] {
            std::fs::create_dir_all(dir.path().join(sub)).expect("a directory");
        }
        let mut first = Texts::from([
            (PolicyFile::Routes, routes(origin, "/open/**")),
            (
                PolicyFile::Pipelock,
                "version: 1\nssrf: { ip_allowlist: [127.0.0.0/8] }\nsecrets: [SOME_KEY]\n".to_owned(),
            ),
            (PolicyFile::Gate, "version: 1\n".to_owned()),
        ]);
        change(&mut first);
        let write = |path: String, text: &str| std::fs::write(dir.path().join(path), text).expect("a file");
        for (file, text) in &first {
            write(format!("config/{file}"), text);
        }
        write("secrets/SOME_KEY".to_owned(), "a-value-of-our-own-1234567890");
        write("config/supervise.yaml".to_owned(), &format!("version: 1\nrun: {RUN}\n{supervise}"));
        let daemons: String =
            [("pipelock", "pipelock"), ("egress", "routes"), ("git-gate", "gate"), ("supervise", "supervise")]
                .map(|(door, file)| format!("  - {{ door: {door}, config: {file}.yaml }}\n"))
                .concat();
        write("config/bundle.yaml".to_owned(), &format!("version: 1\ndaemons:\n{daemons}"));
        let (supervisor, lines) = supervisor(dir.path());
        let world = Self { dir, supervisor, origin, first, lines };
        for ready in ["pipelock ready", "egress ready", "git-gate ready", "supervise |  INFO listening"] {
            world.line(ready, 1);
        }
        world
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Waits for the nth line (from 1) of the bundle's log that contains a text.
    pub(crate) fn line(&self, text: &str, nth: usize) -> String {
        self.lines.nth(text, nth, PATIENCE)
    }

    /// All that the bundle has said.
    pub(crate) fn said(&self) -> String {
        self.lines.all().join("\n")
    }

    /// Kills the nth life of a door.
    pub(crate) fn kill(&self, door: &str, nth: usize) {
        let line = self.line(&format!("{door} | started"), nth);
        let pid = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        // It may have ended meanwhile.
        let _ = kill_process(pid.unwrap_or_else(|| panic!("no process in {line}")), Signal::KILL);
    }

    /// Kills the supervisor, and with it all.
    pub(crate) fn end(&mut self) {
        self.supervisor.kill();
    }

    // The agent's side.

    /// A tool's answer: its text, and whether it is an error.
    pub(crate) fn call(&self, tool: &str, arguments: Value) -> (String, bool) {
        call(&self.path("doors/supervise.sock"), tool, arguments)
    }

    /// The same in a thread of its own.
    pub(crate) fn calling(&self, tool: &str, arguments: Value) -> thread::JoinHandle<(String, bool)> {
        let (socket, tool) = (self.path("doors/supervise.sock"), tool.to_owned());
        thread::spawn(move || call(&socket, &tool, arguments))
    }

    /// The status of a request through the doors to the origin.
    pub(crate) fn get(&self, path: &str) -> u16 {
        self.send("GET", path, "").0
    }

    /// Status and body of a request through the doors.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        Client::new(&self.path("doors/egress.sock")).send(self.origin, method, path, body)
    }

    // The runner's side.

    /// `control` with this standard input.
    pub(crate) fn control(&self, verb: &[&str], input: &str) -> Output {
        let mut command = sidecars(self.dir.path());
        let child =
            command.arg("control").args(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("control starts");
        // Who refuses its arguments reads nothing.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("an end")
    }

    pub(crate) fn list(&self) -> Listing {
        let output = self.control(&["list"], "");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// Waits for a proposal to be there.
    pub(crate) fn proposal(&self, id: &str) -> Standing {
        let start = Instant::now();
        loop {
            let found = self.list().proposals.into_iter().find(|one| one.proposal.id.to_string() == id);
            match found {
                Some(found) => return found,
                None if start.elapsed() > PATIENCE => panic!("no proposal {id}"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// A good decision on what was shown.
    pub(crate) fn decision(&self, shown: &Standing, verdict: Verdict) -> Decide {
        Decide::on(&shown.proposal, verdict, By::Local { user: "ann".to_owned() })
    }

    pub(crate) fn hand_in(&self, decide: &Decide) -> Decided {
        let output = self.control(&["decide"], &serde_json::to_string(decide).expect("JSON"));
        let decided = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let good = matches!(decided, Decided::Taken(_));
        assert_eq!(output.status.code(), Some(if good { 0 } else { 1 }), "{output:?}");
        decided
    }

    /// Decides on a proposal as it is shown now.
    pub(crate) fn decide(&self, id: &str, verdict: Verdict) -> State {
        let shown = self.proposal(id);
        match self.hand_in(&self.decision(&shown, verdict)) {
            Decided::Taken(state) => *state,
            Decided::Refused { reason } => panic!("refused: {reason}"),
        }
    }

    pub(crate) fn policy(&self, file: PolicyFile) -> String {
        std::fs::read_to_string(self.path(&format!("config/{file}"))).expect("a policy")
    }

    pub(crate) fn record(&self) -> String {
        std::fs::read_to_string(self.path("state/log/proposals.jsonl")).expect("the record")
    }

    /// Whether the record holds, and leads to the policies that are there.
    pub(crate) fn verify(&self) -> Result<ProposalCounts, VerifyError> {
        let last = PolicyFile::ALL.map(|file| (file, self.policy(file)));
        verify(RUN, &self.record(), &self.first, &Texts::from(last))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{:#?}", self.lines.all());
        }
    }
}

/// `routes.yaml` with one route to the origin for this path.
pub(crate) fn routes(origin: u16, path: &str) -> String {
    format!(
        "version: 1\nroutes:\n  - {{ host: localhost, port: {origin}, scheme: http, methods: [GET, POST], paths: [\"{path}\"] }}\n"
    )
}

pub(crate) fn sidecars(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bottle-sidecars"));
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    with_dirs(&mut command, dir, &["doors", "internal", "state", "secrets"]);
    command
}

fn supervisor(dir: &Path) -> (Running, Lines) {
    let child = sidecars(dir)
        .arg("supervisor")
        .arg("--config")
        .arg(dir.join("config/bundle.yaml"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the supervisor starts");
    let mut process = Running::new(child);
    let lines = Lines::of(process.stderr());
    (process, lines)
}

/// An HTTP server that says 200 and the path that it was asked for; gone with the process.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                let mut stream = stream;
                while let Some((start, body)) = read_message(&mut reader) {
                    let path = start.split(' ').nth(1).unwrap_or_default();
                    let text = format!("{path} {}", body.len());
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// First line and body of an HTTP message; chunked bodies too.
fn read_message(reader: &mut impl std::io::BufRead) -> Option<(String, String)> {
    let mut start = String::new();
    if reader.read_line(&mut start).ok()? == 0 {
        return None;
    }
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
    }
    let mut body = vec![];
    loop {
        if chunked {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            length = usize::from_str_radix(size.trim(), 16).ok()?;
        }
        let at = body.len();
        body.resize(at + length, 0);
        reader.read_exact(&mut body[at..]).ok()?;
        if chunked {
            reader.read_line(&mut String::new()).ok()?;
        }
        if !chunked || length == 0 {
            return Some((start.trim_end().to_owned(), String::from_utf8_lossy(&body).into_owned()));
        }
    }
}

/// The guest's connection to egress, kept for the next request.
pub(crate) struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the door is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { socket: socket.to_owned(), stream: BufReader::new(stream) }
    }

    /// Status and body.
    pub(crate) fn send(&mut self, port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
        self.try_send(port, method, path, body).unwrap_or_else(|| panic!("{method} {path}: the connection was dropped"))
    }

    /// The same; none if the door went away, after which the next one is a new connection.
    pub(crate) fn try_send(&mut self, port: u16, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let head = format!(
            "{method} http://localhost:{port}{path} HTTP/1.1\r\nhost: localhost:{port}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let sent = self.stream.get_mut().write_all(head.as_bytes()).ok().and_then(|()| read_message(&mut self.stream));
        let Some((start, body)) = sent else {
            if let Ok(stream) = UnixStream::connect(&self.socket) {
                self.stream = BufReader::new(stream);
            }
            return None;
        };
        let status = start.split(' ').nth(1).and_then(|code| code.parse().ok());
        Some((status.unwrap_or_else(|| panic!("no status in {start}")), body))
    }
}

/// Every message of one call, as they came.
pub(crate) fn messages(socket: &Path, tool: &str, arguments: Value, token: Option<&str>) -> Vec<(Duration, Value)> {
    let mut params = json!({"name": tool, "arguments": arguments});
    if let Some(token) = token {
        params["_meta"] = json!({"progressToken": token});
    }
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).to_string();
    let mut stream = UnixStream::connect(socket).expect("the door is open");
    let head = format!(
        "POST / HTTP/1.1\r\nhost: supervise:9100\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    // Signs of life come more often; without them nothing in these tests takes longer.
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let start = Instant::now();
    let mut messages = vec![];
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let json = line.strip_prefix("data: ").unwrap_or(&line);
        if let Ok(message @ Value::Object(_)) = serde_json::from_str(json) {
            messages.push((start.elapsed(), message));
        }
    }
    messages
}

fn call(socket: &Path, tool: &str, arguments: Value) -> (String, bool) {
    let messages = messages(socket, tool, arguments, None);
    let (_, last) = messages.last().unwrap_or_else(|| panic!("{tool} was not answered"));
    let result = &last["result"];
    let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {last}"));
    (text.to_owned(), result["isError"] == json!(true))
}
