//! A bundle's directories with both daemons in them, and the guest's side of egress.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bottle_testkit::{Running, with_dirs};
use bottle_wire::access::Access;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_rustls::client::TlsStream;

use crate::make::Secrets;
use crate::origin::Origin;

/// The credential that only pipelock holds.
pub(crate) const KEY: &str = "sk-test-0123456789-abcdefghij";
/// What the guest holds in its place.
pub(crate) const PLACEHOLDER: &str = "bottle-placeholder-ANTHROPIC_API_KEY";
/// A door that has not answered by then hangs. The largest bomb takes a third of it beside another test, on two quiet cores.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Directories, daemons, origin; all gone when dropped.
pub(crate) struct World {
    children: Vec<Running>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) origin: Origin,
    door: &'static str,
}

/// How a world differs from the usual one.
pub(crate) struct Setup {
    pub(crate) routes: &'static str,
    pub(crate) pipelock: &'static str,
    /// Networks that may be dialled.
    pub(crate) allowed: &'static str,
    pub(crate) cassette: Option<&'static str>,
    /// None: the usual one.
    pub(crate) origin: Option<Origin>,
    /// Whether the guest talks to pipelock itself.
    pub(crate) guest_proxy: bool,
    /// The doors' hosts file; none: this machine's.
    pub(crate) hosts: Option<&'static str>,
    /// Secrets beside the usual ones: name and value.
    pub(crate) secret: Option<(&'static str, String)>,
    /// Certificates that are trusted beside the origin's.
    pub(crate) trusted: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            routes: ROUTES,
            pipelock: "",
            allowed: "127.0.0.0/8",
            cassette: None,
            origin: None,
            guest_proxy: false,
            hosts: None,
            secret: None,
            trusted: String::new(),
        }
    }
}

/// `PORT` stands for the origin's.
const ROUTES: &str = r#"
  - host: localhost
    port: PORT
    methods: [GET, POST]
    paths: [/v1/messages, "/key/**"]
    auth: { header: x-api-key, from: ANTHROPIC_API_KEY }
  - { host: localhost, port: PORT, methods: [GET, POST, PUT], paths: ["/open/**", /events] }
git_upstreams: [{ host: localhost, path: open/app }]
"#;

impl World {
    pub(crate) async fn usual() -> Self {
        Self::start(Setup::default()).await
    }

