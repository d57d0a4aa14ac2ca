//! The one place that chooses the TLS provider (ring) and whom to trust upstream.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsConnector;

/// Protocols that both sides of TLS offer, best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The cryptography of every TLS connection of this program.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Whom to trust upstream: the system's roots, or those of `SSL_CERT_FILE`. They are read at the first connection, not
/// at the start: the host's bundle is copied into a container that runs already.
#[derive(Clone, Default)]
pub(crate) struct Trust(Arc<OnceLock<[TlsConnector; 2]>>);

impl Trust {
    /// Makes verified TLS connections; without a single root there are none, and the next call reads again.
    /// With `http1` nothing newer is offered.
    pub(crate) fn connector(&self, http1: bool) -> io::Result<&TlsConnector> {
        if let Some(connectors) = self.0.get() {
            return Ok(&connectors[usize::from(http1)]);
        }
        let both = client_config()?;
        let mut old = both.clone();
        old.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connectors = [both, old].map(|config| TlsConnector::from(Arc::new(config)));
        Ok(&self.0.get_or_init(|| connectors)[usize::from(http1)])
    }
}

fn client_config() -> io::Result<ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("a root certificate can't be used: {error}");
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there are no root certificates to verify it by"));
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// The guest's side: this certificate, whatever name is asked for (the caller has compared it).
pub(crate) fn server_config(
    chain: Vec<rustls_pki_types::CertificateDer<'static>>,
    key: rustls_pki_types::PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}
