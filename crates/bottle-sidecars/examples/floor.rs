//! The floor that `scripts/bench egress` holds the doors against: a proxy that ends TLS, looks at nothing, and opens TLS anew. One such
//! process is one hop; two, with a unix socket between them, are what egress and pipelock are to each other. It speaks HTTP/1.1 on all
//! ways, or HTTP/2 on all.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Debug, Parser)]
struct Args {
    /// A port on loopback, asked with CONNECT and then TLS; or a unix socket, asked in the clear.
    listen: String,
    /// The unix socket of the next hop; none: this one opens TLS to the origin.
    #[arg(long)]
    next: Option<PathBuf>,
    /// The origin's port; its name is localhost.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Whom to trust, in PEM.
    #[arg(long, default_value = "/dev/null")]
    ca: PathBuf,
    /// The certificate to show, in PEM.
    #[arg(long, default_value = "/dev/null")]
    certificate: PathBuf,
    /// Its key, in PEM.
    #[arg(long, default_value = "/dev/null")]
    key: PathBuf,
    /// HTTP/2 alone, with the client, between hops and with the origin.
    #[arg(long)]
    h2: bool,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Where requests go, and what is spoken.
struct Next {
    hop: Hop,
    h2: bool,
}

enum Hop {
    Socket(PathBuf),
    Origin(u16, TlsConnector),
}

/// What requests are sent by. By HTTP/1.1 one has to wait for the one before.
#[derive(Clone)]
enum Sender {
    One(Arc<Mutex<http1::SendRequest<Incoming>>>),
    Many(http2::SendRequest<Incoming>),
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let hop = match &args.next {
        Some(socket) => Hop::Socket(socket.clone()),
        None => Hop::Origin(args.port, connector(&args)?),
    };
    let next = Arc::new(Next { hop, h2: args.h2 });
    if args.listen.starts_with('/') {
        let listener = UnixListener::bind(&args.listen)?;
        loop {
            let (io, _) = listener.accept().await?;
            tokio::spawn(serve(Box::new(io), Arc::clone(&next)));
        }
    }
    let acceptor = acceptor(&args)?;
    let listener = TcpListener::bind(("127.0.0.1", args.listen.parse()?)).await?;
    loop {
        let (mut io, _) = listener.accept().await?;
        let (acceptor, next) = (acceptor.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            io.set_nodelay(true)?;
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") {
                head.push(io.read_u8().await?);
            }
            io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            serve(Box::new(acceptor.accept(io).await?), next).await
        });
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn connector(args: &Args) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&args.ca)? {
        roots.add(certificate?)?;
    }
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = spoken(args);
    Ok(TlsConnector::from(Arc::new(config)))
}

fn acceptor(args: &Args) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&args.certificate)?.collect::<std::result::Result<Vec<_>, _>>()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&args.key)?)?;
    config.alpn_protocols = spoken(args);
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn spoken(args: &Args) -> Vec<Vec<u8>> {
    if args.h2 { vec![b"h2".to_vec()] } else { vec![] }
}

/// Gives each request on, over one connection of its own for each that comes in.
async fn serve(io: Box<dyn Io>, next: Arc<Next>) -> Result<()> {
    let sender = connect(&next).await?;
    let service = service_fn(move |request| forward(sender.clone(), request));
    let io = TokioIo::new(io);
    if next.h2 {
        return Ok(hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await?);
    }
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await?)
}

async fn forward(sender: Sender, request: Request<Incoming>) -> hyper::Result<Response<Incoming>> {
    match sender {
        Sender::One(sender) => {
            let mut sender = sender.lock().await;
            sender.ready().await?;
            sender.send_request(request).await
        }
        Sender::Many(mut sender) => {
            sender.ready().await?;
            sender.send_request(request).await
        }
    }
}

async fn connect(next: &Next) -> Result<Sender> {
    let io: Box<dyn Io> = match &next.hop {
        Hop::Socket(path) => Box::new(UnixStream::connect(path).await?),
        Hop::Origin(port, tls) => {
            let io = TcpStream::connect(("127.0.0.1", *port)).await?;
            io.set_nodelay(true)?;
            Box::new(tls.connect(ServerName::try_from("localhost")?, io).await?)
        }
    };
    if next.h2 {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(io)).await?;
        tokio::spawn(connection);
        return Ok(Sender::Many(sender));
    }
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection);
    Ok(Sender::One(Arc::new(Mutex::new(sender))))
}
