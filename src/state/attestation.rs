//! A signed record: an in-toto statement about the pushed commit and the record's files, in a DSSE envelope, signed by Ed25519.
//!
//! Always: the signature is checked before anything that it covers is believed, and no path of a statement is opened: the record's own
//! files are hashed and compared with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_types::record_file::RecordFile;
use bottle_wire::run_record::Metadata;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};

use super::files::{PASSING, files};
use crate::host::sha256;

/// The largest envelope that is read: a record has some thirty files, and those that the agent has handed in.
const MAX_BYTES: u64 = 16 << 20;
/// The payload's type, by the specification of in-toto's envelopes.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://github.com/claude-bottle/claude-bottle/run-record/v1";
/// What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The subject that is the commit.
const COMMIT: &str = "commit";

/// A key that signs records.
pub(crate) struct SigningKey(Ed25519KeyPair);

/// The public half of a key that signs records.
pub(crate) struct PublicKey(Vec<u8>);

/// What a checked attestation is about.
#[derive(Debug, Serialize)]
pub(crate) struct Attested {
    /// The key's name: the SHA-256 of its SubjectPublicKeyInfo.
    pub(crate) keyid: String,
    /// The commit that the run has pushed.
    pub(crate) commit: Option<String>,
    /// How many files are signed.
    pub(crate) files: usize,
}

/// An envelope, see <https://github.com/secure-systems-lab/dsse>.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    /// Says which key it is by; nothing relies on it.
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// A statement, see <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: RunPredicate,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: Digest,
}

/// The one digest of a subject.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Digest {
    GitCommit(String),
    Sha256(String),
}

/// Which run it was, for whoever has the attestation without the record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RunPredicate {
    run: String,
    exit_code: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    started: String,
    ended: String,
    runner: String,
}

impl SigningKey {
    /// Reads an Ed25519 key out of PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes it.
    pub(crate) fn parse(pem: &[u8]) -> Result<Self, &'static str> {
        if find(pem, b"ENCRYPTED PRIVATE KEY") {
            return Err("it is encrypted, and nobody is asked for a passphrase");
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| "it is no PKCS#8 key in PEM")?;
        // OpenSSL leaves the public half out.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map(Self)
            .map_err(|_| "it is no Ed25519 key in PKCS#8")
    }

    fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().to_vec())
    }
}

impl PublicKey {
    /// Reads an Ed25519 key out of a SubjectPublicKeyInfo in PEM, as `openssl pkey -pubout` writes it.
    pub(crate) fn parse(pem: &[u8]) -> Result<Self, &'static str> {
        if find(pem, b"PRIVATE KEY") {
            return Err("it is a private key; the public half is enough, and all that belongs here");
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| "it is no public key in PEM")?;
        let key = der.strip_prefix(&ED25519_SPKI).filter(|key| key.len() == 32);
        key.map(|key| Self(key.to_vec())).ok_or("it is no Ed25519 key")
    }

    /// The SHA-256 of its SubjectPublicKeyInfo, in hex.
    fn id(&self) -> String {
        use sha2::Digest as _;
        hex::encode(sha2::Sha256::digest([&ED25519_SPKI[..], &self.0].concat()))
    }
}

