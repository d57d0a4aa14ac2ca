//! Headers that go no further than one hop, and the doors' own.

use http::header::{CONNECTION, HeaderName, TE};
use http::{HeaderMap, HeaderValue};

/// Between egress and pipelock: the request's id, and whom the request is for.
pub(crate) const ID: HeaderName = HeaderName::from_static("x-bottle-id");
pub(crate) const SCHEME: HeaderName = HeaderName::from_static("x-bottle-scheme");
pub(crate) const HOST: HeaderName = HeaderName::from_static("x-bottle-host");
pub(crate) const PORT: HeaderName = HeaderName::from_static("x-bottle-port");
/// The index of the route that egress found.
pub(crate) const ROUTE: HeaderName = HeaderName::from_static("x-bottle-route");
/// The SHA-256 of the routes that egress went by.
pub(crate) const POLICY: HeaderName = HeaderName::from_static("x-bottle-policy");
/// Back from pipelock: its verdict where it is not `allow`, why, what a scan found (JSON), and the name of the
/// credential it added.
pub(crate) const VERDICT: HeaderName = HeaderName::from_static("x-bottle-verdict");
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-bottle-reason");
pub(crate) const FINDING: HeaderName = HeaderName::from_static("x-bottle-finding");
pub(crate) const CREDENTIAL: HeaderName = HeaderName::from_static("x-bottle-credential");
/// There because the guest has said that it understands trailers.
pub(crate) const TE_TRAILERS: HeaderName = HeaderName::from_static("x-bottle-te");
/// Between the doors: all trailers.
pub(crate) const TRAILERS: &str = "x-bottle-trailers";
/// There because the path is in no log: something was found in the URL.
pub(crate) const WITHHELD: HeaderName = HeaderName::from_static("x-bottle-withheld");

/// There because the request is the self-test's, and gets no line.
pub(crate) const SELF_TEST: HeaderName = HeaderName::from_static("x-bottle-self-test");

/// So many headers may a request of the guest's have, or an answer of upstream's.
pub(crate) const MAX_HEADERS: usize = 1000;
/// So many between the doors, which add their own.
pub(crate) const MAX_HOP_HEADERS: usize = MAX_HEADERS + 32;
/// An HTTP/2 head at most.
pub(crate) const MAX_HEADER_LIST_BYTES: u32 = 256 << 10;

const DOOR_PREFIX: &str = "x-bottle-";
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-authorization",
    "proxy-authenticate",
    "expect",
    "alt-svc",
];

/// Removes what was meant for this hop alone, also what `Connection` names; that trailers are understood holds for every hop,
/// because each passes them on.
pub(crate) fn strip_hop(headers: &mut HeaderMap) {
    let mut codings =
        headers.get_all(TE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let trailers = codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"));
    let mut named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    // Most heads have few headers, and few of these.
    named.extend(headers.keys().filter(|name| HOP_BY_HOP.contains(&name.as_str())).cloned());
    for name in named {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes the doors' own headers: a guest or an upstream can't speak for a door.
pub(crate) fn strip_door_headers(headers: &mut HeaderMap) {
    let door_headers: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(DOOR_PREFIX)).cloned().collect();
    for name in door_headers {
        headers.remove(name);
    }
}

/// Whether these are more headers than a request may have, counted as HTTP/2 counts them (RFC 9113, 6.5.2).
pub(crate) fn is_too_large(headers: &HeaderMap) -> bool {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    headers.len() > MAX_HEADERS || bytes > MAX_HEADER_LIST_BYTES as usize + 32 * MAX_HEADERS
}

/// Names and values, as rules and scans take them.
pub(crate) fn pairs(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// Headers as they would stand in a text.
pub(crate) fn lines(headers: &HeaderMap) -> Vec<u8> {
    headers
        .iter()
        .flat_map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat())
        .collect()
}

/// The value of a header as text.
pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_for_one_hop_goes_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Drop"),
            ("x-drop", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip;q=0.5, Trailers"),
            ("x-bottle-route", "0"),
            ("accept", "*/*"),
        ] {
            headers.insert(name, value.parse().expect("a value"));
        }
        strip_hop(&mut headers);
        strip_door_headers(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "te"]);
        assert_eq!(headers["te"], "trailers");
    }
}
