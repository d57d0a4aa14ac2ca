//! Addresses in texts, and the passwords and tokens before their hosts.
//!
//! [`without_userinfo`] is for every text that may quote an address: errors, notes, what programs print. [`passwords`] gives
//! the values, so that they are masked in every form. [`Address`] keeps an address that must be used as it is and shown
//! without its password.

use std::fmt;

/// An address with the user name and password that somebody wrote into it; shown without them.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Keeps an address as it is written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The passwords and tokens in it.
    pub fn passwords(&self) -> Vec<String> {
        passwords(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_userinfo(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// One address's userinfo in a text: byte offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Userinfo {
    /// Where what has to go begins; a login name of ssh stays before it.
    from: usize,
    /// The `@`, or what stands in for it.
    at: usize,
    /// Where the secret itself begins.
    secret: usize,
    /// Where to go on reading.
    next: usize,
    /// Whether the `@` goes too.
    whole: bool,
}

/// The text without passwords and tokens in the addresses in it: `https://user:pass@host/`, `ssh://user:pass@host/` and
/// `user:pass@host:path`. A plain login name in an ssh address stays.
///
/// An unencoded `/`, `#` or `?` in a password is understood where a `:` that is followed by no port comes before it.
pub fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for found in all(text) {
        out.push_str(&text[done..found.from]);
        done = found.at + usize::from(found.whole);
    }
    out.push_str(&text[done..]);
    out
}

/// The user before the host of an URL, and the password, percent-decoded: what stands before the last `@` of the authority (RFC 3986,
/// 3.2.1, read as curl reads it); none where there is no `@`.
pub fn userinfo(url: &str) -> Option<(String, Option<String>)> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (before, _) = authority.rsplit_once('@')?;
    Some(match before.split_once(':') {
        Some((user, password)) => (decoded(user), Some(decoded(password))),
        None => (decoded(before), None),
    })
}

/// Whether an address in the text has a password or a token.
pub fn has_password(text: &str) -> bool {
    !all(text).is_empty()
}

/// The passwords and tokens themselves, as they are written and percent-decoded.
pub fn passwords(text: &str) -> Vec<String> {
    let mut found = vec![];
    for one in all(text) {
        let written = &text[one.secret..one.at];
        for value in [written.to_owned(), decoded(written)] {
            if !value.is_empty() && !found.contains(&value) {
                found.push(value);
            }
        }
    }
    found
}

fn all(text: &str) -> Vec<Userinfo> {
    let mut found = vec![];
    let mut from = 0;
    while from < text.len() {
        // Without a scheme an address ends where the next one with a scheme begins.
        let url = next_url(text, from);
        let end = url.map_or(text.len(), |(scheme, _)| scheme);
        scp_like(text, from, end, &mut found);
        let Some((scheme, authority)) = url else { break };
        match of_url(text, scheme, authority) {
            Some(one) => {
                from = one.next.max(authority);
                found.push(one);
            }
            None => from = end_of_url(text, authority),
        }
    }
    found
}

/// Where the next scheme begins, and what comes behind its `://`, which JSON may write as `:\/\/`.
fn next_url(text: &str, from: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut at = from;
    while let Some(colon) = text[at..].find(':').map(|found| at + found) {
        let length = if text[colon..].starts_with("://") {
            3
        } else if text[colon..].starts_with(":\\/\\/") {
            5
        } else {
            at = colon + 1;
            continue;
        };
        let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let scheme = colon - bytes[from..colon].iter().rev().take_while(|byte| is_scheme(byte)).count();
        if scheme < colon {
            return Some((scheme, colon + length));
        }
        at = colon + length;
    }
    None
}

/// Where an address surely ends: white space, quotes, or the next address.
fn end_of_url(text: &str, authority: usize) -> usize {
    let rest = &text[authority..];
    let end = rest.find(|c: char| c.is_whitespace() || "\"`<>".contains(c)).unwrap_or(rest.len());
    let next = next_url(text, authority).map_or(end, |(scheme, _)| scheme - authority);
    authority + end.min(next)
}