fn find(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

/// What is signed of a payload: its type and itself, each with its length.
fn pae(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The record's files with their hashes, but for what passes and the attestation itself.
fn sums(dir: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let left_out = [&PASSING[..], &[RecordFile::Attestation]].concat();
    let sum = |path: String| -> std::io::Result<(String, String)> {
        let sum = sha256(&mut File::open(dir.join(&path))?)?;
        Ok((path, sum))
    };
    files(dir, &left_out)?.into_iter().map(sum).collect()
}

/// The text of the attestation of a record that has ended. The same record and key make the same text.
pub(crate) fn sign(dir: &Path, metadata: &Metadata, key: &SigningKey) -> Result<(String, Attested), String> {
    let Some(outcome) = &metadata.outcome else { return Err("the run has no end".to_owned()) };
    let commit = outcome.commit.as_ref().map(ToString::to_string);
    let sums = sums(dir).map_err(|error| format!("failed to read its files: {error}"))?;
    let signed = Attested { keyid: key.public().id(), commit: commit.clone(), files: sums.len() };
    let commit = commit.map(|id| Subject { name: COMMIT.to_owned(), digest: Digest::GitCommit(id) });
    let files = sums.into_iter().map(|(name, sum)| Subject { name, digest: Digest::Sha256(sum) });
    let statement = Statement {
        kind: STATEMENT_TYPE.to_owned(),
        subject: commit.into_iter().chain(files).collect(),
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: RunPredicate {
            run: metadata.slug.clone(),
            exit_code: outcome.code.into(),
            branch: outcome.branch.clone(),
            started: metadata.started.clone(),
            ended: metadata.ended.clone().unwrap_or_default(),
            runner: metadata.runner.clone(),
        },
    };
    let payload = serde_json::to_vec(&statement).map_err(|error| error.to_string())?;
    let signature =
        Signature { keyid: signed.keyid.clone(), sig: STANDARD.encode(key.0.sign(&pae(&payload)).as_ref()) };
    let envelope = Envelope {
        payload: STANDARD.encode(&payload),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: vec![signature],
    };
    let text = serde_json::to_string(&envelope).map_err(|error| error.to_string())?;
    Ok((format!("{text}\n"), signed))
}

/// Checks the attestation of a record by a key: what it is about, and what does not hold, a sentence each. `commit` is the one that it has
/// to be about; none: the one that metadata.json names.
pub(crate) fn check(dir: &Path, key: &PublicKey, commit: Option<&str>) -> (Option<Attested>, Vec<String>) {
    let statement = match opened(dir, key) {
        Ok(statement) => statement,
        Err(problem) => return (None, vec![problem]),
    };
    let mut problems = vec![];
    let (mut signed_commit, mut signed) = (None, BTreeMap::new());
    for Subject { name, digest } in statement.subject {
        let is_second = match digest {
            Digest::GitCommit(id) => signed_commit.replace(id).is_some(),
            Digest::Sha256(sum) => signed.insert(name.clone(), sum).is_some(),
        };
        if is_second {
            problems.push(format!("{}: it names {} twice", RecordFile::Attestation, name.escape_debug()));
        }
    }
    let attested = Attested { keyid: key.id(), commit: signed_commit.clone(), files: signed.len() };
    let recorded = super::value::<Metadata>(dir, RecordFile::Metadata).ok();
    let recorded = recorded.and_then(|metadata| metadata.outcome?.commit).map(|id| id.to_string());
    let wanted = commit.map(str::to_owned).or(recorded);
    if signed_commit != wanted {
        let name = |id: Option<String>| {
            id.map_or_else(|| "no commit".to_owned(), |id| format!("commit {}", id.escape_debug()))
        };
        problems.push(format!(
            "{}: it is about {}, not about {}",
            RecordFile::Attestation,
            name(signed_commit),
            name(wanted)
        ));
    }
    match sums(dir) {
        Ok(sums) => {
            for (path, sum) in &sums {
                match signed.remove(path) {
                    Some(known) if known == *sum => {}
                    Some(_) => problems.push(format!("{path}: it was changed after it was signed")),
                    None => problems.push(format!("{path}: it was not there when the record was signed")),
                }
            }
            problems.extend(
                signed.into_keys().map(|path| format!("{}: it was signed, and is missing", path.escape_debug())),
            );
        }
        Err(error) => problems.push(format!("failed to read the record's files: {error}")),
    }
    (Some(attested), problems)
}

/// The statement of a record's envelope, which this key has signed.
fn opened(dir: &Path, key: &PublicKey) -> Result<Statement, String> {
    let failed = |why: String| format!("{}: {why}", RecordFile::Attestation);
    let mut bytes = vec![];
    let file = File::open(dir.join(RecordFile::Attestation)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failed("it is missing: nobody has signed this record".to_owned()),
        _ => failed(error.to_string()),
    })?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(failed(format!("it is larger than {} MiB", MAX_BYTES >> 20)));
    }
    let envelope: Envelope =
        serde_json::from_slice(&bytes).map_err(|error| failed(format!("it is no DSSE envelope: {error}")))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(failed(format!("it is a {}, and no statement of in-toto's", envelope.payload_type.escape_debug())));
    }
    let [signature] = &envelope.signatures[..] else {
        return Err(failed(format!("it has {} signatures, and one is what is made", envelope.signatures.len())));
    };
    let decoded = |text: &str, what: &str| STANDARD.decode(text).map_err(|_| failed(format!("{what} is no base64")));
    let (payload, sig) = (decoded(&envelope.payload, "its payload")?, decoded(&signature.sig, "its signature")?);
    if UnparsedPublicKey::new(&ED25519, &key.0).verify(&pae(&payload), &sig).is_err() {
        return Err(match signature.keyid == key.id() {
            true => failed("it was changed after it was signed: the signature does not hold".to_owned()),
            false => failed(format!(
                "it is not signed by this key, {}, but by one called {}",
                key.id(),
                signature.keyid.escape_debug()
            )),
        });
    }
    let statement: Statement =
        serde_json::from_slice(&payload).map_err(|error| failed(format!("it is no statement of a record: {error}")))?;
    if statement.kind != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
        return Err(failed(format!("it is a statement of another kind, {}", statement.predicate_type.escape_debug())));
    }
    Ok(statement)
}
