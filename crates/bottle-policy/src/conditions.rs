//! What a rule says about the query and the headers of a request, besides host, method and path.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};
use percent_encoding::percent_decode_str;

/// The rest of a request that rules may look at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Details<'a> {
    /// The query as sent, without `?`.
    pub query: &'a str,
    /// Names in lower case, and values.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Whether the request wants to become a WebSocket.
    pub websocket: bool,
}

/// Parameters and headers that have to be there, ready to be matched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    query: Vec<(String, GlobMatcher)>,
    headers: Vec<(String, GlobMatcher)>,
}

/// Headers that a rule can't hang on: they are about one hop, or the doors set them.
const NOT_OURS: [&str; 11] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "expect",
    "cookie",
    "accept-encoding",
];

impl Conditions {
    /// Prepares the globs of a route; an error says which is wrong.
    pub(crate) fn new(query: &BTreeMap<String, String>, headers: &BTreeMap<String, String>) -> Result<Self, String> {
        for name in headers.keys() {
            let token = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) && !name.is_empty();
            if !token || NOT_OURS.contains(&name.to_ascii_lowercase().as_str()) || name.starts_with("proxy-") {
                return Err(format!("no rule can be about the header `{name}`"));
            }
        }
        let ready = |rules: &BTreeMap<String, String>, lower: bool| {
            let rule = |(name, value): (&String, &String)| {
                let glob = GlobBuilder::new(value).literal_separator(false).backslash_escape(true).build();
                let glob = glob.map_err(|error| format!("the value `{value}` of `{name}`: {}", error.kind()))?;
                Ok((if lower { name.to_ascii_lowercase() } else { name.clone() }, glob.compile_matcher()))
            };
            rules.iter().map(rule).collect::<Result<Vec<_>, String>>()
        };
        Ok(Self { query: ready(query, false)?, headers: ready(headers, true)? })
    }

    /// Whether everything that is named is there, each exactly once, with a value that its glob takes: of a name that is
    /// there twice, the other side may read another one than we do.
    pub(crate) fn hold(&self, details: Details<'_>) -> bool {
        if self.query.is_empty() && self.headers.is_empty() {
            return true;
        }
        let pairs: Vec<(String, String)> = match self.query.is_empty() {
            true => vec![],
            false => details.query.split(['&', ';']).map(pair).collect(),
        };
        let one = |name: &String, glob: &GlobMatcher| {
            let mut values = pairs.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
            matches!((values.next(), values.next()), (Some((given, value)), None) if given == name && glob.is_match(value))
        };
        let header = |name: &String, glob: &GlobMatcher| {
            let mut values = details.headers.iter().filter(|(given, _)| given == name);
            match (values.next(), values.next()) {
                (Some((_, value)), None) => std::str::from_utf8(value).is_ok_and(|value| glob.is_match(value)),
                _ => false,
            }
        };
        self.query.iter().all(|(name, glob)| one(name, glob))
            && self.headers.iter().all(|(name, glob)| header(name, glob))
    }
}

/// A parameter's name and value, decoded once as forms are.
fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    (decode(name), decode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(query: &str, headers: &[(&str, &str)]) -> bool {
        let rules = |rules: &[(&str, &str)]| {
            rules.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let conditions = Conditions::new(&rules(&[("op", "read*")]), &rules(&[("X-Mode", "dry")])).expect("rules");
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        conditions.hold(Details { query, headers: &headers, websocket: false })
    }

    #[test]
    fn what_is_named_is_there_once_and_right() {
        let mode = [("x-mode", "dry")];
        for (query, fine) in [
            ("op=read", true),
            ("a=1&op=read-all&b=2", true),
            ("%6fp=re%61d", true),
            ("", false),
            ("op=write", false),
            ("op=read&op=write", false),
            ("op=read&OP=write", false),
            ("op=read&%6fp=write", false),
            ("op=read;op=write", false),
            ("Op=read", false),
        ] {
            assert_eq!(holds(query, &mode), fine, "{query}");
        }
        assert!(!holds("op=read", &[]));
        assert!(!holds("op=read", &[("x-mode", "wet")]));
        assert!(!holds("op=read", &[("x-mode", "dry"), ("x-mode", "wet")]));
    }

    #[test]
    fn headers_of_one_hop_can_t_be_named() {
        for name in ["Host", "connection", "a b", "", "proxy-x"] {
            let headers = BTreeMap::from([(name.to_owned(), "*".to_owned())]);
            assert!(Conditions::new(&BTreeMap::new(), &headers).is_err(), "{name}");
        }
    }
}
