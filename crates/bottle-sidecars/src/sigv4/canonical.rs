//! The canonical request: one form of a method, a path, a query and headers, which both sides make.

use std::fmt::Write as _;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RANGE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};

/// How a path is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathRule {
    /// As it is sent: an object's name may have anything in it.
    S3,
    /// Encoded a second time, without doubled slashes.
    Other,
}

/// Why a request has no form that can be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CanonicalError {
    #[error("a `%` in its URL is not followed by two hexadecimal digits")]
    Percent,
    #[error("its path has `.` or `..` as a segment")]
    Dots,
    #[error("its URL is too long")]
    Url,
    #[error("it has no host")]
    Host,
    #[error("a value can't stand in a header")]
    Header,
}

/// A name in small letters, and its value.
pub(super) type SignedHeader = (String, Vec<u8>);

/// Writes bytes so that all but unreserved characters (RFC 3986, 2.3) and `keep` are encoded, in capitals. What is encoded already
/// stays so, unless nothing need be.
fn encoded(text: &str, keep: &[u8], plus_is_space: bool) -> Result<String, CanonicalError> {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        let (byte, was_encoded) = match byte {
            b'%' => {
                let digits = bytes.get(at..at + 2).ok_or(CanonicalError::Percent)?;
                at += 2;
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).map_err(|_| CanonicalError::Percent)?;
                (byte[0], true)
            }
            b'+' if plus_is_space => (b' ', true),
            byte => (byte, false),
        };
        let is_unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if is_unreserved || (!was_encoded && keep.contains(&byte)) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    Ok(out)
}

/// The names and values of a query, decoded as far as text can be; what is no text has a mark in it.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// A URI as it is sent and signed: path and query mean the same and are encoded as AWS encodes them, so that there is one reading.
pub(crate) fn sent_uri(uri: &Uri) -> Result<Uri, CanonicalError> {
    let path = encoded(uri.path(), b"/", false)?;
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(CanonicalError::Dots);
    }
    let mut pairs = vec![];
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        pairs.push(match pair.split_once('=') {
            Some((name, value)) => format!("{}={}", encoded(name, b"", true)?, encoded(value, b"", true)?),
            None => encoded(pair, b"", true)?,
        });
    }
    let text = if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).map_err(|_| CanonicalError::Url)?);
    Uri::from_parts(parts).map_err(|_| CanonicalError::Url)
}

/// The headers that are signed, sorted: those that AWS wants, and others that say what the body is.
pub(super) fn signed_headers(host: &str, headers: &HeaderMap) -> Vec<SignedHeader> {
    let mut signed: Vec<SignedHeader> = vec![("host".to_owned(), host.as_bytes().to_vec())];
    for name in headers.keys() {
        let is_signed = [CONTENT_ENCODING, CONTENT_TYPE, RANGE].contains(name)
            || name == "content-md5"
            || name.as_str().starts_with("x-amz-");
        if is_signed {
            let values: Vec<Vec<u8>> = headers.get_all(name).iter().map(|value| folded(value.as_bytes())).collect();
            signed.push((name.as_str().to_owned(), values.join(&b',')));
        }
    }
    signed.sort_unstable();
    signed
}

/// A value without white space at its ends, and with one space for each stretch of it.
fn folded(value: &[u8]) -> Vec<u8> {
    let words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

/// The names, as a signature lists them.
pub(super) fn names(signed: &[SignedHeader]) -> String {
    signed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";")
}

/// The canonical request of a URI that [`sent_uri`] has written.
pub(super) fn request(rule: PathRule, method: &str, uri: &Uri, signed: &[SignedHeader], payload: &str) -> Vec<u8> {
    let mut out = format!("{method}\n{}\n{}\n", path(rule, uri.path()), query(uri.query())).into_bytes();
    for (name, value) in signed {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("\n{}\n{payload}", names(signed)).as_bytes());
    out
}

fn path(rule: PathRule, path: &str) -> String {
    if rule == PathRule::S3 {
        return path.to_owned();
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let end = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/")).replace('%', "%25")
}

/// Sorted by the encoded names, then by the encoded values.
fn query(query: Option<&str>) -> String {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(&str, &str)> = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}
