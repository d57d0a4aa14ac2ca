//! The load that `scripts/bench egress` puts on a proxy: the same client for all of them, and for none.
//!
//! A proxy is reached over TCP or a unix socket, asked with CONNECT, and TLS to the origin goes through it. What is measured
//! is one JSON line. Of HTTP/1.1 it knows just enough for the answers of the benchmark's own origin; HTTP/2 is hyper's.

#![expect(clippy::print_stdout, reason = "a tool of the benchmark prints")]

use std::error::Error;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Between two events of a stream.
const PACE: Duration = Duration::from_millis(20);

#[derive(Debug, Parser)]
struct Args {
    /// The proxy's port on loopback, or its unix socket; none: straight to the origin.
    #[arg(long)]
    proxy: Option<String>,
    /// The origin's port; its name is localhost.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Whom to trust, in PEM.
    #[arg(long, default_value = "/dev/null")]
    ca: PathBuf,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// As many requests as go through so many connections.
    Rate { connections: usize, seconds: f64 },
    /// As many requests as go through so many streams of one connection of HTTP/2.
    Streams { streams: usize, seconds: f64 },
    /// One connection, one request after the other.
    Latency { requests: usize },
    /// Event streams, one after the other: how late the first event is, and the later ones.
    Events { streams: usize },
    /// One large answer.
    Download { path: String },
    /// One large body: this file over and over, so many bytes of it.
    Upload { path: String, file: PathBuf, bytes: usize },
    /// Opens connections, sends one request over each, says `ready`, and holds them until its input ends; at each line of that it sends one more
    /// over each, and says `asked`.
    Hold { connections: usize },
    /// The origin of the event streams, in the clear, behind nginx.
    Source { port: u16 },
    /// The origin that reads bodies and keeps nothing of them, in the clear, behind nginx; it answers how many bytes there were.
    Swallow { port: u16 },
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

struct Client {
    proxy: Option<String>,
    port: u16,
    tls: TlsConnector,
}

/// One connection, and what was read too much.
struct Conn {
    io: TlsStream<Box<dyn Io>>,
    buffer: Vec<u8>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    match args.mode {
        Mode::Source { port } => return source(port).await,
        Mode::Swallow { port } => return swallow(port).await,
        _ => {}
    }
    let client = Arc::new(Client::new(&args)?);
    match args.mode {
        Mode::Rate { connections, seconds } => rate(client, connections, seconds).await,
        Mode::Streams { streams, seconds } => rate_of_streams(&client, streams, seconds).await,
        Mode::Latency { requests } => latency(&client, requests).await,
        Mode::Events { streams } => events(&client, streams).await,
        Mode::Download { path } => download(&client, &path).await,
        Mode::Upload { path, file, bytes } => upload(&client, &path, &file, bytes).await,
        Mode::Hold { connections } => hold(&client, connections).await,
        Mode::Source { .. } | Mode::Swallow { .. } => Ok(()),
    }
}

impl Client {
    fn new(args: &Args) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&args.ca)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Whoever asks for streams gets HTTP/2 or nothing.
        if matches!(args.mode, Mode::Streams { .. }) {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(Self { proxy: args.proxy.clone(), port: args.port, tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn connect(&self) -> Result<Conn> {
        let mut io: Box<dyn Io> = match &self.proxy {
            Some(path) if path.starts_with('/') => Box::new(UnixStream::connect(path).await?),
            to => {
                let port = to.as_ref().map_or(Ok(self.port), |port| port.parse())?;
                let stream = TcpStream::connect(("127.0.0.1", port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        if self.proxy.is_some() {
            let place = format!("localhost:{}", self.port);
            io.write_all(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n").as_bytes()).await?;
            let mut answer = vec![];
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(io.read_u8().await?);
            }
            if !answer.starts_with(b"HTTP/1.1 200") {
                return Err(String::from_utf8_lossy(&answer).into());
            }
        }
        let io = self.tls.connect(ServerName::try_from("localhost")?, io).await?;
        Ok(Conn { io, buffer: Vec::with_capacity(16 << 10) })
    }

    fn request(&self, path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nAccept: */*\r\n\r\n", self.port).into_bytes()
    }
}

impl Conn {
    /// Reads more; how much.
    async fn more(&mut self) -> Result<usize> {
        match self.io.read_buf(&mut self.buffer).await? {
            0 => Err("the connection was closed".into()),
            read => Ok(read),
        }
    }

    /// Reads a head: the length of the body where it has one.
    async fn head(&mut self) -> Result<Option<usize>> {
        let end = loop {
            match self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end,
                None => self.more().await?,
            };
        };
        let head = std::str::from_utf8(&self.buffer[..end])?.to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(head.into());
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.map(|text| text.trim().parse()).transpose()?;
        self.buffer.drain(..end + 4);
        Ok(length)
    }

    /// Sends a request and reads its whole answer.
    async fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.io.write_all(request).await?;
        let length = self.head().await?.ok_or("an answer without a length")?;
        while self.buffer.len() < length {
            self.more().await?;
        }
        self.buffer.drain(..length);
        Ok(())
    }
}

async fn rate(client: Arc<Client>, connections: usize, seconds: f64) -> Result<()> {
    let request: Arc<[u8]> = client.request("/").into();
    let mut conns = vec![];
    for _ in 0..connections {
        let mut conn = client.connect().await?;
        conn.ask(&request).await?;
        conns.push(conn);
    }
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let asking = conns.into_iter().map(|conn| OverConn { conn, request: Arc::clone(&request) });
    told(start, asking.map(|one| tokio::spawn(until(end, one))).collect()).await
}

/// One more request is asked by each stream as soon as it has its answer.
async fn rate_of_streams(client: &Client, streams: usize, seconds: f64) -> Result<()> {
    let io = client.connect().await?.io;
    if io.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err("the other side does not speak HTTP/2".into());
    }
    let (sender, connection) =
        hyper::client::conn::http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection);
    let url: Arc<str> = format!("https://localhost:{}/", client.port).into();
    OverStream { sender: sender.clone(), url: Arc::clone(&url) }.ask().await?;
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let asking = (0..streams).map(|_| OverStream { sender: sender.clone(), url: Arc::clone(&url) });
    told(start, asking.map(|one| tokio::spawn(until(end, one))).collect()).await
}

/// Sends a request and reads its whole answer.
trait Ask: Send + 'static {
    fn ask(&mut self) -> impl Future<Output = Result<()>> + Send;
}

struct OverConn {
    conn: Conn,
    request: Arc<[u8]>,
}

impl Ask for OverConn {
    fn ask(&mut self) -> impl Future<Output = Result<()>> + Send {
        self.conn.ask(&self.request)
    }
}

struct OverStream {
    sender: SendRequest<Empty<Bytes>>,
    url: Arc<str>,
}

impl Ask for OverStream {
    async fn ask(&mut self) -> Result<()> {
        let request = Request::get(&*self.url).header("accept", "*/*").body(Empty::new())?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status == StatusCode::OK {
            return Ok(());
        }
        Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into())
    }
}

/// Asks again and again; how long each took.
async fn until(end: Instant, mut asking: impl Ask) -> Result<Vec<Duration>> {
    let mut times = vec![];
    let mut before = Instant::now();
    while before < end {
        asking.ask().await?;
        let now = Instant::now();
        times.push(now - before);
        before = now;
    }
    Ok(times)
}

/// Says what all of them have had of each other.
async fn told(start: Instant, tasks: Vec<JoinHandle<Result<Vec<Duration>>>>) -> Result<()> {
    let mut times = vec![];
    for task in tasks {
        times.extend(task.await??);
    }
    let taken = start.elapsed().as_secs_f64();
    times.sort_unstable();
    let (median, worst) = (ms(times[times.len() / 2]), ms(times[times.len() * 99 / 100]));
    println!(
        r#"{{"rate": {:.0}, "median_ms": {median:.3}, "p99_ms": {worst:.3}, "requests": {}}}"#,
        times.len() as f64 / taken,
        times.len(),
    );
    Ok(())
}

async fn latency(client: &Client, requests: usize) -> Result<()> {
    let request = client.request("/");
    let mut conn = client.connect().await?;
    let mut times = vec![];
    for index in 0..requests + requests / 10 {
        let before = Instant::now();
        conn.ask(&request).await?;
        if index >= requests / 10 {
            times.push(before.elapsed());
        }
    }
    times.sort_unstable();
    println!(r#"{{"median_ms": {:.4}}}"#, ms(times[times.len() / 2]));
    Ok(())
}

/// Every event says at which nanosecond of the system's clock it was sent.
async fn events(client: &Client, streams: usize) -> Result<()> {
    let request = client.request("/events");
    let (mut first, mut later) = (vec![], vec![]);
    for index in 0..=streams {
        let mut conn = client.connect().await?;
        conn.ask(&client.request("/")).await?;
        let asked = Instant::now();
        conn.io.write_all(&request).await?;
        conn.head().await?;
        let mut seen = 0;
        while seen < 6 {
            let event = conn.buffer.windows(7).position(|window| window == b"data: @");
            let whole = event.and_then(|at| {
                let end = conn.buffer[at..].iter().position(|byte| *byte == b'\n')?;
                Some((at, at + end))
            });
            let Some((at, end)) = whole else {
                conn.more().await?;
                continue;
            };
            let sent: u128 = std::str::from_utf8(&conn.buffer[at + 7..end])?.trim().parse()?;
            conn.buffer.drain(..end);
            seen += 1;
            // The first stream warms up.
            if index > 0 && seen == 1 {
                first.push(asked.elapsed());
            } else if index > 0 {
                later.push(Duration::from_nanos(u64::try_from(clock().saturating_sub(sent))?));
            }
        }
    }
    first.sort_unstable();
    later.sort_unstable();
    println!(r#"{{"first_ms": {:.3}, "later_ms": {:.3}}}"#, ms(first[first.len() / 2]), ms(later[later.len() / 2]));
    Ok(())
}

async fn download(client: &Client, path: &str) -> Result<()> {
    let mut conn = client.connect().await?;
    conn.ask(&client.request("/")).await?;
    let start = Instant::now();
    conn.io.write_all(&client.request(path)).await?;
    let length = conn.head().await?.ok_or("an answer without a length")?;
    let mut left = length - conn.buffer.len();
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        match conn.io.read(&mut buffer).await? {
            0 => return Err("the download was cut off".into()),
            read => left -= read,
        }
    }
    let rate = length as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!(r#"{{"mb_s": {rate:.0}}}"#);
    Ok(())
}

async fn upload(client: &Client, path: &str, file: &Path, bytes: usize) -> Result<()> {
    let body = std::fs::read(file)?;
    if body.is_empty() {
        return Err(format!("there is nothing in {}", file.display()).into());
    }
    let mut conn = client.connect().await?;
    conn.ask(&client.request("/")).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost:{}\r\nAccept: */*\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {bytes}\r\n\r\n",
        client.port
    );
    let start = Instant::now();
    conn.io.write_all(head.as_bytes()).await?;
    let mut left = bytes;
    let sent = async {
        while left > 0 {
            for part in body[..left.min(body.len())].chunks(256 << 10) {
                conn.io.write_all(part).await?;
                left -= part.len();
            }
        }
        conn.io.flush().await
    };
    // Whoever takes no more has perhaps said why.
    let sent = sent.await;
    let length = conn.head().await?.ok_or("an answer without a length")?;
    sent?;
    while conn.buffer.len() < length {
        conn.more().await?;
    }
    let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
    let said = String::from_utf8_lossy(&conn.buffer[..length]).into_owned();
    if said.trim().parse() != Ok(bytes) {
        return Err(format!("{bytes} bytes were sent, and the origin got {said}").into());
    }
    println!(r#"{{"mb_s": {rate:.1}}}"#);
    Ok(())
}

async fn hold(client: &Client, connections: usize) -> Result<()> {
    let request = client.request("/");
    let mut conns = vec![];
    for _ in 0..connections {
        let mut conn = client.connect().await?;
        conn.ask(&request).await?;
        conns.push(conn);
    }
    println!("ready");
    while tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await?? > 0 {
        for conn in &mut conns {
            conn.ask(&request).await?;
        }
        println!("asked");
    }
    Ok(())
}

async fn source(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n";
            stream.write_all(answer.as_bytes()).await?;
            loop {
                stream.write_all(format!("data: @{}\n\n", clock()).as_bytes()).await?;
                tokio::time::sleep(PACE).await;
            }
            #[expect(unreachable_code, reason = "says what the block gives")]
            Ok::<_, std::io::Error>(())
        });
    }
}

async fn swallow(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A client that goes in the middle is no failure of the origin.
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(count)),
        );
    }
}

async fn count(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let (mut body, mut bytes) = (request.into_body(), 0);
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(Response::new(Full::from(bytes.to_string())))
}

fn clock() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
