//! The key, in the hands of ssh-keygen(1): it signs and verifies as git has it do.

use std::io::Write as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bottle_policy::gate::HostKey;
use bottle_policy::gate::signing::check_private_key;
use sha2::{Digest as _, Sha256};

use super::super::dirs::{GateDirs, write_file};
use super::super::process::{self, ProcessLimits, last_words};
use super::super::transport;
use crate::common::Error;

/// git's namespace (ssh-keygen(1)): a signature for another is none for a commit.
pub(super) const NAMESPACE: &str = "git";
/// The name that all of the run's keys have in the list of signers.
const SIGNER: &str = "bottle";
const KEYGEN_LIMITS: ProcessLimits = ProcessLimits::seconds(10, 10);
const ARMOR: &str = "-----BEGIN SSH SIGNATURE-----\n";

/// The private key of the policy in force; its public half is beside it, as ssh-keygen wants it.
fn private_key(gate: &GateDirs) -> PathBuf {
    gate.policy_dir.join("signing")
}

/// The list of signers (ssh-keygen(1), ALLOWED SIGNERS) with each key that this run has had.
fn signers(gate: &GateDirs) -> PathBuf {
    gate.private_path("signers")
}

/// Readies the key of a policy, and adds it to the run's; a value that can't sign by itself is refused.
pub(in super::super) fn prepare(gate: &GateDirs) -> Result<(), Error> {
    let Some(signing) = &gate.policy.signing else { return Ok(()) };
    let path = private_key(gate);
    let refuse = |reason: String| Error::Policy { path: gate.dirs.secrets.join(signing.key.as_str()), reason };
    let text = transport::tidy_key(gate, &signing.key)?;
    check_private_key(&text).map_err(|why| refuse(format!("commits can't be signed by it: {why}")))?;
    write_file(&path, &text, 0o600)?;
    let mut command = process::program("ssh-keygen", &gate.home());
    // Nobody is asked for a passphrase.
    command.args(["-y", "-P", "", "-f"]).arg(&path);
    let output = process::run(command, None, KEYGEN_LIMITS).map_err(|error| refuse(error.to_string()))?;
    let public = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let Some(public) = HostKey::parse(&public).ok().filter(|_| output.status.success()) else {
        let why = last_words(&output.stderr).replace(&path.display().to_string(), signing.key.as_str());
        return Err(refuse(format!("commits can't be signed by it: {why}")));
    };
    write_file(&path.with_extension("pub"), format!("{}\n", public.as_str()).as_bytes(), 0o600)?;
    let line = format!("{SIGNER} namespaces=\"{NAMESPACE}\" {}\n", public.as_str());
    let path = signers(gate);
    let known = match std::fs::read_to_string(&path) {
        Ok(known) => known,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::Read { path, error }),
    };
    // A key that was renewed has signed what is not pushed yet.
    if known.split_inclusive('\n').any(|other| other == line) {
        return Ok(());
    }
    write_file(&path, format!("{known}{line}").as_bytes(), 0o600)
}

/// The key's fingerprint, as `ssh-keygen -l` prints it.
pub(super) fn fingerprint(gate: &GateDirs) -> Result<String, String> {
    let path = private_key(gate).with_extension("pub");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    let blob = text.split_ascii_whitespace().nth(1).unwrap_or_default();
    let blob = base64::engine::general_purpose::STANDARD.decode(blob).map_err(|error| error.to_string())?;
    Ok(format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob))))
}

/// Signs; gives the armored signature.
pub(super) fn sign(gate: &GateDirs, bytes: &[u8]) -> Result<String, String> {
    let mut command = process::program("ssh-keygen", &gate.home());
    command.args(["-Y", "sign", "-n", NAMESPACE, "-f"]).arg(private_key(gate));
    let output = process::run(command, Some(bytes.to_vec()), KEYGEN_LIMITS).map_err(|error| error.to_string())?;
    let signature = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    if output.status.success() && signature.starts_with(ARMOR) {
        Ok(signature)
    } else {
        Err(format!("ssh-keygen failed: {}", last_words(&output.stderr)))
    }
}

/// Tells whether a key of this run has signed these bytes for git.
pub(super) fn is_signed(gate: &GateDirs, bytes: &[u8], signature: &str) -> Result<bool, String> {
    let mut file = tempfile::NamedTempFile::new_in(&gate.tmp).map_err(|error| error.to_string())?;
    file.write_all(signature.as_bytes()).map_err(|error| error.to_string())?;
    let mut command = process::program("ssh-keygen", &gate.home());
    command.args(["-Y", "verify", "-n", NAMESPACE, "-I", SIGNER, "-f"]).arg(signers(gate)).arg("-s").arg(file.path());
    let output = process::run(command, Some(bytes.to_vec()), KEYGEN_LIMITS).map_err(|error| error.to_string())?;
    Ok(output.status.success())
}
