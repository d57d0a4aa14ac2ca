//! The certificate authority of one door: made once per run, kept by its key file, known to the guest by its certificate.
//!
//! `<state>/ca/<door>.key` (0600) stays where it is, so a restarted daemon is the same authority; `<door>.crt` (0644)
//! is what the guest trusts. Leaf keys are fresh for each host and live in memory only.

use std::collections::HashMap;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bottle_types::door::Door;
use bottle_types::host::HostName;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::common::Error;
use crate::tls;

/// A guest's clock may be behind.
const BACKDATE: time::Duration = time::Duration::hours(24);
const CA_LIFE: time::Duration = time::Duration::days(7);
const LEAF_LIFE: time::Duration = time::Duration::days(2);
/// A leaf is made anew long before it ends.
const LEAF_REUSE: Duration = Duration::from_secs(12 * 3600);
/// Leaves kept at once; the oldest goes first.
const MAX_LEAVES: usize = 512;

/// One door's authority and the leaves it has made.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    leaves: Mutex<HashMap<HostName, (Instant, Arc<ServerConfig>)>>,
}

impl Ca {
    /// Takes the authority of an earlier start of this door, or makes one.
    pub(crate) fn open(state: &Path, door: Door) -> Result<Self, Error> {
        let dir = state.join("ca");
        std::fs::create_dir_all(&dir).map_err(|error| Error::Make { path: dir.clone(), error })?;
        let key_path = dir.join(format!("{}.key", door.name()));
        let crt_path = dir.join(format!("{}.crt", door.name()));
        let invalid = |reason: rcgen::Error| Error::Policy { path: key_path.clone(), reason: reason.to_string() };
        let (key, new) = match std::fs::read_to_string(&key_path) {
            Ok(pem) => (KeyPair::from_pem(&pem).map_err(invalid)?, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (KeyPair::generate().map_err(invalid)?, true),
            Err(error) => return Err(Error::Read { path: key_path, error }),
        };
        let params = ca_params(door, &key);
        if new {
            write(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
        }
        if new || !crt_path.exists() {
            let certificate = params.self_signed(&key).map_err(invalid)?;
            write(&crt_path, certificate.pem().as_bytes(), 0o644)?;
            let print = hex::encode(Sha256::digest(certificate.der()));
            tracing::info!("made the CA of {}, SHA-256 {print}", door.name());
        }
        Ok(Self { issuer: Issuer::new(params, key), leaves: Mutex::default() })
    }

    /// The TLS configuration by which the proxy is this host for the guest.
    pub(crate) fn server_config(&self, host: &HostName) -> Result<Arc<ServerConfig>, LeafError> {
        let now = Instant::now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, config)) = leaves.get(host)
            && now.duration_since(*made) < LEAF_REUSE
        {
            return Ok(Arc::clone(config));
        }
        if leaves.len() >= MAX_LEAVES
            && let Some(oldest) = leaves.iter().min_by_key(|(_, (made, _))| *made).map(|(host, _)| host.clone())
        {
            leaves.remove(&oldest);
        }
        let config = self.leaf(host)?;
        leaves.insert(host.clone(), (now, Arc::clone(&config)));
        Ok(config)
    }

    fn leaf(&self, host: &HostName) -> Result<Arc<ServerConfig>, LeafError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_string()])?;
        // A common name takes 64 characters at most; the name that counts is the subject's alternative one.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, host.as_str().get(..64).unwrap_or(host.as_str()));
        (params.not_before, params.not_after) = validity(LEAF_LIFE);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| LeafError::Key(error.to_owned()))?;
        Ok(tls::server_config(vec![certificate.der().clone()], key)?)
    }
}

/// A leaf that can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeafError {
    #[error("the certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("the key: {0}")]
    Key(String),
    #[error("its use: {0}")]
    Tls(#[from] rustls::Error),
}

/// Everything but the dates follows from the key, so that a certificate made after a restart names the same issuer.
fn ca_params(door: Door, key: &KeyPair) -> CertificateParams {
    let print = hex::encode(&Sha256::digest(key.der_bytes())[..4]);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("claude-bottle {} {print}", door.name()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(CA_LIFE);
    params
}

fn validity(life: time::Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - BACKDATE, now + life)
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let make = |error| Error::Make { path: path.to_owned(), error };
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new("."))).map_err(make)?;
    file.write_all(bytes).map_err(make)?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(make)?;
    file.persist(path).map_err(|error| make(error.error))?;
    Ok(())
}
