//! Which commits the gate signs: those of this run, in the one form in which git writes them.
//!
//! A commit object is read here as git-fsck(1) reads it, and more strictly: `tree`, any number of `parent`, `author`, `committer`, an
//! empty line, and a message in UTF-8. No other header is signed, since each (`gpgsig`, `mergetag`, `encoding`) changes what a reader sees
//! or takes for signed. Whether the parents are known is the gate's to say, which has the repositories.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_types::git::ObjectId;
use bottle_types::secret::SecretName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest commit object that is signed.
pub const MAX_COMMIT_BYTES: usize = 1 << 20;
/// The most parents that a commit has which is signed.
const MAX_PARENTS: usize = 16;
/// How far a committer's date may be from the gate's clock, in seconds.
const MAX_CLOCK_SECONDS: u64 = 600;

/// How the commits of a run are signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningPolicy {
    /// The secret that holds the private ssh key.
    pub key: SecretName,
    /// Who commits in this run.
    pub committer: GitIdentity,
    /// Whether a commit by another author is signed, too, such as one that was cherry-picked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_author: bool,
    /// Whether a push is refused that brings a commit of the run without such a signature.
    #[serde(default = "required", skip_serializing_if = "Clone::clone")]
    pub required: bool,
}

fn required() -> bool {
    true
}

/// A name and an address, as a commit has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitIdentity {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

impl GitIdentity {
    /// Who commits in a bottle where the manifest does not say.
    pub fn of_the_bottle() -> Self {
        Self { name: "Claude (bottle)".to_owned(), email: "claude@bottle.invalid".to_owned() }
    }

    /// What is wrong with it: git would write it otherwise than it is here, or not at all. The key, and why.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        // ident.c of git strips these from both ends, and `<`, `>` and line ends from within.
        let crud = |c: char| c.is_control() || c.is_whitespace() || ".,:;<>\"\\'".contains(c);
        let is_kept = |text: &str| {
            !text.is_empty()
                && text.len() <= 200
                && !text.starts_with(crud)
                && !text.ends_with(crud)
                && !text.contains(|c: char| c.is_control() || "<>\"\\".contains(c))
        };
        if !is_kept(&self.name) {
            return Err(("name", "git would not write this name as it is"));
        }
        if !is_kept(&self.email) || self.email.contains(char::is_whitespace) {
            return Err(("email", "git would not write this address as it is"));
        }
        Ok(())
    }
}

/// As a header of a commit has it, without the date.
impl fmt::Display for GitIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.name, self.email)
    }
}

/// Why a commit is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningRefusal {
    /// Larger than any honest one.
    #[error("{0} bytes, and a commit of at most {MAX_COMMIT_BYTES} is signed")]
    Size(u64),
    /// Another kind of object, or none.
    #[error("not a commit object: it does not begin with `tree` and an id")]
    NoCommit,
    /// A header that is missing, twice, out of its place, or none that is signed.
    #[error("{0}")]
    Header(&'static str),
    /// A header with what git would not write.
    #[error("the line `{0}` is not as git writes it")]
    Line(&'static str),
    /// More parents than any honest merge.
    #[error("more than {MAX_PARENTS} parents")]
    Parents,
    /// One parent that stands there twice.
    #[error("a parent stands there twice")]
    SameParent,
    /// Ids of two kinds of repositories.
    #[error("ids of SHA-1 and of SHA-256 in one commit")]
    Formats,
    /// Another committer.
    #[error("the committer is not this run's, {0}")]
    Committer(String),
    /// Another author.
    #[error("the author is not this run's, {0}; `signing.any_author` lets other authors in")]
    Author(String),
    /// A committer's date that is not now.
    #[error("the committer's date is more than {} minutes from now", MAX_CLOCK_SECONDS / 60)]
    Date,
    /// An author's date that is to come.
    #[error("the author's date is in the future")]
    AuthorDate,
    /// A message that readers see in different ways.
    #[error("the message is not UTF-8 without NUL")]
    Message,
}

/// A commit that may be signed, if its parents are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitToSign {
    /// Its tree.
    pub tree: ObjectId,
    /// Its parents; none: it is a root.
    pub parents: Vec<ObjectId>,
    committed_at: u64,
    authored_at: u64,
}

