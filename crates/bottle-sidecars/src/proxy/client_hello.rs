//! The first bytes after CONNECT, a TLS ClientHello: [`read`] where the proxy ends the TLS, [`HelloReader`] where the hello is only
//! read along and kept.
//!
//! Always: the hello is for the host that CONNECT named, or the connection ends.

use std::io;

use bottle_types::host::HostName;
use bottle_types::reason::Reason;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

/// Tells whether the client left, as clients do that open connections in advance: nothing was refused.
pub(crate) fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Waits for the hello, however it is cut; what is wrong with it is a reason for the log and a sentence.
pub(crate) async fn read<S>(stream: S, host: &HostName) -> Result<StartHandshake<S>, (Reason, String)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream)
        .await
        .map_err(|error| (if gone(&error) { Reason::Gone } else { Reason::NotTls }, error.to_string()))?;
    let name = hello.client_hello().server_name().map(HostName::parse);
    match name {
        Some(Ok(name)) if name == *host => Ok(hello),
        Some(_) => Err((Reason::Sni, "the TLS hello names another host than CONNECT".to_owned())),
        None => Err((Reason::Sni, "the TLS hello names no host".to_owned())),
    }
}

/// A hello is a few kilobytes at most.
const LONGEST: usize = 64 << 10;

/// Reads a hello on its way.
pub(crate) struct HelloReader {
    acceptor: Acceptor,
    bytes: Vec<u8>,
}

impl HelloReader {
    /// Before the first byte.
    pub(crate) fn new() -> Self {
        Self { acceptor: Acceptor::default(), bytes: vec![] }
    }

    /// Takes the next bytes; once the hello is whole, the name that it asks for, if any. An error: this is none.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Option<Option<String>>, String> {
        if self.bytes.len() + bytes.len() > LONGEST {
            return Err("the TLS hello is too long".to_owned());
        }
        self.bytes.extend_from_slice(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            self.acceptor.read_tls(&mut rest).map_err(|error| error.to_string())?;
            match self.acceptor.accept() {
                Ok(Some(accepted)) => {
                    return Ok(Some(accepted.client_hello().server_name().map(str::to_owned)));
                }
                Ok(None) => {}
                Err((error, _)) => return Err(error.to_string()),
            }
        }
        Ok(None)
    }

    /// All bytes that were taken.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