fn of_url(text: &str, scheme: usize, authority: usize) -> Option<Userinfo> {
    let end = end_of_url(text, authority);
    let url = &text[authority..end];
    let tight = url.find(|c: char| "/\\?#'),;]}|".contains(c)).unwrap_or(url.len());
    // `host:8080` has a port, `user:word` the beginning of a password.
    let colon = url[..tight].split('@').next().and_then(|first| first.find(':'));
    let has_password = colon.is_some_and(|colon| {
        let after = &url[colon + 1..];
        let word = &after[..after.find(|c: char| "/\\?#'),;]}|@".contains(c)).unwrap_or(after.len())];
        let is_port = word.is_empty() || word.len() <= 5 && word.bytes().all(|b| b.is_ascii_digit());
        !url.starts_with('[') && (!is_port || url[..tight].contains('@'))
    });
    let at = match has_password {
        true => {
            let mut all = url.match_indices('@').map(|(at, _)| at);
            let last = all.clone().next_back();
            all.find(|at| starts_with_a_host(&url[at + 1..])).or(last)?
        }
        false => url[..tight].rfind('@')?,
    };
    let (scheme, is_secret) = (scheme_of(&text[scheme..authority]), has_password.then_some(colon).flatten());
    let next = authority + at + 1;
    if scheme.contains("ssh") || matches!(scheme.as_str(), "sftp" | "scp" | "rsync") {
        let colon = is_secret.filter(|colon| *colon < at)?;
        let from = authority + colon;
        return Some(Userinfo { from, at: authority + at, secret: from + 1, next, whole: false });
    }
    let secret = authority + is_secret.filter(|colon| *colon < at).map_or(0, |colon| colon + 1);
    // `https://token:x-oauth-basic@`: either side may be the secret, and both go.
    Some(Userinfo { from: authority, at: authority + at, secret, next, whole: true })
}

fn scheme_of(text: &str) -> String {
    text.split(':').next().unwrap_or_default().to_ascii_lowercase()
}

/// Whether a text begins with a host that ends where an authority does. A part of a password seldom looks like that.
fn starts_with_a_host(text: &str) -> bool {
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '.' | '_'))).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let named = name.contains('.') || name == "localhost" || text.starts_with('[');
    let ends = rest.is_empty() || rest.starts_with(|c: char| "/\\?#:'),;]}|".contains(c)) || text.starts_with('[');
    named && ends
}

/// `user:pass@host:path`, and the same with a port or a path as proxies are written.
fn scp_like(text: &str, from: usize, end: usize, found: &mut Vec<Userinfo>) {
    let mut at = from;
    for word in text[from..end].split(|c: char| c.is_whitespace() || "\"'`<>()[]{},;=".contains(c)) {
        if let Some((colon, sign)) = scp_password(word) {
            let (from, sign) = (at + colon, at + sign);
            found.push(Userinfo { from, at: sign, secret: from + 1, next: sign, whole: false });
        }
        at += word.len();
        at += text[at..end].chars().next().map_or(0, char::len_utf8);
    }
}

/// Where the password begins and ends in one word; none where there is none.
fn scp_password(word: &str) -> Option<(usize, usize)> {
    let colon = word.find(':')?;
    let user = &word[..colon];
    let is_user = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '%' | '+');
    if user.is_empty() || !user.chars().all(is_user) {
        return None;
    }
    let mut signs = word.match_indices('@').map(|(at, _)| at).filter(|at| *at > colon + 1);
    signs
        .find(|at| {
            let rest = &word[at + 1..];
            let host = &rest[..rest.find([':', '/']).unwrap_or(rest.len())];
            let ends = host.len() < rest.len();
            let is_host = !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'));
            // `image:tag@sha256:…` is an image and no address.
            let is_digest = ["sha1", "sha256", "sha384", "sha512", "md5", "blake3"].contains(&host);
            let slashed = word[colon + 1..*at].contains('/');
            ends && is_host && !is_digest && (!slashed || host.contains('.') && rest[host.len()..].starts_with(':'))
        })
        .map(|at| (colon, at))
}

/// Percent-decoded; what is no code stays.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.filter(|_| bytes[at] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
