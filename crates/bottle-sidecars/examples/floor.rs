//! The floor that `scripts/bench egress` holds the doors against: a proxy that ends TLS, looks at nothing, and opens TLS anew. One such
//! process is one hop; two, with a unix socket between them, are what egress and pipelock are to each other.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
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
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Where requests go.
enum Next {
    Socket(PathBuf),
    Origin(u16, TlsConnector),
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let next = Arc::new(match &args.next {
        Some(socket) => Next::Socket(socket.clone()),
        None => Next::Origin(args.port, connector(&args)?),
    });
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
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn acceptor(args: &Args) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&args.certificate)?.collect::<std::result::Result<Vec<_>, _>>()?;
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&args.key)?)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Gives each request on, over one connection of its own for each that comes in.
async fn serve(io: Box<dyn Io>, next: Arc<Next>) -> Result<()> {
    let sender = Arc::new(Mutex::new(connect(&next).await?));
    let service = service_fn(move |request| {
        let sender = Arc::clone(&sender);
        async move { forward(&sender, request).await }
    });
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service).await?)
}

async fn forward(
    sender: &Mutex<SendRequest<Incoming>>,
    request: Request<Incoming>,
) -> hyper::Result<Response<Incoming>> {
    let mut sender = sender.lock().await;
    sender.ready().await?;
    sender.send_request(request).await
}

async fn connect(next: &Next) -> Result<SendRequest<Incoming>> {
    let io: Box<dyn Io> = match next {
        Next::Socket(path) => Box::new(UnixStream::connect(path).await?),
        Next::Origin(port, tls) => {
            let io = TcpStream::connect(("127.0.0.1", *port)).await?;
            io.set_nodelay(true)?;
            Box::new(tls.connect(ServerName::try_from("localhost")?, io).await?)
        }
    };
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