impl CommitToSign {
    /// Reads an unsigned commit object, and judges all of it but its dates and whether its parents are known.
    pub fn read(bytes: &[u8], policy: &SigningPolicy) -> Result<Self, SigningRefusal> {
        if bytes.len() > MAX_COMMIT_BYTES {
            return Err(SigningRefusal::Size(bytes.len() as u64));
        }
        let mut lines = Lines { bytes };
        let tree = lines.next("tree ").and_then(id).ok_or(SigningRefusal::NoCommit)?;
        let mut parents = vec![];
        while let Some(line) = lines.next("parent ") {
            parents.push(id(line).ok_or(SigningRefusal::Line("parent"))?);
            if parents.len() > MAX_PARENTS {
                return Err(SigningRefusal::Parents);
            }
        }
        let author = lines.next("author ").ok_or(SigningRefusal::Header("there is no author where one belongs"))?;
        let no_committer = SigningRefusal::Header("there is no committer where one belongs");
        let committer = lines.next("committer ").ok_or(no_committer)?;
        let message = lines.bytes.strip_prefix(b"\n").ok_or_else(|| other_header(lines.bytes))?;

        if parents.iter().any(|parent| parent.as_str().len() != tree.as_str().len()) {
            return Err(SigningRefusal::Formats);
        }
        if parents.iter().enumerate().any(|(at, parent)| parents[..at].contains(parent)) {
            return Err(SigningRefusal::SameParent);
        }
        let own = policy.committer.to_string();
        let (who, committed_at) = dated(committer).ok_or(SigningRefusal::Line("committer"))?;
        if who != own {
            return Err(SigningRefusal::Committer(own));
        }
        let (who, authored_at) = dated(author).ok_or(SigningRefusal::Line("author"))?;
        if who != own && !policy.any_author {
            return Err(SigningRefusal::Author(own));
        }
        if message.contains(&0) || std::str::from_utf8(message).is_err() {
            return Err(SigningRefusal::Message);
        }
        Ok(Self { tree, parents, committed_at, authored_at })
    }

    /// Judges its dates; `now` is in seconds since 1970. A request that was kept from an earlier run is too old.
    pub fn is_of_now(&self, now: u64) -> Result<(), SigningRefusal> {
        if self.committed_at.abs_diff(now) > MAX_CLOCK_SECONDS {
            return Err(SigningRefusal::Date);
        }
        if self.authored_at > now.saturating_add(MAX_CLOCK_SECONDS) {
            return Err(SigningRefusal::AuthorDate);
        }
        Ok(())
    }
}

/// The lines of the head that are left.
pub(super) struct Lines<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The rest of the next line, if it begins so.
    pub(super) fn next(&mut self, start: &str) -> Option<&'a [u8]> {
        let rest = self.bytes.strip_prefix(start.as_bytes())?;
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        self.bytes = &rest[end + 1..];
        Some(&rest[..end])
    }
}

/// Says what stands where the message should begin.
fn other_header(rest: &[u8]) -> SigningRefusal {
    let known = [
        ("tree ", "a second tree"),
        ("parent ", "a parent behind the author"),
        ("author ", "a second author"),
        ("committer ", "a second committer"),
        ("gpgsig", "there is a signature in it already"),
        ("mergetag ", "a merge of a signed tag is not signed; merge its commit, as `git merge TAG^{commit}`"),
        ("encoding ", "only UTF-8 is signed, without the header `encoding`; unset `i18n.commitEncoding`"),
    ];
    let found = known.into_iter().find(|(start, _)| rest.starts_with(start.as_bytes()));
    SigningRefusal::Header(found.map_or("a header that is not signed, or no message", |(_, what)| what))
}

fn id(bytes: &[u8]) -> Option<ObjectId> {
    let text = std::str::from_utf8(bytes).ok()?;
    ObjectId::parse(text).ok().filter(|id| !id.is_null())
}

/// Takes `Name <address> 1700000000 +0100` apart: who, and when in seconds since 1970.
pub(super) fn dated(line: &[u8]) -> Option<(&str, u64)> {
    let line = std::str::from_utf8(line).ok().filter(|line| !line.contains('\0'))?;
    let (who, date) = line.split_at(line.rfind("> ")? + 1);
    let (name, email) = who.strip_suffix('>')?.split_once(" <")?;
    let (seconds, zone) = date.strip_prefix(' ')?.split_once(' ')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_plain = seconds == "0" || !seconds.starts_with('0');
    let digits = zone.strip_prefix(['+', '-'])?;
    let is_zone = digits.len() == 4 && is_number(digits) && digits <= "1400" && &digits[2..] < "60";
    let is_whole = is_number(seconds) && is_plain && seconds.len() <= 11 && is_zone;
    if !is_whole || name.contains(['<', '>']) || email.contains(['<', '>', ' ']) {
        return None;
    }
    Some((who, seconds.parse().ok()?))
}

