//! The one place that chooses the TLS provider (ring) and whom to trust upstream.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
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
    let (added, _) = roots.add_parsable_certificates(found.certs.iter().cloned());
    if added == 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there are no root certificates to verify it by"));
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(UpstreamVerifier::new(roots, found.certs)?))
        .with_no_client_auth();
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// Verifies as webpki does, and tells what it refuses. One thing it takes besides, as OpenSSL and browsers do: a certificate
/// that is trusted itself, and is an authority's too. It has to be valid now, and for the host.
#[derive(Debug)]
struct UpstreamVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl UpstreamVerifier {
    fn new(roots: RootCertStore, trusted: Vec<CertificateDer<'static>>) -> io::Result<Self> {
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        Ok(Self { webpki: webpki.map_err(io::Error::other)?, trusted })
    }
}

impl ServerCertVerifier for UpstreamVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let verified = match verified {
            // That it is valid now was looked at before.
            Err(error) if is_authority(&error) && self.trusted.iter().any(|trusted| trusted == end_entity) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                verify_server_name(&certificate, server_name).map(|()| ServerCertVerified::assertion())
            }
            verified => verified,
        };
        verified.map_err(|error| match error {
            rustls::Error::InvalidCertificate(error) => {
                let unverified = Unverified { certificate: described(end_entity), error };
                rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(unverified))))
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// A certificate that is not accepted, and why.
#[derive(Debug, thiserror::Error)]
#[error("{certificate} is not accepted: {}", reason(error))]
struct Unverified {
    certificate: String,
    error: CertificateError,
}

/// Why, and what to do.
fn reason(error: &CertificateError) -> String {
    let error_name = format!("{error:?}");
    match error {
        CertificateError::UnknownIssuer => {
            "this machine does not trust its issuer; add the issuer's certificate to the \
             system's store, or name a bundle that has it in SSL_CERT_FILE"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired; the server needs a new one".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; check this machine's clock, and the certificate's dates".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for other names; ask for one of those, or give the server a certificate for this one".to_owned()
        }
        _ if error_name.contains("UnsupportedSignatureAlgorithm") => format!(
            "it, or one above it, has a key or a signature that the doors can't verify; they know {SIGNATURES}; give the \
             server such a certificate"
        ),
        _ if error_name.contains("CaUsedAsEndEntity") => "it is an authority's, and not itself trusted; add it to the \
             system's store, or to the bundle that SSL_CERT_FILE names"
            .to_owned(),
        error => error.to_string(),
    }
}

const SIGNATURES: &str = "RSA, ECDSA on P-256 and P-384 (not P-521), and Ed25519";

/// What a failed handshake is told as: what is wrong, and what to do.
pub(crate) fn explained(error: &io::Error) -> String {
    let source = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
    match source {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) => {
            other.0.downcast_ref::<Unverified>().map_or_else(|| error.to_string(), ToString::to_string)
        }
        Some(
            rustls::Error::AlertReceived(
                AlertDescription::HandshakeFailure
                | AlertDescription::ProtocolVersion
                | AlertDescription::InsufficientSecurity
                | AlertDescription::UnsupportedCertificate,
            )
            | rustls::Error::PeerIncompatible(_),
        ) => format!(
            "the server offers nothing that the doors speak ({error}); they speak TLS 1.3, and TLS 1.2 with ECDHE and AES-GCM or \
             ChaCha20 (no CBC), with certificates on {SIGNATURES}; let the server offer one of these"
        ),
        _ => error.to_string(),
    }
}

/// A certificate as a person would look it up: its names, its issuer, its fingerprint.
fn described(certificate: &CertificateDer<'_>) -> String {
    let digest = hex::encode(Sha256::digest(certificate));
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else {
        return format!("the certificate with the SHA-256 {digest}, which can't be read,");
    };
    let names: Vec<&str> = parsed.valid_dns_names().take(4).collect();
    let name = if names.is_empty() { common_name(parsed.subject()) } else { Some(names.join(", ")) };
    let issuer = if parsed.subject() == parsed.issuer() { None } else { common_name(parsed.issuer()) };
    format!(
        "the certificate for {}, {}, with the SHA-256 {digest},",
        name.as_deref().unwrap_or("nobody"),
        issuer.map_or_else(|| "signed by itself".to_owned(), |issuer| format!("issued by `{issuer}`"))
    )
}

/// The common name in a DER name, X.520's 2.5.4.3.
fn common_name(name: &[u8]) -> Option<String> {
    const OID: [u8; 5] = [6, 3, 0x55, 4, 3];
    let at = memchr::memmem::find(name, &OID)? + OID.len();
    let length = usize::from(*name.get(at + 1)?);
    let text = name.get(at + 2..at + 2 + length)?;
    // What a server says of itself goes into a log.
    Some(String::from_utf8_lossy(text).chars().filter(|char| !char.is_control()).take(100).collect())
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
