//! Whom the forge's API is believed to be: what this machine's list of authorities vouches for, and no one else.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

/// A certificate that is not believed.
#[derive(Debug, thiserror::Error)]
#[error(
    "nobody vouches for the certificate of {host} (SHA-256 {fingerprint}) among the authorities in {roots}: {error}"
)]
pub(super) struct Unverified {
    host: String,
    fingerprint: String,
    roots: String,
    error: rustls::Error,
}

impl Unverified {
    /// The certificate for which a connection failed, if that is why it did.
    pub(super) fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        // An I/O error has what it wraps for its text, and not for its source.
        let wrapped = |error: &'a (dyn Error + 'static)| -> Option<&'a (dyn Error + 'static)> {
            Some(error.downcast_ref::<std::io::Error>()?.get_ref()?)
        };
        let mut at = Some(error);
        while let Some(error) = at {
            if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) = error.downcast_ref() {
                return other.0.downcast_ref();
            }
            at = wrapped(error).or_else(|| error.source());
        }
        None
    }
}

/// The settings of a client that trusts the authorities in this file alone.
pub(crate) fn client(roots: Option<&Path>) -> Result<ClientConfig, String> {
    let path =
        roots.ok_or("this host has no list of trusted authorities: install ca-certificates, or set SSL_CERT_FILE")?;
    let failed = |error: &dyn std::fmt::Display| {
        format!("failed to read the trusted authorities in {}: {error}", path.display())
    };
    let mut certificates = vec![];
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))? {
        certificates.push(certificate.map_err(|error| failed(&error))?);
    }
    let mut store = RootCertStore::empty();
    // Some hosts' lists have certificates that are too old to be parsed; the others count.
    let (taken, _) = store.add_parsable_certificates(certificates);
    if taken == 0 {
        return Err(failed(&"it has none"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = NamingVerifier::new(store, &provider, path).map_err(|error| failed(&error))?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Believes what webpki's own verifier believes, and names what that refuses.
#[derive(Debug)]
struct NamingVerifier {
    inner: Arc<WebPkiServerVerifier>,
    roots: String,
}

impl NamingVerifier {
    fn new(store: RootCertStore, provider: &Arc<CryptoProvider>, roots: &Path) -> Result<Self, String> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
        let inner = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { inner, roots: roots.display().to_string() })
    }
}

impl ServerCertVerifier for NamingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map_err(|error| {
            let unverified = Unverified {
                host: server_name.to_str().into_owned(),
                fingerprint: hex::encode(Sha256::digest(end_entity)),
                roots: self.roots.clone(),
                error,
            };
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(unverified))))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
