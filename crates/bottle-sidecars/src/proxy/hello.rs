//! The first bytes after CONNECT: a TLS hello for the host that CONNECT named, or the end.

use std::io;

use bottle_types::host::HostName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

/// The client left before it had sent anything to judge, as clients do that open connections in advance: nothing was
/// refused.
pub(crate) const GONE: &str = "gone";

pub(crate) fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Waits for the hello, however it is cut; what is wrong with it is a word for the log and a sentence.
pub(crate) async fn read<S>(stream: S, host: &HostName) -> Result<StartHandshake<S>, (&'static str, String)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream)
        .await
        .map_err(|error| (if gone(&error) { GONE } else { "not_tls" }, error.to_string()))?;
    let name = hello.client_hello().server_name().map(HostName::parse);
    match name {
        Some(Ok(name)) if name == *host => Ok(hello),
        Some(_) => Err(("sni", "the TLS hello names another host than CONNECT".to_owned())),
        None => Err(("sni", "the TLS hello names no host".to_owned())),
    }
}