/// The start of an ed25519 key without a passphrase (PROTOCOL.key of OpenSSH): cipher and key derivation `none`, one key, and its kind.
const OPEN_ED25519: &[u8] =
    b"openssh-key-v1\0\0\0\0\x04none\0\0\0\x04none\0\0\0\0\0\0\0\x01\0\0\0\x33\0\0\0\x0bssh-ed25519";
/// The part of it that says that there is no passphrase.
const OPEN: &[u8] = b"openssh-key-v1\0\0\0\0\x04none";

/// Says what keeps a value from being the key: it is none, asks for a passphrase, or is of another kind. A key of RSA, or one in PEM, has
/// whole lines of its public half in it, which each signature shows: the scanners would find it wherever there is one.
pub fn check_private_key(value: &[u8]) -> Result<(), &'static str> {
    let no_key = "it is no ed25519 key in OpenSSH's own form, as `ssh-keygen -t ed25519` makes them";
    let lines: Vec<&str> = std::str::from_utf8(value).map_err(|_| no_key)?.trim().lines().map(str::trim).collect();
    let [first, inner @ .., last] = &lines[..] else { return Err(no_key) };
    let is_key = |line: &str, start| line.starts_with(start) && line.ends_with(" OPENSSH PRIVATE KEY-----");
    if !is_key(first, "-----BEGIN") || !is_key(last, "-----END") {
        return Err(no_key);
    }
    let blob = STANDARD.decode(inner.concat()).map_err(|_| no_key)?;
    if blob.starts_with(OPEN_ED25519) {
        Ok(())
    } else if blob.starts_with(OPEN) {
        Err(no_key)
    } else {
        Err("it has a passphrase, and nobody is there to give it; `ssh-keygen -p -N ''` takes it off")
    }
}

/// Puts an armored signature where git puts it: behind the other headers, each of its lines but the first behind a space.
pub fn with_signature(commit: &[u8], signature: &str) -> Option<Vec<u8>> {
    let end = head_end(commit)?;
    let header = signature.trim_end().replace('\n', "\n ");
    Some([&commit[..end], signature_header(commit).as_bytes(), header.as_bytes(), b"\n", &commit[end..]].concat())
}

/// Takes a signed commit apart: what was signed, and the armored signature. None: it has no signature, or one that is not where
/// [`with_signature`] puts it.
pub fn without_signature(commit: &[u8]) -> Option<(Vec<u8>, String)> {
    let head = &commit[..head_end(commit)?];
    let name = signature_header(commit);
    let mut starts = (1..head.len()).filter(|at| head[at - 1] == b'\n' && head[*at..].starts_with(name.as_bytes()));
    let found = starts.next()?;
    let header = std::str::from_utf8(&head[found + name.len()..]).ok()?;
    let mut signature = String::new();
    for (at, line) in header.lines().enumerate() {
        signature.push_str(if at == 0 { line } else { line.strip_prefix(' ')? });
        signature.push('\n');
    }
    Some(([&commit[..found], &commit[head.len()..]].concat(), signature))
}

/// The header that has the signature: of a SHA-256 repository another one (gitformat-signature(5)).
fn signature_header(commit: &[u8]) -> &'static str {
    if commit.get("tree ".len() + 40) == Some(&b'\n') { "gpgsig " } else { "gpgsig-sha256 " }
}

