//! The first bytes of a tunnel that is not ended here: a TLS ClientHello, read along and kept.

use rustls::server::Acceptor;

/// A hello is a few kilobytes at most.
const LONGEST: usize = 64 << 10;

/// Reads a hello on its way.
pub(crate) struct Hello {
    acceptor: Acceptor,
    bytes: Vec<u8>,
}

impl Hello {
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
