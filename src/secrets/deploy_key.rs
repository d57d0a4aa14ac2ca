//! An ed25519 key that is made for one run, in OpenSSH's own form (its PROTOCOL.key). It is never in a file of the host.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_types::secret::Secret;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::host;

const KIND: &[u8] = b"ssh-ed25519";
/// How many characters `ssh-keygen` writes in a line.
const LINE: usize = 70;

/// Makes a key pair; the value is the private half.
pub(super) fn make() -> Result<Secret<Vec<u8>>, String> {
    let seed = host::key_seed().map_err(|failure| failure.to_string())?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|error| format!("failed to make a key: {error}"))?;
    Ok(Secret::new(private_file(&seed, pair.public_key().as_ref())))
}

/// The public half of a key of [`make`], as a line of `authorized_keys` has it: `ssh-ed25519 AAAA…`.
pub(crate) fn public_line(private: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(private).ok()?;
    let inner: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let blob = STANDARD.decode(inner).ok()?;
    let public = blob.get(public_at()..)?.get(..public_half(&[0; 32]).len())?;
    let is_key = public.starts_with(&public_half(&[])[..KIND.len() + 4]);
    is_key.then(|| format!("ssh-ed25519 {}", STANDARD.encode(public)))
}

fn private_file(seed: &[u8; 32], public: &[u8]) -> Vec<u8> {
    // Of the two numbers only that they are equal is looked at: they tell a right passphrase from a wrong one, and there is none.
    let mut secret = vec![0; 8];
    for part in [KIND, public, &[seed, public].concat(), b""] {
        string(&mut secret, part);
    }
    secret.extend((1..).take(secret.len().next_multiple_of(8) - secret.len()));
    let mut blob = head();
    string(&mut blob, &public_half(public));
    string(&mut blob, &secret);
    let encoded = STANDARD.encode(blob);
    let lines: Vec<&str> =
        (0..encoded.len()).step_by(LINE).filter_map(|at| encoded.get(at..encoded.len().min(at + LINE))).collect();
    let mark = |end: &str| format!("-----{end} OPENSSH PRIVATE KEY-----");
    format!("{}\n{}\n{}\n", mark("BEGIN"), lines.join("\n"), mark("END")).into_bytes()
}

/// All before the public half: no cipher, no derivation of a key from a passphrase, one key.
fn head() -> Vec<u8> {
    let mut head = b"openssh-key-v1\0".to_vec();
    for part in [b"none", b"none", &b""[..]] {
        string(&mut head, part);
    }
    head.extend(1_u32.to_be_bytes());
    head
}

/// Where the public half begins, behind its length.
fn public_at() -> usize {
    head().len() + 4
}

fn public_half(public: &[u8]) -> Vec<u8> {
    let mut half = vec![];
    string(&mut half, KIND);
    string(&mut half, public);
    half
}

/// Adds a string as SSH has it (RFC 4251, section 5).
fn string(to: &mut Vec<u8>, part: &[u8]) {
    // All of them are shorter than a key's file.
    to.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend(part);
}

#[cfg(test)]
mod tests {
    use bottle_policy::gate::signing::check_private_key;
    use bottle_testkit::sh;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn ssh_keygen_reads_the_key_and_signs_with_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = TempDir::new().expect("a directory");
        let (one, other) = (make().expect("a key"), make().expect("a key"));
        assert_ne!(one.expose(), other.expose());
        let public = public_line(one.expose()).expect("its public half");
        check_private_key(one.expose()).expect("a key as ssh-keygen makes them");
        let file = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(file("key"), one.expose()).expect("a file");
        std::fs::set_permissions(file("key"), std::fs::Permissions::from_mode(0o600)).expect("its mode");
        // What ssh-keygen writes after reading it is the same, but for the numbers and the comment.
        assert_eq!(sh(&["ssh-keygen", "-y", "-P", "", "-f", &file("key")]).trim(), public);
        std::fs::write(file("text"), "a text").expect("a file");
        sh(&["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", &file("key"), &file("text")]);
        std::fs::write(file("signers"), format!("bot {public}\n")).expect("a file");
        let (signers, signature) = (file("signers"), file("text.sig"));
        let verify = format!("ssh-keygen -Y verify -n git -I bot -f {signers} -s {signature} < {}", file("text"));
        assert!(sh(&["sh", "-c", &verify]).contains("Good"));
    }

    #[test]
    fn what_is_no_such_key_has_no_public_half() {
        let key = String::from_utf8(make().expect("a key").expose().clone()).expect("text");
        let cut: String = key.lines().take(2).collect();
        for text in ["", "no key", &cut] {
            assert_eq!(public_line(text.as_bytes()), None, "{text}");
        }
    }
}