/// Where the empty line behind the headers begins.
fn head_end(commit: &[u8]) -> Option<usize> {
    commit.windows(2).position(|bytes| bytes == b"\n\n").map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> SigningPolicy {
        let key = SecretName::parse("SIGNING_KEY").expect("a name");
        SigningPolicy { key, committer: GitIdentity::of_the_bottle(), any_author: false, required: true }
    }

    fn commit(message: &str) -> String {
        let (id, who) = ("1".repeat(40), "Claude (bottle) <claude@bottle.invalid> 1700000000 +0100");
        format!("tree {id}\nparent {id}\nauthor {who}\ncommitter {who}\n\n{message}")
    }

    #[test]
    fn a_commit_as_git_writes_it_is_read() {
        let read = CommitToSign::read(commit("One\n\nTwo: ä\n").as_bytes(), &policy()).expect("a commit");
        assert_eq!((read.parents.len(), read.committed_at), (1, 1_700_000_000));
        assert_eq!(read.is_of_now(1_700_000_600), Ok(()));
        assert_eq!(read.is_of_now(1_700_000_601), Err(SigningRefusal::Date));
        assert_eq!(read.is_of_now(1_699_999_399), Err(SigningRefusal::Date));
    }

    #[test]
    fn a_signature_goes_in_and_comes_out() {
        let signature = "-----BEGIN SSH SIGNATURE-----\nAAAA\nBBBB\n-----END SSH SIGNATURE-----\n";
        let plain = commit("One\n\nTwo\n");
        let signed = with_signature(plain.as_bytes(), signature).expect("a head");
        assert!(String::from_utf8_lossy(&signed).contains("+0100\ngpgsig -----BEGIN SSH SIGNATURE-----\n AAAA\n"));
        assert_eq!(without_signature(&signed), Some((plain.clone().into_bytes(), signature.to_owned())));
        assert_eq!(without_signature(plain.as_bytes()), None);
        let in_message = commit("One\n\ngpgsig x\n");
        assert_eq!(without_signature(in_message.as_bytes()), None);
        // A header behind it belongs to no signature.
        let more = String::from_utf8_lossy(&signed).replacen("\n\n", "\nencoding x\n\n", 1);
        assert_eq!(without_signature(more.as_bytes()), None);
    }

    #[test]
    fn a_value_that_is_no_key_is_told_before_a_gate_starts() {
        let key = |kind: &str, inner: &str| format!("-----BEGIN {kind}-----\n{inner}\n-----END {kind}-----\n");
        let openssh = |blob: &[u8]| key(concat!("OPENSSH PRI", "VATE KEY"), &STANDARD.encode([blob, b"rest"].concat()));
        for good in [openssh(OPEN_ED25519), openssh(OPEN_ED25519).replace('\n', "\r\n")] {
            assert_eq!(check_private_key(good.as_bytes()), Ok(()), "{good}");
        }
        let why = check_private_key(openssh(b"openssh-key-v1\0\0\0\0\x0aaes256-ctr").as_bytes()).expect_err("locked");
        assert!(why.contains("passphrase"), "{why}");
        let rsa =
            openssh(b"openssh-key-v1\0\0\0\0\x04none\0\0\0\x04none\0\0\0\0\0\0\0\x01\0\0\x02\x17\0\0\0\x07ssh-rsa");
        for none in ["", "ssh-ed25519 AAAA bot", "a token", &rsa, &key(concat!("RSA PRI", "VATE KEY"), "AAAA")] {
            assert!(
                check_private_key(none.as_bytes()).expect_err("none").starts_with("it is no ed25519 key"),
                "{none}"
            );
        }
    }

    #[test]
    fn an_identity_that_git_would_change_is_refused() {
        let check = |name: &str, email: &str| GitIdentity { name: name.to_owned(), email: email.to_owned() }.check();
        assert_eq!(GitIdentity::of_the_bottle().check(), Ok(()));
        assert_eq!(check("Ada Löwe", "a@example.org"), Ok(()));
        for name in ["", " a", "a.", "a<b", "a\nb", "\"a\"", "a\\"] {
            assert_eq!(check(name, "a@example.org").map_err(|(key, _)| key), Err("name"), "{name}");
        }
        for email in ["", "a b@example.org", "<a@example.org>", "a@example.org\n"] {
            assert_eq!(check("a", email).map_err(|(key, _)| key), Err("email"), "{email}");
        }
    }

    proptest! {
        /// Whatever is done to one byte of a commit's head, it is refused or says the same of who committed.
        #[test]
        fn no_byte_of_the_head_makes_another_committer(at in 0_usize..200, byte in any::<u8>()) {
            let text = commit("One\n");
            let mut bytes = text.clone().into_bytes();
            let at = at % (text.len() - 5);
            bytes[at] = byte;
            if CommitToSign::read(&bytes, &policy()).is_ok() {
                let text = String::from_utf8(bytes).expect("text");
                let own = "\ncommitter Claude (bottle) <claude@bottle.invalid> ";
                prop_assert_eq!(text.matches(own).count(), 1);
                prop_assert_eq!(text.split("\n\n").next().expect("a head").lines().count(), 4);
            }
        }
    }
}