    pub(crate) async fn start(setup: Setup) -> Self {
        let origin = match setup.origin {
            Some(origin) => origin,
            None => Origin::start().await,
        };
        let dir = tempfile::tempdir().expect("a directory");
        for sub in ["doors", "internal", "state/log", "state/replay", "secrets", "config"] {
            std::fs::create_dir_all(dir.path().join(sub)).expect("a directory");
        }
        let write = |path: &str, text: &str| std::fs::write(dir.path().join(path), text).expect("a file");
        write("secrets/ANTHROPIC_API_KEY", &format!("{KEY}\n"));
        write("secrets/ESCAPE_KEY", &Secrets::real().known);
        write("origin.pem", &format!("{}{}", origin.pem, setup.trusted));
        if let Some((name, value)) = &setup.secret {
            write(&format!("secrets/{name}"), value);
        }
        if let Some(hosts) = setup.hosts {
            write("hosts", hosts);
        }
        let replay = setup.cassette.is_some();
        let routes = setup.routes.replace("PORT", &origin.port.to_string());
        write("config/routes.yaml", &format!("version: 1\nreplay: {replay}\nroutes:{routes}"));
        let pipelock = format!(
            "version: 1\nsecrets: [ANTHROPIC_API_KEY, ESCAPE_KEY]\nssrf: {{ ip_allowlist: [{}] }}\nguest_proxy: {}\n{}",
            setup.allowed, setup.guest_proxy, setup.pipelock
        );
        write("config/pipelock.yaml", &pipelock);
        let door = if setup.guest_proxy { "pipelock" } else { "egress" };
        let mut world = Self { dir, origin, children: vec![], door };
        world.daemon("pipelock", "pipelock.yaml", "internal/pipelock.sock").await;
        if !setup.guest_proxy {
            world.daemon("egress", "routes.yaml", "doors/egress.sock").await;
        }
        // The runner copies the cassette in after the start.
        if let Some(cassette) = setup.cassette {
            std::fs::write(world.path("state/replay/cassette"), cassette).expect("a file");
        }
        world
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Starts one sidecar and waits for its socket.
    pub(crate) async fn daemon(&mut self, door: &str, config: &str, socket: &str) {
        let child = command(self.dir.path(), door, config).spawn().expect("a process");
        self.children.push(Running::new(child));
        let socket = self.path(socket);
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).await.is_err() {
            assert!(Instant::now() < deadline, "{door} did not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(std::fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777, 0o666);
    }

    /// Sends a signal to the last daemon started, and waits for its end.
    pub(crate) fn end(&mut self, signal: rustix::process::Signal) -> Option<i32> {
        self.signal(self.children.len() - 1, signal);
        self.children.pop().expect("a process").exit().code()
    }

    /// Sends a signal to the daemon started as number `index`.
    pub(crate) fn signal(&self, index: usize, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.children[index].id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process"), signal).expect("a signal");
    }

    /// Kills the daemon started as number `index`, and waits until it is gone with its socket.
    pub(crate) fn kill(&mut self, index: usize) {
        self.children[index].kill();
    }

    /// The memory of each daemon.
    pub(crate) fn resident_kib(&self) -> Vec<u64> {
        let of = |child: &Running| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("a status");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line").trim();
            line.trim_end_matches(" kB").parse().expect("a number")
        };
        self.children.iter().map(of).collect()
    }

    /// CONNECT, and what is said to it: the raw stream after its answer, and the answer's head.
    pub(crate) async fn connect(&self, place: &str) -> (UnixStream, String) {
        let socket = self.path(&format!("doors/{}.sock", self.door));
        let mut stream = UnixStream::connect(socket).await.expect("a connection");
        let head = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = vec![];
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.expect("an answer"));
        }
        (stream, String::from_utf8(answer).expect("text"))
    }

    /// A tunnel with TLS in it.
    pub(crate) async fn tunnel(&self, host: &str, port: u16, alpn: &str) -> TlsStream<UnixStream> {
        let (stream, answer) = self.connect(&format!("{host}:{port}")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        self.connector(alpn).connect(name(host), stream).await.expect("TLS")
    }

    /// Whether a client that has the ticket of a first connection may send data before the handshake of a second.
    pub(crate) async fn takes_early_data(&self, host: &str, port: u16) -> bool {
        let mut config = self.config("http/1.1");
        config.enable_early_data = true;
        let config = Arc::new(config);
        let (stream, _) = self.connect(&format!("{host}:{port}")).await;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
        let mut tls = connector.connect(name(host), stream).await.expect("TLS");
        // Tickets come with the first answer.
        tls.write_all(format!("GET /open/x HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").as_bytes()).await.expect("sent");
        tls.read_u8().await.expect("an answer");
        let mut second = rustls::ClientConnection::new(config, name(host)).expect("a client");
        second.early_data().is_some()
    }

    /// TLS that trusts the guest's door alone.
    pub(crate) fn connector(&self, alpn: &str) -> tokio_rustls::TlsConnector {
        tokio_rustls::TlsConnector::from(Arc::new(self.config(alpn)))
    }

    fn config(&self, alpn: &str) -> rustls::ClientConfig {
        let pem = std::fs::read(self.path(&format!("state/ca/{}.crt", self.door))).expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config
    }

    /// One request to the origin through the doors, over HTTP/1.1.
    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Incoming> {
        self.send_to("localhost", self.origin.port, "http/1.1", request).await
    }

    /// One request through a tunnel to this place.
    pub(crate) async fn send_to(
        &self,
        host: &str,
        port: u16,
        alpn: &str,
        mut request: Request<Body>,
    ) -> Response<Incoming> {
        let io = TokioIo::new(self.tunnel(host, port, alpn).await);
        let place = if port == 443 { host.to_owned() } else { format!("{host}:{port}") };
        let sent = async {
            if alpn == "h2" {
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
                tokio::spawn(connection);
                let uri = format!("https://{place}{}", request.uri());
                *request.uri_mut() = uri.parse().expect("a URI");
                sender.send_request(request).await
            } else {
                let mut client = hyper::client::conn::http1::Builder::new();
                client.max_headers(2000);
                let (mut sender, connection) = client.handshake(io).await.expect("HTTP/1.1");
                tokio::spawn(connection);
                request.headers_mut().entry("host").or_insert(place.parse().expect("a host"));
                sender.send_request(request).await
            }
        };
        tokio::time::timeout(PATIENCE, sent).await.expect("in time").expect("an answer")
    }

    /// The lines of a run record's file, once there are so many.
    pub(crate) async fn log(&self, file: &str, count: usize) -> Vec<Access> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(self.path("state/log").join(file)).unwrap_or_default();
            if text.lines().count() >= count {
                return text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
            }
            assert!(Instant::now() < deadline, "{file} has only: {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A sidecar's command line, in a clean environment.
pub(crate) fn command(dir: &Path, door: &str, config: &str) -> Command {
    let hosts = dir.join("hosts");
    let mut command = if hosts.exists() {
        let mut command = Command::new("bwrap");
        command.args(["--die-with-parent", "--dev-bind", "/", "/", "--ro-bind"]).arg(hosts).arg("/etc/hosts");
        command.arg(env!("CARGO_BIN_EXE_bottle-sidecars"));
        command
    } else {
        Command::new(env!("CARGO_BIN_EXE_bottle-sidecars"))
    };
    command.env_clear().env("SSL_CERT_FILE", dir.join("origin.pem")).stdin(Stdio::null());
    with_dirs(&mut command, dir, &["doors", "internal", "state", "secrets"]);
    command.arg(door).arg("--config").arg(dir.join("config").join(config));
    command
}

/// What the runner asks of the bundle.
pub(crate) fn control(dir: &Path, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bottle-sidecars"));
    with_dirs(&mut command, dir, &["internal", "state"]);
    command.args(["control", verb]);
    command
}

pub(crate) fn name(host: &str) -> ServerName<'static> {
    ServerName::try_from(host.to_owned()).expect("a name")
}

pub(crate) fn get(path: &str) -> Request<Body> {
    request("GET", path, "")
}

pub(crate) fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Body> {
    let body = Full::new(body.into()).boxed_unsync();
    Request::builder().method(method).uri(path).body(body).expect("a request")
}

/// Status and JSON body of a refusal.
pub(crate) async fn refusal(response: Response<Incoming>) -> (StatusCode, serde_json::Value) {
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).expect("JSON"))
}
